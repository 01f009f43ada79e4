"""Where SGD at a small η comes to rest: near the minimum of F, but not there, unless all answers are equally noisy.

F takes each step by itself. What one step adds, though, many further steps undo, and not by the way it came. In the mean the
weights move along the minima of L, each step by

    dθ = -½ η² Π ∇³L[Σ],    where H Σ + Σ H - η H Σ H = C,

C the covariance of the gradient, H the Hessian, η Σ the covariance of the fluctuations, Π the projection on the minima. Where
C = c H, as with equal noise in all answers, Σ is c/2 to leading order, and this is descent of F, -(η²/4) Π ∇E|g|². With unequal
noise it ends elsewhere, at a distance from G that no η makes small: it grows with depth, the condition of V and the spread of the
noise. If steps come in pairs, on the same inputs with opposite noise, nothing is left to undo, and the weights stay where F is
least.
Source: arXiv:2110.06914 for the slow motion; the term η H Σ H, of discrete steps, and the measurements are ours. Limit: small η.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
import xarray as xr

from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, Positive, Positives
from thermolab.instruments import alignment
from thermolab.phenomena.platonic_alignment import descent, networks, theory
from thermolab.phenomena.platonic_alignment.linear import PROBES
from thermolab.systems import embedded_linear
from thermolab.systems.regression import samples

STEEP = (3.0, 2.0, 1.0, 0.5, 0.25)
NEWTON = 3  # steps back to the minimum of L after each of the slow motion
FINE = 0.15  # of the slow motion: its step, in units of B/(η² λ_max)
LAWS = ("predicted", "independent", "opposite")


@recipe("where SGD comes to rest", dims=("law", "seed", "layer", "other"))
def resting(
    depth_a: networks.Depth = 6,
    depth_b: networks.Depth = 5,
    *,
    eta: Positive = None,
    batch_size: Count = 16,
    steps: Count = 20_000,
    spectrum: Positives = STEEP,
    noise: Positives = embedded_linear.NOISE,
    inputs: Positives = None,
    stretch: networks.Stretch = embedded_linear.STRETCH,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """Alignment of A and B, which start at the minimum of F, as the slow motion goes on and under SGD with two kinds of noise.

    Layers are as wide as V has singular values, none 0; steps: with a final decay, and as much η²t for the slow motion; the rest
    as in `linear.linear`; device: all is done on the CPU. Returns a Dataset: cka (law, seed, layer, other) of all hidden layers;
    law: "predicted", the slow motion, "independent", SGD, and "opposite", SGD whose every other step has the inputs of the step
    before and its noise with the other sign; with coordinates of (layer), the network, and eta.
    Raises ValueError for settings that are out of range.
    """
    task = networks.Task(spectrum, noise, inputs, stretch)
    eta, steps = task.pace((depth_a, depth_b), batch_size, eta, steps)
    v, scale, layers = task.target(seed), task.scale, {law: [] for law in LAWS}
    x = embedded_linear.probe(scale, PROBES, seed=seed).numpy()
    time = eta**2 * sum(fallen(k, steps) ** 2 for k in range(steps)) / batch_size
    for i, depth in enumerate((depth_a, depth_b)):
        own = 2 * seed + i
        view = task.view(own)
        begin, _ = theory.minimum(view, v, noise, depth, scale)
        how = {"inputs": scale, "batch_size": batch_size, "steps": steps, "seed": own}
        ends = {"predicted": moved(view, begin, v, noise, time, inputs=scale, eta=eta)}
        ends |= {law: trained(view, begin, v, noise, eta, opposite=law == "opposite", **how) for law in LAWS[1:]}
        for law, matrices in ends.items():
            layers[law] += descent.features(view, matrices, x)[1:-1]
    cka = np.stack([alignment.layer_cka(found, found) for found in layers.values()])
    of = [net for net, depth in (("A", depth_a), ("B", depth_b)) for _ in range(depth - 1)]
    return xr.Dataset({"cka": (("law", "layer", "other"), cka)}, coords={"law": list(LAWS), "of": ("layer", of), "eta": eta})


def moved(view, begin, v, noise, time: float, *, inputs=None, eta: float = 0.0) -> list[np.ndarray]:
    """W_1 … W_L after the slow motion from a minimum of L for `time`, steps in units of B/η²; η: in the equation for Σ."""
    scale = np.ones(v.shape[1]) if inputs is None else np.asarray(inputs, float)
    ends = torch.from_numpy(view.inputs * scale), torch.from_numpy(view.answers)
    goal = torch.from_numpy(v * scale)
    spread = torch.from_numpy(np.kron(np.diag(np.square(noise)), np.eye(len(scale))))
    shapes = [m.shape for m in begin]
    flat = torch.cat([torch.from_numpy(np.ascontiguousarray(m)).flatten() for m in begin])

    def split(flat):
        return [m.view(shape) for m, shape in zip(flat.split([a * b for a, b in shapes]), shapes, strict=True)]

    count = int(np.ceil(time * theory.sharpness(view, begin, inputs) / FINE))
    for _ in range(count):
        own = flat.clone().requires_grad_()
        jacobian = _jacobian(split(own), *ends)
        j = jacobian.detach()
        values, basis = torch.linalg.eigh(j @ j.T)  # H = 2 JᵀJ; Σ = Jᵀ Y J solves H Σ + Σ H - η H Σ H = C = 4 Jᵀ spread J
        pairs = values[:, None] + values - 2 * eta * values[:, None] * values
        y = basis @ (2 * (basis.T @ spread @ basis) / pairs) @ basis.T
        (slope,) = torch.autograd.grad(((jacobian @ j.T @ y) * (jacobian @ j.T)).sum(), own)
        slope = slope - j.T @ torch.linalg.solve(j @ j.T, j @ slope)
        flat = flat - time / count * slope
        for _ in range(NEWTON):
            matrices = split(flat)
            miss = ends[1] @ torch.linalg.multi_dot(matrices[::-1]) @ ends[0] - goal
            j = _jacobian(matrices, *ends)
            flat = flat - j.T @ torch.linalg.solve(j @ j.T, miss.flatten())
    return [m.numpy() for m in split(flat)]


def _jacobian(matrices, first, last) -> torch.Tensor:
    """Of M_out W_L … W_1 `first`, flattened, by the weights, flattened."""
    before, parts = embedded_linear.products(matrices[:-1], first), []
    for w, c in zip(reversed(matrices), reversed(before), strict=True):
        parts.append(torch.kron(last, c.T.contiguous()))
        last = last @ w
    return torch.cat(parts[::-1], 1)


def trained(view, begin, v, noise, eta, *, batch_size, steps, seed, inputs=None, opposite=False) -> list[np.ndarray]:
    """W_1 … W_L after SGD in float64 from `begin`; opposite: every other step takes the noise of the last with a minus.

    Not the loop of the engine: see `descent`.
    """
    x, e = samples(np.ones(v.shape[1]) if inputs is None else inputs, noise, seed=seed)
    seen, clean, matrices = x @ view.inputs.T, x @ v.T, list(begin)
    rng = np.random.default_rng([seed, 9])
    for step in range(steps):
        sign = -1.0 if opposite and step % 2 else 1.0
        if sign > 0:
            rows = rng.integers(0, len(x), batch_size)
        *h, out = itertools.accumulate(matrices, lambda h, w: h @ w.T, initial=seen[rows])
        back = 2 / batch_size * (out @ view.answers.T - clean[rows] - sign * e[rows]) @ view.answers
        for i in reversed(range(len(matrices))):
            slope, back = back.T @ h[i], back @ matrices[i]
            matrices[i] = matrices[i] - eta * fallen(step, steps) * slope
    return matrices


def fallen(step: int, steps: int) -> float:
    """η of a step over the first one's."""
    return min(1.0, (1 - step / steps) / networks.DECAY)
