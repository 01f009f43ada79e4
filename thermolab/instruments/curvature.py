"""Curvature of the loss: largest eigenvalues, trace and diagonal of Hessian and Fisher matrix, and batch sharpness.

With H = ∇²L at the weights of one replica on given data: the sharpness λ_max is the largest algebraic eigenvalue of H
(not the largest in size), by Lanczos on Hessian-vector products; Tr H = E[zᵀH z] over random signs z (Hutchinson 1990,
Commun. Stat. Simul. Comput. 19, 433), exact where H is small; F_ii = E[g_i²] with labels drawn from the model itself.
Products and the whole matrix are those of `hessian`.
Limit of validity: Lanczos sees what its start vector touches. An eigenvalue whose vector the start hardly contains is
missed, and no residual tells: the values are bounds from below, and `looks` says how often to search anew. The Hessian
of a ReLU network is that of the linear piece it is on.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.func import functional_call

from thermolab.instruments import whole
from thermolab.instruments.hessian import Diverged, HessianProducts, checked, dense, fixed, no_draws
from thermolab.instruments.whole import fitting
from thermolab.systems.holding import of_replica
from thermolab.systems.replicas import Replicas

__all__ = [
    "FisherDiagonal", "HessianProducts", "LargestCurvature", "LargestEigenvalue", "LargestFisher", "Trace", "batch_sharpness",
    "dense", "fisher_diagonal", "largest_eigenvalue", "largest_fisher", "trace",
]  # fmt: skip

EXACT = 2000  # parameters up to which the whole Hessian is cheap: a second or two
PROBES = 100  # random vectors of a trace above that
SAFETY = 2  # the gap in the error is an estimate, too large where a cluster is not yet resolved
COARSEST = 1e-3  # with a coarser tolerance the search would end at a lower eigenvalue, resolved first, in some 2 % of cases
LEAST = 3  # products before Lanczos may stop: two Ritz values say too little about a cluster
JITTER = 0.1  # what is mixed into a start: an exact eigenvector, even of another eigenvalue, would else be the whole space
BLOCK = 2**22  # numbers in a block of per-sample gradients


@dataclass(frozen=True)
class LargestEigenvalue:
    """The largest eigenvalue `value` of a Hessian and its unit `vector` [P], as Lanczos left them.

    residual: |H v − λ v|, a bound on the distance to the nearest eigenvalue. error: the smaller of it and residual²/gap
    (Kato-Temple), the gap to the second Ritz value less that one's residual; the value errs to below.
    products: H v made. converged: whether `error` got down to half of the tolerance, or of 1e-3.
    """

    value: float
    error: float
    vector: torch.Tensor
    residual: float
    products: int
    converged: bool


def largest_eigenvalue(
    hessian: HessianProducts,
    *,
    start: torch.Tensor | None = None,
    tolerance: float = 1e-3,
    most: int = 40,
    looks: int = 1,
    seed: int = 0,
) -> LargestEigenvalue:
    """Sharpness λ_max, the largest algebraic eigenvalue, by Lanczos with full reorthogonalisation.

    start: [P] of any length, the `vector` of some steps earlier for a warm start; a tenth of its length is added along
        the gradient and at random (default: the gradient and a tenth at random).
    tolerance: of λ_max, relative; the search stops once `error` is half of it, or of 1e-3. most: products after which to give up.
    looks: how often to search, each time but the first from a random start; the largest value found counts. A search
        that ends at a lower eigenvalue (a warm start does in some 2 % of cases) cannot know.
    Returns `LargestEigenvalue`, products summed over the looks. Raises ValueError for a tolerance, looks or a number of
    products that is not positive, and for a start of another shape or not finite.
    Source: Parlett, The Symmetric Eigenvalue Problem (1980), chapters 11 and 13.
    """
    if not tolerance > 0:
        raise ValueError(f"tolerance={tolerance} must be positive, such as 1e-3")
    if most < 1 or looks < 1:
        raise ValueError(f"most={most} products and looks={looks}: at least 1 of each")
    w, before = hessian.weights, hessian.products
    if start is not None and (start.shape != w.shape or not bool(start.isfinite().all())):
        raise ValueError(f"start has shape {tuple(start.shape)}: expected finite numbers [P] = {tuple(w.shape)}")
    generator = torch.Generator().manual_seed(seed)
    found = []
    for look in range(looks):
        noise = _unit(torch.randn(len(w), generator=generator).to(w))  # drawn on the CPU: the same on every device
        mixed = _unit(hessian.gradient) + JITTER * noise
        if look:
            mixed = noise
        elif start is not None:
            mixed = _unit(start.to(w)) + JITTER * mixed
        with _kept_graph(hessian):
            found.append(_lanczos(hessian, _unit(mixed), tolerance, most))
    best = max(found, key=lambda f: f.value)
    return replace(best, products=hessian.products - before)


def _kept_graph(hessian):
    """One graph for many products, of what builds it anew for each."""
    return hessian.kept() if isinstance(hessian, HessianProducts) else contextlib.nullcontext()


def _lanczos(hessian: HessianProducts, start: torch.Tensor, tolerance: float, most: int) -> LargestEigenvalue:
    """One search from a unit vector."""
    most = min(most, len(start))
    basis = start.new_empty(most + 1, len(start))
    basis[0] = start
    diagonal, off = [], []
    for k in range(1, most + 1):
        z, known = hessian(basis[k - 1]), basis[:k]
        along = known @ z
        z = z - along @ known
        z = z - (known @ z) @ known  # twice is enough
        length = torch.linalg.vector_norm(z)
        a, b = torch.stack([along[-1], length]).tolist()  # one wait for the device a product
        diagonal.append(a)
        value, error, residual, mixture = _ritz(diagonal, off, b)
        closed = b <= 10 * torch.finfo(z.dtype).eps * max(map(abs, [*diagonal, *off]))  # the Krylov space is invariant
        converged = closed or (k >= LEAST and error <= min(tolerance, COARSEST) / SAFETY * abs(value))
        if converged or k == most:
            break
        off.append(b)
        basis[k] = z / length
    vector = _unit(torch.as_tensor(mixture, dtype=start.dtype, device=start.device) @ known)
    return LargestEigenvalue(value, error, vector, residual, k, bool(converged))


def _unit(v: torch.Tensor) -> torch.Tensor:
    """v/|v|, and 0 for 0."""
    length = torch.linalg.vector_norm(v)
    return v / torch.where(length > 0, length, 1)


def _ritz(diagonal: list, off: list, next_off: float) -> tuple[float, float, float, np.ndarray]:
    """(value, error, residual, mixture of the basis) of the largest Ritz value of a tridiagonal matrix."""
    values, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(off, 1) + np.diag(off, -1))
    residuals = next_off * np.abs(vectors[-1])
    gap = values[-1] - values[-2] - residuals[-2] if off else 0.0
    error = min(residuals[-1], residuals[-1] ** 2 / gap) if gap > 0 else residuals[-1]
    return float(values[-1]), float(error), float(residuals[-1]), vectors[:, -1]


@dataclass(frozen=True)
class Trace:
    """Tr H with its standard error from n probes; standard error 0 and n = P where it is exact."""

    value: float
    standard_error: float
    n: int


def trace(hessian: HessianProducts, *, probes: int | None = None, seed: int = 0) -> Trace:
    """Trace of the Hessian, in units of the loss, by Hutchinson's estimator: the mean of zᵀH z over random signs z.

    probes: how many z, one product each (default: the exact sum of the diagonal up to P = 2000, 100 probes above).
    The variance of a probe is twice the sum of the squares off the diagonal. Returns `Trace`.
    Raises ValueError for fewer than 2 probes. Source: Hutchinson 1990.
    """
    p = len(hessian.weights)
    if probes is None and p <= EXACT:
        full = dense(hessian.replicas, hessian.weights, hessian.x, hessian.y, memory=hessian.memory)
        return Trace(float(full.trace()), 0.0, p)
    probes = PROBES if probes is None else probes
    if probes < 2:
        raise ValueError(f"probes={probes} give no standard error: at least 2")
    generator = torch.Generator().manual_seed(seed)
    found = torch.empty(probes, dtype=torch.float64)
    with _kept_graph(hessian):
        for i in range(probes):
            z = (2 * torch.randint(2, (p,), generator=generator) - 1).to(hessian.weights)
            found[i] = torch.dot(z, hessian(z))
    return Trace(float(found.mean()), float(found.std()) / math.sqrt(probes), probes)


SHORT = 1e-3  # step of the central differences below, in float64: its square is what they leave out


def batch_sharpness(
    system, weights: torch.Tensor, batch_size: int, *, n: int = 200, seed: int = 0, memory=None, bound: int = whole.BOUND
) -> np.ndarray:
    """gᵀH_B g/|g|² [n] of n batches, with g and H_B the gradient and the Hessian of the loss of the same batch B.

    Their mean is the batch sharpness. system: a `NetworkOnData`, whose batches are drawn as in training, from steps that are
    never trained on. weights: [P]; memory: as for `HessianProducts`. H_B g is a central difference of gradients in float64, of as
    many batches at once as the bound, in bytes, has room for. Raises ValueError for a module that draws random numbers.
    Source: Andreyev & Beneventano, arXiv:2412.20553.
    """
    replicas, weights, *_ = checked(system, weights, system.data.x, None)
    x, y = next(iter(system.batches(seed, torch.arange(n, device=weights.device), 2**31, 1, batch_size)))
    x, y = (fitting(replicas, v, torch.float64) for v in (x, y))
    each = 4 * 8 * len(weights) + whole.BACKWARD * batch_size * whole.bytes_a_sample(replicas, weights, x[0], y[0])
    with no_draws():  # the two ends of a difference would have masks of their own
        return np.concatenate([_sharpness(replicas, weights, *batch, memory) for batch in _blocks(x, y, int(bound / each))])


def _blocks(x: torch.Tensor, y: torch.Tensor, size: int):
    return zip(x.split(max(1, size)), y.split(max(1, size)), strict=True)


def _sharpness(replicas: Replicas, weights: torch.Tensor, x: torch.Tensor, y: torch.Tensor, memory) -> np.ndarray:
    """gᵀH g/|g|² [n] of batches x [n, B, ...], y [n, B, ...]."""
    at = weights.double().expand(len(x), -1).contiguous()

    def gradient(place):
        out = torch.empty_like(at)
        with torch.no_grad():
            replicas.loss_and_gradient(place, x.clone(), y, out, *_kept(memory, len(x)))
        return out

    g = gradient(at)
    g /= torch.linalg.vector_norm(g, dim=1, keepdim=True)
    along = (gradient(at + SHORT * g) - gradient(at - SHORT * g)) * g
    return along.sum(1).div(2 * SHORT).cpu().numpy()


def _kept(memory, n: int) -> list[dict]:
    """What a replica keeps beside its weights, for n copies of it, if it is given."""
    return [] if memory is None else [{k: v.expand(n, *v.shape).clone() for k, v in memory.items()}]


@dataclass(frozen=True)
class FisherDiagonal:
    """F_ii [P], mean of g_i² over n samples of the data, with its standard error [P] over the samples."""

    value: np.ndarray
    standard_error: np.ndarray
    n: int


def fisher_diagonal(
    system, weights: torch.Tensor, x: torch.Tensor, *, draws: int = 1, seed: int = 0, memory=None
) -> FisherDiagonal:
    """Diagonal of the Fisher matrix, F_ii = E[g_i²], with labels drawn from the model's own softmax.

    system: a `NetworkOnData` or `Replicas` under cross-entropy. weights: [P]; x: [N, ...], N ≥ 2; draws: labels a sample,
    whose g_i² are averaged; memory: as for `HessianProducts`.
    Labels of the data instead would give the empirical Fisher, which is not this one.
    Returns `FisherDiagonal`, arrays [P] in float64. Raises ValueError for another loss, less than 2 samples or 1 draw,
    and where samples know of each other, as under BatchNorm over the batch: the gradient of a single one does not exist.
    Source: Kunstner, Balles & Hennig, arXiv:1905.12558.
    """
    squares, n = torch.zeros(2, len(weights), dtype=torch.float64, device=weights.device), len(x)
    for block in _gradients_of_drawn_labels(system, weights, x, draws, seed, memory):
        mean = sum(g.double().square() / draws for g in block)
        squares += torch.stack([mean.sum(0), mean.square().sum(0)])
    mean, second = (squares / n).cpu().numpy()
    return FisherDiagonal(mean, np.sqrt(np.maximum(second - mean**2, 0) / (n - 1)), n)


def largest_fisher(system, weights: torch.Tensor, x: torch.Tensor, *, draws: int = 1, seed: int = 0, memory=None) -> float:
    """Largest eigenvalue of the Fisher matrix E[g gᵀ], its spectral norm; labels drawn from the model's own softmax.

    Arguments and errors: as of `fisher_diagonal`. Exact for the n = N · draws gradients drawn: the eigenvalues other than 0 of
    gᵀg/n are those of the Gram matrix ggᵀ/n of [n, n]. Bias: as that of n samples it errs to above, by less the larger n is.
    """
    blocks = _gradients_of_drawn_labels(system, weights, x, draws, seed, memory)
    g = torch.cat([g.clone() for block in blocks for g in block])  # [n, P]
    return float(torch.linalg.eigvalsh((g @ g.T).double())[-1]) / len(g)


def _gradients_of_drawn_labels(system, weights, x, draws, seed, memory):
    """For each block of inputs an iterator over the draws: gradients [n, P] of single samples, all in the same memory."""
    replicas, weights, x, _ = checked(system, weights, x, None)
    if replicas.loss != "cross-entropy":
        raise ValueError(f"loss={replicas.loss!r} is no model of labels: the sampled Fisher matrix needs 'cross-entropy'")
    if len(x) < 2 or draws < 1:
        raise ValueError(f"{len(x)} samples and draws={draws}: at least 2 and 1")
    if whole.mix(replicas):
        raise ValueError("BatchNorm mixes the samples of a batch, they have no gradients of their own: use norm='layer'")
    generator = torch.Generator().manual_seed(seed)
    classes_second = hasattr(system, "data") and system.data.y.dim() > 1
    for part in x.split(max(1, BLOCK // len(weights))):
        logits = _logits(replicas, weights, part, memory)
        if classes_second and logits.shape[:-1] != (len(part), *system.data.y.shape[1:]):
            logits = logits.movedim(1, -1)
        chances = logits.double().softmax(-1).cpu()
        drawn = torch.multinomial(chances.flatten(0, -2), draws, replacement=True, generator=generator)
        yield _each_draw(replicas, weights, part, drawn.unflatten(0, chances.shape[:-1]).to(part.device), memory)


def _logits(replicas: Replicas, weights: torch.Tensor, x: torch.Tensor, memory) -> torch.Tensor:
    if replicas.backend == "loop":
        with no_draws():
            return replicas.outputs(weights[None], x, *_kept(memory, 1))[0]
    parameters = {k: v[0] for k, v in replicas.views(weights[None]).items()} | fixed(replicas, weights.dtype)
    with torch.no_grad():
        return functional_call(replicas.module, parameters, (fitting(replicas, x, weights.dtype),))


def _each_draw(replicas: Replicas, weights: torch.Tensor, x: torch.Tensor, labels: torch.Tensor, memory):
    """Gradients [n, P] of each sample of x [n, ...] with each draw of its labels [n, ..., draws], in the same memory."""
    g = torch.empty((len(x), len(weights)), dtype=weights.dtype, device=weights.device)
    for y in labels.movedim(-1, 0):
        with torch.no_grad():
            inputs = fitting(replicas, x, weights.dtype)[:, None]
            replicas.loss_and_gradient(weights.expand(len(x), -1), inputs, y[:, None], g, *_kept(memory, len(x)))
        yield g


class LargestCurvature:
    """Observable of an `Experiment`: sharpness lambda_max [R] and the bound lambda_max_error [R] of what Lanczos left of it.

    At each frame it starts from the vectors of the frame before, so each experiment has its own; at the first frame and
    every `check` frames it searches once more from a random start, lest it follow an eigenvalue that is no longer the
    largest. samples: the loss is that of the first so many of the training data, always the same (default: all); if they are
    fewer, the result says so: lambda_max_samples and, of how many, lambda_max_data. tolerance: relative; bound: bytes, as of
    `HessianProducts`. NaN for a replica whose weights or gradient are not finite.
    """

    def __init__(self, samples: int | None = None, tolerance: float = 1e-3, check: int = 10, bound: int = whole.BOUND):
        self.samples, self.tolerance, self.check, self.bound = samples, tolerance, check, bound
        self._vectors, self._frames = {}, 0

    def __call__(self, system, state, knobs) -> dict[str, np.ndarray]:
        found = np.full((2, len(state.weights)), np.nan)
        x, y = system.data.x[: self.samples], system.data.y[: self.samples]
        looks = 1 if self._frames % self.check else 2
        for r, weights in enumerate(state.weights):
            try:
                memory = of_replica(getattr(state, "memory", {}), r)
                hessian = HessianProducts(system, weights, x, y, memory=memory, bound=self.bound)
            except Diverged:
                continue
            top = largest_eigenvalue(
                hessian, start=self._vectors.get(r), tolerance=self.tolerance, looks=looks, seed=self._frames
            )
            self._vectors[r], found[:, r] = top.vector, (top.value, top.error)
        self._frames += 1
        partial = {} if len(x) == len(system.data) else {"lambda_max_samples": len(x), "lambda_max_data": len(system.data)}
        said = {name: np.full(len(state.weights), float(n)) for name, n in partial.items()}
        return dict(zip(("lambda_max", "lambda_max_error"), found, strict=True)) | said


class LargestFisher:
    """Observable of an `Experiment`: `largest_fisher` of the first `samples` of the training data, fisher_max [R].

    The labels are drawn alike at each frame. NaN for a replica whose weights are not finite.
    """

    def __init__(self, samples: int):
        self.samples = samples

    def __call__(self, system, state, knobs) -> dict[str, np.ndarray]:
        x, alive = system.data.x[: self.samples], [bool(w.isfinite().all()) for w in state.weights]
        kept = [of_replica(getattr(state, "memory", {}), r) for r in range(len(alive))]
        rows = zip(state.weights, alive, kept, strict=True)
        norms = [largest_fisher(system, w, x, memory=memory) if ok else np.nan for w, ok, memory in rows]
        return {"fisher_max": np.array(norms)}
