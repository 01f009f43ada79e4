"""What a larger η does to two embedded linear networks in equally many steps: the table of document 2, and simpler features.

The table has η = 0.1, 0.01, 0.001 → 0 of a loss that it does not name. Here |f - y|² is a sum over five answers; of their mean,
as libraries have it, the largest stable η is 0.1 (`theory.recommended`: 0.0193 of the sum). η → 0 is descent without noise.

FALLS: rungs of the table with different words, high, moderate, low, random, are 0.1 of CKA apart, as in `pace`.
SIMPLER: by a tenth, as a logarithm, in |h|² or in the number of directions that the features take up.
"""

from __future__ import annotations

import functools

import numpy as np
import xarray as xr

from thermolab.claims import Decision, decides, few_seeds, pick, with_control
from thermolab.phenomena.platonic_alignment.linear import descended, same_loss
from thermolab.phenomena.platonic_alignment.tables import between, final

FALLS, SIMPLER = 0.1, 0.1

_decides = functools.partial(
    decides, reads=["factors", "steps", "spectrum", "noise", "inputs", "stretch", "start"], data="linear"
)


def free(data: xr.Dataset) -> list[int]:
    """The arms without weight decay, the largest η first."""
    return sorted(np.flatnonzero(data["lam"].values == 0), key=lambda arm: -data["eta"].values[arm])


def ladder(data: xr.Dataset) -> xr.DataArray:
    """Worst pair (rung, seed) after equally many steps at each η, the largest first, and at 0: descent to the last one's loss."""
    rungs = [between(final(data, arm)) for arm in free(data)] + [between(descended(data).isel(arm=free(data)[-1]))]
    rates = [*data["eta"].values[free(data)], 0.0]
    return xr.concat([rung.drop_vars(("eta", "lam")) for rung in rungs], "rung").assign_coords(rung=rates)


@_decides("platonic.eta.table")
def falls_with_eta(data: xr.Dataset) -> Decision:
    """Least fall of the CKA of the worst pair from one rung of the table to the next, against that of the first decade."""
    falls = [few_seeds(fall) for fall in -ladder(data).diff("rung").transpose("rung", "seed").values]
    return with_control(pick(min, falls), falls[0], 0.0, "the first decade alone, η to η/10", FALLS, "above")


def simpler(data: xr.Dataset, what: str) -> xr.DataArray:
    """Logarithm of SGD over descent to the same loss, mean over hidden layers (arm, seed): of |h|², "size", or "directions".

    directions: (Tr K)²/|K|², how many the features take up, if equally (participation ratio).
    """
    logs = [np.log(data[f"{which}trace"]) for which in ("", "gd_")]
    if what == "directions":
        logs = [2 * (log - np.log(data[f"{which}size"])) for log, which in zip(logs, ("", "gd_"), strict=True)]
    found = (logs[0] - logs[1]).isel(layer=data["hidden"].values).mean("layer", skipna=False)
    return found.where(same_loss(data))


def against_small_start(data: xr.Dataset) -> xr.DataArray:
    """As `simpler` of |h|², at the largest η, over descent from a small start (seed), to a loss that is smaller still."""
    logs = np.log(data["trace"].isel(arm=free(data)[0])) - np.log(data["small_trace"])
    return logs.isel(layer=data["hidden"].values).mean("layer", skipna=False)


@_decides("platonic.simpler")
def smaller(data: xr.Dataset) -> Decision:
    """Log of |h|² at the largest η over that of descent to the same loss. Control: at the smallest η."""
    size, arms = simpler(data, "size"), free(data)
    pairs = (few_seeds(size.isel(arm=arm)) for arm in (arms[0], arms[-1]))
    return with_control(*pairs, 0.0, "the smallest η, against descent to its loss", -SIMPLER, "below")


@_decides("platonic.simpler.rank")
def of_lower_rank(data: xr.Dataset) -> Decision:
    """Log of the features' number of directions at the largest η over that of descent to the same loss. Control: |h|²."""
    pairs = (few_seeds(simpler(data, what).isel(arm=free(data)[0])) for what in ("directions", "size"))
    return with_control(*pairs, 0.0, "the mean square |h|² of the same features", -SIMPLER, "below")
