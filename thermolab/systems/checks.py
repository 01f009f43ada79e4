"""What a network, its data and its loss must be, asked before anything runs: each fault is one line with a remedy."""

from __future__ import annotations

import warnings

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from thermolab.systems import global_random
from thermolab.systems.loading import chunks
from thermolab.systems.losses import mean_loss
from thermolab.systems.replicas import Replicas

PART = 2**26  # bytes of the data that are looked at together
TRIED = 8, 1, 2, 16, 32, 64, 100, 128, 256  # samples in the first batch: some modules take one number of them alone


def materialised(module: nn.Module, data) -> nn.Module:
    """The module; layers that take their shapes from the first batch have seen one, as in plain PyTorch."""
    if any(isinstance(p, nn.parameter.UninitializedParameter) for p in module.parameters()):
        with torch.no_grad():
            module(data.x[: TRIED[0]].clone())
    return module


def check_data(data, replicas: Replicas) -> torch.dtype:
    """The dtype of weights with which the module takes the data: its own, or else that of the inputs.

    Raises ValueError, one line, for data that the module or the loss does not take; nothing else changes.
    """
    x, y = data.x, data.y
    for what, values in (("inputs", x), ("targets", y)):
        if not isinstance(values, torch.Tensor) or not values.dim() or values.layout != torch.strided:
            kind = f"a {values.layout} tensor" if isinstance(values, torch.Tensor) else f"a {type(values).__name__}"
            raise ValueError(f"the {what} are {kind}; allowed: a dense tensor [N, ...], as of torch.as_tensor({what})")
    if len(x) != len(y):
        raise ValueError(f"{len(x)} inputs and {len(y)} targets; allowed: as many of one as of the other")
    if not len(x):
        raise ValueError("the data are empty: 0 inputs; allowed: at least 1")
    for what, values in (("inputs", x), ("targets", y)):
        if values.is_complex():
            raise ValueError(f"the {what} are {values.dtype}; allowed: real numbers, such as torch.view_as_real({what})")
        bad = _not_finite(values)
        if bad.any():
            first = int(bad.nonzero()[0])
            raise ValueError(
                f"{int(bad.sum())} of the {what} are NaN or infinite, the first in sample {first}; leave such samples out"
            )
    if replicas.loss == "cross-entropy" and y.dtype != torch.int64:
        raise ValueError(
            f"labels are {y.dtype}; allowed: torch.int64, as of y.long(); for class probabilities give a function as loss"
        )
    if replicas.loss == "squared" and not y.is_floating_point():
        raise ValueError(f"targets are {y.dtype}; allowed under loss='squared': floats, as of y.float()")
    own = replicas.own_weights()
    kinds = dict.fromkeys([own.dtype, x.dtype if x.is_floating_point() else own.dtype])
    fault = None
    for kind in kinds:
        with global_random.kept(), torch.enable_grad(), replicas.holding(own.to(kind)) as module:
            try:
                global_random.seed(0, 0, 0)
                outputs, n = first_outputs(module, x)
            except Exception as error:
                fault = fault or error
                continue
            if replicas.loss == "cross-entropy" and isinstance(outputs, torch.Tensor) and outputs.dim() > 1:
                _check_labels(y, outputs, y[:n])
            _check_loss(replicas, outputs, y[:n])
            late = {k for k, p in module.named_parameters() if p.requires_grad} - set(replicas.trainable)
            if late:
                raise ValueError(
                    f"the module made parameters in its first pass, {', '.join(sorted(late))}: it has them now; try again"
                )
        _check_again(replicas, own.to(kind), x, outputs)
        return kind
    raise ValueError(
        f"the module does not take inputs {['B', *x.shape[1:]]} of {x.dtype}: {type(fault).__name__}: {_one_line(fault)}; "
        "allowed: what module(x) takes"
    ) from fault


def _not_finite(values: torch.Tensor) -> torch.Tensor:
    """How many numbers of each sample [N] are NaN or infinite; data larger than memory are looked at in parts."""
    if not values.is_floating_point():
        return torch.zeros(len(values), dtype=torch.int64)
    parts = [values[part] for part in chunks(len(values), max(1, values[0].nbytes), PART)]
    return torch.cat([(~torch.isfinite(part)).reshape(len(part), -1).sum(1) for part in parts])


def check_precision(weights: torch.Tensor, kind: torch.dtype, data) -> None:
    """Raises ValueError, one line, for weights in a precision in which the module does not take the data."""
    if data.x.is_floating_point() and weights.dtype != kind and data.x.dtype == kind:
        raise ValueError(
            f"inputs are {kind} and weights {weights.dtype}; allowed: one precision: convert the inputs, or the module with "
            f"module.to({kind})"
        )


