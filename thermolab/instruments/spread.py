"""Three readings of "S = mean log-variance over parameters" (document 0, section 3), which leaves open: variance over what?

(a) `entries`: over the entries of a weight tensor, at one time: the spread of the weights.
(b) `along_path`: of each parameter in a window of the trajectory: how far it moves about its trend. A kinetic quantity:
    in a stationary state of temperature ∝ η/B it falls with η and grows with the gradient's covariance.
(c) `laplace`: the variance 1/(F + floor) of a Gaussian posterior whose precision is the Fisher diagonal F: the width of
    the minimum, −½ mean log(F + floor).

All are in nats per parameter, each up to a constant, so that only differences of the same model mean anything. For a
Gaussian with independent components of variance v the entropy is Σ ½ log v + constant: (a) and (b) are twice that per
parameter, as in the document, while (c) carries its ½. Limit of validity: none of them sees correlations between
parameters. (b) counts a slow curve as spread, and a parameter that gets no gradient as lost entropy as it creeps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from thermolab.instruments.autocorrelation import unwrap
from thermolab.instruments.distances import as_tensor


@dataclass(frozen=True)
class Spread:
    """Mean log-variance over the parameters that moved, and how many did not, per replica; n samples in the window."""

    value: np.ndarray | float
    frozen: np.ndarray | float
    n: int


def entries(weights: torch.Tensor, views: Callable[[torch.Tensor], dict[str, torch.Tensor]]) -> np.ndarray:
    """Mean over the weight tensors of the log-variance of their entries.

    weights: [R, P]; views: from such a matrix to the parameters {name: [R, *shape]}, `Replicas.views`.
    Biases and the gains of norms, all that has one dimension, are left out: their variance is 0 at the start. Each
    tensor counts once, whatever its size.
    Returns [R] in nats; −inf for a replica with a tensor of equal entries, nan for one that diverged.
    Raises ValueError if no parameter has two dimensions or more.
    Source: document 0, section 3.
    """
    tensors = [view.flatten(1).double() for view in views(weights).values() if view.dim() > 2]
    if not tensors:
        raise ValueError(
            "no parameter has two dimensions or more, so no weight has entries to spread; allowed: a module with one"
        )
    return torch.stack([t.var(1, correction=0).log() for t in tensors]).mean(0).cpu().numpy()


def along_path(snapshots, *, detrend: Literal["linear", "constant"] = "linear", times=None) -> Spread:
    """Mean over parameters of the log-variance within a window of the trajectory.

    snapshots: [T, ..., P], torch or numpy; the dimensions in between are replicas.
    detrend: "linear" takes a straight line in time off each parameter, "constant" its mean; the variance has T − 2 or
        T − 1 degrees of freedom.
    times: [T] of the snapshots in any unit (default: equally spaced).
    Returns `Spread`: values of the replicas' shape in nats; nan where no parameter moved or a weight is not finite.
    A parameter whose deviation is below the rounding of its value counts as frozen, not as −inf. If `frozen` changes
    in a series of windows, the mean is over other parameters than before.
    Raises ValueError for another `detrend`, fewer than 3 snapshots, or times of another length or all equal.
    Source: document 0, section 3.

    >>> path = np.outer([1.0, -1.0, -1.0, 1.0], [1.0, math.e, 0.0]) + np.arange(4)[:, None] * [0, 1, 0]  # one is frozen
    >>> found = along_path(path)
    >>> round(found.value - math.log(2), 9), found.frozen  # Σ 1/(4 − 2) = 2 and 2e²
    (1.0, 1.0)
    """
    snapshots = as_tensor(snapshots)
    if detrend not in ("linear", "constant"):
        raise ValueError(f"detrend={detrend!r} is unknown; allowed: linear, constant")
    if snapshots.ndim < 2 or len(snapshots) < 3:
        raise ValueError(f"snapshots have shape {tuple(snapshots.shape)}; allowed: [T, ..., P] with T of 3 or more")
    n = len(snapshots)
    trend = _trend(n, detrend, times).to(snapshots.device)
    path = snapshots.double()
    moved = (path - path[:1]).flatten(1)  # small numbers: sums of them lose nothing to the weight's own size
    rest = (moved - trend @ (trend.T @ moved)).unflatten(1, path.shape[1:])
    variance = rest.square().sum(0) / (n - trend.shape[1])
    rounding = 2 * torch.finfo(snapshots.dtype).eps * path.abs().amax(0)
    still = variance <= rounding.square()
    log = torch.where(still, 0.0, variance.log())  # nan stays nan, for it is not still
    value = log.sum(-1) / (~still).sum(-1)
    return Spread(unwrap(value.cpu().numpy()), unwrap(still.sum(-1).double().cpu().numpy()), n)


def laplace(fisher_diagonal, *, floor: float = 1e-4) -> np.ndarray | float:
    """Laplace entropy −½ mean log(F + floor) of a Gaussian posterior with the Fisher diagonal as precision.

    fisher_diagonal: F [..., P], torch or numpy, for the mean loss (per sample). floor: precision of the prior, in the
        unit of F; it bounds what a parameter without curvature adds, −½ log floor.
    Returns values of the leading shape in nats per parameter; nan where F is nan.
    Raises ValueError for a negative F or a floor that is not positive.
    Source: document 0, section 2 (entropy as flatness); MacKay 1992, Neural Computation 4, 448.

    >>> laplace(np.array([0.0, 1.0]), floor=1e-4) / math.log(10)  # (4 + 0)/4, and 1 + 1e-4 for 1
    0.99998...
    """
    if not 0 < floor < math.inf:
        raise ValueError(f"floor={floor} is no precision; allowed: above 0, 1e-4 by default")
    fisher = as_tensor(fisher_diagonal).double()
    if bool((fisher < 0).any()):
        raise ValueError(f"a Fisher diagonal of {float(fisher.min()):.3g}; allowed: 0 or more: take squares of gradients")
    return unwrap((-0.5 * (fisher + floor).log().mean(-1)).cpu().numpy())


def _trend(n: int, detrend: str, times) -> torch.Tensor:
    """Orthonormal columns [T, 1 or 2] that span the trend."""
    times = torch.arange(n, dtype=torch.float64) if times is None else torch.as_tensor(times, dtype=torch.float64)
    if times.shape != (n,) or not bool((times != times[0]).any()):
        raise ValueError(f"times of shape {tuple(times.shape)} for {n} snapshots; allowed: ({n},), not all equal")
    times = times - times.mean()
    columns = [torch.ones(n, dtype=torch.float64), times / times.abs().max()]
    return torch.linalg.qr(torch.stack(columns[: 1 + (detrend == "linear")], 1))[0]
