"""Closed forms of alignment: the kernel of all hidden layers at the minimum of F, the weights there, and E|g|².

To leading order SGD follows the gradient of F_η = L + (η/4) E|g|² (page 00). For an embedded deep linear network
(`embedded_linear`) let x̃ = M_in Z x, C_i = W_i … W_1, A_i = M_out W_L … W_{i+1}. At the minimum of L, batches of size B have

    E|g|² = (4/B) Σ_i Tr(A_iᵀ Σ_ε A_i) Tr(C_{i-1} Σ_x̃ C_{i-1}ᵀ),    i = 1 … L,

least where all hidden layers have the features h_k = c_k D^½ Rᵀ Σ_x^-½ x (up to rotation), with Σ_ε^½ V Σ_x^½ = P D Rᵀ. Their
kernel is c_k² xᵀG x' with G = Σ_x^-½ R D Rᵀ Σ_x^-½ = Σ_x^-½ (Σ_x^½ Vᵀ Σ_ε V Σ_x^½)^½ Σ_x^-½: neither views nor depth nor width
are in it. Each of the L terms is then q = (Tr D)^(2(L-1)/L) (Tr Σ_x̃ |Σ_ε^½ M_out|²)^(1/L), and E|g|² = 4 L q/B.
Source: document 4, part 3; arXiv:2507.01098. Limits: widths of at least the rank of V; leading order in η, reached in a time that
grows as B/η²; and the fluctuations that stay are left out, which for answers of unequal noise hold SGD off this minimum at any η,
little at the default settings, by 1 - CKA = 0.02 and more for deep networks and steep spectra (`resting`).
"""

from __future__ import annotations

import itertools
import math
import operator

import numpy as np

from thermolab.systems import embedded_linear
from thermolab.systems.embedded_linear import View

PACE, QUIET, FOLDS = 0.7, 0.05, 14  # of `recommended`: η λ_max, excess loss over that of f = 0, steps · η² · `rate`
LONGEST = 500_000  # steps


def kernel(v, noise, inputs=None) -> np.ndarray:
    """G [d_x, d_x] of the target V [d_y, d_x], for standard deviations of the noise [d_y] and the inputs [d_x], default 1."""
    v, scale = np.asarray(v, float), _inputs(v, inputs)
    _, d, rt = np.linalg.svd(np.asarray(noise, float)[:, None] * v * scale, full_matrices=False)
    return (rt.T * d) @ rt / np.outer(scale, scale)


def minimum(view: View, v, noise, depth: int, inputs=None) -> tuple[list[np.ndarray], float]:
    """W_1 … W_L of the least E|g|² with M_out W_L … W_1 M_in Z = V, in the basis where they are rank(V) wide; and q.

    noise, inputs: as in `kernel`; Σ_ε and Σ_x positive.
    """
    scale, sigma = _inputs(v, inputs), np.asarray(noise, float)[:, None]
    p, d, rt = np.linalg.svd(sigma * np.asarray(v, float) * scale, full_matrices=False)
    total = d.sum()
    trace_in, trace_out = np.square(view.inputs * scale).sum(), np.square(sigma * view.answers).sum()
    q = total ** (2 - 2 / depth) * (trace_in * trace_out) ** (1 / depth)
    c = np.sqrt(trace_in * total / q * (total**2 / q) ** np.arange(depth - 1))
    first = c[0] * np.sqrt(d)[:, None] * rt / scale @ np.linalg.inv(view.inputs)
    last = np.linalg.inv(view.answers) @ (p * np.sqrt(d) / sigma) / c[-1]
    return [first, *(ratio * np.eye(len(d)) for ratio in c[1:] / c[:-1]), last], float(q)


