"""The edge of stability under minibatches: what comes to 2/η is the batch sharpness, and λ_max stays below it.

A step on a batch B changes the loss of that very batch by -η |g|² + η² gᵀH_B g/2 + …, with g and H_B the gradient and the
Hessian of the same batch: beyond gᵀH_B g/|g|² = 2/η it goes up. The mean of this over batches, the batch sharpness, takes the
place that λ_max has in descent on all data (`edge`); λ_max of the whole loss is lower, the more so the smaller the batch.
Source: Andreyev & Beneventano, arXiv:2412.20553. Limit: the network must still sharpen by itself when it gets there. All labels
are drawn anew, for digits with their own labels are learnt, and sharpening is over, before that.

The source says "2/η" and no accuracy, and no accuracy is tested: where it settles depends a little on the batch size. Tested is
that it is the batch sharpness, not λ_max, that is there: of the logarithms of both, in units of 2/η and averaged over the last
third of a run, the first is to be less than HALF of the second. For λ_max a difference is `switch.CHANGE`.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
import xarray as xr

from thermolab.claims import Decision, Estimate, decides, few_seeds, pick, with_control
from thermolab.engine import rules
from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, Counts, Positive, positive, several
from thermolab.instruments.curvature import LargestCurvature, batch_sharpness
from thermolab.phenomena.progressive_sharpening import edge
from thermolab.phenomena.progressive_sharpening.switch import CHANGE
from thermolab.systems import models
from thermolab.systems.network import NetworkOnData

HALF = 0.5
PROBES = 50  # batches behind a batch sharpness


@recipe("SGD at the edge of stability", dims=("batch", "eta", "seed", "time"), over={"batch_sizes": "batch"})
def batch(
    batch_sizes: Counts = (8, 16),
    *,
    etas: Annotated[tuple[float, ...], several(positive(), 2, 2)] = (0.2, 0.002),
    n_data: Count = 150,
    widths: Counts = (32, 32),
    label_noise: Annotated[float, rules.number(0.0, 1.0)] = 1.0,
    scale: Positive = edge.SCALE,
    steps: Count = 4500,
    looks: Count = 9,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """SGD on n_data digits at each batch size and both rates from one start: batch sharpness and λ_max of the whole loss.

    etas: two rates, the smaller of which is meant to be too small for the time; widths: of the hidden layers; label_noise:
    share of labels drawn anew; scale: of the start, as in `edge`; steps: of each run; looks: measurements. Each seed has its own
    images.

    Returns a Dataset, dims (batch, eta, seed, time), time in steps: batch_sharpness, a mean over 50 batches; lambda_max of the
    loss over all data; U, mean loss since the measurement before.
    Raises ValueError for settings that are out of range. Source: arXiv:2412.20553.
    """
    rules.multiple(looks, "looks", steps=steps)
    (size,) = batch_sizes
    data = edge.answers(n_data, label_noise, seed=seed)
    net = NetworkOnData(models.mlp((64, *widths, 10), activation="tanh"), data, loss="squared")
    start = scale * net.start(torch.arange(1), seed).repeat(len(etas), 1)
    sharp = LargestCurvature(tolerance=edge.ACCURACY)
    run = Experiment(net, eta=list(etas), batch_size=size, weights=start, seed=seed, device=device, observables={"sharp": sharp})
    rows = []
    for frame in run.frames(steps // looks, until=steps):
        found = [batch_sharpness(net, w, size, n=PROBES, seed=2**32 * (1 + frame.step)).mean() for w in run.state.weights]
        rows.append((found, frame.observables["lambda_max"], frame.observables["U"]))
    values = {
        k: (("time", "eta"), v) for k, v in zip(("batch_sharpness", "lambda_max", "U"), np.moveaxis(rows, 1, 0), strict=True)
    }
    coords = {"eta": list(etas), "time": np.arange(1, looks + 1) * (steps // looks)}
    return xr.Dataset(values, coords=coords).expand_dims(batch=[size])


def late(data: xr.DataArray) -> xr.DataArray:
    """η/2 times a curvature (batch, eta, seed, time), a mean over the last third of each run, (seed, batch, eta)."""
    scaled = data * data["eta"] / 2
    return scaled.isel(time=slice(2 * data.sizes["time"] // 3, None)).mean("time", skipna=False).transpose("seed", "batch", "eta")


READS = ("batch_sizes", "etas", "n_data", "widths", "label_noise", "scale", "steps")


@decides("sharpening.batch.edge", reads=READS)
def nearer_to_its_edge(batch: xr.Dataset) -> Decision:
    """log of batch sharpness over that of λ_max, both in units of 2/η, sizes apart; the batch size that has most decides."""
    sharp, top = (abs(np.log(late(batch[name]))) for name in ("batch_sharpness", "lambda_max"))
    measured, control = (
        pick(max, map(few_seeds, (sharp / top).sel(eta=eta).values.T)) for eta in (batch["eta"].max(), batch["eta"].min())
    )
    name = f"η = {float(batch['eta'].min()):g}, too small for the time"
    return with_control(measured, control, 0.0, name, HALF, "below")


@decides("sharpening.batch.below", reads=READS)
def flatter_in_small_batches(batch: xr.Dataset) -> Decision:
    """log of λ_max from each batch size to the next, and from the largest to 2/η: the least of these steps."""
    sharp = np.log(late(batch["lambda_max"]).sortby("batch"))

    def least_step(eta) -> Estimate:
        up = np.concatenate([sharp.sel(eta=eta).values, np.zeros((sharp.sizes["seed"], 1))], 1)
        return pick(min, map(few_seeds, np.diff(up).T))

    name = f"η = {float(batch['eta'].min()):g}, at which no batch meets its edge"
    return with_control(least_step(batch["eta"].max()), least_step(batch["eta"].min()), 0.0, name, CHANGE, "above")
