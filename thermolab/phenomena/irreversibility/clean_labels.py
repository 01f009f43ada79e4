"""Gradient norms at equal loss on labels without noise, by the share of the largest stable rate.

On clean labels nothing keeps the loss up: S = E|∇l|² falls with it, nearly in proportion, whatever the rate. What a large rate
does beyond that is seen at equal loss alone. Large is a rate against 2/λ_max, at which a step of full gradient descent becomes
unstable; λ_max is that of the start that all arms share.
Source: document 4, part 1, slide "Implication". Limit: small perceptrons on digits with squared loss |f − y|²; nothing here is a
theorem.

The tolerance stands here once and does not move with the data: S must shrink by more than EQUAL, 1 %, by which losses that count
as equal may differ. The largest share is the largest of the eighths at which no start was lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
import xarray as xr

from thermolab.claims import Decision, decides, with_control
from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, Positive, number, several
from thermolab.instruments import curvature
from thermolab.phenomena.irreversibility.continual import EQUAL, FLOOR, FLOW, N_TRAIN, gradient_norms, shrunk
from thermolab.systems import data, models
from thermolab.systems.data import Dataset
from thermolab.systems.network import NetworkOnData

LAST = {"eta": 0.005, "batch_size": 64}  # of all arms: what the larger rates fluctuate goes
SETTLE, MORE, OFTEN = 1000, 60, 200  # steps at that rate for each, and of those that are behind at a time, that often at most
Shares = Annotated[Sequence[float], several(number(0.001, 1))]


@recipe("gradient norms on clean labels", dims=("share", "seed"))
def clean_labels(
    shares: Shares = (1 / 8, 1 / 4, 3 / 8),
    *,
    batch_size: Count = 16,
    width: Count = 32,
    duration: Positive = 60.0,
    replicas: Count = 4,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """One perceptron, trained for a while, from where it goes on at several rates and along the gradient flow, to equal loss.

    shares: η of SGD over 2/λ_max; duration: η · steps; replicas: starts of each seed, the same for all arms. The flow is SGD at
    η = 0.02 on batches of 256. All arms end with the same steps at a small rate, and those that are behind go on until they have
    the least loss of all. Starts of which an arm diverged are left out in all arms.

    Returns a Dataset. Dims (share, seed): U and S at the end, the loss and E|∇l|² over all data, S as the mean of its logarithm
    over the starts, exponentiated; for the flow: flow_U, flow_S. (seed): limit, 2/λ_max; lost, the share of starts left out.
    Raises ValueError for settings that are out of range. Source: document 4, part 1.
    """
    digits = data.digits(N_TRAIN)
    targets = torch.nn.functional.one_hot(digits.y, 10).float()
    net = NetworkOnData(models.mlp((64, width, 10)), Dataset(digits.x, targets), "lr", loss="squared")
    warm = Experiment(net, eta=FLOOR[0][0], batch_size=batch_size, seed=seed, replicas=replicas, device=device)
    for eta, steps in FLOOR:
        warm.set(eta=eta)
        warm.advance(steps)
    limit = 2 / max(sharpness(net, w) for w in warm.state.weights)
    runs = []
    for knobs in [*({"eta": share * limit, "batch_size": batch_size} for share in shares), FLOW]:
        run = Experiment(net, seed=seed, weights=warm.state.weights, device=device, **knobs)
        run.advance(max(1, round(duration / knobs["eta"])))
        run.set(**LAST)
        run.advance(SETTLE)
        runs.append(run)
    alive = torch.stack([run.state.diverged < 0 for run in runs]).all(0)

    def read(run) -> tuple[float, float]:
        energy, square, _ = gradient_norms(net, run.state.weights[alive])
        return float(energy.mean()), float(square.log().mean().exp())

    least = min(read(run)[0] for run in runs)
    for run in runs:
        for _ in range(OFTEN):
            if not read(run)[0] > least * (1 + EQUAL / 4):
                break
            run.advance(MORE)
    u, s = np.array([read(run) for run in runs]).T
    found = {"U": ("share", u[:-1]), "S": ("share", s[:-1]), "flow_U": u[-1], "flow_S": s[-1]}
    found |= {"limit": limit, "lost": 1 - float(alive.double().mean())}
    return xr.Dataset(found, {"share": [*shares]})


def sharpness(net, weights: torch.Tensor) -> float:
    """λ_max of the loss over all data at weights [P]."""
    return curvature.largest_eigenvalue(curvature.HessianProducts(net.replicas, weights, net.data.x, net.data.y)).value


@decides("irreversibility.large-rate-regularises.clean", reads=["shares", "batch_size", "width", "duration"])
def large_rate_regularises_clean_labels(clean_labels: xr.Dataset) -> Decision:
    """Logarithm of S = E|∇l|² at the largest share of 2/λ_max over that at the smallest, undecided unless losses are equal."""
    name = "gradient flow at the same losses, in place of the large rate"
    measured, control = shrunk(clean_labels, "share"), shrunk(clean_labels, "share", flow=True)
    return with_control(measured, control, 0.0, name, predicted=-EQUAL, relation="below")
