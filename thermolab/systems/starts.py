"""Where replicas of a module start: Gaussian at the usual scale, at the module's own weights, or each at weights of its own.

* "gaussian": `models.start_scale` of each parameter, right for the layers in `_USUAL` and this package's own alone.
* "own": the weights that the module has, the same for all replicas: they differ in their batches.
* "fresh": each layer's `reset_parameters`, as its constructor calls it; what a constructor does beyond that is not repeated.
* a function make() -> module: the weights of a module made anew for each replica.

The last two draw from the global generators, seeded by (seed, stream).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from thermolab.systems import global_random, proven, random
from thermolab.systems.replicas import Replicas

STARTS = ("auto", "gaussian", "own", "fresh")
_USUAL = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.LayerNorm, nn.GroupNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_BEFORE_ALL = 2**63  # stands where the number of a step stands, past all of them


def check_starts(starts: str | Callable) -> str | Callable:
    """The same, or a ValueError that names what is allowed."""
    if starts in STARTS or (callable(starts) and not isinstance(starts, nn.Module)):
        return starts
    raise ValueError(f"starts={starts!r} is unknown; allowed: {', '.join(STARTS)}, or a function () -> module")


def start(replicas: Replicas, starts: str | Callable, streams: torch.Tensor, seed: int) -> torch.Tensor:
    """Weights [R, P], one row for each of the streams [R], of the dtype of the module's.

    "auto" is "gaussian" where that is right, else "own". Raises ValueError, one line, where there are no such starts.
    """
    usual = starts == "auto" and all(_is_usual(m) for m in replicas.module.modules())
    if starts == "gaussian" or usual:
        normal = random.normals(seed, streams, 0, 1, replicas.n_parameters, purpose=random.START)[0]
        return replicas.start(normal).to(replicas.own_weights().dtype)
    own = replicas.own_weights().to(streams.device).expand(len(streams), -1).clone()
    if starts in ("auto", "own"):
        return own
    with global_random.kept():
        for row, stream in zip(own, streams.tolist(), strict=True):
            global_random.seed(seed, _BEFORE_ALL, stream)
            row.copy_(_reset(replicas) if starts == "fresh" else _made(replicas, starts()))
    return own


def _is_usual(m: nn.Module) -> bool:
    if type(m).__module__.startswith("thermolab."):
        return True
    return not proven.handled([m]) and (type(m) in _USUAL or (type(m) in proven.FUNCTIONS and not m._parameters))


def _reset(replicas: Replicas) -> torch.Tensor:
    with replicas.holding(replicas.own_weights()) as module:
        for name, m in module.named_modules():
            reset = getattr(m, "reset_parameters", getattr(m, "_reset_parameters", None))
            own = any(p is not None and p.requires_grad for p in m._parameters.values())
            if (own and (reset is None or proven.handled([m]))) or hasattr(m, "parametrizations"):
                raise ValueError(
                    f"layer {name!r}, {type(m).__name__}, has no reset_parameters() that would start it anew; allowed: "
                    "starts='own', or a function () -> module"
                )
            if own:
                reset()
        return torch.cat([p.detach().flatten() for p in replicas.trainable.values()])


def _made(replicas: Replicas, module: nn.Module) -> torch.Tensor:
    found = {k: p for k, p in module.named_parameters() if p.requires_grad}
    shapes = [{k: tuple(p.shape) for k, p in parameters.items()} for parameters in (found, replicas.trainable)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"the function makes a module with the parameters {shapes[0]}; allowed: those of the first, {shapes[1]}")
    return torch.cat([p.detach().flatten() for p in found.values()])
