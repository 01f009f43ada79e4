"""What runs in the live panel of notebook 05: two embedded deep linear networks side by side, and how alike their layers are.

Network A and network B see the same data through views of their own and share η, λ, B and the noise of the answers, but no
batches. The map holds the CKA of all their hidden layers with each other and with G, the kernel of theory, which depends on
the profile of the noise but not on its strength. Without noise nothing pulls the layers there.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np
import torch

from thermolab.engine import scenario
from thermolab.engine.experiment import Experiment, Frame
from thermolab.engine.scenario import Knob, Observable, Scenario
from thermolab.phenomena.platonic_alignment import theory
from thermolab.systems import embedded_linear
from thermolab.systems.pair import Pair
from thermolab.systems.regression import NoisyAnswers

D_X, D_Y = 6, len(embedded_linear.NOISE)


def names(depth_a: int, depth_b: int) -> tuple[str, ...]:
    """The rows and columns of the map, for `views.HeatMap`.

    >>> names(3, 3)
    ('A1', 'A2', 'B1', 'B2', 'G')
    """
    layers = [f"{net}{i}" for net, depth in (("A", depth_a), ("B", depth_b)) for i in range(1, depth)]
    return (*layers, "G")


def _build(*, seed, device, eta, lam, batch_size, noise, depth_a, width_a, depth_b, width_b, replicas) -> Experiment:
    v = embedded_linear.target(seed=seed)
    data = embedded_linear.answers(v, np.ones(D_Y), seed=seed)
    clean = data.x @ torch.tensor(v.T, dtype=torch.float32)
    shared = NoisyAnswers(data.x, clean, data.y - clean)
    views = [embedded_linear.view(D_X, D_Y, seed=2 * seed + i) for i in range(2)]
    shapes = ((depth_a, width_a), (depth_b, width_b))
    pair = Pair(
        [embedded_linear.network(see, *shape, shared) for see, shape in zip(views, shapes, strict=True)], embedded_linear.NOISE
    )
    least = [theory.minimum(see, v, pair.profile, depth) for see, (depth, _) in zip(views, shapes, strict=True)]
    look = functools.partial(_look, views=views, kernel=least[0][0][0] @ views[0].inputs)
    excess = np.mean([depth * q for (_, q), (depth, _) in zip(least, shapes, strict=True)])
    knobs = {"eta": eta, "lam": lam, "batch_size": batch_size, "noise": noise}
    read = {"map": look, "excess": lambda system, state, knobs: np.full(len(state.weights), excess)}
    return Experiment(pair, **knobs, replicas=replicas, seed=seed, device=device, observables=read)


def _look(system: Pair, state, knobs, *, views, kernel) -> torch.Tensor:
    """CKA [R, n, n] of all hidden layers with each other and with G; for Σ_x = 1 layers K x and L x have ⟨K, L⟩ = |K Lᵀ|².

    kernel: [d_y, d_x], the first hidden layer at the minimum of F, as features of G.
    """
    layers = []
    for net, weights, see in zip(system.nets, system.parts(state.weights), views, strict=True):
        first, *others, _ = embedded_linear.matrices(net, weights)
        layers += embedded_linear.products(others, first @ torch.tensor(see.inputs).to(first))
    layers.append(torch.tensor(kernel).to(layers[0]).expand(len(state.weights), *kernel.shape))
    every = torch.cat(layers, 1)
    whose = torch.repeat_interleave(torch.tensor([h.shape[1] for h in layers]))
    one = torch.nn.functional.one_hot(whose).to(every)
    inner = one.T @ (every @ every.mT).square() @ one
    norm = inner.diagonal(dim1=1, dim2=2).sqrt()
    return inner / (norm[:, :, None] * norm[:, None])


def _read(frame: Frame, settings: Mapping) -> dict[str, np.ndarray]:
    """The map, a mean over the replicas; the least CKA of a layer of A with one of B, and of any of them with G."""
    found, a = frame.observables["map"], settings["depth_a"] - 1
    worst = {"cka": found[:, :a, a:-1].min((1, 2)), "kernel": found[:, -1, :-1].min(1)}
    return {**frame.observables, "map": np.nanmean(found, 0), **worst}


def _predict(frame: Frame, settings: Mapping) -> dict[str, float]:
    """Where noise drives both networks, to leading order in η; nowhere without it, and unknown with weight decay."""
    noise, eta = frame.knob("noise"), frame.knob("eta")
    if noise == 0 or frame.knob("lam") > 0:
        return {}
    excess = eta / frame.knob("batch_size") * np.nanmean(frame.observables["excess"])  # (η/4) E|g|² at noise = 1
    return {"cka": 1.0, "kernel": 1.0, "U": float(noise**2 * (np.square(embedded_linear.NOISE).sum() + excess))}


PAIR = Scenario(
    name="platonic_alignment.pair",
    build=_build,
    settings={
        "eta": Knob("learning rate η", 1e-3, 0.1),
        "lam": scenario.LAM,
        "batch_size": scenario.BATCH_SIZE,
        "noise": Knob("label noise a", 0.0, 2.0, "linear"),
        "depth_a": Knob("depth L of A", 2, 8, "whole", shown=False),
        "width_a": Knob("width h of A", D_Y, 64, "whole", shown=False),
        "depth_b": Knob("depth L of B", 2, 8, "whole", shown=False),
        "width_b": Knob("width h of B", D_Y, 64, "whole", shown=False),
        "replicas": Knob("replicas R", 1, 16, "whole", shown=False),
    },
    defaults={
        "eta": 0.02,
        "lam": 0.0,
        "batch_size": 16,
        "noise": 1.0,
        "depth_a": 3,
        "width_a": 8,
        "depth_b": 4,
        "width_b": 12,
        "replicas": 1,
    },
    observables={
        "cka": Observable("worst CKA of A with B"),
        "kernel": Observable("worst CKA with G"),
        "U": Observable("energy U (loss)", log=True),
        "U_a": Observable("energy U of A (loss)", log=True),
        "U_b": Observable("energy U of B (loss)", log=True),
        "map": Observable("CKA", mean=False),
    },
    read=_read,
    predict=_predict,
)
