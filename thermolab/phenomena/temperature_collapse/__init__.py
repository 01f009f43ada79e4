"""Temperature collapse of overparameterised models (notebook 02, arXiv:2505.23489).

theory: closed forms of the toy on the sphere. toy, networks, convnet, ordinary, plateau, metastable: the recipes that measure.
curves: temperatures, minima and exponents drawn from the measurements. claims (with claims_toy, claims_networks and
claims_extensions): the verdicts they decide. live: what runs in the panel. exercises: the checks of the notebook's
exercises. sizes: what each preset measures.
"""

from thermolab.phenomena.temperature_collapse import (
    claims,
    convnet,
    curves,
    exercises,
    live,
    metastable,
    networks,
    ordinary,
    plateau,
    presets,
    theory,
    toy,
)

__all__ = [
    "claims",
    "convnet",
    "curves",
    "exercises",
    "live",
    "metastable",
    "networks",
    "ordinary",
    "plateau",
    "presets",
    "theory",
    "toy",
]
