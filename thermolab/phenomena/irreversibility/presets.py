"""What each preset of notebook 00 measures: keyword arguments of the recipes. What is empty is their default, preset lab."""

from __future__ import annotations

from functools import partial

from thermolab.phenomena.common import presets

RECIPES = ("quadratic", "steps", "epochs", "split", "table", "noether", "orbit", "decayed", "growth", "occupation", "equal_loss",
           "perturbed", "tasks")  # fmt: skip
SIZES: dict[str, dict[str, dict]] = {
    "lab": {name: {} for name in RECIPES},
    "smoke": {name: {} for name in RECIPES}
    | {
        "steps": {"time": 0.1},
        "split": {"times": (0, 10, 100), "copies": 2},
        "noether": {"steps": 30},
        "orbit": {"points": 81},
        "decayed": {"steps": 100},
        "growth": {"steps": 4000, "replicas": 8},
        "occupation": {"rates": (0.06,), "replicas": 24},
        "equal_loss": {"duration": 20.0, "logs": 5, "replicas": 1},
        "perturbed": {"times": (0, 3, 10, 300, 550), "steps": 600, "directions": 1},
        "tasks": {"n_tasks": 8, "replicas": 1},
    },
}
n_seeds = partial(presets.n_seeds, smoke=3)
