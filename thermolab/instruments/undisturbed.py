"""Look at a module in the middle of somebody's training, and leave it as it was: what a `Watch` needs of a plain module."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn

from thermolab.instruments.hessian import SYMMETRIC
from thermolab.systems import global_random

DROPOUT = (nn.modules.dropout._DropoutNd,)
DRAWING = (nn.MultiheadAttention, nn.RNNBase, nn.RReLU)
DIFFERENCE = 1e-3  # length of the step to each side of a central difference in single precision, over 1 + |w|


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
    return torch.cat([(t.to_dense() if t.is_sparse else t).detach().flatten() for t in tensors])


def slopes(loss: torch.Tensor, parameters: list[nn.Parameter], **settings) -> list[torch.Tensor]:
    """The gradient of each parameter, 0 where the loss does not know it."""
    return list(torch.autograd.grad(loss, parameters, materialize_grads=True, **settings))


def product(loss: torch.Tensor, parameters: list[nn.Parameter], v: torch.Tensor) -> torch.Tensor:
    """H v [P] of a loss, by a second backward pass."""
    g, parts = slopes(loss, parameters, create_graph=True), v.split([p.numel() for p in parameters])
    curved = [(s, part.view_as(s)) for s, part in zip(g, parts, strict=True) if s.requires_grad]
    if not curved:
        return torch.zeros_like(v)
    return flat(slopes(sum((s * part).sum() for s, part in curved), parameters))


class ModuleHessian:
    """Products with the Hessian of the mean loss over blocks of data, each normalised by itself: for `largest_eigenvalue`.

    loss_of(block) -> (mean loss, how many samples); every call draws the same random numbers, so that there is one Hessian.
    exact: by a second backward pass, where it is right (`is_symmetric`); else by central differences of the gradient, for which
    the parameters are moved and put back. Memory is that of one block.
    """

    def __init__(self, parameters: list[nn.Parameter], loss_of, blocks: list, exact: bool = True):
        self.parameters, self.loss_of, self.blocks, self.exact, self.products = parameters, loss_of, blocks, exact, 0
        self.weights = flat(parameters)
        self.gradient = self._gradient()

    def __call__(self, v: torch.Tensor) -> torch.Tensor:
        """H v [P]."""
        self.products += 1
        return self._mean(lambda loss: product(loss, self.parameters, v)) if self.exact else self._difference(v)

    def is_symmetric(self) -> bool:
        """Whether u·Hv = v·Hu on the first block: not so where a layer's backward pass was not written to be differentiated."""
        generator = torch.Generator().manual_seed(0)
        u, v = (torch.randn(len(self.weights), generator=generator).to(self.weights) for _ in "uv")
        try:
            hu, hv = (self._mean(lambda loss, w=w: product(loss, self.parameters, w), self.blocks[:1]) for w in (u, v))
        except (RuntimeError, NotImplementedError):
            return False
        rounding = max(SYMMETRIC, *(100 * torch.finfo(p.dtype).eps for p in self.parameters))
        return bool((u @ hv - v @ hu).abs() <= rounding * (u.norm() * hv.norm()).clamp_min(v.norm() * hu.norm()))

    def _gradient(self) -> torch.Tensor:
        return self._mean(lambda loss: flat(slopes(loss, self.parameters)))

    def _mean(self, of, blocks: list | None = None) -> torch.Tensor:
        total, found = 0, torch.zeros_like(self.weights)
        for block in self.blocks if blocks is None else blocks:
            with global_random.kept():
                loss, n = self.loss_of(block)
                total, found = total + n, found + n * of(loss)
        return found / total

    def _difference(self, v: torch.Tensor) -> torch.Tensor:
        length, step = torch.linalg.vector_norm(v), DIFFERENCE * (1 + torch.linalg.vector_norm(self.weights))
        if not bool(length):
            return torch.zeros_like(v)
        before = [p.detach().clone() for p in self.parameters]
        found = []
        try:
            for shift in (step, -step):
                moved = (self.weights + shift / length * v).split([p.numel() for p in self.parameters])
                for p, part in zip(self.parameters, moved, strict=True):
                    p.data.copy_(part.view_as(p))
                found.append(self._gradient())
        finally:
            for p, kept in zip(self.parameters, before, strict=True):
                p.data.copy_(kept)
        return (found[0] - found[1]) * (length / (2 * step))


@contextmanager
def without_dropout(model: nn.Module) -> Iterator[None]:
    """Dropout is off meanwhile: that of layers, of attention and recurrence, and of whatever holds a layer of dropout, as an
    attention that asks it for its p alone. To be called in `undisturbed`."""
    layers = [layer for layer in model.modules() if layer.training and _drops(layer)]
    for layer in layers:
        layer.training = False
    try:
        yield
    finally:
        for layer in layers:
            layer.training = True


def _drops(layer: nn.Module) -> bool:
    holds = any(isinstance(child, DROPOUT) for child in layer.children())
    return isinstance(layer, DROPOUT + DRAWING) or (holds and not isinstance(layer, nn.Sequential))


def to(batch, device):
    """A batch, or a tuple, list or mapping of tensors, on a device."""
    if isinstance(batch, torch.Tensor):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {k: to(v, device) for k, v in batch.items()}
    if isinstance(batch, tuple | list):
        return type(batch)(to(v, device) for v in batch) if type(batch) in (tuple, list) else tuple(to(v, device) for v in batch)
    return batch
