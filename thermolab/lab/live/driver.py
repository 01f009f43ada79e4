"""The task behind a live panel: experiments side by side on shared knobs, in slices that leave the kernel free.

Callbacks of widgets run in whatever thread the kernel chooses. They only put plain values into a queue; the task reads
it before each slice, so every torch call, every knob and every frame belongs to one thread and one order of events.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from thermolab.engine.drivers import lockstep
from thermolab.engine.experiment import Experiment, Frame
from thermolab.lab.live.board import Arm

FRAMES_PER_SECOND = 16
MAX = math.inf  # speed: as fast as it goes
DRAG = 1.0  # seconds between two turns of a knob that are one for Undo


class Listener:
    """What a driver tells of, always from its task. A panel overrides what it shows."""

    def framed(self, frames: tuple[Frame, ...]) -> None:
        """A frame of each run."""

    def turned(self, knobs: dict, step: int) -> None:
        """Knobs are in use from this step on."""

    def started(self) -> None:
        """The runs are new: at the panel's start, after Reset and after a setting that makes a new run."""

    def changed(self, state: str) -> None:
        """The driver is now paused, running, stopped or closed."""

    def failed(self, error: Exception) -> None:
        """The run stopped with an error."""

    def placed(self, knobs: dict) -> None:
        """Knobs were turned by Undo, not by their controls."""

    def kept(self) -> None:
        """The present state was kept."""

    def returned(self, number: int, frames: tuple[Frame, ...]) -> None:
        """The runs are those of a kept state again; frames: the last ones that they gave."""


@dataclass(frozen=True)
class Kept:
    """A state to which one can return: the runs as they were, which settings they had, and with which they began."""

    runs: list[Experiment]
    settings: list[dict]
    built: list[dict]
    past: list


