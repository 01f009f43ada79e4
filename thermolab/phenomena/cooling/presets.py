"""What notebook 01 measures, by name, at each preset; and what its results.nc keeps."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import xarray as xr

from thermolab.engine.traces import prefixed
from thermolab.phenomena.common import presets
from thermolab.phenomena.cooling import (
    adaptive,
    batch_ratio,
    flatness,
    matched,
    plateau,
    schedules,
    transitions,
)
from thermolab.phenomena.cooling.classifiers import EASIER, MODELS
from thermolab.phenomena.cooling.training import REST, training

RECIPES = {
    "matched": matched.matched,
    "schedules": partial(schedules.schedules, arms=("constant", "decay", "growth")),
    "logarithms": schedules.logarithms,
    "endings": schedules.endings,
    "ratio": batch_ratio.ratio,
    "flatness": flatness.flatness,
    "detection": transitions.detection,
    "plateau": plateau.plateau,
    "curvature": transitions.curvature,
    "adaptive": adaptive.adaptive,
}
# what preset smoke measures less of; at lab all is the recipes' default
SMOKE = {
    "matched": {"rates": (0.1, 0.2), "lams": (0.0, 1.5e-2), "sizes": (32,), "epochs": 8},
    "schedules": {"copies": 1, "epochs": 9},
    "logarithms": {"alphas": (0.3, 1.0, 3.0), "copies": 1, "epochs": 15},
    "endings": {"copies": 1, "epochs": 15},
    "ratio": {"batch_sizes": (16, 32, 64), "copies": 1, "average": 4, "window": 1, "epochs": 12},
    "flatness": {"epochs": 9, "moments": 6, "probes": 3},
    "detection": {"ratios": (0.8,), "replicas": 8, "burn_in": 16, "baseline": 12, "before": 6, "after": 8},
    "plateau": {"replicas": 2, "windows": 26},
    "curvature": {"replicas": 1, "points": 8, "baseline": 3, "samples": 64},
    "adaptive": {"replicas": 1, "windows": 30},
}
WAIT = 8  # epochs, a quarter of all
TRAINING = {"epochs": 2, "fisher_every": 2}  # likewise, of all runs of `training`
PANEL = {"smoke": 9, "lab": 30}  # epochs of the automatic runs beside the live panel


def datasets(setup) -> dict:
    """The recipes by the name of what they return, each with its settings; nothing runs before they are called.

    setup: the notebook's checked parameters. "here": the perceptron at the working point. "runs": `training` of each model, of
    which the transformer gets the images of EASIER, and of three controls, all of them perceptrons: "rest", at an η at which it
    does not move, "waits", which rests for WAIT epochs and then learns, and "plateau", from weights of TINY times the usual size.
    """
    smoke, common = setup.preset == "smoke", presets.common(setup, smoke=2) | {"difficulty": setup.difficulty}
    plan = {name: partial(recipe, **common, **(SMOKE[name] if smoke else {})) for name, recipe in RECIPES.items()}
    # more seeds for what scatters more than other means do: the sharpest moment of a run, what perceptron and CNN differ in, and
    # above all correlations over the runs of a seed
    more, most = (presets.n_seeds(setup.preset, setup.n_seeds + k, smoke=2) for k in (3, 9))
    plan["flatness"], plan["matched"] = partial(plan["flatness"], n_seeds=more), partial(plan["matched"], n_seeds=most)
    one = partial(training, **common, **(TRAINING if smoke else {}))
    plan["here"] = partial(one, "mlp", eta=setup.eta, lams=(setup.lam,), batch_size=setup.batch_size)
    plan["runs"] = {
        "transformer": partial(one, "transformer", difficulty=EASIER[setup.difficulty]),
        "cnn": partial(one, "cnn", n_seeds=more),
        "mlp": partial(one, "mlp", n_seeds=more),
        "rest": partial(one, "mlp", lams=(0.0,), eta=REST),
        "waits": partial(one, "mlp", lams=(0.0,), wait=WAIT),
        "plateau": partial(one, "mlp", lams=(0.0,), scale=plateau.TINY),
    }
    return plan


def traces(found: Mapping) -> xr.Dataset:
    """What results.nc keeps: the three models by epoch, the schedules, the cells of η/B, and the working point at the end."""
    flat = found["flatness"]
    matched = {name: flat[name].sel(arm="sgd", drop=True) for name in flat if name.startswith("matched_")}
    kept = {m: found["runs"][m] for m in MODELS} | {k: found[k] for k in ("schedules", "ratio")}
    kept["flatness"] = flat.assign(matched)
    here = found["here"].isel(lam=0, time=-1, drop=True).rename(S_path="S")
    return xr.Dataset(prefixed(kept) | {name: here[name] for name in ("U", "U_val", "accuracy", "S", "T")})
