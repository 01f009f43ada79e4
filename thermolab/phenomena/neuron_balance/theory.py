"""Closed forms of balance: where SGD with a finite step stops on a symmetry orbit, and how long that takes.

To leading order SGD follows the gradient of F_η = L + (η/4) E|g|² (notebook 00). On the orbit of a minimum L is constant, so it
stops where E|g|² is least. For a linear network W₂W₁ = V with the loss |W₂W₁x - y|², inputs of covariance Σ_x and residuals
of covariance Σ_ε that do not depend on them, batches of size B and small η,

    E|g|² = (4/B) (Tr Σ_x Tr W₂ᵀΣ_εW₂ + Tr Σ_ε Tr W₁Σ_xW₁ᵀ),

least at    W₁ = (Tr Σ_x/Tr Σ_ε)^¼ Q D^½ Rᵀ Σ_x^-½,    W₂ = (Tr Σ_ε/Tr Σ_x)^¼ Σ_ε^-½ P D^½ Qᵀ    (Σ_ε^½ V Σ_x^½ = P D Rᵀ)

with any Q of orthonormal columns, where it is (8/B) √(Tr Σ_x Tr Σ_ε) Tr D: a nuclear norm, which soft-thresholds V.
Source: document 4, part 2 and backup slides. Limit: leading order in η; the time to get there grows as 1/η².
"""

from __future__ import annotations

import math

import numpy as np


def threshold(eta: float, batch_size: int, sigma: float, d_y: int, trace_x: float) -> float:
    """τ = (η/B) σ² √(d_y Tr Σ_x), by which the singular values of V Σ_x^½ shrink at the minimum of F_η, for Σ_ε = σ² 1.

    With Σ_x = 1, Tr Σ_x = d_x. Limit: terms of second order in τ are left out.
    """
    return eta / batch_size * sigma**2 * math.sqrt(d_y * trace_x)


def soft_threshold(values, tau: float) -> np.ndarray:
    """max(s - τ, 0): what is left of singular values s."""
    return np.maximum(np.asarray(values, float) - tau, 0.0)


def decay_shift(eta, lam):
    """(2a - a²)/η² with a = η λ: what ⟨|g_u|² - |g_w|²⟩ / ⟨|u|² - |w|²⟩ is in a stationary state under weight decay λ.

    Exact at every η, for w <- w - η (g + λ w): a step multiplies |u|² - |w|² by (1 - a)² and adds η²(|g_u|² - |g_w|²).
    """
    a = np.asarray(eta) * np.asarray(lam)
    return (2 * a - a * a) / np.asarray(eta) ** 2


def clock(eta: float, batch_size: int, steps, momentum: float = 0.0):
    """η²t/B with η/(1 - μ) in place of η: what balance is a function of, under SGD and under the heavy ball.

    With v <- μ v + g, w <- w - η v and gradients that are independent from step to step, u·v_u - w·v_w has the mean
    -(η μ/((1 - μ)(1 - μ²))) (E|g_u|² - E|g_w|²), as u·g_u = w·g_w at the weights of one step alone; with η² E|v|² the drift of
    |u|² - |w|² per step is (η/(1 - μ))² (E|g_u|² - E|g_w|²).
    """
    return (eta / (1 - momentum)) ** 2 * np.asarray(steps) / batch_size


def relaxation_steps(eta, batch_size, sigma: float, d_x: int, d_y: int):
    """Steps in which the log ratio of a linear neuron falls by e: B (d_x + d_y)/(8 η² σ² d_x d_y).

    Near balance, at the minimum of the loss, with Σ_x = 1 and Σ_ε = σ² 1; for d_x = d_y = d it is B/(4 η² σ² d).
    A ReLU neuron is active for half of the inputs and needs about twice as long.
    """
    return batch_size * (d_x + d_y) / (8 * np.asarray(eta) ** 2 * sigma**2 * d_x * d_y)
