"""What each preset of notebook 02 measures: keyword arguments of the recipes."""

from __future__ import annotations

from functools import partial

from thermolab.phenomena.common import presets

SIZES = {
    "lab": {
        "toy": {},
        "toy_run": {"eta": (0.0316, 0.1, 0.3, 0.9, 0.94, 0.97, 1.03, 1.06, 1.1)},
        "up": {},
        "training": {},
        "layer": {"norm": "layer", "rates": (2e-3, 3.8e-3, 7.2e-3, 0.0138)},
        "batch": {"width": 8, "norm": "layer", "samples": 40, "moments": 10, "steps": 5000},
        "optimisers": {"width": 8, "norm": "layer", "burn_in": 6000, "window": 6000, "samples": 40, "moments": 10},
        "width": {"logs": 10},
        "convnets": {},
        "ordinary": {"n_seeds": 8},
        "plateau": {},
        "metastable": {},
    },
    "smoke": {
        "toy": {"eta": (0.01, 0.02, 0.04, 0.08), "replicas": 256, "snapshots": 32},
        "toy_run": {"eta": (0.0316, 0.1, 0.94, 0.97, 1.03, 1.1), "replicas": 64, "steps": 1600},
        "up": {"burn_in": 1000, "window": 1600, "samples": 12, "moments": 8},
        "training": {"rates": (1e-3, 4e-3, 1e-2, 4e-2), "steps": 800, "logs": 8, "samples": 20},
        "layer": {"norm": "layer", "rates": (2e-3, 3.8e-3, 7.2e-3), "burn_in": 400, "window": 800, "samples": 6, "moments": 8},
        "batch": {"width": 8, "norm": "layer", "samples": 8, "moments": 4, "steps": 300},
        "optimisers": {"width": 8, "norm": "layer", "burn_in": 100, "window": 400, "samples": 8, "moments": 4},
        "width": {"widths": (8, 32), "steps": 400, "logs": 4, "samples": 10},
        "convnets": {"steps": 12, "logs": 3, "probes": 1, "n_seeds": 3},
        "ordinary": {
            "rates": (0.2, 0.4, 0.8, 1.6),
            "burn_in": 120,
            "window": 160,
            "samples": 24,
            "moments": 10,
            "n_seeds": 3,
        },
        "plateau": {"rates": (0.08, 0.125, 0.25), "windows": 4, "replicas": 8},
        "metastable": {"rates": (0.06, 0.08, 0.1), "replicas": 30, "length": 56.0},
    },
}
n_seeds = partial(presets.n_seeds, smoke=3)
