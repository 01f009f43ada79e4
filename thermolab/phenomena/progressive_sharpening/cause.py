"""One cause of alignment and sharpness: two embedded linear networks see the same noise, which is switched while they learn.

Each has two trainable matrices between frozen ones, its own view of inputs and answers (`platonic_alignment.setting`). First
there is no noise, then balanced noise, then imbalanced noise of the same power, then balanced noise again. The minimum of E|g|²
on the orbit fixes both gauges: the kernel of the hidden layers, in which no view is left, and λ_max, which depends on the view.
Source: document 4, parts 3 and 4.
"""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr

from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import Jobs, Recipe, seeds
from thermolab.engine.schedules import STAGES, cool
from thermolab.instruments import alignment, curvature
from thermolab.phenomena.common import linear_theory, validate
from thermolab.phenomena.progressive_sharpening import setting
from thermolab.systems import embedded_linear as views

ARMS = ("noise", "none")
NOISES = ("balanced", "imbalanced")
PHASES = ("none", "balanced", "imbalanced", "balanced")
NETS = ("A", "B")
STRETCH = (0.75, 1.3)  # of the views, milder than in notebook 05: η λ_max, of whose order the next terms are, stays below 1/2
START = 0.6  # of the usual Gaussian start, whose √2 makes up for a ReLU: a longer one is beyond the edge of stability


@Recipe
def cause(
    profile=setting.IMBALANCED,
    *,
    d_x: int = 6,
    widths=(8, 12),
    eta: float = 0.02,
    batch_size: int = 8,
    steps: int = 12_000,
    decay: int = 2400,
    quiet: int = 1000,
    logs: int = 10,
    seed: int = 0,
    n_seeds: int = 5,
    device: str = "cpu",
):
    """Alignment and sharpness of two networks in four phases: no noise, balanced, imbalanced, balanced.

    profile: σ_i, standard deviation of the noise of each answer when it is imbalanced; d_x: inputs, as many as answers or more;
    widths: of the networks A and B, not below the number of answers; steps: of a phase with noise, quiet: of the first one,
    both at constant η, during which gauges are read `logs` times; decay: steps of the decay of η at the end of each phase, after
    which they are read once more. In arm "none" there is never any noise.

    Returns a Dataset: (arm, time, seed): cka of the hidden layers of A and B; (arm, time, noise, net, seed): aligned, the CKA of
    a hidden layer with the kernel of theory for balanced and for imbalanced noise; (arm, time, net, seed): lambda_max, of the
    loss of noiseless answers; (noise, net, seed): predicted, the λ_max of theory. time in steps, with coordinate phase 0 … 3.
    Raises ValueError for settings that are out of range.
    """
    profile, widths = setting.check(profile, min(widths)), tuple(widths)
    validate.counts(d_x=d_x, steps=steps, quiet=quiet, decay=decay, logs=logs, batch_size=batch_size, n_seeds=n_seeds)
    validate.positive(eta=eta)
    validate.multiples(logs, "logs", steps=steps, quiet=quiet)
    validate.multiples(STAGES, "stages", decay=decay)
    if len(widths) != 2 or d_x < len(profile):
        raise ValueError(f"widths={widths}, d_x={d_x} are not allowed; allowed: two widths, and {len(profile)} inputs or more")
    common = {"profile": profile, "d_x": d_x, "widths": widths, "eta": eta, "batch_size": batch_size, "logs": logs,
              "lengths": [n // logs for n in (quiet, steps, steps, steps)], "decay": decay,
              "device": str(device)}  # fmt: skip
    numbers = seeds(seed, n_seeds)
    parts = yield Jobs(_cause, [common | {"seed": s} for s in numbers], "two networks, noise switched")
    dims = {"cka": ("arm", "time"), "aligned": ("arm", "time", "noise", "net"), "lambda_max": ("arm", "time", "net"),
            "predicted": ("noise", "net")}  # fmt: skip
    values = {k: ((*d, "seed"), np.stack([p[k] for p in parts], -1)) for k, d in dims.items()}
    coords = {"arm": list(ARMS), "noise": list(NOISES), "net": list(NETS), "seed": numbers,
              "time": np.cumsum([n for every in common["lengths"] for n in (*[every] * logs, decay)]),
              "phase": ("time", np.repeat(range(4), logs + 1))}  # fmt: skip
    return xr.Dataset(values, coords=coords)


def _cause(*, profile, d_x, widths, eta, batch_size, lengths, decay, logs, seed, device) -> dict[str, np.ndarray]:
    v, even = views.target(np.linspace(1.3, 0.7, len(profile)), d_x, seed=seed), setting.balanced(profile)
    x = views.probe(np.ones(d_x), 64, seed=seed).to(device)
    y = x @ torch.tensor(v).to(x).T
    sigmas = {"balanced": even, "imbalanced": profile, "none": setting.NONE * even}
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
                net.data = data[name if arm == "noise" else "none"]
                chance = {"streams": [k], "seed": seed + 2**32 * number, "device": device}
                runs.append(Experiment(net, eta=eta, batch_size=batch_size, weights=w, **chance))
            for k in range(logs + 1):
                for run in runs:
                    run.advance(every) if k < logs else cool(run, decay)
                    run.frame()  # tells of divergence
                rows.append(look(runs))
            weights = [run.state.weights for run in runs]
        found.append([np.array(column) for column in zip(*rows, strict=True)])
    values = {k: np.stack(v) for k, v in zip(("cka", "aligned", "lambda_max"), zip(*found, strict=True), strict=True)}
    return values | {"predicted": np.array([[sharpness(n, settled(n, v, sigmas[k]).to(device)) for n in nets] for k in NOISES])}


def settled(net, v: np.ndarray, sigma: np.ndarray) -> torch.Tensor:
    """Weights [P] of an embedded network of two layers at the least E|g|² that answers V x, with noises σ_i."""
    module = net.replicas.module
    c, m = (layer.weight.detach().cpu().double().numpy() for layer in (module[0], module[-1]))
    inner = np.linalg.solve(m, v) @ np.linalg.inv(c)
    layers = linear_theory.optimal_layers(inner, m.T @ np.diag(sigma**2) @ m, c @ c.T, module[1].out_features)
    return torch.tensor(np.concatenate([w.ravel() for w in layers]))
