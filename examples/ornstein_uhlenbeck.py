"""SGD in a parabola, whole and short, to copy from: system, theory, recipe, claim with control, figure and panel.

Of L = w²/2, with gradients w + σξ, ξ ~ N(0, 1), a step w <- w - η(w + σξ + λw) keeps at rest, exactly at every η,
E w² = ησ²/(k(2 - ηk)), k = 1 + λ; the continuous Ornstein-Uhlenbeck process has ησ²/(2k). Source: arXiv:1704.04289, sec. 3.
"""

import numpy as np
import torch
import xarray as xr

from thermolab import plots
from thermolab.claims import Claim, Decision, Result, extreme, with_control
from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, Positive, Positives
from thermolab.engine.scenario import ETA, LAM, Knob, Observable, Scenario
from thermolab.systems import random
from thermolab.systems.system import Base


class Parabola(Base):
    """One weight, 0 at the start; knob sigma: the noise of a gradient."""

    name, n_parameters, observables, knobs = "parabola", 1, ("w2",), {"sigma": 1.0}

    def settings(self):
        return {}

    def start(self, streams, seed):
        return torch.zeros(len(streams), 1)

    def advance(self, weights, first_step, n, knobs, seed, streams, radius, memory=()):
        eta, lam, sigma = (knobs[name][:, None].to(weights) for name in ("eta", "lam", "sigma"))
        squares, diverged = torch.zeros(len(weights), dtype=torch.float64), torch.full((len(weights),), -1)
        for i, noise in enumerate(random.normals(seed, streams, first_step, n, 1)):
            squares += weights[:, 0].double() ** 2
            weights -= eta * (weights + sigma * noise + lam * weights)
            diverged[~(weights[:, 0].abs() < 1e12) & (diverged < 0)] = first_step + i + 1
        return {"w2": squares / n}, diverged


def at_rest(eta, sigma=1.0, lam=0.0, *, order=1):
    """E w²; order 0 in η: of the continuous process."""
    return eta * sigma**2 / ((1 + lam) * (2 - order * eta * (1 + lam)))


@recipe("parabolas", shared=["exact", "continuous"])
def variance(rates: Positives = (0.1, 0.5, 1.5), *, sigma: Positive = 1.0, steps: Count = 2000, replicas: Count = 99, seed=0):
    """(eta, seed): w2, E w² over steps and replicas; (eta): exact and continuous, what theory has for it."""
    run, eta = Experiment(Parabola(), eta=np.repeat(rates, replicas), sigma=sigma, seed=seed), np.array(rates)
    _, frame = run.frames(steps, until=2 * steps)  # the first steps go by on the way to rest
    w2 = frame.observables["w2"].reshape(len(rates), replicas).mean(1)
    known = {"exact": ("eta", at_rest(eta, sigma)), "continuous": ("eta", at_rest(eta, sigma, order=0))}
    return xr.Dataset({"w2": ("eta", w2), **known}, coords={"eta": eta})


CLAIM = Claim("parabola.variance", "example", "E w² = ησ²/(k(2 - ηk)) at rest", "arXiv:1704.04289", "holds", "continuous form")


def decide(data: xr.Dataset) -> Decision:  # of a claim in the register: @decides("parabola.variance", reads=["rates", "sigma"])
    off, control = (extreme((data["w2"] / data[form] - 1).transpose("seed", "eta")) for form in ("exact", "continuous"))
    return with_control(off, control, 0.02, CLAIM.control)


def figure(data: xr.Dataset):
    lines = {form: (data["eta"], data[form]) for form in ("exact", "continuous")}
    return plots.panel(None, {"measured": (data["eta"], data["w2"])}, lines, x="learning rate η", y="E w² at rest")


LIVE = Scenario(  # in a notebook: await panel({"parabola": (LIVE, {})}, [Lines("w2")], setup)
    name="parabola.live",
    build=lambda *, replicas, **settings: Experiment(Parabola(), replicas=replicas, **settings),
    settings={"eta": ETA, "lam": LAM, "sigma": Knob("noise σ", 0.1, 9.0), "replicas": Knob("R", 1, 999, "whole")},
    defaults={"eta": 0.5, "lam": 0.0, "sigma": 1.0, "replicas": 100},
    observables={"w2": Observable("E w²", log=True)},
    predict=lambda frame, settings: {"w2": at_rest(*(frame.knob(name) for name in ("eta", "sigma", "lam")))},
)  # fmt: skip

if __name__ == "__main__":
    print(Result(CLAIM, *decide(variance.run())).as_dict())
