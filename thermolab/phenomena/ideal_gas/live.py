"""What runs in the live panels of notebook 03: an isotropic gas of any dimension, and a scale-invariant network.

Each reading stands beside what the closed forms of `theory` say at the present knobs. The gas is predicted from the
knobs alone; of the network theory predicts radius and pressure from the E|g|² measured at the moment.
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
from thermolab.phenomena.ideal_gas import reference, theory
from thermolab.systems.isotropic import IsotropicNoise
from thermolab.systems.updates import PROTOCOLS

PROTOCOL = Knob("protocol", scale="choice", options=PROTOCOLS)
READINGS = {
    "T": Observable("temperature T (loss)", log=True),
    "U": Observable("energy U (loss)", log=True),
    "r": Observable("radius r = |w|", log=True),
    "p": Observable("pressure p", log=True),
    "S": Observable("entropy S (nats)"),
}


@functools.lru_cache(64)  # a live panel asks at every frame, and knobs change seldom
def predict(protocol: str, *, eta: float, lam: float, dim: int, sigma: float, radius: float) -> dict[str, float]:
    """What the closed forms say of the observables T, U, S, r, p at the present knobs; radius: of the fixed sphere."""
    state = theory.isotropic_state(protocol, eta, lam, dim, sigma)
    if protocol == "sphere":
        moment = (dim - 1) * sigma**2 + state["gradient_squared"]
        state |= {"r": radius, "p": theory.finite_step_pressure(eta, radius, moment)}
    return {k: float(state[v]) for k, v in {"T": "T_step", "U": "U", "S": "S", "r": "r", "p": "p"}.items()}


def _gas(*, seed, device, eta, lam, sigma, protocol, dim, replicas) -> Experiment:
    """Replicas in random directions, at the radius where the gas will stand still."""
    system = IsotropicNoise(dim, protocol)
    r = np.nan_to_num(theory.isotropic_state(protocol, eta, lam, dim, sigma)["r"], nan=1.0, posinf=1.0) if lam else 1.0
    weights = system.start(torch.arange(replicas), seed) * float(r)
    read = {"S": observables.PooledEntropy(of="direction"), "position": observables.position}
    return Experiment(system, eta=eta, lam=lam, sigma=sigma, seed=seed, weights=weights, device=device, observables=read)


def _effective_rate(frame: Frame, r2: np.ndarray) -> np.ndarray:
    return frame.knobs["eta"] / r2 if frame.knob("protocol") == "lr" else frame.knobs["eta"]


def _read_gas(frame: Frame, settings: Mapping) -> dict[str, np.ndarray]:
    """r and T beside the observables; T is that of the steps as measured, (D - 1) T = (1 - √(1 - η_eff² E|g|²))/η_eff."""
    found, eta = frame.observables, _effective_rate(frame, frame.observables["r2"])
    rule = "sphere" if frame.knob("protocol") == "sphere" else "elr"
    t = theory.step_temperature(rule, eta, 0.0, eta, found["g2"], settings["dim"])
    return {**found, "r": np.sqrt(found["r2"]), "T": t}


def _predict_gas(frame: Frame, settings: Mapping) -> dict[str, float]:
    knobs = {name: frame.knob(name) for name in ("protocol", "eta", "lam", "sigma")}
    if knobs["lam"] == 0:
        return {}  # without weight decay nothing holds the gas
    held = knobs["protocol"] == "sphere"
    radius = float(np.sqrt(np.mean(frame.observables["r2"]))) if held else 0.0
    return predict(dim=settings["dim"], radius=radius, **knobs)


ISOTROPIC = Scenario(
    name="ideal_gas.isotropic",
    build=_gas,
    settings={
        "eta": scenario.ETA,
        "lam": scenario.LAM,
        "sigma": Knob("noise σ", 0.01, 10.0),
        "protocol": PROTOCOL,
        "dim": Knob("dimension D", 3, 128, "whole"),
        "replicas": Knob("replicas R", 8, 4096, "whole", shown=False),
    },
    defaults={"eta": 0.03, "lam": 0.01, "sigma": 1.0, "protocol": "elr", "dim": 3, "replicas": 256},
    observables=READINGS
    | {"along": Observable("weights along μ", mean=False), "across": Observable("weights across μ", mean=False)},
    read=_read_gas,
    predict=_predict_gas,
    without={"B": "the noise is drawn, not made by data; a batch B times as large would be a σ smaller by √B"},
)


def _network(*, seed, device, eta, lam, batch_size, protocol, label_noise, replicas) -> Experiment:
    net = reference.system(protocol, label_noise=label_noise)
    weights = net.start(torch.arange(replicas), seed)
    weights /= torch.linalg.vector_norm(weights, dim=1, keepdim=True)
    read = {"S": observables.PathEntropy(of="direction"), "noise": observables.MinibatchNoise(of="direction")}
    return Experiment(net, eta=eta, lam=lam, batch_size=batch_size, seed=seed, weights=weights, device=device, observables=read)


def _read_network(frame: Frame, settings: Mapping) -> dict[str, np.ndarray]:
    """r and T_gas = η_eff Tr Σ/(2 (D - 1)) beside the observables."""
    found = frame.observables
    t = _effective_rate(frame, found["r2"]) * found["trace"] / (2 * (reference.DIM - 1))
    return {**found, "r": np.sqrt(found["r2"]), "T": t}


def _predict_network(frame: Frame, settings: Mapping) -> dict[str, float]:
    protocol, eta, lam = (frame.knob(k) for k in ("protocol", "eta", "lam"))
    moment = float(np.mean(frame.observables["g2"]))
    if protocol == "sphere":
        radius = float(np.sqrt(np.mean(frame.observables["r2"])))
        return {"r": radius, "p": float(theory.finite_step_pressure(eta, radius, moment))}
    return {"r": float(theory.finite_step_radius(protocol, eta, lam, moment)), "p": lam} if lam else {}


NETWORK = Scenario(
    name="ideal_gas.network",
    build=_network,
    settings={
        "eta": scenario.ETA,
        "lam": scenario.LAM,
        "batch_size": scenario.BATCH_SIZE,
        "protocol": PROTOCOL,
        "label_noise": Knob("label noise", 0.0, 1.0, "linear", shown=False),
        "replicas": Knob("replicas R", 1, 64, "whole", shown=False),
    },
    defaults={"eta": 0.03, "lam": 0.01, "batch_size": 32, "protocol": "elr", "label_noise": 0.3, "replicas": 4},
    observables=READINGS | {"snr": Observable("signal/noise |∇L|/√Tr Σ", log=True)},
    read=_read_network,
    predict=_predict_network,
)
