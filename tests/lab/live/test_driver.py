"""The task behind a live panel: orders from any thread, obeyed between slices, at one step of all runs."""

import asyncio
import itertools
import threading
import time

import pytest
import torch

from thermolab.engine.experiment import DivergenceError, Experiment
from thermolab.lab.live.driver import FRAMES_PER_SECOND, Driver, Listener

HOT = {"eta": 1.0, "sigma": 10.0}  # the gas diverges within a few dozen steps


def weights(driver):
    return [run.state.weights.clone() for run in driver.runs]


def midway(driver, first, n):
    """Whether n steps from `first` on end within a frame, and not the first one."""
    done = driver.runs[0].steps_summed
    return first > 40 and done > 0 and done + n < driver._every


# --- knobs ----------------------------------------------------------------------------------------------------------
async def test_knobs_from_another_thread_act_between_slices_and_at_one_step_of_all_runs(live):
    scenario = live.clock(seconds=2e-4)
    driver = Driver([live.arm(scenario, width=1), live.arm(scenario, width=3)])
    values = [0.5 + i / 64 for i in range(1, 33)]

    def turn():
        for value in values:
            driver.tell("turn", "eta", value)
            time.sleep(0.003)  # any moment

    async with live.driving(driver) as (news, _):
        here = threading.get_ident()
        threads = []
        news.other.turned = lambda knobs, step: threads.append(threading.get_ident())
        driver.tell("run")
        await news.next("framed", 2)
        await asyncio.to_thread(turn)
        await live.settled(driver)
        driver.tell("pause")
        await live.settled(driver)
        turned, in_the_task = [(knobs["eta"], step) for knobs, step in news.of("turned")], set(threads) == {here}
    assert in_the_task
    assert [value for value, _ in turned] == values
    one, two = driver.runs
    assert one.events == two.events
    assert one.state.step == two.state.step
    last = {step: value for value, step in turned}  # what is turned twice before a step acts once
    assert [[step, {"eta": value}] for step, value in last.items()] == one.events[1:]
    assert len(last) > len(values) / 4
    boundaries = [{first for first, _ in run.system.slices} | {run.state.step} for run in driver.runs]
    assert set(last) <= boundaries[0] & boundaries[1]
    # and from that step on: the weights are the sum of η over the steps
    turns = [(0, 0.5), *last.items(), (one.state.step, None)]
    total = 1 + sum(eta * (end - begin) for (begin, eta), (end, _) in itertools.pairwise(turns))
    for w in weights(driver):
        torch.testing.assert_close(w, torch.full_like(w, total))


async def test_a_knob_told_in_the_middle_of_a_frame_acts_within_that_frame(live):
    told = []

    def hook(first, n):
        if midway(driver, first, n) and not told:
            driver.tell("turn", "eta", 2.0)
            told.append(first + n)

    driver = Driver([live.arm(live.clock(1e-3, hook))])

    async with live.driving(driver) as (news, _):
        driver.tell("run")
        await news.next("turned")
        kinds = [kind for kind, *_ in news.heard]
        before = news.of("framed")[kinds[: kinds.index("turned")].count("framed") - 1][0]
    assert driver.runs[0].events[1] == [told[0], {"eta": 2.0}]
    assert before.step < told[0]  # no frame came in between


async def test_a_knob_that_an_arm_lacks_is_turned_in_the_others(live):
    gas, clock = live.gas(), live.arm()
    driver = Driver([clock, gas])

    async with live.driving(driver) as (news, _):
        driver.tell("turn", "sigma", 0.5)
        assert await news.next("turned") == [{"sigma": 0.5}, 1]
    assert driver.runs[1].knobs["sigma"].tolist() == [0.5] * 8
    assert "sigma" not in driver.settings[0]
    assert driver.settings[1]["sigma"] == 0.5


