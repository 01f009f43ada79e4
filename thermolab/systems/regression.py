"""Data for the squared loss: inputs and noisy answers, with exact second moments, and answers whose noise can be turned."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from thermolab.systems.network import NetworkOnData

N_DATA = 2**15


@dataclass(frozen=True)
class Answers:
    """Inputs x [N, d_x] and noisy answers y [N, d_y], float32: data of `systems.network` for the squared loss."""

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


class NoisyAnswers:
    """Inputs x [N, d_x] and answers y = clean + σ·ε, all float32: data of `NetworkOnData` whose σ [d_y] can be set anew.

    clean, noise: [N, d_y]; noise: ε of unit variances. σ is 1 at first.
    """

    def __init__(self, x, clean, noise):
        self.x, self.clean, self.noise = (torch.as_tensor(v, dtype=torch.float32) for v in (x, clean, noise))
        self.y, self.sigma = self.clean + self.noise, (1.0,) * self.clean.shape[1]
        self._heard: tuple = ()

    def __len__(self) -> int:
        return len(self.y)

    def to(self, device) -> NoisyAnswers:
        """The same on another device."""
        moved = NoisyAnswers(*(v.to(device) for v in (self.x, self.clean, self.noise)))
        moved.set(self.sigma)
        return moved

    def set(self, sigma) -> None:
        """New standard deviations of the noise, which changes y in place."""
        sigma = tuple(float(s) for s in sigma)
        if sigma != self.sigma:
            torch.addcmul(self.clean, self.noise, torch.tensor(sigma, device=self.y.device), out=self.y)
            self.sigma = sigma

    def follow(self, sigma: Callable[[Mapping], np.ndarray], knobs: Mapping, *names: str) -> None:
        """Set sigma(knobs), if one of these knobs is another since the last time: it is asked before every few steps."""
        heard = tuple(knobs[name] for name in names)
        if len(heard) != len(self._heard) or any(a is not b for a, b in zip(heard, self._heard, strict=True)):
            self.set(sigma(knobs))
            self._heard = heard


class NoisyNetwork(NetworkOnData):
    """A network on `NoisyAnswers`, under the squared loss.

    sigma(knobs) -> σ [d_y]; shape: plain values that say which function that is; more: its knobs beside.
    """

    def __init__(self, module, data: NoisyAnswers, sigma: Callable[[Mapping], np.ndarray], shape, **more: float):
        super().__init__(module, data, loss="squared")
        self.shape = list(shape)
        self.sigma, self.turned, self.knobs = sigma, tuple(more), {**self.knobs, **more}

    def settings(self) -> dict:
        """Plain values that describe this system."""
        return {**super().settings(), "noise": self.shape}

    def advance(self, weights, first_step, n, knobs: Mapping, seed: int, streams, radius, memory=()):
        """As in `NetworkOnData`, on answers with the noise of the knobs."""
        self.data.follow(self.sigma, knobs, *self.turned)
        return super().advance(weights, first_step, n, knobs, seed, streams, radius, memory)


def number(knobs: Mapping, name: str) -> float:
    """A knob [R] of what all replicas share, as a number. Raises ValueError, one line, where they differ."""
    value = torch.as_tensor(knobs[name])
    if value.dim() and bool((value != value[0]).any()):
        raise ValueError(f"{name}={value.tolist()} differs between replicas, which learn the same data; allowed: one number")
    return float(value[0] if value.dim() else value)


def profile(shape, ratio: float) -> np.ndarray:
    """Standard deviations of mean square 1, the largest of which is `ratio` times the least; their logarithms lie as in `shape`.

    Of a shape whose numbers are equal they fall evenly.

    >>> profile([2.0, 1.0, 0.5], 1.0), profile([1.0, 1.0], 2.0).round(3)
    (array([1., 1., 1.]), array([1.265, 0.632]))
    """
    logs = np.log(np.asarray(shape, float))
    logs = logs if np.ptp(logs) > 1e-9 else -np.arange(len(logs), dtype=float)
    sigma = np.exp((logs - logs.max()) / np.ptp(logs) * math.log(ratio))
    return sigma / np.sqrt(np.mean(sigma**2))
