"""Cooling: training as an exchange of energy and entropy (notebook 01, document 0).

classifiers: images and models; curves: what falls and what settles. The recipes, each beside the claims it decides: training,
matched (runs of equal energy), schedules, batch_ratio, flatness, plateau, adaptive, transitions.
presets: what the notebook measures. figures: what it shows. live: what runs in the panel. exercises: feedback to answers.
"""

from thermolab.phenomena.cooling import (  # noqa: F401
    adaptive,
    batch_ratio,
    exercises,
    flatness,
    live,
    matched,
    plateau,
    presets,
    schedules,
    training,
    transitions,
)
