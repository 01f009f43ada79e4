"""What runs in the live panels of notebook 02: points on a sphere, and a network on one, narrow or wide.

The points have closed forms; no closed form knows a network's temperature, what stands beside the one is the other.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np
import torch

from thermolab.engine import scenario
from thermolab.engine.experiment import Experiment, Frame
from thermolab.engine.scenario import Knob, Observable, Scenario
from thermolab.instruments import observables
from thermolab.instruments.temperature import gas_temperature
from thermolab.phenomena.temperature_collapse import networks, theory
from thermolab.systems.sphere_quadric import QuadricPoints


def _network(*, seed, device, eta, batch_size, width, label_noise, replicas) -> Experiment:
    net = networks.system(width, label_noise=label_noise)
    weights = net.start(torch.arange(replicas), seed)
    weights /= torch.linalg.vector_norm(weights, dim=1, keepdim=True)
    read = {"S": observables.PathEntropy(of="direction"), "noise": observables.MinibatchNoise(of="direction")}
    return Experiment(net, eta=eta, batch_size=batch_size, seed=seed, weights=weights, device=device, observables=read)


def _read(frame: Frame, settings: Mapping) -> dict[str, np.ndarray]:
    found = frame.observables
    return {**found, "T": gas_temperature(frame.knobs["eta"], found["trace"], networks.dimension(settings["width"]))}


NETWORK = Scenario(
    name="temperature_collapse.network",
    build=_network,
    settings={
        "eta": scenario.ETA,
        "batch_size": scenario.BATCH_SIZE,
        "width": Knob("width h", 4, 64, "whole", shown=False),
        "label_noise": Knob("label noise", 0.0, 1.0, "linear", shown=False),
        "replicas": Knob("replicas R", 1, 16, "whole", shown=False),
    },
    defaults={"eta": 0.02, "batch_size": 32, "width": networks.UP, "label_noise": 0.3, "replicas": 2},
    observables={
        "U": Observable("energy U (loss)", log=True),
        "T": Observable("temperature T (loss)", log=True),
        "snr": Observable("signal/noise |∇L|/√Tr Σ", log=True),
        "S": Observable("entropy S (nats)"),
    },
    read=_read,
    without={"λ": "the weights are held on a sphere, where a pull towards the origin changes nothing"},
)


PLACES = {"three (UP)": theory.UNDER, "two (OP)": theory.OVER}


def _points(*, seed, device, eta, points, replicas, azimuth, elevation) -> Experiment:
    system = QuadricPoints(PLACES[points])
    weights = system.start(torch.arange(replicas), seed)
    weights *= torch.where(weights[:, 2:] < 0, -1.0, 1.0)  # w and -w are one state; here they all start on the upper half
    return Experiment(system, eta=eta, seed=seed, weights=weights, device=device, observables={"place": _place})


def _place(system, state, knobs) -> dict[str, torch.Tensor]:
    """Where each replica is."""
    return dict(zip("xyz", state.weights.T, strict=True))


@functools.lru_cache(64)  # a live panel asks at every frame, and knobs change seldom
def _stationary(points: str, eta: float) -> dict[str, float]:
    """U of the stationary state, exact at a finite step; nothing where there is none."""
    if points != "three (UP)" or eta >= theory.mean_square_critical_rate(PLACES[points]):
        return {}
    return {"U": float(theory.stationary_state(PLACES[points], eta).energy)}


def _predict(frame: Frame, settings: Mapping) -> dict[str, float]:
    return _stationary(settings["points"], frame.knob("eta"))


POINTS = Scenario(
    name="temperature_collapse.points",
    build=_points,
    settings={
        "eta": Knob("learning rate η", 1e-3, 2.0),
        "points": Knob("points", scale="choice", options=tuple(PLACES), shown=False),
        "replicas": Knob("replicas R", 1, 1024, "whole", shown=False),
        "azimuth": Knob("view: around (°)", -180.0, 180.0, "linear", view=True),
        "elevation": Knob("view: above (°)", -90.0, 90.0, "linear", view=True),
    },
    defaults={"eta": 0.05, "points": "three (UP)", "replicas": 64, "azimuth": 18.0, "elevation": 27.0},
    observables={
        "U": Observable("energy U (loss)", log=True),
        "x": Observable("x", mean=False),
        "y": Observable("y", mean=False),
        "z": Observable("z", mean=False),
    },
    predict=_predict,
    without={
        "B": "each step sees one of the points",
        "λ": "the loss depends on the direction of the weights alone, and they are held on a sphere",
    },
)
