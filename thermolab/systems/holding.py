"""A module lent to its replicas, one after the other, in plain PyTorch.

While it is lent, its parameters are those of one replica and its buffers that replica's own; the parameters stay the objects that
they are, and only their memory is exchanged, so hooks, parametrizations, tied weights and closures act as ever.
Whatever happens meanwhile, the module has its own tensors, gradients and attributes back afterwards.
Limits: one thread at a time; what a module changes inside a list or another object of its own stays changed, as after any call.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import nn

# what a replica keeps of its module from step to step bears one of these before its name in the memory of a run
BUFFERS, TENSORS, NUMBERS = (
    "buffers.",
    "tensors.",
    "numbers.",
)  # and frozen parameters; plain attributes that are one or the other
SMALL = 2**16  # buffers up to this size belong to each replica from the start, larger ones from their first change on


class Shared(NamedTuple):
    """A buffer or frozen parameter of the module: where it stands, table[key], and its data when the module was lent."""

    table: dict
    key: str
    tensor: torch.Tensor
    data: torch.Tensor


class Holder:
    """Lends out a module. trainable: {name: parameter} of those that replicas have for themselves."""

    def __init__(self, module: nn.Module, trainable: Mapping[str, nn.Parameter]):
        self.module, self.trainable = module, dict(trainable)
        self._shared: dict[str, Shared] | None = None  # while it is lent
        self._copies: dict[str, tuple] = {}  # {name: (of what, copy)} of what all replicas share
        self._like, self._casts = torch.empty(0), True
        self._attributes: dict[str, tuple[dict, dict]] = {}  # {path: (attributes of a layer, what they were)} while it is lent

    def own(self, like: torch.Tensor) -> dict[str, torch.Tensor]:
        """What each of R replicas keeps from step to step, at the start {name: [R, ...]}; like: their weights [R, P]."""
        found = {BUFFERS + k: s.data for k, s in self._find().items() if not isinstance(s.tensor, nn.Parameter)}
        found |= {
            TENSORS + (f"{path}." if path else "") + k: t.detach()
            for path, m in self.module.named_modules()
            for k, t in m.__dict__.items()
            if isinstance(t, torch.Tensor) and t.grad_fn is None
        }
        casts = self._one_dtype()
        small = {k: _cast(t, like, casts) for k, t in found.items() if t.numel() <= SMALL}
        return {k: t.expand(len(like), *t.shape).clone() for k, t in small.items()}

    @contextmanager
    def lent(self, like: torch.Tensor) -> Iterator[None]:
        """`place` has the module at its disposal within; within another `lent` this does nothing.

        like: weights, whose device its tensors go to, and whose dtype they take if all floats of the module have one dtype.
        """
        if self._shared is not None:
            yield
            return
        modules = dict(self.module.named_modules())
        tables = [(t, dict(t)) for m in modules.values() for t in (m._parameters, m._buffers) if isinstance(t, dict)]
        self._attributes = {f"{path}." if path else "": (m.__dict__, dict(m.__dict__)) for path, m in modules.items()}
        self._like, self._casts, self._shared = like, self._one_dtype(), self._find()
        tensors = [*self.trainable.values(), *(s.tensor for s in self._shared.values())]
        back = [(t, t.data, t.grad, t.requires_grad) for t in tensors]
        try:
            for i, (t, _, _, wants) in enumerate(back):
                if wants != (i < len(self.trainable)):
                    t.requires_grad_(not wants)
            yield
        finally:
            self._shared = None
            for now, was in (*tables, *self._attributes.values()):
                _restore(now, was)
            for t, data, gradient, wants in back:
                t.grad, t.data = None, data
                if t.requires_grad != wants:
                    t.requires_grad_(wants)
                t.grad = gradient

    def place(self, row: torch.Tensor, own: Mapping[str, torch.Tensor]) -> None:
        """The weights [P] of one replica and what is its own {name: [...]} into the module, which may write to both."""
        begin = 0
        for p in self.trainable.values():
            piece = row[begin : begin + p.numel()].view(p.shape)
            p.grad, p.data = None, piece if self._casts else piece.to(p.dtype)
            begin += p.numel()
        for name, shared in self._shared.items():
            shared.tensor.data = own[BUFFERS + name] if BUFFERS + name in own else self._copy(name, shared)
        for now, was in self._attributes.values():
            _restore(now, was)
        for name, value in own.items():
            kind, _, place = name.partition(".")
            if kind in (TENSORS[:-1], NUMBERS[:-1]):
                path, dot, key = place.rpartition(".")
                self._attributes[path + dot][0][key] = value if kind == TENSORS[:-1] else value.item()
        self._placed = [dict(now) for now, _ in self._attributes.values()]

    def gradient(self, out: torch.Tensor) -> None:
        """What `backward` left in the parameters, into out [P]; 0 where nothing arrived."""
        begin = 0
        for p in self.trainable.values():
            piece = out[begin : begin + p.numel()].view(p.shape)
            if p.grad is None:
                piece.zero_()
            else:
                piece.copy_(p.grad.to_dense() if p.grad.is_sparse else p.grad)
            begin += p.numel()

    def changed(self, own: Mapping[str, torch.Tensor]) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """{name: (before, after)} of what the module changed since `place`, but for buffers that are the replica's own already.

        Those are brought up to date in `own`, and the module has its own objects again. before: None if it was nothing such.
        """
        found = {}
        for name, (table, key, t, data) in self._shared.items():
            now, kept = _get(table, key), own.get(BUFFERS + name)
            if now is not t:
                table[key] = t
            if now is t and (kept is not None or t._version == self._copies[name][1]):
                continue
            before = _cast(data, self._like, self._casts) if kept is None else kept
            if now is None or now.shape != before.shape:
                shape = None if now is None else list(now.shape)
                raise ValueError(
                    f"the module gave its buffer {name} another shape, {shape} for {list(before.shape)}; allowed: one shape for "
                    "good: register it with that"
                )
            if kept is None:
                found[BUFFERS + name] = before.clone(), now.detach().clone()
            else:
                kept.copy_(now.detach())
        for (path, (now, _)), was in zip(self._attributes.items(), self._placed, strict=True):
            for key, value in now.items():
                before = was.get(key)
                if value is before:
                    continue
                if isinstance(value, torch.Tensor) and value.grad_fn is None:  # else it is what this pass computed
                    found[TENSORS + path + key] = before if isinstance(before, torch.Tensor) else None, value.detach().clone()
                elif isinstance(value, int | float):
                    before = torch.tensor(before) if isinstance(before, int | float) else None
                    found[NUMBERS + path + key] = (
                        before,
                        torch.tensor(value, dtype=torch.float64 if type(value) is float else None),
                    )
        return found

    def _find(self) -> dict[str, Shared]:
        found, seen = {}, {id(p) for p in self.trainable.values()}
        for place, m in self.module.named_modules():
            for table in (m._parameters, m._buffers):
                for key, t in table.items():
                    if t is not None and id(t) not in seen:
                        seen.add(id(t))
                        found[f"{place}.{key}" if place else key] = Shared(table, key, t, t.data)
        return found

    def _one_dtype(self) -> bool:
        tensors = (*self.module.parameters(), *self.module.buffers())
        return len({t.dtype for t in tensors if t.is_floating_point()}) == 1

    def _copy(self, name: str, shared: Shared) -> torch.Tensor:
        """What all replicas share, for the module to write to: seen by its version, and copied anew then."""
        t, data = shared.tensor, shared.data
        of = (id(t), t._version, data.data_ptr(), self._like.dtype, self._like.device)
        if name not in self._copies or self._copies[name][0] != of:
            self._copies[name] = of, t._version, _cast(data, self._like, self._casts).clone(), t
        return self._copies[name][2]


def _get(table, key: str):
    return table[key] if key in table else None  # noqa: SIM401 - the tables of a script have no get


def _restore(now: dict, was: dict) -> None:
    if len(now) != len(was) or not all(map(operator.is_, now.values(), was.values())):
        now.clear()
        now.update(was)


def _cast(t: torch.Tensor, like: torch.Tensor, casts: bool) -> torch.Tensor:
    """On the device of the weights; floats of their dtype, if the module has one alone."""
    return t.to(like.device, like.dtype if casts and t.is_floating_point() else t.dtype)
