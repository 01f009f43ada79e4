"""Two-layer and deep networks that learn a teacher from noisy answers: the data, the teacher, the matrices of the layers.

Inputs x ~ N(0, Σ_x), answers y = teacher(x) + ε with independent ε ~ N(0, diag σ_i²), loss |f - y|² without 1/2. The data
are so many that no network here learns noise: the minimum over them is the teacher. Covariances are exact: inputs and
noise of a data set are turned until their second moments are those asked for, so a closed form has no sampling error.

A neuron's weights are u, the row of W₁ with its bias, and w, its column of W₂: a ReLU neuron computes the same when u is
multiplied by c and w divided by c, so each SGD step changes |u|² - |w|² by η²(|g_u|² - |g_w|²) (notebook 00).
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import nn

from thermolab.systems import models
from thermolab.systems.network import NetworkOnData
from thermolab.systems.regression import N_DATA, Answers, samples

ACTIVATIONS = ("relu", "tanh", "linear")


def teacher(d_x: int, width: int, d_y: int, activation: str, *, strength: float = 1.5, seed: int = 0) -> nn.Sequential:
    """The network that draws the answers: every neuron has |u| = |w| = √strength without its bias of 0.3 |u|, random directions.

    Directions are orthogonal as far as the dimensions allow, so that no neuron does the work of another.
    """
    net, generator = network((d_x, width, d_y), activation), torch.Generator().manual_seed(seed)
    first, second = (torch.randn(n, width, generator=generator) for n in (d_x, d_y))
    with torch.no_grad():
        for layer, matrix in ((net[0], first), (net[-1], second)):
            q = torch.linalg.qr(matrix)[0] if len(matrix) >= width else matrix / matrix.norm(dim=0)
            layer.weight.copy_(strength**0.5 * (q.T if layer is net[0] else q))
        if net[0].bias is not None:
            net[0].bias.copy_(0.3 * strength**0.5 * torch.randn(width, generator=generator).sign())
    return net


def network(widths, activation: str) -> nn.Sequential:
    """Layers of these widths, each but the last with a bias; a linear network has none, and nothing between its layers."""
    if activation == "linear":
        return nn.Sequential(*(nn.Linear(a, b, bias=False) for a, b in itertools.pairwise(widths)))
    net = models.mlp(widths, activation=activation)
    net[-1] = nn.Linear(*widths[-2:], bias=False)
    return net


def student(widths, answer, activation: str, noise, *, inputs=None, n_data: int = N_DATA, seed: int = 0) -> NetworkOnData:
    """A network that learns answer(x) + noise. answer: a function of x [N, d_x] float64; noise, inputs: as in `samples`."""
    x, e = samples(np.ones(widths[0]) if inputs is None else inputs, noise, n_data=n_data, seed=seed)
    data = Answers(*(torch.tensor(v, dtype=torch.float32) for v in (x, answer(x) + e)))
    return NetworkOnData(network(widths, activation), data, "lr", loss="squared")


def weight_matrices(net: NetworkOnData, weights: torch.Tensor) -> list[torch.Tensor]:
    """Matrices of the layers [R, out, in], float64, the bias as a last column of its layer."""
    found = net.replicas.views(weights.double())
    names = [k.removesuffix(".weight") for k in found if k.endswith(".weight")]
    biases = [found.get(f"{k}.bias") for k in names]
    return [
        found[f"{k}.weight"] if b is None else torch.cat([found[f"{k}.weight"], b[..., None]], -1)
        for k, b in zip(names, biases, strict=True)
    ]
