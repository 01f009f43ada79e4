"""Scale symmetries of a network: which groups of weights the loss sees the direction of alone, found by trying.

Where a norm reads what a layer writes, L(c w) = L(w) for the weights w of that layer, for every batch. Hence w·g = 0, and a step
of plain SGD obeys the Noether identity exactly, at every η and batch size:

    Δ|w|² = η² |g|²                                    (with weight decay λ: Δ|w|² = η² |g|² - (2ηλ - η²λ²) |w|²)

so that in a stationary state (2λ - ηλ²) ⟨|w|²⟩ = η ⟨|g|²⟩, the radius law (arXiv:2511.07308). A group is what a layer holds of
trainable weights, its bias among them, or else a single one of its tensors. It counts where the loss of several batches, at
weights that were shaken, changes at |w|/2 and 2|w| by less than `SAME` of what it changes by when the group itself is redrawn.
Limits: groups that are invariant together alone, as all that writes into a stream before a norm, are not looked for; the ε of
a norm breaks the symmetry by about ε over the variance that it divides by.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

SAME = 1e-3  # of the change of the loss: what the ε of a norm may leave, and nothing else does
SHAKEN = 0.1  # by how much weights are shaken, so that what starts at 0, or where it gets no gradient, hides nothing
TRIES = 3  # batches, and redrawn groups
STEP = 0.01  # of the weights, of the step at which the identity is tried


@dataclass(frozen=True)
class Group:
    """Weights of a layer: its name, or that of a tensor; indices [n] into the trainable parameters; whether L(cw) = L(w)."""

    name: str
    index: torch.Tensor
    invariant: bool


def groups(module: nn.Module, loss: Callable, x: torch.Tensor, y: torch.Tensor, *, batch_size: int = 32, seed: int = 0):
    """All trainable weights of a module in groups [Group, …], in the order of its layers: the scale-invariant ones, and the rest.

    loss: (outputs, targets) -> mean loss; x, y: data, of which batches of `batch_size` are taken. A layer of which only some
    tensors are invariant, or none, appears as these and one group of the others. The module is copied, not touched. Raises
    ValueError for a module of which a copy in float64 does not run.

    >>> net = nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5, eps=0, elementwise_affine=False), nn.ReLU(), nn.Linear(5, 3))
    >>> x, y = torch.randn(64, 4, generator=torch.Generator().manual_seed(0)), torch.arange(64) % 3
    >>> [(g.name, g.invariant) for g in groups(net, nn.functional.cross_entropy, x, y)]
    [('0', True), ('3', False)]
    """
    trial = _Search(module, loss, x, y, batch_size, seed)
    found = []
    for name, parts in _layers(module).items():
        whole = torch.cat(list(parts.values()))
        if trial.invariant(whole):
            found.append(Group(name or "all", whole, True))
            continue
        alone = {k: index for k, index in parts.items() if len(parts) > 1 and trial.invariant(index)}
        found += [Group(k, index, True) for k, index in alone.items()]
        if rest := [index for k, index in parts.items() if k not in alone]:
            found.append(Group(name or "all", torch.cat(rest), False))
    return found


def gradient(module: nn.Module, loss: Callable, x: torch.Tensor, y: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The gradient [P] of the loss of a batch at trainable weights [P], in float64, of a copy of the module."""
    return _Trial(module, loss, x, y).gradient(weights.detach().cpu().double())


def identity_error(group: Group, weights: torch.Tensor, slope: torch.Tensor) -> float:
    """Error of Δ|w|² = η²|g|² over η²|g|² at a step of plain SGD that is a hundredth of all weights, |η g| = |w|/100.

    weights, slope: [P], float64, as `gradient` returns it. 0 for a group without any gradient, which stays as it is.
    """
    w, g = weights[group.index], slope[group.index]
    if not bool(g.any()):
        return 0.0
    eta = STEP * weights.norm() / slope.norm()
    return float(((-eta * g * (2 * w - eta * g)).sum() - (eta * g).square().sum()).abs() / (eta * g).square().sum())


