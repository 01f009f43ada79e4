"""The claims of notebook 06, decided from the datasets of its recipes, each with its control.

`claims_switch`, `claims_edge` and `claims_language` say how each is measured and to what tolerance.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from thermolab.claims import Result, decided
from thermolab.engine.traces import prefixed
from thermolab.phenomena.progressive_sharpening import claims_edge, claims_language, claims_switch
from thermolab.phenomena.progressive_sharpening.cause import PHASES

SWITCH = ("profiles", "switches", "steep", "scratch", "adams", "orbits", "pair")


def decide(found: Mapping, *, settings=None, seconds: float = 0.0) -> list[Result]:
    """All claims of the notebook, in the register's order.

    found: the datasets of the recipes, by their names: those of SWITCH as `claims_switch.checks` takes them, "edge" of
    `edge.edge`, "language" of `language.by_loss`. seconds: what the measurements took, shared out evenly.
    """
    checks = {
        **claims_switch.checks(*(found[name] for name in SWITCH)),
        **claims_edge.checks(found["edge"]),
        **claims_language.checks(found["language"]),
    }
    # all recipes take the same seeds
    return decided(
        "06_progressive_sharpening", checks, lambda name: found["pair"].sizes["seed"], settings=settings, seconds=seconds
    )


def traces(found: Mapping, point: xr.Dataset) -> xr.Dataset:
    """What results.nc keeps: the switches of the noise, both gauges of the pair, descent at the edge, and the working point.

    point: the dataset of `settled.settled` at the working point.
    """
    kept = {f"switch_{name}": data for name, data in found["switches"].items()}
    kept |= {"pair": found["pair"], "edge": found["edge"]}
    return xr.Dataset(prefixed(kept) | {"lambda_max": point["lambda_max"].rename(seed="point_seed").reset_coords(drop=True),
                                        "lambda_max_predicted": point["predicted"]})  # fmt: skip


def wanted(pair: xr.Dataset, net: str) -> np.ndarray:
    """λ_max of theory at each moment [time] over that of balanced noise, a mean over seeds; NaN while there is no noise.

    pair: of `cause.cause`.
    """
    known = pair["predicted"].sel(net=net)
    known = (known / known.sel(noise="balanced")).mean("seed")
    return np.array([float(known.sel(noise=PHASES[k])) if k else np.nan for k in pair["phase"].values])


def closed_form(runs: xr.Dataset) -> dict[str, tuple]:
    """{name: (time, λ_max)} of the arms that theory knows in a dataset of `language.language` under the squared loss."""
    mean, each = runs["theory"].mean(("seed", "language")), runs.sizes["time"] // 3
    return {arm: (runs["time"], np.repeat(mean.sel(arm=arm).values, each)) for arm in ("language", "noise")}
