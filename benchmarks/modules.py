"""One replica of any module against a plain PyTorch loop: what the engine costs where it has nothing to batch.

The networks are those of the tests' zoo and a ConvNet of a real size (four convolutions, batch 128).
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.zoo import ZOO, Animal
from thermolab.engine.experiment import Experiment
from thermolab.systems.data import Dataset
from thermolab.systems.network import NetworkOnData

ETA, LAM, BATCH = 0.01, 1e-3, 32


def convnet(k: int = 8) -> nn.Sequential:
    """Four 3×3 convolutions to k, 2k, 4k, 8k channels with batch norm, on images [3, 32, 32]."""
    layers: list[nn.Module] = []
    for i, (n_in, n_out) in enumerate(((3, k), (k, 2 * k), (2 * k, 4 * k), (4 * k, 8 * k))):
        layers += [nn.Conv2d(n_in, n_out, 3, padding=1, bias=False), nn.BatchNorm2d(n_out, affine=False), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if i else []
    return nn.Sequential(*layers, nn.MaxPool2d(4), nn.Flatten(), nn.Linear(8 * k, 3))


def one(animal: Animal, batch: int = BATCH, **more):
    """A contest of one replica; a unit of work is a step. more: of `NetworkOnData`."""

    def contestants(device: str):
        x, y = (t.to(device) for t in animal.data(512, torch.float32))

        def ours():
            system = NetworkOnData(animal.born().float(), Dataset(x, y), starts="own", **more)
            return Experiment(system, eta=ETA, lam=LAM, batch_size=batch, device=device).advance

        return {"plain nn.Module loop": lambda: _plain(animal.born().float().to(device), x, y, batch), "thermolab": ours}

    return contestants


def _plain(module, x, y, batch):
    optimiser = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=ETA, weight_decay=LAM)

    def step(n):
        for _ in range(n):
            pick = torch.randint(len(x), (batch,), device=x.device)
            optimiser.zero_grad()
            nn.functional.cross_entropy(module(x[pick]).flatten(0, -2), y[pick].flatten()).backward()
            optimiser.step()

    return step


IMAGES = Animal(convnet, (3, 32, 32))
CONTESTS = {f"R = 1: {name}": one(animal) for name, animal in ZOO.items() if name != "traced"}
CONTESTS |= {"R = 1: ConvNet k = 8, B 128": one(IMAGES, 128), "R = 1: ConvNet in bf16": one(IMAGES, 128, precision="bf16")}
