"""What each preset of notebook 06 measures: keyword arguments of the recipes. What is empty is their default, preset lab."""

from __future__ import annotations

from functools import partial

from thermolab.phenomena.common import presets

RECIPES = ("profiles", "here", "switches", "steep", "scratch", "adams", "orbits", "pair", "edge", "language")
SIZES: dict[str, dict[str, dict]] = {
    "lab": {name: {} for name in RECIPES},
    "smoke": {
        "profiles": {"eta": 0.04, "relaxations": 6.0, "decay": 2000, "copies": 1},
        "here": {"relaxations": 3.0, "decay": 2000, "copies": 1},
        "switches": {"steps": 3200, "logs": 4, "copies": 1},
        "steep": {"steps": 1500, "logs": 3, "copies": 1},
        "scratch": {"steps": 2000, "logs": 2, "copies": 1},
        "adams": {"steps": 1500, "logs": 3},
        "orbits": {"points": 5, "copies": 4},
        "pair": {"steps": 5000, "logs": 4, "decay": 800},
        "edge": {"etas": (0.3, 0.02), "n_data": 100, "steps": 615},
        "language": {"languages": 2, "steps": 2000, "looks": 2},
    },
}
n_seeds = partial(presets.n_seeds, smoke=2)
