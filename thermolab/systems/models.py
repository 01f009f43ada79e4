"""The networks of the book: ordinary modules, nothing in them knows of replicas.

Parameters that require no gradient are frozen: they are shared by all replicas and never move.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import nn

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh}
POSITION_SCALE = 0.02  # Dosovitskiy et al. (arXiv:2010.11929) and GPT-2: where a patch lies is learnt, not drawn
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
    return nn.Sequential(*layers, frozen_head(widths[-1], n_classes, head_norm))


def scale_invariant_cnn(
    channels=(8, 16), n_classes: int = 10, *, size: int = 8, activation: str = "relu", head_norm: float = 10.0
) -> nn.Sequential:
    """A fully scale-invariant convolutional network: the loss depends on the direction of the weights only.

    channels: of each 3×3 convolution of stride 2; all without bias and each followed by a normalisation over
        channels × space without affine parameters (so per-sample gradients exist) and the activation.
    size: side of the one-channel images in pixels, a multiple of 2^len(channels), flat or [B, 1, size, size].
    head_norm: Frobenius norm of the frozen random head.
    Returns a module from images to logits [B, n_classes].
    Raises ValueError if the images cannot be halved so often.
    Source: the recipe of arXiv:2505.23489 and arXiv:2511.07308 (ConvNet) on a smaller net.
    """
    side = _halved(size, len(channels))
    layers: list[nn.Module] = [AsImages(size)]
    for n_in, n_out in itertools.pairwise((1, *channels)):
        layers += [nn.Conv2d(n_in, n_out, 3, stride=2, padding=1, bias=False)]
        layers += [nn.GroupNorm(1, n_out, eps=EPSILON, affine=False), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers, nn.Flatten(), frozen_head(channels[-1] * side**2, n_classes, head_norm))


def frozen_head(width: int, n_classes: int, norm: float) -> nn.Linear:
    """A linear map without bias that is never trained, random but always the same, of Frobenius norm `norm`."""
    head = nn.Linear(width, n_classes, bias=False).requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    head.weight.data = torch.randn(head.weight.shape, generator=generator)
    head.weight.data *= norm / head.weight.data.norm()
    return head


def normalisation(kind: str, width: int) -> nn.Module:
    """Normalisation without affine parameters, over the batch or over the layer."""
    if kind == "batch":
        return nn.BatchNorm1d(width, eps=EPSILON, affine=False, track_running_stats=False)
    if kind == "layer":
        return nn.LayerNorm(width, eps=EPSILON, elementwise_affine=False)
    raise ValueError(f"norm={kind!r} is unknown; allowed: batch, layer")


class AsImages(nn.Module):
    """Images [B, 1, size, size] of one channel, from the same or from flat ones [B, size²]."""

    def __init__(self, size: int):
        super().__init__()
        self.size = size

    def forward(self, x):
        return x.reshape(-1, 1, self.size, self.size)

    def extra_repr(self) -> str:
        return str(self.size)


def _halved(size: int, times: int) -> int:
    """The side of an image after `times` convolutions of stride 2."""
    if times < 1 or size % 2**times:
        allowed = f"1 or more and a size that is a multiple of {2**times}"
        raise ValueError(f"{times} layers of stride 2 on images of size={size}; allowed: {allowed}: take fewer layers")
    return size // 2**times


def cnn(channels=(8, 16), n_classes: int = 10, *, size: int = 16, activation: str = "relu") -> nn.Sequential:
    """A small convolutional network: 3×3 convolutions of stride 2 with bias, then a linear head.

    channels: of each convolution. size: side of the one-channel images in pixels, a multiple of 2^len(channels);
        they come flat or as [B, 1, size, size].
    Returns a module from images to logits [B, n_classes].
    Raises ValueError if the images cannot be halved so often.
    """
    side = _halved(size, len(channels))
    layers: list[nn.Module] = [AsImages(size)]
    for n_in, n_out in itertools.pairwise((1, *channels)):
        layers += [nn.Conv2d(n_in, n_out, 3, stride=2, padding=1), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels[-1] * side**2, n_classes))


class Patches(nn.Module):
    """Square patches [B, tokens, patch²] of one-channel images, flat or [B, 1, size, size]."""

    def __init__(self, size: int, patch: int):
        super().__init__()
        self.size, self.patch = size, patch

    def forward(self, x):
        n = self.size // self.patch
        x = x.reshape(-1, n, self.patch, n, self.patch)
        return x.transpose(2, 3).reshape(-1, n * n, self.patch**2)

    def extra_repr(self) -> str:
        return f"{self.size}, patch={self.patch}"


class Positions(nn.Module):
    """Adds a learnt vector to each token."""

    def __init__(self, tokens: int, width: int):
        super().__init__()
        self.positions = nn.Parameter(POSITION_SCALE * torch.randn(tokens, width))

    def forward(self, x):
        return x + self.positions

    def extra_repr(self) -> str:
        return f"{tuple(self.positions.shape)}"


class Attention(nn.Module):
    """Multi-head self-attention in plain products: all of its operations have rules for vmap."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads, self.mix, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        q, k, v = self.mix(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each [B, heads, tokens, d]
        weight = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), -1)
        return self.out((weight @ v).transpose(1, 2).flatten(2))

    def extra_repr(self) -> str:
        return f"heads={self.heads}"


