"""Linear CKA: how alike two representations of the same samples are, up to rotation and scale.

Features x [n, p] and y [n, q] of the same n samples, columns centred, have the kernels K = xxᵀ and L = yyᵀ, and

    CKA = ⟨K, L⟩/√(⟨K, K⟩⟨L, L⟩),    ⟨K, L⟩ = Tr KL = |yᵀx|²    (Kornblith et al., arXiv:1905.00414).

It is 1 where one is an orthogonal map of the other times a scale, shifts aside; no other invertible map leaves it alone.
⟨K, L⟩ is biased: features that have nothing to do with each other read about √(pq)/n and more, 0.2 for p = q = 6 and n = 32.
The debiased form takes the unbiased estimate (Song et al. 2012, J. Mach. Learn. Res. 13, 1393; arXiv:2010.15327)

    ⟨K, L⟩₀ = Tr KL - n/(n - 2) Σ_i K_ii L_ii + Tr K Tr L/((n - 1)(n - 2)),

0 in the mean for independent features, and needs n of 4 or more. `null` says what shuffled samples read: show it beside a CKA.
A feature map [n, C, H, W] or a sequence [n, T, C] is one vector of all its numbers for each sample, as in Kornblith et al.: one
CKA, which asks for the same place in both. For places as samples of their own, put them into the first dimension.
Limit: CKA is dominated by the directions of largest variance; .99 allows the smallest ones to differ altogether.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from thermolab.instruments.distances import as_tensor

LEAST = 4  # samples
SAME = 1e-24  # variance, as a share of the mean square, below which features count as constant: rounding alone leaves 1e-32


def cka(x, y, *, debiased: bool = False, samples: int = 0) -> np.ndarray | float:
    """Linear CKA of the features x [n, ...] and y [n, ...] of the same n samples: one number.

    x, y: tensors or arrays of any rank and scale, on one device. Works in float64, on features or Gram matrices, whichever are
        smaller.
    samples: the dimension that counts the samples. Those behind it are features, together; those before it are cases of their
        own, which broadcast: -2 for many cases of features [..., n, p].
    Returns [...], a number where no dimension is before the samples; NaN where features are the same for all samples, or not
    finite. Raises ValueError for less than 4 samples, another number of them in y, and complex numbers.
    """
    return _plain(_alignment(_features(x, samples), _features(y, samples), debiased))


def kernel_cka(k, l, *, debiased: bool = False) -> np.ndarray | float:  # noqa: E741
    """CKA of two kernels [..., n, n], such as xxᵀ of features and a kernel xᵀGx′ that is known. Returns, raises: as `cka`."""
    return _plain(_alignment(_kernel(k), _kernel(l), debiased))


def layer_cka(list_x, list_y, *, debiased: bool = False, samples: int = 0) -> np.ndarray:
    """CKA [..., len(list_x), len(list_y)] of each layer of one network with each of another; list_x, list_y: as `cka`'s x, y."""
    columns = [_features(y, samples) for y in list_y]
    rows = [[_plain(_alignment(_features(x, samples), y, debiased)) for y in columns] for x in list_x]
    return np.stack([np.stack(row, -1) for row in rows], -2)


def null(x, y, permutations: int = 100, seed: int = 0, *, debiased: bool = False, samples: int = 0) -> np.ndarray:
    """CKA [permutations, ...] of x with the samples of y shuffled: what representations without any relation read."""
    x, y, rng = _features(x, samples), _features(y, samples), np.random.default_rng(seed)
    return np.stack([_plain(_alignment(x, _shuffled(y, rng), debiased)) for _ in range(permutations)])


@dataclass(frozen=True)
class _Side:
    """Centred features [..., n, p], or a centred kernel [..., n, n]; `own`: K_ii [..., n]."""

    values: torch.Tensor
    own: torch.Tensor
    is_kernel: bool

    def as_kernel(self) -> torch.Tensor:
        return self.values if self.is_kernel else self.values @ self.values.mT


def _features(x, samples: int = 0) -> _Side:
    x = _real(x)
    axis = samples + x.dim() if samples < 0 else samples
    if not 0 <= axis < x.dim() - 1 or x.shape[axis] < LEAST:
        allowed = f"[n, ...] with n = {LEAST} samples or more in dimension {samples}, and features behind it"
        raise ValueError(f"features of shape {tuple(x.shape)} have no CKA; allowed: {allowed}")
    x = _scaled(x.flatten(axis + 1))
    c = _varying(x - x.mean(-2, keepdim=True), x)
    return _Side(c @ c.mT if c.shape[-1] > c.shape[-2] else c, c.square().sum(-1), c.shape[-1] > c.shape[-2])


def _kernel(k) -> _Side:
    k = _real(k)
    if k.dim() < 2 or k.shape[-1] != k.shape[-2] or k.shape[-1] < LEAST:
        raise ValueError(f"a kernel of shape {tuple(k.shape)} has no CKA; allowed: [..., n, n] with n = {LEAST} samples or more")
    k = _scaled(k)
    c = k - k.mean(-2, keepdim=True)
    c = _varying(c - c.mean(-1, keepdim=True), k)
    return _Side(c, c.diagonal(dim1=-2, dim2=-1), True)


def _real(x) -> torch.Tensor:
    return as_tensor(x).double()


def _scaled(x: torch.Tensor) -> torch.Tensor:
    """x over a power of two of its size, which changes no digit: fourth powers of it then neither over- nor underflow."""
    size = x.abs().amax((-2, -1), keepdim=True) if x.numel() else x.new_zeros(())
    return torch.ldexp(x, -torch.frexp(size).exponent.clamp(-1000, 1000))


def _varying(c: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Centred values c of x, 0 where rounding alone makes them differ."""
    constant = c.square().sum((-2, -1)) <= SAME * x.square().sum((-2, -1))
    return torch.where(constant[..., None, None], 0.0, c)


def _shuffled(side: _Side, rng: np.random.Generator) -> _Side:
    order = torch.as_tensor(rng.permutation(side.own.shape[-1]), device=side.own.device)
    values = side.values[..., order, :]
    return _Side(values[..., order] if side.is_kernel else values, side.own[..., order], side.is_kernel)


def _product(a: _Side, b: _Side, debiased: bool) -> torch.Tensor:
    """⟨K, L⟩, or n(n - 3) times its unbiased estimate."""
    n = a.own.shape[-1]
    if b.own.shape[-1] != n:
        raise ValueError(f"features of {n} and of {b.own.shape[-1]} samples have no CKA: both must be of the same samples")
    if a.is_kernel or b.is_kernel:
        trace = (a.as_kernel() * b.as_kernel()).sum((-2, -1))
    else:
        trace = (b.values.mT @ a.values).square().sum((-2, -1))
    if not debiased:
        return trace
    both, sums = (a.own * b.own).sum(-1), a.own.sum(-1) * b.own.sum(-1)
    return trace - n / (n - 2) * both + sums / ((n - 1) * (n - 2))


def _alignment(a: _Side, b: _Side, debiased: bool) -> torch.Tensor:
    scale = _product(a, a, debiased) * _product(b, b, debiased)
    return _product(a, b, debiased) / torch.sqrt(torch.where(scale > 0, scale, torch.nan))


def _plain(values: torch.Tensor) -> np.ndarray | float:
    return values.cpu().numpy() if values.dim() else float(values)
