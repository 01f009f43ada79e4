"""What is left of η and B at the same ratio η/B.

To first order in η a step is one of SGD at a temperature ∝ η/B in the time t = Σ η (`schedules`). At equal η/B, equal numbers of
examples take equally long in t. Weight decay is part of the drift, −η λ w a step: the same λ shrinks the weights equally, nothing
has to be adapted. Source: document 0, section 5 ("η_k/B_k ≈ const."); arXiv:1711.00489.

Tolerances stand here once and do not move with the data: at equal η/B the neglected part is of order η times a mean curvature of
about one: a tenth at η = 0.1, which is 0.1 in S, the logarithm of a variance, and half of that, 5 %, in U, of which the noise
makes up only a part.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import xarray as xr

from thermolab.claims import Decision, decides, extreme, with_control
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, NotNegative, Positive, Positives, multiple, power_of_two, several
from thermolab.phenomena.cooling.classifiers import N_TRAIN, Difficulty, Share
from thermolab.phenomena.cooling.schedules import READ, SPACING, begin, windows

ENERGY, ENTROPY = 0.05, 0.1  # relative, and in nats per weight
SMALL, LARGE = 0.1, 0.4  # η up to which η/B is to decide alone, and at which the control looks


@recipe("ratios of η and B", shared=["eta"], dims=("ratio", "batch_size", "seed"), over={"batch_sizes": "batch_size"})
def ratio(
    ratios: Positives = (1 / 640, 1 / 320, 1 / 160),
    batch_sizes: Annotated[Sequence[int], several(power_of_two(1, 128))] = (4, 8, 16, 32, 64, 128),
    *,
    lam: NotNegative = 3e-2,
    epochs: Count = 24,
    average: Count = 8,
    window: Count = 2,
    largest: Positive = 0.4,
    difficulty: Difficulty = "mid",
    label_noise: Share = 0.1,
    copies: Count = 5,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """The perceptron late in training at equal ratios η/B and several batch sizes, λ being the same for all (module docstring).

    ratios: η/B; batch_sizes: B; average: epochs at the end of which the numbers are means, a multiple of window, that of S in
    epochs, whose 16 snapshots are as many examples apart for every B; largest: η above which a cell is left empty.
    Late is not yet stationary where Σ η is small, but the time is the same for every B.

    Returns a Dataset, dims (ratio, batch_size, seed): U, U_val, accuracy and S as in `schedules`, NaN in an empty cell and
    where a run diverged; dims (ratio, batch_size): eta. Raises ValueError for settings that are out of range.
    """
    batch_size, eta = batch_sizes[0], np.array(ratios) * batch_sizes[0]
    kept = eta <= largest
    multiple(window, "window", average=average)
    if average > epochs:
        raise ValueError(f"average={average} is too long; allowed: a multiple of window={window} up to epochs={epochs}")
    if batch_size > SPACING * window:
        raise ValueError(f"window={window} is too short for batch_size={batch_size}; allowed: {batch_size // SPACING} or more")
    if not kept.any():
        raise ValueError(f"largest={largest} leaves nothing of batch_size={batch_size}; allowed: {eta.min():.3g} or more")
    rates = eta[kept]
    streams = np.tile(np.arange(copies), len(rates))  # the copies of every rate start alike
    settings = {"lam": lam, "batch_size": batch_size, "seed": seed, "device": device}
    run, held_out = begin(
        difficulty, label_noise, eta=np.repeat(rates, copies), replicas=len(streams), streams=streams, **settings
    )
    end, every = epochs * N_TRAIN // batch_size, SPACING * window // batch_size
    run.advance(end - average * N_TRAIN // batch_size)
    run.frame()  # U counts from here on
    rows = windows(run, [], range(run.state.step + every, end + 1, every), end, held_out)
    data = {k: (("ratio", "batch_size"), np.full((len(eta), 1), np.nan)) for k in READ}
    for k in READ:
        data[k][1][kept, 0] = np.mean([row[k] for row in rows], 0).reshape(len(rates), copies).mean(1)
    data["eta"] = (("ratio", "batch_size"), eta[:, None])
    return xr.Dataset(data, {"ratio": list(ratios), "batch_size": [batch_size]})


@decides("cooling.eta-over-batch", reads=["ratios", "batch_sizes", "epochs", "average", "window", "largest", "label_noise"])
def eta_over_batch(ratio: xr.Dataset) -> Decision:
    """Largest distance, at η ≤ 0.1, of U or S from its mean over the batch sizes of the same η/B and seed, over its tolerance.

    Control: the cells at η = 0.4, from the same means.
    """
    eta = ratio["eta"] * (1 - 1e-9)  # 64 times 1/640 is 0.1
    law = ratio.where(eta <= SMALL).mean("batch_size")
    off = np.stack([(ratio["U"] / law["U"] - 1) / ENERGY, (ratio["S"] - law["S"]) / ENTROPY], -1)  # [ratio, B, seed, 2]
    small, large = (np.moveaxis(off[cells.values], 1, 0) for cells in (eta <= SMALL, abs(ratio["eta"] / LARGE - 1) < 1e-6))
    return with_control(extreme(small), extreme(large), 1.0, "η = 0.4")
