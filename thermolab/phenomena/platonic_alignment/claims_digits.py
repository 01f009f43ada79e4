"""The claims about digits: same and different architectures, the last layer and all of them.

All ask whether a CKA exceeds 0.9, the published figure of document 2, so there is no other tolerance. CKA is of the images that
the networks learnt from, at the end of training; new images read 0.03 to 0.06 less, and nearer to 0.9 than can be decided.
ACCURACY: arms with and without noise count as equally accurate if they are on new images to 0.02; otherwise nothing is decided.
"""

from __future__ import annotations

import math

import xarray as xr

from thermolab.claims import Pair, few_seeds, with_control

REACHED, ACCURACY = 0.9, 0.02


def at_end(data: xr.Dataset) -> xr.Dataset:
    """The images learnt, at the end of training."""
    return data.isel(time=-1).sel(images="seen")


def last(cka: xr.DataArray) -> xr.DataArray:
    """That of the last hidden layers."""
    return cka.isel({name: -1 for name in ("layer_a", "layer_b") if name in cka.dims})


def quiet_and_noisy(data: xr.Dataset) -> tuple[xr.Dataset, xr.Dataset]:
    """The arms with the least and with the most noise in the labels."""
    return data.sel(noise=data["noise"].min()), data.sel(noise=data["noise"].max())


def same_architecture(runs: dict[str, xr.Dataset]) -> Pair:
    quiet, noisy = quiet_and_noisy(runs["relu"])
    accuracies = [float(arm["accuracy"].isel(time=-1).sel(images="new", net="A").mean()) for arm in (quiet, noisy)]
    equal = abs(accuracies[0] - accuracies[1]) <= ACCURACY
    measured, control = (few_seeds(last(at_end(arm)["same"])) for arm in (noisy, quiet))
    control = control if equal else (math.nan, math.nan)
    return with_control(measured, control, 0.0, "no noise in the labels, the same accuracy", REACHED, "above")


def all_layers(runs: dict[str, xr.Dataset]) -> Pair:
    cross = at_end(quiet_and_noisy(runs["relu"])[1])["cross"]
    measured, control = few_seeds(cross.mean(("layer_a", "layer_b"), skipna=False)), few_seeds(last(cross))
    return with_control(measured, control, 0.0, "the last pair of layers", REACHED, "above")


def checks(runs: dict[str, xr.Dataset]) -> dict:
    """What decides each claim, by id; runs: of `digits.by_activation`."""
    return {
        "platonic.same-architecture": lambda: same_architecture(runs),
        "platonic.digits.all-layers": lambda: all_layers(runs),
    }