def free_energy(view: View, matrices, v, noise, eta: float, inputs=None, batch_size: int = 1) -> tuple[float, float, list]:
    """L and E|g|² of any weights W_1 … W_L, exact for Gaussian inputs and noise, and the slopes of F_η = L + (η/4) E|g|².

    With e = y - f and Gaussian moments E|Aᵀe|²|C x̃|² = Tr(AᵀΣ_e A) Tr(C Σ_x̃ Cᵀ) + 2|Aᵀ Cov(e, x̃) Cᵀ|²; the mean gradient,
    whose square does not fall with B, is -2 Aᵀ Cov(e, x̃) Cᵀ.
    """
    scale, depth, rate, mean = _inputs(v, inputs), len(matrices), eta / batch_size, batch_size + 1
    before = embedded_linear.products(matrices, view.inputs * scale)  # C_0 … C_L, on inputs of covariance 1
    after = list(itertools.accumulate(reversed(matrices), operator.matmul, initial=view.answers))[::-1]  # A_0 … A_L
    miss = v * scale - view.answers @ before[-1]
    residual = np.diag(np.square(noise)) + miss @ miss.T
    g2, back = 0.0, 2 * miss
    of_after, of_before = [0.0] * (depth + 1), [0.0] * (depth + 1)
    for i in range(depth):
        a, c = after[i + 1], before[i]
        ra, ad, size = residual @ a, a.T @ miss, np.square(c).sum()
        cross, spread = ad @ c.T, (a * ra).sum()
        g2 += 4 / batch_size * (spread * size + mean * np.square(cross).sum())
        back = back + 2 * rate * a @ (size * ad + mean * cross @ c)
        of_after[i + 1] = 2 * rate * (size * ra + mean * miss @ (c.T @ cross.T))
        of_before[i] = 2 * rate * (spread * c + mean * cross.T @ ad)
    of_before[depth] = -view.answers.T @ back
    slopes = []
    for i in reversed(range(depth)):
        slopes.append(of_before[i + 1] @ before[i].T)
        of_before[i] = of_before[i] + matrices[i].T @ of_before[i + 1]
    slopes.reverse()
    for i in range(1, depth):
        slopes[i] = slopes[i] + after[i + 1].T @ of_after[i]
        of_after[i + 1] = of_after[i + 1] + of_after[i] @ matrices[i].T
    return float(np.trace(residual)), float(g2), slopes


def sharpness(view: View, matrices, inputs=None) -> float:
    """λ_max of the Hessian of L at weights W_1 … W_L that are a minimum of L: twice that of Σ_i A_iA_iᵀ ⊗ C_{i-1}ᵀC_{i-1}."""
    before = embedded_linear.products(matrices[:-1], view.inputs * _inputs(view.inputs, inputs))
    after, total = view.answers, 0.0
    for w, c in zip(reversed(matrices), reversed(before), strict=True):
        total = total + np.kron(after @ after.T, c.T @ c)
        after = after @ w
    return 2 * float(np.linalg.eigvalsh(total)[-1])


def recommended(
    depths, spectrum, noise, *, inputs=None, stretch=embedded_linear.STRETCH, batch_size: int = 16, eta: float | None = None
) -> tuple[float, int]:
    """η (unless it is given) and steps, a quarter of them for the final decay, for data and views as in `embedded_linear`.

    Of 8 random views the worst counts. η is 0.7/λ_max with the `sharpness` at `minimum`, for at 1/λ_max a deep network can lose
    its weakest singular value for good, and less where the excess loss η L q/B of fluctuations would exceed 5 % of |V Σ_x^½|².
    Steps: 14/`rate`, 500 000 at most.
    """
    d_x = len(spectrum) + 1 if inputs is None else len(inputs)
    etas, rates = [], []
    for seed, depth in itertools.product(range(8), set(depths)):
        v = embedded_linear.target(spectrum, d_x, seed=seed)
        seen = embedded_linear.view(d_x, len(spectrum), stretch=stretch, seed=seed)
        matrices, q = minimum(seen, v, noise, depth, inputs)
        signal = np.square(v * _inputs(v, inputs)).sum()
        etas.append(min(PACE / sharpness(seen, matrices, inputs), QUIET * signal * batch_size / (depth * q)))
        rates.append(rate(matrices, q, batch_size))
    eta = min(etas) if eta is None else eta
    return eta, min(LONGEST, math.ceil(FOLDS / (eta**2 * min(rates))))


def rate(matrices, q: float, batch_size: int) -> float:
    """Of alignment near `minimum`, in units of η² per step: 8 q (L-1)/B over |W_1|² + |W_L|².

    h_k → exp(A) h_k, the same A = Aᵀ in all hidden layers, costs E|g|² 16 q (L-1)/B Tr A²D/Tr D and moves the weights, of which
    the first and the last alone change, by Tr A²(W_1W_1ᵀ + W_LᵀW_L). A² = 1 stands for the mean over directions.
    """
    return 8 * q * (len(matrices) - 1) / (batch_size * (np.square(matrices[0]).sum() + np.square(matrices[-1]).sum()))


def _inputs(v, inputs) -> np.ndarray:
    return np.ones(np.shape(v)[1]) if inputs is None else np.asarray(inputs, float)
