"""Does the loss depend on the direction of the weights alone? Measured, not declared.

For a scale-invariant loss L(cw) = L(w) for all c > 0, hence w·∇L = 0 and ∇L(cw) = ∇L(w)/c: then, and only then, values at
|w| = 1 are those of the network, η/|w|² is its effective learning rate, and the gradient lies in the sphere (arXiv:2511.07308).
Limits: a loss on one batch, at the weights at hand. A network of which some layers alone are scale-invariant is not; one whose
norms have an eps that is not small beside what they normalise is neither, and L(w/|w|), which is compared too, says so.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from thermolab.systems import global_random
from thermolab.systems.holding import BUFFERS

SAME, RIGHT = 1e-3, 1e-3  # change of the loss, relative, and cosine of gradient and weights, that count as 0
ROUNDING = 1e-5  # of a loss, absolute, in single precision
MOST = 64  # samples
PROBES = 2**31 + 2**30  # number of the step whose batch is taken: never trained on, nor taken by another probe


@dataclass(frozen=True)
class Invariance:
    """cosine of gradient and weights; change of the loss at 2w or w/|w|, the larger, relative; holds: both are 0. All [R]."""

    cosine: torch.Tensor
    change: torch.Tensor
    holds: torch.Tensor


def scale_invariance(system, weights: torch.Tensor, memory=None, *, seed: int = 0) -> Invariance:
    """Whether a `NetworkOnData` is scale-invariant at the weights [R, P] of each replica; False where they are not finite.

    memory: what the replicas keep beside their weights, as a state's. One gradient and two losses of a batch of up to 64 samples.
    """
    streams = torch.arange(len(weights), device=weights.device)
    x, y = (t.clone() for t in next(iter(system.batches(seed, streams, PROBES, 1, min(MOST, len(system.data))))))
    length = torch.linalg.vector_norm(weights, dim=1, keepdim=True)
    gradient, other = torch.empty_like(weights), torch.empty_like(weights)

    def loss(w, out):
        kept = {k: v.clone() for k, v in (memory or {}).items() if k.startswith(BUFFERS)}
        return system.replicas.loss_and_gradient(w, x.clone(), y, out, *([kept] if kept else [])).double()

    with torch.no_grad(), global_random.kept():
        here = loss(weights, gradient)
        change = torch.stack([(loss(w, other) - here).abs() for w in (2 * weights, weights / length)]).amax(0)
        along = (gradient.double() * weights).sum(1)
        size = torch.linalg.vector_norm(gradient.double(), dim=1) * length[:, 0]
    cosine = torch.where(size > 0, along / size, 0.0)
    cosine = torch.where(here.isfinite() & size.isfinite(), cosine, torch.nan)
    holds = (cosine.abs() <= RIGHT) & (change <= ROUNDING + SAME * here.abs())
    return Invariance(cosine, change / here.abs(), holds)
