"""Losses: two by name, and any function of outputs and targets that gives the mean over the batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional as F


def cross_entropy(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy in nats of logits [..., B, K] and classes [..., B]; one value per leading index."""
    check_fit("cross-entropy", outputs, targets)
    picked = outputs.gather(-1, targets[..., None])[..., 0]
    return (torch.logsumexp(outputs, -1) - picked).mean(-1)


def squared_error(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean of |f - y|² over the batch, without a factor 1/2; outputs and targets [..., B, K]."""
    check_fit("squared", outputs, targets)
    return (outputs - targets).square().sum(-1).mean(-1)


def check_fit(loss: str, outputs: torch.Tensor, targets: torch.Tensor) -> None:
    """Raises ValueError, one line, where targets would be broadcast."""
    if (outputs.shape[:-1] if loss == "cross-entropy" else outputs.shape) == targets.shape:
        return
    allowed = "labels [B] of logits [B, K]" if loss == "cross-entropy" else "equal shapes"
    allowed += ", as of y[:, None]" if loss == "squared" and outputs.shape == (*targets.shape, 1) else ""
    shapes = list(outputs.shape), list(targets.shape)
    raise ValueError(f"outputs {shapes[0]} do not fit targets {shapes[1]} under loss={loss!r}; allowed: {allowed}")


NO_LABEL = torch.iinfo(torch.int64).min  # PyTorch's cross-entropy passes over -100 unless it is told another
LOSSES = {"cross-entropy": cross_entropy, "squared": squared_error}


def check_loss(loss: str | Callable) -> str:
    """The name of a loss: one of LOSSES, or that of a function. Raises ValueError, one line, for anything else."""
    if isinstance(loss, str) and loss in LOSSES:
        return loss
    if isinstance(loss, str) or not callable(loss):
        raise ValueError(f"loss={loss!r} is unknown; allowed: {', '.join(LOSSES)}, or a function (outputs, targets) -> mean loss")
    return f"{getattr(loss, '__module__', '')}.{getattr(loss, '__qualname__', type(loss).__name__)}"


def mean_loss(loss: str | Callable, outputs, targets: torch.Tensor, fused: bool = False) -> torch.Tensor:
    """The loss of one network on one batch, a scalar; fused: by PyTorch's own operations, equal but for rounding.

    A named loss takes outputs [B, K]. Beyond: cross-entropy is the mean over all positions of logits [B, ..., K] or, as PyTorch
    has them, [B, K, ...], with labels [B, ...]; squared is the mean over B of the sum of all else, outputs and targets [B, ...].
    Raises ValueError, one line, for outputs that do not fit the targets, and where a function returns no real scalar.
    """
    if callable(loss):
        return _scalar(loss(outputs, targets))
    if not isinstance(outputs, torch.Tensor):
        raise ValueError(
            f"the module returns a {type(outputs).__name__}; allowed for loss={loss!r}: one tensor; a function (outputs, "
            "targets) -> mean loss picks what it needs"
        )
    if loss == "squared":
        if outputs.dim() != 2 and outputs.shape == targets.shape:
            outputs, targets = (t.reshape(len(t), -1) for t in (outputs, targets))
        if not fused:
            return squared_error(outputs, targets)
        check_fit(loss, outputs, targets)
        return F.mse_loss(outputs, targets) * outputs.shape[-1]
    if outputs.dim() > 2:
        last, first = outputs.shape[:-1] == targets.shape, (len(outputs), *outputs.shape[2:]) == tuple(targets.shape)
        if last and first:
            raise ValueError(
                f"logits {list(outputs.shape)} and labels {list(targets.shape)} fit in two ways, classes last or second; "
                "allowed: a function (outputs, targets) -> mean loss that says which"
            )
        if last or first:
            outputs, targets = (outputs.movedim(1, -1) if first else outputs).flatten(0, -2), targets.flatten()
    if not fused:
        return cross_entropy(outputs, targets)
    check_fit(loss, outputs, targets)
    return F.cross_entropy(outputs, targets, ignore_index=NO_LABEL)


def _scalar(loss) -> torch.Tensor:
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1 or loss.is_complex():
        what = f"shape {list(loss.shape)}, {loss.dtype}" if isinstance(loss, torch.Tensor) else f"a {type(loss).__name__}"
        raise ValueError(f"the loss has {what}; allowed: one real number, the mean over the batch")
    return loss.reshape(())
