"""Tables of CKA over layer and other: the worst pair of a layer of A and one of B, of two layers of one network.

Rows and columns are all layers of A, then of B, with the coordinates of `networks.layers`: `of`, the network, and `hidden`.
"""

from __future__ import annotations

import numpy as np
import xarray as xr


def final(data: xr.Dataset, arm: int = 0) -> xr.DataArray:
    """CKA at the end of training, of a dataset of `linear.linear`."""
    return data["cka"].isel(arm=arm, time=-1)


def between(table: xr.DataArray, *, ends: bool = False) -> xr.DataArray:
    """The worst CKA of a hidden layer of A with one of B; with `ends`, of all layers, input views and outputs of W_L too."""
    wanted = table["hidden"].values | ends
    a, b = (wanted & (table["of"].values == net) for net in ("A", "B"))
    return table.isel(layer=a, other=b).min(("layer", "other"), skipna=False)


def inside(table: xr.DataArray) -> xr.DataArray:
    """The worst CKA of two hidden layers of one network, A or B."""
    nets = [np.flatnonzero(table["hidden"].values & (table["of"].values == net)) for net in ("A", "B")]
    worst = [table.isel(layer=n, other=n).min(("layer", "other"), skipna=False) for n in nets]
    return xr.concat(worst, "net").min("net", skipna=False)
