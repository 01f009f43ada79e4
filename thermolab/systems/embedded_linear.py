"""Embedded deep linear networks: their data, their views of it, their starts, and the features of their hidden layers.

    f(x) = M_out W_L … W_1 M_in Z x    with trainable W and frozen, invertible M_out, M_in, Z; loss |f - y|² without 1/2,

answers y = V x + ε, inputs x ~ N(0, Σ_x), independent noise ε ~ N(0, Σ_ε). Every network has a view of its own, M_in Z of the
inputs and M_out of the answers: its own units and mixtures of them, in which it sees what all see. Covariances are exact
(`regression`), so that closed forms have no sampling error.
Source: document 4, part 3; arXiv:2507.01098, which calls them EDLN.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from thermolab.systems.network import NetworkOnData
from thermolab.systems.regression import N_DATA, Answers, samples

SPECTRUM = (1.5, 1.3, 1.1, 0.9, 0.7)  # singular values of V
NOISE = (1.4, 1.15, 0.9, 0.7, 0.5)  # standard deviation of the noise of each answer
STRETCH = (0.6, 1.6)  # singular values of a frozen matrix: its condition number is 2.7, that of M_in Z up to 7
START = 0.7  # of the usual Gaussian start, whose √2 makes up for a ReLU


@dataclass(frozen=True)
class View:
    """Frozen matrices of a network: `inputs` M_in Z [d_x, d_x] and `answers` M_out [d_y, d_y]."""

    inputs: np.ndarray
    answers: np.ndarray


def view(d_x: int, d_y: int, *, stretch=STRETCH, seed: int = 0) -> View:
    """M_in, Z and M_out, each orthogonal · diag(stretch, evenly spaced) · orthogonal, at random."""
    rng = np.random.default_rng([seed, 5])
    z, m_in, m_out = (_invertible(d, stretch, rng) for d in (d_x, d_x, d_y))
    return View(m_in @ z, m_out)


def no_view(d_x: int, d_y: int) -> View:
    """M_in = Z = M_out = 1."""
    return View(np.eye(d_x), np.eye(d_y))


def _invertible(d: int, stretch, rng: np.random.Generator) -> np.ndarray:
    return orthogonal(d, rng) * np.linspace(*stretch, d) @ orthogonal(d, rng)


def orthogonal(d: int, rng: np.random.Generator) -> np.ndarray:
    """An orthogonal matrix [d, d], uniformly at random."""
    q, r = np.linalg.qr(rng.standard_normal((d, d)))
    return q * np.sign(np.diag(r))


def target(spectrum=SPECTRUM, d_x: int = 6, *, seed: int = 0) -> np.ndarray:
    """V [d_y, d_x] with these d_y singular values and random directions, the same for all networks of a seed."""
    rng, d_y = np.random.default_rng([seed, 6]), len(spectrum)
    return orthogonal(d_y, rng) * np.asarray(spectrum, float) @ orthogonal(d_x, rng)[:d_y]


def answers(v: np.ndarray, noise=NOISE, *, inputs=None, n_data: int = N_DATA, seed: int = 0) -> Answers:
    """x and y = V x + ε. v: [d_y, d_x]; noise, inputs: standard deviations of each component (default of inputs: 1).

    With noise 0 the gradient of a minibatch still differs from the mean, but no longer at the minimum.
    """
    scale = np.ones(v.shape[1]) if inputs is None else np.asarray(inputs, float)
    x, e = samples(scale, noise, n_data=n_data, seed=seed)
    return Answers(*(torch.tensor(a, dtype=torch.float32) for a in (x, x @ v.T + e)))


def probe(inputs, n: int = 256, *, seed: int = 0) -> torch.Tensor:
    """n fresh inputs [n, d_x], float64, with exact covariance diag inputs²: for a linear network CKA is then that of n = ∞."""
    return torch.from_numpy(samples(inputs, [], n_data=n, seed=seed + 2**32)[0])


def network(view: View, depth: int, width: int, data: Answers, **settings) -> NetworkOnData:
    """The embedded network of `depth` trainable matrices, `width` wide between them, without biases, on the data."""
    (d_y, _), (d_x, _) = view.answers.shape, view.inputs.shape
    widths = (d_x, *[width] * (depth - 1), d_y)
    trainable = [nn.Linear(a, b, bias=False) for a, b in itertools.pairwise(widths)]
    return NetworkOnData(
        nn.Sequential(_frozen(view.inputs), *trainable, _frozen(view.answers)), data, loss="squared", protocol="lr", **settings
    )


def _frozen(matrix: np.ndarray) -> nn.Linear:
    layer = nn.Linear(*matrix.shape[::-1], bias=False).requires_grad_(False)
    layer.weight.data = torch.tensor(matrix, dtype=torch.float32)
    return layer


def start(net: NetworkOnData, streams, seed: int, *, scale: float = START) -> torch.Tensor:
    """Gaussian weights [R, P], one row for each stream; equal streams start alike."""
    return scale * net.start(torch.as_tensor(streams), seed)


def gaussian(widths, scale: float, seed: int) -> list[np.ndarray]:
    """The same start for matrices in float64 without an engine: widths d_x, …, d_y, standard deviations scale · √(2/fan-in)."""
    rng = np.random.default_rng([seed, 8])
    return [scale * np.sqrt(2 / a) * rng.standard_normal((b, a)) for a, b in itertools.pairwise(widths)]


def products(matrices, first) -> list:
    """first, W_1 first, …, W_L … W_1 first, for W_1 … W_L and what they are multiplied by, arrays or tensors."""
    return list(itertools.accumulate(matrices, lambda found, w: w @ found, initial=first))


def matrices(net: NetworkOnData, weights: torch.Tensor) -> list[torch.Tensor]:
    """W_1 … W_L, each [R, out, in], float64."""
    return [w.double() for w in net.replicas.views(weights).values()]


def hidden(net: NetworkOnData, weights: torch.Tensor, x: torch.Tensor, *, ends: bool = False) -> list[torch.Tensor]:
    """Features [R, n, width] of the hidden layers for the inputs x [n, d], in float64.

    net: on any nn.Sequential. Hidden are the outputs of all activations; in a network without them, those of all trainable
    matrices but the last. weights: [R, P]. ends: also the first trainable layer's input, in front, and the last one's output.
    """
    own, layers = net.replicas.views(weights.double()), list(net.replicas.module.named_children())
    trained = [i for i, (name, _) in enumerate(layers) if f"{name}.weight" in own]
    active = [i for i, (_, layer) in enumerate(layers) if isinstance(layer, nn.ReLU | nn.Tanh)]
    wanted = active or trained[:-1]
    wanted = [trained[0] - 1, *wanted, trained[-1]] if ends else wanted
    h = x.double().expand(len(weights), *x.shape)
    found = {-1: h}
    for i, (name, layer) in enumerate(layers):
        if isinstance(layer, nn.Linear):
            w, b = own.get(f"{name}.weight", layer.weight), own.get(f"{name}.bias", layer.bias)
            h = h @ w.to(h).mT
            h = h if b is None else h + b.detach().to(h)[..., None, :]
        else:
            h = torch.vmap(layer)(h)
        found[i] = h.detach()
    return [found[i] for i in wanted]
