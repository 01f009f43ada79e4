"""What runs in the live panel of notebook 01: a perceptron on images that is cooled by hand.

Energy needs training and has no closed form, but the entropy along the path has one as long as the weights diffuse: each step
adds noise of variance η² C_ii/B to weight i, with the covariance C of the per-sample gradients, so that in a short window

    S = mean_i log C_ii + 2 log η - log B + log m + κ,

with m steps between the snapshots and κ, the mean log-variance of a random walk of unit steps about its straight line. It
changes with η and B at once; C is measured at each frame. The other line is the edge of stability, 2/η.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping

import numpy as np
import torch
from scipy import integrate

from thermolab.engine import scenario
from thermolab.engine.experiment import Experiment, Frame
from thermolab.engine.scenario import Knob, Observable, Scenario
from thermolab.instruments.curvature import LargestCurvature
from thermolab.instruments.spread import along_path
from thermolab.phenomena.cooling import classifiers

SNAPSHOTS = 16  # of a window
PROBES, PROBE_SIZE = 12, 64  # fresh minibatches for C, large whatever B is: a few rare samples make much of it
SAMPLES = 256  # of the training data, for λ_max


def spacing(batch_size: int) -> int:
    """Steps between the snapshots of a window that lasts one epoch, or 16 steps if the epoch has fewer."""
    return max(1, classifiers.N_TRAIN // SNAPSHOTS // batch_size)


def free_spread(log_noise: float, eta: float, batch_size: int) -> float:
    """S in nats of weights that diffuse freely: module docstring. log_noise: mean_i log C_ii."""
    return log_noise + 2 * math.log(eta) - math.log(batch_size) + math.log(spacing(batch_size)) + _walk()


@functools.cache
def _walk() -> float:
    """κ: mean logarithm of the variance of a random walk of unit Gaussian steps about its straight line.

    With the eigenvalues a_j of its covariance off the line the variance is Σ a_j z_j², and E log x = ∫ (e⁻ᵗ - E e⁻ᵗˣ) dt/t.
    """
    times = np.arange(SNAPSHOTS, dtype=float)
    line = np.linalg.qr(np.stack([np.ones(SNAPSHOTS), times], 1))[0]
    off = np.eye(SNAPSHOTS) - line @ line.T
    a = np.linalg.eigvalsh(off @ np.minimum.outer(times, times) @ off) / (SNAPSHOTS - 2)

    def part(log_t):
        t = math.exp(log_t)
        return math.exp(-t) - math.exp(-0.5 * np.log1p(2 * t * a).sum())

    return integrate.quad(part, -30, 30, limit=200)[0]


def _look_ahead(system, state, knobs) -> np.ndarray:
    """S [R] along the epoch that would follow at the present knobs, with other batches than the run's; it leaves no trace."""
    weights, batch_size = state.weights.clone(), knobs["batch_size"]
    streams, path = torch.arange(len(weights)), []
    for k in range(SNAPSHOTS):
        path.append(weights.clone())
        # another seed for each step of the run, none of which the training draws from
        seed, n = 2**33 * (1 + state.step), spacing(batch_size)
        system.advance(weights, k * n, n, knobs, seed, streams, state.radius)
    path = torch.stack(path)
    return np.where(path.isfinite().all(-1).all(0).cpu(), along_path(torch.nan_to_num(path)).value, np.nan)


def _noise(system, state, knobs) -> np.ndarray:
    """mean_i log C_ii [R] from fresh minibatches, over the weights that have a gradient at all."""
    streams = torch.arange(len(state.weights))
    g = system.gradients(state.weights, PROBES, PROBE_SIZE, 2**32 * (1 + state.step), streams)
    variance = PROBE_SIZE * g.double().var(0)
    # the logarithm of a variance from n - 1 degrees of freedom lies low in the mean
    bias = float(torch.special.digamma(torch.tensor((PROBES - 1) / 2)) - math.log((PROBES - 1) / 2))
    seen = variance > 0
    log = torch.where(seen, variance.log(), 0.0)
    return (log.sum(-1) / seen.sum(-1) - bias).cpu().numpy()


def _validation(system, state, knobs, *, data) -> dict[str, np.ndarray]:
    return dict(zip(("U_val", "accuracy"), classifiers.evaluate(system.replicas, state.weights, data), strict=True))


def _build(*, seed, device, eta, lam, batch_size, width, difficulty, label_noise, replicas) -> Experiment:
    net = classifiers.system("mlp", width=width, difficulty=difficulty, label_noise=label_noise)
    _, held_out = classifiers.images(difficulty, label_noise)
    read = {
        "S": _look_ahead,
        "log_noise": _noise,
        "validation": lambda *at: _validation(*at, data=held_out),
        "lambda_max": LargestCurvature(samples=SAMPLES),
    }
    return Experiment(net, eta=eta, lam=lam, batch_size=batch_size, replicas=replicas, seed=seed, device=device, observables=read)


def _predict(frame: Frame, settings: Mapping) -> dict[str, float]:
    eta, noise = frame.knob("eta"), frame.observables.get("log_noise")
    found = {"lambda_max": 2 / eta}
    if noise is not None and np.isfinite(noise).all():
        found["S"] = free_spread(float(np.mean(noise)), eta, int(frame.knob("batch_size")))
    return found


IMAGES = Scenario(
    name="cooling.images",
    build=_build,
    settings={
        "eta": Knob("learning rate η", 1e-4, 1.0),
        "lam": scenario.LAM,
        "batch_size": Knob("batch size B", 4, 256, "powers of two"),
        "width": Knob("width h", 8, 128, "whole", shown=False),
        "difficulty": Knob("difficulty", scale="choice", options=tuple(classifiers.EASIER), shown=False),
        "label_noise": Knob("label noise", 0.0, 1.0, "linear", shown=False),
        "replicas": Knob("replicas R", 1, 16, "whole", shown=False),
    },
    defaults={
        "eta": 0.2,
        "lam": 0.01,
        "batch_size": 16,
        "width": classifiers.WIDTH,
        "difficulty": "mid",
        "label_noise": 0.1,
        "replicas": 1,
    },
    observables={
        "U": Observable("energy U (training loss)", log=True),
        "U_val": Observable("validation loss", log=True),
        "S": Observable("entropy S (nats/weight)"),
        "lambda_max": Observable("sharpness λ_max", log=True),
    },
    predict=_predict,
)
