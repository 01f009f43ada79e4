"""The claims of notebook 06, decided from the datasets of its recipes, each with its control.

`claims_switch`, `claims_edge` and `claims_language` say how each is measured and to what tolerance.
"""

from __future__ import annotations

from collections.abc import Mapping

import xarray as xr

from thermolab.claims import Result, decided
from thermolab.phenomena.progressive_sharpening import claims_edge, claims_language, claims_switch
from thermolab.phenomena.traces import prefixed

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
