"""What each preset of notebook 03 measures: keyword arguments of the recipes."""

from __future__ import annotations

from functools import partial

from thermolab.phenomena.common import presets

SIZES = {
    "lab": {
        "stationary": {},
        "anisotropic": {"eta": (10**-2.5, 0.03, 5), "lam": (1e-3, 0.1, 5)},
        "relaxation": {},
        "hot_sphere": {},
        "sphere": {},
        "network": {"elr": {}, "lr": {}},
        "gas": {},
    },
    "smoke": {
        "stationary": {"replicas": 24, "snapshots": 16, "relaxations": 3.0},
        "anisotropic": {"eta": (0.01, 0.03, 3), "lam": (0.01, 0.1, 3), "replicas": 32, "snapshots": 24},
        "relaxation": {"replicas": 32, "points": 30},
        "hot_sphere": {"replicas": 32, "steps": 6_000},
        "sphere": {
            "rates": (1e-4, 3e-4, 1e-3, 5e-3, 0.01, 0.02, 0.05),
            "burn_in": 300,
            "window": 1024,
            "samples": 40,
            "moments": 8,
        },
        "network": {
            "elr": {"eta": (0.02, 0.05, 3), "lam": (0.01, 0.1, 3), "burn_in": 300, "window": 900},
            "lr": {"eta": (0.2, 0.6, 3), "lam": (0.03, 0.1, 3), "burn_in": 300, "window": 900},
        },
        "gas": {"eta": (0.02, 0.05, 3), "lam": (0.01, 0.1, 3), "burn_in": 300, "window": 900, "samples": 40},
    },
}
n_seeds = partial(presets.n_seeds, smoke=3)
