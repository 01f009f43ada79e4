"""Many copies of one network as the rows of one matrix [R, P].

`Replicas` flattens a module's trainable parameters and evaluates loss and gradient of all R copies at once, each
on its own batch. Two backends: "batched", a hand-written forward and backward pass for a chain of the layers
in `LAYERS`, 5 to 15 times faster at small sizes, and "autograd" (torch.func), for any module and as oracle.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.func import functional_call, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from thermolab.systems import codes
from thermolab.systems.codes import LayerKind
from thermolab.systems.models import start_mean, start_scale


def cross_entropy(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy in nats of logits [..., B, K] and classes [..., B]; one value per leading index."""
    picked = outputs.gather(-1, targets[..., None])[..., 0]
    return (torch.logsumexp(outputs, -1) - picked).mean(-1)


def squared_error(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean of |f - y|² over the batch, without a factor 1/2; outputs and targets [..., B, K]."""
    return (outputs - targets).square().sum(-1).mean(-1)


LOSSES = {"cross-entropy": cross_entropy, "squared": squared_error}
TRACE_AFTER = 200, 1000  # gradients of one layout that save what tracing costs: later, and first, with its imports
TRACES = 32  # kept at the most


class Replicas:
    """Loss and gradient of R copies of a module.

    module: an ordinary nn.Module; loss: "cross-entropy" or "squared"; backend: "auto", "batched" or "autograd".
    """

    def __init__(self, module: nn.Module, loss: str = "cross-entropy", backend: str = "auto"):
        if loss not in LOSSES:
            raise ValueError(f"loss={loss!r} is unknown; allowed: {', '.join(LOSSES)}")
        if backend not in ("auto", "batched", "autograd"):
            raise ValueError(f"backend={backend!r} is unknown; allowed: auto, batched, autograd")
        self.module, self.loss = module, loss
        self.trainable = {k: p for k, p in module.named_parameters() if p.requires_grad}
        self.n_parameters = sum(p.numel() for p in self.trainable.values())
        self.chain = _chain(module)
        if backend == "batched" and self.chain is None:
            raise ValueError(
                f"backend='batched' takes an nn.Sequential of {', '.join(k.__name__ for k in LAYERS)} without affine norms"
            )
        self.backend = ("batched" if self.chain else "autograd") if backend == "auto" else backend
        self._traces: dict[tuple, tuple] = {}  # {layout: (calls, operations)} of autograd

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

    def views(self, flat: torch.Tensor) -> dict[str, torch.Tensor]:
        """The parameters [R, *shape] as views of a matrix [R, P]."""
        out, begin = {}, 0
        for name, p in self.trainable.items():
            out[name] = flat[:, begin : begin + p.numel()].unflatten(1, p.shape)
            begin += p.numel()
        return out

    def outputs(self, weights: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Outputs [R, N, ...] of every replica for the same inputs x [N, ...], without a graph."""
        with torch.no_grad():
            return vmap(lambda p: functional_call(self.module, p, (x,)))(self.views(weights))

    def loss_and_gradient(self, weights: torch.Tensor, x: torch.Tensor, y: torch.Tensor, out: torch.Tensor):
        """Losses [R]; the gradients [R, P] go into `out`. x: [R, B, ...], y: [R, B] or [R, B, K]."""
        if self.backend == "batched":
            return self._batched(weights, x, y, out)
        gradients, losses = self._traced(weights, x, y)
        out.copy_(gradients)
        return losses

    def _traced(self, weights, x, y):
        """`_autograd`, after so many calls the bare list of its operations, to the bit the same.

        Half of a small network's time goes into the bookkeeping of torch.func. A list holds for tensors of one layout and for the
        layers and modes of the module; what else is written into a layer after the first steps, as a new eps, it does not see.
        """
        modes = tuple((id(m), m.training) for m in self.module.modules())
        layout = (modes, *map(id, self.module.parameters()), *((t.shape, t.stride(), t.dtype, t.device) for t in (weights, x, y)))
        calls, operations = self._traces.get(layout, (0, None))
        if layout not in self._traces and len(self._traces) == TRACES:
            self._traces.clear()
        self._traces[layout] = (calls + 1, operations)
        if operations is None and calls >= TRACE_AFTER["torch._dynamo" not in sys.modules]:
            self._traces[layout] = (calls + 1, self._autograd)  # what cannot be traced says so once and goes on as it is
            operations = make_fx(lambda w, x, y: self._autograd(w, x, y))(weights, x, y)  # it takes no bound method
            self._traces[layout] = (calls + 1, operations)
        return (operations or self._autograd)(weights, x, y)

    def _autograd(self, weights, x, y):
        # not torch.func.grad, which at its first call imports torch._dynamo, for a second or two, and is slower
        with torch.enable_grad():
            leaves = {name: view.detach().requires_grad_() for name, view in self.views(weights).items()}
            losses = vmap(self._loss_of_one, randomness="different")(leaves, x, y)
            gradients = torch.autograd.grad(losses.sum(), tuple(leaves.values()), materialize_grads=True)  # 0 where unused
        return torch.cat([g.flatten(1) for g in gradients], 1), losses.detach()

    def _loss_of_one(self, parameters, x, y):
        return LOSSES[self.loss](functional_call(self.module, parameters, (x,)), y)

    def _batched(self, weights, x, y, out):
        parameters, gradients = self.views(weights), self.views(out)
        h, saved = x, []
        for name, layer in self.chain:
            h, memory = LAYERS[type(layer)].forward(layer, name, parameters, h)
            saved.append(memory)
        loss, d = _LOSS_GRADIENTS[self.loss](h, y)
        first = next(i for i, (name, _) in enumerate(self.chain) if f"{name}.weight" in self.trainable)
        for i in range(len(self.chain) - 1, first - 1, -1):
            name, layer = self.chain[i]
            d = LAYERS[type(layer)].backward(layer, name, parameters, gradients, saved[i], d, i > first)
        return loss


def _chain(module: nn.Module):
    """(name, layer) of a chain that the batched backend can take, else None."""
    if not isinstance(module, nn.Sequential):
        return None
    for layer in module:
        affine = isinstance(layer, nn.BatchNorm1d | nn.LayerNorm) and layer.weight is not None
        running = isinstance(layer, nn.BatchNorm1d) and layer.track_running_stats
        mixed = isinstance(layer, nn.Linear) and len({p.requires_grad for p in layer.parameters()}) > 1
        if type(layer) not in LAYERS or affine or running or mixed:
            return None
    return list(module.named_children())


def plan(replicas: Replicas) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What `compiled_mlp.Chain` holds of a chain: its plan [layers, columns] and eps [layers], and its frozen weights, flat."""
    offsets, begin = {}, 0
    for name, parameter in replicas.trainable.items():
        offsets[name], begin = begin, begin + parameter.numel()
    rows, frozen, width = [], [np.zeros(0, np.float32)], 0
    for name, layer in replicas.chain:
        n_in, n_out = (layer.in_features, layer.out_features) if isinstance(layer, nn.Linear) else (width, width)
        width = n_out
        weight, bias = (offsets.get(f"{name}.{kind}", -1) for kind in ("weight", "bias"))
        start = sum(map(len, frozen))
        if isinstance(layer, nn.Linear) and weight < 0:
            own = [layer.weight, *([] if layer.bias is None else [layer.bias])]
            frozen += [p.detach().cpu().numpy().astype(np.float32).ravel() for p in own]
            bias = -1 if layer.bias is None else start + layer.weight.numel()
        row = {codes.KIND: LAYERS[type(layer)].kind, codes.N_IN: n_in, codes.N_OUT: n_out}
        row |= {codes.WEIGHT: weight, codes.BIAS: bias, codes.FROZEN: start}
        rows.append([row[column] for column in codes.COLUMNS])
    eps = [getattr(layer, "eps", 0.0) for _, layer in replicas.chain]
    return np.array(rows, np.int64), np.array(eps), np.concatenate(frozen)


def _cross_entropy_gradient(outputs, targets):
    # by hand: torch.log_softmax over a last dimension of ten takes six times as long on a CPU
    top = outputs.amax(-1, keepdim=True)
    picked = outputs.gather(-1, targets[..., None])
    d = (outputs - top).exp_()
    total = d.sum(-1, keepdim=True)
    loss = (total.log() + top - picked)[..., 0].mean(-1)
    d.div_(total)
    d.scatter_add_(-1, targets[..., None], torch.full_like(d[..., :1], -1.0))
    return loss, d.div_(targets.shape[-1])


def _squared_gradient(outputs, targets):
    d = outputs - targets
    return d.square().sum(-1).mean(-1), d.mul_(2 / d.shape[-2])


_LOSS_GRADIENTS = {"cross-entropy": _cross_entropy_gradient, "squared": _squared_gradient}


class Layer(NamedTuple):
    """A kind of layer, and its two passes.

    forward(layer, name, parameters, h) -> (output, memory);
    backward(layer, name, parameters, gradients, memory, d, pass_on) -> d of its input, writing its own gradients.
    """

    kind: LayerKind
    forward: Callable
    backward: Callable


def _linear(layer, name, parameters, h):
    weight = parameters.get(f"{name}.weight")
    if weight is None:
        return nn.functional.linear(h, layer.weight, layer.bias), h
    bias = parameters.get(f"{name}.bias")
    if bias is None:
        return torch.bmm(h, weight.transpose(1, 2)), h
    return torch.baddbmm(bias[:, None], h, weight.transpose(1, 2)), h


def _linear_back(layer, name, parameters, gradients, h, d, pass_on):
    weight = parameters.get(f"{name}.weight")
    if weight is None:
        return d @ layer.weight
    # through a contiguous copy: with strided output bmm falls back to one call per replica
    gradients[f"{name}.weight"].copy_(torch.bmm(d.transpose(1, 2), h))
    if f"{name}.bias" in gradients:
        torch.sum(d, 1, out=gradients[f"{name}.bias"])
    return torch.bmm(d, weight) if pass_on else None


def _relu(layer, name, parameters, h):
    h = h.clamp_min(0)
    return h, h


def _relu_back(layer, name, parameters, gradients, h, d, pass_on):
    return torch.ops.aten.threshold_backward(d, h, 0)


def _tanh(layer, name, parameters, h):
    h = h.tanh()
    return h, h


def _tanh_back(layer, name, parameters, gradients, h, d, pass_on):
    return d * (1 - h * h)


def _normalise(dim):
    def forward(layer, name, parameters, h):
        h = h - h.mean(dim, keepdim=True)
        scale = torch.rsqrt(h.square().mean(dim, keepdim=True) + layer.eps)
        h.mul_(scale)
        return h, (h, scale)

    def backward(layer, name, parameters, gradients, memory, d, pass_on):
        h, scale = memory
        d = d - d.mean(dim, keepdim=True) - h * (d * h).mean(dim, keepdim=True)
        return d.mul_(scale)

    return forward, backward


LAYERS = {
    nn.Linear: Layer(LayerKind.LINEAR, _linear, _linear_back),
    nn.ReLU: Layer(LayerKind.RELU, _relu, _relu_back),
    nn.Tanh: Layer(LayerKind.TANH, _tanh, _tanh_back),
    nn.BatchNorm1d: Layer(LayerKind.BATCH_NORM, *_normalise(1)),
    nn.LayerNorm: Layer(LayerKind.LAYER_NORM, *_normalise(2)),
}
