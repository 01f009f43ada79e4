"""Nearest-neighbour distances and Gram matrices of a cloud of points that lies far from the origin.

A window of weights fluctuates by a thousandth of the distance of its centre from the origin. Distances of
such points in float32, or through |x|² + |y|² − 2 x·y without centring, have no correct digit. Here the mean
is subtracted in float64 and the deviations are scaled to order one before anything else happens. Up to ten
coordinates a KD-tree in float64 does the search; above that a Gram matrix whose column blocks are multiplied
in float32 and summed in float64, |x − y|² = K_xx + K_yy − 2 K_xy.

The Gram form loses digits where neighbours are much closer to each other than to the centre. That ratio is
read off each result, and a cloud in which it could cost more than `ACCURACY` in a neighbour distance is done
again in float64 and, should that not do either, by direct differences.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree

ACCURACY = 1e-5  # of a neighbour distance, relative
TREE_DIMENSION = 10  # a KD-tree wins up to about here
COLUMNS, ROWS = 1024, 2048  # of a block that is multiplied
STREAM = 2**20  # numbers in a block that is converted to float64


@dataclass(frozen=True)
class Neighbours:
    """The k nearest other points of each of N points: `distance` [N, k], ascending, and their `index` [N, k]."""

    distance: np.ndarray
    index: np.ndarray


def as_tensor(samples) -> torch.Tensor:
    """A floating tensor without gradient over the memory of `samples` (a copy only where it must be).

    Raises ValueError for complex numbers: half of each would be lost without a word.
    """
    if not isinstance(samples, torch.Tensor):
        samples = torch.from_numpy(np.require(samples, requirements="CW"))
    samples = samples.detach()
    if samples.is_complex():
        raise ValueError("the samples are complex; allowed: real ones, such as np.stack([z.real, z.imag], -1)")
    return samples if samples.is_floating_point() else samples.double()


def centre(samples, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Subtract the mean in float64 and divide the deviations by a power of two of their size.

    samples: [N, d]. Returns (x, mean, scale): `x` [N, d] of the wanted dtype, `mean` [d] in float64, with
    samples = mean + scale · x; scale is 0 if all points coincide.
    Raises ValueError if a sample is not finite.
    """
    samples = as_tensor(samples)
    mean, scale = _mean_and_scale(samples)
    x = torch.empty(samples.shape, dtype=dtype, device=samples.device)
    for block, out in zip(_stream(samples), _stream(x), strict=True):
        out.copy_((block.double() - mean).div_(scale or 1.0))
    return x, mean, scale


def squared_norms(x: torch.Tensor) -> torch.Tensor:
    """|x|² of each row of [N, d], in float64."""
    return torch.cat([block.double().square().sum(1) for block in _stream(x)])


def gram(x: torch.Tensor, rows: slice = slice(None)) -> torch.Tensor:
    """Products x[rows] · x of [N, d] in the dtype of x, column block by column block, summed in float64."""
    total = torch.zeros(len(x[rows]), len(x), dtype=torch.float64, device=x.device)
    for block in x.split(COLUMNS, dim=1):
        total += block[rows] @ block.T
    return total


def nearest_distances(samples, k: int = 1) -> Neighbours:
    """Distances from each point to its k nearest other points, correct to 1e-5 or better.

    samples: [N, d], torch or numpy, of any offset and scale. Returns `Neighbours` in the samples' units, in
    float64. Raises ValueError unless 1 ≤ k < N, or if a sample is not finite.
    """
    samples = as_tensor(samples)
    if samples.ndim != 2:
        raise ValueError(f"samples have shape {tuple(samples.shape)}: expected [N, d], for one coordinate [N, 1]")
    n, d = samples.shape
    if not 1 <= k < n:
        raise ValueError(f"k={k} neighbours among N={n} points: k must lie in 1 … {n - 1}")
    if d <= TREE_DIMENSION:
        return _by_tree(samples, k)
    for dtype in (torch.float32, torch.float64):
        x, _, scale = centre(samples, dtype)
        squared, index, cancellation = _by_gram(x, k)
        if 3 * torch.finfo(dtype).eps * cancellation <= ACCURACY:
            return Neighbours(scale * squared.sqrt().cpu().numpy(), index.cpu().numpy())
    return _by_differences(samples, k)


def _stream(x: torch.Tensor):
    """Row blocks whose float64 copies are small enough to reuse memory."""
    return x.split(max(1, STREAM // x.shape[1]))


def _mean_and_scale(samples: torch.Tensor) -> tuple[torch.Tensor, float]:
    origin = samples[0].double()  # a first anchor: the mean is then rounded relative to the spread
    shift, size = torch.zeros_like(origin), 0.0
    for block in _stream(samples):
        deviation = block.double() - origin
        shift += deviation.sum(0)
        size = max(size, float(deviation.abs_().max()))
    mean = origin + shift / len(samples)
    if not bool(mean.isfinite().all()):
        raise ValueError("samples hold nan or inf: mask the diverged replicas before measuring")
    return mean, math.ldexp(1.0, math.frexp(size)[1] - 1) if size else 0.0


def _scaled(samples: torch.Tensor) -> tuple[torch.Tensor, float]:
    """The samples in float64 over a power of two, so that differences lose nothing and squares do not overflow."""
    scale = _mean_and_scale(samples)[1] or 1.0
    return samples.double() / scale, scale


def _by_tree(samples: torch.Tensor, k: int) -> Neighbours:
    x, scale = _scaled(samples)
    x = x.cpu().numpy()
    distance, index = cKDTree(x).query(x, k + 1)
    # The point itself comes first unless another coincides with it; then it is dropped wherever it stands.
    own = index == np.arange(len(x))[:, None]
    own[~own.any(1), -1] = True
    return Neighbours(scale * distance[~own].reshape(-1, k), index[~own].reshape(-1, k))


def _by_gram(x: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Squared distances, indices, and the largest (|x|² + |y|²)/|x − y|² over pairs of nearest neighbours."""
    norm = squared_norms(x)
    squared, index, cancellation = [], [], 0.0
    for start in range(0, len(x), ROWS):
        rows = slice(start, start + ROWS)
        table = gram(x, rows).mul_(-2).add_(norm).add_(norm[rows, None])
        table[:, rows].fill_diagonal_(math.inf)
        near, which = table.topk(k, dim=1, largest=False)
        closest = near[:, 0].clamp_min(torch.finfo(torch.float64).tiny)
        cancellation = max(cancellation, float(((norm[rows] + norm[which[:, 0]]) / closest).max()))
        squared.append(near.clamp_min(0))
        index.append(which)
    return torch.cat(squared), torch.cat(index), cancellation


def _by_differences(samples: torch.Tensor, k: int) -> Neighbours:
    x, scale = _scaled(samples)
    distance, index = [], []
    for start in range(0, len(x), ROWS):
        table = torch.cdist(x[start : start + ROWS], x, compute_mode="donot_use_mm_for_euclid_dist")
        table[:, start : start + ROWS].fill_diagonal_(math.inf)
        near, which = table.topk(k, dim=1, largest=False)
        distance.append(near)
        index.append(which)
    return Neighbours(scale * torch.cat(distance).cpu().numpy(), torch.cat(index).cpu().numpy())
