"""One cause of alignment and sharpness: two embedded linear networks see the same noise, which is switched while they learn.

Each has two trainable matrices between frozen ones, its own view of inputs and answers (`systems.embedded_linear`). First
there is no noise, then balanced noise, then imbalanced noise of the same power, then balanced noise again. The minimum of E|g|²
on the orbit fixes both observables: the kernel of the hidden layers, in which no view is left, and λ_max, which depends on the
view. Source: document 4, parts 3 and 4.

HALF, the tolerance, stands here once and does not move with the data: of the way from where a switch finds a network to where
the closed form of the new noise has it, at least half must be covered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
import xarray as xr

from thermolab.claims import Decision, decides, few_seeds, with_control
from thermolab.engine import rules
from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, Positive, integer, several
from thermolab.engine.schedules import STAGES, cool
from thermolab.instruments import alignment, curvature
from thermolab.phenomena.common import linear_theory
from thermolab.phenomena.progressive_sharpening import two_layers
from thermolab.phenomena.progressive_sharpening.two_layers import Profile
from thermolab.systems import embedded_linear as views

ARMS = ("noise", "none")
NOISES = ("balanced", "imbalanced")
PHASES = ("none", "balanced", "imbalanced", "balanced")
NETS = ("A", "B")
STRETCH = (0.75, 1.3)  # of the views, milder than in notebook 05: η λ_max, of whose order the next terms are, stays below 1/2
START = 0.6  # of the usual Gaussian start, whose √2 makes up for a ReLU: a longer one is beyond the edge of stability
HALF = 0.5


@recipe("two networks, noise switched", dims=("arm", "time", "noise", "net", "seed"))
def cause(
    profile: Profile = two_layers.IMBALANCED,
    *,
    d_x: Count = 6,
    widths: Annotated[Sequence[int], several(integer(1), 2, 2)] = (8, 12),
    eta: Positive = 0.02,
    batch_size: Count = 8,
    steps: Count = 12_000,
    decay: Count = 2400,
    quiet: Count = 1000,
    logs: Count = 10,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """Alignment and sharpness of two networks in four phases: no noise, balanced, imbalanced, balanced.

    profile: σ_i, standard deviation of the noise of each answer when it is imbalanced; d_x: inputs, as many as answers or more;
    widths: of the networks A and B, not below the number of answers; steps: of a phase with noise, quiet: of the first one,
    both at constant η, during which both observables are read `logs` times; decay: steps of the decay of η at the end of each
    phase, after which they are read once more. In arm "none" there is never any noise.

    Returns a Dataset: (arm, time, seed): cka of the hidden layers of A and B; (arm, time, noise, net, seed): aligned, the CKA of
    a hidden layer with the kernel of theory for balanced and for imbalanced noise; (arm, time, net, seed): lambda_max, of the
    loss of noiseless answers; (noise, net, seed): predicted, the λ_max of theory. time in steps, with coordinate phase 0 … 3.
    Raises ValueError for settings that are out of range.
    """
    two_layers.enough_for(profile, d_x=d_x, widths=min(widths))
    rules.multiple(logs, "logs", steps=steps, quiet=quiet)
    rules.multiple(STAGES, "stages", decay=decay)
    lengths = [n // logs for n in (quiet, steps, steps, steps)]
    v, sigmas = views.target(np.linspace(1.3, 0.7, len(profile)), d_x, seed=seed), two_layers.kinds(profile)
    x = views.probe(np.ones(d_x), 64, seed=seed).to(device)
    y = x @ torch.tensor(v).to(x).T
    data = {name: views.answers(v, sigma, seed=seed) for name, sigma in sigmas.items()}
    own = [views.view(d_x, len(v), stretch=STRETCH, seed=2 * seed + k) for k in range(len(NETS))]
    nets = [views.network(view, 2, h, data["none"]) for view, h in zip(own, widths, strict=True)]
    first = [linear_theory.optimal_layers(v, np.diag(sigmas[name] ** 2))[0] for name in NOISES]
    kernels = torch.stack([x @ torch.tensor(w.T @ w).to(x) @ x.T for w in first])

    def sharpness(net, weights):
        return float(torch.linalg.eigvalsh(curvature.dense(net, weights, x, y))[-1])

    def look(runs):
        features = [views.hidden(run.system, run.state.weights, x)[0][0] for run in runs]
        sharp = [sharpness(run.system, run.state.weights[0]) for run in runs]
        aligned = [alignment.kernel_cka((h @ h.T)[None], kernels) for h in features]
        return alignment.cka(*features), np.transpose(aligned), sharp

    found = []
    for arm in ARMS:
        weights, rows = [views.start(net, [k], seed, scale=START) for k, net in enumerate(nets)], []
        for number, (name, every) in enumerate(zip(PHASES, lengths, strict=True)):
            runs = []
            for k, (net, w) in enumerate(zip(nets, weights, strict=True)):
                net.use(data[name if arm == "noise" else "none"])
                chance = {"streams": [k], "seed": seed + 2**32 * number, "device": device}
                runs.append(Experiment(net, eta=eta, batch_size=batch_size, weights=w, **chance))
            for k in range(logs + 1):
                for run in runs:
                    run.advance(every) if k < logs else cool(run, decay)
                    run.raise_if_diverged()
                rows.append(look(runs))
            weights = [run.state.weights for run in runs]
        found.append([np.array(column) for column in zip(*rows, strict=True)])
    dims = {"cka": ("arm", "time"), "aligned": ("arm", "time", "noise", "net"), "lambda_max": ("arm", "time", "net")}
    values = {k: (dims[k], np.stack(v)) for k, v in zip(dims, zip(*found, strict=True), strict=True)}
    predicted = [[sharpness(net, settled(net, v, sigmas[k]).to(device)) for net in nets] for k in NOISES]
    return xr.Dataset(
        values | {"predicted": (("noise", "net"), predicted)},
        coords={
            "arm": list(ARMS),
            "noise": list(NOISES),
            "net": list(NETS),
            "time": np.cumsum([n for every in lengths for n in (*[every] * logs, decay)]),
            "phase": ("time", np.repeat(range(4), logs + 1)),
        },
    )


def settled(net, v: np.ndarray, sigma: np.ndarray) -> torch.Tensor:
    """Weights [P] of an embedded network of two layers at the least E|g|² that answers V x, with noises σ_i."""
    module = net.replicas.module
    c, m = (layer.weight.detach().cpu().double().numpy() for layer in (module[0], module[-1]))
    inner = np.linalg.solve(m, v) @ np.linalg.inv(c)
    layers = linear_theory.optimal_layers(inner, m.T @ np.diag(sigma**2) @ m, c @ c.T, module[1].out_features)
    return torch.tensor(np.concatenate([w.ravel() for w in layers]))


def covered(data: xr.Dataset, arm: str) -> np.ndarray:
    """Share of the way to the closed form that is covered after each switch of the profile, [switch and observable, seed].

    The distances are 1 - CKA with the kernel of the new noise, and how far log λ_max is off that of the new noise, at the ends
    of phases; means over both networks.
    """
    data, shares = data.sel(arm=arm), []
    ends = [data.isel(time=data["phase"].values == k).isel(time=-1) for k in range(len(PHASES))]
    for before, after, noise in zip(ends[1:], ends[2:], PHASES[2:], strict=False):
        new = [end.assign(predicted=data["predicted"]).sel(noise=noise) for end in (before, after)]
        kernel = [1 - end["aligned"].mean("net") for end in new]
        sharp = [abs(np.log(end["lambda_max"] / end["predicted"])).mean("net") for end in new]
        shares += [(1 - b / a).values for a, b in (kernel, sharp)]
    return np.array(shares)


@decides("sharpening.common-cause", reads=["profile", "d_x", "widths", "steps", "quiet"])
def answers_to_one_cause(pair: xr.Dataset) -> Decision:
    """Share of the way to the new closed form, of all switches and both observables the least; control: without noise."""
    measured, control = (min(map(few_seeds, covered(pair, arm))) for arm in ("noise", "none"))
    return with_control(measured, control, 0.0, "the same run without noise", HALF, "above")
