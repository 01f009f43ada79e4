"""Where λ_max of a two-layer linear network settles under noisy answers, against the closed form.

At constant η the layers fluctuate about balance, which adds to λ_max, and the product about V; a final decay of η takes away
the second and leaves of the first what a small η has. Source: document 4, part 4.

FORM, the tolerance, stands here once and does not move with the data: 8 % of the closed form, whose terms of higher order in η
are of some per cent. The closed form has no bound: λ_max of two answers is to follow it from ratio to ratio of noise, where
η makes η λ_max = GENTLE at each, and the louder noise σ is such that η σ²/B = QUIET.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import xarray as xr

from thermolab.claims import Decision, decides, extreme, with_control
from thermolab.engine import rules
from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, NotNegative, Positive
from thermolab.engine.schedules import STAGES, cool
from thermolab.phenomena.progressive_sharpening import theory, two_layers
from thermolab.phenomena.progressive_sharpening.two_layers import Profile

MOST = 5_000_000  # steps, a few minutes
PROFILES = {"equal": (1.0,) * 5, "graded": (1.4, 1.2, 1.0, 0.8, 0.6), "two_loud": (1.5, 1.5, 0.6, 0.6, 0.6)}
FORM = 0.08
RATIOS = (1.5, 3, 6)  # σ_max/σ_min of two answers
GENTLE, QUIET = 0.15, 0.015


@recipe("linear networks that settle", shared=["predicted", "flattest", "steps"])
def settled(
    profile: Profile = PROFILES["graded"],
    *,
    strength: Positive = 1.0,
    width: Count = 12,
    eta: Positive = 0.02,
    lam: NotNegative = 0.0,
    batch_size: Count = 16,
    relaxations: Positive = 8.0,
    decay: Count = 8000,
    copies: Count = 2,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """λ_max of a linear network that has learnt y = s x + ε from random weights, before and after a final decay of η.

    profile: σ_i, standard deviation of the noise of each answer, d of them; strength: s; width: h ≥ d; lam: λ, whose effect
    the closed form does not know; relaxations: length at constant η in relaxation times of the slowest answer
    (`theory.relaxation_steps`); decay: steps of the final decay, in 8 stages, each at 0.6 of the rate before; copies: networks
    of each seed, averaged.

    Returns a Dataset: (seed): lambda_max at the end, at_constant_eta before the decay; numbers: predicted, the closed form;
    flattest, 4s; steps at constant η.
    Raises ValueError for settings that are out of range. Source: document 4, part 4.
    """
    two_layers.enough_for(profile, width=width)
    rules.multiple(STAGES, "stages", decay=decay)
    if lam * eta >= 1:
        raise ValueError(f"lam={lam} is too large; allowed: from 0 to below 1/eta={1 / eta:g}")
    steps = round(relaxations * theory.relaxation_steps(profile, eta, batch_size).max())
    if steps > MOST:
        raise ValueError(
            f"{steps} steps at eta={eta}, batch_size={batch_size} are too many; allowed: {MOST}: raise eta, lower batch_size"
        )
    answer = two_layers.own_kind(len(profile), "linear", strength=strength)
    net = two_layers.learner(profile, "linear", answer=answer, width=width, seed=seed)
    # half the usual length, which is meant for ReLU and at large η would throw some of the networks
    run = Experiment(
        net, eta=eta, lam=lam, batch_size=batch_size, weights=net.start(torch.arange(copies), seed) / 2, seed=seed, device=device
    )
    found = {}
    for name, stage in (("at_constant_eta", lambda: run.advance(steps)), ("lambda_max", lambda: cool(run, decay))):
        stage()
        run.raise_if_diverged()
        found[name] = two_layers.sharpness(net, run.state.weights, "linear", answer).mean()
    return xr.Dataset(found | {"predicted": theory.lambda_max(profile, strength), "flattest": 4 * strength, "steps": steps})


def imbalance(ratio: float, kind: str, batch_size: int = 16) -> dict[str, object]:
    """Settings of `settled` for two answers whose noises have this ratio, or (kind "balanced") have equal noise of that power."""
    eta = GENTLE / theory.lambda_max((ratio, 1.0))
    profile = np.sqrt(QUIET * batch_size / eta) * np.array([1, 1 / ratio])
    return {"profile": tuple(two_layers.kinds(profile)[kind]), "eta": eta, "batch_size": batch_size}


@decides("sharpening.linear", reads=["strength", "width", "relaxations", "decay"])
def lies_on_the_closed_form(profiles: Mapping[str, xr.Dataset]) -> Decision:
    """λ_max over its closed form, less 1, of the profile that is furthest off; control: over 4s."""
    measured, control = (
        extreme(np.stack([d["lambda_max"].values / float(d[form]) - 1 for d in profiles.values()], 1))
        for form in ("predicted", "flattest")
    )
    return with_control(measured, control, FORM, "4s, the value for balanced noise")


@decides("sharpening.unbounded", reads=["strength", "width", "relaxations", "decay"])
def follows_the_unbounded_form(imbalances: Mapping[str, xr.Dataset]) -> Decision:
    """λ_max over its closed form, less 1, of the ratio that is furthest off; control: balanced noise."""
    runs = {kind: [imbalances[f"{kind} {ratio}"] for ratio in RATIOS] for kind in ("imbalanced", "balanced")}
    known = [float(d["predicted"]) for d in runs["imbalanced"]]
    measured, control = (
        extreme(np.stack([d["lambda_max"].values / k - 1 for d, k in zip(runs[kind], known, strict=True)], 1)) for kind in runs
    )
    return with_control(measured, control, FORM, "balanced noise of the same power")
