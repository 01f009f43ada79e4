"""The toy of temperature collapse (arXiv:2505.23489) for any points in any D: minimum, stationary state, critical learning rate.

The loss is L(w) = mean (d_i·w)²/|w|² = wᵀM w/|w|² with M = mean d_i d_iᵀ (`systems.sphere_quadric.QuadricPoints`), SGD is
projected onto the unit sphere. Its minimum v is the eigenvector of the smallest eigenvalue U_min of M. With the other
eigenvectors as axes of the tangent plane, t the coordinates of w there and d_i = (q_i, z_i) in the frame (tangent, v),

    L = U_min + tᵀH t/2 exactly,  H = 2 (m_k - U_min) diagonal,  Σ = 4 mean z_i² q_i q_iᵀ  (noise of one point at v).

Leading order in η: H C + C H = (η/B) Σ for the covariance C of t, hence (trace) U - U_min = T (D - 1)/2 with
T = η Tr Σ/(2 (D - 1) B), whatever the shape of Σ (`leading_state`). At a finite step the exact projected step is applied to a
Gaussian cloud whose mean and covariance it must leave as they are (`stationary_state`), right to relative order η².
Stability is that of the step linearised at v, y' = A y + b in central projection, with

    A = (1 + 2η⟨z²⟩) 1 - 2η⟨q qᵀ⟩ + 4η²⟨z q⟩⟨z q⟩ᵀ,   ⟨·⟩ the mean over the batch.

If all z_i = 0 (over-parameterised) and B = 1, A = 1 - 2η d dᵀ has the singular values 1 and |1 - 2η|: the loss goes to 0
below η = 1 and not above, whatever the points. Limit: one minimum (the smallest eigenvalue is simple), states well inside
the hemisphere around it.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from scipy import optimize

from thermolab.systems.sphere_quadric import unit_rows

ZERO = 1e-12  # heights and eigenvalues below this are rounding
MOST_BATCHES = 20_000  # batches that are averaged over one by one; of more, so many are drawn
MOST_NUMBERS = 3e7  # in the cloud of `stationary_state`


# --- points and their minimum ---------------------------------------------------------------------------------------
def around(height: float, n: int = 3) -> np.ndarray:
    """n points [n, 3] evenly around the third axis at a common height d_z; their minimum is there if n > 2 and d_z² < 1/3."""
    if n < 2 or not 0 <= height < 1:
        raise ValueError(f"n={n}, height={height}; allowed: n of 2 or more and 0 <= height < 1")
    angle, side = 2 * np.pi * np.arange(n) / n, math.sqrt(1 - height**2)
    return np.stack([side * np.cos(angle), side * np.sin(angle), np.full(n, float(height))], 1)


def fan(angle: float) -> np.ndarray:
    """Two points [2, 3] at ± angle (radians) to the first axis, both orthogonal to the third."""
    return np.array([[math.cos(angle), math.sin(angle), 0.0], [math.cos(angle), -math.sin(angle), 0.0]])


UNDER = around(math.sqrt(0.04 / 1.04))  # the two examples of the toy: no w fits these three points,
OVER = fan(math.pi / 6)  # the third axis fits these two


@dataclass(frozen=True)
class Minimum:
    """The minimum of the loss. loss: U_min; frame [D, D], rows: tangent axes, then v; hessian [D - 1]: diagonal of H;
    across [n, D - 1], heights [n]: the points in that frame (q_i, z_i)."""

    loss: float
    frame: np.ndarray
    hessian: np.ndarray
    across: np.ndarray
    heights: np.ndarray

    @property
    def noise(self) -> np.ndarray:
        """Σ [D - 1, D - 1] of one point's gradient at the minimum."""
        return 4 * np.einsum("i,ij,ik->jk", self.heights**2, self.across, self.across) / len(self.heights)

    @property
    def overparameterised(self) -> bool:
        """Whether the loss is 0 at the minimum."""
        return not self.heights.any()


def minimum(points) -> Minimum:
    """The minimum for points [n, D]. Raises ValueError if there is a valley of them instead of one (up to the sign of w)."""
    points = unit_rows(points)
    values, vectors = np.linalg.eigh(points.T @ points / len(points))
    frame = vectors[:, [*range(len(values) - 1, -1, -1)]].T
    if values[1] - values[0] < ZERO:
        raise ValueError(
            f"the smallest eigenvalue {values[0]:.3g} is not simple, so the minimum is a valley; add or move a point"
        )
    turned = points @ frame.T
    turned[np.abs(turned) < ZERO] = 0.0  # what is left of a zero would end the fall of the loss at 1e-32
    return Minimum(float(np.mean(turned[:, -1] ** 2)), frame, 2 * (values[:0:-1] - values[0]), turned[:, :-1], turned[:, -1])