async def test_a_setting_that_is_no_knob_starts_new_runs_with_the_other_knobs_as_turned(live):
    driver = Driver([live.gas(eta=0.05)])

    async with live.driving(driver) as (news, _):
        first = driver.runs[0]
        driver.tell("run")
        driver.tell("turn", "eta", 0.2)
        await news.next("framed", 3)
        driver.tell("turn", "dim", 5)
        await news.next("started")
        new = driver.runs[0]
        assert new is not first
        await news.until(lambda: new.state.step > 100)
        assert driver.state == "running"
        assert new.system.n_parameters == 5
        assert new.knobs["eta"].tolist() == [0.2] * 8
        assert driver.built == [{**driver.arms[0].settings, "eta": 0.2, "dim": 5}]
        alone = driver.arms[0].scenario.start(**driver.built[0])
        assert torch.equal(new.start.weights, alone.state.weights)
        n = news.count("started")
        driver.tell("turn", "dim", 5)  # nothing new
        await live.settled(driver)
        assert news.count("started") == n


async def test_a_setting_turned_while_paused_starts_new_runs_that_go_when_told(live):
    driver = Driver([live.gas()])

    async with live.driving(driver) as (news, _):
        driver.tell("turn", "dim", 7)
        await news.next("framed")
        assert (driver.state, driver.runs[0].state.step, driver.runs[0].system.n_parameters) == ("paused", 1, 7)
        driver.tell("run")
        await news.next("framed", 2)
        assert driver.runs[0].state.step > 1


async def test_a_value_that_is_not_allowed_is_refused_and_changes_nothing(live):
    driver = Driver([live.gas()])

    async with live.driving(driver) as (news, task):
        for name, value in (("eta", 7.0), ("protocol", "warp"), ("dim", 2)):
            driver.tell("turn", name, value)
            error = await news.next("failed")
            assert name in str(error)
            assert driver.settings == [driver.arms[0].settings]
            assert len(driver.runs[0].events) == 1
        assert not task.done()


# --- run, pause, step, reset, close -----------------------------------------------------------------------------------
async def test_it_looks_once_and_then_waits(live):
    driver = Driver([live.arm()])

    async with live.driving(driver) as (news, _):
        for _ in range(20):
            await asyncio.sleep(0)
        (kind, (frame,)), word = list(news.heard)
    assert (kind, frame.step, word) == ("framed", 1, ("changed", "paused"))


async def test_run_and_pause(live):
    driver = Driver([live.arm(live.clock(1e-4))])

    async with live.driving(driver) as (news, _):
        driver.tell("run")
        await news.next("framed", 3)
        driver.tell("pause")
        await live.settled(driver)
        at = driver.runs[0].state.step
        for _ in range(20):
            await asyncio.sleep(0)
        assert (driver.state, driver.runs[0].state.step) == ("paused", at)
        driver.tell("run")
        await news.next("framed", 2)
        assert driver.runs[0].state.step > at
        assert news.of("changed") == ["paused", "running", "paused", "running"]
    assert driver.state == "closed"


async def test_pause_in_the_middle_of_a_frame_gives_a_frame_where_it_stopped(live):
    stopped = []

    def hook(first, n):
        if midway(driver, first, n) and not stopped:
            driver.tell("pause")
            stopped.append(first + n)

    driver = Driver([live.arm(live.clock(1e-3, hook)), live.arm(live.clock())])

    async with live.driving(driver) as (news, _):
        driver.tell("run")
        await news.until(lambda: stopped and driver.state == "paused")
        await live.settled(driver)
        frames = news.of("framed")
        assert [kind for kind, *_ in news.heard[-2:]] == ["framed", "changed"]  # the word comes after the picture
        before, last = frames[-2], frames[-1]
    assert [f.step for f in last] == stopped * 2 == [run.state.step for run in driver.runs]
    assert 0 < stopped[0] - before[0].step < driver._every
    assert last[0].observables["U"][0] == pytest.approx((before[0].step + stopped[0] - 1) / 2)  # the mean since the frame before


async def test_step_takes_exactly_one_step(live):
    driver = Driver([live.arm(live.clock(1e-4)), live.arm()])

    async with live.driving(driver) as (news, _):
        for n in (2, 3, 4):
            driver.tell("step")
            frames = await news.next("framed")
            await news.until(lambda: driver.state == "paused")
            assert [f.step for f in frames] == [n, n] == [run.state.step for run in driver.runs]
        driver.tell("run")
        await news.until(lambda: driver._every > 8)  # frames are longer now
        driver.tell("pause")
        await live.settled(driver)
        at = driver.runs[0].state.step
        driver.tell("step")
        ((frame, _),) = [await news.next("framed")]
        assert (frame.step, driver.runs[0].state.step) == (at + 1, at + 1)


