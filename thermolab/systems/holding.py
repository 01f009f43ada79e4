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
BUFFERS = "buffers."  # and frozen parameters
TENSORS, NUMBERS = "tensors.", "numbers."  # plain attributes
SEVERAL = {"tuples.": tuple, "lists.": list}  # of tensors
CUTS = 16  # rows of which the pieces are kept
SMALL = 2**16  # buffers up to this size belong to each replica from the start, larger ones from their first change on


def has_buffers(memory: Mapping[str, torch.Tensor] | None) -> bool:
    """Whether a memory keeps buffers of the module: those of another moment, or of another replica, than the module's own."""
    return any(name.startswith(BUFFERS) for name in memory or ())


def of_replica(memory: Mapping[str, torch.Tensor], r: int) -> dict[str, torch.Tensor]:
    """The buffers of replica r, {name: [...]}, in the memory of a run, {name: [R, ...]}."""
    return {k: v[r] for k, v in memory.items() if k.startswith(BUFFERS)}


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
        self._cut: dict[int, list[torch.Tensor]] = {}  # {address of weights [P]: their pieces}, while it is lent
        self._at = None  # the address of those that are placed
        self._placed: list[dict] = []
        self._empty: list[tuple[dict, str]] = []  # (table, key) of buffers that are not there yet
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
        small = {k: _cast(t, like, casts and k.startswith(BUFFERS)) for k, t in found.items() if t.numel() <= SMALL}
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
        self._empty = [(t, k) for m in modules.values() for t in (m._buffers, m._parameters) for k, v in t.items() if v is None]
        tensors = [*self.trainable.values(), *(s.tensor for s in self._shared.values())]
        back = [(t, t.data, t.grad, t.requires_grad) for t in tensors]
        try:
            for i, (t, _, _, wants) in enumerate(back):
                if wants != (i < len(self.trainable)):
                    t.requires_grad_(not wants)
            yield
        finally:
            self._shared, self._at = None, None
            self._cut.clear()
            for now, was in (*tables, *self._attributes.values()):
                _restore(now, was)
            for t, data, gradient, wants in back:
                t.grad, t.data = None, data
                if t.requires_grad != wants:
                    t.requires_grad_(wants)
                t.grad = gradient

    def place(self, row: torch.Tensor, own: Mapping[str, torch.Tensor]) -> None:
        """The weights [P] of one replica and what is its own {name: [...]} into the module, which may write to both."""
        pieces = self._pieces(row)
        for p, piece in zip(self.trainable.values(), pieces, strict=True):
            p.grad = None
            if self._at != row.data_ptr() or not self._casts:
                p.data = piece if self._casts else piece.to(p.dtype)
        self._at = row.data_ptr()
        for name, shared in self._shared.items():
            shared.tensor.data = own[BUFFERS + name] if BUFFERS + name in own else self._copy(name, shared)
        for now, was in self._attributes.values():
            _restore(now, was)
        several: dict[str, list] = {}
        for name, value in own.items():
            if name.startswith((TENSORS, NUMBERS)):
                self._set(name, value if name.startswith(TENSORS) else value.item())
            elif name.startswith(tuple(SEVERAL)):
                several.setdefault(name.rpartition(".")[0], []).append(value)
        for name, values in several.items():
            self._set(name, SEVERAL[name.partition(".")[0] + "."](values))
        self._placed = [was for _, was in self._attributes.values()]
        if not all(name.startswith(BUFFERS) for name in own):
            self._placed = [dict(now) for now, _ in self._attributes.values()]

    def _set(self, name: str, value) -> None:
        path, dot, key = name.partition(".")[2].rpartition(".")
        self._attributes[path + dot][0][key] = value

    def gradient(self, out: torch.Tensor) -> None:
        """What `backward` left in the parameters, into out [P]; 0 where nothing arrived."""
        for p, piece in zip(self.trainable.values(), self._pieces(out), strict=True):
            if p.grad is None:
                piece.zero_()
            else:
                piece.copy_(p.grad.to_dense() if p.grad.is_sparse else p.grad)

    def changed(self, own: Mapping[str, torch.Tensor]) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """{name: (before, after)} of what the module changed since `place`, but for buffers that are the replica's own already.

        Those are brought up to date in `own`, and the module has its own objects again. before: None if it was nothing such.
        """
        found = {}
        for table, key in self._empty:
            if table[key] is not None:
                raise ValueError(
                    f"the module fills its buffer {key}, empty at the start, in a step; allowed: buffers of one shape for good: "
                    "run a batch through the module first"
                )
        for p, piece in zip(self.trainable.values(), self._cut[self._at], strict=True):
            if p.data_ptr() != piece.data_ptr() and p.dtype == piece.dtype:  # the module gave the parameter other data
                piece.copy_(p.detach())
                p.data = piece
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
            if len(now) == len(was) and all(map(operator.is_, now.values(), was.values())):
                continue
            for key, value in now.items():
                if value is not was.get(key):
                    found |= _state(f"{path}{key}", was.get(key), value)
        return found

    def _pieces(self, row: torch.Tensor) -> list[torch.Tensor]:
        """Views of weights [P], one for each parameter; those of the last few rows are kept."""
        if row.data_ptr() not in self._cut:
            if len(self._cut) == CUTS:
                placed = self._cut.get(self._at)
                self._cut.clear()
                self._cut.update({} if placed is None else {self._at: placed})
            shapes = [p.shape for p in self.trainable.values()]
            pieces = row.split([shape.numel() for shape in shapes])
            self._cut[row.data_ptr()] = [piece.view(shape) for piece, shape in zip(pieces, shapes, strict=True)]
        return self._cut[row.data_ptr()]

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


def _state(name: str, before, after) -> dict[str, tuple]:
    """{name in the memory: (before, after)} of an attribute that was set; nothing, where it holds what this pass computed."""
    if isinstance(after, torch.Tensor):
        if after.grad_fn is not None:
            return {}
        return {TENSORS + name: (before if isinstance(before, torch.Tensor) else None, after.detach().clone())}
    if isinstance(after, int | float):
        number = torch.tensor(after, dtype=torch.float64 if type(after) is float else None)
        return {NUMBERS + name: (torch.tensor(before) if isinstance(before, int | float) else None, number)}
    values = list(after.values()) if isinstance(after, dict) else after if type(after) in SEVERAL.values() else []
    if not values or not all(isinstance(t, torch.Tensor) and t.grad_fn is None for t in values):
        return {}
    if isinstance(after, dict):
        raise ValueError(
            f"the module keeps tensors in a dictionary, {name}, from step to step; allowed: buffers, attributes, tuples"
        )
    kind = next(k for k, kind in SEVERAL.items() if type(after) is kind)
    olds = before if type(before) is type(after) and len(before) == len(after) else [None] * len(after)
    return {f"{kind}{name}.{i}": (old, t.detach().clone()) for i, (old, t) in enumerate(zip(olds, after, strict=True))}


def _get(table, key: str):
    return table[key] if key in table else None  # noqa: SIM401 - the tables of a script have no get


def _restore(now: dict, was: dict) -> None:
    if len(now) != len(was) or not all(map(operator.is_, now.values(), was.values())):
        now.clear()
        now.update(was)


def _cast(t: torch.Tensor, like: torch.Tensor, casts: bool) -> torch.Tensor:
    """On the device of the weights; floats of their dtype, if the module has one alone."""
    return t.to(like.device, like.dtype if casts and t.is_floating_point() else t.dtype)
