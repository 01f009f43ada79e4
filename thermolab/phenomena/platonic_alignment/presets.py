"""What notebook 05 measures at its checked parameters, and what it keeps."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import xarray as xr

from thermolab.engine import traces as kept
from thermolab.phenomena.common import presets
from thermolab.phenomena.platonic_alignment import breaking, digits, linear, minimum, neural_collapse, pace, resting, tables

SMOKE: dict[str, dict] = {
    "linear": {"steps": 3000, "frames": 6},
    "pace": {"steps": 400},
    "here": {"steps": 3000, "frames": 2},
    "minima": {"shapes": ((2, 6), (3, 6))},
    "resting": {"steps": 1500},
    "digits_relu": {"steps": 4000},
    "digits_tanh": {"steps": 1000},
    "starts": {"steps": 1000},
    "pairs": {"steps": 2500},
    "classes": {"steps": 2000},
}
MORE = ("pace", "pairs")
# of the weights on digits, in units of √(2/fan-in)
STARTS = {"lab": (0.05, 0.2, digits.LECUN, 1.0), "smoke": (0.2, digits.LECUN)}
SIZES = {
    "lab": {"resting": {"steps": 12_000}, "here": {"frames": 2}, "starts": {"steps": 16_000}},
    "smoke": SMOKE,
}  # what is not here is the recipe's default


def datasets(setup) -> dict:
    """What the notebook measures, by name: recipes with their settings, not yet called.

    here: the working point, of which the last arm counts; starts: {start: networks on digits}. setup: the checked parameters.
    """
    shapes = {name: getattr(setup, name) for name in ("depth_a", "depth_b", "width_a", "width_b")}
    point = {"eta": setup.eta, "batch_size": setup.batch_size, "factors": (1.0,), "lams": (setup.lam,) if setup.lam else ()}
    plan = {
        "linear": partial(linear.linear, **shapes),
        "pace": partial(pace.pace, **shapes),
        "here": partial(linear.linear, **shapes, **point),
        "minima": partial(minimum.minima),
        "resting": partial(resting.resting),
        "digits_relu": partial(digits.digits, activation="relu"),
        "digits_tanh": partial(digits.digits, activation="tanh"),
        "pairs": partial(breaking.pairs),
        "classes": partial(neural_collapse.neural_collapse),
    }
    common = presets.common(setup, smoke=2)
    more = common | {"n_seeds": presets.n_seeds(setup.preset, -(-7 * setup.n_seeds // 5), smoke=2)}  # they scatter
    few = common | {"n_seeds": 2, **SIZES[setup.preset]["starts"]}
    plan = {
        name: partial(call, **SIZES[setup.preset].get(name, {}), **(more if name in MORE else common))
        for name, call in plan.items()
    }
    return plan | {"starts": {start: partial(digits.digits, start=start, **few) for start in STARTS[setup.preset]}}


def traces(found: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """What results.nc keeps: of the linear networks and their pace, of those on digits, and the working point's worst pair."""
    named = {name: found[name] for name in ("linear", "pace", "digits_relu", "digits_tanh")}
    named["linear"] = named["linear"].drop_vars("null")
    worst = tables.between(tables.final(found["here"], -1)).reset_coords(drop=True)
    return xr.Dataset(kept.prefixed(named) | {"cka": worst.rename(seed="point_seed")})
