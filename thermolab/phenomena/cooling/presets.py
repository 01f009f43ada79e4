"""What each preset of notebook 01 measures: keyword arguments of the recipes. What is empty is their default, preset lab."""

from __future__ import annotations

from functools import partial

from thermolab.phenomena.common import presets

RECIPES = ("panel", "training", "matched", "schedules", "endings", "ratio", "flatness", "entropic", "detection", "plateau",
           "curvature", "adaptive")  # fmt: skip
SIZES: dict[str, dict[str, dict]] = {
    "lab": {name: {} for name in RECIPES} | {"panel": {"epochs": 30}},
    "smoke": {
        "panel": {"epochs": 9},
        "training": {"epochs": 2, "fisher_every": 2},
        "matched": {"rates": (0.1, 0.2), "lams": (0.0, 1.5e-2), "sizes": (32,), "epochs": 8},
        "schedules": {"copies": 1, "epochs": 9},
        "endings": {"alphas": (0.3, 3.0), "copies": 1, "epochs": 15},
        "ratio": {"batch_sizes": (16, 32, 64), "copies": 1, "average": 4, "epochs": 12},
        "flatness": {"epochs": 9, "moments": 6, "probes": 3},
        "entropic": {"epochs": 6},
        "detection": {"ratios": (0.8,), "replicas": 8, "burn_in": 16, "baseline": 12, "before": 6, "after": 8},
        "plateau": {"replicas": 2, "windows": 26},
        "curvature": {"replicas": 1, "points": 8, "baseline": 3, "samples": 64},
        "adaptive": {"replicas": 1, "windows": 30},
    },
}
n_seeds = partial(presets.n_seeds, smoke=2)
