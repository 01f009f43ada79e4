"""The claims of notebook 02 that lie beyond the paper's own experiments, decided from the datasets of `ordinary` and `plateau`.

Tolerances are the accuracy that the theory states; they stand here once and do not move with the data. 5 % for the temperatures
of a plateau, whose closed form is exact at a finite step; 5 % of the states may miss their own minimum of F; 4 % for radii and
for temperatures of layers (order η, as in notebook 03); one pair of temperatures in ten out of order, about the resolution of
those between eight states; a quarter for the exponent of η_eff, which is −½ for noise of constant size and steeper where
that falls; a lead shorter than one window is none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import xarray as xr

from thermolab.claims import Pair, extreme, few_seeds, with_control
from thermolab.phenomena.temperature_collapse.plateau import INPUTS, entropy_of, plateau_loss

TEMPERATURE, SHARE, LAYER, ORDER, EXPONENT, LEAD = 0.05, 0.05, 0.04, 0.1, 0.25, 1.0
SAME_STATE = 0.03  # distance of U from the median over the seeds up to which a run counts as in the same state
SMOOTHING = 1.0  # half-width in log η of the triangle that smooths U and S before slopes are taken


# --- the plateau ------------------------------------------------------------------------------------------------------
def plateau_temperature(plateau: xr.Dataset) -> Pair:
    """Worst of three thermometers and of the minima of F, each in units of its tolerance.

    plateau: the dataset of `plateau.plateau`. Returns check, name of the control, control.
    """

    def off(prefix: str):
        u, s = (plateau[prefix + k].transpose("seed", "eta").values for k in ("U", "S"))
        return extreme(_thermometers(u, s, plateau["T"].values))

    return with_control(off(""), off("open_"), 1.0, "units that start at full size, which leaves no plateau")


def _thermometers(u: np.ndarray, s: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Deviations [seed, …] of U, of S, of dU/dS and of the share of own minima, over their tolerances; u, s [seed, η], t [η]."""
    excess = (u - plateau_loss()) / (INPUTS / 2 * t) - 1
    spread = np.exp((s - entropy_of(t)) / (INPUTS / 2)) - 1
    # dU = T dS from state to state with T between them; in units of the dU expected, for without a plateau dS may vanish
    rung, rise = np.diff(t) / np.diff(np.log(t)), INPUTS / 2 * np.diff(t)
    slope = (np.diff(u) - rung * np.diff(s)) / rise
    free = u[:, None, :] - t[:, None] * s[:, None, :]  # [seed, temperature of state, state]
    own = (free.argmin(-1) == np.arange(len(t))).mean(-1, keepdims=True)
    return np.concatenate([excess / TEMPERATURE, spread / TEMPERATURE, slope / TEMPERATURE, (1 - own) / SHARE], 1)


def early_warning(plateau: xr.Dataset) -> Pair:
    """Windows by which S, or the log-variance of the frozen weights, leaves the null task's band before U does.

    plateau: the dataset of `plateau.plateau`. A replica whose S has not left by the end counts as leaving just after it, which
    favours the claim. Returns check, name of the control, control.
    """
    end = plateau.sizes["window"]

    def lead(name: str):
        return few_seeds((plateau["U_exit"] - plateau[name].fillna(end)).mean(("eta", "replica")))

    right, wrong = lead("S_exit"), lead("frozen_exit")
    return with_control(
        right, wrong, 0.0, "log-variance of the weights that the plateau freezes", predicted=LEAD, relation="above"
    )


# --- the ordinary network ---------------------------------------------------------------------------------------------
def standard_net(ordinary: xr.Dataset) -> Pair:
    """Share of pairs of temperatures dU/dS that rise with η; all of them if T(η) increases and F is convex.

    ordinary: the dataset of `ordinary.ordinary`. Returns check, name of the control, control.
    """
    log_eta, kept = np.log(ordinary["eta"].values), same_state(ordinary["U"]).transpose("seed", "eta").values

    def share(prefix: str):
        rows = zip(kept, *(ordinary[prefix + k].transpose("seed", "eta").values for k in ("U", "S")), strict=True)
        return few_seeds([rising(*(smoothed(log_eta[ok], v[ok]) for v in row)) for ok, *row in rows])

    return with_control(share(""), share("free_"), ORDER, "λ = 0, where no T(η) exists", predicted=1.0)


def same_state(energy: xr.DataArray) -> xr.DataArray:
    """Which runs [eta, seed] have U within 3 % of the median over the seeds; the others stay in a basin of their own."""
    return abs(energy / energy.median("seed") - 1) <= SAME_STATE


def smoothed(log_eta: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Values [η] averaged with a triangle of half-width 1 in log η."""
    weight = np.maximum(0, 1 - abs(log_eta[:, None] - log_eta) / SMOOTHING)
    return weight @ values / weight.sum(1)


def rising(energy: np.ndarray, entropy: np.ndarray) -> float:
    """Share of pairs of slopes dU/dS between neighbouring states [η] of which that at higher η is larger; NaN below 4 states."""
    if len(energy) < 4 or not np.isfinite([energy, entropy]).all():
        return np.nan
    slope = np.diff(energy) / np.diff(entropy)
    i, j = np.triu_indices(len(slope), 1)
    return float(np.mean(slope[j] > slope[i]))


def one_temperature(ordinary: xr.Dataset) -> Pair:
    """Largest distance from 1 of the ratio of the layers' gas temperatures; control: of r over the radius law, in any layer.

    ordinary: the dataset of `ordinary.ordinary`. Returns check, name of the control, control.
    """
    kept = ordinary.where(same_state(ordinary["U"])).transpose("seed", "eta", "layer", ...)
    ratio = kept["T_layer"].isel(layer=1) / kept["T_layer"].isel(layer=0)
    right, law = extreme(ratio.values - 1), extreme((kept["r"] / kept["r_pred"]).values - 1)
    return with_control(right, law, LAYER, "the radius law, which each layer obeys separately")


def effective_rate(ordinary: xr.Dataset) -> Pair:
    """Least steep exponent of η/r² in the number of steps over the last decade of training, among the learning rates.

    ordinary: the dataset of `ordinary.ordinary`. Returns check, name of the control, control.
    """

    def exponent(name: str, dim: str):
        late = ordinary[name].sel(time=ordinary["time"] >= ordinary["time"][-1] / 10).transpose("time", "seed", dim)
        log_rate = np.log(late.values).reshape(late.sizes["time"], -1)
        slopes = np.polyfit(np.log(late["time"].values), log_rate, 1)[0].reshape(late.shape[1:])
        return few_seeds(slopes[:, slopes.mean(0).argmax()])

    free, held = exponent("free_total_t", "eta"), exponent("sphere_total_t", "eta_sphere")
    return with_control(free, held, EXPONENT, "projected SGD", predicted=-0.5, relation="below")


def checks(ordinary: xr.Dataset, plateau: xr.Dataset) -> Mapping[str, Callable[[], Pair]]:
    """What decides each of the five claims, by id; called, it returns check, name of the control, control.

    ordinary, plateau: the datasets of the recipes of these names, two seeds or more.
    """
    return {
        "collapse.plateau.temperature": lambda: plateau_temperature(plateau),
        "collapse.plateau.early-warning": lambda: early_warning(plateau),
        "collapse.standard-net": lambda: standard_net(ordinary),
        "collapse.standard-net.one-temperature": lambda: one_temperature(ordinary),
        "collapse.effective-rate": lambda: effective_rate(ordinary),
    }
