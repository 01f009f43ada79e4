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
from thermolab.systems import kernels, random
from thermolab.systems.system import Base


class Parabola(Base):
    name, n_parameters, observables, knobs = "parabola", 1, ("w2",), {"sigma": 1.0}  # sigma: the noise of a gradient

    def settings(self):
        return {}

    def start(self, streams, seed):
        return random.normals(seed, streams, 0, 1, 1, purpose=random.START)[0]  # else the noise of step 0

    def advance(self, weights, first_step, n, knobs, seed, streams, radius, memory=()):
        eta, lam, sigma = (knobs[name][:, None].to(weights) for name in ("eta", "lam", "sigma"))
        squares, diverged = torch.zeros_like(weights[:, 0], dtype=torch.float64), torch.full_like(streams, -1)
        for i, noise in enumerate(random.normals(seed, streams, first_step, n, 1)):
            squares += weights[:, 0].double() ** 2
            weights -= eta * (weights + sigma * noise + lam * weights)
            diverged[~(weights[:, 0] ** 2 < kernels.DIVERGED) & (diverged < 0)] = first_step + i + 1
        return {"w2": squares / n}, diverged


def at_rest(eta, sigma=1.0, lam=0.0, *, order=1):
    return eta * sigma**2 / ((1 + lam) * (2 - order * eta * (1 + lam)))  # order 0 in η: the continuous process


@recipe("parabolas", shared=["exact", "continuous"])
def variance(rates: Positives = (0.1, 0.5, 1.5), *, sigma: Positive = 1.0, steps: Count = 2000, seed: int = 0, device="cpu"):
    """(eta, seed): w2, E w² over steps and 100 replicas; (eta): exact and continuous, what theory has for it."""
    run, eta = Experiment(Parabola(), eta=np.repeat(rates, 100), sigma=sigma, seed=seed, device=device), np.array(rates)
    _, frame = run.frames(steps, until=2 * steps)  # the first steps go by on the way to rest
    known = {"exact": ("eta", at_rest(eta, sigma)), "continuous": ("eta", at_rest(eta, sigma, order=0))}
    return xr.Dataset({"w2": ("eta", frame.observables["w2"].reshape(-1, 100).mean(1)), **known}, coords={"eta": eta})


CLAIM = Claim("parabola.variance", "example", "E w² = ησ²/(k(2 - ηk)) at rest", "arXiv:1704.04289", "holds", "continuous form")


def decide(variance: xr.Dataset) -> Decision:  # of a claim in the register: @decides(its id, reads=["rates", "sigma"])
    off, control = (extreme((variance["w2"] / variance[k] - 1).transpose("seed", "eta")) for k in ("exact", "continuous"))
    return with_control(off, control, 0.02, CLAIM.control)


def figure(variance: xr.Dataset):
    lines = {form: (variance["eta"], variance[form]) for form in ("exact", "continuous")}
    return plots.panel(None, {"measured": (variance["eta"], variance["w2"])}, lines, x="learning rate η", y="E w² at rest")


def build(*, replicas, **settings) -> Experiment:
    return Experiment(Parabola(), replicas=replicas, **settings)


def predict(frame, settings):
    return {"w2": at_rest(*(frame.knob(name) for name in ("eta", "sigma", "lam")))}


KNOBS = {"eta": ETA, "lam": LAM, "sigma": Knob("noise σ", 0.1, 9.0), "replicas": Knob("replicas R", 1, 999, "whole")}
START = {"eta": 0.5, "lam": 0.0, "sigma": 1.0, "replicas": 100}
# in a notebook: await panel({"parabola": (LIVE, {})}, [Lines("w2")], setup, alt="…")
LIVE = Scenario("parabola.live", build, KNOBS, START, {"w2": Observable("E w²", log=True)}, predict=predict)

if __name__ == "__main__":
    print(Result(CLAIM, *decide(variance.run())).as_dict())
