"""Your own network: any module on any data as a system of the engine, started from the weights that it has."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from thermolab.systems.data import Dataset
from thermolab.systems.loading import MEMORY, as_dataset
from thermolab.systems.network import NetworkOnData


class Network(NetworkOnData):
    """A module on data, ready for an `Experiment`.

    module: any nn.Module with trainable weights; it is not changed. data: (x, y), a torch Dataset, a DataLoader or a
    `systems.data.Dataset`: inputs [N, ...] and classes [N] or targets [N, K]; floating numbers are cast to the type of the
    module's weights. loss: "cross-entropy", "squared" (|f - y|², no 1/2) or a callable(outputs, targets) -> mean over the batch.
    protocol: "lr", "elr" or "sphere"; optimiser: "sgd", "momentum", "adam", "adagrad", "sam" or "eef" (`updates`).
    replacement: whether batches are drawn with replacement, or each datum once in an epoch.
    starts: "own", all replicas from the weights that the module has, "fresh", or a function that makes one (`systems.starts`).
    memory: bytes of data that are held in memory; more go into a temporary file that is mapped.
    Raises ValueError, one line, for data, a loss or a module that it does not take.

    >>> import thermolab as tl
    >>> x = torch.linspace(-1, 1, 64)[:, None]
    >>> net = tl.Network(nn.Linear(1, 1), (x, 3 * x), loss="squared")
    >>> run = tl.Experiment(net, eta=0.1, batch_size=8)
    >>> run.advance(200)
    >>> run.state.weights.round(decimals=2).tolist()
    [[3.0, 0.0]]
    """

    def __init__(
        self,
        module: nn.Module,
        data,
        *,
        loss: str | Callable = "cross-entropy",
        protocol: str = "lr",
        optimiser: str = "sgd",
        backend: str = "auto",
        replacement: bool = True,
        starts: str | Callable = "own",
        memory: int = MEMORY,
    ):
        if not isinstance(module, nn.Module):
            raise ValueError(f"the module is {module!r}; allowed: an nn.Module, such as torch.nn.Linear(4, 1)")
        found = as_dataset(data, memory=memory)
        own = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
        x, y = (t.to(own) if t.is_floating_point() else t for t in (found.x, found.y))
        if not y.is_floating_point() and y.dtype not in (torch.int64, torch.bool):
            y = y.long()
        super().__init__(module, Dataset(x, y), protocol, loss, backend, optimiser, replacement, starts)
