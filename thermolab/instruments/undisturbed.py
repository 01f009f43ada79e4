"""Look at a module in the middle of somebody's training, and leave it as it was: what a `Watch` needs of a plain module."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from thermolab.systems import global_random

DROPOUT = (nn.modules.dropout._DropoutNd,)
DRAWING = (nn.MultiheadAttention, nn.RNNBase, nn.RReLU)


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Mode, buffers, attributes of every module and the global random generators are afterwards what they were before.

    Gradients are not touched as long as they are taken by `torch.autograd.grad`. Limit: what a module or a hook changes inside an
    object of its own, as by appending to a list, stays changed.
    """
    tables = [table for m in model.modules() for table in (m.__dict__, m._buffers, m._parameters) if isinstance(table, dict)]
    kept = [dict(table) for table in tables]
    buffers = [(b, b.detach().clone()) for b in model.buffers()]
    with global_random.kept():
        try:
            yield
        finally:
            for table, before in zip(tables, kept, strict=True):
                table.clear()
                table.update(before)
            for buffer, before in buffers:
                buffer.data.copy_(before)  # .data: a graph that the loop still holds sees no change, and there is none


def flat(tensors) -> torch.Tensor:
    """One vector [P] of all of them."""
    return torch.cat([t.detach().flatten() for t in tensors])


def slopes(loss: torch.Tensor, parameters: list[nn.Parameter], **settings) -> list[torch.Tensor]:
    """The gradient of each parameter, 0 where the loss does not know it."""
    return list(torch.autograd.grad(loss, parameters, materialize_grads=True, **settings))


def product(loss: torch.Tensor, parameters: list[nn.Parameter], v: torch.Tensor | None = None):
    """Gradient g [P] of a loss and H v [P], v [P] or by default g/|g|."""
    g = slopes(loss, parameters, create_graph=True)
    found = flat(g)
    v = found / torch.linalg.vector_norm(found).clamp_min(1e-30) if v is None else v
    curved = [
        (s, part.view_as(s)) for s, part in zip(g, v.split([p.numel() for p in parameters]), strict=True) if s.requires_grad
    ]
    if not curved:
        return found, torch.zeros_like(found)
    return found, flat(slopes([s for s, _ in curved], parameters, grad_outputs=[part for _, part in curved]))


class ModuleHessian:
    """Products with the Hessian of the mean loss over blocks of data, each normalised by itself: for `largest_eigenvalue`.

    loss_of(block) -> (mean loss, how many samples). Memory is that of one block; dropout must be off.
    """

    def __init__(self, parameters: list[nn.Parameter], loss_of, blocks: list):
        self.parameters, self.loss_of, self.blocks, self.products = parameters, loss_of, blocks, 0
        self.weights = flat(parameters)
        self.gradient, _ = self._sum(torch.zeros_like(self.weights))

    def __call__(self, v: torch.Tensor) -> torch.Tensor:
        """H v [P]."""
        self.products += 1
        return self._sum(v)[1]

    def _sum(self, v):
        total, g, hv = 0, torch.zeros_like(self.weights), torch.zeros_like(self.weights)
        with sdpa_kernel(SDPBackend.MATH):  # the fast kernels of attention have no second derivative
            for block in self.blocks:
                loss, n = self.loss_of(block)
                slope, bent = product(loss, self.parameters, v)
                total, g, hv = total + n, g + n * slope, hv + n * bent
        return g / total, hv / total


def without_dropout(model: nn.Module) -> None:
    """Switch dropout off, to be called in `undisturbed`: that of layers, of attention and recurrence, and of whatever holds a
    layer of dropout, as an attention that asks it for its p alone."""
    for layer in model.modules():
        holds = any(isinstance(child, DROPOUT) for child in layer.children())
        if isinstance(layer, DROPOUT + DRAWING) or (holds and not isinstance(layer, nn.Sequential)):
            layer.training = False


def to(batch, device):
    """A batch, or a tuple, list or mapping of tensors, on a device."""
    if isinstance(batch, torch.Tensor):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {k: to(v, device) for k, v in batch.items()}
    if isinstance(batch, tuple | list):
        return type(batch)(to(v, device) for v in batch) if type(batch) in (tuple, list) else tuple(to(v, device) for v in batch)
    return batch
