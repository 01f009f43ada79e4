"""What holds for any network that plain SGD trains with independent batches, at any η: identities of single steps, summed.

With a step w ← w − η(g + λw) and a = 2ηλ − η²λ², exactly and on every batch,

* weights that the loss sees the direction of alone (w·g = 0):   Δ|w|² = η²|g|² − a |w|²
* weights u, w that can be rescaled (u·g_u = w·g_w):    Δ(|u|² − |w|²) = η²(|g_u|² − |g_w|²) − a (|u|² − |w|²)
* all weights, in the mean over batches:                Δ|w|² = −2η w·(∇L + λw) + η²|g + λw|²

A stationary state is one in which the means of the left sides vanish. Sources: arXiv:2511.07308 (the radius law), entropic-forces
slides (the second), Yaida, arXiv:1810.00004 (the third, the stationarity thermometer). Limit: with momentum, Adam, gradient
clipping or batches without replacement none of them holds as it stands.
"""

from __future__ import annotations

import numpy as np


def decay(eta, lam):
    """a = 2ηλ − η²λ², what a step of weight decay takes of |w|²."""
    a = eta * lam
    return 2 * a - a * a


def radius_ratio(eta, lam, gradient_squared, radius_squared):
    """η²⟨|g|²⟩/(a⟨|w|²⟩): 1 for a scale-invariant group in a stationary state; inf without weight decay: |w| grows for ever."""
    with np.errstate(divide="ignore"):
        return eta**2 * gradient_squared / (decay(eta, lam) * radius_squared)


def balance(eta, lam, gradients, radii):
    """log(⟨|g_w|²⟩/(⟨|g_u|²⟩ − (a/η²)(⟨|u|²⟩ − ⟨|w|²⟩))): 0 for a rescalable pair in a stationary state.

    gradients, radii: (of u, of w), means of |g|² and of |w|². NaN where the decay leaves nothing of ⟨|g_u|²⟩.
    """
    (g_u, g_w), (u, w) = gradients, radii
    rest = g_u - decay(eta, lam) / eta**2 * (u - w)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(g_w / rest)


def temperature(eta, trace, dim):
    """η Tr Σ/(2D) in units of the loss: the temperature that noise of this size has in a bowl, whatever its curvature.

    trace: Tr Σ, covariance of the minibatch gradient; dim: D, weights that move. Limit: leading order in η, noise alike in all
    directions; else it is a mean over directions. For a scale-invariant layer it is the gas temperature (arXiv:2511.07308).
    """
    return eta * trace / (2 * dim)


PERFECT_GAS = 0.5  # dS/d log T over D: each weight of a perfect gas in a bowl has the entropy ½ log T + a constant
UNDER = 0.5  # exponent of SNR = |∇L|/√Tr Σ in η where the loss has a minimum that noise does not vanish at (UP)
EDGE = 2.0  # η times the batch sharpness at the edge of stability
