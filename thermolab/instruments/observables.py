"""Instruments bound to a run: observables of an `Experiment`, read at every frame.

An observable that looks back keeps what it needs of earlier frames, so each experiment has its own.
Limit of validity: samples along a path count only if they lie far enough apart. An observable takes one when the direction
has had the time to move, `spacing` of its relaxation time 1/η_eff, and says the same as before until then.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np
import torch

from thermolab.instruments import entropy, noise


class _Window:
    """Directions [R, D] of the last frames, at least `spacing`/η_eff steps apart."""

    def __init__(self, length: int, spacing: float):
        self.samples: deque[np.ndarray] = deque(maxlen=length)
        self.spacing, self.last = spacing, -math.inf

    def add(self, state, knobs) -> bool:
        """Whether the weights of this frame were taken in."""
        eta = float(knobs["eta"].min())
        if knobs.get("protocol", "lr") == "lr":
            eta /= float((state.weights * state.weights).sum(1).max())
        if not 0 < eta < math.inf or state.step - self.last < self.spacing / eta:
            return False
        self.last = state.step
        w = state.weights.cpu().numpy().astype(np.float64)
        self.samples.append(w / np.linalg.norm(w, axis=1, keepdims=True))
        return True


class PooledEntropy:
    """Entropy S of the direction over all replicas of the last `window` samples, in nats; S_error, its standard error.

    Kozachenko-Leonenko on the sphere less its known bias. For replicas that differ in their random numbers only.
    """

    def __init__(self, window: int = 2, spacing: float = 2.0):
        self._window, self._found = _Window(window, spacing), (math.nan, math.nan)

    def __call__(self, system, state, knobs) -> dict[str, float]:
        if self._window.add(state, knobs):
            cloud = np.concatenate(self._window.samples)
            found = entropy.kozachenko_leonenko(cloud, dim=cloud.shape[1] - 1, sphere=True)
            self._found = found.value - found.bias, found.standard_error
        return dict(zip(("S", "S_error"), self._found, strict=True))


class PathEntropy:
    """Graph entropy [R] of the direction of each replica along its last `window` samples: differences only.

    NaN until the window is full, for the estimator's constant depends on the number of samples.
    """

    def __init__(self, window: int = 8, spacing: float = 0.25, k: int = 3):
        self._window, self._k, self._found = _Window(window, spacing), k, math.nan

    def __call__(self, system, state, knobs) -> np.ndarray | float:
        if self._window.add(state, knobs) and len(self._window.samples) == self._window.samples.maxlen:
            paths = np.stack(self._window.samples, 1)
            self._found = entropy.knn_graph(paths, dim=paths.shape[2] - 1, k=self._k).value
        return self._found


class MinibatchNoise:
    """Tr Σ, |∇L|² at |w| = 1 and snr = |∇L|/√Tr Σ, each [R], from `n` fresh minibatches at the weights of the frame."""

    def __init__(self, n: int = 12):
        self.n = n

    def __call__(self, system, state, knobs) -> dict[str, np.ndarray]:
        unit = torch.nan_to_num(state.weights / torch.linalg.vector_norm(state.weights, dim=1, keepdim=True))
        streams = torch.arange(len(unit), device=unit.device)
        # another seed for each step, none of which the training draws from
        gradients = system.gradients(unit, self.n, knobs["batch_size"], 2**32 * (1 + state.step), streams)
        found = noise.gradient_noise(gradients, spectrum=False)
        names = {"trace": found.trace, "gradient_squared": found.full_gradient_squared, "snr": found.snr}
        return {name: np.asarray(value) for name, value in names.items()}


def position(system, state, knobs) -> dict[str, torch.Tensor]:
    """The first component of the weights, `along`, and the second, `across`, [R] each: where the replicas are in a plane."""
    return {"along": state.weights[:, 0], "across": state.weights[:, 1]}
