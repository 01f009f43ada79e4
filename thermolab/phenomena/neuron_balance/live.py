"""What runs in the live panel of notebook 04: networks whose neurons are dots in the plane of their two gradients.

A dot on the diagonal is a neuron in balance, E|g_u|² = E|g_w|². A ReLU neuron goes there from wherever it starts, in a time of
B/η²; weight decay holds it off the diagonal, at E|g_u|² - E|g_w|² = (2a - a²)/η² (|u|² - |w|²) with a = η λ.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from thermolab.engine import scenario
from thermolab.engine.experiment import Experiment, Frame
from thermolab.engine.scenario import Knob, Observable, Scenario
from thermolab.instruments import neurons
from thermolab.phenomena.neuron_balance import networks, theory
from thermolab.systems import teacher_student

BATCHES = 32  # fresh minibatches of each reading
SIZES = {
    "d_x": 8,
    "d_y": 3,
}  # more inputs than outputs: |u| and |w| differ in balance, so that weight decay has something to shift


def _look(system, state, knobs) -> dict[str, np.ndarray]:
    """E|g_u|² and E|g_w|², |u|² and |w|² of each neuron [R, h], from other minibatches than the run's; it leaves no trace."""
    w = state.weights
    streams = torch.arange(len(w), device=w.device)
    g = neurons.gradients(system, w, BATCHES, int(knobs["batch_size"]), 2**33 * (1 + state.step), streams)
    return neurons.moments(system, w, g)


def _build(*, seed, device, eta, lam, batch_size, activation, width, noise_std, tilt, spread, replicas) -> Experiment:
    sizes = (SIZES["d_x"], width, SIZES["d_y"])
    net, weights = networks.off_balance(
        sizes, activation, sigma=noise_std, strength=2.0, spread=spread, tilt=tilt, copies=replicas, seed=seed
    )
    knobs = {"eta": eta, "lam": lam, "batch_size": batch_size}
    return Experiment(net, **knobs, weights=weights, seed=seed, device=device, observables={"neurons": _look})


def _read(frame: Frame, settings: Mapping) -> dict[str, np.ndarray]:
    """A neuron that never fires has no gradient, and no place in the plane; log_ratio is that of all neurons of a replica."""
    now = frame.observables
    dots = {k: np.where(now[k] > 0, now[k], np.nan) for k in ("g2_in", "g2_out")}
    return {**now, **dots, "log_ratio": np.log(now["g2_out"].sum(-1) / now["g2_in"].sum(-1))}


def _predict(frame: Frame, settings: Mapping) -> dict[str, float]:
    """The log ratio of a stationary state with the present |u|² and |w|²; tanh has no rescaling symmetry, hence no prediction."""
    now = {k: np.nanmean(frame.observables[k]) for k in ("g2_in", "in2", "out2")}
    rest = 1 - theory.decay_shift(frame.knob("eta"), frame.knob("lam")) * (now["in2"] - now["out2"]) / now["g2_in"]
    return {"log_ratio": float(np.log(rest))} if settings["activation"] != "tanh" and rest > 0 else {}


def diagonal(board) -> tuple[np.ndarray, np.ndarray]:
    """Where neurons in balance lie, as long as the last dots need: the curve of `views.Scatter("g2_in", "g2_out")`."""
    last = [readings[-1].values for readings in board.readings if readings]
    seen = np.concatenate([np.zeros(0), *(np.ravel(v[k]) for v in last for k in ("g2_in", "g2_out"))])
    seen = seen[np.isfinite(seen)]
    ends = np.array([seen.min(), seen.max()]) if seen.size else np.zeros(0)
    return ends, ends


NETWORK = Scenario(
    name="neuron_balance.network",
    build=_build,
    settings={
        "eta": Knob("learning rate η", 1e-3, 0.2),
        "lam": scenario.LAM,
        "batch_size": Knob("batch size B", 2, 128, "powers of two"),
        "activation": Knob("activation", scale="choice", options=teacher_student.ACTIVATIONS, shown=False),
        "width": Knob("width h", 1, 8, "whole", shown=False),
        "noise_std": Knob("noise σ of the answers", 0.1, 3.0, "linear", shown=False),
        "tilt": Knob("start: factor of w, divisor of u", 0.2, 5.0, shown=False),
        "spread": Knob("start: spread of its logarithm", 0.0, 1.0, "linear", shown=False),
        "replicas": Knob("replicas R", 1, 16, "whole", shown=False),
    },
    defaults={
        "eta": 0.02,
        "lam": 0.0,
        "batch_size": 8,
        "activation": "relu",
        "width": 3,
        "noise_std": 1.0,
        "tilt": 1.5,
        "spread": 0.3,
        "replicas": 8,
    },
    observables={
        "g2_in": Observable("E|g_u|², into a neuron", log=True, mean=False),
        "g2_out": Observable("E|g_w|², out of it", log=True, mean=False),
        "log_ratio": Observable("log E|g_w|²/E|g_u|²"),
        "U": Observable("energy U (loss)", log=True),
    },
    read=_read,
    predict=_predict,
)
