"""What the benchmark of the live panel runs: the scenarios of notebooks 00 to 06, and an ordinary MLP on digits."""

from __future__ import annotations

import numpy as np

from thermolab.engine import scenario
from thermolab.engine.experiment import Experiment
from thermolab.engine.scenario import Knob, Observable, Scenario
from thermolab.instruments import observables, temperature
from thermolab.phenomena.cooling.live import IMAGES
from thermolab.phenomena.ideal_gas.live import ISOTROPIC, NETWORK
from thermolab.phenomena.irreversibility.live import WALKER
from thermolab.phenomena.neuron_balance.live import NETWORK as NEURONS
from thermolab.phenomena.platonic_alignment.live import PAIR, names
from thermolab.phenomena.progressive_sharpening.live import EDGE
from thermolab.phenomena.progressive_sharpening.live import NETWORK as SWITCH
from thermolab.phenomena.temperature_collapse.live import NETWORK as SPHERE
from thermolab.systems import data, models
from thermolab.systems.network import NetworkOnData

__all__ = ["EDGE", "IMAGES", "ISOTROPIC", "LAYERS", "MLP", "NETWORK", "NEURONS", "PAIR", "SPHERE", "SWITCH", "WALKER"]

LAYERS = names(3, 4)  # of the map of PAIR at its defaults


def _mlp(*, seed, device, eta, lam, batch_size) -> Experiment:
    net = NetworkOnData(models.mlp((64, 64, 10)), data.digits(1024, label_noise=0.3))
    read = {"S": observables.PathEntropy(), "noise": observables.MinibatchNoise()}
    return Experiment(net, eta=eta, lam=lam, batch_size=batch_size, replicas=1, seed=seed, device=device, observables=read)


def _read(frame, settings):
    found = frame.observables
    t = temperature.gas_temperature(frame.knobs["eta"] / found["r2"], found["trace"], 4810)
    return {**found, "r": np.sqrt(found["r2"]), "T": t}


MLP = Scenario(
    name="benchmark.mlp",
    build=_mlp,
    settings={"eta": Knob("learning rate η", 1e-3, 1.0), "lam": scenario.LAM, "batch_size": scenario.BATCH_SIZE},
    defaults={"eta": 0.05, "lam": 1e-3, "batch_size": 32},
    observables={"U": Observable("energy U (loss)", log=True), "snr": Observable("signal/noise", log=True),
            "T": Observable("temperature T (loss)", log=True), "S": Observable("entropy S (nats)")},
    read=_read,
)  # fmt: skip
