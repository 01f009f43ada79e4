"""Platonic alignment: two networks, one representation (notebook 05; document 4, part 3, and document 2).

theory: the kernel at the minimum of F. networks: the settings, views and training of embedded deep linear networks.
linear, pace, minimum: what SGD, its clock, and F itself do, each with the claims that it decides; rates: what a larger η does in
those of linear; tables: of CKA, what these compare. descent: what descent without noise does. resting: where fluctuations hold
SGD off the minimum of F. digits: nonlinear networks. breaking, neural_collapse: what breaks alignment, and class labels.
presets: what the notebook measures and keeps. figures: what it shows (not imported here: processes that measure need no plots).
live: what runs in its panel. exercises: the checks of its exercises.
"""

from thermolab.phenomena.platonic_alignment import (  # noqa: F401
    breaking,
    digits,
    exercises,
    linear,
    live,
    minimum,
    neural_collapse,
    pace,
    presets,
    rates,
    resting,
)
