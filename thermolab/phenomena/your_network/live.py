"""What runs in the live panel of notebook 07: a network of the menu, or your own, with the gauges that every network has.

The lines are laws that hold for any network: the radius that the noise of this moment would give to its scale-invariant weights,
the edge of stability 2/η, balance 0. A network without such weights, or without a pair, has no such gauge.
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
from thermolab.instruments import curvature, noise, scale, symmetry
from thermolab.phenomena.your_network import measure, networks, theory

BATCHES = 12  # fresh minibatches of each reading, and of each batch sharpness


def _look(system, state, knobs, *, groups, pairs) -> dict[str, np.ndarray]:
    """The gauges [R] at the weights of a frame, from other minibatches than the run's; they leave no trace."""
    w, size = torch.nan_to_num(state.weights), int(knobs["batch_size"])
    g = system.gradients(w, BATCHES, size, 2**33 * (1 + state.step), torch.arange(len(w), device=w.device))
    found = noise.gradient_noise(g + knobs["lam"].to(w.dtype)[:, None] * w, spectrum=False)
    out = {"trace": found.trace, "snr": found.snr, "dim": (g != 0).any(0).sum(1).cpu().numpy()}
    squares = g.double().square().mean(0).cpu()
    if groups:
        index = torch.cat([group.index for group in groups])
        out |= {"g2": squares[:, index].sum(1).numpy(), "w2": w[:, index].double().square().sum(1).cpu().numpy()}
    if pairs:
        out["balance"] = torch.stack([symmetry.log_ratio(pair, squares) for pair in pairs]).mean(0).numpy()
    out["sharpness"] = np.array([curvature.batch_sharpness(system, row, size, n=BATCHES).mean() for row in w])
    return out


def _build(*, seed, device, network, images, eta, lam, batch_size, replicas) -> Experiment:
    made = networks.find(network, images)
    system = made.system
    groups = scale.groups(system.replicas.module, measure.loss_of(system), system.data.x, system.data.y)
    pairs = [pair for pair in measure.pairs_of(system.replicas.module)[0] if not pair.reason]
    look = functools.partial(_look, groups=[g for g in groups if g.invariant], pairs=pairs)
    knobs = {"eta": eta, "lam": lam, "batch_size": batch_size}
    weights = made.starts(range(1000 * seed, 1000 * seed + replicas))
    return Experiment(system, **knobs, weights=weights, seed=seed, device=device, observables={"gauges": look})


def _read(frame: Frame, settings: Mapping) -> dict[str, np.ndarray]:
    now = frame.observables
    found = {**now, "T": theory.temperature(frame.knobs["eta"], now["trace"], np.maximum(now["dim"], 1))}
    nothing = np.full(len(now["trace"]), np.nan)
    return found | {"r": np.sqrt(now["w2"]) if "w2" in now else nothing, "balance": now.get("balance", nothing)}


def _predict(frame: Frame, settings: Mapping) -> dict[str, float]:
    """The radius at which the noise of this moment and the decay are even; the edge."""
    now, eta, lam = frame.observables, frame.knob("eta"), frame.knob("lam")
    found = {"sharpness": theory.EDGE / eta}
    if "w2" in now and lam > 0:  # |g| goes as 1/r
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
        "U": Observable("energy U (loss)", log=True),
        "T": Observable("temperature η Tr Σ/2D (loss)", log=True),
        "r": Observable("radius of scale-invariant weights"),
        "snr": Observable("signal/noise |∇L + λw|/√Tr Σ", log=True),
        "sharpness": Observable("batch sharpness", log=True),
        "balance": Observable("log E|g_w|²/E|g_u|² of pairs"),
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
