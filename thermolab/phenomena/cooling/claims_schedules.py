"""The claims on schedules of notebook 01, decided from the datasets of `schedules`, `endings` and `ratio`.

Tolerances stand here once and do not move with the data. "Lower" has none: a schedule ends lower or it does not. Decay of η
and growth of B may differ by a tenth of what cooling does, the difference to a run without it, in U and in S alike. At equal
η/B the neglected part is of order η times a mean curvature of about one: a tenth at η = 0.1, which is 0.1 in S, the logarithm
of a variance, and half of that, 5 %, in U, of which the noise makes up only a part.

Of the logarithm the source leaves open α and whether k counts epochs or steps. `log_schedule` takes the recipe's α, which is 1,
and epochs, which the source names first; `log_schedule_best` grants it the best of all α and both readings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import xarray as xr

from thermolab.claims import Pair, extreme, few_seeds, with_control

GROWTH = 0.1  # share of what cooling changes
ENERGY, ENTROPY = 0.05, 0.1  # relative, and in nats per weight
SMALL, LARGE = 0.1, 0.4  # η up to which η/B is to decide alone, and at which the control looks


def log_schedule(endings: xr.Dataset) -> Pair:
    """Final validation loss with the logarithm, k in epochs, minus that at constant η.

    endings: the dataset of `schedules.endings`; its attribute alpha says which α. Returns check, name of the control, control.
    """
    others = endings["U_val_arm"]
    log, constant = endings["U_val"].sel(reading="epochs", alpha=endings.attrs["alpha"]), others.sel(arm="constant")
    right, wrong = (few_seeds(ends - constant) for ends in (log, others.sel(arm="reversed")))
    return with_control(right, wrong, 0.0, "the same learning rates in reverse order", relation="below")


def log_schedule_best(endings: xr.Dataset) -> Pair:
    """Final validation loss with the best of the logarithms, over α and both readings of k, minus that with the cosine.

    The best is chosen by the mean over the seeds, on the same runs, which favours the claim.
    endings: the dataset of `schedules.endings`. Returns check, name of the control, control.
    """
    flat = endings["U_val"].stack(schedule=("reading", "alpha"))
    best = flat.isel(schedule=int(np.argmin(flat.mean("seed").values)))
    cosine, constant = (few_seeds(best.values - endings["U_val_arm"].sel(arm=arm).values) for arm in ("cosine", "constant"))
    return with_control(cosine, constant, 0.0, "the comparison with constant η", relation="below")


def decay_is_growth(schedules: xr.Dataset) -> Pair:
    """Largest difference of U or S between growth of B and decay of η, over what the decay changes, once cooling has begun.

    Compared are means over each stage of the cooling. schedules: the dataset of `schedules.schedules`.
    Returns check, name of the control, control.
    """
    rates = schedules["eta"].sel(arm="decay").values
    # without the highest rate: until it is lowered the three runs are one
    late = [schedules[["U", "S"]].isel(time=rates == rate).mean("time") for rate in np.unique(rates)[:-1]]
    stages = xr.concat(late, "stage").to_array()
    effect = stages.sel(arm="constant").mean("seed") - stages.sel(arm="decay").mean("seed")

    def off(arm: str):
        return extreme(((stages.sel(arm=arm) - stages.sel(arm="decay")) / effect).transpose("seed", ...).values)

    return with_control(off("growth"), off("constant"), GROWTH, "η and B both left as they are")


def eta_over_batch(ratio: xr.Dataset) -> Pair:
    """Largest distance, at η ≤ 0.1, of U or S from its mean over the batch sizes of the same η/B and seed, over its tolerance.

    Control: the cells at η = 0.4, from the same means. ratio: the dataset of `schedules.ratio`.
    Returns check, name of the control, control.
    """
    eta = ratio["eta"] * (1 - 1e-9)  # 64 times 1/640 is 0.1
    law = ratio.where(eta <= SMALL).mean("batch_size")
    off = np.stack([(ratio["U"] / law["U"] - 1) / ENERGY, (ratio["S"] - law["S"]) / ENTROPY], -1)  # [ratio, B, seed, 2]
    small, large = (np.moveaxis(off[cells.values], 1, 0) for cells in (eta <= SMALL, abs(ratio["eta"] / LARGE - 1) < 1e-6))
    return with_control(extreme(small), extreme(large), 1.0, "η = 0.4")


def checks(schedules: xr.Dataset, endings: xr.Dataset, ratio: xr.Dataset) -> Mapping[str, Callable[[], Pair]]:
    """What decides each of the four claims, by id; called, it returns check, name of the control, control.

    schedules, endings, ratio: the datasets of the recipes of these names, two seeds or more.
    """
    return {
        "cooling.log-schedule": lambda: log_schedule(endings),
        "cooling.log-schedule-best": lambda: log_schedule_best(endings),
        "cooling.decay-is-growth": lambda: decay_is_growth(schedules),
        "cooling.eta-over-batch": lambda: eta_over_batch(ratio),
    }
