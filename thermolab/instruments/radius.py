"""Volume and pressure of scale-invariant weights: the radius, and the push against the sphere that holds it.

On the sphere of radius r a step η r² g, with g at a right angle to w, ends at |w| > r before the projection.
The pressure is p = E(|w| − r)/(η r³) (arXiv:2511.07308), to first order in η equal to T (D − 1)/r², and exactly
E[√(1 + η²|g̃|²) − 1]/(η r²) with g̃ = r g the gradient at r = 1. The volume is V = r²/2. Limit of validity: the
loss must be scale-invariant; without g at a right angle to w the outward step is no measure of noise.
"""

from __future__ import annotations

import numpy as np
import torch

from thermolab.instruments.autocorrelation import Mean, sample_mean


def radius(weights) -> np.ndarray | float:
    """Norm of each weight vector in float64. weights: [..., P], torch or numpy. Returns [...]."""
    if isinstance(weights, torch.Tensor):
        found = torch.linalg.vector_norm(weights.detach(), dim=-1, dtype=torch.float64).cpu().numpy()
    else:
        found = np.linalg.norm(np.asarray(weights, dtype=np.float64), axis=-1)
    return found if np.ndim(found) else float(found)


def pressure_on_sphere(radius_before, radius, eta, *, time_ordered: bool = False) -> Mean:
    """Pressure (|w| − r)/(η r³) on the sphere of radius r, averaged over samples (arXiv:2511.07308).

    radius_before: |w| after the step and before the projection, [..., n] samples, or a scalar (error nan); in
    float64, for it differs from r by η² alone. radius, eta: r and the effective learning rate of a step η r² g
    (for a plain step η_w g this is η_w/r²; at r = 1 they are one), scalars or one per leading index.
    time_ordered: the samples follow each other, and the error is widened by √τ.
    Returns `Mean` with p, its standard error and n. Raises ValueError unless r and η are positive.
    """
    r, eta = np.asarray(radius, dtype=np.float64), np.asarray(eta, dtype=np.float64)
    if not (np.all(r > 0) and np.all(eta > 0)):
        raise ValueError(f"radius={radius} and eta={eta} must be positive")
    if isinstance(radius_before, torch.Tensor):
        radius_before = radius_before.detach().cpu().numpy()
    before = np.atleast_1d(np.asarray(radius_before, dtype=np.float64))
    pressure = (before - r[..., None]) / (eta * r**3)[..., None]
    return sample_mean(pressure, time_ordered=time_ordered)
