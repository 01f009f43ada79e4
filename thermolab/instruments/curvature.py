"""Curvature of the loss: largest eigenvalues, trace and diagonal of Hessian and Fisher matrix, and batch sharpness.

With H = ∇²L at the weights of one replica on given data: the sharpness λ_max is the largest algebraic eigenvalue of H
(not the largest in size), by Lanczos on Hessian-vector products; Tr H = E[zᵀH z] over random signs z (Hutchinson 1990,
Commun. Stat. Simul. Comput. 19, 433), exact where H is small; F_ii = E[g_i²] with labels drawn from the model itself.
A product is a second backward pass through a graph that is built once: Pearlmutter 1994, Neural Comput. 6, 147.
Limit of validity: Lanczos sees what its start vector touches. An eigenvalue whose vector the start hardly contains is
missed, and no residual tells: the values are bounds from below, and `looks` says how often to search anew. The Hessian
of a ReLU network is that of the linear piece it is on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn
from torch.func import functional_call

from thermolab.systems.replicas import LOSSES, Replicas

EXACT = 2000  # parameters up to which the whole Hessian is cheap: a second or two
PROBES = 100  # random vectors of a trace above that
SAFETY = 2  # the gap in the error is an estimate, too large where a cluster is not yet resolved
COARSEST = 1e-3  # with a coarser tolerance the search would end at a lower eigenvalue, resolved first, in some 2 % of cases
LEAST = 3  # products before Lanczos may stop: two Ritz values say too little about a cluster
JITTER = 0.1  # what is mixed into a start: an exact eigenvector, even of another eigenvalue, would else be the whole space
BLOCK = 2**22  # numbers in a block of per-sample gradients


class HessianProducts:
    """Products H v with the Hessian of the loss of one replica at fixed weights and data.

    system: a `NetworkOnData` or `Replicas`. weights: [P], as `state.weights[r]`; their dtype and device are those of the
    arithmetic. x: [N, ...], y: [N] or [N, K], the whole of which is one batch (and normalised as one by BatchNorm).
    Attributes: loss; gradient [P]; products, how many were made so far.
    Memory is that of one backward pass, held as long as the object lives.
    Raises ValueError for weights that are not [P], data of different lengths, or a gradient that is not finite.
    """

    def __init__(self, system, weights: torch.Tensor, x: torch.Tensor, y: torch.Tensor):
        self.replicas, weights, self.x, self.y = _checked(system, weights, x, y)
        self.weights, self.products = weights, 0
        with torch.enable_grad():
            # leaves of their own shape: through views of one vector each product would fill a [P] per parameter
            parameters = {k: v[0].clone().requires_grad_() for k, v in self.replicas.views(weights[None]).items()}
            self._leaves = list(parameters.values())
            loss = _loss(self.replicas, parameters, self.x, self.y)
            slopes = torch.autograd.grad(loss, self._leaves, create_graph=True, materialize_grads=True)
        self.loss, self.gradient = float(loss.detach()), torch.cat([g.detach().flatten() for g in slopes])
        # a constant slope has no graph, and no curvature
        self._curved = [(i, g) for i, g in enumerate(slopes) if g.requires_grad]
        if not bool(self.gradient.isfinite().all()):
            raise ValueError("the gradient holds nan or inf: mask the diverged replicas before measuring")

    def __call__(self, v: torch.Tensor) -> torch.Tensor:
        """H v [P] of a vector [P]; counts as one product. Raises ValueError for another shape."""
        if v.shape != self.weights.shape:
            raise ValueError(f"v has shape {tuple(v.shape)}: expected [P] = {tuple(self.weights.shape)}, one vector at a time")
        self.products += 1
        if not self._curved:
            return torch.zeros_like(self.weights)
        parts = v.to(self.weights).split([p.numel() for p in self._leaves])
        along = [parts[i].view_as(g) for i, g in self._curved]
        slopes = [g for _, g in self._curved]
        out = torch.autograd.grad(slopes, self._leaves, along, retain_graph=True, materialize_grads=True)
        return torch.cat([o.flatten() for o in out])


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
        found.append(_lanczos(hessian, _unit(mixed), tolerance, most))
    best = max(found, key=lambda f: f.value)
    return replace(best, products=hessian.products - before)


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
        full = dense(hessian.replicas, hessian.weights, hessian.x, hessian.y)
        return Trace(float(full.trace()), 0.0, p)
    probes = PROBES if probes is None else probes
    if probes < 2:
        raise ValueError(f"probes={probes} give no standard error: at least 2")
    generator = torch.Generator().manual_seed(seed)
    found = torch.empty(probes, dtype=torch.float64)
    for i in range(probes):
        z = (2 * torch.randint(2, (p,), generator=generator) - 1).to(hessian.weights)
        found[i] = torch.dot(z, hessian(z))
    return Trace(float(found.mean()), float(found.std()) / math.sqrt(probes), probes)


def dense(system, weights: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The whole Hessian [P, P] in float64 by torch.func, the oracle of this module.

    system, weights [P], x [N, ...], y: as for `HessianProducts`. O(P) backward passes: seconds from P = 2000 on.
    Raises ValueError as `HessianProducts` does, RuntimeError (torch) for layers that draw random numbers.
    """
    replicas, weights, x, y = _checked(system, weights.double(), x, y)

    def loss(w):
        return _loss(replicas, {k: v[0] for k, v in replicas.views(w[None]).items()}, x, y)

    with torch.enable_grad():
        full = torch.func.jacrev(torch.func.grad(loss), chunk_size=64)(weights)
    return (full + full.T) / 2


