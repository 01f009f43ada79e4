"""What runs in the live panels of notebook 00: four rules on one landscape, forwards and backwards, the walker, and the cloud.

Of the landscape L = (xy − 1)² (`systems.hyperbola`) theory knows what the flow of L conserves, of the scale-invariant walker
(`systems.walker`) how |w| grows (`walk.law`), of the cloud in a bowl (`systems.bowl`) its shape and how fast it turns.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from thermolab.engine import scenario
from thermolab.engine.experiment import Experiment, Frame
from thermolab.engine.scenario import Knob, Observable, Scenario
from thermolab.phenomena.irreversibility import walk
from thermolab.systems import bowl, random
from thermolab.systems.hyperbola import RULES, WAYS, Hyperbola
from thermolab.systems.walker import ScaleInvariantWalker, moment

SPREAD = 0.05  # of the starts of the replicas about that of the first


def _landscape(*, seed, device, eta, way, rule, start_x, start_y, replicas) -> Experiment:
    weights = torch.tensor([[start_x, start_y, 0.0]], dtype=torch.float64).repeat(replicas, 1)
    aside = random.normals(seed, torch.arange(1, replicas), 0, 1, 2, torch.float64, purpose=random.START)[0]
    weights[1:, :2] += SPREAD * aside
    read = {"place": lambda system, state, knobs: _places(state.weights, weights.to(state.weights))}
    return Experiment(Hyperbola(rule), eta=eta, way=way, seed=seed, weights=weights, device=device, observables=read)


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
    observables={
        "U": Observable("energy U (loss)", log=True),
        "x": Observable("weight x"),
        "y": Observable("weight y"),
        "Q": Observable("imbalance x² − y²"),
        "missed": Observable("distance from the start", log=True),
        "time": Observable("time on the way, Σ ± η"),
    },
    predict=_conserved,
    without={
        "B": "each step uses the whole loss, there are no data to draw from",
        "λ": "decay would leave two points of the valley of minima",
    },
)


def minima(board=None) -> tuple[np.ndarray, np.ndarray]:
    """The branch xy = 1 with x > 0 of the minima of the landscape, to be drawn behind the paths of a panel."""
    x = np.geomspace(0.4, 2.5, 60)
    return x, 1 / x


class _Law:
    """Observable `law`: |w|⁴ as the law has it at the knobs of the run so far, from its start on."""

    def __init__(self, r4: float):
        self.r4, self.step = r4, 0

    def __call__(self, system, state, knobs) -> dict[str, float]:
        eta, lam, sigma = (float(knobs[k][0]) for k in ("eta", "lam", "sigma"))
        constant = moment(1.0, system.n_parameters, sigma)
        self.r4 = float(walk.law(self.r4, eta, lam, constant, state.step - self.step))
        self.step = state.step
        return {"law": self.r4}


def _walker(*, seed, device, eta, lam, sigma, dim, replicas) -> Experiment:
    read = {"law": _Law(1.0), "place": _directions}
    system = ScaleInvariantWalker(dim)
    return Experiment(system, eta=eta, lam=lam, sigma=sigma, replicas=replicas, seed=seed, device=device, observables=read)


def _directions(system, state, knobs) -> dict[str, torch.Tensor]:
    return {"x": state.weights[:, 0], "y": state.weights[:, 1], "r": torch.linalg.vector_norm(state.weights, dim=1)}


def _predict(frame: Frame, settings: Mapping) -> dict[str, float]:
    return {"r": float(np.nanmax(frame.observables["law"]) ** 0.25)}


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
    observables={
        "r": Observable("radius r = |w|", log=True),
        "U": Observable("energy U (loss)", log=True),
        "x": Observable("weights along e₁", mean=False),
        "y": Observable("weights across", mean=False),
    },
    predict=_predict,
    without={"B": "each step learns from one fresh sample, so B is 1; the noise is turned by σ"},
)


def circle(board) -> tuple[np.ndarray, np.ndarray]:
    """The circle on which the law has the walkers of a panel's first experiment, to be drawn behind them."""
    turn, readings = np.linspace(0, 2 * np.pi, 61), board.readings[0]
    r = readings[-1].theory["r"] if readings else 1.0
    return r * np.cos(turn), r * np.sin(turn)