def check_batch(replicas: Replicas, batch_size: int) -> None:
    """Raises ValueError, one line, for a batch of one sample where a batch norm of a chain needs two, as in PyTorch."""
    if batch_size == 1 and any(isinstance(layer, nn.BatchNorm1d) for _, layer in replicas.chain or ()):
        raise ValueError("batch_size=1 has no variance for the module's BatchNorm1d; allowed: 2 or more")


def first_outputs(module, x):
    """(outputs, how many samples) of the first batch that the module takes. Raises what the module raises."""
    fault = None
    for n in [k for k in TRIED if k <= len(x)] or [len(x)]:
        try:
            return module(x[:n].clone()), n
        except Exception as error:
            fault = fault or error
    raise fault


def _check_again(replicas: Replicas, weights, x, outputs) -> None:
    """Asked again with the same weights, buffers, attributes and random numbers, a module must say the same."""
    with global_random.kept(), torch.enable_grad(), replicas.holding(weights) as module:
        global_random.seed(0, 0, 0)
        again, _ = first_outputs(module, x)
    pairs = zip(tree_leaves(outputs), tree_leaves(again), strict=False)
    if not all(_alike(a.detach(), b.detach()) for a, b in pairs if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor)):
        raise ValueError(
            "the module gives other outputs when it is asked again: it keeps something in a list or another object of its own, "
            "or draws from a generator of its own, which its replicas would share; allowed: buffers, or tensors and numbers that "
            "are attributes, and the global generators"
        )


def _alike(a: torch.Tensor, b: torch.Tensor) -> bool:
    if a.shape != b.shape or a.is_complex():
        return a.shape == b.shape
    rounding = 1e-2 if a.dtype.itemsize < 4 else 1e-4  # of the largest: the place in memory decides how BLAS rounds
    most = rounding * float(torch.nan_to_num(a.double()).abs().amax()) if a.numel() else 0.0
    return torch.allclose(a.double(), b.double(), rtol=0, atol=most, equal_nan=True)


def _check_labels(y, outputs, first) -> None:
    last = outputs.shape[:-1] == first.shape
    check_labels(y, outputs.shape[-1 if last else 1])


def check_labels(y: torch.Tensor, k: int) -> None:
    """Raises ValueError, one line, for labels that are none of 0 to k - 1."""
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= k:
        ignore = "; to ignore some, give torch.nn.functional.cross_entropy as loss" if low == -100 else ""
        raise ValueError(f"labels go from {low} to {high}; allowed: 0 to {k - 1}, for {k} outputs{ignore}")


def _check_loss(replicas: Replicas, outputs, y) -> None:
    broadcast = _Broadcast(len(y))
    try:
        with warnings.catch_warnings(), broadcast:
            warnings.filterwarnings("error", "Using a target size")  # PyTorch's own losses broadcast with a warning
            loss = mean_loss(replicas.loss_function, outputs, y.clone())
    except ValueError:
        raise
    except UserWarning:
        broadcast.seen = broadcast.seen or (list(getattr(outputs, "shape", ())), list(y.shape))
    except Exception as error:
        raise ValueError(f"loss={replicas.loss} fails on the first batch: {type(error).__name__}: {_one_line(error)}") from error
    if broadcast.seen and list(getattr(outputs, "shape", ())) != list(y.shape):  # else a loss of pairs
        a, b = broadcast.seen
        raise ValueError(
            f"the loss broadcasts {a} with {b}, each output with each target; allowed: equal shapes, as of y[:, None]"
        )
    if not loss.requires_grad:
        raise ValueError("the loss does not depend on the trainable weights: no gradient reaches them")


class _Broadcast(TorchDispatchMode):
    """Notices where a difference of [B, 1] and [B] becomes [B, B]: outputs and targets of different shape."""

    def __init__(self, batch: int):
        super().__init__()
        self.batch, self.seen = batch, None

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        shapes = [list(t.shape) for t in args if isinstance(t, torch.Tensor) and t.is_floating_point()]
        if (
            self.batch > 1
            and function.overloadpacket.__name__ in _DIFFERENCES
            and sorted(shapes) == [[self.batch], [self.batch, 1]]
        ):
            self.seen = shapes
        return out


_DIFFERENCES = ("sub", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "rsub", "binary_cross_entropy_with_logits")


def _one_line(error: BaseException, limit: int = 200) -> str:
    """The first line of what an error says, that names its cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[0][:limit]