def aligned(points) -> np.ndarray:
    """The points [n, D] turned so that the minimum is the last axis, with exact zeros: the same loss, resolved to 1e-300."""
    found = minimum(points)
    return unit_rows(np.column_stack([found.across, found.heights]))


# --- the stationary state --------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class State:
    """A stationary state. temperature T = 2 (U - U_min)/(D - 1); energy U; entropy S in nats, on the sphere around one of the
    two minima ±v; snr = √(E|∇L|²/E Tr Σ) of a batch; covariance C [D - 1, D - 1] in the tangent axes of `minimum`."""

    temperature: float
    energy: float
    entropy: float
    snr: float
    covariance: np.ndarray


def leading_state(points, eta: float, batch: int = 1) -> State:
    """The stationary state to leading order in the learning rate: T = η Tr Σ/(2 (D - 1) B), C from the Lyapunov equation.

    points: [n, D]; three points at one height have T = η d_z² (1 - d_z²)/B. Source: arXiv:2505.23489, toy example.
    """
    at = minimum(points)
    c = eta / batch * at.noise / (at.hessian[:, None] + at.hessian)
    t = eta * np.trace(at.noise) / (2 * len(c) * batch)
    signal = np.trace(at.hessian[:, None] ** 2 * c)
    snr = math.sqrt(signal * batch / np.trace(at.noise)) if np.trace(at.noise) > 0 else math.nan
    return State(t, at.loss + t * len(c) / 2, _gaussian_entropy(c), snr, c)


def stationary_state(points, eta: float, batch: int = 1, *, seed: int = 0) -> State:
    """The stationary state at a finite learning rate: the Gaussian whose mean and covariance the exact step keeps.

    points: [n, D]; batch: B (all batches are averaged over, or 20000 drawn with `seed` if there are more).
    S includes the skewness that discrete steps leave; their higher cumulants, of order η², lower it further.
    Moments over the cloud are exact for polynomials of degree 5. NaN throughout where the cloud leaves the hemisphere or
    no such Gaussian exists (η near the critical one). Raises ValueError for too many points times dimensions.
    Source: the toy of arXiv:2505.23489, beyond the leading order.
    """
    at = minimum(points)
    h, d = at.hessian, len(at.hessian)
    picks, share = batches(len(at.heights), batch, seed)
    node, weight = _cloud(d)
    if len(node) * len(picks) * batch * d > MOST_NUMBERS:
        raise ValueError(f"{len(node)} places times {len(picks)} batches is too much; use leading_state or a smaller batch")
    points = np.column_stack([at.across, at.heights])
    mean, c = np.zeros(d), leading_state(points, eta, batch).covariance
    for _ in range(200):
        t = _place(node, mean, c)
        if t is None:
            return State(*(math.nan,) * 4, np.full((d, d), math.nan))
        new = _one_step(t, points, picks, eta)[..., :-1]
        shift = np.einsum("k,b,kbi->i", weight, share, new) - mean
        spread = np.einsum("k,b,kbi,kbj->ij", weight, share, new - mean, new - mean)
        # the Lyapunov equation with the noise that this cloud has: errors shrink by a factor of order η a turn
        change = (spread - c) / (eta * (h[:, None] + h))
        c = (c + change + (c + change).T) / 2  # eigh reads one triangle: what rounding leaves in the other would grow
        mean = mean + shift / (eta * h)
        if np.abs(change).max() <= 1e-10 * np.abs(c).max():
            break
    else:
        return State(*(math.nan,) * 4, np.full((d, d), math.nan))
    return _summary(at, mean, c, node, weight, eta, batch)


def _summary(at: Minimum, mean, c, node, weight, eta: float, batch: int) -> State:
    """What a Gaussian cloud of tangent coordinates with this mean and covariance reads."""
    t = _place(node, mean, c)
    if t is None:
        return State(*(math.nan,) * 4, np.full_like(c, math.nan))
    excess = float(at.hessian @ (np.diag(c) + mean**2)) / 2
    up = np.sqrt(1 - (t * t).sum(1))
    a = t @ at.across.T + up[:, None] * at.heights
    each = weight @ (4 * a * a * (1 - a * a)).mean(1)
    w = np.column_stack([t, up])
    full = 2 * (a @ np.column_stack([at.across, at.heights]) / len(at.heights) - (a * a).mean(1, keepdims=True) * w)
    signal = weight @ (full * full).sum(1)
    trace = (each - signal) / batch
    snr = math.sqrt(signal / trace) if trace > 0 and signal >= 0 else math.nan
    s = _gaussian_entropy(c) - _negentropy(at, eta, batch) - float(weight @ np.log(up))  # the last term: area on the sphere
    return State(2 * excess / len(c), at.loss + excess, s, snr, c)