class Residual(nn.Module):
    """x + inner(x)."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return x + self.inner(x)


class Block(nn.Module):
    """A transformer layer, normalised before attention and perceptron (Xiong et al., arXiv:2002.04745).

    affine: whether the norms have gains and shifts.
    """

    def __init__(self, width: int, heads: int, affine: bool = True):
        super().__init__()
        norms = [nn.LayerNorm(width, elementwise_affine=affine) for _ in range(2)]
        self.norm1, self.attention = norms[0], Attention(width, heads)
        self.norm2, self.perceptron = norms[1], mlp((width, 4 * width, width))

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.perceptron(self.norm2(x))


class MeanToken(nn.Module):
    """The mean over the tokens: [B, tokens, width] to [B, width]."""

    def forward(self, x):
        return x.mean(1)


def tiny_transformer(
    width: int = 16, n_classes: int = 10, *, layers: int = 1, heads: int = 2, size: int = 16, patch: int = 4
) -> nn.Sequential:
    """A small vision transformer on square patches, without dropout: the mean of the tokens is read by a linear head.

    width: of a token; heads: of the attention, a divisor of it. layers: how many.
    size, patch: sides of the one-channel images (flat or [B, 1, size, size]) and of a patch in pixels.
    Returns a module from images to logits [B, n_classes].
    Raises ValueError if the patches do not tile the image or the heads do not share out the width.
    Source: Dosovitskiy et al., arXiv:2010.11929, with the mean of the tokens in place of a class token.
    """
    if patch < 1 or size % patch:
        raise ValueError(f"patch={patch} does not tile images of size={size}; allowed: a divisor of {size}")
    if heads < 1 or width % heads:
        raise ValueError(f"heads={heads} do not share out width={width}; allowed: a divisor of {width}")
    embedding = [Patches(size, patch), nn.Linear(patch**2, width), Positions((size // patch) ** 2, width)]
    blocks = [Block(width, heads) for _ in range(layers)]
    return nn.Sequential(*embedding, *blocks, nn.LayerNorm(width), MeanToken(), nn.Linear(width, n_classes))


def start_scale(name: str, parameter: torch.Tensor) -> float:
    """Standard deviation of a parameter's Gaussian start, from its name in the module and its shape.

    √(2/fan-in) for weights (He et al., arXiv:1502.01852; the fan-in of a convolution counts its pixels), √(1/fan-in)
    inside attention, where no activation follows, 0.02 for positions, 0 for biases and the gains of norms.
    """
    if parameter.dim() < 2:
        return 0.0
    if name.endswith("positions"):
        return POSITION_SCALE
    gain = 1.0 if "attention." in name else 2.0
    return math.sqrt(gain / parameter[0].numel())


def start_mean(name: str, parameter: torch.Tensor) -> float:
    """Mean of a parameter's start: 1 for the gain of a norm, the only weight with one dimension, else 0."""
    return float(parameter.dim() == 1 and name.rpartition(".")[2] == "weight")
