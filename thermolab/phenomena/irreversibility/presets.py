"""What notebook 00 measures at its checked parameters, and what of it is kept."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import xarray as xr

from thermolab.engine.traces import prefixed
from thermolab.phenomena.common import presets
from thermolab.phenomena.irreversibility import clean_labels, cloud, continual, flows, symmetry_recipes, valley, walk

SMOKE = {
    "steps": {"time": 0.1},
    "split": {"times": (0, 10, 100), "copies": 2},
    "noether": {"steps": 30},
    "orbit": {"points": 81},
    "decayed": {"steps": 100},
    "growth": {"steps": 4000, "replicas": 8},
    "occupation": {"rates": (0.06,), "replicas": 24},
    "equal_loss": {"duration": 20.0, "logs": 5, "replicas": 1},
    "clean_labels": {"duration": 10.0, "replicas": 1},
    "perturbed": {"times": (0, 3, 10, 300, 550), "steps": 600, "starts": 2, "directions": 1},
    "tasks": {"n_tasks": 8, "replicas": 1},
    "cloud": {"steps": 200, "replicas": 256},
    "minibatches": {"steps": 200, "replicas": 256},
}
RECIPES = (
    *(flows.quadratic, flows.steps, flows.epochs, flows.split),
    *(symmetry_recipes.table, symmetry_recipes.noether, symmetry_recipes.orbit, symmetry_recipes.decayed),
    *(walk.growth, valley.occupation, continual.equal_loss, continual.perturbed, continual.tasks),
    *(clean_labels.clean_labels, cloud.cloud, cloud.minibatches),
)


def datasets(setup) -> dict[str, partial]:
    """What the notebook measures, {name: recipe with its settings}: at preset lab the defaults of each, and the working point.

    setup: preset, seed, n_seeds, device and eta, the checked parameters.
    """
    common, smaller = presets.common(setup, smoke=3), SMOKE if setup.preset == "smoke" else {}
    plan = {}
    for recipe in RECIPES:
        known = {name: value for name, value in common.items() if name in recipe.settings}
        plan[recipe.__name__] = partial(recipe, **smaller.get(recipe.__name__, {}), **known)
    plan["here"] = partial(plan["growth"], rates=(setup.eta,), dims=(2,))
    return plan


def traces(found: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """What results.nc keeps: errors of the steps, the table of symmetries, the walkers, and the working point."""
    here = found["here"].isel(dim=0, eta=0, drop=True)
    point = {"r": here["r4"].isel(time=-1, drop=True) ** 0.25, "r_slope": here["slope"]}
    return xr.Dataset(prefixed({name: found[name] for name in ("steps", "table", "orbit", "growth")}) | point)
