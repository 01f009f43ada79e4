"""The claims about the sharpness of networks that learn an uneven language.

What counts as a rise: log λ_max at the end of the second third, when the language (or its noise) is uneven, less the larger of
the two values at the ends of the even thirds, so that what does not come back counts as none; a mean over a seed's languages.
RISE, which stands here once and does not move with the data: a tenth. The source says "highly imbalanced" and no number; a tenth
is above what runs of this length leave unconverged, some 5 %, and below what the closed form has, 1.4 to 1.9. Under the
squared loss the rise of the least λ_max of the same function is taken off first: noise is not what makes that part.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from thermolab.claims import Pair, few_seeds, with_control

RISE = 0.1


def rise(values: xr.DataArray) -> xr.DataArray:
    """log of the end of the second third over the larger of the other two ends, from values (…, time)."""
    each = values.sizes["time"] // 3
    first, second, third = (np.log(values.isel(time=each * (k + 1) - 1, drop=True)) for k in range(3))
    return second - np.maximum(first, third)


def of_noise(data: xr.Dataset) -> xr.DataArray:
    """The rise of λ_max (arm, seed, language), less that of the least λ_max of the same function where that rises."""
    return rise(data["lambda_max"]) - np.maximum(rise(data["least"]), 0)


def compare(found: xr.DataArray, control: str, name: str) -> Pair:
    """The arm `language` against another one."""
    measured, other = (few_seeds(found.sel(arm=arm).mean("language", skipna=False)) for arm in ("language", control))
    return with_control(measured, other, 0.0, name, RISE, "above")


def cross_entropy(data: xr.Dataset) -> Pair:
    return compare(rise(data["lambda_max"]), "noise", "the same language, only its noise made imbalanced")


def squared(data: xr.Dataset) -> Pair:
    return compare(of_noise(data), "descent", "gradient descent without noise, from the same flat point")


def checks(runs: Mapping[str, xr.Dataset]) -> dict:
    """What decides each claim, by id. runs: `language.by_loss`."""
    return {
        "sharpening.language": lambda: cross_entropy(runs["cross-entropy"]),
        "sharpening.language.squared": lambda: squared(runs["squared"]),
    }
