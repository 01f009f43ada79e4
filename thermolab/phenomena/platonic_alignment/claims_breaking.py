"""The claims about what breaks alignment, what does not make it, and neural collapse.

One tolerance for all, registered before the runs: APART = 0.02, ten times the 1 - CKA of the order of η² that aligned networks
have at the working point (physics page 05: 0.002). Less is alignment, more is a way to break it. CKA is a mean over all
pairs of hidden layers, or over all hidden layers.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from thermolab.claims import Pair, few_seeds, with_control
from thermolab.phenomena.platonic_alignment import breaking

APART = 0.02


def lowered(data: xr.Dataset) -> xr.DataArray:
    """By how much a case lowers the CKA of A and B, (case, seed)."""
    cka = mean_pair(data)
    return cka.sel(case=breaking.BASE) - cka


def mean_pair(data: xr.Dataset) -> xr.DataArray:
    """Mean CKA of all pairs of a hidden layer of A and one of B, (case, seed)."""
    return data["cka"].mean(("layer_a", "layer_b"), skipna=False)


def ways(data: xr.Dataset) -> Pair:
    """The way that lowers it least must lower it by more than APART."""
    drop = lowered(data)
    drops = drop.sel(case=list(breaking.WAYS)).transpose("case", "seed").values
    weakest = drops[drops.mean(1).argmin()]
    return with_control(
        few_seeds(weakest), few_seeds(drop.sel(case=breaking.AGAIN)), 0.0, "none of the six, from other starts", APART, "above"
    )


def not_simplicity(data: xr.Dataset) -> Pair:
    """With noise the least aligned of all sizes and tasks is aligned; without noise not even the best aligned is."""
    cka = mean_pair(data).transpose("case", "seed")
    noisy = cka.sel(case=list(breaking.PLAIN)).values
    quiet = cka.sel(case=[breaking.QUIET.format(name) for name in breaking.PLAIN] + [breaking.PRIOR]).values
    measured, control = noisy[noisy.mean(1).argmin()], quiet[quiet.mean(1).argmax()]
    return with_control(
        few_seeds(measured), few_seeds(control), APART, "the noise switched off, the best aligned of all arms", 1.0, "above"
    )


def neural_collapse(data: xr.Dataset) -> Pair:
    """The hidden layers have the kernel of the labels: nothing but the class, and all classes equally far from one another."""
    cka = data["labels"].sel(share=float(np.max(data["share"]))).mean("layer", skipna=False)
    measured, control = (few_seeds(cka.sel(target=name)) for name in ("labels", "regression"))
    return with_control(measured, control, APART, "regression with targets in general position", 1.0, "above")


def checks(data: xr.Dataset, classes: xr.Dataset) -> dict:
    """What decides each claim, by id; data: of `breaking.pairs`, classes: of `collapse.collapse`."""
    return {
        "platonic.break": lambda: ways(data),
        "platonic.not-simplicity": lambda: not_simplicity(data),
        "platonic.neural-collapse": lambda: neural_collapse(classes),
    }
