"""The claims of notebook 01, decided from the datasets of its recipes, each with its control.

`claims_training`, `claims_schedules`, `claims_flatness` and `claims_transitions` say how each is measured and to what tolerance.
"""

from __future__ import annotations

from collections.abc import Mapping

import xarray as xr

from thermolab.claims import Result, decided
from thermolab.engine.traces import prefixed
from thermolab.phenomena.cooling import claims_flatness, claims_schedules, claims_training, claims_transitions

# the dataset behind a claim, which says how many seeds it had; the others stand on `training.by_model`
BEHIND = {
    "minimal-entropy-generalises": "matched",
    "log-schedule": "endings",
    "log-schedule-best": "endings",
    "decay-is-growth": "schedules",
    "eta-over-batch": "ratio",
    "eef-is-weight-decay": "entropic",
    "sam-flatter": "flatness",
    "terminal-flatness": "flatness",
    "second-difference": "detection",
    "fisher-flags": "curvature",
    "plateau": "plateau",
    "adaptive": "adaptive",
}


def decide(found: Mapping, *, settings=None, seconds: float = 0.0) -> list[Result]:
    """All claims of the notebook, in the register's order.

    found: the datasets of `schedules.schedules`, `.endings`, `.ratio`, `flatness.flatness`, `.entropic`,
    `transitions.detection`, `.curvature`, `plateau.plateau`, `.adaptive` and `training.matched`, each under the recipe's name,
    and under "runs" those of `training.by_model`. seconds: what the measurements took, shared out evenly.
    """
    checks = {
        **claims_training.checks(found["runs"], found["matched"]),
        **claims_schedules.checks(*(found[k] for k in ("schedules", "endings", "ratio"))),
        **claims_flatness.checks(*(found[k] for k in ("flatness", "entropic"))),
        **claims_transitions.checks(*(found[k] for k in ("detection", "plateau", "curvature", "adaptive"))),
    }

    def n_seeds(name: str) -> int:
        behind = BEHIND.get(name.removeprefix("cooling."))
        return (found[behind] if behind else found["runs"]["mlp"]).sizes["seed"]

    return decided("01_cooling", checks, n_seeds, settings=settings, seconds=seconds)


def traces(found: Mapping, point: xr.Dataset) -> xr.Dataset:
    """What results.nc keeps: the three models by epoch, the schedules, the cells of η/B, and the working point at the end.

    point: the dataset of `training.training` at the working point, a single λ.
    """
    kept = {m: found["runs"][m] for m in claims_training.MODELS} | {k: found[k] for k in ("schedules", "ratio", "flatness")}
    here = point.isel(lam=0, time=-1, drop=True).rename(S_path="S")
    return xr.Dataset(prefixed(kept) | {name: here[name] for name in ("U", "U_val", "accuracy", "S", "T")})
