"""The claims of notebook 04, decided from the datasets of its recipes, each with its control.

`claims_networks` and `claims_architectures` say how each is measured and to what tolerance.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from thermolab.claims import Result, decided
from thermolab.engine.traces import prefixed
from thermolab.phenomena.neuron_balance import claims_architectures, claims_networks, linear, networks, theory

SHORT = {" (no bias)": "", "1.attention.": "", "1.perceptron.": "perceptron ", "1.norm": "norm ", ".inner.": ".", "->": "→"}


def decide(found: Mapping, *, settings=None, seconds: float = 0.0) -> list[Result]:
    """All claims of the notebook, in the register's order.

    found: datasets by name: "relu" and "tanh" from `networks.by_activation`, "decayed", "thresholded", "matrix", "architectures"
    and "twins" from the recipes of that name, and those of `linear.by_profile` by their profiles. seconds: what the
    measurements took, shared out evenly.
    """
    checks = claims_networks.checks(found, profiles(found), *(found[name] for name in ("thresholded", "decayed", "matrix")))
    checks |= claims_architectures.checks(found["architectures"], found["twins"])
    # all recipes take the same seeds
    return decided("04_neuron_balance", checks, lambda name: found["twins"].sizes["seed"], settings=settings, seconds=seconds)


def profiles(found: Mapping) -> dict[tuple, xr.Dataset]:
    """The datasets of `linear.by_profile` among others."""
    return {name: data for name, data in found.items() if isinstance(name, tuple)}


def predicted(data: xr.Dataset) -> xr.Dataset:
    """What `networks.relu` should find in a stationary state with the |u|² and |w|² that it has found.

    gap: E|g_u|² - E|g_w|², 2λ/η (|u|² - |w|²); log_ratio: log E|g_w|²/E|g_u|², NaN where no such state exists.
    """
    gap = xr.DataArray(theory.decay_shift(data["eta"].values, data["lam"].values), dims="arm") * (data["in2"] - data["out2"])
    rest = 1 - gap / data["g2_in"]
    return xr.Dataset({"gap": gap, "log_ratio": np.log(rest.where(rest > 0))})


def rows(data: xr.Dataset, arm: str = "") -> dict[str, dict[str, xr.DataArray]]:
    """{label: {reason: log ratio at the end (seed)}} of an architecture, labels for people.

    The reason of a pair is "". A pair without its bias shares the label of the pair.
    """
    out: dict[str, dict[str, xr.DataArray]] = {}
    for row in claims_architectures.log_ratios(data):
        name = str(row["pair"].values)
        for long, short in SHORT.items():
            name = name.replace(long, short)
        out.setdefault(f"{arm} {name}".strip(), {})[str(row["reason"].values)] = row
    return out


def traces(found: Mapping, point: xr.Dataset) -> xr.Dataset:
    """What results.nc keeps: every dataset under its name, the profiles as "linear", and the working point.

    point: the dataset of `networks.relu` at the working point, a single arm. Of it log_ratio, log_ratio_pred (see `predicted`),
    g2_in, g2_out and what remains of the imbalance, over time in units of η² t/B, stand there under these names.
    """
    kept = {name: found[name].reset_coords() for name in ("relu", "tanh", "decayed", "thresholded", "twins")}
    kept |= {"cnn_tanh" if name == "tanh" else name: data.reset_coords() for name, data in found["architectures"].items()}
    kept["linear"] = xr.concat(profiles(found).values(), "profile")
    kept["matrix"] = linear.residual(found["matrix"]).to_dataset(name="residual")
    here = point[["g2_in", "g2_out"]].assign(log_ratio=networks.log_ratio(point), remaining=claims_networks.remaining(point))
    here["log_ratio_pred"] = predicted(point)["log_ratio"]
    return xr.Dataset(prefixed(kept) | dict(here.isel(arm=0, drop=True).data_vars))
