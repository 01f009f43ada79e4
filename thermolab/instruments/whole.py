"""Loss, gradient and outputs over a whole data set, a part after the other, within a bound on memory.

What a backward pass keeps is measured on four samples, in bytes a sample; if all samples at once would take more than the bound,
L = Σ (n_k/N) L_k over parts of n_k of the N samples. Limit of validity: that sum holds where the loss is a mean over samples that
do not know of each other. BatchNorm in training mode or a loss of pairs is none: measured too, and then refused in one line.
"""

from __future__ import annotations

import random
import weakref

import numpy as np
import torch
from torch import nn

from thermolab.systems import global_random
from thermolab.systems.losses import mean_loss
from thermolab.systems.replicas import Replicas

BOUND = 2**30  # bytes
FEW = 4  # samples, on which the memory is measured
BACKWARD, TWICE = (
    4,
    8,
)  # times what a forward pass keeps: the height of a gradient, and of a product with the Hessian, as measured
TOGETHER = 1e-4  # relative difference of a mean of losses from the loss of all that counts as rounding

_kept: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()  # {replicas: {shape of a sample: bytes}}


def gradient(
    replicas: Replicas, weights: torch.Tensor, x: torch.Tensor, y: torch.Tensor, memory=None, *, bound: int = BOUND
) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses [R] and gradients [R, P] of all replicas over all of x [N, ...], y [N, ...].

    weights: [R, P]; memory: what the replicas keep beside them, {name: [R, ...]} (default: the module's own); bound: bytes.
    Raises ValueError, one line, where the parts of the data do not add up and all together need more than the bound.
    """
    out, losses = torch.zeros_like(weights), weights.new_zeros(len(weights))
    cut = parts(replicas, weights[0], x, y, bound=bound, times=BACKWARD * len(weights))
    g = out if len(cut) == 1 else torch.empty_like(out)
    loop = replicas.backend == "loop"  # its modules may write to their inputs
    for part in cut:
        inputs, targets = (t[part].expand(len(weights), *t[part].shape) for t in (x, y))
        kept = [] if memory is None else [{k: v.clone() for k, v in memory.items()}]
        with torch.no_grad():
            found = replicas.loss_and_gradient(weights, inputs.clone() if loop else inputs, targets, g, *kept)
        if len(cut) == 1:
            return found, out
        share = len(x[part]) / len(x)
        losses += share * found
        out += share * g
    return losses, out


def outputs(
    replicas: Replicas, weights: torch.Tensor, x: torch.Tensor, y: torch.Tensor, memory=None, *, bound: int = BOUND
) -> torch.Tensor:
    """Outputs [R, N, ...] of all replicas for all of x [N, ...]. y: targets, by which the parts are tried; else as `gradient`."""
    kept = [] if memory is None else [memory]
    cut = parts(replicas, weights[0], x, y, bound=bound, times=len(weights))
    return torch.cat([replicas.outputs(weights, x[part], *kept) for part in cut], 1)


def parts(replicas: Replicas, weights: torch.Tensor, x, y, *, bound: int, times: float) -> list[slice]:
    """Slices of the samples, one after the other, each within the bound. weights: [P]; times: what a forward pass keeps."""
    if not bound > 0:
        raise ValueError(f"bound={bound} bytes; allowed: above 0, 2**30 by default")
    n = len(x)
    if n <= 2 * FEW:
        return [slice(0, n)]
    each = times * bytes_a_sample(replicas, weights, x, y)
    if n * each <= bound:
        return [slice(0, n)]
    if not _add_up(replicas, weights, x[: 2 * FEW], y[: 2 * FEW]):
        size, most = (f"{b / 2**30:.2g} GB" for b in (n * each, bound))
        raise ValueError(
            f"{n} samples take about {size} at once, above bound={most}, and cannot go one after the other, for the loss of one "
            "depends on the others (BatchNorm in training mode?); allowed: module.eval(), fewer samples, or a larger bound"
        )
    size = max(1, int(bound / each))
    size = -(-n // -(-n // size))  # of about equal size
    return [slice(k, min(k + size, n)) for k in range(0, n, size)]


def bytes_a_sample(replicas: Replicas, weights: torch.Tensor, x, y) -> float:
    """What autograd keeps of a forward pass with weights [P], for each sample; from the first few, 0 if there are no more."""
    if len(x) < 2 * FEW:
        return 0.0
    known, shape = _kept.setdefault(replicas, {}), (tuple(x.shape[1:]), weights.dtype)
    if shape not in known:
        few, twice = (_bytes_kept(replicas, weights, x[:n], y[:n]) for n in (FEW, 2 * FEW))
        known[shape] = max((twice - few) / FEW, 1.0)
    return known[shape]


def _bytes_kept(replicas: Replicas, weights: torch.Tensor, x, y) -> int:
    """What autograd keeps of a forward pass: tensors that share memory count once."""
    sizes = {}

    def keep(t):
        sizes[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    x, y = (fitting(replicas, t, weights.dtype) for t in (x, y))
    noticed = torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t)
    with global_random.kept(), replicas.holding(weights) as module, torch.enable_grad(), noticed:
        mean_loss(replicas.loss_function, module(x), y)
    return sum(sizes.values())


def fitting(replicas: Replicas, t: torch.Tensor, dtype) -> torch.Tensor:
    """A copy of inputs or targets for a module that holds weights of this dtype: it may write to it."""
    floats = {p.dtype for p in (*replicas.module.parameters(), *replicas.module.buffers()) if p.is_floating_point()}
    return t.to(dtype, copy=True) if t.is_floating_point() and len(floats) == 1 else t.clone()


def mix(replicas: Replicas) -> bool:
    """Whether a norm in the module makes a sample's outputs depend on the others."""
    norms = [m for m in replicas.module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    return any(m.training or not m.track_running_stats for m in norms)


def _add_up(replicas: Replicas, weights: torch.Tensor, x, y) -> bool:
    """Whether the loss of samples is the mean of those of its halves."""
    if mix(replicas):
        return False
    own = {k: v[0] for k, v in replicas.own_memory(weights[None]).items()}

    def loss(part: slice) -> float:
        # each time anew, whatever the module keeps of a call; with gradients, lest a checkpoint should warn of having none
        with replicas.holding(weights, own) as module, torch.enable_grad():
            outputs = module(fitting(replicas, x[part], weights.dtype))
            return float(mean_loss(replicas.loss_function, outputs, fitting(replicas, y[part], weights.dtype)).detach())

    half = len(x) // 2
    with global_random.kept():
        before = generators()
        all_of_them = loss(slice(None))
        if generators() != before:
            return True  # what is drawn differs from call to call: nothing to compare
        halves = (loss(slice(half)) + loss(slice(half, None))) / 2
    return abs(all_of_them - halves) <= TOGETHER * max(abs(all_of_them), abs(halves))


def generators() -> tuple:
    """The states of the global generators of torch, numpy and Python, to be compared."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    tensors = (bytes(s.cpu().numpy()) for s in (torch.get_rng_state(), *cuda))
    return (*tensors, repr(np.random.get_state()), random.getstate())  # noqa: NPY002
