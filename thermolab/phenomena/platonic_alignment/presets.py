"""What each preset of notebook 05 measures: keyword arguments of the recipes. What is empty is their default, preset lab."""

from __future__ import annotations

from functools import partial

from thermolab.phenomena.common import presets

RECIPES = ("linear", "pace", "here", "minima", "resting", "relu", "tanh", "pairs", "classes")
SIZES: dict[str, dict[str, dict]] = {
    "lab": {name: {} for name in RECIPES} | {"resting": {"steps": 12_000}},
    "smoke": {
        "linear": {"steps": 3000, "frames": 6},
        "pace": {"steps": 400},
        "here": {"steps": 3000, "frames": 2},
        "minima": {"shapes": ((2, 6), (3, 6))},
        "resting": {"steps": 1500},
        "relu": {"steps": 4000},
        "tanh": {"steps": 1000},
        "pairs": {"steps": 2500},
        "classes": {"steps": 2000},
    },
}
n_seeds = partial(presets.n_seeds, smoke=2)


def shape(setup) -> dict:
    """Depths and widths of the two networks."""
    return {name: getattr(setup, name) for name in ("depth_a", "depth_b", "width_a", "width_b")}


def point(setup) -> dict:
    """Settings of `linear.linear` at the working point, which is the last arm."""
    return shape(setup) | {
        "eta": setup.eta,
        "batch_size": setup.batch_size,
        "factors": (1.0,),
        "lams": (setup.lam,) if setup.lam else (),
    }
