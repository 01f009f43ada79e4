"""Irreversibility: the entropic force and the symmetries that it breaks (notebook 00, document 4).

landscape: a small perceptron in float64. flows, symmetry_recipes, walk, valley, continual: the recipes that measure.
symmetries: the table, to which anybody may add a row. claims (with a claims_… for each part): the verdicts they decide. live:
what runs in the panels. exercises: the checks of the notebook's exercises. sizes: what each preset measures.
"""

from thermolab.phenomena.irreversibility import (
    claims,
    continual,
    exercises,
    flows,
    live,
    presets,
    symmetries,
    symmetry_recipes,
    valley,
    walk,
)

__all__ = [
    "claims",
    "continual",
    "exercises",
    "flows",
    "live",
    "presets",
    "symmetries",
    "symmetry_recipes",
    "valley",
    "walk",
]