@pytest.mark.parametrize("orders", [["pause", "step"], ["step"]])
async def test_step_in_the_middle_of_a_frame_takes_one_step_too(live, orders):
    at = []

    def hook(first, n):
        if midway(driver, first, n) and not at:
            for order in orders:
                driver.tell(order)
            at.append(first + n)

    driver = Driver([live.arm(live.clock(1e-3, hook))])

    async with live.driving(driver) as (news, _):
        driver.tell("run")
        await news.until(lambda: at and driver.state == "paused" and driver.runs[0].state.step > at[0])
        await live.settled(driver)
        found = news.of("framed")[-1][0].step
    assert found == driver.runs[0].state.step == at[0] + 1


async def test_step_while_it_rests_at_a_low_speed_pauses_after_one_more(live):
    driver = Driver([live.arm()], speed=10.0)

    async with live.driving(driver) as (news, _):
        driver.tell("run")
        await news.next("framed")
        at = driver.runs[0].state.step
        driver.tell("step")
        await news.until(lambda: driver.state == "paused")
        assert driver.runs[0].state.step == at + 1


async def test_run_after_step_goes_on(live):
    driver = Driver([live.arm(live.clock(1e-4))])

    async with live.driving(driver) as (news, _):
        driver.tell("step")
        driver.tell("run")
        await news.next("framed", 4)
        assert driver.state == "running"


async def test_reset_is_the_same_start_to_the_bit(live):
    arms = [live.gas(), live.gas("other", protocol="lr", dim=5)]
    driver = Driver(arms, seed=7)

    async with live.driving(driver) as (news, _):
        start = weights(driver)
        for running in (False, True):
            driver.tell("run")
            driver.tell("turn", "eta", 0.1)
            driver.tell("turn", "dim", 6)
            await news.until(lambda: driver.runs[0].state.step > 200)
            if not running:
                driver.tell("pause")
                await live.settled(driver)
            driver.tell("reset")
            await news.next("started")
            await live.settled(driver)
            assert driver.state == "paused"
            assert driver.settings == driver.built == [arm.settings for arm in arms]
            assert all(torch.equal(a, b) for a, b in zip(start, weights(driver), strict=True))
            assert [run.state.step for run in driver.runs] == [1, 1]
            assert [len(run.events) for run in driver.runs] == [1, 1]


@pytest.mark.parametrize("state", ["paused", "running", "stopped"])
async def test_run_goes_after_a_reset(live, state):
    driver = Driver([live.gas(**HOT if state == "stopped" else {})])

    async with live.driving(driver) as (news, _):
        if state != "paused":
            driver.tell("run")
            await news.until(lambda: driver.state == state and (news.count("framed") > 2 or news.count("failed")))
        driver.tell("reset")
        await news.next("framed")
        assert driver.state == "paused"
        driver.tell("turn", "eta", 0.01)
        driver.tell("turn", "sigma", 1.0)
        driver.tell("run")
        await news.until(lambda: driver.runs[0].state.step > 200, 20)
        assert driver.state == "running"


async def test_a_run_after_reset_repeats_the_first_to_the_bit(live):
    driver = Driver([live.gas()])

    async with live.driving(driver) as (news, _):
        ends = []
        for _ in range(2):
            for _ in range(5):
                driver.tell("step")
                await news.next("framed")
                await live.settled(driver)
            ends.append((driver.runs[0].state.step, weights(driver)[0]))
            driver.tell("reset")
            await news.next("framed")
        one, two = ends
    assert one[0] == two[0] == 6
    assert torch.equal(one[1], two[1])


