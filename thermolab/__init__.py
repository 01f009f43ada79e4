"""thermolab: a lab book on the thermodynamics of stochastic gradient descent, and its instruments for a network of your own.

    import thermolab as tl

    net = tl.Network(module, (x, y), loss="cross-entropy")                  # any nn.Module, from the weights that it has
    run = tl.Experiment(net, eta=0.1, lam=1e-3, batch_size=32, replicas=4)
    await tl.live(run, observe=["U", "T", "S", "snr", "sharpness", "balance"])     # a panel with its knobs
    data = tl.measure(run, steps=20_000)                                    # an xarray.Dataset, with errors
    tl.scorecard(run)                                                       # which of the book's claims hold for it
    watch = tl.Watch(model, optimizer, loss_fn, loader)                     # your own loop: watch.step() in it

The names come when they are asked for: `import thermolab` alone stays light, so that the command line starts at once. What
they stand on: `claims` holds the register and the verdict rule, `systems` are what moves, `engine` runs them, `instruments`
measure, `phenomena` predict and decide, `plots` and `lab` draw, run and tabulate.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thermolab.engine.experiment import DivergenceError, Experiment
    from thermolab.engine.scenario import Scenario
    from thermolab.instruments.measuring import measure
    from thermolab.instruments.watch import Watch
    from thermolab.lab.live.own import live, scenario
    from thermolab.phenomena.your_network.scorecard import scorecard
    from thermolab.systems.own import Network

__version__ = "0.1.0"
__all__ = ["DivergenceError", "Experiment", "Network", "Scenario", "Watch", "live", "measure", "scenario", "scorecard"]

_PLACES = {
    "DivergenceError": "thermolab.engine.experiment",
    "Experiment": "thermolab.engine.experiment",
    "Network": "thermolab.systems.own",
    "Scenario": "thermolab.engine.scenario",
    "Watch": "thermolab.instruments.watch",
    "live": "thermolab.lab.live.own",
    "measure": "thermolab.instruments.measuring",
    "scenario": "thermolab.lab.live.own",
    "scorecard": "thermolab.phenomena.your_network.scorecard",
}


if not TYPE_CHECKING:  # a type checker would take every name for one that comes from here

    def __getattr__(name: str):
        if name not in _PLACES:
            raise AttributeError(f"thermolab has no {name}; there are {', '.join(__all__)}")
        globals()[name] = found = getattr(import_module(_PLACES[name]), name)
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