SHORT = 1e-3  # step of the central differences below, in float64: its square is what they leave out


def batch_sharpness(system, weights: torch.Tensor, batch_size: int, *, n: int = 200, seed: int = 0) -> np.ndarray:
    """gᵀH_B g/|g|² [n] of n batches, with g and H_B the gradient and the Hessian of the loss of the same batch B.

    Their mean is the batch sharpness. system: a `NetworkOnData`, whose batches are drawn as in training, from steps that are
    never trained on. weights: [P]. H_B g is a central difference of gradients in float64, all n at once.
    Source: Andreyev & Beneventano, arXiv:2412.20553.
    """
    x, y = next(iter(system.batches(seed, torch.arange(n, device=weights.device), 2**31, 1, batch_size)))
    x, y = (v.double() if v.is_floating_point() else v for v in (x, y))
    at = weights.double().expand(n, -1).contiguous()
    g, ahead, behind = (torch.empty_like(at) for _ in range(3))
    with torch.no_grad():
        system.replicas.loss_and_gradient(at, x, y, g)
        g /= torch.linalg.vector_norm(g, dim=1, keepdim=True)
        system.replicas.loss_and_gradient(at + SHORT * g, x, y, ahead)
        system.replicas.loss_and_gradient(at - SHORT * g, x, y, behind)
    return ((ahead - behind) * g).sum(1).div(2 * SHORT).cpu().numpy()


@dataclass(frozen=True)
class FisherDiagonal:
    """F_ii [P], mean of g_i² over n samples of the data, with its standard error [P] over the samples."""

    value: np.ndarray
    standard_error: np.ndarray
    n: int


def fisher_diagonal(system, weights: torch.Tensor, x: torch.Tensor, *, draws: int = 1, seed: int = 0) -> FisherDiagonal:
    """Diagonal of the Fisher matrix, F_ii = E[g_i²], with labels drawn from the model's own softmax.

    system: a `NetworkOnData` or `Replicas` under cross-entropy. weights: [P]; x: [N, ...], N ≥ 2; draws: labels a sample,
    whose g_i² are averaged. Labels of the data instead would give the empirical Fisher, which is not this one.
    Returns `FisherDiagonal`, arrays [P] in float64. Raises ValueError for another loss, less than 2 samples or 1 draw,
    and for BatchNorm over the batch, with which the gradient of a single sample does not exist.
    Source: Kunstner, Balles & Hennig, arXiv:1905.12558.
    """
    squares, n = torch.zeros(2, len(weights), dtype=torch.float64, device=weights.device), len(x)
    for block in _gradients_of_drawn_labels(system, weights, x, draws, seed):
        mean = sum(g.double().square() / draws for g in block)
        squares += torch.stack([mean.sum(0), mean.square().sum(0)])
    mean, second = (squares / n).cpu().numpy()
    return FisherDiagonal(mean, np.sqrt(np.maximum(second - mean**2, 0) / (n - 1)), n)


def largest_fisher(system, weights: torch.Tensor, x: torch.Tensor, *, draws: int = 1, seed: int = 0) -> float:
    """Largest eigenvalue of the Fisher matrix E[g gᵀ], its spectral norm; labels drawn from the model's own softmax.

    Arguments and errors: as of `fisher_diagonal`. Exact for the n = N · draws gradients drawn: the eigenvalues other than 0 of
    gᵀg/n are those of the Gram matrix ggᵀ/n of [n, n]. Bias: as that of n samples it errs to above, by less the larger n is.
    """
    blocks = _gradients_of_drawn_labels(system, weights, x, draws, seed)
    g = torch.cat([g.clone() for block in blocks for g in block])  # [n, P]
    return float(torch.linalg.eigvalsh((g @ g.T).double())[-1]) / len(g)


