"""What notebook 02 measures at its parameters, and what of it results.nc keeps."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import xarray as xr

from thermolab.engine.traces import flattened, prefixed
from thermolab.phenomena.common import presets
from thermolab.phenomena.temperature_collapse import convnets, falling, metastable, ordinary, plateau, stationary, toy, training

# what differs from the recipes' defaults, and what of that a first look in seconds shortens
LAB = {
    "falling": {"eta": (0.0316, 0.1, 0.3, 0.9, 0.94, 0.97, 1.03, 1.06, 1.1)},
    "layer": {"norm": "layer", "rates": (2e-3, 3.8e-3, 7.2e-3, 0.0138)},
    "batches": {"width": 8, "norm": "layer", "samples": 40, "moments": 10, "steps": 5000},
    "optimisers": {"width": 8, "norm": "layer", "burn_in": 6000, "window": 6000, "samples": 40, "moments": 10},
    "widths": {"logs": 10},
}
SMOKE = {
    "toy": {"eta": (0.01, 0.02, 0.04, 0.08), "replicas": 256, "snapshots": 32},
    "falling": {"eta": (0.0316, 0.1, 0.94, 0.97, 1.03, 1.1), "replicas": 64, "steps": 1600},
    "up": {"burn_in": 1000, "window": 1600, "samples": 12, "moments": 8},
    "training": {"rates": (1e-3, 4e-3, 1e-2, 4e-2), "steps": 800, "logs": 8, "samples": 20},
    "layer": {"rates": (2e-3, 3.8e-3, 7.2e-3), "burn_in": 400, "window": 800, "samples": 6, "moments": 8},
    "batches": {"samples": 8, "moments": 4, "steps": 300},
    "optimisers": {"burn_in": 100, "window": 400, "samples": 8, "moments": 4},
    "widths": {"widths": (8, 32), "steps": 400, "logs": 4, "samples": 10},
    "convnets": {"steps": 12, "logs": 3, "probes": 1},
    "ordinary": {"rates": (0.2, 0.4, 0.8, 1.6), "burn_in": 120, "window": 160, "samples": 24, "moments": 10},
    "plateau": {"rates": (0.08, 0.125, 0.25), "windows": 4, "replicas": 8},
    "metastable": {"rates": (0.06, 0.08, 0.1), "replicas": 30, "length": 56.0},
}


def datasets(setup) -> dict:
    """What the notebook measures: {name: recipe with its settings, not yet called}, groups of networks under one name.

    toy: the stationary state of the points; toy_two, toy_three: the fall of two points and of these at equal rates; up, here:
    the narrow network on the grid and at the working point; up_run, op_run: the narrow and the wide one in training.
    """
    common = presets.common(setup, smoke=3)
    data = common | {"label_noise": setup.label_noise}
    # basins differ by more than what is asked for
    twice = data | {"n_seeds": presets.n_seeds(setup.preset, 2 * setup.n_seeds, smoke=3)}
    # of 8 the order of temperatures is decided on some processors and not on others
    many = {"n_seeds": presets.n_seeds(setup.preset, 3 * setup.n_seeds + 1, smoke=3)}
    more = {"n_seeds": presets.n_seeds(setup.preset, setup.n_seeds + 3, smoke=3)}

    def size(name: str) -> dict:
        return LAB.get(name, {}) | (SMOKE.get(name, {}) if setup.preset == "smoke" else {})

    fall, run, narrow = size("falling") | common, size("training"), {"width": setup.width_up, **size("up"), **data}
    return {
        "toy": partial(toy.stationary, points=setup.points, **size("toy"), **common),
        "toy_two": partial(falling.converging, **fall),
        "toy_three": partial(falling.converging, points=setup.points, **fall),
        "up": partial(stationary.stationary, rates=tuple(np.geomspace(*setup.eta_range)), **narrow | more),
        "here": partial(stationary.stationary, rates=(setup.eta,), batch_size=setup.batch_size, **narrow),
        "up_run": partial(training.training, width=setup.width_up, **run, **data),
        "op_run": partial(training.training, width=setup.width_op, **run, **twice),
        "layer": partial(stationary.stationary, **size("layer"), **data),
        "batches": stationary.by_batch(**size("batches"), **twice),
        **stationary.by_optimiser(**size("optimisers"), **data),
        "widths": training.by_width(**size("widths"), **data),
        "convnets": partial(convnets.convnets, **size("convnets"), **data),
        "ordinary": partial(ordinary.ordinary, lam=setup.lam, **size("ordinary"), **data | many),
        "plateau": partial(plateau.plateau, **size("plateau"), **common),
        "metastable": partial(metastable.metastable, **size("metastable"), **common),
    }


def grids(found: Mapping) -> str:
    """One line: the learning rates and the number of seeds of each dataset."""
    rates = {name: (data.sizes["seed"], data["eta"].values) for name, data in flattened(found).items()}
    return "; ".join(f"{name} η {' to '.join(f'{e:.2g}' for e in eta[[0, -1][: len(eta)]])} ({len(eta)} × {n} seeds)"
                     for name, (n, eta) in rates.items())  # fmt: skip


def traces(found: Mapping) -> xr.Dataset:
    """What results.nc keeps: the grids of the networks and of the toy, and the working point."""
    point = found["here"]
    here = {name: point[source].isel(eta=0, drop=True) for name, source in
            (("U", "U"), ("S", "S"), ("T", "T_gas"), ("snr", "snr"))}  # fmt: skip
    return xr.Dataset(prefixed({"up": found["up"], "op": found["op_run"], "toy": found["toy"], "point": point}) | here)
