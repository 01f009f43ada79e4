"""Entropy of a cloud of weights from the distances between its points, in nats.

**Kozachenko–Leonenko**: S = ψ(N) − ψ(k) + log V_d + (d/N) Σ_i log r_i, with r_i the distance from point i to its
k-th nearest neighbour, V_d the volume of the unit ball, ψ the digamma function (Kozachenko & Leonenko 1987; for
k = 1 and large N the form of arXiv:2511.07308). On a sphere of D − 1 dimensions the distance is the chord and
d = D − 1.
**Graph entropy**: S = d [log Σ_i Σ_{j ≤ k} r_ij − ((d − 1)/d) log N] (arXiv:2505.23489), up to a constant that
depends on k, N and d alone: only differences at equal k, N and d mean anything.

Limits of validity. (1) Beyond some ten dimensions Kozachenko–Leonenko is biased upwards, by up to (ln 2)/2 per
dimension: the density is not flat over the ball that reaches the neighbour. The bias does not depend on scale.
(2) Successive samples of a slow trajectory lie too close together, and both estimators then come out too low,
by far more than the error bars: look at τ beside S. (3) Coordinates that never move are not counted in d. Those that move
along one line only, as weights without a gradient do that decay together, are: then give d.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from scipy import special, stats

from thermolab.instruments.autocorrelation import (
    integrated_autocorrelation_time,
    jackknife_error,
    trajectory_autocorrelation_time,
    unwrap,
)
from thermolab.instruments.distances import Neighbours, as_tensor, nearest_distances


@dataclass(frozen=True)
class Entropy:
    """An entropy in nats, of one window or of an array of cells.

    standard_error: from a jackknife over the points, which counts that a point is its neighbours' neighbour too;
        if a time order was declared, widened by √ of the autocorrelation time of the points' contributions. Right
        to a tenth above some fifty dimensions, too wide, by up to 1.4, for k = 1 in one to three.
    n, k, dim: samples per cell, neighbours, dimension d (an array where cells differ in it).
    frozen: coordinates that never moved, and do not count in d unless it was given.
    autocorrelation_time: τ of the coordinates, in samples; nan if no time order was declared.
    estimator: "kozachenko-leonenko" (absolute) or "knn-graph" (differences only).
    """

    value: np.ndarray | float
    standard_error: np.ndarray | float
    n: int
    k: int
    dim: np.ndarray | int
    autocorrelation_time: np.ndarray | float
    estimator: str
    frozen: np.ndarray | int = 0

    @property
    def bias(self) -> np.ndarray | float:
        """What the estimator adds on average for an isotropic Gaussian and independent samples; nan for the graph."""
        if self.estimator == "knn-graph":
            return math.nan
        return unwrap(np.reshape([gaussian_bias(self.n, self.k, int(d)) for d in np.ravel(self.dim)], np.shape(self.dim)))

    @property
    def note(self) -> str:
        """The known bias and the effect of the time order, in words."""
        if self.estimator == "knn-graph":
            words = f"defined up to a constant at k={self.k}, N={self.n}, d={self.dim}: compare differences only"
        else:
            words = (
                f"includes a bias of {np.max(self.bias):+.3g} nats if the cloud is Gaussian, isotropic and uncorrelated "
                f"(k={self.k}, N={self.n}, d={self.dim}); it cancels in differences at equal k, N and d"
            )
        if np.any(self.frozen):
            words += f"; {np.max(self.frozen)} coordinates never moved"
        tau = np.asarray(self.autocorrelation_time)
        if np.isfinite(tau).any():
            longest = np.nanmax(tau)
            words += f"; autocorrelation time up to {longest:.3g} samples, {self.n / longest:.3g} independent ones"
            if longest > 2:
                words += ": correlation lowers S by more than its error bar"
        return words


def kozachenko_leonenko(
    samples, *, dim: int | None = None, k: int = 1, sphere: bool = False, time_ordered: bool = False
) -> Entropy:
    """Differential entropy by the distance to the k-th nearest neighbour (Kozachenko & Leonenko 1987).

    samples: [..., N, d], torch or numpy; leading dimensions are cells. Any offset and any scale.
    dim: dimension of the manifold on which the samples lie; if not given, the number of coordinates that move (`dimension`).
    sphere: take the direction w/|w| of each sample and its entropy on the unit sphere S^(d−1): chord distances,
        dim = d − 1 if not given and all move. On a sphere of radius r add (d − 1) log r.
    time_ordered: the N samples follow each other at equal spacing; the error is then widened, and τ given.
    Returns `Entropy` with arrays of the leading shape, floats without one.
    Raises ValueError for k outside 1 … N − 2, samples that are not finite, or samples that coincide.

    >>> cloud = np.random.default_rng(0).normal(size=(1000, 3))  # exact: (3/2) log(2πe) = 4.257
    >>> entropy = kozachenko_leonenko(cloud)
    >>> abs(entropy.value - 4.257) < 3 * entropy.standard_error
    True
    """
    samples, dim = _prepare(samples, dim, k, sphere)
    n = samples.shape[-2]

    def estimate(near: Neighbours, dim: int) -> tuple[float, np.ndarray]:
        constant = special.digamma(n) - special.digamma(k) + log_ball_volume(dim)
        if near.distance[:, k - 1].min() <= 0:
            raise ValueError(
                f"replicas coincide: {int((near.distance[:, k - 1] == 0).sum())} of {n} samples have distance 0 to "
                f"neighbour {k}, so the entropy is -inf; drop duplicates, use float64 or measure before the collapse"
            )
        # only of the neighbours that are used: nearer ones may coincide
        logs, next_logs = dim * np.log(np.ascontiguousarray(near.distance[:, k - 1 : k + 1].T))
        # Without point m its own term goes, and each point that had it among its k nearest looks one further.
        further = _sum_over_neighbours(near.index[:, :k], (next_logs - logs)[:, None])
        left_out = (logs.sum() - logs + further) / (n - 1)
        return constant + logs.mean(), left_out

    return _over_cells(samples, dim, {"k": k, "estimator": "kozachenko-leonenko"}, sphere, time_ordered, estimate)


def knn_graph(samples, *, dim: int | None = None, k: int = 50, time_ordered: bool = False) -> Entropy:
    """Graph entropy from the summed length of all edges to the k nearest neighbours (arXiv:2505.23489).

    Defined up to a constant in (k, N, d): differences only. Each directed edge counts, so a pair of mutual
    neighbours counts twice. Arguments, result and errors as for `kozachenko_leonenko`; single coincident samples
    are allowed, only a window of identical ones is refused.
    """
    samples, dim = _prepare(samples, dim, k, False)
    n = samples.shape[-2]

    def estimate(near: Neighbours, dim: int) -> tuple[float, np.ndarray]:
        length = near.distance[:, :k].sum(1)
        if not length.sum() > 0:
            raise ValueError(f"replicas coincide: all {n} samples are identical, so the entropy is -inf")
        further = _sum_over_neighbours(near.index[:, :k], near.distance[:, [k]] - near.distance[:, :k])
        with np.errstate(divide="ignore"):
            left_out = dim * np.log(length.sum() - length + further)
        return dim * math.log(length.sum()) - (dim - 1) * math.log(n), left_out

    return _over_cells(samples, dim, {"k": k, "estimator": "knn-graph"}, False, time_ordered, estimate)


def dimension(samples, *, sphere: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Dimension in which samples [..., N, d] move, and how many of their coordinates never do, whole numbers [...] both.

    sphere: that of their directions. What never moves is then one direction more, unless it is 0.

    >>> cloud = np.random.default_rng(0).normal(size=(9, 5)) * [1, 1, 0, 0, 0]
    >>> [int(dimension(w, sphere=s)[0]) for w in (cloud, cloud + 1) for s in (False, True)]
    [2, 1, 2, 2]
    """
    samples = as_tensor(samples)
    still = (samples == samples[..., :1, :]).all(-2)
    rest = (still & (samples[..., 0, :] != 0)).any(-1).long() if sphere else 0
    frozen = still.sum(-1)
    return (samples.shape[-1] - frozen + rest - int(sphere)).cpu().numpy(), frozen.cpu().numpy()


