"""What runs in the live panel of notebook 02: a network on the unit sphere, narrow or wide.

Nothing is predicted for it: no closed form knows a network's temperature. What stands beside the one is the other.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from thermolab.engine import scenario
from thermolab.engine.experiment import Experiment, Frame
from thermolab.engine.scenario import Gauge, Knob, Scenario
from thermolab.instruments import gauges
from thermolab.instruments.temperature import gas_temperature
from thermolab.phenomena.temperature_collapse import networks


def _network(*, seed, device, eta, batch_size, width, label_noise, replicas) -> Experiment:
    net = networks.system(width, label_noise=label_noise)
    weights = net.start(torch.arange(replicas), seed)
    weights /= torch.linalg.vector_norm(weights, dim=1, keepdim=True)
    read = {"S": gauges.PathEntropy(), "noise": gauges.MinibatchNoise()}
    return Experiment(net, eta=eta, batch_size=batch_size, seed=seed, weights=weights, device=device, gauges=read)


def _read(frame: Frame, settings: Mapping) -> dict[str, np.ndarray]:
    found = frame.gauges
    return {**found, "T": gas_temperature(frame.knobs["eta"], found["trace"], networks.dimension(settings["width"]))}


NETWORK = Scenario(
    name="temperature-collapse.network",
    build=_network,
    settings={
        "eta": scenario.ETA,
        "batch_size": scenario.BATCH_SIZE,
        "width": Knob("width h", 2, 64, "whole", shown=False),
        "label_noise": Knob("label noise", 0.0, 1.0, "linear", shown=False),
        "replicas": Knob("replicas R", 1, 16, "whole", shown=False),
    },
    defaults={"eta": 0.02, "batch_size": 32, "width": networks.UP, "label_noise": 0.3, "replicas": 2},
    gauges={
        "U": Gauge("energy U (loss)", log=True),
        "T": Gauge("temperature T (loss)", log=True),
        "snr": Gauge("signal/noise |∇L|/√Tr Σ", log=True),
        "S": Gauge("entropy S (nats)"),
    },
    read=_read,
)
