"""Data for the squared loss: inputs and noisy answers, with exact second moments. Notebooks 04, 05 and 06."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

N_DATA = 2**15


@dataclass(frozen=True)
class Answers:
    """Inputs x [N, d_x] and noisy answers y [N, d_y], float32: data of `engine.network` for the squared loss."""

    x: torch.Tensor
    y: torch.Tensor

    def __len__(self) -> int:
        return len(self.y)

    def to(self, device) -> Answers:
        """The same data on another device."""
        return Answers(self.x.to(device), self.y.to(device))


def samples(inputs, noise, *, n_data: int = N_DATA, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """x [N, d_x] and ε [N, d_y], Gaussian, with exact moments: mean 0, covariances diag inputs² and diag noise², x ⊥ ε.

    inputs, noise: standard deviations of each component.
    """
    rng, scale = np.random.default_rng([seed, 4]), np.concatenate([np.asarray(inputs, float), np.asarray(noise, float)])
    z = rng.standard_normal((n_data, len(scale)))
    z -= z.mean(0)
    z = z @ np.linalg.inv(np.linalg.cholesky(z.T @ z / n_data)).T * scale
    return z[:, : len(inputs)], z[:, len(inputs) :]
