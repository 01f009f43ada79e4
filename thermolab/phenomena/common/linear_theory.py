"""Closed forms of two-layer linear networks W₂W₁: the minimum of E|g|² on a symmetry orbit, and the curvature there.

For the loss |W₂W₁x - y|², inputs of covariance Σ_x and residuals of covariance Σ_ε that do not depend on them, on the orbit
W₂W₁ = V, E|g|² = (4/B) (Tr Σ_x Tr W₂ᵀΣ_εW₂ + Tr Σ_ε Tr W₁Σ_xW₁ᵀ) is least at

    W₁ = (Tr Σ_x/Tr Σ_ε)^¼ Q D^½ Rᵀ Σ_x^-½,    W₂ = (Tr Σ_ε/Tr Σ_x)^¼ Σ_ε^-½ P D^½ Qᵀ    (Σ_ε^½ V Σ_x^½ = P D Rᵀ)

with any Q of orthonormal columns. Source: document 4, part 2 and backup slides. Limit: leading order in η.
"""

from __future__ import annotations

import math

import numpy as np


def optimal_layers(target, noise, inputs=None, width: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """W₁ [h, d_x] and W₂ [d_y, h] of the least E|g|² with W₂W₁ = target [d_y, d_x], for Q the first columns of 1.

    noise: Σ_ε [d_y, d_y], positive definite; inputs: Σ_x [d_x, d_x], likewise, default 1; width: h, default min(d_x, d_y).
    Raises ValueError if the target's rank does not fit through the width.
    """
    target, noise = np.asarray(target, float), np.asarray(noise, float)
    inputs = np.eye(target.shape[1]) if inputs is None else np.asarray(inputs, float)
    root_e, root_x = root(noise), root(inputs)
    p, d, rt = np.linalg.svd(root_e @ target @ root_x, full_matrices=False)
    width = len(d) if width is None else width
    if np.linalg.matrix_rank(target) > width:
        raise ValueError(f"width={width} is too small for a target of rank {np.linalg.matrix_rank(target)}")
    n, ratio = min(width, len(d)), (np.trace(inputs) / np.trace(noise)) ** 0.25
    first, second = np.zeros((width, target.shape[1])), np.zeros((len(target), width))
    first[:n] = ratio * np.sqrt(d[:n, None]) * rt[:n] @ np.linalg.inv(root_x)
    second[:, :n] = np.linalg.inv(root_e) @ (p[:, :n] * np.sqrt(d[:n])) / ratio
    return first, second


def norms(target, noise, inputs=None) -> tuple[float, float]:
    """|W₁|² and |W₂|² of `optimal_layers`, whatever the width."""
    first, second = optimal_layers(target, noise, inputs)
    return float((first**2).sum()), float((second**2).sum())


def root(matrix: np.ndarray) -> np.ndarray:
    """The symmetric square root of a positive matrix; features x root(G) have the kernel xᵀGx′."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def hessian_top_and_trace(first, second) -> tuple[float, float]:
    """λ_max and trace of the Hessian of |W₂W₁x - y|² at its minimum, for W₁ [h, d_x], W₂ [d_y, h] and Σ_x = 1.

    On a matrix M of outputs the Hessian acts as 2 (W₂W₂ᵀM + M W₁ᵀW₁), so its eigenvalues are 2 (a_i + b_j) with the squared
    singular values a of W₂, b of W₁.
    """
    a, b = (np.linalg.svd(np.asarray(m, float), compute_uv=False) ** 2 for m in (second, first))
    return 2 * float(a.max() + b.max()), 2 * float(np.shape(first)[1] * a.sum() + len(second) * b.sum())


def flattest(product) -> tuple[float, float]:
    """Least λ_max and least trace over all W₂W₁ = product [d_y, d_x]: 4 s_max and 4 √(d_x d_y) Σ s_i of its singular values."""
    d_y, d_x = np.shape(product)
    s = np.linalg.svd(np.asarray(product, float), compute_uv=False)
    return 4 * float(s.max()), 4 * math.sqrt(d_x * d_y) * float(s.sum())


def hessian_top(first, second, inputs=None) -> float:
    """λ_max of the Hessian of |W₂W₁x - y|² at its minimum, for W₁ [h, d_x], W₂ [d_y, h] and Σ_x [d_x, d_x], default 1.

    On a matrix M of outputs the Hessian acts as 2 (W₂W₂ᵀ M Σ_x + M Σ_x^½ W₁ᵀW₁ Σ_x^½).
    """
    first, second = np.asarray(first, float), np.asarray(second, float)
    inputs = np.eye(first.shape[1]) if inputs is None else np.asarray(inputs, float)
    root = np.linalg.cholesky(inputs)
    act = np.kron(second @ second.T, root.T @ root) + np.kron(np.eye(len(second)), root.T @ first.T @ first @ root)
    return 2 * float(np.linalg.eigvalsh(act).max())
