"""The claim about gradient descent at the edge of stability.

Tolerance, which stands here once and does not move with the data. EDGE: η λ_max/2, averaged over the last third of a run, within
5 % of 1. The sources state no accuracy ("at, or just above"); to leading order the mean is 1, and the excursions beyond the
edge, which bring λ_max back each time, are of a few per cent.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from thermolab.claims import Pair, extreme, with_control

EDGE = 0.05


def late(data: xr.Dataset) -> xr.DataArray:
    """η λ_max/2 (seed, eta), a mean over the last third of each run."""
    scaled = data["lambda_max"] / data["edge"]
    return scaled.isel(time=slice(2 * data.sizes["time"] // 3, None)).mean("time", skipna=False).transpose("seed", "eta")


def edge(data: xr.Dataset) -> Pair:
    off, slow = late(data) - 1, int(np.argmin(data["eta"].values))
    fast = off.drop_isel(eta=slow)
    # a run that diverged leaves nothing to say about its rate
    measured = extreme(fast) if fast.notnull().all() else (np.nan, np.nan)
    control = extreme(off.isel(eta=[slow]))
    return with_control(measured, control, EDGE, f"η = {float(data['eta'][slow]):g}, too small for the time")


def checks(data: xr.Dataset) -> dict:
    """What decides the claim, by id. data: `edge.edge`."""
    return {"sharpening.edge": lambda: edge(data)}
