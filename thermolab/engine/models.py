"""The networks of the book: ordinary modules, nothing in them knows of replicas.

Parameters that require no gradient are frozen: they are shared by all replicas and never move.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import nn

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh}
EPSILON = 1e-12  # weights of norm 1 make pre-activations small: the usual 1e-5 would spoil the scale invariance


def mlp(widths, *, activation: str = "relu", bias: bool = True) -> nn.Sequential:
    """A plain multilayer perceptron, widths such as (64, 64, 10)."""
    layers: list[nn.Module] = []
    for i, (n_in, n_out) in enumerate(itertools.pairwise(widths)):
        layers += [ACTIVATIONS[activation]()] if i else []
        layers += [nn.Linear(n_in, n_out, bias=bias)]
    return nn.Sequential(*layers)


def scale_invariant_mlp(
    widths, n_classes: int = 10, *, norm: str = "batch", activation: str = "relu", head_norm: float = 10.0
) -> nn.Sequential:
    """A fully scale-invariant perceptron: the loss depends on the direction of the weights only.

    Each of the linear maps widths[0] -> widths[1] -> … (no bias) is followed by a normalisation without affine
    parameters ("batch" or "layer") and the activation; a frozen random head of Frobenius norm `head_norm`
    reads the logits. The recipe of arXiv:2505.23489 and arXiv:2511.07308 on a smaller net.
    Limit: with "batch" a sample's loss depends on its batch, so per-sample gradients do not exist.
    """
    layers: list[nn.Module] = []
    for n_in, n_out in itertools.pairwise(widths):
        layers += [nn.Linear(n_in, n_out, bias=False), normalisation(norm, n_out), ACTIVATIONS[activation]()]
    head = nn.Linear(widths[-1], n_classes, bias=False).requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    head.weight.data = torch.randn(head.weight.shape, generator=generator)
    head.weight.data *= head_norm / head.weight.data.norm()
    return nn.Sequential(*layers, head)


def normalisation(kind: str, width: int) -> nn.Module:
    """Normalisation without affine parameters, over the batch or over the layer."""
    if kind == "batch":
        return nn.BatchNorm1d(width, eps=EPSILON, affine=False, track_running_stats=False)
    if kind == "layer":
        return nn.LayerNorm(width, eps=EPSILON, elementwise_affine=False)
    raise ValueError(f"norm={kind!r} is unknown; allowed: batch, layer")


def start_scale(name: str, parameter: torch.Tensor) -> float:
    """Standard deviation of a parameter's Gaussian start: He's 2/fan-in for weights, 0 for biases."""
    return math.sqrt(2 / parameter[0].numel()) if parameter.dim() > 1 else 0.0
