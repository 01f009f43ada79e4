"""Neuron balance: equipartition of squared gradients between weights that can be rescaled (notebook 04, documents 4 and 2).

theory: closed forms. networks, ablation, linear, deep, architectures, clock, twins: the recipes that measure, each with the
claims it decides; learners: what the architectures are and what they learn. presets: what the notebook measures. figures: what it
shows (not imported here: processes that measure need no plots). live: what runs in its panel. exercises: what is said about
answers to them.
"""

from thermolab.phenomena.neuron_balance import (  # noqa: F401
    ablation,
    architectures,
    clock,
    deep,
    exercises,
    learners,
    linear,
    live,
    networks,
    presets,
    theory,
    twins,
)