def _gradients_of_drawn_labels(system, weights, x, draws, seed):
    """For each block of inputs an iterator over the draws: gradients [n, P] of single samples, all in the same memory."""
    replicas, weights, x, _ = _checked(system, weights, x, None)
    if replicas.loss != "cross-entropy":
        raise ValueError(f"loss={replicas.loss!r} is no model of labels: the sampled Fisher matrix needs 'cross-entropy'")
    if len(x) < 2 or draws < 1:
        raise ValueError(f"{len(x)} samples and draws={draws}: at least 2 and 1")
    layers = [m for m in replicas.module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if any(m.training or not m.track_running_stats for m in layers):
        raise ValueError("BatchNorm mixes the samples of a batch, they have no gradients of their own: use norm='layer'")
    generator = torch.Generator().manual_seed(seed)
    parameters = {k: v[0] for k, v in replicas.views(weights[None]).items()} | _fixed(replicas, weights.dtype)
    for part in x.split(max(1, BLOCK // len(weights))):
        with torch.no_grad():
            chances = functional_call(replicas.module, parameters, (part,)).double().softmax(-1).cpu()
        labels = torch.multinomial(chances, draws, replacement=True, generator=generator).to(part.device)
        yield _each_draw(replicas, weights.expand(len(part), -1), part, labels)


def _each_draw(replicas: Replicas, everyone: torch.Tensor, x, labels):
    g = torch.empty(everyone.shape, dtype=everyone.dtype, device=everyone.device)
    for y in labels.T:
        with torch.no_grad():
            replicas.loss_and_gradient(everyone, x[:, None], y[:, None], g)
        yield g


class LargestCurvature:
    """Observable of an `Experiment`: sharpness lambda_max [R] and the bound lambda_max_error [R] of what Lanczos left of it.

    At each frame it starts from the vectors of the frame before, so each experiment has its own; at the first frame and
    every `check` frames it searches once more from a random start, lest it follow an eigenvalue that is no longer the
    largest. samples: the loss is that of the first so many of the training data, always the same (default: all).
    tolerance: relative. NaN for a replica whose weights or gradient are not finite.
    """

    def __init__(self, samples: int | None = None, tolerance: float = 1e-3, check: int = 10):
        self.samples, self.tolerance, self.check = samples, tolerance, check
        self._vectors, self._frames = {}, 0

    def __call__(self, system, state, knobs) -> dict[str, np.ndarray]:
        found = np.full((2, len(state.weights)), np.nan)
        x, y = system.data.x[: self.samples], system.data.y[: self.samples]
        looks = 1 if self._frames % self.check else 2
        for r, weights in enumerate(state.weights):
            try:
                hessian = HessianProducts(system, weights, x, y)
            except ValueError:  # diverged
                continue
            top = largest_eigenvalue(
                hessian, start=self._vectors.get(r), tolerance=self.tolerance, looks=looks, seed=self._frames
            )
            self._vectors[r], found[:, r] = top.vector, (top.value, top.error)
        self._frames += 1
        return dict(zip(("lambda_max", "lambda_max_error"), found, strict=True))


class LargestFisher:
    """Observable of an `Experiment`: `largest_fisher` of the first `samples` of the training data, fisher_max [R].

    The labels are drawn alike at each frame. NaN for a replica whose weights are not finite.
    """

    def __init__(self, samples: int):
        self.samples = samples

    def __call__(self, system, state, knobs) -> dict[str, np.ndarray]:
        x, alive = system.data.x[: self.samples], [bool(w.isfinite().all()) for w in state.weights]
        norms = [largest_fisher(system, w, x) if ok else np.nan for w, ok in zip(state.weights, alive, strict=True)]
        return {"fisher_max": np.array(norms)}


def _checked(system, weights, x, y):
    """(replicas, weights, x, y), detached and all floating numbers of the dtype of the weights."""
    replicas: Replicas = getattr(system, "replicas", system)
    if tuple(weights.shape) != (replicas.n_parameters,):
        raise ValueError(
            f"weights have shape {tuple(weights.shape)}: expected [P] = ({replicas.n_parameters},), one replica such as "
            "state.weights[0]"
        )
    if y is not None and (len(x) != len(y) or not len(x)):
        raise ValueError(f"{len(x)} inputs and {len(y)} targets: as many of one as of the other, at least 1")
    weights = weights.detach()
    x, y = (t.to(weights.dtype) if t is not None and t.is_floating_point() else t for t in (x, y))
    return replicas, weights, x, y


def _loss(replicas: Replicas, parameters: dict, x, y) -> torch.Tensor:
    """Loss of one replica on the whole of (x, y), differentiable as often as the module is."""
    outputs = functional_call(replicas.module, parameters | _fixed(replicas, x.dtype), (x,))
    return LOSSES[replicas.loss](outputs, y)


def _fixed(replicas: Replicas, dtype) -> dict[str, torch.Tensor]:
    """Frozen parameters and buffers in the wanted precision; copies, for running statistics are written to."""
    named = [*replicas.module.named_parameters(), *replicas.module.named_buffers()]
    fixed = {k: t.detach().clone() for k, t in named if k not in replicas.trainable}
    return {k: t.to(dtype) if t.is_floating_point() else t for k, t in fixed.items()}
