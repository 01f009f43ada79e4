"""Products with the Hessian of the loss of one replica, and the whole matrix, for any module.

A product is a second backward pass through the graph of the first (Pearlmutter 1994, Neural Comput. 6, 147). The graph is built
once, or where it does not fit into the memory allowed for each product anew, one part of the data after the other (`whole`).
Attention takes PyTorch's plain kernel, for the fast ones have no second derivative. What has none at all (sparse gradients, some
checkpoints, a function of one's own), or one that is not symmetric, as PyTorch's weight norm, is differentiated once more by
central differences of its gradient, in float64: exact to about 1e-6 of |H v| where the module computes in double precision, to
1e-3 where it stays in single, and with a ReLU's kinks within the step counted in.
Limit of validity: the loss must be a function of the weights. One that draws random numbers, as under active dropout, is none.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from thermolab.instruments import whole
from thermolab.instruments.whole import fitting
from thermolab.systems import global_random
from thermolab.systems.holding import has_buffers
from thermolab.systems.losses import mean_loss
from thermolab.systems.replicas import Replicas

SYMMETRIC = 1e-4  # of |u| |Hv|, by which u·Hv and v·Hu may differ: rounding in single precision leaves 1e-6
DIFFERENCE = 1e-4  # length of the step to each side of a central difference, over 1 + |w|


class Diverged(ValueError):
    """Weights at which there is no finite gradient."""


class _Graph(NamedTuple):
    """A loss, the parameters [P in all] it depends on, and their gradients, which can be differentiated once more."""

    loss: torch.Tensor
    leaves: list[torch.Tensor]
    slopes: tuple[torch.Tensor, ...]


class HessianProducts:
    """Products H v with the Hessian of the loss of one replica at fixed weights and data.

    system: a `NetworkOnData` or `Replicas`. weights: [P], as `state.weights[r]`; their dtype, at least float32, and device are
    those of the arithmetic. x: [N, ...], y: [N, ...], the whole of which is one batch (and normalised as one by BatchNorm).
    memory: what the replica keeps beside its weights, {name: [...]}, as running statistics (default: the module's own).
    bound: bytes; if one backward pass keeps more, the data are taken in parts, and a product costs a forward pass besides.
    Attributes: loss; gradient [P]; products, how many were made so far; exact: False where they are differences.
    Raises ValueError, one line, for weights that are not [P], data that do not fit, a gradient that is not finite, a module that
    draws random numbers, and data that neither fit into the bound nor can be taken in parts.
    """

    def __init__(self, system, weights: torch.Tensor, x: torch.Tensor, y: torch.Tensor, *, memory=None, bound: int = whole.BOUND):
        self.replicas, self.weights, self.x, self.y = checked(system, weights, x, y)
        self.memory, self.bound, self.products, self.exact = memory, bound, 0, True
        self._holds = self.replicas.backend == "loop" or has_buffers(memory)
        if self._holds and not has_buffers(memory):
            self.memory = {k: v[0] for k, v in self.replicas.own_memory(self.weights[None]).items()}
        self._parts = whole.parts(self.replicas, self.weights, self.x, self.y, bound=bound, times=whole.TWICE)
        self._graph = None
        self.loss, self.gradient = 0.0, torch.zeros_like(self.weights)
        try:
            for part in self._parts:
                with self._within():
                    graph = self._first(part)
                    self.loss += self._share(part) * float(graph.loss.detach())
                    g = torch.cat([s.detach().flatten() for s in graph.slopes])
                    self.gradient = g if len(self._parts) == 1 else self.gradient + self._share(part) * g
            if len(self._parts) == 1 and not self._holds:
                self._graph = graph
            self.gradient = self.gradient.to(self.weights.dtype)
            if self._holds and not self._symmetric():
                self._differentiate(RuntimeError("its second derivative is not symmetric"))
        except (RuntimeError, NotImplementedError) as error:
            self._differentiate(error)
        if not bool(self.gradient.isfinite().all()):
            raise Diverged("the gradient holds nan or inf: mask the diverged replicas before measuring")

    def __call__(self, v: torch.Tensor) -> torch.Tensor:
        """H v [P] of a vector [P]; counts as one product. Raises ValueError for another shape."""
        if v.shape != self.weights.shape:
            raise ValueError(f"v has shape {tuple(v.shape)}: expected [P] = {tuple(self.weights.shape)}, one vector at a time")
        self.products += 1
        return self._product(v.to(self.weights))

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Many products in a row, between which nobody uses the module: it holds the weights, and its graph is built once."""
        if not self.exact or self._graph is not None or len(self._parts) > 1:
            yield
            return
        with self._within():
            self._graph = self._first(self._parts[0])
            try:
                yield
            finally:
                self._graph = None

    def _product(self, v: torch.Tensor) -> torch.Tensor:
        if not self.exact:
            return self._difference(v)
        if self._graph is not None:
            return self._second(self._graph, v)
        found = []
        for part in self._parts:
            with self._within():
                found.append(self._share(part) * self._second(self._first(part), v))
        return sum(found)

    def _share(self, part: slice) -> float:
        return len(self.x[part]) / len(self.x)

    @contextlib.contextmanager
    def _within(self) -> Iterator[None]:
        """The module holds the weights, if it is one that must; attention has a second derivative."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(kernels(self.replicas.module, self.weights.is_cuda))
            if self._holds:
                stack.enter_context(self.replicas.holding(self.weights, self.memory or {}))
            yield

    def _first(self, part: slice) -> _Graph:
        """The loss of a part of the data with its slopes, which have a graph. Within `_within`."""
        x, y = (fitting(self.replicas, t[part], self.weights.dtype) for t in (self.x, self.y))
        with torch.enable_grad():
            if self._holds:
                leaves = list(self.replicas.trainable.values())
                with no_draws():
                    loss = mean_loss(self.replicas.loss_function, self.replicas.module(x), y)
            else:
                # leaves of their own shape: through views of one vector each product would fill a [P] per parameter
                parameters = {k: v[0].clone().requires_grad_() for k, v in self.replicas.views(self.weights[None]).items()}
                leaves = list(parameters.values())
                loss = loss_of(self.replicas, parameters, x, y)
            return _Graph(loss, leaves, torch.autograd.grad(loss, leaves, create_graph=True, materialize_grads=True))

    def _second(self, graph: _Graph, v: torch.Tensor) -> torch.Tensor:
        """H v, within the `_within` of the graph if the module holds the weights."""
        curved = [(i, g) for i, g in enumerate(graph.slopes) if g.requires_grad]  # a constant slope has no graph
        if not curved:
            return torch.zeros_like(self.weights)
        pieces = v.split([p.numel() for p in graph.leaves])
        along, slopes = [pieces[i].view_as(g).to(g.dtype) for i, g in curved], [g for _, g in curved]
        out = torch.autograd.grad(slopes, graph.leaves, along, retain_graph=True, materialize_grads=True)
        return torch.cat([o.flatten() for o in out]).to(self.weights.dtype)

    def _symmetric(self) -> bool:
        """Whether u·Hv = v·Hu on the first samples: not so where a layer's backward pass was not written to be differentiated."""
        few = slice(0, min(len(self.x), 2 * whole.FEW))
        generator = torch.Generator().manual_seed(0)
        u, v = (torch.randn(len(self.weights), generator=generator).to(self.weights) for _ in "uv")
        with self._within():
            graph = self._first(few)
            hu, hv = self._second(graph, u), self._second(graph, v)
        size = (u.norm() * hv.norm()).clamp_min(v.norm() * hu.norm())
        return bool((u @ hv - v @ hu).abs() <= SYMMETRIC * size)

    def _differentiate(self, error: Exception) -> None:
        """From now on by differences of gradients; what has not even a gradient says so."""
        self.exact, self._graph = False, None
        try:
            losses, gradients = self._gradients(self.weights.double()[None])
        except (RuntimeError, NotImplementedError):
            words = str(error).strip().splitlines() or [type(error).__name__]
            raise ValueError(
                f"the module has no gradient on these data: {words[0][:200]}; allowed: what module(x) takes"
            ) from error
        self.loss, self.gradient = float(losses[0]), gradients[0].to(self.weights)

    def _gradients(self, weights: torch.Tensor):
        memory = None if self.memory is None else {k: v.expand(len(weights), *v.shape).clone() for k, v in self.memory.items()}
        x, y = (fitting(self.replicas, t, weights.dtype) for t in (self.x, self.y))
        return whole.gradient(self.replicas, weights, x, y, memory, bound=self.bound)

    def _difference(self, v: torch.Tensor) -> torch.Tensor:
        length, w = float(torch.linalg.vector_norm(v.double())), self.weights.double()
        if not length:
            return torch.zeros_like(self.weights)
        step = DIFFERENCE * (1 + float(torch.linalg.vector_norm(w)))
        ahead, behind = self._gradients(torch.stack([w + step / length * v, w - step / length * v]))[1]
        return ((ahead - behind) * (length / (2 * step))).to(self.weights.dtype)


def dense(system, weights: torch.Tensor, x: torch.Tensor, y: torch.Tensor, *, memory=None) -> torch.Tensor:
    """The whole Hessian [P, P] in float64, the oracle of this module: by torch.func, or by P products for what it does not take.

    Arguments: as for `HessianProducts`. O(P) backward passes: seconds from P = 2000 on. Raises ValueError as it does.
    """
    replicas, weights, x, y = checked(system, weights.double(), x, y)
    if replicas.backend == "loop" or has_buffers(memory):
        product = HessianProducts(replicas, weights, x, y, memory=memory)
        with product.kept():
            full = torch.stack([product(e) for e in torch.eye(len(weights), dtype=weights.dtype, device=weights.device)])
        return (full + full.T) / 2
    x, y = (fitting(replicas, t, weights.dtype) for t in (x, y))

    def loss(w):
        return loss_of(replicas, {k: v[0] for k, v in replicas.views(w[None]).items()}, x, y)

    with torch.enable_grad():
        full = torch.func.jacrev(torch.func.grad(loss), chunk_size=64)(weights)
    return (full + full.T) / 2


def checked(system, weights, x, y):
    """(replicas, weights, x, y), detached and all floating numbers of the dtype of the weights. Raises ValueError, one line."""
    replicas: Replicas = getattr(system, "replicas", system)
    if tuple(weights.shape) != (replicas.n_parameters,):
        raise ValueError(
            f"weights have shape {tuple(weights.shape)}: expected [P] = ({replicas.n_parameters},), one replica such as "
            "state.weights[0]"
        )
    if y is not None and (len(x) != len(y) or not len(x)):
        raise ValueError(f"{len(x)} inputs and {len(y)} targets: as many of one as of the other, at least 1")
    for what, t in (("weights", weights), ("inputs", x), ("targets", y)):
        if t is not None and t.is_complex():
            raise ValueError(f"the {what} are {t.dtype}; allowed: real numbers")
    weights = weights.detach()
    return replicas, weights.float() if weights.dtype.itemsize < 4 else weights, x, y


def loss_of(replicas: Replicas, parameters: dict, x, y) -> torch.Tensor:
    """Loss of one replica on the whole of (x, y), differentiable as often as the module is."""
    dtype = next(iter(parameters.values())).dtype
    return mean_loss(replicas.loss_function, functional_call(replicas.module, parameters | fixed(replicas, dtype), (x,)), y)


def fixed(replicas: Replicas, dtype) -> dict[str, torch.Tensor]:
    """Frozen parameters and buffers in the wanted precision; copies, for running statistics are written to."""
    named = [*replicas.module.named_parameters(), *replicas.module.named_buffers()]
    found = {k: t.detach().clone() for k, t in named if k not in replicas.trainable}
    return {k: t.to(dtype) if t.is_floating_point() else t for k, t in found.items()}


@contextlib.contextmanager
def kernels(module: nn.Module, cuda: bool) -> Iterator[None]:
    """Attention and recurrent layers take kernels that have a second derivative."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        if cuda and any(isinstance(m, nn.RNNBase) for m in module.modules()):
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        yield


@contextlib.contextmanager
def no_draws() -> Iterator[None]:
    """Raises ValueError if random numbers are drawn meanwhile, from the global generators of torch, numpy or Python."""
    with global_random.kept():
        before = whole.generators()
        yield
        drawn = whole.generators() != before
    if drawn:
        raise ValueError("the module draws random numbers (dropout in training mode?): no Hessian; allowed: after module.eval()")
