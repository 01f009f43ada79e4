"""Networks of four architectures, what they learn, and replicas each with a data set of its own.

A perceptron, a ConvNet (and the same with tanh in place of LeakyReLU), a convolutional residual network of two blocks and a
transformer of two blocks, all so small that balance can be waited for. They learn a noisy teacher of their own kind under
|f - y|², or scikit-learn's digits with some labels drawn anew under cross-entropy.
"""

from __future__ import annotations

import itertools
from typing import Literal, get_args

import numpy as np
import torch
from torch import nn

from thermolab.systems import data, models, random
from thermolab.systems.network import NetworkOnData
from thermolab.systems.regression import Answers
from thermolab.systems.replicas import Replicas

Arm = Literal["transformer", "resnet", "cnn", "cnn_tanh", "mlp"]
ARMS = get_args(Arm)  # those first that take longest, so that no worker waits for the last one
Task = Literal["digits", "teacher"]
SIZE = 8  # side of an image
SIZES = {"digits": (SIZE**2, 10), "teacher": (4, 6)}  # inputs of a perceptron, outputs
FAR = 2.0  # standard deviations at which pixels are cut: one that is nearly always black would throw a network
TIMES = 8  # that an image stands among the data, with labels that need not agree
PROBES = 200  # minibatches
BIAS = 0.3  # standard deviation of a teacher's biases, which start at 0 in a student
TEACHER = 2**20  # the stream of its weights, which no student has
LEAK = 0.3  # slope of LeakyReLU below 0: a unit that is seldom above 0 balances slowly


def network(arm: str, task: str = "digits") -> nn.Module:
    """The module of an arm; "cnn_tanh" is the ConvNet with tanh in place of LeakyReLU."""
    inputs, outputs = SIZES[task]
    if arm == "mlp":
        return models.mlp((inputs, 12, 10, outputs))
    if arm in ("cnn", "cnn_tanh"):
        one, two = (nn.LeakyReLU(LEAK) if arm == "cnn" else nn.Tanh() for _ in range(2))
        first, second = [nn.Conv2d(1, 3, 3), one, nn.AvgPool2d(2)], [nn.Conv2d(3, 4, 2), two, nn.MaxPool2d(2)]
        return nn.Sequential(models.AsImages(SIZE), *first, *second, nn.Flatten(), nn.Linear(4, outputs))
    if arm == "resnet":
        first, last = nn.Conv2d(1, 4, 3, stride=2, padding=1), [nn.AvgPool2d(4), nn.Flatten(), nn.Linear(4, outputs)]
        return nn.Sequential(models.AsImages(SIZE), first, nn.LeakyReLU(LEAK), _residual(4), _residual(4), *last)
    if arm == "transformer":
        tokens = [models.Patches(SIZE, 4), nn.Linear(16, 8), models.Positions(4, 8)]
        blocks = [models.Block(8, 2, affine=False) for _ in range(2)]
        return nn.Sequential(*tokens, *blocks, models.MeanToken(), nn.Linear(8, outputs))
    raise ValueError(f"arm={arm!r} is unknown; allowed: {', '.join(ARMS)}")


def _residual(channels: int) -> nn.Module:
    first, second = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
    return models.Residual(nn.Sequential(first, nn.LeakyReLU(LEAK), second))


def taught(module: nn.Module, inputs: int, n_data: int, noise_std: float, seed: int) -> Answers:
    """n_data inputs, uniform and of unit variance, and answers to them of a teacher, up to Gaussian noise of noise_std in each.

    The teacher is the module at a usual start, with biases beside; its answers have mean 0 and unit mean square.
    """
    generator = torch.Generator().manual_seed(seed)
    x = (2 * torch.rand((n_data, inputs), generator=generator) - 1) * 3**0.5  # a Gaussian input far out can throw a network
    teacher = Replicas(module, "squared")
    normals = random.normals(seed, torch.tensor([TEACHER]), 0, 1, teacher.n_parameters, purpose=random.START)[0]
    weights = teacher.start(normals)
    y = teacher.outputs(torch.where(weights == 0, BIAS * normals, weights), x)[0]
    y = y - y.mean(0)
    y = y / y.square().mean().sqrt()
    return Answers(x, y + noise_std * torch.randn(y.shape, generator=generator))


