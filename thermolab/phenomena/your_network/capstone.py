"""What does a network owe its alignment to? Symmetry, noise and regularisation, each knocked out of the same training.

Entropic forces (document 4) say: where noise meets a symmetry it picks one of the many networks of equal loss, the same one for
all seeds. So two seeds should be less alike without the symmetry, without the noise, and without what forgets the start.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
import xarray as xr
from torch import nn

from thermolab.engine.experiment import DivergenceError, Experiment
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, NotNegative, Positive
from thermolab.instruments.scale import copied
from thermolab.phenomena.your_network import networks
from thermolab.phenomena.your_network.measure import SEEN, alike
from thermolab.systems.full_batch import FullBatch
from thermolab.systems.network import NetworkOnData

ARMS = ("as it is", "no symmetry", "no noise", "no regularisation")
NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.modules.batchnorm._NormBase)
RECTIFIERS = (nn.ReLU, nn.LeakyReLU, nn.PReLU)
LAST = 100  # steps, of which U is the mean


def without_symmetry(module: nn.Module) -> nn.Module:
    """A copy with tanh in place of every rectifier and without norms: no weights can be rescaled any more.

    Raises ValueError where there is none of either as a layer: what a forward calls as a function is not seen.
    """
    module = copied(module)
    # not named_children, which gives a layer that stands twice once
    found = [(parent, name, layer) for parent in module.modules() for name, layer in parent._modules.items()]
    changed = [(parent, name, layer) for parent, name, layer in found if isinstance(layer, (*NORMS, *RECTIFIERS))]
    if not changed:
        raise ValueError("no symmetry to knock out: the network has no norm and no rectifier (ReLU, LeakyReLU, PReLU) as a layer")
    for parent, name, layer in changed:
        setattr(parent, name, nn.Tanh() if isinstance(layer, RECTIFIERS) else nn.Identity())
    return module


@recipe("knocking out of {network}", dims=("arm", "seed"))
def knocked_out(
    network: str = "mlp",
    *,
    images: Literal["digits", "synthetic"] = "digits",
    eta: Positive = 0.2,
    lam: NotNegative = 0.01,
    batch_size: Count = 16,
    steps: Count = 2000,
    seeds: Sequence[int],
    device: str = "cpu",
) -> xr.Dataset:
    """The training of `trained.trained` at the working point, and three times with one thing taken away.

    Without symmetry: `without_symmetry`; without noise: every step on all data; without regularisation: λ = 0.
    Returns a Dataset, dims (arm, seed): cka of what the last layer reads, between each seed and the next, and U of the
    last steps. NaN where a run diverged, and in the arm without symmetry where the network has none as a layer.
    """
    made = networks.find(network, images)
    module, learnt, loss = made.system.replicas.module, made.system.data, made.system.replicas.loss_function
    starts, how = made.starts(seeds), {"eta": eta, "lam": lam, "seed": seeds[0] // 1000, "device": device}
    noisy = how | {"batch_size": batch_size}
    arms = {
        "as it is": (made.system, starts, noisy),
        "no noise": (FullBatch(module, learnt, loss=loss), starts, how),
        "no regularisation": (made.system, starts, noisy | {"lam": 0.0}),
    }
    with contextlib.suppress(ValueError):
        smooth = NetworkOnData(without_symmetry(module), learnt, loss=loss)
        curved = networks.Made(lambda: without_symmetry(made.make()), smooth)
        arms["no symmetry"] = smooth, curved.starts(seeds), noisy
    found = {name: _ends(*arms[name], steps) if name in arms else np.full((2, len(seeds)), np.nan) for name in ARMS}
    values = np.array([found[name] for name in ARMS])
    coords = {"arm": list(ARMS), "seed": list(seeds)}
    return xr.Dataset({name: (("arm", "seed"), values[:, i]) for i, name in enumerate(("cka", "U"))}, coords)


def _ends(system, weights: torch.Tensor, how: dict, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """CKA and U [R] after so many steps; NaN where one diverged."""
    run = Experiment(system, weights=weights, **how)
    try:
        run.advance(max(steps - LAST, 0))
        run.frame()
        run.advance(min(steps, LAST))
        energy = run.frame().observables["U"]
    except DivergenceError:
        return np.full((2, len(weights)), np.nan)
    rates = np.full(len(weights), how["eta"])
    return alike(system.replicas, run.state.weights, system.data.x[:SEEN], rates, np.isfinite(energy))[0], energy