def _negentropy(at: Minimum, eta: float, batch: int) -> float:
    """What skewness takes from the entropy of the Gaussian, |κ|²/12 with κ the third cumulants in whitened coordinates.

    To leading order κ_ijk = -η² m_ijk/(B² (h_i + h_j + h_k)), m the third moments of a point's gradient: of order η in all.
    """
    h, c = at.hessian, eta / batch * at.noise / (at.hessian[:, None] + at.hessian)
    if not np.isfinite(_gaussian_entropy(c)):
        return 0.0
    m = 8 * np.einsum("n,ni,nj,nk->ijk", at.heights**3, at.across, at.across, at.across) / len(at.heights)
    third = -((eta / batch) ** 2) * m / (h[:, None, None] + h[:, None] + h)
    white = np.linalg.inv(np.linalg.cholesky(c))
    return float((np.einsum("ijk,ai,bj,ck->abc", third, white, white, white) ** 2).sum() / 12)


def _place(node, mean, c):
    """The nodes of the standard Gaussian moved to mean and covariance c, None where they leave the hemisphere."""
    if not np.isfinite(c).all():
        return None
    values, vectors = np.linalg.eigh(c)
    t = mean + node @ (vectors * np.sqrt(np.clip(values, 0, None)) @ vectors.T)
    return t if (t * t).sum(1).max() < 1 else None


def _one_step(t, points, picks, eta):
    """The exact projected step from tangent places t [K, D - 1] with batches `picks` [N, B]: weights [K, N, D]."""
    w = np.column_stack([t, np.sqrt(1 - (t * t).sum(1))])
    a = (w @ points.T)[:, picks]
    moved = (
        w[:, None] * (1 + 2 * eta * (a * a).mean(-1))[..., None]
        - 2 * eta * np.einsum("knb,nbi->kni", a, points[picks]) / (picks.shape[1])
    )
    return moved / np.linalg.norm(moved, axis=-1, keepdims=True)


