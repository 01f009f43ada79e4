"""Closed form of the sharpness at which SGD settles on the minima of a two-layer linear network that learns noisy answers.

The minima W₂W₁ = V are a symmetry orbit, on which the loss is least everywhere but its curvature is not. Label noise of
covariance Σ_ε moves the weights along it until E|g|² is least (`common.linear_theory.optimal_layers`). There, for V = s 1,
Σ_x = 1 and noises σ_i of the answers with root mean square m, W₁W₁ᵀ and W₂ᵀW₂ have the eigenvalues s σ_i/m and s m/σ_i, so

    λ_max(∇²L) = 2 (|W₁|²_op + |W₂|²_op) = 2 s (m/σ_min + σ_max/m) ≥ 4 s,

where 4s, the least on the orbit, needs noise that is the same in every answer: imbalance sharpens, balance flattens.
Source: document 4, part 4. Limit: leading order in η, after a final decay of η; at constant η fluctuations add 10 to 30 % to
balanced noise, and strongly imbalanced noise stays below.
"""

from __future__ import annotations

import numpy as np


def lambda_max(profile, strength: float = 1.0) -> float:
    """The closed form 2 s (m/σ_min + σ_max/m) of V = s 1 and Σ_x = 1.

    profile: σ_i, standard deviation of the noise of each answer, its scale does not matter; strength: s.

    >>> lambda_max([1, 1, 1]), round(lambda_max([2, 1, 0.6, 0.4, 0.3]), 2)
    (4.0, 10.84)
    """
    profile = np.asarray(profile, float)
    m = np.sqrt((profile**2).mean())
    return float(2 * strength * (m / profile.min() + profile.max() / m))


def relaxation_steps(profile, eta: float, batch_size: int) -> np.ndarray:
    """Steps [d] in which the distance of each answer's mode from its place on the orbit falls by e, near that place.

    B (1 + m²/σ_i²)/(8 η² d m²), which does not depend on s. The quietest answer is the slowest.
    """
    profile = np.asarray(profile, float)
    total = (profile**2).sum()
    return batch_size * (1 + total / len(profile) / profile**2) / (8 * eta**2 * total)
