"""The Hessian of a two-layer network under the squared loss, written out: exact, and all replicas at once.

f = W φ(U x̃) with x̃ = (x, 1) where there are biases, loss |f - y|² as a mean over samples. With z = U x̃, a = φ(z), r = f - y

    ½ ∂²L/∂U_jp∂U_lq = E[(WᵀW)_jl φ'_j φ'_l x̃_p x̃_q + δ_jl φ''_j (Wᵀr)_j x̃_p x̃_q],
    ½ ∂²L/∂U_jp∂W_kl = E[φ'_j x̃_p (W_kj a_l + δ_jl r_k)],        ½ ∂²L/∂W_kj∂W_ml = δ_km E[a_j a_l].

A few matrix products for what automatic differentiation takes O(P) backward passes: `instruments.curvature.dense` is the oracle.
Limit: it pays up to P of a few hundred; at the kink of a ReLU the derivative is that of the piece to the left.
"""

from __future__ import annotations

import torch


def derivatives(activation: str, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """φ, φ' and φ'' of z, for the activation linear, tanh or relu."""
    if activation == "linear":
        return z, torch.ones_like(z), torch.zeros_like(z)
    if activation == "tanh":
        a = z.tanh()
        return a, 1 - a * a, -2 * a * (1 - a * a)
    return z.clamp_min(0), (z > 0).to(z), torch.zeros_like(z)


def hessian(activation: str, first: torch.Tensor, second: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """∇²L [R, P, P] with P = h d + k h, U before W, each row by row.

    activation: linear, tanh or relu; first: U [R, h, d], the biases as a last column; second: W [R, k, h]; x: [N, d], or
    [N, d - 1] if there are biases; y: [N, k].
    """
    n, (_, h, d), k = len(x), first.shape, second.shape[1]
    x = torch.cat([x, x.new_ones(n, 1)], 1) if x.shape[1] < d else x
    a, slope, bend = derivatives(activation, x @ first.mT)
    r = a @ second.mT - y
    push = (slope[..., None] * x[:, None]).flatten(-2)  # φ'_j x̃_p, [R, N, h d]
    one = torch.eye(h).to(x)
    within = ((bend * (r @ second)).mT[:, :, None] * x.T) @ x  # E of the bent terms times N, [R, h, d, d]
    uu = (push.mT @ push).unflatten(-1, (h, d)).unflatten(-3, (h, d)) * (second.mT @ second)[:, :, None, :, None]
    uu += one[:, None, :, None] * within[:, :, :, None]
    uw = (push.mT @ a).unflatten(-2, (h, d))[:, :, :, None] * second.mT[:, :, None, :, None]
    uw += (push.mT @ r).unflatten(-2, (h, d))[..., None] * one[:, None, None]
    ww = torch.eye(k).to(x)[:, None, :, None] * (a.mT @ a)[:, None, :, None]
    uu, uw, ww = uu.reshape(-1, h * d, h * d), uw.reshape(-1, h * d, k * h), ww.reshape(-1, k * h, k * h)
    return 2 / n * torch.cat([torch.cat([uu, uw], 2), torch.cat([uw.mT, ww], 2)], 1)