def log_ball_volume(dim: int) -> float:
    """Logarithm of the volume of the unit ball in `dim` dimensions."""
    return dim / 2 * math.log(math.pi) - float(special.gammaln(dim / 2 + 1))


@lru_cache(maxsize=4096)
def gaussian_bias(n: int, k: int, dim: int) -> float:
    """Mean Kozachenko–Leonenko estimate minus true entropy for n independent isotropic Gaussian points, in nats.

    An integral, no simulation: given |x|² ~ χ²_d the squared distance to any other point is noncentral χ²_d, so
    the probability u inside the ball to the k-th neighbour is Beta(k, n − k) and its radius a quantile. The bias
    is the mean of log(V_d r^d / u) over both, less the exact entropy; Gauss–Hermite nodes in the normal scores
    give it to 1e-4 nats (1e-9 of itself where it is large). It does not depend on the scale of the Gaussian.
    """
    score, weight = np.polynomial.hermite_e.hermegauss(12)
    weight = weight / weight.sum()
    probability = stats.norm.cdf(score)
    inside = stats.beta.ppf(probability, k, n - k)
    squared_norm = stats.chi2.ppf(probability, dim)
    squared_radius = stats.ncx2.ppf(inside, dim, squared_norm[:, None])
    surprise = log_ball_volume(dim) + dim / 2 * np.log(squared_radius) - np.log(inside)
    return float(weight @ surprise @ weight - dim / 2 * math.log(2 * math.pi * math.e))


