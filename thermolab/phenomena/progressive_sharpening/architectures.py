"""Sharpening of a convolutional network and of a transformer, under gradient descent on all data and under SGD.

As for the perceptrons of `edge` and `batch` the start is flat, `edge.SCALE` of the usual weights: from those, in a trial
with one seed, λ_max fell first, a transformer's to a fifth, and what rises after that has no fixed beginning. At the settings
here the transformer comes to 2/η and a little above, the convolutional network is still on its way there; both are slower under
SGD. What counts as a rise is `switch.CHANGE`.
Source: document 4, part 4; Cohen et al., arXiv:2103.00065. Limit: 8×8 images of digits, the squared loss, some hundred steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import torch
import xarray as xr

from thermolab.claims import Decision, Estimate, decides, few_seeds, pick, with_control
from thermolab.engine import rules
from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, Positive, positive, several
from thermolab.instruments.curvature import LargestCurvature
from thermolab.phenomena.progressive_sharpening import edge
from thermolab.phenomena.progressive_sharpening.switch import CHANGE
from thermolab.systems import models
from thermolab.systems.full_batch import FullBatch
from thermolab.systems.network import NetworkOnData

SIZE = 8  # pixels of a side of a digit
NETWORKS = {
    "cnn": lambda: models.cnn(size=SIZE, activation="tanh"),
    "transformer": lambda: models.tiny_transformer(size=SIZE, patch=SIZE // 2),
}
DESCENTS = ("all data", "batches")


@recipe("sharpening of other networks", dims=("network", "descent", "eta", "seed", "time"), over={"networks": "network"})
def architectures(
    networks: Annotated[Sequence[str], several(rules.choice(*NETWORKS))] = tuple(NETWORKS),
    *,
    etas: Annotated[tuple[float, ...], several(positive(), 2, 2)] = (0.1, 0.001),
    n_data: Count = 80,
    parts: Count = 4,
    scale: Positive = edge.SCALE,
    steps: Count = 480,
    looks: Count = 6,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """λ_max along descent on all of n_data digits and along SGD, of each network at both rates from one start.

    networks: "cnn", convolutions of stride 2 with tanh, or "transformer", one layer on four patches; etas: two rates, the smaller
    of which is meant to be too small for the time; parts: a batch is n_data // parts images; scale: of the start, as in `edge`;
    steps: of each run; looks: measurements after the start. Each seed has its own images.

    Returns a Dataset, dims (network, descent, eta, seed, time), time in steps: lambda_max of the loss over all data (relative
    error 0.3 %) under "all data" and "batches". NaN where a run diverged.
    Raises ValueError for settings that are out of range, DivergenceError where every run diverged. Source: document 4, part 4.
    """
    rules.multiple(looks, "looks", steps=steps)
    (name,) = networks
    found, learnt = [], edge.answers(n_data, seed=seed)
    for descent in DESCENTS:
        make, more = (FullBatch, {}) if descent == "all data" else (NetworkOnData, {"batch_size": max(1, n_data // parts)})
        net = make(NETWORKS[name](), learnt, loss="squared")
        start = scale * net.start(torch.arange(1), seed).repeat(len(etas), 1)
        sharp = {"sharpness": LargestCurvature(tolerance=edge.ACCURACY)}
        run = Experiment(net, eta=list(etas), weights=start, seed=seed, device=device, observables=sharp, **more)
        frames = [run.frame(), *run.frames(steps // looks, until=steps)]
        found.append(np.transpose([frame.observables["lambda_max"] for frame in frames]))
    return xr.Dataset(
        {"lambda_max": (("descent", "eta", "time"), np.stack(found))},
        coords={"descent": list(DESCENTS), "eta": list(etas), "time": np.arange(looks + 1) * (steps // looks)},
    ).expand_dims(network=[name])


READS = ("etas", "n_data", "parts", "scale", "steps")


def _sharpens(data: xr.Dataset, network: Literal["cnn", "transformer"]) -> Decision:
    """log of the mean λ_max over the last third over that of the start, under the descent in which it is less."""
    sharp = np.log(data["lambda_max"].sel(network=network)).transpose("descent", "eta", "seed", "time")
    rise = sharp.isel(time=slice(-(sharp.sizes["time"] // 3), None)).mean("time", skipna=False) - sharp.isel(time=0)

    def least(eta) -> Estimate:
        return pick(min, map(few_seeds, rise.sel(eta=eta).values))

    return with_control(least(data["eta"].max()), least(data["eta"].min()), 0.0, "η too small for the time", CHANGE, "above")


@decides("sharpening.cnn", reads=READS)
def cnn_sharpens(architectures: xr.Dataset) -> Decision:
    """log of λ_max late over that at the start, of the convolutional network, under the descent in which it is less."""
    return _sharpens(architectures, "cnn")


@decides("sharpening.transformer", reads=READS)
def transformer_sharpens(architectures: xr.Dataset) -> Decision:
    """log of λ_max late over that at the start, of the transformer, under the descent in which it is less."""
    return _sharpens(architectures, "transformer")
