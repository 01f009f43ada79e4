"""Compile the loops into numba's cache, so that a reader's first run does not wait: `python -m thermolab.engine.precompile`."""

from __future__ import annotations

from thermolab.engine.experiment import Experiment
from thermolab.systems import data, models
from thermolab.systems.isotropic import IsotropicNoise
from thermolab.systems.network import NetworkOnData
from thermolab.systems.sphere_quadric import QuadricPoints


def main() -> None:
    """One step of each compiled system."""
    network = NetworkOnData(models.mlp((64, 8, 10)), data.digits(16))
    Experiment(IsotropicNoise(), eta=0.01).advance(1)
    Experiment(QuadricPoints([[1.0, 0.0, 0.2], [-1.0, 0.0, 0.2]]), eta=0.01).advance(1)
    Experiment(network, eta=0.01, batch_size=4).advance(1)


if __name__ == "__main__":
    main()
