"""The claims of notebook 00 on symmetries, decided from the datasets of `symmetry_recipes`.

Tolerances, which stand here once and do not move with the data. What is exact is so up to rounding, compared as decimal
logarithms because rounding varies by orders of magnitude: 1e-12 for values of L and S; for θᵀAθ, whose error in units of η²|g|²
is 1e-16 |θ|/(η|g|), 1e-9. A symmetry of F is broken if S changes by 5 % under a group element of factor 2 or 1/2; what theory
predicts for one that is broken is of order 1. Weight decay has pulled the weights into a symmetric state if 5 % of the distance
that they have from it without decay is left, by any λ at which half of what can be learned still is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import xarray as xr

from thermolab.claims import Pair, few_seeds, with_control

ROUNDING, STEP_ROUNDING, BROKEN, LEFT, LEARNED = 1e-12, 1e-9, 0.05, 0.05, 0.5
KEPT = ["rotation", "permutation", "sign flip", "double rotation, orthogonal"]
LOST = ["scaling", "rescaling", "double rotation, positive", "attention, GL"]
CONTINUOUS = ["rescaling", "rotation", "double rotation, orthogonal"]  # with a symmetric state
FLAT = 1e-9  # what counts as a change along an orbit, in units of the value there


def noether_identity(noether: xr.Dataset) -> Pair:
    """log10 of the largest error of η² gᵀAg for the increase of θᵀAθ in a step, in units of η²|g|², over all rows and steps.

    noether: the dataset of `symmetry_recipes.noether`. Returns check, name of the control, control.
    """
    right, wrong = (few_seeds(_digits(noether[name].max(("row", "step")))) for name in ("error", "random_error"))
    name = "a random symmetric matrix, which generates no symmetry"
    return with_control(right, wrong, 0.0, name, predicted=np.log10(STEP_ROUNDING), relation="below")


def symmetry_table(table: xr.Dataset) -> Pair:
    """log10 of the worst entry of the table over its tolerance: error of L, change of S if F is to be kept, lack of it if not.

    table: the dataset of `symmetry_recipes.table` with all its own rows. Returns check, name of the control, control.
    """

    def worst(prefix: str):
        error, change = (table[prefix + k] for k in ("L_error", "S_ratio"))
        if "s" in error.dims:
            error, change = error.max("s"), changed(change)
        else:
            change = abs(np.log(change))
        entries = (error / ROUNDING, change.sel(row=KEPT) / ROUNDING, BROKEN / change.sel(row=LOST))
        return few_seeds(_digits(np.maximum.reduce([entry.max("row").values for entry in entries])))

    name = "a random linear map of the weights"
    return with_control(worst(""), worst("random_"), 0.0, name, relation="below")


def changed(ratio: xr.DataArray) -> xr.DataArray:
    """Larger of the two |log S(gθ)/S(θ)| at s and -s: S is convex along an orbit, so one of them sees that it changes."""
    return abs(np.log(ratio)).max("s")


def no_noncompact(table: xr.Dataset) -> Pair:
    """Least |log S(gθ)/S(θ)| among the symmetries of L that are not compact; F has them where that is 0.

    table: the dataset of `symmetry_recipes.table`. Returns check, name of the control, control.
    """

    def least(rows):
        return few_seeds(changed(table["S_ratio"].isel(row=np.flatnonzero(rows.values))).min("row"))

    open_groups = ~table["compact"]
    name = "of these, the exponential ones alone"
    measured, control = least(open_groups), least(open_groups & table["exponential"])
    return with_control(measured, control, 0.0, name, predicted=BROKEN, relation="above")


def unique_orbit_minimum(orbit: xr.Dataset) -> Pair:
    """Largest |number of minima of F - 1| along an orbit, among the rows whose A has eigenvalues of both signs.

    orbit: the dataset of `symmetry_recipes.orbit`. Returns check, name of the control, control.
    """
    off, both = abs(minima(orbit["F"]) - 1), orbit["both_signs"].values
    measured, control = (few_seeds(off.isel(row=np.flatnonzero(part)).max("row")) for part in (both, ~both))
    return with_control(measured, control, 0.0, "scaling, A = 1, along whose orbit F only falls")


def minima(values: xr.DataArray) -> xr.DataArray:
    """How many minima there are along s, the ends left out: a fall with a rise right after it."""

    def count(line: np.ndarray) -> int:
        step = np.diff(line)
        sign = np.sign(step[abs(step) > FLAT * abs(line[1:])])
        return int(((sign[:-1] < 0) & (sign[1:] > 0)).sum())

    return xr.apply_ufunc(count, values, input_core_dims=[["s"]], vectorize=True)


def symmetric_state(decayed: xr.Dataset) -> Pair:
    """Share of the distance from the symmetric state at λ = 0 that is left, by the best λ at which the model learns; worst row.

    decayed: the dataset of `symmetry_recipes.decayed` with all its own rows. Returns check, name of the control, control.
    """

    shares = {row: left(decayed.sel(row=row)) for row in decayed["row"].values}
    continuous = max(shares[row] for row in CONTINUOUS)
    return with_control(max(shares.values()), continuous, LEFT, "the continuous symmetries alone", relation="below")


def left(row: xr.Dataset) -> tuple[float, float]:
    """Of one row of `decayed`: least share over λ > 0 of the distance that is left, and its standard error."""
    share = row["asymmetry"] / row["asymmetry"].sel(lam=0).mean("seed")
    kept = row["lam"].values[(row["learned"].mean("seed") >= LEARNED).values & (row["lam"].values > 0)]
    return min(few_seeds(share.sel(lam=lam)) for lam in kept)


def _digits(values) -> np.ndarray:
    """log10, of 0 that of the least rounding error."""
    return np.log10(np.maximum(values, 1e-17))


def checks(table: xr.Dataset, noether: xr.Dataset, orbit: xr.Dataset, decayed: xr.Dataset) -> Mapping[str, Callable[[], Pair]]:
    """What decides each of the five claims, by id; called, it returns check, name of the control, control.

    table, noether, orbit, decayed: the datasets of the recipes of these names, two seeds or more.
    """
    return {
        "irreversibility.noether": lambda: noether_identity(noether),
        "irreversibility.symmetry-table": lambda: symmetry_table(table),
        "irreversibility.symmetric-state": lambda: symmetric_state(decayed),
        "irreversibility.no-noncompact": lambda: no_noncompact(table),
        "irreversibility.unique-orbit-minimum": lambda: unique_orbit_minimum(orbit),
    }
