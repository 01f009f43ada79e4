"""Two-layer networks that learn answers with noise of a variance of its own in each, and how sharp they are.

Data sets of one seed have the same inputs and the same standard normals in the noise, so two of them differ in the profile σ_i
alone: to switch the noise within a run is to hand its weights to another data set. Inputs have covariance 1 and all moments are
exact: no network here learns noise, and the loss whose curvature counts is that of the noiseless answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import numpy as np
import torch

from thermolab.engine.rules import positive, several
from thermolab.instruments.two_layer_hessian import hessian
from thermolab.systems import teacher_student
from thermolab.systems.network import NetworkOnData
from thermolab.systems.regression import N_DATA, samples

Activation = Literal["relu", "tanh", "linear"]
Profile = Annotated[Sequence[float], several(positive(), 2)]  # σ_i, standard deviation of the noise of each answer

ACTIVATIONS = teacher_student.ACTIVATIONS
IMBALANCED = (2.0, 1.0, 0.6, 0.4, 0.3)
PROBES = 256  # inputs over which the curvature is taken; their covariance is 1, with which it is exact for a linear network
NONE = 1e-6  # of the noise, for none: none at all would leave its directions undefined in the data

Answer = Callable[[np.ndarray], np.ndarray]


def balanced(profile) -> np.ndarray:
    """The same noise in every answer, of the power Σ σ_i² of a profile [d]."""
    profile = np.asarray(profile, float)
    return np.full_like(profile, np.sqrt((profile**2).mean()))


def kinds(profile) -> dict[str, np.ndarray]:
    """σ [d] of each kind of noise: imbalanced as in the profile, balanced of the same power, and none to speak of."""
    even = balanced(profile)
    return {"imbalanced": np.asarray(profile, float), "balanced": even, "none": NONE * even}


def identity(x: np.ndarray) -> np.ndarray:
    """The answer x to x, which linear and ReLU networks can learn without error, and tanh networks nearly."""
    return x


def own_kind(d: int, activation: str, *, strength: float = 1.5, seed: int = 0) -> Answer:
    """Answers that a network of this activation can learn without error: s x for a linear or, with h ≥ 2d, a ReLU network.

    For tanh those of a tanh network of d neurons with |u| |w| = s. strength: s.
    """
    if activation != "tanh":
        return lambda x: strength * x
    teacher = teacher_student.teacher(d, d, d, activation, strength=strength, seed=seed).double().requires_grad_(False)
    return lambda x: teacher(torch.as_tensor(x)).numpy()


def learner(
    profile,
    activation: str = "linear",
    *,
    answer: Answer = identity,
    width: int = 12,
    optimiser: str = "sgd",
    n_data: int = N_DATA,
    seed: int = 0,
) -> NetworkOnData:
    """A network of d inputs, h neurons and d outputs that learns answer(x) with noise of standard deviations profile [d].

    activation: "linear" (no biases), "tanh" or "relu" (biases in the first layer); width: h.
    """
    d = len(profile)
    net = teacher_student.student((d, width, d), answer, activation, profile, n_data=n_data, seed=seed)
    return NetworkOnData(net.replicas.module, net.data, "lr", loss="squared", optimiser=optimiser)


def sharpness(net: NetworkOnData, weights: torch.Tensor, activation: str, answer: Answer = identity) -> np.ndarray:
    """λ_max [R] of the Hessian of the loss of noiseless answers at weights [R, P], exact; NaN where they are not finite."""
    x = samples(np.ones(net.data.x.shape[1]), [], n_data=PROBES)[0]
    weights = weights.detach().cpu().double()
    alive = weights.isfinite().all(1)
    full = hessian(activation, *teacher_student.weight_matrices(net, weights[alive]), torch.tensor(x), torch.tensor(answer(x)))
    found = np.full(len(weights), np.nan)
    found[alive.numpy()] = torch.linalg.eigvalsh(full)[:, -1]
    return found


def excess(net: NetworkOnData, weights: torch.Tensor, answer: Answer = identity) -> np.ndarray:
    """Loss [R] of weights [R, P] on noiseless answers."""
    x = samples(np.ones(net.data.x.shape[1]), [], n_data=PROBES)[0]
    outputs = net.replicas.outputs(weights.detach().cpu().double(), torch.tensor(x))
    return (outputs - torch.tensor(answer(x))).square().sum(-1).mean(-1).numpy()


def enough_for(profile, **sizes: int) -> None:
    """Raises ValueError, one line, for a size that is below the number of answers, one for each σ_i of the profile."""
    for name, size in sizes.items():
        if size < len(profile):
            raise ValueError(f"{name}={size} is too small; allowed: {len(profile)} or more, as many as there are answers")
