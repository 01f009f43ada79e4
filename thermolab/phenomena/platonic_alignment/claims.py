"""The claims of notebook 05, decided from the datasets of its recipes, each with its control.

`claims_linear`, `claims_digits` and `claims_breaking` say how each is measured and to what tolerance.
"""

from __future__ import annotations

from collections.abc import Mapping

import xarray as xr

from thermolab.claims import Result, decided
from thermolab.engine.traces import prefixed
from thermolab.phenomena.platonic_alignment import claims_breaking, claims_digits, claims_linear


def decide(found: Mapping, *, settings=None, seconds: float = 0.0) -> list[Result]:
    """All claims of the notebook, in the register's order.

    found: datasets of the recipes: "linear" of `linear.linear`, "pace" of `pace.pace`, "minima" of `minimum.minima`, "pairs" of
    `breaking.pairs`, "classes" of `collapse.collapse`; and under "digits" those of `digits.digits` for "relu" and "tanh".
    seconds: what the measurements took, shared out evenly.
    """
    checks = {
        **claims_linear.checks(found["linear"], found["pace"], found["minima"]),
        **claims_digits.checks(found["digits"]),
        **claims_breaking.checks(found["pairs"], found["classes"]),
    }
    # all recipes take the same seeds
    return decided(
        "05_platonic_alignment", checks, lambda name: found["linear"].sizes["seed"], settings=settings, seconds=seconds
    )


def traces(found: Mapping, point: xr.Dataset) -> xr.Dataset:
    """What results.nc keeps: alignment of the linear networks and its pace, of those on digits, and the working point.

    point: the dataset of `linear.linear` at the working point, of which the last arm counts; cka is its worst pair.
    """
    kept = {name: found[name].drop_vars("null", errors="ignore") for name in ("linear", "pace")}
    kept |= {f"digits_{name}": data for name, data in found["digits"].items()}
    worst = claims_linear.between(claims_linear.final(point, -1)).reset_coords(drop=True)
    return xr.Dataset(prefixed(kept) | {"cka": worst.rename(seed="point_seed")})


def controls(data: xr.Dataset, point: xr.Dataset) -> dict[str, xr.DataArray]:
    """Worst CKA of A and B (seed) at the end: for each λ, without noise, with an R between layers, and what else is of interest.

    data, point: datasets of `linear.linear`, the second at the working point, of which the last arm counts.
    """
    same = (data["eta"] == data["eta"][0]).values.nonzero()[0]
    found = {f"λ = {data['lam'].values[k]:g}": claims_linear.between(claims_linear.final(data, int(k))) for k in same}
    found["no noise"] = claims_linear.between(data["gd"])
    found |= {f"{kind} R": claims_linear.between(data["inserted"].sel(kind=kind)) for kind in data["kind"].values}
    found["all layers"] = claims_linear.between(claims_linear.final(data), ends=True)
    found["working point"] = claims_linear.between(claims_linear.final(point, -1))
    return found


def hidden(data: xr.Dataset, table: xr.DataArray) -> xr.DataArray:
    """Rows and columns of the hidden layers, in the order of A's, then B's; a mean over seeds. data: of `linear.linear`."""
    inner = data["hidden"].values
    return table.isel(layer=inner, other=inner).mean("seed")


def last_layers(runs: Mapping[str, xr.Dataset]) -> dict[str, dict]:
    """{arm: {what: (seed)}} at the end of `digits.digits`, ReLU and tanh: CKA of the last layers, accuracy on new images."""
    found = {}
    for name, data in runs.items():
        for noise in data["noise"].values:
            end = data.sel(noise=noise).isel(time=-1)
            arm = end.sel(images="seen")
            found[f"{name}, {'noisy labels' if noise else 'no noise'}"] = {
                "A and A": claims_digits.last(arm["same"]),
                "A and B": claims_digits.last(arm["cross"]),
                "accuracy": end["accuracy"].sel(images="new").mean("net"),
            }
    return found
