"""The claims of notebook 00, decided from the datasets of its recipes, each with its control.

`claims_flows`, `claims_symmetries` and `claims_walk` say how each is measured and to what tolerance.
"""

from __future__ import annotations

from collections.abc import Mapping

import xarray as xr

from thermolab.claims import Result, decided
from thermolab.engine.traces import prefixed
from thermolab.phenomena.irreversibility import claims_flows, claims_symmetries, claims_walk

FLOWS = ("quadratic", "steps", "epochs", "split")
SYMMETRIES = ("table", "noether", "orbit", "decayed")
WALK = ("growth", "occupation", "equal_loss", "perturbed", "tasks")


def decide(found: Mapping[str, xr.Dataset], *, settings=None, seconds: float = 0.0) -> list[Result]:
    """All claims of the notebook, in the register's order.

    found: the datasets of the recipes, by their names: those of FLOWS from `flows`, of SYMMETRIES from `symmetry_recipes`, of
    WALK from `walk`, `valley` and `continual`. seconds: what the measurements took, shared out evenly.
    """
    parts = ((claims_flows, FLOWS), (claims_symmetries, SYMMETRIES), (claims_walk, WALK))
    checks = {k: v for module, names in parts for k, v in module.checks(*(found[name] for name in names)).items()}
    # all recipes take the same seeds
    return decided("00_irreversibility", checks, lambda name: found["steps"].sizes["seed"], settings=settings, seconds=seconds)


def traces(found: Mapping[str, xr.Dataset], point: xr.Dataset) -> xr.Dataset:
    """What results.nc keeps: errors of the steps, the table of symmetries, the walkers, and the working point.

    point: the dataset of `walk.growth` at the working point, one rate and one dimension.
    """
    kept = {k: found[k] for k in ("steps", "table", "orbit", "growth")}
    here = point.isel(dim=0, eta=0, drop=True)
    return xr.Dataset(prefixed(kept) | {"r": here["r4"].isel(time=-1, drop=True) ** 0.25, "r_slope": here["slope"]})
