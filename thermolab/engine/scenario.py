"""Experiments with a name: built from plain values, so that a log can name one and be replayed anywhere.

A scenario says how to build an experiment, what a person may turn and read, and what the theory expects there. It
knows nothing of widgets: a live panel, a static figure, `thermolab replay` and a test all drive the same one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral, Real

from thermolab.engine.drivers import frame_steps
from thermolab.engine.experiment import DivergenceError, Experiment, Frame
from thermolab.engine.recipe import Jobs, Recipe
from thermolab.systems.own_rule import OwnRule, RuleError

SCALES = ("log", "linear", "powers of two", "whole", "choice")


@dataclass(frozen=True)
class Knob:
    """What may be turned: its name for people, its range and its scale.

    scale: "log" or "linear" between low and high, "powers of two" and "whole" numbers, or a "choice" of `options`.
    zero: whether 0 is allowed below a logarithmic range. shown: whether a panel offers it. view: it turns the picture and
    not the run, as the angle from which a sphere is seen.
    """

    label: str
    low: float = 0.0
    high: float = 1.0
    scale: str = "log"
    options: tuple[str, ...] = ()
    zero: bool = False
    shown: bool = True
    view: bool = False

    def __post_init__(self):
        if self.scale not in SCALES:
            raise ValueError(f"scale={self.scale!r} is unknown; allowed: {', '.join(SCALES)}")

    @property
    def symbol(self) -> str:
        """The last word of the label."""
        return self.label.split()[-1]

    @property
    def allowed(self) -> str:
        """What is allowed, in words."""
        if self.scale == "choice":
            return "one of " + ", ".join(self.options)
        kind = "a number" if self.scale in ("log", "linear") else "a whole number"
        return f"{'0 or ' * self.zero}{kind} from {self.low:g} to {self.high:g}"

    def check(self, name: str, value):
        """The value, as a float, int or text; raises ValueError, one line, where it is not allowed."""
        if self.scale == "choice":
            fits = isinstance(value, str) and value in self.options
        else:
            kind = Real if self.scale in ("log", "linear") else Integral
            fits = isinstance(value, kind) and not isinstance(value, bool)
            fits = fits and (self.low <= value <= self.high or (self.zero and value == 0))
        if not fits:
            raise ValueError(f"{name}={value!r} is not allowed; allowed: {self.allowed}")
        if self.scale == "choice":
            return value
        return float(value) if self.scale in ("log", "linear") else int(value)


ETA = Knob("learning rate η", 1e-4, 1.0)
LAM = Knob("weight decay λ", 1e-5, 1.0, zero=True)
BATCH_SIZE = Knob("batch size B", 2, 1024, "powers of two")
MOMENTUM = Knob("momentum μ", 0.0, 0.99, "linear")


@dataclass(frozen=True)
class Observable:
    """What may be read: its name for people with its unit, and whether its axis is logarithmic.

    mean: whether its mean over the replicas says something; positions, for one, are only drawn each.
    """

    label: str
    log: bool = False
    mean: bool = True


def _as_it_is(frame: Frame, settings: Mapping) -> Mapping:
    return frame.observables


def _nothing(frame: Frame, settings: Mapping) -> Mapping[str, float]:
    return {}


@dataclass(frozen=True)
class Scenario:
    """An experiment that plain values rebuild.

    name: its entry in the table of scenarios. build(seed=, device=, **settings) -> Experiment.
    settings: {name: Knob}, all that `build` takes; those that are knobs of the experiment can be turned while it runs, so
    can those of the view, which `build` ignores; a change of the others starts a new run. defaults: {name: value} of all.
    observables: {name: Observable}, what can be shown. read(frame, settings) -> {name: [R] array}, those drawn from the
    experiment's, such as r from r2. predict(frame, settings) -> {name: number}, what theory expects at the knobs of the frame.
    without: {symbol: why}, which of η, λ and B there is no knob for, and why. replays: whether a log can name it.
    portable: whether other processes find its functions, which those of a module are; the others are called in this one.
    """

    name: str
    build: Callable[..., Experiment]
    settings: Mapping[str, Knob]
    defaults: Mapping[str, object]
    observables: Mapping[str, Observable]
    read: Callable[[Frame, Mapping], Mapping] = _as_it_is
    predict: Callable[[Frame, Mapping], Mapping[str, float]] = _nothing
    without: Mapping[str, str] = field(default_factory=dict)
    replays: bool = True
    portable: bool = True

    def checked(self, settings: Mapping) -> dict:
        """All settings, defaults filled in. Raises ValueError, one line, for an unknown name or a value not allowed."""
        for name in settings:
            if name not in self.settings:
                raise ValueError(f"{name} is no setting of {self.name}; allowed: {', '.join(self.settings)}")
        return {name: knob.check(name, settings.get(name, self.defaults[name])) for name, knob in self.settings.items()}

    def at(self, values) -> tuple[Scenario, dict]:
        """This scenario at the values of a notebook's checked parameters, of which it takes those that it knows."""
        return self, {name: value for name, value in vars(values).items() if name in self.settings}

    def start(self, *, seed: int = 0, device: str = "cpu", **settings) -> Experiment:
        """A new experiment. Raises ValueError as `checked` does."""
        return self.build(seed=seed, device=device, **self.checked(settings))

    def log(self, run: Experiment, settings: Mapping) -> dict:
        """The log of a run that was started with these settings: what `replay` needs, JSON-ready."""
        last = run.history[-1].observables if run.history else {}
        own = run.log
        return {
            "thermolab": own.pop("thermolab"),
            "recipe": self.name,
            **own,
            "settings": self.checked(settings),
            "gauges": {k: [float(x) if math.isfinite(x) else None for x in v.ravel()] for k, v in last.items()},
        }

    def replay(self, log: Mapping) -> tuple[Experiment, Iterator[Frame]]:
        """The run of a log at its start, and the frames that drive it to the log's last step."""
        run = self.start(seed=log["seed"], device=log["device"], **log["settings"])
        return run, run.drive(log["events"], frame_steps(log["frames"]), log["steps"])


