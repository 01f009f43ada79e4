"""What runs in the live panel of notebook 07: a network of the menu, or your own, with the gauges that every network has.

The lines are laws that hold for any network: the radius that the noise of this moment would give to its scale-invariant weights,
and the edge of stability 2/η. A network without such weights, or without a pair, has no such gauge.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from thermolab.engine import scenario
from thermolab.engine.experiment import Experiment, Frame
from thermolab.engine.scenario import Knob, Observable, Scenario
from thermolab.instruments import gauges, scale
from thermolab.phenomena.your_network import measure, networks, theory

READ = ("T", "snr", "batch_sharpness", "balance")


def _look(system, state, knobs, *, index: torch.Tensor) -> dict[str, np.ndarray]:
    """|w|² and E|g|² [R] of the scale-invariant weights, from other minibatches than the run's."""
    w, seed = state.weights, 2**33 * (1 + state.step)
    streams = torch.arange(len(w), device=w.device)
    g = system.gradients(w, gauges.BATCHES, int(knobs["batch_size"]), seed, streams, state.memory)
    squares = (part.double()[..., index].square().sum(-1) for part in (w, g))
    return dict(zip(("w2", "g2"), (next(squares).cpu().numpy(), next(squares).mean(0).cpu().numpy()), strict=True))


def _build(*, seed, device, network, images, eta, lam, batch_size, replicas) -> Experiment:
    made = networks.find(network, images)
    system, why_not = made.system, gauges.refusals(made.system)
    observables = {"gauges": gauges.Reader(system, [name for name in READ if name not in why_not])}
    groups = scale.groups(system.replicas.module, measure.loss_of(system), system.data.x, system.data.y)
    if invariant := [group.index for group in groups if group.invariant]:
        observables["law"] = functools.partial(_look, index=torch.cat(invariant))
    knobs = {"eta": eta, "lam": lam, "batch_size": batch_size}
    weights = made.starts(range(1000 * seed, 1000 * seed + replicas))
    return Experiment(system, **knobs, weights=weights, seed=seed, device=device, observables=observables)


def _read(frame: Frame, settings: Mapping) -> dict[str, np.ndarray]:
    now = frame.observables
    nothing = np.full(len(now["U"]), np.nan)
    missing = {gauges.variable(name): nothing for name in READ}
    return {**missing, **now, "r": np.sqrt(now["w2"]) if "w2" in now else nothing}


def _predict(frame: Frame, settings: Mapping) -> dict[str, float]:
    """The edge, and the radius at which the noise of this moment and the decay are even: |g| of such weights goes as 1/r."""
    now, eta, lam = frame.observables, frame.knob("eta"), frame.knob("lam")
    found = {"batch_sharpness": theory.EDGE / eta}
    if "w2" in now and lam > 0:
        found["r"] = float(np.nanmean((eta**2 * now["g2"] * now["w2"] / theory.decay(eta, lam)) ** 0.25))
    return found


NETWORK = Scenario(
    name="your_network.network",
    build=_build,
    settings={
        "eta": Knob("learning rate η", 1e-3, 1.0),
        "lam": scenario.LAM,
        "batch_size": scenario.BATCH_SIZE,
        "network": Knob("network", scale="choice", options=tuple(networks.MENU), shown=False),
        "images": Knob("images", scale="choice", options=networks.IMAGES, shown=False),
        "replicas": Knob("replicas R", 1, 16, "whole", shown=False),
    },
    defaults={"eta": 0.2, "lam": 0.01, "batch_size": 16, "network": "mlp", "images": "digits", "replicas": 2},
    observables={
        "U": gauges.observable("U"),
        "r": Observable("radius, scale-invariant"),
        **{gauges.variable(name): gauges.observable(name) for name in READ},
    },
    read=_read,
    predict=_predict,
)


def of(network: str) -> Scenario:
    """The scenario for a network of the menu, or for "FILE.py:FUNCTION", which only this process knows."""
    if network in networks.MENU:
        return NETWORK
    choice = replace(NETWORK.settings["network"], options=(network,))
    return replace(NETWORK, settings={**NETWORK.settings, "network": choice}, defaults={**NETWORK.defaults, "network": network})
