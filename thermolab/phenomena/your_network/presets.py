"""What notebook 07 measures at its checked parameters, and what results.nc keeps of it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import xarray as xr

from thermolab.engine.traces import prefixed
from thermolab.phenomena.common import presets
from thermolab.phenomena.your_network.capstone import knocked_out
from thermolab.phenomena.your_network.trained import trained

FACTORS = (0.5, 0.7, 1.0, 1.4, 2.0)  # of the working point's η
SMOKE = {"burn_in": 200, "window": 400, "moments": 4, "probe": 6, "samples": 20}


def datasets(setup, network: str | None = None) -> dict:
    """{name: recipe with its settings}, nothing of which has run. setup: the notebook's; network: in place of setup.network."""
    shared, small = presets.common(setup, smoke=2), setup.preset == "smoke"
    common, knocked = shared | (SMOKE if small else {}), shared | ({"steps": 200 if small else 2000})
    point = {"network": network or setup.network, "images": setup.images, "eta": setup.eta, "lam": setup.lam}
    return {
        "trained": partial(trained, **common, **point, batch_size=setup.batch_size, factors=FACTORS),
        "double": partial(trained, **common | {"moments": 1}, **point, batch_size=2 * setup.batch_size, factors=(1.0, 2.0)),
        "knocked": partial(knocked_out, **point, batch_size=setup.batch_size, **knocked),
    }


def traces(found: Mapping) -> xr.Dataset:
    """What results.nc keeps: all datasets, and U, S, snr of the sweep under these names."""
    sweep = found["trained"][["U", "S", "snr", "cka"]].reset_coords(drop=True)
    return xr.Dataset(prefixed({name: data.reset_coords() for name, data in found.items()}) | dict(sweep.data_vars))
