"""Gradient descent without noise, and what leaves the loss alone: exact calculations beside the runs of `linear`.

Descent on the exact loss keeps W_{i+1}ᵀW_{i+1} - W_iW_iᵀ as it was (up to η²), SGD moves it until its noise is in balance; so its
layers stay as unlike as the start left them, unless the start is small and the layers balanced all along. Then, without
views, hidden layer k has the kernel (VᵀV)^(k/L) and alignment comes by itself. Source: document 4, part 3.
"""

from __future__ import annotations

import math

import numpy as np

from thermolab.systems.embedded_linear import View, orthogonal

GROW, LIMIT = 1.05, 0.01  # of the steps of `descend`: balance is kept up to the square of a step


def descend(
    view: View, matrices, v, *, excess: float, inputs=None, eta: float = 0.01, most: int = 20_000
) -> tuple[list[np.ndarray], float]:
    """W_1 … W_L after descent on the loss less the noise, Tr (f - V)Σ_x(f - V)ᵀ, down to `excess`; and that number there.

    eta: at the first step; it grows by GROW at each, is halved where the loss would rise, and a step is at most LIMIT of |w|.
    inputs: standard deviations, default 1; most: steps at the most.
    """
    scale = np.ones(v.shape[1]) if inputs is None else np.asarray(inputs, float)
    m_in, m_out, goal = view.inputs * scale, view.answers, v * scale
    w = kept = [np.array(m, float) for m in matrices]
    found = math.inf
    for _ in range(most):
        before = [m_in]
        for m in w:
            before.append(m @ before[-1])
        miss = m_out @ before[-1] - goal
        now = float(np.square(miss).sum())
        if not now <= found:  # nor if it is no number
            w, eta = kept, eta / 2
            continue
        kept, found, back = w, now, 2 * m_out.T @ miss
        if found <= excess:
            break
        slopes = []
        for m, h in zip(reversed(w), reversed(before[:-1]), strict=True):
            slopes.append(back @ h.T)
            back = m.T @ back
        slopes.reverse()
        eta = min(GROW * eta, LIMIT * _length(w) / _length(slopes))
        w = [m - eta * slope for m, slope in zip(w, slopes, strict=True)]
    return kept, found


def _length(matrices) -> float:
    return math.sqrt(sum(float(np.square(m).sum()) for m in matrices))


def features(view: View, matrices, x: np.ndarray) -> list[np.ndarray]:
    """Input view, hidden layers, output of W_L, for inputs x [n, d_x]: as `embedded_linear.hidden` with its ends, without replicas."""
    found = [x @ view.inputs.T]
    for m in matrices:
        found.append(found[-1] @ m.T)
    return found


def inserted(matrices, seed: int, spread: float) -> list[np.ndarray]:
    """The same product with R and R⁻¹ between all successive W: R = Q diag(10^-spread … 10^spread) Q'ᵀ, orthogonal for 0."""
    rng, w = np.random.default_rng([seed, 7]), [np.array(m, float) for m in matrices]
    for i in range(len(w) - 1):
        n = len(w[i])
        left, right, values = orthogonal(n, rng), orthogonal(n, rng), np.logspace(-spread, spread, n)
        w[i] = left * values @ right @ w[i]
        w[i + 1] = w[i + 1] @ (right.T / values @ left.T)
    return w
