"""A small language whose next words are uncertain, evenly or unevenly, and a linear network that learns it, in float64.

There are as many contexts as words: p(y|c) = (1 - f) softmax(m_c z_c) + f/K with random z_c, m_c chosen for the entropy H_c, and
a floor f, as no word is impossible. A linear network W₂W₁ sees the context c as x = √K e_c (so that Σ_x = 1) and draws
y from p(·|c); its target is p_c + a_c (e_y - p_c), whose noise a_c makes louder or quieter.

Under cross-entropy the Hessian has the label covariance diag q - qqᵀ itself as a factor: a context whose next word is nearly
certain has no curvature. Under the squared loss, on targets e_y - 1/K (without the -1/K the sum of the outputs would have no
noise, and no balance), the residuals of context c have the covariance Σ_c = diag p_c - p_c p_cᵀ, and SGD stops where
Tr W₂ᵀNW₂ + Tr W₁AW₁ᵀ is least, N being the sum of all Σ_c and A = diag Tr Σ_c (`common.linear_theory.optimal_layers`).
Source: document 4, part 4. Limits: equal mean entropy is not equal Tr Σ_c; the closed form holds to leading order in η.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import linalg, optimize
from scipy.sparse.linalg import eigsh

from thermolab.phenomena.common import linear_theory

FLOOR = 0.02
STRONGEST = 1e6  # m_c: beyond, only the most likely word is left


def entropy(p) -> np.ndarray:
    """-Σ p log p in nats, over the last dimension."""
    p = np.asarray(p, float)
    return -(p * np.log(p)).sum(-1)


def bigrams(entropies, seed: int = 0) -> np.ndarray:
    """p(y|c) [c, y], as many words as contexts, of these entropies H_c [c] in nats; the same z_c for the same seed.

    Raises ValueError for an entropy that no p_c of the module docstring has.
    """
    k = len(entropies)
    z = np.random.default_rng([seed, 8]).standard_normal((k, k))

    def row(strength: float, z) -> np.ndarray:
        e = np.exp(strength * (z - z.max()))
        return (1 - FLOOR) * e / e.sum() + FLOOR / k

    low = float(entropy(row(STRONGEST, np.arange(k))))
    for h in entropies:
        if not low < h < math.log(k):
            raise ValueError(
                f"an entropy of {h} is not allowed; allowed for {k} words: above {low:.3g} and below {math.log(k):.3g}"
            )
    strengths = [optimize.brentq(lambda m, c=c, h=h: entropy(row(m, z[c])) - h, 0, STRONGEST) for c, h in enumerate(entropies)]
    return np.stack([row(m, z[c]) for c, m in enumerate(strengths)])


def amplitudes(p: np.ndarray, quiet: float) -> np.ndarray:
    """a_c [..., c] that make every other context's noise power quieter by a factor and leave the mean Tr Σ_c as it is."""
    power = np.where(np.arange(p.shape[-2]) % 2 == 0, quiet, 1.0)
    trace = 1 - (p**2).sum(-1)
    return np.sqrt(power * (trace.mean(-1) / (power * trace).mean(-1))[..., None])


def slope(loss: str, outputs, targets) -> np.ndarray:
    """Gradient of a sample's loss with respect to its outputs."""
    if loss == "squared":
        return 2 * (outputs - targets)
    d = np.exp(outputs)  # logits of a language with a floor are of order 10
    d /= d.sum(-1, keepdims=True)
    d -= targets
    return d


def descend(first, second, batches, rates, loss: str) -> None:
    """Steps of gradient descent, in place.

    A loop of its own beside the engine's: there all replicas learn one data set, of which a batch is a choice of rows. Here each
    has a language of its own, whose words are drawn as they are needed and whose noise can be turned; matrices of 16 x 16 in
    float64 are faster in numpy; and descent takes the exact mean over a language, which is no data set.

    first: W₁ᵀ [R, c, h]; second: W₂ [R, y, h]; batches: (x [R, B, c], targets [R, B, y]) of each step; rates: η of each step.
    """
    for (x, t), eta in zip(batches, rates, strict=True):
        h = x @ first
        d = slope(loss, h @ second.mT, t) * (eta / x.shape[1])
        back = x.mT @ (d @ second)
        second -= d.mT @ h
        first -= back


