"""Cooling: training as an exchange of energy and entropy (notebook 01, document 0).

setting: images and models. training, schedules, flatness, transitions, plateau: the recipes that measure. claims (with a
claims_… for each of them): the verdicts they decide. live: what runs in the panel. exercises: the checks of the notebook's
exercises. sizes: what each preset measures.
"""

from thermolab.phenomena.cooling import (
    claims,
    exercises,
    flatness,
    live,
    plateau,
    presets,
    schedules,
    setting,
    training,
    transitions,
)

__all__ = ["claims", "exercises", "flatness", "live", "plateau", "presets", "schedules", "setting", "training", "transitions"]
