"""The numbers that the authors print (arXiv:2511.07308), beside ours. They stand in `data/published/ideal_gas.csv`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import xarray as xr
from pandas.io.formats.style import Styler

from thermolab.claims import Estimate, data_folder, extreme, few_seeds
from thermolab.phenomena.ideal_gas.compare import maxwell, plane, seeds_first


def table(iso: Mapping[str, xr.Dataset], net: Mapping[str, xr.Dataset]) -> Styler:
    """Published and measured slopes, R² and largest relative errors, a row each; ours with one standard error.

    iso, net: the datasets of the isotropic model and of the network by protocol. Slopes are compared at D = 3 only.
    """
    rows = pd.read_csv(data_folder() / "published" / "ideal_gas.csv", index_col="key")
    ours = measured(iso, net)
    rows["ours"], rows["our error"] = zip(*(ours.get(key, (np.nan, np.nan))[:2] for key in rows.index), strict=True)
    columns = {
        "quantity": "quantity",
        "published": "published",
        "error": "±",
        "ours": "ours",
        "our error": "± ",
        "setting": "theirs",
    }
    shown = rows.rename(columns=columns)[list(columns.values())]
    return shown.style.hide().format(precision=4, na_rep="")


def measured(iso: Mapping[str, xr.Dataset], net: Mapping[str, xr.Dataset]) -> dict[str, Estimate]:
    """Our estimate for each key of the published table."""
    out = {}
    if iso["elr"].attrs["dim"] == 3:
        for protocol, d in iso.items():
            for i, axis in enumerate(("eta", "lam")):
                out[f"slope.{protocol}.{axis}"] = few_seeds(plane(d)[:, i])
    for protocol, d in net.items():
        off, r2 = maxwell(d, seeds_first(d["S"]), np.log(seeds_first(d["r"])))
        out[f"maxwell.{protocol}"], out[f"r2.{protocol}"] = extreme(off), few_seeds(r2)
        if protocol == "lr":
            out["ratio.lr"] = few_seeds(plane(d) @ [1, -1] / ((d.attrs["dim"] - 1) / 2))
    return out
