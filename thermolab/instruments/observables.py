"""Instruments bound to a run: observables of an `Experiment`, read at every frame.

An observable that looks back keeps what it needs of earlier frames, so each experiment has its own.
of: "weights", as they are; "direction", w/|w|, which is all that a scale-invariant network is; or "measured", the direction of a
network that has been found to be scale-invariant (`systems.invariance`, once for each observable and network), else the weights.
What was taken then stands in the result: `unit`, 1 or 0 for each replica.
Limit of validity: samples along a path count only if they lie far enough apart. An observable takes one when the direction
has had the time to move, `spacing` of its relaxation time 1/η_eff, and says the same as before until then.
"""

from __future__ import annotations

import math
import weakref
from collections import deque
from typing import Literal

import numpy as np
import torch

from thermolab.instruments import entropy, whole
from thermolab.instruments.noise import signal_to_noise
from thermolab.instruments.windows import noise_at, weights_at
from thermolab.systems.invariance import scale_invariance

Of = Literal["measured", "direction", "weights"]


class _Choice:
    """Whether directions are to be taken [R], as asked for or as measured at the first frame of each system."""

    def __init__(self, of: Of):
        if of not in ("measured", "direction", "weights"):
            raise ValueError(f"of={of!r} is unknown; allowed: measured, direction, weights")
        self.of, self._known = of, weakref.WeakKeyDictionary()

    def __call__(self, system, state) -> np.ndarray:
        if self.of != "measured" or not hasattr(system, "replicas"):
            return np.full(len(state.weights), self.of == "direction")
        if system not in self._known:
            found = scale_invariance(system, state.weights, getattr(state, "memory", None))
            alive = found.holds[state.weights.isfinite().all(1)]
            self._known[system] = bool(len(alive) and alive.all())
        return np.full(len(state.weights), self._known[system])

    def said(self, chosen: np.ndarray) -> dict[str, np.ndarray]:
        """What the result says of it; nothing where the caller asked."""
        return {"unit": chosen.astype(float)} if self.of == "measured" else {}


class _Window:
    """Weights [R, D] of the last frames, at least `spacing`/η_eff steps apart."""

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
        self.samples.append(state.weights.cpu().numpy().astype(np.float64))
        return True


class PooledEntropy:
    """Entropy S over all replicas of the last `window` samples, in nats; S_error, its standard error.

    Kozachenko-Leonenko, on the sphere for directions, less its known bias, in the dimension in which the weights move. For
    replicas that differ in their random numbers only.
    """

    def __init__(self, window: int = 2, spacing: float = 2.0, of: Of = "measured"):
        self._window, self._found, self._choice = _Window(window, spacing), (math.nan, math.nan), _Choice(of)

    def __call__(self, system, state, knobs) -> dict[str, float]:
        direction = self._choice(system, state)
        if self._window.add(state, knobs):
            cloud = np.concatenate(self._window.samples)
            path, dim = _in_its_dimension(cloud, bool(direction.all()))
            found = entropy.kozachenko_leonenko(path, dim=dim, sphere=bool(direction.all()))
            self._found = found.value - found.bias, found.standard_error
        return dict(zip(("S", "S_error"), self._found, strict=True)) | self._choice.said(direction)


class PathEntropy:
    """Graph entropy S [R] of each replica along its last `window` samples: differences only.

    In the dimension in which its weights move. NaN until the window is full, for the estimator's constant depends on the number
    of samples.
    """

    def __init__(self, window: int = 8, spacing: float = 0.25, k: int = 3, of: Of = "measured"):
        self._window, self._k, self._found, self._choice = _Window(window, spacing), k, math.nan, _Choice(of)

    def __call__(self, system, state, knobs) -> dict[str, np.ndarray | float]:
        direction = self._choice(system, state)
        if self._window.add(state, knobs) and len(self._window.samples) == self._window.samples.maxlen:
            paths = [_in_its_dimension(path, bool(direction.all())) for path in np.stack(self._window.samples, 1)]
            self._found = np.array([entropy.knn_graph(path, dim=dim, k=self._k).value for path, dim in paths])
        return {"S": self._found} | self._choice.said(direction)


def _in_its_dimension(path: np.ndarray, direction: bool) -> tuple[np.ndarray, int]:
    """Weights [N, D], or their directions, and the dimension in which they move."""
    dim = max(1, int(entropy.dimension(path, sphere=direction)[0]))
    return path / np.linalg.norm(path, axis=1, keepdims=True) if direction else path, dim


class MinibatchNoise:
    """Tr Σ, |∇L|² and snr = |∇L|/√Tr Σ, each [R], from `n` fresh minibatches at the weights of the frame, or at |w| = 1.

    bound: bytes, as of `windows.probe`. NaN for a replica whose weights are not finite.
    """

    def __init__(self, n: int = 12, of: Of = "measured", bound: int = whole.BOUND):
        self.n, self.bound, self._choice = n, bound, _Choice(of)

    def __call__(self, system, state, knobs) -> dict[str, np.ndarray]:
        direction = self._choice(system, state)
        weights = weights_at(state.weights, "unit" if direction.all() else "weights")
        streams, memory = torch.arange(len(weights), device=weights.device), getattr(state, "memory", {})
        # another seed for each step, none of which the training draws from
        found = noise_at(system, weights, memory, knobs["batch_size"], self.n, 2**32 * (1 + state.step), streams, self.bound)
        alive = state.weights.isfinite().all(1).cpu().numpy()
        found = found if direction.all() else {k: np.where(alive, v, np.nan) for k, v in found.items()}
        found["snr"] = signal_to_noise(found["gradient_squared"], found["trace"])
        return found | self._choice.said(direction)


def position(system, state, knobs) -> dict[str, torch.Tensor]:
    """The first component of the weights, `along`, and the second, `across`, [R] each: where the replicas are in a plane."""
    return {"along": state.weights[:, 0], "across": state.weights[:, 1]}
