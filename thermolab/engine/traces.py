"""What results.nc keeps of many datasets at once."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr


def prefixed(datasets: Mapping[str, xr.Dataset]) -> dict[str, xr.DataArray]:
    """All variables that hold numbers, each with the name of its dataset before its own and before its dims and coordinates."""
    return {
        f"{name}_{variable}": values.rename({x: f"{name}_{x}" for x in {*values.dims, *values.coords}})
        for name, data in datasets.items()
        for variable, values in data.data_vars.items()
        if np.issubdtype(values.dtype, np.number)
    }


def flattened(datasets: Mapping, before: str = "") -> dict[str, xr.Dataset]:
    """Datasets by one name each: of those that stand in a mapping of their own, its name before theirs."""
    found = {}
    for name, data in datasets.items():
        name = before + ("_".join(map(str, name)) if isinstance(name, tuple) else str(name))
        found |= {name: data} if isinstance(data, xr.Dataset) else flattened(data, f"{name}_")
    return found