def doubtful_digits(n: int, label_noise: float, seed: int, directions: int | None = None) -> data.Dataset:
    """n of scikit-learn's digits, each `TIMES` times, a share of all labels drawn anew: noise that cannot be learnt by heart.

    directions: keep so many principal directions of the images, all of equal variance then, and no others.
    """
    images = data.digits(n, seed=seed)
    labels = data.redraw_labels(images.y.repeat(TIMES).numpy(), label_noise, np.random.default_rng([seed, 5]))
    x = images.x.clamp(-FAR, FAR)
    if directions is not None:
        along = torch.linalg.svd(x - x.mean(0), full_matrices=False)
        x = n**0.5 * along.U[:, :directions].clamp(-FAR / n**0.5, FAR / n**0.5) @ along.Vh[:directions]
    return data.Dataset(x.repeat(TIMES, 1), torch.from_numpy(labels))


class Lessons(NetworkOnData):
    """Replicas of a network that learn data sets of equal size, each replica its own; and the squares of their gradients.

    shares: [R], the number of the data set of each replica; optimiser: as in `systems.updates`, or "flow", each step on all data;
    replicas.squares [R, P]: sum of g² over all gradients since it was last set to 0, in float64.
    """

    def __init__(self, module: nn.Module, sets, shares: torch.Tensor, loss: str, optimiser: str = "sgd"):
        first = sets[0]
        joined = type(first)(torch.cat([part.x for part in sets]), torch.cat([part.y for part in sets]))
        self.whole = optimiser == "flow"
        super().__init__(module, joined, loss=loss, optimiser="sgd" if self.whole else optimiser)
        self.replicas, self.backend = _Watched(module, loss), "plain"
        self.offsets, self.size = (shares * len(first))[:, None], len(first)

    def batches(self, seed: int, streams: torch.Tensor, first_step: int, n: int, batch_size: int):
        """n batches (x [R, B, ...], y [R, B, ...]), each replica's from its own data set; all of that, if so it learns."""
        if self.whole:
            every = self.offsets + torch.arange(self.size, device=self.offsets.device)
            return itertools.repeat((self.data.x[every], self.data.y[every]), n)
        return self.minibatches(seed, streams, first_step, n, batch_size)

    def minibatches(self, seed: int, streams: torch.Tensor, first_step: int, n: int, batch_size: int):
        """n batches of that size."""
        for step in range(first_step, first_step + n, block := 256):
            picks = random.indices(seed, streams, step, min(block, first_step + n - step), batch_size, self.size)
            for pick in picks + self.offsets.to(picks.device):
                yield self.data.x[pick], self.data.y[pick]

    def mean_squares(self, weights: torch.Tensor, batch_size: int, seed: int, streams: torch.Tensor) -> torch.Tensor:
        """E g² [R, P] over `PROBES` minibatches at fixed weights, float64."""
        self.replicas.squares, spare = 0.0, torch.empty_like(weights)
        for x, y in self.minibatches(seed, streams, 2**31, PROBES, batch_size):  # steps that no run takes
            self.replicas.loss_and_gradient(weights, x, y, spare)
        return self.replicas.squares / PROBES


class _Watched(Replicas):
    """Adds up the squares of all gradients that it is asked for."""

    squares = 0.0

    def loss_and_gradient(self, weights, x, y, out):
        losses = super().loss_and_gradient(weights, x, y, out)
        self.squares = self.squares + out.double().square()
        return losses


def lessons(
    arm: str, task: str, noise: float, n_data: int, seeds, copies: int, optimiser: str = "sgd", directions: int | None = None
) -> Lessons:
    """Replicas of an arm, `copies` for each seed, which has a data set of its own: a teacher, or a choice of digits.

    noise: standard deviation of the noise in each answer of a teacher, or the share of the labels of digits drawn anew;
    directions: of digits.
    """
    module, shares = network(arm, task), torch.arange(len(seeds)).repeat_interleave(copies)
    if task == "digits":
        sets = [doubtful_digits(n_data, noise, s, directions) for s in seeds]
        return Lessons(module, sets, shares, "cross-entropy", optimiser)
    inputs = SIZES[task][0] if arm == "mlp" else SIZE**2
    return Lessons(module, [taught(module, inputs, n_data, noise, s) for s in seeds], shares, "squared", optimiser)
