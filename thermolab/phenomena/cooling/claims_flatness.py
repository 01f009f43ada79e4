"""The claims of notebook 01 on flat minima and on the energy-entropy update, decided from the datasets of `flatness`.

Tolerances, which stand here once and do not move with the data. No theory says how much flatter a flat state is. "Flatter"
means λ_max and the trace both lower by a quarter at least: λ_max of a run changes by about a fifth from moment to moment, and
a difference within that says nothing. U is matched at 0.1 nats, by which every arm classifies 95 % of the images or more, and
which weight decay does not keep a run from. The rate at which a term of the update changes log |w| is exact to order ηλ, 0.3 %
by default: 1 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import xarray as xr

from thermolab.claims import Pair, few_seeds, with_control
from thermolab.phenomena.cooling.flatness import CURVATURES

FLATTER, MATCHED_U, RATE = 0.75, 0.1, 0.01
BAND = 2.0  # the line through a run takes the moments of U within this factor of MATCHED_U
LATE = 1 / 3  # share of the training time after which curvature only follows U


def eef_is_weight_decay(entropic: xr.Dataset) -> Pair:
    """Rate at which the λ_S term changes log |w| in one step, in units of η |λ_S|: -1 for weight decay.

    entropic: the dataset of `flatness.entropic`. Returns check, name of the control, control.
    """
    printed, other = (few_seeds(entropic["rate"].sel(sign=sign).mean("time")) for sign in (1, -1))
    return with_control(printed, other, RATE, "the update with +λθ inside the bracket, which is weight decay", predicted=-1.0)


def sam_flatter(flatness: xr.Dataset) -> Pair:
    """λ_max and trace of SAM over those of SGD at U = 0.1, the larger of the two ratios.

    flatness: the dataset of `flatness.flatness`. Returns check, name of the control, control.
    """

    def ratio(arm: str):
        ratios = [at_loss(flatness.sel(arm=arm), name) / at_loss(flatness.sel(arm="sgd"), name) for name in CURVATURES]
        return larger(*ratios)

    name = "SGD with weight decay in place of SAM, which is no flatter"
    return with_control(ratio("sam"), ratio("decay"), 0.0, name, predicted=FLATTER, relation="below")


def terminal_flatness(flatness: xr.Dataset) -> Pair:
    """λ_max and trace, over relative changes, of the end of plain SGD at the U of its sharpest moment, over those of that moment.

    The larger of the two ratios. The control compares the end with the state at a third of the time, at the same U.
    flatness: the dataset of `flatness.flatness`. Returns check, name of the control, control.
    """
    late = np.searchsorted(flatness["time"].values, LATE * float(flatness["time"][-1]))

    def ratio(since: Callable[[np.ndarray], np.ndarray]):
        found = (flatness["matched_" + name].transpose("seed", "time").values for name in CURVATURES)
        return larger(*(values[:, -1] / since(values) for values in found))

    whole, end = ratio(_first), ratio(lambda values: values[:, late])
    name = "the last two thirds of training, over which curvature merely follows the loss"
    return with_control(whole, end, 0.0, name, predicted=FLATTER, relation="below")


def _first(values: np.ndarray) -> np.ndarray:
    """The first finite number of each row [seed, time]: the sharpest moment, at its own U."""
    return values[np.arange(len(values)), np.isfinite(values).argmax(1)]


def at_loss(runs: xr.Dataset, name: str) -> np.ndarray:
    """A curvature [seed] at U = MATCHED_U: by a straight line of its logarithm over log U, through the moments of like U.

    runs: of one arm. NaN for a run in which these moments are not on both sides of MATCHED_U.
    """
    found = []
    for energy, values in zip(*(runs[k].transpose("seed", "time").values for k in ("U", name)), strict=True):
        x = np.log(energy / MATCHED_U)
        near = abs(x) <= math.log(BAND)
        passes = (x[near] < 0).any() and (x[near] > 0).any()
        found.append(math.exp(np.polyfit(x[near], np.log(values[near]), 1)[1]) if passes else math.nan)
    return np.array(found)


def larger(*ratios: np.ndarray) -> tuple[float, float]:
    """Mean and standard error of those ratios [seed] whose mean is the largest: flatter means flatter in both."""
    return max((few_seeds(r) for r in ratios), key=lambda found: (math.isnan(found[0]), found[0]))


def checks(flatness: xr.Dataset, entropic: xr.Dataset) -> Mapping[str, Callable[[], Pair]]:
    """What decides each of the three claims, by id; called, it returns check, name of the control, control.

    flatness, entropic: the datasets of the recipes of these names, two seeds or more.
    """
    return {
        "cooling.eef-is-weight-decay": lambda: eef_is_weight_decay(entropic),
        "cooling.sam-flatter": lambda: sam_flatter(flatness),
        "cooling.terminal-flatness": lambda: terminal_flatness(flatness),
    }