def _cloud(d: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes [K, d] and weights [K] of the standard normal, exact to degree 5 (McNamee & Stenger 1967): 2 d² + 1 nodes."""
    axes = math.sqrt(3) * np.eye(d)
    pairs = [a * s + b * u for a, b in itertools.combinations(axes, 2) for s in (1, -1) for u in (1, -1)]
    node = np.concatenate([np.zeros((1, d)), axes, -axes, np.reshape(pairs, (-1, d))])
    weight = np.concatenate([[1 + (d * d - 7 * d) / 18], np.full(2 * d, (4 - d) / 18), np.full(len(pairs), 1 / 36)])
    return node, weight


def _gaussian_entropy(c) -> float:
    """Entropy of a Gaussian with covariance c [d, d], minus infinity if it is singular."""
    values = np.linalg.eigvalsh(c)
    if values[0] <= ZERO * max(values[-1], 1e-300):
        return -math.inf
    return float(np.sum(np.log(2 * np.pi * np.e * values)) / 2)


def batches(n: int, batch: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """All batches of B out of n points drawn with replacement, [N, B], and their probabilities [N].

    If more than 20000 differ, so many drawn with `seed` instead, equally probable.
    """
    if math.comb(n + batch - 1, batch) > MOST_BATCHES:
        picks = np.random.default_rng(seed).integers(n, size=(MOST_BATCHES, batch))
        return picks, np.full(MOST_BATCHES, 1 / MOST_BATCHES)
    picks = np.array(list(itertools.combinations_with_replacement(range(n), batch)))
    counts = (picks[..., None] == np.arange(n)).sum(1)
    orders = [math.factorial(batch) / math.prod(map(math.factorial, row)) for row in counts.tolist()]
    return picks, np.array(orders) / float(n) ** batch


# --- stability of the minimum ----------------------------------------------------------------------------------------
def tangent_maps(points, eta: float, picks) -> np.ndarray:
    """The step linearised at the minimum, A [N, D - 1, D - 1], for batches `picks` [N, B] of the points [n, D]."""
    at = minimum(points)
    q, z = at.across[picks], at.heights[picks]
    zq = (z[..., None] * q).mean(1)
    flat = np.einsum("nbi,nbj->nij", q, q) / q.shape[1] - 2 * eta * zq[:, :, None] * zq[:, None]
    return (1 + 2 * eta * (z * z).mean(1))[:, None, None] * np.eye(q.shape[-1]) - 2 * eta * flat


def lyapunov(points, eta: float, batch: int = 1, *, steps: int = 1000, replicas: int = 256, seed: int = 0):
    """Largest Lyapunov exponent of the random products of `tangent_maps`, per step: |t| ~ exp(λ steps) near the minimum.

    As many steps go before, unmeasured. Returns (λ, standard error over the replicas), λ minus infinity where a step
    annihilates. All learning rates use the same batches at equal `seed`: differences of λ are more accurate than λ.
    """
    rng = np.random.default_rng(seed)
    n, d = len(unit_rows(points)), len(minimum(points).hessian)
    burn_in = steps  # directions forget their start, slowly where η is small
    picks = rng.integers(n, size=(steps + burn_in, replicas, batch))
    vectors = rng.standard_normal((replicas, d))
    if batch == 1:
        single = tangent_maps(points, eta, np.arange(n)[:, None])
    total = np.zeros(replicas)
    with np.errstate(divide="ignore"):
        for i, pick in enumerate(picks):
            maps = single[pick[:, 0]] if batch == 1 else tangent_maps(points, eta, pick)
            vectors = np.einsum("rij,rj->ri", maps, vectors)
            length = np.linalg.norm(vectors, axis=1, keepdims=True)
            vectors = np.where(length > 0, vectors / np.where(length > 0, length, 1), 1 / math.sqrt(d))
            if i >= burn_in:
                total += np.log(length[:, 0])
    total /= steps
    if not np.isfinite(total).all():
        return -math.inf, math.nan
    return float(total.mean()), float(total.std(ddof=1) / math.sqrt(replicas))


def critical_rate(points, batch: int = 1, *, numerical: bool = False, accuracy: float = 0.005, seed: int = 0):
    """The learning rate at which the largest Lyapunov exponent of the minimum changes sign.

    points: [n, D]. Over-parameterised points with B = 1 have exactly 1 (see above; `numerical` finds it all the same).
    Above it an over-parameterised toy does not converge, and an under-parameterised one forgets no perturbation.
    Returns (η_c, standard error); the root is bracketed to the relative `accuracy` and then interpolated, which leaves an
    error of about 5e-4 beside the statistical one.
    Raises ValueError where no rate between 1e-3 and 1e3 is critical.
    """
    if batch == 1 and minimum(points).overparameterised and not numerical:
        return 1.0, 0.0
    low, high = 1e-3, 0.25
    while lyapunov(points, high, batch, seed=seed, steps=300)[0] < 0:
        low, high = high, 2 * high
        if high > 1e3:
            raise ValueError("no critical learning rate below 1e3: the minimum stays stable; check the points")
    while high - low > accuracy * high:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if lyapunov(points, middle, batch, seed=seed)[0] < 0 else (low, middle)
    wide = high * np.array([0.98, 1.02])
    (below, error_below), (above, error_above) = (lyapunov(points, eta, batch, seed=seed) for eta in wide)
    slope = (above - below) / (wide[1] - wide[0])
    return float(wide[0] - below / slope), float((error_below + error_above) / 2 / slope)


def mean_square_critical_rate(points, batch: int = 1, *, seed: int = 0) -> float:
    """The learning rate at which the variance of the linearised step diverges: spectral radius 1 of E[A ⊗ A].

    points: [n, D], D - 1 up to about 20. Not above `critical_rate` (the mean square grows before the typical size does);
    the stationary states of `leading_state` and `stationary_state` are for rates well below it.
    """
    picks, share = batches(len(unit_rows(points)), batch, seed)

    def excess(log_eta: float) -> float:
        maps = tangent_maps(points, math.exp(log_eta), picks)
        d = maps.shape[-1]
        square = np.einsum("n,nij,nkl->ikjl", share, maps, maps).reshape(d * d, d * d)
        return float(np.abs(np.linalg.eigvals(square)).max()) - 1

    grid = np.log(np.geomspace(1e-3, 1e3, 121))
    values = [excess(x) for x in grid]
    first = next((i for i in range(1, len(grid)) if values[i - 1] < 0 <= values[i]), None)
    if first is None:
        raise ValueError("no critical learning rate between 1e-3 and 1e3: check the points")
    return float(math.exp(optimize.brentq(excess, grid[first - 1], grid[first], xtol=1e-10)))
