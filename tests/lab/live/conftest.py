"""A system that only counts and takes its time, small arms of the ideal gas, and a listener whose news can be awaited."""

import asyncio
import contextlib
import inspect
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from thermolab.engine.experiment import Experiment
from thermolab.engine.scenario import Knob, Observable, Scenario
from thermolab.lab.live.board import Arm
from thermolab.lab.live.driver import Listener
from thermolab.phenomena.ideal_gas.live import ISOTROPIC
from thermolab.systems.system import Base

PATIENCE = 10.0  # seconds that anything may take on a busy machine


class Clock(Base):
    """Weights add up η; observable U is the mean step. slices: [(first step, n)]; hook(first step, n) is called in each."""

    name, observables, n_parameters = "clock", ("U",), 2

    def __init__(self, seconds=0.0, hook=lambda first, n: None):
        self.seconds, self.hook, self.knobs, self.slices = seconds, hook, {}, []

    def settings(self):
        return {}

    def start(self, streams, seed):
        return torch.full((len(streams), 2), float(seed + 1))

    def choose_backend(self, weights):
        return "clock"

    def advance(self, weights, first_step, n, knobs, seed, streams, radius, memory=()):
        self.slices.append((first_step, n))
        time.sleep(n * self.seconds)
        self.hook(first_step, n)
        weights += n * knobs["eta"][:, None].to(weights.dtype)
        steps = torch.arange(first_step, first_step + n, dtype=torch.float64)
        return {"U": steps.mean().expand(len(weights))}, torch.full((len(weights),), -1)


def clock(seconds=0.0, hook=lambda first, n: None, **more):
    """A scenario of clocks. width: a setting that is no knob."""

    def build(*, seed, device, eta, lam, width):
        return Experiment(Clock(seconds, hook), eta=eta, lam=lam, seed=seed, replicas=width, device=device)

    settings = {"eta": Knob("learning rate η", 1e-3, 10.0), "lam": Knob("weight decay λ", 1e-3, 1.0, zero=True)}
    settings["width"] = Knob("width W", 1, 64, "whole")
    defaults = {"eta": 0.5, "lam": 0.1, "width": 2}
    return Scenario("clock", build, settings, defaults, **{"observables": {"U": Observable("energy U")}} | more)


def arm(scenario=None, label="clock", **settings):
    """An arm of a panel."""
    scenario = scenario or clock()
    return Arm(label, scenario, scenario.checked(settings))


def gas(label="gas", **settings):
    """An arm of eight replicas of the isotropic gas."""
    return arm(ISOTROPIC, label, **{"replicas": 8} | settings)


class News(Listener):
    """What a driver tells, in order, passed on to `other` first."""

    def __init__(self, other=None):
        self.other, self.heard, self._waiting = other or Listener(), [], []

    def _note(self, kind, *what):
        self.heard.append((kind, *what))
        for event in self._waiting:
            event.set()

    def framed(self, frames):
        self.other.framed(frames)
        self._note("framed", frames)

    def turned(self, knobs, step):
        self.other.turned(knobs, step)
        self._note("turned", knobs, step)

    def started(self):
        self.other.started()
        self._note("started")

    def changed(self, state):
        self.other.changed(state)
        self._note("changed", state)

    def failed(self, error):
        self.other.failed(error)
        self._note("failed", error)

    def placed(self, knobs):
        self.other.placed(knobs)
        self._note("placed", knobs)

    def kept(self):
        self.other.kept()
        self._note("kept")

    def returned(self, number, frames):
        self.other.returned(number, frames)
        self._note("returned", number)

    def of(self, kind):
        """All news of a kind."""
        return [what[0] if len(what) == 1 else what for k, *what in self.heard if k == kind]

    def count(self, kind):
        """How many news of a kind there are."""
        return sum(k == kind for k, *_ in self.heard)

    async def until(self, condition, seconds=PATIENCE):
        """Wait for news after which the condition holds."""
        event = asyncio.Event()
        self._waiting.append(event)
        async with asyncio.timeout(seconds):
            while not condition():
                event.clear()
                await event.wait()
        self._waiting.remove(event)

    async def next(self, kind, n=1):
        """Wait for the n-th news of a kind from now on, and return it."""
        wanted = self.count(kind) + n
        await self.until(lambda: self.count(kind) >= wanted)
        return self.of(kind)[wanted - 1]


@contextlib.asynccontextmanager
async def driving(driver, other=None):
    """The task of a driver that has looked once, as (news, task); closed in the end, which raises what the task did."""
    news = News(other)
    driver.listener = news
    task = driver.begin()
    await news.until(lambda: news.count("framed"))
    try:
        yield news, task
    finally:
        driver.tell("close")
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait_for(task, PATIENCE)


async def settled(driver):
    """Everything told so far is obeyed."""
    done = asyncio.Event()
    driver.tell("call", done.set)
    await asyncio.wait_for(done.wait(), PATIENCE)


def pytest_pyfunc_call(pyfuncitem):
    """A test that is a coroutine has an event loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}))
    return True


@pytest.fixture
def live():
    """The helpers of this file."""
    return SimpleNamespace(
        Clock=Clock, clock=clock, arm=arm, gas=gas, News=News, driving=driving, settled=settled, PATIENCE=PATIENCE
    )


@pytest.fixture
def reading():
    """reading(step, T=[…], knobs={…}, theory={…}) -> Reading, with means and errors as `board.read` finds them."""
    from thermolab.lab.live.board import Reading

    def make(step, knobs=None, theory=None, **values):
        values = {k: np.atleast_1d(np.asarray(v, float)) for k, v in values.items()}
        means = {
            k: (float(v.mean()), float(v.std(ddof=1) / np.sqrt(v.size)) if v.size > 1 else float("nan"))
            for k, v in values.items()
        }
        return Reading(step, knobs or {}, values, means, theory or {})

    return make