def with_rule(scenario: Scenario, step: Callable) -> Scenario:
    """The same experiment under a rule of one's own, on the same batches: step(w, g, eta, lam) -> the new weights.

    See `systems.own_rule` for what it is given; a schedule takes one more, the number t of the step. No log can name it, so none
    is saved. Starting it raises ValueError where the network does not learn by plain SGD.
    """

    def build(**settings) -> Experiment:
        run = scenario.build(**settings)
        run.system = OwnRule(run.system, step)  # type: ignore[arg-type]  # it says itself what it does not take
        run.system.to(run.device)
        return run

    return replace(scenario, build=build, replays=False, portable=False)


@Recipe
def scripted(
    scenario: Scenario,
    events: Sequence = (),
    *,
    every: int,
    steps: int,
    seed: int = 0,
    device: str = "cpu",
    at_turns: bool = False,
    **settings,
):
    """A scenario driven by a list of events instead of by hand: [[step, {knob: value}], …], the static twin of a panel.

    at_turns: with a frame where a knob is turned too, so that a picture knows to the step where a line jumps. Returns the frames,
    one at every `every` steps and those, and None, or what stopped the run before its end.
    """
    script: list[list] = [[int(step), dict(change)] for step, change in events]
    call = {"scenario": scenario, "events": script, "every": every, "steps": steps, "seed": seed, "device": str(device)}
    call["turns"] = [step for step, _ in script if at_turns and 0 < step < steps]
    (found,) = yield Jobs(_drive, [{**call, "settings": settings}], scenario.name)
    return found


def _drive(*, scenario, events, every, steps, seed, device, turns, settings) -> tuple[list[Frame], str | None]:
    run = scenario.start(seed=seed, device=device, **settings)
    try:
        return list(run.drive(events, sorted({*range(every, steps + 1, every), *turns}), steps)), None
    except (DivergenceError, RuleError) as error:
        return list(run.history), str(error)