class _Turns:
    """Observables of the cloud: places, turns, the turns that are expected at the knobs of the run so far, and a hand that goes
    round with the mean of the turns."""

    def __init__(self):
        self.expected, self.step = 0.0, 0

    def __call__(self, system, state, knobs) -> dict[str, torch.Tensor | float]:
        values = (float(knobs[k][0]) for k in ("eta", "lam", "sigma", "angle"))
        self.expected += (state.step - self.step) * expected_turn(*values)
        self.step = state.step
        x, y, turns = state.weights.T
        hand = 2 * np.pi * turns.mean()
        return {"x": x, "y": y, "turns": turns, "expected": self.expected, "hand_x": hand.cos(), "hand_y": hand.sin()}


def expected_turn(eta: float, lam: float, sigma: float, angle: float) -> float:
    """Part of a turn that the cloud makes in a step at rest, K₂₁/(4π √det Σ); angle of the noise in degrees."""
    s11, s12, s22 = _covariance(eta, lam, sigma, angle)
    return eta * (bowl.HESSIAN[0] - bowl.HESSIAN[1]) * s12 / (4 * np.pi * np.sqrt(s11 * s22 - s12**2))


def _covariance(*knobs: float) -> tuple[float, ...]:
    """Σ_11, Σ_12, Σ_22 at rest, at the knobs (eta, lam, sigma, angle)."""
    return tuple(map(float, bowl.covariance(*(torch.tensor(v, dtype=torch.float64) for v in knobs))))


def _cloud(*, seed, device, eta, lam, sigma, angle, replicas) -> Experiment:
    s11, s12, s22 = _covariance(eta, lam, sigma, angle)
    z = random.normals(seed, torch.arange(replicas), 0, 1, 2, torch.float64, purpose=random.START)[0]
    root = np.linalg.cholesky([[s11, s12], [s12, s22]])  # a start at rest
    weights = torch.nn.functional.pad(z @ torch.from_numpy(root).T, (0, 1))
    knobs = {"eta": eta, "lam": lam, "sigma": sigma, "angle": angle}
    return Experiment(bowl.Bowl(), **knobs, seed=seed, weights=weights, device=device, observables={"turns": _Turns()})


def _at_rest(frame: Frame, settings: Mapping) -> dict[str, float]:
    """Energy at rest and turns. As a read value the expected ones are the same for every replica."""
    s11, _, s22 = _covariance(*(frame.knob(k) for k in ("eta", "lam", "sigma", "angle")))
    h, k = bowl.HESSIAN
    return {"U": (h * s11 + k * s22) / 2, "turns": float(np.nanmax(frame.observables["expected"]))}


CLOUD = Scenario(
    name="irreversibility.cloud",
    build=_cloud,
    settings={
        "eta": scenario.ETA,
        "lam": scenario.LAM,
        "sigma": Knob("noise σ", 0.01, 10.0),
        "angle": Knob("degrees of the noise φ", 0.0, 180.0, "linear"),
        "replicas": Knob("replicas R", 1, 1024, "whole", shown=False),
    },
    defaults={"eta": 0.1, "lam": 0.0, "sigma": 1.0, "angle": 45.0, "replicas": 200},
    observables={
        "turns": Observable("turns about the minimum"),
        "U": Observable("energy U (loss)", log=True),
        "x": Observable("weight w₁", mean=False),
        "y": Observable("weight w₂", mean=False),
        "hand_x": Observable("hand, w₁"),
        "hand_y": Observable("hand, w₂"),
    },
    predict=_at_rest,
    without={"B": "the noise is drawn, not made by data; a batch B times as large would be a σ smaller by √B"},
)


def ellipse(board) -> tuple[np.ndarray, np.ndarray]:
    """Two standard deviations of the cloud at rest, at the knobs of a panel's first experiment, to be drawn behind its places."""
    arm, readings = board.arms[0], board.readings[0]
    knobs = readings[-1].knobs if readings else arm.settings
    s11, s12, s22 = _covariance(*(float(knobs[k]) for k in ("eta", "lam", "sigma", "angle")))
    turn = np.linspace(0, 2 * np.pi, 61)
    return tuple(2 * np.linalg.cholesky([[s11, s12], [s12, s22]]) @ [np.cos(turn), np.sin(turn)])


def clock(board) -> tuple[np.ndarray, np.ndarray]:
    """The circle on which the hand goes round."""
    turn = np.linspace(0, 2 * np.pi, 61)
    return np.cos(turn), np.sin(turn)