def _prepare(samples, dim: int | None, k: int, sphere: bool) -> tuple[torch.Tensor, int | None]:
    """The samples as a tensor and the dimension of their manifold, if it is given, both checked."""
    samples = as_tensor(samples)
    if samples.ndim < 2:
        raise ValueError(f"samples have shape {tuple(samples.shape)}: expected [..., N, d], for one coordinate [N, 1]")
    n, d = samples.shape[-2:]
    if not 1 <= k <= n - 2:
        raise ValueError(f"k={k} with N={n} samples: k must lie in 1 … N - 2 (one neighbour more gives the error)")
    if dim is not None and not 1 <= dim <= d - sphere:
        raise ValueError(f"dim={dim} for samples with d={d}{' on a sphere' * sphere}: must lie in 1 … {d - sphere}")
    return samples, dim


def _directions(samples: torch.Tensor) -> torch.Tensor:
    """w/|w| of samples [N, d], in float64."""
    samples = samples.double()
    norm = samples.norm(dim=-1, keepdim=True)
    if not bool((norm > 0).all()):
        raise ValueError("a sample is zero or nan and has no direction on the sphere")
    return samples / norm


def _over_cells(samples: torch.Tensor, dim: int | None, settings: dict, sphere: bool, time_ordered: bool, estimate) -> Entropy:
    """Collect in the leading shape what `estimate` makes of each cell: a value, and those with one point left out."""
    cells, (n, d) = samples.shape[:-2], samples.shape[-2:]
    moving, frozen = dimension(samples, sphere=sphere)
    dims = moving if dim is None else np.full_like(moving, dim)
    rows = []
    for cell, own in zip(samples.reshape(-1, n, d), dims.ravel().tolist(), strict=True):
        if sphere:
            cell = _directions(cell)
        value, left_out = estimate(nearest_distances(cell, settings["k"] + 1), max(own, 1))  # of one point they refuse
        error, tau = jackknife_error(left_out), math.nan
        if time_ordered and math.isfinite(error):
            tau = trajectory_autocorrelation_time(cell).value
            error *= math.sqrt(integrated_autocorrelation_time(left_out).value)
        rows.append((value, error, tau))
    value, error, tau = (unwrap(np.reshape(column, tuple(cells))) for column in np.transpose(rows))
    dims, frozen = (unwrap(v if np.ptp(v) else v.ravel()[0]) for v in (dims, frozen))
    return Entropy(value, error, n=n, dim=dims, frozen=frozen, autocorrelation_time=tau, **settings)


def _sum_over_neighbours(index: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """For each point the sum of `gain` [N, k or 1] over the points that have it among their neighbours [N, k]."""
    return np.bincount(index.ravel(), np.broadcast_to(gain, index.shape).ravel(), minlength=len(index))
