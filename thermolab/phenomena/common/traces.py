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
