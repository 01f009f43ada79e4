"""Batches drawn as theory has them, independently, and as a DataLoader draws them: in epochs, without replacement.

In an epoch of M batches the noise adds up to zero: two steps of one epoch have the covariance -C/(M - 1), steps of two epochs
none. Along a direction of curvature h that is slow on that scale the weights feel only what has not yet been taken back, and
their stationary variance falls to about η h M/3 of that of independent batches (`theory.epoch_variance`, exact for noise that
does not depend on the weights). Measured on least squares, a linear network on principal components of digits, scaled so that
the Hessian is diagonal with curvatures that are set. There the batches' own Hessians add a noise that does depend on the
weights and does not add up to zero. It is small, (η/2B) Σ h ρ of the variance of independent batches, with ρ the ratios to it;
of the ρ = 0.03 of the slowest direction that is 1 % at the settings here, and of what is left at the ends of an epoch a half.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
import xarray as xr

from thermolab.claims import Decision, decides, extreme, with_control
from thermolab.engine import rules
from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, Positive, Positives
from thermolab.phenomena.ideal_gas import theory
from thermolab.systems import data, models
from thermolab.systems.network import NetworkOnData
from thermolab.systems.regression import Answers

TOLERANCE = 0.1
RELAXATIONS = 4  # of the slowest direction before the window; all but e^-8 of its variance is there by then


def answers(curvatures, n_data: int, *, seed: int = 0) -> Answers:
    """Digits as least squares: principal components x [N, d] with 2 xᵀx/N = diag curvatures, and centred one-hot classes [N, 10].

    Raises ValueError for more curvatures than images have pixels that vary.
    """
    images = data.digits(n_data, seed=seed)
    u, s, _ = np.linalg.svd(images.x.double().numpy() - images.x.double().numpy().mean(0), full_matrices=False)
    if len(curvatures) > (rank := int((s > 1e-6 * s[0]).sum())):
        raise ValueError(f"{len(curvatures)} curvatures; allowed: up to {rank}, the directions in which {n_data} images differ")
    x = u[:, : len(curvatures)] * np.sqrt(n_data * np.asarray(curvatures) / 2)
    y = torch.nn.functional.one_hot(images.y, images.n_classes).double()
    return Answers(torch.tensor(x, dtype=torch.float32), (y - y.mean(0)).float())


@recipe("batches with and without replacement", shared=["predicted"], dims=("batches", "curvature", "position", "seed"))
def epochs(
    curvatures: Positives = (0.2, 0.8, 3.2),
    *,
    eta: Positive = 0.01,
    batch_size: Count = 16,
    length: Annotated[int, rules.integer(2)] = 50,
    window: Count = 100,
    replicas: Count = 8,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """Stationary scatter of a linear network about the least squares, from independent batches and from epochs.

    curvatures: h, of each direction; length: M, batches in an epoch, of batch_size · M images; window: in epochs, rounded up to
    a multiple of M. All places in an epoch are looked at equally often. Each seed has its own images.

    Returns a Dataset, dims (batches, curvature, position, seed), batches "with" or "without" replacement, position: steps since
    the epoch began: variance, mean square distance from the least squares along each direction over the closed form of
    independent batches, a mean over outputs; predicted (batches, curvature, position), the same in theory.
    Raises ValueError for settings that are out of range or more curvatures than there are directions, DivergenceError.
    """
    learnt = answers(curvatures, batch_size * length, seed=seed)
    x, y = learnt.x.double().numpy(), learnt.y.double().numpy()
    best = np.linalg.lstsq(x, y, rcond=None)[0]
    scatter = 4 / batch_size * np.einsum("ik,ij->k", x**2, (y - x @ best) ** 2) / len(x)  # of a batch's gradient, over outputs
    rate, looks = eta * np.asarray(curvatures), length * -(-window // length)
    independent = eta**2 * scatter / theory.contraction(rate)
    burn_in = int(RELAXATIONS / rate.min())
    burn_in += length - burn_in % length
    found = np.zeros((2, len(rate), length))
    for arm, replacement in enumerate((True, False)):
        module = models.mlp((len(rate), y.shape[1]), bias=False)
        net = NetworkOnData(module, learnt, loss="squared", replacement=replacement)
        start = torch.tensor(best.T.ravel(), dtype=torch.float32).repeat(replicas, 1)
        run = Experiment(net, eta=eta, batch_size=batch_size, weights=start, seed=seed, device=device)
        run.advance(burn_in)
        for look in range(looks):
            off = run.state.weights.double().cpu().numpy().reshape(replicas, -1, len(rate)) - best.T
            found[arm, :, run.state.step % length] += (off**2).sum(1).mean(0)
            if look < looks - 1:
                run.advance(length + 1)  # from place to place
        run.raise_if_diverged()
    finite = (len(x) - batch_size) / (len(x) - 1)  # the variance of a batch without replacement, of one with it
    epoch = np.stack([finite * theory.epoch_variance(r, length) * theory.contraction(r) for r in rate])
    dims = ("batches", "curvature", "position")
    return xr.Dataset(
        {
            "variance": (dims, found * (length / looks) / independent[:, None]),
            "predicted": (dims, np.stack([np.ones_like(epoch), epoch])),
        },
        coords={"batches": ["with", "without"], "curvature": list(curvatures), "position": np.arange(length)},
        attrs={"eta": eta, "length": length},
    )


@decides("ideal-gas.replacement", reads=["curvatures", "eta", "batch_size", "length"])
def scatters_less(epochs: xr.Dataset) -> Decision:
    """log of the variance, a mean over the epoch, over the closed form without replacement; the worst direction decides."""
    known = epochs["predicted"].sel(batches="without").mean("position")
    off = np.log(epochs["variance"].mean("position") / known).transpose("batches", "seed", "curvature")
    right, wrong = (extreme(off.sel(batches=name)) for name in ("without", "with"))
    return with_control(right, wrong, TOLERANCE, "independent batches of the same data, drawn with replacement")