def test_close_ends_the_task_and_later_orders_are_idle(live):
    driver = Driver([live.arm(live.clock(1e-4))])

    async def play():
        async with live.driving(driver) as (news, task):
            driver.tell("run")
            await news.next("framed", 2)
            driver.tell("close")
            await asyncio.wait_for(task, live.PATIENCE)
            at = driver.runs[0].state.step
            driver.tell("run")
            driver.tell("step")
            await asyncio.sleep(0)
            assert (driver.state, driver.runs[0].state.step) == ("closed", at)
            assert news.of("changed")[-1] == "closed"

    asyncio.run(play())
    driver.tell("run")  # the loop is gone: nobody hears it, and nothing breaks


@pytest.mark.parametrize("later", ["run", "pause", "step", "reset"])
async def test_closed_is_closed_whatever_was_told_after(live, later):
    driver = Driver([live.arm()])

    async with live.driving(driver) as (_, task):
        driver.tell("close")
        driver.tell(later)
        await asyncio.wait_for(task, 10)
    assert driver.state == "closed"


@pytest.mark.parametrize("state", ["paused", "running"])
async def test_cancel_closes(live, state):
    driver = Driver([live.arm(live.clock(1e-4))])

    async with live.driving(driver) as (news, task):
        if state == "running":
            driver.tell("run")
            await news.next("framed", 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        found = news.of("changed")[-1]
    assert found == "closed" == driver.state


async def test_orders_told_before_the_task_begins_are_kept(live):
    driver = Driver([live.arm()])
    driver.tell("turn", "eta", 0.25)
    driver.tell("step")

    async with live.driving(driver) as (news, _):
        await news.until(lambda: driver.runs[0].state.step == 2 and driver.state == "paused")
    assert driver.settings[0]["eta"] == 0.25


# --- speed ------------------------------------------------------------------------------------------------------------
async def test_a_slow_speed_is_obeyed(live):
    driver = Driver([live.arm()], speed=40.0)

    async with live.driving(driver) as (news, _):
        began, at = time.perf_counter(), driver.runs[0].state.step
        driver.tell("run")
        await news.next("framed", 6)
        steps, seconds = driver.runs[0].state.step - at, time.perf_counter() - began
    assert (steps - 40 / FRAMES_PER_SECOND) / 40 * 0.9 < seconds  # the last frame has not rested yet


async def test_knobs_act_at_once_while_a_slow_run_rests(live):
    driver = Driver([live.arm()], speed=0.002)

    async with live.driving(driver) as (news, _):
        driver.tell("run")
        await news.next("framed")  # eight minutes of rest begin
        at, began = driver.runs[0].state.step, time.perf_counter()
        await asyncio.to_thread(driver.tell, "turn", "eta", 2.0)
        await news.until(lambda: news.count("turned"))
        assert news.of("turned") == [[{"eta": 2.0}, at]]
        driver.speed = float("inf")
        await asyncio.to_thread(driver.tell, "call", lambda: None)
        await news.until(lambda: driver.runs[0].state.step > at + 1)
        driver.speed = 0.002
        driver.tell("pause")
        await news.until(lambda: driver.state == "paused")
        found = time.perf_counter() - began
    assert found < 30


async def test_a_fast_run_makes_frames_of_many_steps_and_leaves_the_loop_its_turns(live):
    driver = Driver([live.arm(live.clock(1e-4))])

    ticks = 0
    async with live.driving(driver) as (news, _):
        driver.tell("run")
        frames = asyncio.ensure_future(news.next("framed", 8))
        while not frames.done():
            ticks += 1
            await asyncio.sleep(0)
        await frames
        ticks, steps = ticks, [f.step for (f,) in news.of("framed")]
    assert ticks > 8
    assert steps[-1] - steps[-2] > 10
    # 0.1 ms a step: slices of 10 ms are hundred steps at most
    assert max(n for _, n in driver.runs[0].system.slices) <= 110
    assert 0 < driver.steps_per_second <= 11_000


# --- errors -------------------------------------------------------------------------------------------------------------
async def test_divergence_stops_the_run_and_reset_makes_it_usable(live):
    driver = Driver([live.gas()])

    async with live.driving(driver) as (news, task):
        for name, value in HOT.items():
            driver.tell("turn", name, value)
        driver.tell("run")
        error = await news.next("failed")
        assert isinstance(error, DivergenceError)
        assert driver.state == "stopped"
        assert news.heard[-2:] == [("changed", "stopped"), ("failed", error)]
        assert not task.done()
        driver.tell("reset")
        await news.next("framed")
        assert driver.state == "paused"
        driver.tell("step")
        await news.next("framed")
        assert driver.runs[0].state.step == 2


class Touchy(Listener):
    """Breaks the first time that it hears of something."""

    def __init__(self, kind):
        self.broken = False
        setattr(self, kind, self._break)

    def _break(self, *_):
        if not self.broken:
            self.broken = True
            raise RuntimeError("on purpose")


@pytest.mark.parametrize("kind", ["framed", "turned", "started", "changed", "failed"])
async def test_a_listener_that_breaks_does_not_end_the_task(live, kind):
    driver = Driver([live.gas()])

    async with live.driving(driver) as (news, task):
        news.other = Touchy(kind)
        driver.tell("turn", "eta", 0.1)
        driver.tell("reset")
        driver.tell("step")
        driver.tell("turn", "eta", 99.0)  # refused
        for _ in range(200):
            await asyncio.sleep(0)
        assert news.other.broken
        assert not task.done()
        driver.tell("reset")
        driver.tell("run")
        await news.until(lambda: driver.runs[0].state.step > 50, 20)


@pytest.mark.parametrize("kind", ["changed", "failed"])
async def test_a_listener_that_is_always_broken_does_not_end_the_task_either(live, kind):
    driver = Driver([live.gas()])

    def fail(*_):
        raise RuntimeError("on purpose")

    async with live.driving(driver) as (news, task):
        setattr(news.other, kind, fail)
        driver.tell("turn", "eta", 99.0)  # refused
        for _ in range(200):
            await asyncio.sleep(0)
        ended = task.done()
        setattr(news.other, kind, lambda *_: None)
        assert not ended


async def test_a_start_that_fails_leaves_a_panel_that_can_be_reset(live, monkeypatch):
    driver = Driver([live.gas()])
    start = Experiment.__init__

    def fail(self, system, **settings):
        if system.n_parameters == 100:
            raise MemoryError("too big")
        start(self, system, **settings)

    monkeypatch.setattr(Experiment, "__init__", fail)

    async with live.driving(driver) as (news, _):
        driver.tell("turn", "dim", 100)
        assert isinstance(await news.next("failed"), MemoryError)
        assert driver.state == "stopped"
        driver.tell("reset")
        await news.next("framed")
        assert driver.settings == driver.built == [driver.arms[0].settings]
        driver.tell("step")
        await news.next("framed")


# --- what is kept -------------------------------------------------------------------------------------------------------
async def test_history_is_bounded_and_the_log_knows_every_frame(live):
    driver = Driver([live.arm(live.clock(1e-5)), live.arm()], speed=2000.0)

    async with live.driving(driver) as (news, _):
        driver.tell("run")
        await news.next("framed", 12)
        driver.tell("pause")
        await live.settled(driver)
        steps = [[f.step for f in frames] for frames in news.of("framed")]
    for run, mine in zip(driver.runs, zip(*steps, strict=True), strict=True):
        assert len(run.history) <= 2
        assert [first + i * stride for first, stride, n in run.cadence for i in range(n)] == list(mine)


async def test_move_goes_on_elsewhere_and_reset_comes_back(live):
    driver = Driver([live.gas(), live.gas("b")])

    async with live.driving(driver) as (news, _):
        driver.tell("move", "cpu")
        await live.settled(driver)
        assert all(len(run.events) == 1 for run in driver.runs)  # there already
        before = weights(driver)
        driver.tell("move", "cpu:0")
        await live.settled(driver)
        assert driver.device == "cpu:0"
        assert all(run.events[-1] == [1, {"device": "cpu:0"}] for run in driver.runs)
        assert all(torch.equal(a, b) for a, b in zip(before, weights(driver), strict=True))
        driver.tell("step")
        await news.next("framed")
        driver.tell("reset")
        await news.next("framed")
        assert (driver.device, driver.runs[0].device) == ("cpu", "cpu")