def batches(p, amplitude, loss: str, steps: int, batch_size: int, rng):
    """What `descend` takes, of languages p [R, c, y], with targets p_c + a_c (e_y - p_c), a_c [R, c], less 1/K if centred.

    amplitude None: every context once, with its mean target.
    """
    r, k, _ = p.shape
    one, shift = np.eye(k), 1 / k if loss == "squared" else 0.0
    if amplitude is None:
        return [(math.sqrt(k) * one[None], p - shift)] * steps
    mean = p[:, :, None]
    targets = (mean + amplitude[:, :, None, None] * (one - mean) - shift).reshape(-1, k)
    c = rng.integers(k, size=(steps, r, batch_size))
    row = np.arange(r)[:, None] * k + c
    y = (rng.random(row.shape)[..., None] > p.cumsum(-1).reshape(-1, k)[row, :-1]).sum(-1)
    return zip((math.sqrt(k) * one)[c], targets[row * k + y], strict=True)


def lambda_max(first, second, p, loss: str) -> np.ndarray:
    """λ_max [R] of the Hessian of the mean loss, all R written out; weights as in `descend`, p [R, c, y]."""
    (r, k, h), eye = first.shape, np.eye(first.shape[-1])
    shift = 1 / k if loss == "squared" else 0.0
    d = slope(loss, math.sqrt(k) * first @ second.mT, p - shift)
    q = d + p
    bend = 2 * np.eye(k) + 0 * q[..., None] if loss == "squared" else q[..., None] * np.eye(k) - q[..., None] * q[..., None, :]
    bent = bend @ second[:, None]  # [R, c, y, h]
    uu = (second.mT[:, None] @ bent)[:, :, :, None] * np.eye(k)[:, None, :, None]  # [R, c, h, c, h]
    uw = bent.mT[..., None] * first[:, :, None, None] + (d / math.sqrt(k))[:, :, None, :, None] * eye[:, None]
    pairs = (first[..., None] * first[..., None, :]).reshape(r, k, h * h)
    ww = (bend.reshape(r, k, k * k).mT @ pairs).reshape(r, k, k, h, h).swapaxes(2, 3)
    full = np.block([[m.reshape(r, k * h, k * h) for m in row] for row in ((uu, uw), (uw.transpose(0, 3, 4, 1, 2), ww))])
    finite = np.isfinite(full).all((1, 2))
    return np.array([_top(m) if f else math.nan for m, f in zip(full, finite, strict=True)])


def least(first, second) -> np.ndarray:
    """4s [R], s the largest singular value of W₂W₁: the least λ_max, under the squared loss, of all that compute the same."""
    product = first @ second.mT
    finite = np.isfinite(product).all((1, 2))
    return np.array([linear_theory.flattest(m)[0] if f else math.nan for m, f in zip(product, finite, strict=True)])


def theory(p, amplitude) -> np.ndarray:
    """Closed form of λ_max [R] under the squared loss, p [R, c, y]; amplitude: a_c [R, c] of the noise, NaN where it is None."""
    k = p.shape[1]
    if amplitude is None:
        return np.full(len(p), math.nan)
    words = linalg.null_space(np.ones((1, k)))  # all that outputs of sum 0 are made of; beside it there is no noise
    found = []
    for own, a in zip(p, amplitude, strict=True):
        covariances = a[:, None, None] ** 2 * (own[:, :, None] * np.eye(k) - own[:, :, None] * own[:, None])
        noise, traces = words.T @ covariances.sum(0) @ words, np.trace(covariances, axis1=1, axis2=2)
        layers = linear_theory.optimal_layers(words.T @ own.T / math.sqrt(k), noise, np.diag(traces))
        found.append(linear_theory.hessian_top_and_trace(*layers)[0])
    return np.array(found)


def _top(matrix: np.ndarray) -> float:
    start = np.random.default_rng(0).standard_normal(len(matrix))
    return float(eigsh(matrix, k=1, which="LA", v0=start, tol=1e-6, return_eigenvectors=False)[0])