def copied(module: nn.Module) -> nn.Module:
    """A deep copy, also of a module that holds what it computed from its parameters, as old weight norm and pruning do."""
    held = [t for m in module.modules() for t in vars(m).values() if isinstance(t, torch.Tensor) and not t.is_leaf]
    return copy.deepcopy(module, {id(t): t.detach().clone() for t in held})


def _layers(module: nn.Module) -> dict[str, dict[str, torch.Tensor]]:
    """The indices of the trainable parameters {layer: {name: [n]}}, in the order of the flat vector."""
    out, begin = {}, 0
    for name, p in module.named_parameters():
        if p.requires_grad:
            out.setdefault(name.rpartition(".")[0], {})[name] = torch.arange(begin, begin + p.numel())
            begin += p.numel()
    return out


def _double(t: torch.Tensor) -> torch.Tensor:
    """A copy, which a module may write to, in float64 if it is floating."""
    return t.to("cpu", torch.float64 if t.is_floating_point() else t.dtype, copy=True)


class _Trial:
    """A copy of a module in float64, whose loss on one batch is asked for at other weights."""

    def __init__(self, module: nn.Module, loss: Callable, x, y):
        self.module, self.loss = copied(module).double().cpu(), loss
        self.parameters = [p for p in self.module.parameters() if p.requires_grad]
        self.x, self.y = x, y

    def value(self, w: torch.Tensor, pick=slice(None)) -> torch.Tensor:
        """The loss at weights [P] on some of the samples, with the same random numbers (dropout) at each call."""
        nn.utils.vector_to_parameters(w, self.parameters)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            try:
                return self.loss(self.module(_double(self.x[pick])), _double(self.y[pick]))
            except RuntimeError as error:  # a forward of its own that is bound to the module it was written for, say
                said = str(error).splitlines()[0]
                raise ValueError(f"a copy of the module in float64 stops with: {said}; its symmetries cannot be tried") from error

    def gradient(self, w: torch.Tensor) -> torch.Tensor:
        """The gradient [P]."""
        for p in self.parameters:
            p.grad = None
        with torch.enable_grad():
            self.value(w).backward()  # not autograd.grad, which checkpoints may refuse
        slopes = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
        return torch.cat([(g.to_dense() if g.is_sparse else g).detach().flatten() for g in slopes])


class _Search(_Trial):
    """Tries whether groups of weights are scale-invariant, at weights that were shaken."""

    def __init__(self, module: nn.Module, loss: Callable, x, y, batch_size: int, seed: int):
        super().__init__(module, loss, x, y)
        generator = torch.Generator().manual_seed(seed)
        self.picks = [torch.randint(len(x), (batch_size,), generator=generator) for _ in range(TRIES)]
        w = nn.utils.parameters_to_vector(self.parameters).detach()
        size = torch.cat([torch.full((p.numel(),), _size(p)) for p in self.parameters])
        self.drawn = size * torch.randn((TRIES, len(w)), dtype=w.dtype, generator=generator)
        self.shaken = w + SHAKEN * size * torch.randn(w.shape, dtype=w.dtype, generator=generator)

    def invariant(self, index: torch.Tensor) -> bool:
        """Whether the loss of every batch is the same at half and at twice the weights of a group, and not at others."""
        with torch.no_grad():
            for pick in self.picks:
                here = self.value(self.shaken, pick)

                def largest(others, pick=pick, here=here) -> float:
                    """The largest change of the loss with the group at other values."""
                    return max(abs(float(self.value(self.shaken.index_copy(0, index, v), pick) - here)) for v in others)

                scaled, other = largest(c * self.shaken[index] for c in (0.5, 2.0)), largest(self.drawn[:, index])
                if not scaled <= SAME * other or other == 0:
                    return False
        return True


def _size(p: torch.Tensor) -> float:
    """Root mean square of a tensor, at least a tenth: what starts at 0 is shaken too."""
    return max(float(p.detach().double().square().mean().sqrt()), SHAKEN)
