"""Three classifiers of synthetic images: a perceptron, a CNN and a transformer, and their loss on images never trained on."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Annotated, Literal

import numpy as np
import torch
from torch import nn
from torch.func import functional_call

from thermolab.engine.rules import Rule, integer, number, power_of_two, refuse
from thermolab.systems import models
from thermolab.systems.data import Dataset, redraw_labels, synthetic_images
from thermolab.systems.network import NetworkOnData
from thermolab.systems.replicas import Replicas

N_TRAIN, N_VALIDATION = 1024, 1000
PIXELS = 16 * 16
EASIER = {"easy": "easy", "mid": "easy", "hard": "mid"}  # what the transformer can still learn

# what recipes allow for their settings
MULTIPLE_OF_8 = Rule("a multiple of 8", lambda x: x if integer(8).convert(x) % 8 == 0 else refuse("is not divisible by 8"))
Model = Literal["mlp", "cnn", "transformer"]
Difficulty = Literal["easy", "mid", "hard"]
Width = Annotated[int, MULTIPLE_OF_8]
Share = Annotated[float, number(0, 1)]
BatchSize = Annotated[int, power_of_two(1, 64)]  # an epoch then has a whole number of steps between its 16 snapshots

MODELS: dict[str, Callable[[int], nn.Module]] = {
    "mlp": lambda width: models.mlp((PIXELS, width, width, 10)),
    "cnn": lambda width: models.cnn((width // 4, width // 2)),
    "transformer": lambda width: models.tiny_transformer(width // 2),
}
WIDTH = 32


@functools.lru_cache(4)
def images(difficulty: str = "mid", label_noise: float = 0.0) -> tuple[Dataset, Dataset]:
    """1024 images to train on and 1000 others to validate on, [N, 256] each, of ten classes.

    label_noise: the share of the labels to train on that are drawn anew; those of the validation are right.
    Raises ValueError for a difficulty that is unknown or a share outside 0 … 1.
    """
    both = synthetic_images(N_TRAIN + N_VALIDATION, difficulty=difficulty, seed=0)
    x, y = both.x.flatten(1), both.y
    noisy = redraw_labels(y[:N_TRAIN].numpy(), label_noise, np.random.default_rng([0, 2]))
    return Dataset(x[:N_TRAIN], torch.from_numpy(noisy)), Dataset(x[N_TRAIN:], y[N_TRAIN:])


def system(
    model: str = "mlp",
    *,
    width: int = WIDTH,
    difficulty: str = "mid",
    label_noise: float = 0.0,
    optimiser: str = "sgd",
) -> NetworkOnData:
    """A model of MODELS on the images to train on.

    width: h of the perceptron 256-h-h-10; the CNN has h/4 and h/2 channels, the transformer tokens of h/2.
    Raises ValueError for a width that is no multiple of 8.
    """
    return NetworkOnData(
        MODELS[model](MULTIPLE_OF_8("width", width)), images(difficulty, label_noise)[0], "lr", optimiser=optimiser
    )


def evaluate(replicas: Replicas, weights: torch.Tensor, data: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Mean cross-entropy and accuracy of each replica on all of a data set, [R] each; NaN where it diverged.

    weights: [R, P]; data: on any device.
    """
    x, y = data.x.to(weights.device), data.y.to(weights.device)
    logits = replicas.outputs(weights, x).double()
    loss = torch.logsumexp(logits, -1) - logits.gather(-1, y.expand(len(logits), -1)[..., None])[..., 0]
    right = torch.where(logits.isfinite().all(-1), (logits.argmax(-1) == y).double(), torch.nan)
    return loss.mean(-1).cpu().numpy(), right.mean(-1).cpu().numpy()


def representations(replicas: Replicas, weights: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """What the last linear layer of each replica reads of the inputs x [N, ...]: features [R, N, h]; weights: [R, P]."""
    head = [m for m in replicas.module.modules() if isinstance(m, nn.Linear)][-1]
    read: list[torch.Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    with torch.no_grad():
        for r in range(len(weights)):  # one by one: under vmap a hook sees no plain tensor
            parameters = {name: view[r] for name, view in replicas.views(weights).items()}
            functional_call(replicas.module, parameters, (x.to(weights.device),))
    hook.remove()
    return torch.stack(read)
