"""A panel of any run: its knobs, their ranges and what it shows are found from the run's system."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import torch

from thermolab.engine.experiment import Experiment
from thermolab.engine.scenario import BATCH_SIZE, ETA, LAM, MOMENTUM, Knob, Scenario
from thermolab.instruments import gauges
from thermolab.systems.system import System

OBSERVED = ("U", "r", "T", "snr")
FACTOR = 100.0  # from the value that a knob has to the ends of its range
NAMES = {"beta1": "decay of the mean β₁", "beta2": "decay of the square β₂", "eps": "smallest divisor ε"}
NAMES |= {"rho": "reach ρ", "lam_entropy": "entropic decay λ_S", "protocol": "protocol"}


def scenario(run: Experiment, observe: Iterable[str] = OBSERVED, *, name: str = "own") -> Scenario:
    """The scenario of a run: what a panel, a script or `thermolab replay` drives. It starts where the run is now.

    run: stays as it is; new runs have its system, streams, seed and present weights, and an optimiser without memory. observe:
    names of gauges (`instruments.gauges`) or observables of the system. name: what a log calls it.
    Raises ValueError, one line, for names that cannot be read, and for a knob that differs from replica to replica.

    >>> import torch, thermolab as tl
    >>> net = tl.Network(torch.nn.Linear(4, 3), (torch.randn(64, 4), torch.arange(64) % 3), optimiser="momentum")
    >>> own = tl.scenario(tl.Experiment(net, eta=0.1, batch_size=8), ["U", "T"])
    >>> list(own.settings), own.defaults["momentum"]
    (['eta', 'lam', 'batch_size', 'protocol', 'momentum'], 0.9)
    """
    names = gauges.for_run(run.system, observe)
    values = {k: _value(k, v) for k, v in run.knobs.items()}
    return Scenario(
        name=name,
        build=_Start(run.system, run.streams.tolist(), run.state.weights.clone(), names),
        settings={k: _knob(run.system, k, v) for k, v in values.items()},
        defaults=values,
        observables={gauges.variable(n): gauges.observable(n) for n in names},
        portable=False,
    )


async def live(
    run: Experiment,
    observe: Iterable[str] = OBSERVED,
    *,
    events: Sequence = (),
    steps: int = 2000,
    speed: float = math.inf,
    live: str = "auto",
    alt: str | None = None,
) -> None:
    """Show a panel in which the knobs of a run are turned while it trains; without a front end, a still picture of it.

    run, observe: as of `scenario`; the run itself stays where it is. events: [[step, {knob: value}], …], the script of the still
    picture, of `steps` steps. speed: steps per second, at most. live: "auto", "on" or "off". alt: its text for those who do not
    see it. `await` it in a notebook; elsewhere `asyncio.run(tl.live(run))` draws the picture.
    Raises ValueError, one line, as `scenario` does.

    >>> import asyncio, torch, thermolab as tl
    >>> net = tl.Network(torch.nn.Linear(4, 1), (torch.randn(64, 4), torch.randn(64, 1)), loss="squared")
    >>> run = tl.Experiment(net, eta=0.05, batch_size=8)
    >>> asyncio.run(tl.live(run, observe=["U", "T"], steps=60))
    <IPython.core.display.HTML object>
    """
    from thermolab.lab.live import Lines, panel

    own = scenario(run, observe)
    shown = list(own.observables)
    what = ", ".join(o.label for o in own.observables.values())
    setup = SimpleNamespace(seed=run.seed, device=run.device, live=live)
    alt = alt or f"{what} of {run.n_replicas} replicas of a {_kind(run.system)} against steps."
    await panel({_kind(run.system): (own, {})}, [Lines(*shown)], setup, events=events, steps=steps, speed=speed, alt=alt)


def _kind(system) -> str:
    return type(system.replicas.module).__name__ if hasattr(system, "replicas") else system.name


@dataclass(frozen=True)
class _Start:
    """Builds runs that start alike: the function that a scenario asks for."""

    system: System
    streams: list[int]
    weights: torch.Tensor
    names: tuple[str, ...]

    def __call__(self, *, seed: int, device: str, **settings) -> Experiment:
        start = {"streams": self.streams, "weights": self.weights, "seed": seed, "device": device}
        return Experiment(self.system, observables={"gauges": gauges.Reader(self.system, self.names)}, **start, **settings)


def _value(name: str, value):
    """The value of a knob as a scenario has it: one for all replicas."""
    if isinstance(value, str | int):
        return value
    found = np.unique(value.cpu().numpy())
    if len(found) > 1:
        raise ValueError(
            f"{name} differs between the replicas, a panel turns it for all: make a run with one {name} for its panel"
        )
    return float(found[0])


def _knob(system, name: str, value) -> Knob:
    """A knob's label, range and scale, so that the value it has is well inside."""
    if name in system.choices:
        return Knob(NAMES.get(name, name), scale="choice", options=tuple(system.choices[name]))
    if name == "batch_size":
        most = len(system.data) if hasattr(system, "data") else BATCH_SIZE.high
        return Knob(BATCH_SIZE.label, 1, max(value, 2 ** int(math.log2(most))), "powers of two")
    if name == "momentum":
        return MOMENTUM
    known = {"eta": ETA, "lam": LAM}.get(name)
    low, high = system.limits.get(name, (0.0, math.inf))
    if known is None and math.isfinite(high):
        return Knob(NAMES.get(name, name), low, math.nextafter(high, low), "linear")
    if low < 0:
        span = FACTOR * max(abs(value), 1e-3)
        return Knob(NAMES.get(name, name), max(low, -span), min(high, span), "linear")
    if value > 0:
        label, ends = (known.label if known else NAMES.get(name, name)), (value / FACTOR, value * FACTOR)
        return Knob(label, max(low, ends[0]), ends[1], "log", zero=name == "lam" or (known is None and not low))
    return known or Knob(NAMES.get(name, name), 1e-3, 1.0, "log", zero=True)
