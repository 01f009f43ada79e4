"""Gradient noise: how much of the stochastic gradient is signal, how much is noise, and in how many directions.

With g_B the gradient of a minibatch of size B, ∇L its mean and Σ its covariance:
|∇L|², Tr Σ, E|g_B|² = |∇L|² + Tr Σ, SNR = |∇L|/√Tr Σ, and the effective dimension (Tr Σ)²/Tr Σ², the number
of directions that carry the noise (D if it is isotropic).

Two sources. "minibatch": M independent minibatch gradients; |∇L|², Tr Σ and Tr Σ² are U-statistics, unbiased at
any M (for Tr Σ² see Chen, Zhang & Zhong 2010, J. Am. Stat. Assoc. 105, 810). "per-sample": the gradients of all N
samples; for batches drawn independently with replacement Tr Σ = (E|g_i|² − |∇L|²)/B exactly, so there is no
sampling error at all. Batches of one epoch, drawn without replacement from N samples, know of each other: the scatter of M
of them is S²/B with S² = N/(N − 1) (E|g_i|² − |∇L|²), the variance of a single one S²/B (1 − B/N) and that of their mean
S²/(MB) (1 − MB/N), 0 for the whole epoch (Cochran, Sampling Techniques, 1977, section 2.5); Tr Σ² of a few of them is
unbiased up to order B/N only. Limit of validity: with BatchNorm the gradient of a sample depends on its batch and the
mean of g_B is not ∇L; per-sample gradients mean nothing there, use "minibatch".
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
import torch

from thermolab.instruments.autocorrelation import jackknife_error, unwrap
from thermolab.instruments.distances import as_tensor, centre, gram, squared_norms


@dataclass(frozen=True)
class GradientNoise:
    """Moments of the minibatch gradient at `batch_size`, each with its standard error (0: exact), per replica.

    full_gradient_squared: |∇L|²; from minibatches unbiased and therefore negative at times.
    trace: Tr Σ. second_moment: E|g_B|².
    snr: |∇L|/√Tr Σ, 0 where the estimate of |∇L|² is negative; its square, not itself, is nearly unbiased. inf without noise,
        nan without any gradient.
    effective_dimension: (Tr Σ)²/Tr Σ², nan if not asked for or if the estimate of Tr Σ² is not positive.
    top_eigenvalues: largest eigenvalues of Σ, descending, [..., m]. From minibatches they are those of the sample
        covariance, too large unless M far exceeds the effective dimension.
    n: gradients used, M or N.
    """

    full_gradient_squared: np.ndarray | float
    full_gradient_squared_error: np.ndarray | float
    trace: np.ndarray | float
    trace_error: np.ndarray | float
    second_moment: np.ndarray | float
    second_moment_error: np.ndarray | float
    snr: np.ndarray | float
    snr_error: np.ndarray | float
    effective_dimension: np.ndarray | float
    effective_dimension_error: np.ndarray | float
    top_eigenvalues: np.ndarray
    n: int
    batch_size: int | None
    kind: str


def gradient_noise(
    gradients,
    *,
    batch_size: int | None = None,
    drawn_from: int | None = None,
    kind: Literal["minibatch", "per-sample"] = "minibatch",
    spectrum: bool = True,
    eigenvalues: int = 10,
) -> GradientNoise:
    """Signal and noise of the stochastic gradient, from M minibatch gradients or all N per-sample gradients.

    gradients: [M, ..., P], torch or numpy; the dimensions in between are replicas.
    batch_size: B; needed for "per-sample", merely recorded for "minibatch" (the result is at the B they had).
    drawn_from: N, where the batches were drawn without replacement, each sample in one of them at most: those of one epoch or a
        part of it. Not given: independent batches, with replacement. Batches of several epochs are neither: one epoch a call.
    spectrum: whether to form a Gram matrix for effective dimension and eigenvalues, O(M² P) a replica; without it
        the cost is one pass over the gradients. float32 gradients are multiplied in float32, summed in float64.
    eigenvalues: how many of the largest to return.
    Returns `GradientNoise`: arrays of the replicas' shape, floats without replicas.
    Raises ValueError for another `kind`, a missing batch size, fewer than 5 minibatches or 2 samples, nan or inf, and for more
    samples in the batches than they were drawn from.

    >>> gradients = np.array([[1.0, 0.0], [3.0, 0.0], [2.0, 1.0], [2.0, -1.0]])  # mean (2, 0), variances ½, ½
    >>> noise = gradient_noise(gradients, batch_size=2, kind="per-sample")
    >>> noise.full_gradient_squared, noise.trace, noise.effective_dimension
    (4.0, 0.5, 2.0)
    """
    gradients = as_tensor(gradients)
    if kind not in ("minibatch", "per-sample"):
        raise ValueError(f"kind={kind!r} is neither 'minibatch' nor 'per-sample'")
    if gradients.ndim < 2:
        raise ValueError(f"gradients have shape {tuple(gradients.shape)}: expected [M, ..., P]")
    if kind == "per-sample" and (batch_size is None or batch_size < 1):
        raise ValueError(f"batch_size={batch_size}: kind='per-sample' needs the size B ≥ 1 of the batches in use")
    n, least = len(gradients), 5 if kind == "minibatch" else 2
    if n < least:
        raise ValueError(f"{n} gradients are too few for kind={kind!r}: at least {least}")

    share = 0.0 if drawn_from is None else _share(n, batch_size, drawn_from, kind)
    replicas = gradients.shape[1:-1]
    flat = gradients.reshape(n, -1, gradients.shape[-1])
    rows = []
    for r in range(flat.shape[1]):
        x, mean, scale = centre(flat[:, r], torch.float32 if flat.dtype != torch.float64 else torch.float64)
        if kind == "minibatch":
            rows.append(_from_minibatches(x, mean, scale, share, spectrum, eigenvalues))
        else:
            rows.append(_from_samples(x, mean, scale, batch_size, share, spectrum, eigenvalues))
    table = {f.name: [row[f.name] for row in rows] for f in fields(GradientNoise) if f.name in rows[0]}
    shaped = {name: unwrap(np.reshape(column, (*replicas, *np.shape(column[0])))) for name, column in table.items()}
    return GradientNoise(**shaped, n=n, batch_size=batch_size, kind=kind)


def _share(n: int, batch_size: int | None, drawn_from: int, kind: str) -> float:
    """B/N of batches without replacement."""
    if batch_size is None or batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: drawn_from={drawn_from} needs the size B ≥ 1 of the batches")
    if kind == "per-sample" and n != drawn_from:
        raise ValueError(f"{n} samples of drawn_from={drawn_from}: kind='per-sample' needs the gradients of all of them")
    if batch_size * (n if kind == "minibatch" else 1) > drawn_from:
        allowed = "of one epoch at a time, in which each sample comes once"
        raise ValueError(f"{n} batches of {batch_size} hold more than drawn_from={drawn_from} samples; allowed: those {allowed}")
    return batch_size / drawn_from


def _from_samples(x, mean, scale: float, batch_size: int, share: float, spectrum: bool, eigenvalues: int) -> dict:
    """Exact moments for batches with replacement, or each a share of the samples without it; x [N, P] centred and scaled."""
    n = len(x)
    if share:
        batch_size = batch_size * (n - 1) / (n * (1 - share)) if share < 1 else math.inf
    signal = float(mean.square().sum())
    trace = scale**2 * float(squared_norms(x).mean()) / batch_size
    dimension, top = math.nan, np.empty(0)
    if spectrum:
        # The smaller of XXᵀ [N, N] and XᵀX [P, P]: both have the eigenvalues of Σ.
        matrix = gram(x if n <= x.shape[1] else x.T).mul_(1 / n)
        square = float(matrix.square().sum())
        dimension = float(matrix.trace()) ** 2 / square if square > 0 else math.nan
        top = scale**2 / batch_size * _largest(matrix, eigenvalues)
    return {
        "full_gradient_squared": signal,
        "trace": trace,
        "second_moment": signal + trace,
        "snr": signal_to_noise(signal, trace),
        "effective_dimension": dimension,
        "top_eigenvalues": top,
        "full_gradient_squared_error": 0.0,
        "trace_error": 0.0,
        "second_moment_error": 0.0,
        "snr_error": 0.0,
        "effective_dimension_error": 0.0 if spectrum else math.nan,
    }


def _from_minibatches(x, mean, scale: float, share: float, spectrum: bool, eigenvalues: int) -> dict:
    """U-statistics with jackknife errors; x [M, P] centred and scaled; share: B/N of batches without replacement, else 0.

    All of them are blind to a shift of the gradients but |∇L|², for which |mean|² − trace/M is the U-statistic.
    """
    m = len(x)
    norm = scale**2 * squared_norms(x).cpu().numpy()
    along = scale * (x @ mean.to(x.dtype)).double().cpu().numpy()
    mean_squared = float(mean.square().sum())

    # Value with all gradients, then with each left out, which moves the mean by −x_i/(m − 1).
    trace = norm.sum() / (m - 1)
    trace_out = (norm.sum() - norm * m / (m - 1)) / (m - 2)
    signal = mean_squared - (trace / m - share * trace)
    signal_out = mean_squared - 2 * along / (m - 1) + norm / (m - 1) ** 2 - (trace_out / (m - 1) - share * trace_out)
    trace, trace_out = (1 - share) * trace, (1 - share) * trace_out  # from the scatter to the variance of a batch
    moments = {
        "full_gradient_squared": (signal, signal_out),
        "trace": (trace, trace_out),
        "second_moment": (signal + trace, signal_out + trace_out),
        "snr": (signal_to_noise(signal, trace), signal_to_noise(signal_out, trace_out)),
        "effective_dimension": (math.nan, np.full(m, math.nan)),
    }
    top = np.empty(0)
    if spectrum:
        products = gram(x)
        top = (1 - share) * (scale**2 / (m - 1) * _largest(products, eigenvalues))
        square, square_out = _trace_of_square(products)
        moments["effective_dimension"] = (
            _participation(trace / scale**2, (1 - share) ** 2 * square) if scale else math.nan,
            _participation(trace_out / scale**2, (1 - share) ** 2 * square_out) if scale else np.full(m, math.nan),
        )
    values = {name: float(value) for name, (value, _) in moments.items()}
    errors = {f"{name}_error": jackknife_error(out) for name, (_, out) in moments.items()}
    errors["full_gradient_squared_error"] *= math.sqrt(max(0.0, 1 - m * share))  # a whole epoch knows ∇L
    return {**values, **errors, "top_eigenvalues": top}


def _trace_of_square(products: torch.Tensor) -> tuple[float, np.ndarray]:
    """Unbiased Tr Σ² from the Gram matrix K [M, M], and with each point left out.

    Means over distinct indices, ⟨K_ij²⟩ − 2⟨K_ij K_jk⟩ + ⟨K_ij K_kl⟩, from sums over rows of K without diagonal.
    """
    m = len(products)
    off = products.clone().fill_diagonal_(0)
    row, row_square = off.sum(1), off.square().sum(1)
    weighted = off @ row

    def combine(pairs, shared, total, m):
        chains = shared - pairs
        rest = total**2 - 4 * chains - 2 * pairs
        two, three = m * (m - 1), m * (m - 1) * (m - 2)
        return pairs / two - 2 * chains / three + rest / (three * (m - 3))

    all_in = combine(row_square.sum(), row.square().sum(), row.sum(), m)
    left_out = combine(
        row_square.sum() - 2 * row_square,
        row.square().sum() - row.square() - 2 * weighted + row_square,
        row.sum() - 2 * row,
        m - 1,
    )
    return float(all_in), left_out.cpu().numpy()


def signal_to_noise(signal, trace):
    """√(|∇L|²/Tr Σ) of estimates; 0 for a negative one of the signal, inf without noise, nan without either."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.sqrt(np.maximum(signal, 0.0) / np.float64(trace))


def _participation(trace, square):
    """(Tr Σ)²/Tr Σ²; nan where the estimate of Tr Σ² is not positive."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.asarray(square) > 0, np.square(trace) / square, np.nan)


def _largest(matrix: torch.Tensor, count: int) -> np.ndarray:
    """The `count` largest eigenvalues of a positive symmetric matrix, descending."""
    if count < 1:
        return np.empty(0)
    return torch.linalg.eigvalsh(matrix).flip(0)[:count].clamp_min(0).cpu().numpy()
