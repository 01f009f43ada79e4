"""Scale-invariant networks on digits, on the unit sphere: what they are, what they learn, and where they begin.

The width decides: a narrow net cannot learn a third of redrawn labels by heart (underparameterised, UP), a wide one
can (overparameterised, OP). All learning rates of a seed are one batch of replicas. Source: arXiv:2505.23489.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from torch import nn

from thermolab.engine.experiment import Experiment
from thermolab.engine.rules import Count, integer, number
from thermolab.instruments.temperature import gas_temperature
from thermolab.systems import data, models
from thermolab.systems.network import NetworkOnData

UP, OP = 8, 32  # widths


@dataclass(frozen=True)
class Narrow:
    """The perceptron 64-h-h with a frozen head, every weight scale-invariant, on digits with redrawn labels.

    width: h; norm: of its layers, "batch" or "layer"; batch_size: B; label_noise: share of labels drawn anew; n_data: images.
    """

    width: Annotated[int, integer(4)] = UP  # normalised, two neurons know one number
    norm: Literal["batch", "layer"] = "batch"
    batch_size: Count = 32
    label_noise: Annotated[float, number(0, 1)] = 0.3
    n_data: Count = 256

    def begin(self, rates, *, seed: int, device: str, optimiser: str = "sgd", **knobs) -> Experiment:
        """Replicas on the unit sphere, one for each rate; knobs: of the optimiser."""
        net = system(self.width, norm=self.norm, label_noise=self.label_noise, n_data=self.n_data, optimiser=optimiser)
        weights = net.start(torch.arange(len(rates)), seed)
        weights = weights / torch.linalg.vector_norm(weights, dim=1, keepdim=True)
        return Experiment(net, eta=rates, batch_size=self.batch_size, seed=seed, weights=weights, device=device, **knobs)

    def attrs(self) -> dict:
        """What a dataset says of the network it comes from; dim: D, the number of trained weights."""
        known = {"width": self.width, "norm": self.norm, "batch_size": self.batch_size, "n_data": self.n_data}
        return {"dim": dimension(self.width)} | known


@dataclass(frozen=True)
class Wide(Narrow):
    """The same, wide enough to learn all labels by heart."""

    width: Annotated[int, integer(4)] = OP
    norm: Literal["batch", "layer"] = "layer"


def system(
    width: int, *, norm: str = "layer", label_noise: float = 0.3, n_data: int = 256, optimiser: str = "sgd"
) -> NetworkOnData:
    """The perceptron as a system."""
    module = models.scale_invariant_mlp((64, width, width), norm=norm)
    more = {} if optimiser == "sgd" else {"optimiser": optimiser}
    return NetworkOnData(module, data.digits(n_data, label_noise=label_noise), "sphere", **more)


def least_loss(network: Narrow) -> float:
    """The least loss that the frozen head allows under LayerNorm: each image with the features that suit its label best.

    A bound on the loss of any weights, in nats, which a net approaches that is wide enough to give an image any features; by
    gradient descent from 64 starts, to 1e-4. NaN with BatchNorm, where an image's features depend on its batch.
    """
    if network.norm == "batch":
        return math.nan
    net = system(network.width, label_noise=network.label_noise, n_data=network.n_data)
    *_, normalise, activate, head = net.replicas.module
    labels = torch.arange(head.out_features)
    places = torch.randn(64, len(labels), network.width, generator=torch.Generator().manual_seed(0)).requires_grad_()
    descent = torch.optim.Adam([places], lr=0.1)
    for _ in range(300):
        loss = nn.functional.cross_entropy(head(activate(normalise(places))).mT, labels.expand(64, -1), reduction="none")
        descent.zero_grad()
        loss.sum().backward()
        descent.step()
    return float(loss.detach().amin(0)[net.data.y].mean())


def dimension(width: int) -> int:
    """D, the number of trained weights."""
    return 64 * width + width * width


def derived(found: dict, rates, width: int) -> dict:
    """Signal-to-noise ratio and gas temperature beside what they come from: gradient_squared |∇L|² and trace Tr Σ."""
    snr = np.sqrt(np.maximum(found["gradient_squared"], 0) / np.where(found["trace"] > 0, found["trace"], np.nan))
    return found | {"snr": snr, "T_gas": gas_temperature(rates, found["trace"], dimension(width))}
