"""What runs in the live panels of notebook 00: four rules on one landscape, forwards and backwards, and the walker.

The landscape is L = (xy − 1)², the loss of a product of two weights: its minima form a hyperbola, along which the rescaling
x → e^s x, y → e^{−s} y changes nothing. A step of descent does what the flow of F = L + (η/4)|∇L|² does in a time η, up to an
error of order η³, and so it is with a step of ascent on L + (η/2)|∇L|² that undoes it. The flow of L conserves x² − y²; flows
come back to their starts, as long as they have not come so near a minimum that float64 forgets where from: time ends at 2.
Of the walker (`walk`) theory knows how |w| grows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch

from thermolab.engine import scenario
from thermolab.engine.experiment import Experiment, Frame
from thermolab.engine.scenario import Gauge, Knob, Scenario
from thermolab.phenomena.irreversibility import walk
from thermolab.systems import random
from thermolab.systems.kernels import DIVERGED

RULES = ("descent", "descent, undone on F", "flow of L", "flow of F")
WAYS = ("forward", "backward")
LATEST = 2.0  # time at which descents and flows stop
SUBSTEPS = 4  # of Runge-Kutta in a step of a flow
SPREAD = 0.05  # of the starts of the replicas about that of the first


def force(place: torch.Tensor, constant) -> torch.Tensor:
    """∇(L + constant |∇L|²) at places (x, y) [R, 2]; constant [R, 1] or a number.

    >>> force(torch.tensor([[2.0, 1.0]]), 0.0)
    tensor([[2., 4.]])
    """
    off = (place.prod(1) - 1)[:, None]
    square = (place * place).sum(1)[:, None]
    return 2 * off * (1 + 4 * constant * square) * place.flip(1) + 8 * constant * off * off * place


class Landscape:
    """System of (x, y) on L = (xy − 1)² under one of the rules; weights (x, y, time) [R, 3], float64.

    rule: one of `RULES`. Knobs: eta, way ("forward" until the time is 2, or "backward" until it is 0). λ has no effect.
    Raises ValueError for an unknown rule.
    """

    name = "landscape"
    gauges = ()
    has_batches = False
    choices: ClassVar = {"way": WAYS}
    less_noise = "another start"  # what helps against divergence
    n_parameters = 3

    def __init__(self, rule: str = "descent"):
        if rule not in RULES:
            raise ValueError(f"rule={rule!r} is unknown; allowed: {'; '.join(RULES)}")
        self.rule, self.knobs = rule, {"way": "forward"}

    def settings(self) -> dict:
        """Plain values that rebuild this system."""
        return {"rule": self.rule}

    def choose_backend(self, weights: torch.Tensor) -> str:
        """The only one."""
        return "tensor"

    def advance(self, weights: torch.Tensor, first_step: int, n: int, knobs: Mapping, seed: int, streams, radius):
        """n steps, in place. weights [R, 3]; knobs [R]. Returns no gauges, and the step [R] of divergence, -1 where none."""
        eta, back = knobs["eta"].to(weights)[:, None], knobs["way"] == "backward"
        diverged = torch.full((len(weights),), -1, dtype=torch.int64, device=weights.device)
        for i in range(first_step, first_step + n):
            place, time = weights[:, :2], weights[:, 2:]
            span = -torch.minimum(eta, time) if back else torch.where(time + eta < LATEST + 1e-9, eta, 0.0)
            place -= self._step(place, span, eta)
            time += span
            bad = ~((place * place).sum(1) < DIVERGED)
            diverged[bad & (diverged < 0)] = i + 1
        return {}, diverged

    def _step(self, place, span, eta) -> torch.Tensor:
        """What is taken off (x, y) within a time `span`, which is negative on the way back."""
        if self.rule.startswith("descent"):
            undone = self.rule != "descent" and span.max() <= 0
            return span * force(place, eta / 2 if undone else 0.0)
        constant, h, start = (eta / 4 if self.rule == "flow of F" else 0.0), span / SUBSTEPS, place
        for _ in range(SUBSTEPS):
            a = force(place, constant)
            b = force(place - h / 2 * a, constant)
            c = force(place - h / 2 * b, constant)
            d = force(place - h * c, constant)
            place = place - h / 6 * (a + 2 * b + 2 * c + d)
        return start - place


def _landscape(*, seed, device, eta, way, rule, start_x, start_y, replicas) -> Experiment:
    weights = torch.tensor([[start_x, start_y, 0.0]], dtype=torch.float64).repeat(replicas, 1)
    aside = random.normals(seed, torch.arange(1, replicas), 0, 1, 2, torch.float64, purpose=random.START)[0]
    weights[1:, :2] += SPREAD * aside
    read = {"place": lambda system, state, knobs: _places(state.weights, weights.to(state.weights))}
    return Experiment(Landscape(rule), eta=eta, way=way, seed=seed, weights=weights, device=device, gauges=read)


def _places(now: torch.Tensor, start: torch.Tensor) -> dict[str, torch.Tensor]:
    x, y, time = now.T
    missed = torch.linalg.vector_norm(now[:, :2] - start[:, :2], dim=1)
    return {"x": x, "y": y, "U": (x * y - 1) ** 2, "Q": x * x - y * y, "missed": missed, "time": time}


def _conserved(frame: Frame, settings: Mapping) -> dict[str, float]:
    """x² − y² stays as it was along the flow of L; for one start alone, as others have their own."""
    if settings["rule"] != "flow of L" or settings["replicas"] > 1:
        return {}
    return {"Q": settings["start_x"] ** 2 - settings["start_y"] ** 2}


LANDSCAPE = Scenario(
    name="irreversibility.landscape",
    build=_landscape,
    settings={
        "eta": Knob("learning rate η", 1e-4, 0.5),
        "way": Knob("way", scale="choice", options=WAYS),
        "rule": Knob("rule", scale="choice", options=RULES, shown=False),
        "start_x": Knob("start x", -2.5, 2.5, "linear"),
        "start_y": Knob("start y", -2.5, 2.5, "linear"),
        "replicas": Knob("replicas R", 1, 64, "whole", shown=False),
    },
    defaults={"eta": 0.03, "way": "forward", "rule": "descent", "start_x": 1.8, "start_y": -0.6, "replicas": 1},
    gauges={
        "U": Gauge("energy U (loss)", log=True),
        "x": Gauge("weight x"),
        "y": Gauge("weight y"),
        "Q": Gauge("imbalance x² − y²"),
        "missed": Gauge("distance from the start", log=True),
        "time": Gauge("time on the way, Σ ± η"),
    },
    predict=_conserved,
)


def minima(board=None) -> tuple[np.ndarray, np.ndarray]:
    """The branch xy = 1 with x > 0 of the minima of the landscape, to be drawn behind the paths of a panel."""
    x = np.geomspace(0.4, 2.5, 60)
    return x, 1 / x


class _Law:
    """Gauge `law`: |w|⁴ as the law has it at the knobs of the run so far, from its start on."""

    def __init__(self, r4: float):
        self.r4, self.step = r4, 0

    def __call__(self, system, state, knobs) -> dict[str, float]:
        eta, lam, sigma = (float(knobs[k][0]) for k in ("eta", "lam", "sigma"))
        constant = walk.moment(1.0, system.n_parameters, sigma)
        self.r4 = float(walk.law(self.r4, eta, lam, constant, state.step - self.step))
        self.step = state.step
        return {"law": self.r4}


def _walker(*, seed, device, eta, lam, sigma, dim, replicas) -> Experiment:
    read = {"law": _Law(1.0), "place": _directions}
    system = walk.ScaleInvariantWalker(dim)
    return Experiment(system, eta=eta, lam=lam, sigma=sigma, replicas=replicas, seed=seed, device=device, gauges=read)


def _directions(system, state, knobs) -> dict[str, torch.Tensor]:
    return {"x": state.weights[:, 0], "y": state.weights[:, 1], "r": torch.linalg.vector_norm(state.weights, dim=1)}


def _predict(frame: Frame, settings: Mapping) -> dict[str, float]:
    return {"r": float(np.nanmax(frame.gauges["law"]) ** 0.25)}


WALKER = Scenario(
    name="irreversibility.walker",
    build=_walker,
    settings={
        "eta": scenario.ETA,
        "lam": scenario.LAM,
        "sigma": Knob("noise σ", 0.01, 10.0),
        "dim": Knob("dimension d", 2, 64, "whole"),
        "replicas": Knob("replicas R", 1, 1024, "whole", shown=False),
    },
    defaults={"eta": 0.1, "lam": 0.0, "sigma": 0.5, "dim": 2, "replicas": 32},
    gauges={
        "r": Gauge("radius r = |w|", log=True),
        "U": Gauge("energy U (loss)", log=True),
        "x": Gauge("weights along e₁", mean=False),
        "y": Gauge("weights across", mean=False),
    },
    predict=_predict,
)


def circle(board) -> tuple[np.ndarray, np.ndarray]:
    """The circle on which the law has the walkers of a panel's first experiment, to be drawn behind them."""
    turn, readings = np.linspace(0, 2 * np.pi, 61), board.readings[0]
    r = readings[-1].theory["r"] if readings else 1.0
    return r * np.cos(turn), r * np.sin(turn)
