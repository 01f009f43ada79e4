"""Which modules the fast ways compute exactly; all others go through plain PyTorch.

A way is taken only for layers of exactly known types: no hooks, on layers, parameters or all modules, no parametrization,
no forward of one's own, no tensor of a class of its own. What can change is seen by `Snapshot`.
"""

from __future__ import annotations

import inspect
import operator

import torch
from torch import nn
from torch.nn.modules import module as global_hooks

from thermolab.systems.batched import LAYERS

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
# functions of their input and parameters alone, which torch.func.vmap computes as they do
FUNCTIONS = {
    nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.Identity, nn.Flatten, nn.Unflatten, nn.Linear, nn.Bilinear, nn.Embedding,
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.PixelShuffle,
    nn.PixelUnshuffle, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.MaxPool1d, nn.MaxPool2d, nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d, nn.ZeroPad1d, nn.ZeroPad2d, nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReplicationPad1d,
    nn.ReplicationPad2d, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm, *_NORMS, *_DROPOUTS, nn.ReLU,
    nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus, nn.Softsign, nn.Tanh,
    nn.Sigmoid, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.LogSigmoid, nn.Softmax, nn.LogSoftmax, nn.Softmin,
    nn.Tanhshrink,
}  # fmt: skip
_FORWARDS = {kind: kind.forward for kind in (*FUNCTIONS, *LAYERS)}  # as they were written


def chain(module: nn.Module) -> list[tuple[str, nn.Module]] | None:
    """(name, layer) of an nn.Sequential that `batched` computes exactly, for inputs [B, D], else None."""
    layers = list(module._modules.items())
    if type(module) is not nn.Sequential or not layers or type(layers[0][1]) is not nn.Linear or handled([module]):
        return None
    tensors = [t for _, layer in layers for t in (*layer._parameters.values(), *layer._buffers.values()) if t is not None]
    shared = len({id(t) for t in tensors}) < len(tensors)  # an activation may come twice, weights may not
    if shared or module._parameters or module._buffers or handled(layer for _, layer in layers):
        return None
    width = None
    for _, layer in layers:
        if type(layer) not in LAYERS or not _in_chain(layer, width):
            return None
        width = layer.out_features if type(layer) is nn.Linear else width
    return layers


def _in_chain(layer: nn.Module, width: int | None) -> bool:
    """Whether a layer of a known type, which finds inputs [B, width], is one that the hand-written passes compute."""
    if type(layer) is nn.Linear:
        return "weight" in layer._parameters and len({p.requires_grad for p in layer.parameters()}) == 1
    if type(layer) is nn.LayerNorm:
        return layer.weight is None and layer.bias is None and tuple(layer.normalized_shape) == (width,)
    if type(layer) is nn.BatchNorm1d:
        return layer.weight is None and layer.bias is None and layer.running_mean is None
    return not layer._parameters and not layer._buffers


def function_of_tensors(module: nn.Module) -> bool:
    """Whether the module, in its present mode, is a function of its inputs and parameters that vmap computes.

    All its layers are torch.nn's or this package's own, which are written so; nothing is drawn, remembered or changed in place.
    """
    modules = list(module.modules())
    places = [t for _, t in (*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False))]
    shared = len({id(t) for t in places}) < len(places)  # functional_call leaves a tensor of vmap in one of two places
    return not shared and not handled(modules) and all(map(_is_function, modules))


def _is_function(m: nn.Module) -> bool:
    kind = type(m)
    if kind.__module__.startswith("thermolab."):
        return not m._buffers
    if kind not in FUNCTIONS or getattr(m, "inplace", False):
        return False
    if kind in _NORMS:
        return m.running_mean is None or not m.training
    if kind in _DROPOUTS:
        return not m.training or m.p == 0
    if kind is nn.Embedding:
        return m.padding_idx is None and m.max_norm is None and not m.scale_grad_by_freq and not m.sparse
    return True


def handled(modules) -> bool:
    """Whether somebody hung something into one of these modules, or around all."""
    if any(_around()):
        return True
    for m in modules:
        own = m.__dict__
        if type(m) in _FORWARDS and type(m).forward is not _FORWARDS[type(m)]:
            return True
        if any(own.get(name) for name in _HOOKS) or "forward" in own or "__call__" in own or own.get("_compiled_call_impl"):
            return True
        for p in m._parameters.values():
            if p is not None and (
                type(p) is not nn.Parameter or p._backward_hooks or getattr(p, "_post_accumulate_grad_hooks", None)
            ):
                return True
        if any(t is not None and type(t) is not torch.Tensor for t in m._buffers.values()):
            return True
    return False


def _hooked(p: nn.Parameter) -> bool:
    return bool(p._backward_hooks or p._post_accumulate_grad_hooks)


def plain_attributes(module: nn.Module) -> bool:
    """Whether all attributes of the layers are values that change only by being replaced: then a snapshot sees all."""
    return all(_plain(v) for m in module.modules() for k, v in m.__dict__.items() if k not in _TABLES)


def _plain(value) -> bool:
    if isinstance(value, tuple):
        return all(map(_plain, value))
    return value is None or isinstance(value, int | float | str | torch.dtype | torch.device) or inspect.isroutine(value)


_TABLES = set(nn.Module().__dict__) - {"training"}


def _around() -> tuple[bool, ...]:
    """What acts on all modules: hooks and automatic precision."""
    hooks = any(getattr(global_hooks, f"_global{name}") for name in _HOOKS)
    return hooks, torch.is_autocast_enabled("cpu"), torch.is_autocast_enabled("cuda")


class Snapshot:
    """What a module was, to be asked whether it still is: layers, tensors, hooks and attributes, each the same object."""

    def __init__(self, module: nn.Module):
        self._tables = [(d, tuple(d), tuple(d.values())) for m in module.modules() for d in self._of(m)]
        self._around, self._kinds = _around(), {type(m) for m in module.modules()} & _FORWARDS.keys()
        self._parameters = [(p, p.requires_grad) for p in module.parameters()]

    @staticmethod
    def _of(m):
        tables = (m.__dict__, m._parameters, m._buffers, m._modules, *(m.__dict__.get(name) for name in _HOOKS))
        return [d for d in tables if isinstance(d, dict)]  # those of a script are none, and it is never taken for known

    def holds(self) -> bool:
        """Whether nothing has changed; values inside tensors may."""
        if self._around != _around() or any(kind.forward is not _FORWARDS[kind] for kind in self._kinds):
            return False
        for table, keys, values in self._tables:
            if len(table) != len(keys) or not all(map(operator.is_, table.values(), values)):
                return False
        return all(p.requires_grad == wants and not _hooked(p) for p, wants in self._parameters)
