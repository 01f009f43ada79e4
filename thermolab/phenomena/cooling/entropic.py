"""What the energy-entropy update does to the weights: w <- w - η (g - λ_S w), printed as weight decay (document 0, eq. 4).

With λ_S > 0 it multiplies them by 1 + ηλ_S a step. That is the descent of F for an S that grows with the log-variance of the
weights, whose gradient points along them as long as their mean is small, and the opposite of weight decay.
Limit of validity: the rate at which a term of the update changes log |w| is exact to order ηλ, 0.3 % by default; RATE, the
tolerance of the claim, is 1 % and does not move with the data.
"""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr

from thermolab.claims import Decision, decides, few_seeds, with_control
from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, Positive
from thermolab.instruments import spread
from thermolab.phenomena.cooling.classifiers import Difficulty, Share, Width, evaluate, system
from thermolab.systems.network import NetworkOnData
from thermolab.systems.replicas import Replicas

SIGNS = (1, 0, -1)  # of λ_S: as printed, none, weight decay
RATE = 0.01


@recipe("entropic updates", shared=["growth"], dims=("sign", "time", "seed"))
def entropic(
    *,
    eta: Positive = 0.1,
    batch_size: Count = 32,
    lam_entropy: Positive = 0.03,
    epochs: Count = 30,
    width: Width = 32,
    difficulty: Difficulty = "mid",
    label_noise: Share = 0.0,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """The energy-entropy update w <- w - η (g - λ_S w) with λ_S of either sign and with none, from one start on equal batches.

    lam_entropy: |λ_S|; epochs: a measurement after each.

    Returns a Dataset, dims (sign, time, seed), sign +1 as printed, 0, -1 weight decay; time in epochs from 0 on: r2 = |w|²,
    U and accuracy on the training images, S: mean log-variance of the entries of a weight tensor, cosine: of ∇S with the
    weights of a tensor, the least of all tensors; rate: by which the term alone changes log |w| in one step, in units of
    η |λ_S| (0 for sign 0); (sign, time): growth (1 + η λ_S)^(2k) of r2 without a gradient.
    Raises ValueError for settings that are out of range. Source: document 0, eq. 4.
    """
    net = system(width=width, difficulty=difficulty, label_noise=label_noise, optimiser="eef")
    knobs = {"eta": eta, "batch_size": batch_size, "seed": seed, "device": device}
    strengths, streams, rows = lam_entropy * np.array(SIGNS), [0] * len(SIGNS), []
    epoch, time = len(net.data) // batch_size, np.arange(epochs + 1)
    run = Experiment(net, lam_entropy=strengths, streams=streams, **knobs)
    for _ in time:
        weights = run.state.weights
        with_term, without = (_step(net, weights, s, streams, knobs) for s in (strengths, 0.0))
        push = ((with_term - without) * weights).double().sum(1) / weights.double().square().sum(1)
        energy, right = evaluate(net.replicas, weights, net.data)
        rows.append({
            "r2": weights.double().square().sum(1).cpu().numpy(), "U": energy, "accuracy": right,
            "S": spread.entries(weights, net.replicas.views), "cosine": entropy_cosine(net.replicas, weights),
            "rate": push.cpu().numpy() / (eta * lam_entropy),
        })  # fmt: skip
        run.advance(epoch)
        run.raise_if_diverged()
    data = {name: (("time", "sign"), [row[name] for row in rows]) for name in rows[0]}
    growth = (1 + eta * lam_entropy * np.array(SIGNS))[:, None] ** (2 * time * epoch)
    return xr.Dataset(data | {"growth": (("sign", "time"), growth)}, {"sign": [*SIGNS], "time": time})


def _step(net: NetworkOnData, weights: torch.Tensor, strength, streams, knobs) -> torch.Tensor:
    """Weights after one step from these, on the same batch whatever λ_S is."""
    once = Experiment(net, weights=weights, lam_entropy=strength, streams=streams, **knobs)
    once.advance(1)
    return once.state.weights


def entropy_cosine(replicas: Replicas, weights: torch.Tensor) -> np.ndarray:
    """Cosine [R] of ∇S with the weights of each tensor, the least of all; S: mean log-variance of the entries of a tensor."""
    with torch.enable_grad():
        tensors = [v.detach().double().requires_grad_() for v in replicas.views(weights).values() if v.dim() > 2]
        s = torch.stack([t.flatten(1).var(1, correction=0).log() for t in tensors]).mean(0)
        slopes = torch.autograd.grad(s.sum(), tensors)
    pairs = zip(slopes, tensors, strict=True)
    cosines = [torch.cosine_similarity(g.flatten(1), t.detach().flatten(1), dim=1) for g, t in pairs]
    return torch.stack(cosines).amin(0).cpu().numpy()


@decides("cooling.eef-is-weight-decay", reads=["lam_entropy", "epochs", "width", "label_noise"])
def eef_is_weight_decay(entropic: xr.Dataset) -> Decision:
    """Rate at which the λ_S term changes log |w| in one step, in units of η |λ_S|: -1 for weight decay."""
    printed, other = (few_seeds(entropic["rate"].sel(sign=sign).mean("time")) for sign in (1, -1))
    return with_control(printed, other, RATE, "the update with +λθ inside the bracket, which is weight decay", predicted=-1.0)
