"""Many copies of one network as the rows of one matrix [R, P].

`Replicas` flattens a module's trainable parameters and evaluates loss and gradient of all R copies, each on its own batch. Three
ways: "batched", a hand-written forward and backward pass for a chain of the layers in `batched.LAYERS`, 5 to 15 times faster at
small sizes; "autograd", torch.func.vmap over the module; and "loop", plain PyTorch for one replica after the other, which takes
any module. The fast ways are taken where `proven` says that they compute the same. The module itself is never changed, and no
copy of it is made: what is set in it from outside, as a mode, acts from the next call on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext

import torch
from torch import nn
from torch.func import functional_call, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from thermolab.systems import batched, proven
from thermolab.systems.holding import Holder, has_buffers
from thermolab.systems.losses import LOSSES, check_loss, mean_loss
from thermolab.systems.models import start_mean, start_scale

__all__ = ["LOSSES", "Replicas"]

BACKENDS = ("auto", "batched", "autograd", "loop")
TRACE_AFTER = 200, 1000  # gradients of one layout that save what tracing costs: later, and first, with its imports
TRACES = 32  # kept at the most


class Replicas:
    """Loss and gradient of R copies of a module.

    module: an nn.Module, one tensor in; loss: a name of LOSSES, or a function (outputs, targets) -> mean loss. backend: "auto";
    "batched", refused for what is no such chain; "autograd", which is "loop" where vmap is not proven right; or "loop".
    precision: None, or "bf16": forward and backward under torch.autocast in bfloat16, images channels last, by "loop";
    weights and gradients stay what they are.
    Raises ValueError, one line, for a module without real trainable parameters.
    """

    def __init__(self, module: nn.Module, loss: str | Callable = "cross-entropy", backend="auto", precision=None):
        if backend not in BACKENDS:
            raise ValueError(f"backend={backend!r} is unknown; allowed: {', '.join(BACKENDS)}")
        if precision not in (None, "bf16") or (precision and backend not in ("auto", "loop")):
            raise ValueError(f"precision={precision!r} with backend={backend!r}; allowed: None, or 'bf16' with auto or loop")
        self.precision = precision
        self.module, self.loss, self.loss_function, self._wanted = module, check_loss(loss), loss, backend
        self.trainable = {k: p for k, p in module.named_parameters() if p.requires_grad}
        _check_parameters(self.trainable)
        self.n_parameters = sum(p.numel() for p in self.trainable.values())
        self._holder, self._seen, self._settled = Holder(module, self.trainable), None, False
        self._traces: dict[tuple, tuple] = {}  # {layout: (calls, operations)} of autograd
        if backend == "batched" and self.chain is None:
            layers = ", ".join(k.__name__ for k in batched.LAYERS)
            raise ValueError(f"backend='batched' takes an nn.Sequential of {layers}, a Linear first, no affine norms, no hooks")

    @property
    def chain(self) -> list[tuple[str, nn.Module]] | None:
        """(name, layer) of a chain that the batched backend takes, else None; as the module is now."""
        return self._look()[0]

    @property
    def backend(self) -> str:
        """The way that is taken for inputs [R, B, D]: "batched", "autograd" or "loop"; as the module is now."""
        return self._look()[1]

    def _look(self):
        """(chain or None, way, whether it can be recorded, whether it may draw), looked up anew when the module has changed."""
        if self._seen is None or not (self._settled or self._seen[0].holds()):
            chain = proven.chain(self.module) if isinstance(self.loss_function, str) else None
            vmaps = isinstance(self.loss_function, str) and proven.function_of_tensors(self.module)
            way = "batched" if chain and self._wanted in ("auto", "batched") else "autograd" if vmaps else "loop"
            way = "loop" if self._wanted == "loop" or self.precision else way
            chain = None if self.precision else chain
            found = chain, way, vmaps and proven.plain_attributes(self.module), not vmaps
            self._seen = proven.Snapshot(self.module), found, object()
        return self._seen[1]

    @property
    def may_draw(self) -> bool:
        """Whether the module or the loss may draw random numbers, for all that is known."""
        return self._look()[3]

    @contextmanager
    def settled(self, weights: torch.Tensor) -> Iterator[None]:
        """Many calls, between which nobody changes the module: it is looked at, and lent, once."""
        self._look()
        self._settled = True
        try:
            if self.backend == "loop":
                with self._holder.lent(weights):
                    yield
            else:
                yield
        finally:
            self._settled = False

    def to(self, device) -> Replicas:
        """Move the frozen parameters."""
        self.module.to(device)
        self._traces.clear()
        return self

    def start(self, normal: torch.Tensor) -> torch.Tensor:
        """Weights [R, P] from standard normals [R, P], each parameter at its usual scale, the gains of norms at 1."""
        weights = normal * self._for_each_parameter(start_scale).to(normal)
        means = self._for_each_parameter(start_mean).to(normal)
        return weights + means if means.any() else weights  # a bias of -0 would turn into 0: another hash in the log

    def _for_each_parameter(self, rule) -> torch.Tensor:
        """What a rule (name, tensor) -> number says of each of the P parameters [P]."""
        return torch.cat([torch.full((p.numel(),), rule(k, p)) for k, p in self.trainable.items()])

    def own_weights(self) -> torch.Tensor:
        """The weights [P] that the module has now."""
        with torch.no_grad():
            return torch.cat([p.detach().flatten() for p in self.trainable.values()])

    def own_memory(self, weights: torch.Tensor) -> dict[str, torch.Tensor]:
        """What each replica of weights [R, P] keeps of the module beside them, as it is in the module now: {name: [R, ...]}.

        The buffers, in the way of "loop"; elsewhere nothing, for there no step changes any.
        """
        return self._holder.own(weights) if self.backend == "loop" else {}

    def views(self, flat: torch.Tensor) -> dict[str, torch.Tensor]:
        """The parameters [R, *shape] as views of a matrix [R, P]."""
        out, begin = {}, 0
        for name, p in self.trainable.items():
            out[name] = flat[:, begin : begin + p.numel()].unflatten(1, p.shape)
            begin += p.numel()
        return out

    @contextmanager
    def holding(self, weights: torch.Tensor, memory: Mapping[str, torch.Tensor] = {}) -> Iterator[nn.Module]:
        """The module as one replica: a `with` block in which it is an ordinary module with these weights, in its present mode.

        weights: [P]; memory: what this replica keeps, {name: [...]} as in `own_memory` or a state's memory; other names are
        passed over, and what is missing is the module's own. Both are copied: the module may write to its tensors.
        Its parameters require gradients; after the block it has all of its own back. Plain PyTorch, whatever the module is.
        """
        if weights.shape != (self.n_parameters,):
            raise ValueError(f"weights have shape {list(weights.shape)}; allowed: [{self.n_parameters}], those of one replica")
        with self._holder.lent(weights):
            own = {k: v[0] for k, v in self._holder.own(weights[None]).items()} | {k: v.clone() for k, v in memory.items()}
            self._holder.place(weights.detach().clone(), own)
            yield self.module

    def outputs(self, weights: torch.Tensor, x: torch.Tensor, memory: Mapping[str, torch.Tensor] = {}) -> torch.Tensor:
        """Outputs [R, N, ...] of every replica for the same inputs x [N, ...], without a graph; memory {name: [R, ...]}."""
        with torch.no_grad():
            if self.backend != "loop" and not has_buffers(memory):
                return vmap(lambda p: functional_call(self.module, p, (x,)))(self.views(weights))
            found = []
            for r, row in enumerate(weights):
                with self.holding(row, {k: v[r] for k, v in memory.items()}) as module:
                    found.append(module(x.clone()))
            return torch.stack(found)

    def loss_and_gradient(
        self, weights: torch.Tensor, x: torch.Tensor, y: torch.Tensor, out: torch.Tensor, memory=None, draw=None
    ):
        """Losses [R]; the gradients [R, P] go into `out`. x: [R, B, ...], y: [R, B] or [R, B, K].

        memory: {name: [R, ...]}, what the replicas keep, brought up to date (default: the module's own, and nothing is kept).
        draw: called with r before a replica's forward pass where the module may draw random numbers, to seed them.
        """
        chain, way, *_ = self._look()
        way = "loop" if has_buffers(memory) else way
        if way == "batched" and x.dim() == 3 and x.is_floating_point() and y.dim() == (2 if self.loss == "cross-entropy" else 3):
            return batched.loss_and_gradient(chain, self.loss, self.views(weights), self.views(out), x, y)
        if way == "loop":
            return self._loop(weights, x, y, out, self.own_memory(weights) if memory is None else memory, draw)
        gradients, losses = self._traced(weights, x, y)
        out.copy_(gradients)
        return losses

    def _loop(self, weights, x, y, out, memory, draw):
        losses, news = weights.new_empty(len(weights)), {}
        with self._holder.lent(weights), torch.enable_grad():
            for r in range(len(weights)):
                if draw is not None:
                    draw(r)
                own = {k: v[r] for k, v in memory.items()}
                losses[r], changed = self._one(weights[r], own, x[r], y[r], out[r])
                for name, (before, after) in changed.items():
                    news.setdefault(name, [before] * len(weights))[r] = after
        for name, values in news.items():
            if len({None if v is None else v.shape for v in values}) > 1:
                raise ValueError(
                    f"the module keeps {name} of another shape in each replica; allowed: a buffer, of one shape for good"
                )
            memory[name] = torch.stack(values)
        return losses

    def _one(self, weights, own, x, y, out):
        """Loss of one replica, its gradient [P] in `out`, and what `Holder.changed` says; weights and own may be written to."""
        placed = {k: (t, _aligned(t)) for k, t in {"": weights, **own}.items()}
        own = {k: copy for k, (_, copy) in placed.items() if k}
        self._holder.place(placed[""][1], own)
        x = x.contiguous(memory_format=torch.channels_last) if self.precision and x.dim() == 4 else _aligned(x)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=True) if self.precision else nullcontext():
            loss = mean_loss(self.loss_function, self.module(x), _aligned(y), fused=True)
        loss.backward()
        self._holder.gradient(out)
        changed = self._holder.changed(own)
        for t, copy in placed.values():
            if copy is not t:
                t.copy_(copy)
        return loss.detach(), changed

    def _traced(self, weights, x, y):
        """`_autograd`, after so many calls the bare list of its operations, to the bit the same.

        Half of a small network's time goes into the bookkeeping of torch.func. A list holds for tensors of one layout and for the
        module as it was: whatever is set in it is seen, and recorded anew.
        """
        if not self._look()[2]:
            return self._autograd(weights, x, y)
        layout = (id(self._seen[2]), *((t.shape, t.stride(), t.dtype, t.device) for t in (weights, x, y)))
        calls, operations, seen = self._traces.get(layout, (0, None, self._seen))
        if layout not in self._traces and len(self._traces) == TRACES:
            self._traces.clear()
        self._traces[layout] = (calls + 1, operations, seen)
        if operations is None and calls >= TRACE_AFTER["torch._dynamo" not in sys.modules]:
            self._traces[layout] = (calls + 1, self._autograd, seen)  # what cannot be traced says so once and goes on as it is
            operations = make_fx(lambda w, x, y: self._autograd(w, x, y))(weights, x, y)  # it takes no bound method
            self._traces[layout] = (calls + 1, operations, seen)
        return (operations or self._autograd)(weights, x, y)

    def _autograd(self, weights, x, y):
        # not torch.func.grad, which at its first call imports torch._dynamo, for a second or two, and is slower
        with torch.enable_grad():
            leaves = {name: view.detach().requires_grad_() for name, view in self.views(weights).items()}
            losses = vmap(self._loss_of_one)(leaves, x, y)
            gradients = torch.autograd.grad(losses.sum(), tuple(leaves.values()), materialize_grads=True)  # 0 where unused
        return torch.cat([g.flatten(1) for g in gradients], 1), losses.detach()

    def _loss_of_one(self, parameters, x, y):
        return mean_loss(self.loss_function, functional_call(self.module, parameters, (x,)), y)


def _aligned(t: torch.Tensor) -> torch.Tensor:
    """The tensor, or a copy where its memory begins as no new one would: BLAS rounds by that, and replicas lie side by side."""
    return t if t.data_ptr() % 64 == 0 else t.clone()


def _check_parameters(trainable: Mapping[str, nn.Parameter]) -> None:
    if not trainable:
        raise ValueError("the module has no parameter that requires a gradient: nothing to train; see requires_grad_()")
    for name, p in trainable.items():
        if isinstance(p, nn.parameter.UninitializedParameter):
            raise ValueError(f"parameter {name} has no shape yet (a lazy layer): run a batch through the module first")
        if not p.is_floating_point():
            raise ValueError(f"parameter {name} is {p.dtype}; allowed: real floating numbers")
