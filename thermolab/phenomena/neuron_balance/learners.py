"""Networks of four architectures, each with a noisy teacher of its own kind to learn, and starts off balance.

A perceptron, a ConvNet (and the same with tanh in place of its pooling), a residual network and a transformer, all so small that
balance can be waited for.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
from torch import nn

from thermolab.instruments import symmetry
from thermolab.systems import models, random
from thermolab.systems.network import NetworkOnData
from thermolab.systems.regression import Answers
from thermolab.systems.replicas import Replicas

Arm = Literal["transformer", "cnn", "cnn_tanh", "resnet", "mlp"]
ARMS = get_args(Arm)  # those first that take longest, so that no worker waits for the last one
INPUTS, OUTPUTS, SIZE, TOKENS = 4, 6, 8, 3  # inputs of a vector or token, outputs, side of an image, tokens of a sequence
N_DATA = 20_000
BIAS = 0.3  # standard deviation of the teacher's biases
LEAK = 0.3  # slope of LeakyReLU below 0: a unit that is seldom above 0 balances slowly
BALANCING, PROBES = 30, 100  # rounds of rescaling all pairs; streams that E g² at the start is read from
VALUES = 3.0  # times the usual values and output map of the teacher: with small ones queries and keys hardly matter
SKEW = (0.0, 0.3)  # range of the log of the factor by which u starts longer and w shorter, for each unit
SIZE_OF_TEACHER = {"transformer": 0.6, "resnet": 0.7}


def network(arm: str) -> nn.Module:
    """The module of an arm; "cnn_tanh" is the ConvNet with tanh in place of its pooling."""
    if arm == "mlp":
        return models.mlp((INPUTS, 12, 10, OUTPUTS))
    if arm in ("cnn", "cnn_tanh"):
        pools, n = ((nn.AvgPool2d(2), nn.MaxPool2d(2)), 4) if arm == "cnn" else ((nn.Tanh(), nn.Tanh()), 100)
        first = [nn.Conv2d(1, 3, 3), nn.LeakyReLU(LEAK), pools[0], nn.Conv2d(3, 4, 2), nn.LeakyReLU(LEAK), pools[1]]
        return nn.Sequential(models.AsImages(SIZE), *first, nn.Flatten(), nn.Linear(n, OUTPUTS))
    if arm == "resnet":
        inner = [nn.Sequential(nn.Linear(4, 4), nn.LeakyReLU(LEAK), nn.Linear(4, 4)) for _ in range(2)]
        return nn.Sequential(nn.Linear(INPUTS, 4), *map(models.Residual, inner), nn.Linear(4, OUTPUTS))
    if arm == "transformer":
        return nn.Sequential(nn.Linear(INPUTS, 6), models.Block(6, 2, affine=False), models.MeanToken(), nn.Linear(6, OUTPUTS))
    raise ValueError(f"arm={arm!r} is unknown; allowed: {', '.join(ARMS)}")


def learner(arm: str, noise_std: float, n_data: int, seed: int) -> tuple[NetworkOnData, torch.Tensor]:
    """A network of an arm on bounded inputs, and the weights [P] of its teacher, which the answers follow up to Gaussian noise.

    The teacher has biases other than 0, outputs of unit mean square, and balanced squared gradients in every pair.
    """
    image = (SIZE**2,)
    shape = {"transformer": (TOKENS, INPUTS), "cnn": image, "cnn_tanh": image}.get(arm, (INPUTS,))
    generator, module = torch.Generator().manual_seed(seed), network(arm)
    x = (2 * torch.rand((n_data, *shape), generator=generator) - 1) * 3**0.5  # a Gaussian input far out can throw a network
    replicas, streams = Replicas(module, "squared"), torch.zeros(1, dtype=torch.long)
    normals = random.normals(seed, streams, 0, 1, replicas.n_parameters, purpose=random.START)[0]
    weights = replicas.start(normals)
    weights = SIZE_OF_TEACHER.get(arm, 1.0) * torch.where(weights == 0, BIAS * normals, weights)[0]
    with torch.no_grad():
        nn.utils.vector_to_parameters(weights, module.parameters())
        for part in (m for m in module.modules() if isinstance(m, models.Attention)):
            for maps in (part.mix.weight[-len(part.out.weight) :], part.out.weight):
                maps *= VALUES
        size = module(x).square().mean().sqrt()
        for part in module[-1].parameters():
            part /= size
        y = module(x)
        weights = nn.utils.parameters_to_vector(module.parameters())
    noise = torch.randn(y.shape, generator=generator)
    loud = NetworkOnData(module, Answers(x, y + noise), loss="squared")
    g = loud.gradients(weights.expand(PROBES, -1), PROBES, 1, seed, torch.arange(PROBES))
    weights = balanced(symmetry.pairs(module), weights, g.square().mean((0, 1)))
    return NetworkOnData(module, Answers(x, y + noise_std * noise), loss="squared"), weights


def balanced(pairs: list[symmetry.Pair], weights: torch.Tensor, squares: torch.Tensor) -> torch.Tensor:
    """Weights [P], rescaled until E|g_u|² = E|g_w|² for every unit, where squares [P] are the E g² to begin with.

    Over and over, for to rescale one pair moves the next. Gradients change the other way round. A unit that no input
    activates has no gradients and stays as it is.
    """
    for pair in BALANCING * pairs:
        u, w = symmetry.squared_norms(pair, squares)
        ratio = torch.where((u > 0) & (w > 0), u / w, 1.0)
        weights, squares = (symmetry.rescale(pair, v, ratio**power) for v, power in ((weights, 0.25), (squares, -0.5)))
    return weights


def skewed(pairs: list[symmetry.Pair], weights: torch.Tensor, seed: int | list[int]) -> torch.Tensor:
    """Weights [P] of the same function, u of each unit times a factor and w over it, log-uniform in `SKEW`."""
    rng = np.random.default_rng(seed)
    for pair in pairs:
        weights = symmetry.rescale(pair, weights, np.exp(rng.uniform(*SKEW, len(pair.incoming))))
    return weights
