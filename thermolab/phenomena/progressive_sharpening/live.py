"""What runs in the live panels of notebook 06: networks whose noise is switched by hand, and descent at the edge of stability.

The noise of the answers keeps its power while its imbalance ρ = σ_max/σ_min is turned. The function that the networks compute
does not change, only where they are on its symmetry orbit: in a linear network λ_max goes to the closed form, and the hidden
kernel W₁ᵀW₁ to that of `platonic_alignment`, which is diag σ here: one cause, two observables. The other panel has no noise.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from thermolab.engine import scenario
from thermolab.engine.experiment import Experiment, Frame
from thermolab.engine.rules import positive, several
from thermolab.engine.scenario import Knob, Observable, Scenario
from thermolab.instruments.curvature import HessianProducts, largest_eigenvalue
from thermolab.instruments.two_layer_hessian import hessian
from thermolab.phenomena.progressive_sharpening import edge, theory, two_layers
from thermolab.systems import teacher_student
from thermolab.systems.regression import NoisyAnswers, NoisyNetwork, number, profile, samples

SCALE = 0.5  # of the start: the usual one is so sharp that small batches throw it out
SHAPE = several(positive(), 2, 16)  # what a list of standard deviations may be
FIRST, WARM = 40, 6  # Hessian products of the first frame, and of the others


@dataclass(frozen=True)
class Profile(Knob):
    """A list of standard deviations, which no panel offers."""

    shown: bool = False

    @property
    def allowed(self) -> str:
        """What is allowed, in words."""
        return SHAPE.allowed

    def check(self, name: str, value) -> tuple[float, ...]:
        """The list as a tuple; raises ValueError, one line."""
        return SHAPE(name, value)


def _sigma(settings: Mapping, knobs: Mapping) -> np.ndarray:
    """σ_i of the answers at these knobs."""
    return number(knobs, "noise_std") * profile(settings["noise_profile"], number(knobs, "imbalance"))


def _look(system, state, knobs, *, settings: Mapping, probe: torch.Tensor) -> dict[str, torch.Tensor]:
    """λ_max of the loss of noiseless answers, [R]; of a linear network also the CKA of its kernel with that of the noise."""
    first, second = teacher_student.weight_matrices(system, state.weights)
    x = probe.to(first)
    found = {"lambda_max": torch.linalg.eigvalsh(hessian(settings["activation"], first, second, x, x))[:, -1]}
    if settings["activation"] == "linear":
        kernel, wanted = first.mT @ first, torch.tensor(_sigma(settings, knobs)).diag().to(first)
        norm = torch.linalg.matrix_norm
        found["cka"] = (kernel * wanted).sum((-2, -1)) / (norm(kernel) * norm(wanted))
    return found


def _network(*, seed, device, eta, lam, batch_size, replicas, imbalance, noise_std, **settings) -> Experiment:
    shape, activation = settings["noise_profile"], settings["activation"]
    two_layers.enough_for(shape, width=settings["width"])
    d = len(shape)
    net = two_layers.learner(np.ones(d), activation, width=settings["width"], seed=seed)
    x, y = net.data.x, net.data.y
    noise = {"imbalance": imbalance, "noise_std": noise_std}
    noisy = NoisyNetwork(net.replicas.module, NoisyAnswers(x, x, y - x), functools.partial(_sigma, settings), shape, **noise)
    look = functools.partial(_look, settings=settings, probe=torch.tensor(samples(np.ones(d), [], n_data=two_layers.PROBES)[0]))
    knobs = {"eta": eta, "lam": lam, "batch_size": batch_size}
    weights = SCALE * noisy.start(torch.arange(replicas), seed)
    return Experiment(noisy, **knobs, weights=weights, seed=seed, device=device, observables={"sharpness": look})


def _predict(frame: Frame, settings: Mapping) -> dict[str, float]:
    """Where SGD goes without weight decay; only a linear network has a closed form. U includes what a finite η adds."""
    if settings["activation"] != "linear" or frame.knob("lam") > 0:
        return {}
    sigma = _sigma(settings, frame.knobs)
    power, d = (sigma**2).sum(), len(sigma)
    least = 2 * frame.knob("eta") / frame.knob("batch_size") * np.sqrt(d * power) * sigma.sum()  # (η/4) E|g|²
    return {"lambda_max": theory.lambda_max(sigma), "cka": 1.0, "U": float(power + least)}


NETWORK = Scenario(
    name="progressive_sharpening.network",
    build=_network,
    settings={
        "eta": Knob("learning rate η", 1e-3, 0.2),
        "lam": scenario.LAM,
        "batch_size": scenario.BATCH_SIZE,
        "imbalance": Knob("imbalance ρ", 1.0, 20.0),
        "noise_std": Knob("mean noise σ", 0.1, 2.0),
        "noise_profile": Profile("shape of the noise"),
        "activation": Knob("activation", scale="choice", options=two_layers.ACTIVATIONS, shown=False),
        "width": Knob("width h", 2, 64, "whole", shown=False),
        "replicas": Knob("replicas R", 1, 16, "whole", shown=False),
    },
    defaults={
        "eta": 0.05,
        "lam": 0.0,
        "batch_size": 16,
        "imbalance": 1.0,
        "noise_std": 1.0,
        "noise_profile": two_layers.IMBALANCED,
        "activation": "linear",
        "width": 12,
        "replicas": 4,
    },
    observables={
        "lambda_max": Observable("sharpness λ_max", log=True),
        "cka": Observable("CKA with the kernel G"),
        "U": Observable("energy U (loss)", log=True),
    },
    predict=_predict,
)


class _Sharpness:
    """λ_max [R] by Lanczos in few products, from where it ended the frame before: within 2 %, mostly far closer."""

    def __init__(self):
        self.vectors: dict[int, torch.Tensor] = {}

    def __call__(self, system, state, knobs) -> dict[str, np.ndarray]:
        found = np.full(len(state.weights), np.nan)
        for r, weights in enumerate(state.weights):
            if bool(weights.isfinite().all()):
                products = HessianProducts(system, weights, system.data.x, system.data.y)
                start = self.vectors.get(r)
                most = FIRST if start is None else WARM
                top = largest_eigenvalue(products, start=start, tolerance=0.01, most=most, seed=state.step)
                self.vectors[r], found[r] = top.vector, top.value
        return {"lambda_max": found}


def _edge(*, seed, device, eta, lam, n_data, width, activation, replicas) -> Experiment:
    net = edge.digits(n_data, (width, width), activation, seed=seed)
    weights = edge.SCALE * net.start(torch.arange(replicas), seed)
    return Experiment(net, eta=eta, lam=lam, seed=seed, weights=weights, device=device, observables={"sharpness": _Sharpness()})


def _at_the_edge(frame: Frame, settings: Mapping) -> dict[str, float]:
    return {"lambda_max": 2 / frame.knob("eta")}


EDGE = Scenario(
    name="progressive_sharpening.edge",
    build=_edge,
    settings={
        "eta": Knob("learning rate η", 0.01, 1.0),
        "lam": scenario.LAM,
        "n_data": Knob("images N", 50, 1000, "whole", shown=False),
        "width": Knob("width h", 4, 64, "whole", shown=False),
        "activation": Knob("activation", scale="choice", options=("tanh", "relu"), shown=False),
        "replicas": Knob("replicas R", 1, 16, "whole", shown=False),
    },
    defaults={"eta": 0.2, "lam": 0.0, "n_data": 200, "width": 24, "activation": "tanh", "replicas": 1},
    observables={
        "lambda_max": Observable("sharpness λ_max", log=True),
        "U": Observable("energy U (loss)", log=True),
    },
    predict=_at_the_edge,
    without={"B": "each step uses all images, so there is no noise; sharpness at small B is measured below"},
)