class Driver:
    """Runs the experiments of a panel when told to. arms: what to run, side by side; speed: steps per second, at most."""

    def __init__(self, arms: Sequence[Arm], *, seed: int = 0, device: str = "cpu", speed: float = MAX):
        self.arms, self.seed, self.speed, self.listener = list(arms), seed, speed, Listener()
        self.device = self._first_device = device
        self.state = "paused"  # or running, stopped (after an error), closed
        self.steps_per_second = math.nan
        self.settings: list[dict] = []  # as they are now
        self.built: list[dict] = []  # those that the present runs started with
        self.runs: list[Experiment] = []
        self.states: list[Kept] = []  # those that were kept
        self._past: list[tuple[str, object, float]] = []  # knobs turned: name, value before, when
        self._orders: SimpleQueue = SimpleQueue()
        self._wake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._single = self._new = self._said = False
        self._reset()

    def tell(self, order: str, *values) -> None:
        """Leave an order for the task, from any thread: run, pause, step, reset, turn, undo, keep, back, move, look, call
        or close (`_run` …)."""
        self._orders.put((order, values))
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake.set)

    def begin(self) -> asyncio.Task:
        """Start the task on the running loop; it waits until it is told to run."""
        self._loop = asyncio.get_running_loop()
        return self._loop.create_task(self.live(), name="thermolab live panel")

    async def live(self) -> None:
        """Obey orders and make frames until closed. An error stops the run, not the task."""
        self._loop = asyncio.get_running_loop()
        while self.state != "closed":
            try:
                self._new = False
                if self._obey():
                    await self._frame()
                elif self.state != "closed" and not self._new:
                    if self.state == "paused" and not self._said:
                        self._said = True
                        self.listener.changed("paused")
                    await self._wait(None)
            except asyncio.CancelledError:
                self._be("closed")
                raise
            except Exception as error:
                self._fail(error)

    async def _frame(self) -> None:
        """One frame of all runs, and the wait that the speed asks for. Pause ends it early, with a frame of what was done."""
        began, first, every, single = time.perf_counter(), self.runs[0].state.step, self._choose_every(), self._single

        def go_on() -> bool:
            return self._obey() and self._single == single

        async with aclosing(lockstep(self.runs, every, before=go_on)) as frames:
            found = await anext(frames, None)
        if self._new:
            return
        if found is None and self.runs[0].steps_summed:
            if any(run.events[-1][0] == run.state.step for run in self.runs):
                for run in self.runs:  # in a log a frame comes before the knobs of its step
                    run.advance(1)
            found = tuple(run.frame() for run in self.runs)
        if found is None:
            return
        for run in self.runs:
            del run.history[:-1]  # a panel may run for days
        self._done = done = found[0].step - first
        self._measure_speed(done)
        self.listener.framed(found)
        self._work = time.perf_counter() - began
        if single and self._single:
            self._single = False
            self._be("paused")
        while self.state == "running" and not self._new and self._single == single:
            rest = began + done / self.speed - time.perf_counter()
            if rest <= 0:
                break
            await self._wait(rest)
            self._obey()
        await asyncio.sleep(0)

    def _choose_every(self) -> int:
        """Steps to the next frame: as many as its time holds beside what a frame costs, or as the speed asks for."""
        if self._single:
            return 1
        frame = 1 / FRAMES_PER_SECOND
        step = self.runs[0].seconds_per_step or frame
        room = max(frame / 4, frame - (self._work - self._done * step))
        wanted = min(room / step, self.speed * min(max(frame, self._work), 4 * frame))
        if not 0.8 < wanted / self._every < 1.25:  # it changes seldom and has two digits: the log's list of frames stays short
            digits = 10 ** max(0, math.floor(math.log10(max(wanted, 1))) - 1)
            self._every = max(1, round(wanted / digits) * digits)
        return self._every

    def _measure_speed(self, done: int) -> None:
        now = time.perf_counter()
        if self._clock is not None:
            rate = done / max(now - self._clock, 1e-9)
            known = math.isfinite(self.steps_per_second)
            self.steps_per_second = 0.8 * self.steps_per_second + 0.2 * rate if known else rate
        self._clock = now

    async def _wait(self, seconds: float | None) -> None:
        """Until there is an order, or the time is over."""
        try:
            await asyncio.wait_for(self._wake.wait(), seconds)
        except TimeoutError:
            return
        self._wake.clear()

    # --- orders, in the task ----------------------------------------------------------------------------------------------
    def _obey(self) -> bool:
        """Carry out the orders that wait, in turn; whether the run goes on."""
        while True:
            try:
                order, values = self._orders.get_nowait()
            except Empty:
                return self.state == "running" and not self._new
            getattr(self, f"_{order}")(*values)

    def _be(self, state: str) -> None:
        """Into another state. Pause is told later: after the frame that it ends."""
        if self.state != "closed":
            self.state, self._clock, self._said = state, None, False
            if state != "paused":
                self.listener.changed(state)

    def _fail(self, error: Exception) -> None:
        """The run stops, the task does not, whatever else may be broken."""
        try:
            self._be("stopped")
            self.listener.failed(error)
        except Exception:
            self.state = "stopped" if self.state != "closed" else self.state
            logging.getLogger(__name__).exception("a panel could not show: %s", error)

    def _run(self) -> None:
        self._single = False
        self._be("running")

    def _pause(self) -> None:
        if self.state == "running":
            self._be("paused")

    def _step(self) -> None:
        self._run()
        self._single = True

    def _reset(self) -> None:
        """All as at the start: settings, seed, device; paused."""
        self.settings = [dict(arm.settings) for arm in self.arms]
        self.device, self._past = self._first_device, []
        self._renew()
        self._be("paused")

    def _renew(self) -> None:
        self._every, self._work, self._done, self._new = 1, 0.0, 0, bool(self.runs)
        self.built = [dict(settings) for settings in self.settings]
        self.runs = [
            arm.scenario.start(seed=self.seed, device=self.device, **settings)
            for arm, settings in zip(self.arms, self.built, strict=True)
        ]
        self.steps_per_second = math.nan
        self.listener.started()
        self.tell("look")

    def _look(self) -> None:
        """One step, so that there is something to read before the first Run."""
        for run in self.runs:
            run.advance(1)
        self.listener.framed(tuple(run.frame() for run in self.runs))

    def _turn(self, name: str, value) -> None:
        """Turn a knob of all runs that have it; a setting that is no knob of a run makes new runs."""
        self._remember(name, value)
        renew = False
        for arm, run, settings in zip(self.arms, self.runs, self.settings, strict=True):
            if name not in arm.scenario.settings:
                continue
            value = arm.scenario.settings[name].check(name, value)
            if name in run.knobs:
                run.set(**{name: value})
            elif settings[name] != value and not arm.scenario.settings[name].view:
                renew = True
            settings[name] = value
        if renew:
            self._renew()
        else:
            self.listener.turned({name: value}, self.runs[0].state.step)

    def _remember(self, name: str, value) -> None:
        """For Undo: where a knob stood; of one that is dragged, where it stood at first."""
        now, last = time.monotonic(), self._past[-1] if self._past else ("", None, 0.0)
        before = next((settings[name] for settings in self.settings if name in settings), value)
        if last[0] == name and now - last[2] < DRAG:
            self._past[-1] = (name, last[1], now)
        elif before != value:
            self._past.append((name, before, now))

    def _undo(self) -> None:
        """Turn the knob that was turned last back to where it stood before."""
        if self._past:
            name, value, _ = self._past.pop()
            past = list(self._past)
            self._turn(name, value)
            self._past = past
            self.listener.placed({name: value})

    def _keep(self) -> None:
        if not all(run.history for run in self.runs):
            self._look()
        kept = Kept([run.fork() for run in self.runs], *self._copies(self.settings, self.built), list(self._past))
        self.states.append(kept)
        self.listener.kept()

    def _back(self, number: int) -> None:
        """To a kept state; paused. What came after it is not in the log of the runs that go on from it."""
        kept = self.states[number]
        self.runs, self._past, self._new = [run.fork() for run in kept.runs], list(kept.past), True
        self.settings, self.built = self._copies(kept.settings, kept.built)
        for run in self.runs:
            if run.device != self.device:
                run.move(self.device)
        self._single = False
        self.listener.returned(number, tuple(run.history[-1] for run in self.runs))
        self._be("paused")

    @staticmethod
    def _copies(*lists: list[dict]) -> list[list[dict]]:
        return [[dict(settings) for settings in one] for one in lists]

    def _move(self, device: str) -> None:
        if device != self.device:
            for run in self.runs:
                run.move(device)
            self.device = device

    def _call(self, function: Callable[[], None]) -> None:
        function()

    def _close(self) -> None:
        self._be("closed")
