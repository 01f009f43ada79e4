"""Where λ_max of a two-layer linear network settles under noisy answers, against the closed form.

At constant η the layers fluctuate about balance, which adds to λ_max, and the product about V; a final decay of η takes away
the second and leaves of the first what a small η has. Source: document 4, part 4.
"""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr

from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import Jobs, Recipe, seeds
from thermolab.engine.schedules import STAGES, cool
from thermolab.phenomena.common import validate
from thermolab.phenomena.progressive_sharpening import setting, theory

MOST = 5_000_000  # steps, a few minutes
PROFILES = ((1.0,) * 5, (1.4, 1.2, 1.0, 0.8, 0.6), (1.5, 1.5, 0.6, 0.6, 0.6))


@Recipe
def settled(
    profile=PROFILES[1],
    *,
    strength: float = 1.0,
    width: int = 12,
    eta: float = 0.02,
    lam: float = 0.0,
    batch_size: int = 16,
    relaxations: float = 8.0,
    decay: int = 8000,
    copies: int = 2,
    seed: int = 0,
    n_seeds: int = 5,
    device: str = "cpu",
):
    """λ_max of a linear network that has learnt y = s x + ε from random weights, before and after a final decay of η.

    profile: σ_i, standard deviation of the noise of each answer, d of them; strength: s; width: h ≥ d; lam: λ, whose effect
    the closed form does not know; relaxations: length at
    constant η in relaxation times of the slowest answer (`theory.relaxation_steps`); decay: steps of the final decay, in 8
    stages, each at 0.6 of the rate before; copies: networks of each seed, averaged.

    Returns a Dataset: (seed): lambda_max at the end, at_constant_eta before the decay; numbers: predicted, the closed form;
    flattest, 4s; steps at constant η.
    Raises ValueError for settings that are out of range. Source: document 4, part 4.
    """
    profile = setting.check(profile, width)
    validate.counts(width=width, batch_size=batch_size, decay=decay, copies=copies, n_seeds=n_seeds)
    validate.positive(eta=eta, strength=strength, relaxations=relaxations)
    validate.multiples(STAGES, "stages", decay=decay)
    if not 0 <= lam * eta < 1:
        raise ValueError(f"lam={lam} is not allowed; allowed: from 0 to below 1/eta")
    steps = round(relaxations * theory.relaxation_steps(profile, eta, batch_size).max())
    if steps > MOST:
        raise ValueError(
            f"{steps} steps at eta={eta}, batch_size={batch_size} are too many; allowed: {MOST}: raise eta, lower batch_size"
        )
    common = {"profile": profile, "strength": strength, "width": width, "eta": eta, "lam": lam, "batch_size": batch_size,
              "steps": steps, "decay": decay, "copies": copies, "device": str(device)}  # fmt: skip
    numbers = seeds(seed, n_seeds)
    parts = yield Jobs(_settled, [common | {"seed": s} for s in numbers], "linear networks that settle")
    found = {name: ("seed", [float(np.mean(p[k])) for p in parts]) for k, name in enumerate(("at_constant_eta", "lambda_max"))}
    found |= {"predicted": theory.lambda_max(profile, strength), "flattest": 4 * strength, "steps": steps}
    return xr.Dataset(found, coords={"seed": numbers})


def _settled(*, profile, strength, width, eta, lam, batch_size, steps, decay, copies, seed, device) -> list[np.ndarray]:
    """λ_max [copies] before and after the decay."""
    answer = setting.own_kind(len(profile), "linear", strength=strength)
    net = setting.learner(profile, "linear", answer=answer, width=width, seed=seed)
    # half the usual length, which is meant for ReLU and at large η would throw some of the networks
    run = Experiment(
        net, eta=eta, lam=lam, batch_size=batch_size, weights=net.start(torch.arange(copies), seed) / 2, seed=seed, device=device
    )
    found = []
    for stage in (lambda: run.advance(steps), lambda: cool(run, decay)):
        stage()
        run.frame()  # tells of divergence
        found.append(setting.sharpness(net, run.state.weights, "linear", answer))
    return found


def by_profile(profiles=PROFILES, **settings) -> dict:
    """`settled` for each profile of the noise, to be awaited `together`."""
    return {tuple(p): settled(p, **settings) for p in profiles}
