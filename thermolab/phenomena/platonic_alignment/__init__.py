"""Platonic alignment: two networks, one representation (notebook 05; document 4, part 3, and document 2).

theory: the kernel at the minimum of F. setting, networks: embedded deep linear networks, their views and their training.
linear, pace, minimum, descent: what SGD, its clock, F itself and descent without noise do. resting: where fluctuations hold SGD
off the minimum of F. digits: nonlinear networks.
breaking, collapse: what breaks alignment, and class labels. claims (with a claims_… for each part): the verdicts they decide.
live: what runs in the panel. exercises: the checks of the notebook's exercises. sizes: what each preset measures.
"""

from thermolab.phenomena.platonic_alignment import (
    breaking,
    claims,
    collapse,
    digits,
    exercises,
    linear,
    live,
    minimum,
    pace,
    presets,
    resting,
    theory,
)

__all__ = [
    "breaking",
    "claims",
    "collapse",
    "digits",
    "exercises",
    "linear",
    "live",
    "minimum",
    "pace",
    "presets",
    "resting",
    "theory",
]
