"""What notebook 06 measures at its checked parameters, and what results.nc keeps of it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import xarray as xr

from thermolab.engine.traces import prefixed
from thermolab.phenomena.common import presets
from thermolab.phenomena.progressive_sharpening.adam_edge import adam_edge
from thermolab.phenomena.progressive_sharpening.architectures import architectures
from thermolab.phenomena.progressive_sharpening.batch import batch
from thermolab.phenomena.progressive_sharpening.cause import cause
from thermolab.phenomena.progressive_sharpening.edge import edge
from thermolab.phenomena.progressive_sharpening.language import language
from thermolab.phenomena.progressive_sharpening.orbit import orbit
from thermolab.phenomena.progressive_sharpening.settled import PROFILES, RATIOS, imbalance, settled
from thermolab.phenomena.progressive_sharpening.starts import starts
from thermolab.phenomena.progressive_sharpening.subspaces import subspaces
from thermolab.phenomena.progressive_sharpening.switch import switch

SWITCHES = ("switch_linear", "switch_tanh", "switch_relu")
SMOKE = {  # what preset smoke makes smaller, by recipe and dataset
    "profiles": {"eta": 0.04, "relaxations": 6.0, "decay": 2000, "copies": 1},
    "imbalances": {"relaxations": 3.0, "decay": 2000, "copies": 1},
    "here": {"relaxations": 3.0, "decay": 2000, "copies": 1},
    "switch": {"steps": 3200, "logs": 4, "copies": 1},
    "sharp_start": {"steps": 1500, "logs": 3, "copies": 1},
    "from_scratch": {"steps": 2000, "logs": 2, "copies": 1},
    "adam": {"steps": 1500, "logs": 3},
    "orbits": {"points": 5, "copies": 4},
    "subspaces": {"steps": 6000, "logs": 6, "copies": 1},
    "pair": {"steps": 5000, "logs": 4, "decay": 800},
    "edge": {"etas": (0.3, 0.02), "n_data": 100, "steps": 615},
    "batch": {"n_data": 80, "widths": (24,), "steps": 1200, "looks": 6},
    "adam_edge": {"n_data": 80, "widths": (24,), "steps": 600, "looks": 6},
    "architectures": {"n_data": 30, "steps": 90, "looks": 3},
    "language": {"languages": 2, "steps": 2000, "looks": 2},
}


def datasets(setup) -> dict:
    """{name: recipe with its settings, not yet called}, or {name: {…}} for what belongs together. setup: as in the notebook."""
    common, smoke = presets.common(setup, smoke=2), setup.preset == "smoke"

    def at(recipe, size: str, **settings):
        shared = {k: v for k, v in common.items() if k in recipe.settings}
        return partial(recipe, **(settings | (SMOKE[size] if smoke else {}) | shared))

    point = {"profile": setup.noise_profile, "eta": setup.eta, "lam": setup.lam, "batch_size": setup.batch_size}
    long = {"starts": ("random", "flat"), "noises": ("imbalanced", "balanced"), "steps": 12_000, "logs": 6, "copies": 4}
    steep = {"optimiser": "adam", "starts": ("flat", "sharp"), "noises": ("balanced", "imbalanced"), "stretch": 3.0}
    return {
        "profiles": {name: at(settled, "profiles", profile=profile) for name, profile in PROFILES.items()},
        "imbalances": {
            f"{kind} {ratio}": at(settled, "imbalances", **imbalance(ratio, kind), width=2, relaxations=5.0)
            for kind in ("imbalanced", "balanced")
            for ratio in RATIOS
        },
        "here": at(settled, "here", **point),
        **{name: at(switch, "switch", activation=name.removeprefix("switch_")) for name in SWITCHES},
        "sharp_start": at(starts, "sharp_start", starts=("sharp",), noises=("balanced", "none")),
        "from_scratch": {name: at(starts, "from_scratch", activation=name, **long) for name in ("tanh", "relu")},
        "adam": at(starts, "adam", **steep, steps=6000, copies=1),
        "orbits": at(orbit, "orbits"),
        "subspaces": at(subspaces, "subspaces"),
        "pair": at(cause, "pair"),
        "edge": at(edge, "edge"),
        "batch": at(batch, "batch"),
        "adam_edge": at(adam_edge, "adam_edge"),
        "architectures": at(architectures, "architectures"),
        "cross_entropy": at(language, "language", loss="cross-entropy"),
        "squared": at(language, "language", loss="squared"),
    }


def traces(found: Mapping) -> xr.Dataset:
    """What results.nc keeps: the switches of the noise, both observables of the pair, the edge, and the working point."""
    here = found["here"].rename(seed="point_seed").reset_coords(drop=True)
    return xr.Dataset(
        prefixed({name: found[name] for name in (*SWITCHES, "pair", "edge")})
        | {"lambda_max": here["lambda_max"], "lambda_max_predicted": here["predicted"]}
    )
