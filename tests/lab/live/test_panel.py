"""The panel without a browser: what its controls tell the driver, what it shows, and where it is shown at all."""

import asyncio
import json
import math
import re
import subprocess
import sys
import time
from types import SimpleNamespace

import IPython.display
import ipywidgets
import numpy as np
import pytest
import torch
from panels import VIEWS, controls, shown, text, write

from thermolab import phenomena
from thermolab.engine import recipe
from thermolab.engine.scenario import Knob, Observable
from thermolab.lab import live as public
from thermolab.lab import replay
from thermolab.lab.live import echo as echo_module
from thermolab.lab.live import widgets
from thermolab.lab.live.board import Goal
from thermolab.lab.live.views import Lines
from thermolab.lab.live.widgets import Panel
from thermolab.phenomena.ideal_gas.live import ISOTROPIC, NETWORK

pytestmark = pytest.mark.usefixtures("no_window")


@pytest.fixture(autouse=True)
def answering(request, monkeypatch):
    """A page that answers every drawing."""
    if "patience" not in request.node.name:
        monkeypatch.setattr(widgets.Echo, "late", False)


# --- controls -----------------------------------------------------------------------------------------------------------
def test_the_css_classes_are_all_there(live):
    net = Panel([live.arm(NETWORK, replicas=1)], [Lines("r")])
    wanted = (
        "panel eta lam batch device run pause step reset undo keep back speed chart readout status log save protocol ghost "
        "beside guess goals look"
    )
    assert {f"tl-{name}" for name in wanted.split()} <= set(controls(net))
    gas = controls(Panel([live.gas()], VIEWS))
    assert {"tl-sigma", "tl-dim", "tl-protocol"} <= set(gas)
    assert "tl-batch" not in gas
    assert "tl-replicas" not in gas  # not shown
    assert len(gas["tl-chart"].children) == 3


def test_every_scale_has_its_control(live):
    knobs = {
        "eta": Knob("learning rate η", 1e-3, 1.0), "width": Knob("width W", 1, 8, "whole"),
        "lam": Knob("mix m", 0.0, 1.0, "linear"), "batch_size": Knob("batch size B", 2, 64, "powers of two"),
        "kind": Knob("kind", scale="choice", options=("a", "b")), "hidden": Knob("h", 0, 1, "linear", shown=False),
    }  # fmt: skip
    defaults = {"eta": 0.5, "width": 3, "lam": 0.25, "batch_size": 24, "kind": "b", "hidden": 0.0}
    scenario = live.clock()
    build = scenario.build

    def wide(*, kind, hidden, batch_size, **more):
        return build(**more)

    scenario = type(scenario)("all", wide, knobs, defaults, scenario.observables, lambda f, s: f.observables, lambda f, s: {})
    panel = Panel([live.arm(scenario)], [Lines("U")])
    knobs, found = panel._controls.knobs, controls(panel)
    assert list(knobs) == ["eta", "width", "lam", "batch_size", "kind"]
    assert {f"tl-{name}" for name in ("eta", "width", "lam", "batch", "kind")} <= set(found)
    assert "tl-hidden" not in found
    assert [knobs[name].field.value for name in list(knobs)[:4]] == ["0.5", "3", "0.25", "24"]
    assert [knobs[name].field.description for name in ("eta", "width")] == ["learning rate η", "width W"]
    assert [knobs[name].grid[knobs[name].slider.value] for name in list(knobs)[:4]] == [0.5, 3, 0.25, 24]
    assert knobs["batch_size"].grid == [2, 4, 8, 16, 24, 32, 64]
    assert (knobs["width"].grid, len(knobs["lam"].grid)) == (list(range(1, 9)), 101)
    assert (found["tl-kind"].value, found["tl-kind"].description) == ("b", "kind")


@pytest.mark.parametrize("value", [1e-4, 0.03, 0.0123, 1 / 3, 1.0])
def test_the_start_value_lies_on_the_grid_of_the_slider(live, value):
    knob = Panel([live.gas(eta=value)], VIEWS)._controls.knobs["eta"]
    assert knob.grid[knob.slider.value] == value
    assert np.diff(np.log10(knob.grid)) == pytest.approx(0.02)
    assert 1e-4 <= knob.grid[0] < 1e-4 * 10**0.02
    assert 10**-0.02 < knob.grid[-1] <= 1


async def test_a_slider_that_reports_what_it_was_given_gives_no_order(live):
    async with shown(live, [live.gas(eta=0.0123, lam=0.0)]) as (panel, driver, news):
        told, tell = [], driver.tell
        driver.tell = lambda *order: told.append(order) or tell(*order)
        for name in ("eta", "lam", "sigma", "dim"):
            knob = panel._controls.knobs[name]
            knob._on_slider(knob.slider.value)
            knob._on_field(knob.field.value)
        assert told == []
        driver.tell("reset")
        await news.next("framed")
        assert told == [("reset",), ("look",)]
        panel._controls.knobs["lam"].slider.value = 1
        assert told[2:] == [("turn", "lam", 1e-5)]
        await live.settled(driver)
        assert panel._controls.knobs["lam"].field.value == "1e-05"
        panel._controls.knobs["lam"].slider.value = 0
        await live.settled(driver)
        assert (driver.settings[0]["lam"], panel._controls.knobs["lam"].field.value) == (0.0, "0")


async def test_a_written_number_is_kept_as_it_was_written(live):
    async with shown(live, [live.gas(eta=0.03, lam=0.01)]) as (panel, driver, _):
        knobs = panel._controls.knobs
        for name, written, value in (
            ("eta", "0.26", 0.26), ("eta", ".5", 0.5), ("eta", "1/3", 1 / 3), ("lam", "0,02", 0.02), ("lam", "0", 0.0),
            ("sigma", "1e-1", 0.1), ("lam", "3e-3", 0.003),
        ):  # fmt: skip
            write(panel, name, written)
            await live.settled(driver)
            assert driver.settings[0][name] == value
            assert knobs[name].field.value == written
            assert float(knobs[name].slider.tooltip) == pytest.approx(value, rel=1e-5)
            near = knobs[name].grid[knobs[name].slider.value]
            assert near == value or abs(math.log10(near / value)) <= 0.0101
        knobs["eta"].slider.value -= 1  # from the place beside what was written
        await live.settled(driver)
        assert driver.settings[0]["eta"] == knobs["eta"].grid[knobs["eta"].slider.value] < 1 / 3
        assert knobs["eta"].field.value == f"{driver.settings[0]['eta']:.3g}"
        eta = driver.settings[0]["eta"]
        for name, written, said in (
            ("eta", "7", "eta=7.0 is not allowed; allowed: a number from 0.0001 to 1"), ("eta", "a lot", "is no number: write"),
            ("eta", "1,000", "is no number"),
            ("dim", "3.5", "dim=3.5 is not allowed; allowed: a whole number from 3 to 128"), ("eta", "", "is no number"),
        ):  # fmt: skip
            before = knobs[name].field.value
            write(panel, name, written)
            await live.settled(driver)
            assert said in text(controls(panel)["tl-status"])
            assert knobs[name].field.value == before
        assert driver.settings[0]["eta"] == eta


async def test_controls_turn_the_experiment_and_the_read_out_follows(live):
    async with shown(live, [live.arm(NETWORK, replicas=2)], [Lines("r", "snr")]) as (panel, driver, news):
        found = controls(panel)
        before = text(found["tl-readout"])
        assert "step=1 eta=0.03 lam=0.01 batch_size=32 protocol=elr" in before
        for name in ("T", "U", "r", "p", "snr"):
            assert re.search(rf"\b{name}=[-\d.e]+ +± [\d.e-]+", before) or name in ("r", "p"), name
        assert re.search(r"p=[\d.e-]+ +\(theory 0.01\)", before)
        assert re.search(r"S=not yet", before)
        write(panel, "eta", "0.05")
        write(panel, "batch_size", "8")
        found["tl-protocol"].value = "lr"
        await live.settled(driver)
        assert news.count("turned") == 3
        assert driver.runs[0].knobs["batch_size"] == 8
        assert driver.runs[0].knobs["eta"].tolist() == [0.05] * 2
        assert driver.runs[0].knobs["protocol"] == "lr"
        after = text(found["tl-readout"])
        assert "step=1 eta=0.05 lam=0.01 batch_size=8 protocol=lr" in after  # before it moves
        theory = re.search(r"\br=\S+ .*?\(theory ([^)]+)\)", before)[1], re.search(r"\br=.*?\(theory ([^)]+)\)", after)[1]
        assert theory[0] != theory[1]
        found["tl-step"].click()
        await news.next("framed")
        assert "step=2 eta=0.05" in text(found["tl-readout"])
        found["tl-run"].click()
        await news.next("framed", 2)
        found["tl-pause"].click()
        await live.settled(driver)
        step = driver.runs[0].state.step
        assert f"step={step} " in text(found["tl-readout"])
        found["tl-reset"].click()
        await news.next("framed")
        assert text(found["tl-readout"]).split() == before.split()
        knobs = panel._controls.knobs
        assert (knobs["eta"].field.value, knobs["batch_size"].field.value, found["tl-protocol"].value) == ("0.03", "32", "elr")


async def test_the_predictions_of_an_arm_are_those_of_its_present_settings(live):
    async with shown(live, [live.gas(dim=3)]) as (panel, driver, news):
        panel._on_knob("dim", 6)
        await news.next("framed")
        (reading,) = panel.board.readings[0]
        assert reading.theory == pytest.approx(ISOTROPIC.predict(driver.runs[0].history[-1], {"dim": 6}))
        assert len(driver.runs[0].state.weights[0]) == 6


async def test_buttons_and_status_follow_the_state(live):
    async with shown(live, [live.gas()]) as (panel, driver, news):
        found = controls(panel)

        def off():
            assert not found["tl-run"].disabled  # the keyboard's focus stays on a button that was pressed
            assert not found["tl-pause"].disabled
            return [name for name in ("run", "pause") if "tl-off" in found[f"tl-{name}"]._dom_classes]

        assert off() == ["pause"]
        assert "paused; press Run" in text(found["tl-status"])
        assert 'role="status"' in found["tl-status"].value
        found["tl-run"].click()
        await news.next("framed", 2)
        assert off() == ["run"]
        assert "running" in text(found["tl-status"])
        driver.tell("pause")
        await live.settled(driver)
        assert off() == ["pause"]
    assert "closed" in text(found["tl-status"])


async def test_the_speed_control_wakes_a_slow_run(live):
    async with shown(live, [live.gas()], speed=1.0) as (panel, driver, news):
        assert controls(panel)["tl-speed"].value == 1.0
        driver.tell("run")
        await news.next("framed")
        controls(panel)["tl-speed"].value = math.inf
        await news.until(lambda: driver.runs[0].state.step > 100)
        assert driver.speed == math.inf


# --- marks, guesses, goals, ghosts ----------------------------------------------------------------------------------------
def test_marks_of_one_drag_become_one(live, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    panel = Panel([live.gas()], VIEWS)
    for step, (name, value, seconds) in enumerate(
        [("eta", 0.1, 0.1), ("eta", 0.2, 0.1), ("eta", 0.3, 0.1), ("lam", 0.5, 0.1), ("eta", 0.4, 0.1), ("eta", 0.5, 2.0),
         ("eta", 0.6, 0.1)]
    ):  # fmt: skip
        clock[0] += seconds
        panel._mark(name, value, step)
    assert panel.board.marks == [(2, "η 0.3"), (3, "λ 0.5"), (4, "η 0.4"), (6, "η 0.6")]
    for step in range(100):
        clock[0] += 5
        panel._mark("eta", 0.1, step)
    assert len(panel.board.marks) <= 20  # bounded
    assert panel.board.marks[-1] == (99, "η 0.1")


async def test_a_turned_knob_leaves_a_mark_and_a_step_of_theory(live):
    async with shown(live, [live.gas()]) as (panel, driver, news):
        driver.tell("run")
        await news.next("framed", 3)
        driver.tell("pause")
        driver.tell("turn", "eta", 0.1)
        await news.next("turned")
        step = driver.runs[0].state.step
        assert panel.board.marks == [(step, "η 0.1")]
        last, before = panel.board.readings[0][-1], panel.board.readings[0][-2]
        assert (last.step, last.knobs["eta"]) == (step, pytest.approx(0.1))
        assert last.theory["T"] > 3 * before.theory["T"]
        assert last.means == before.means or before.step < step


async def test_a_guess_is_drawn_and_a_bad_one_is_one_line(live):
    async with shown(live, [live.gas()]) as (panel, driver, _):
        found = controls(panel)
        assert [key for _, key in panel._controls.guess_of.options] == ["T", "U"]
        assert panel._controls.guess_of.options[0][0] == panel.charts[0].chart.y.label
        theory = panel.board.readings[0][-1].theory["T"]
        for written, guesses, said in (
            (f"{3 * theory}", {"T": 3 * theory}, "beside theory at the present knobs: off by a factor of 3, too large"),
            (" 1,5e-3 ", {"T": 0.0015}, "too small"),
            ("3/2000", {"T": 0.0015}, "too small"),
            (f"{theory}", {"T": theory}, "present knobs: so it is"),
            ("a lot", {"T": theory}, "'a lot' is no number: write a number"),
            ("-1", {"T": theory}, "has a logarithmic axis, which cannot show -1: write a number above 0"),
            ("", {}, "paused"),
        ):
            found["tl-guess"].value = written
            await live.settled(driver)
            assert panel.board.guesses == guesses
            assert said in text(found["tl-status"])
            if guesses:
                (mark,) = [m for s, m in zip(panel.charts[0].chart.series, panel.charts[0]._marks, strict=True)
                           if s.role == "guess"]  # fmt: skip
                assert set(mark.y) == set(guesses.values())
        assert driver.state == "paused"


async def test_a_goal_is_reached_and_said_so(live):
    goals = [Goal("bring U <down>", "U", 0.5, within=1e9), Goal("bring T down", "T", 1e-9)]

    async with shown(live, [live.gas()], goals=goals) as (panel, driver, news):
        found = controls(panel)
        assert "○ goal: bring U <down>" in text(found["tl-goals"])
        driver.tell("run")
        await news.next("framed", 22)
        assert "✓ reached: bring U <down>" in text(found["tl-goals"])
        assert "○ goal: bring T down" in text(found["tl-goals"])
        driver.tell("reset")
        await news.next("started")
        await live.settled(driver)
        assert "○ goal: bring U <down>" in text(found["tl-goals"])


@pytest.mark.parametrize("wanted", [True, False])
async def test_a_ghost_is_kept_at_reset_if_wanted(live, wanted):
    async with shown(live, [live.gas("a"), live.gas("b")]) as (panel, driver, news):
        controls(panel)["tl-ghost"].value = wanted
        driver.tell("run")
        await news.next("framed", 4)
        driver.tell("pause")
        await live.settled(driver)
        kept = [[(r.step, r.means["T"]) for r in readings] for readings in panel.board.readings]
        driver.tell("reset")
        await news.next("started")
        await live.settled(driver)
        assert driver.state == "paused", text(controls(panel)["tl-status"])
        ghosts = {label: readings for label, readings in panel.board.ghosts.items() if readings}
        assert list(ghosts) == (["a, run before", "b, run before"] if wanted else [])
        assert [[(r.step, r.means["T"]) for r in readings] for readings in ghosts.values()] == (kept if wanted else [])
        assert [len(readings) for readings in panel.board.readings] == [1, 1]
        drawn = [np.asarray(m.y).tolist() for m in controls(panel)["tl-chart"].children[0].marks if m.visible]
        for readings in kept:
            assert ([t[0] for _, t in readings] in drawn) is wanted
        driver.tell("run")
        await news.next("framed", 2)
        assert driver.state == "running", text(controls(panel)["tl-status"])


async def test_a_recorded_run_is_a_ghost_from_the_start(live, reading):
    ghost = [reading(s, T=[0.5], U=[0.4]) for s in (10, 20)]

    async with shown(live, [live.gas()], ghosts={"last year": ghost}) as (panel, *_):
        ys = [np.asarray(m.y).tolist() for m in panel.charts[0]._marks]
        assert [0.5, 0.5] in ys


# --- messages -----------------------------------------------------------------------------------------------------------
async def test_divergence_is_a_message_with_step_value_and_remedy(live):
    async with shown(live, [live.gas()]) as (panel, driver, news):
        panel._on_knob("sigma", 10.0)
        panel._on_knob("eta", 1.0)
        driver.tell("run")
        await news.next("failed")
        status = controls(panel)["tl-status"]
        message = text(status)
        for words in (f"stopped at step {driver.runs[0].state.step}", "eta=1", "try eta=0.25", "press Reset"):
            assert words in message
        assert "error-color" in status.value
        assert "<details>" in status.value  # the traceback is folded away
        assert controls(panel)["tl-run"].disabled is False
        driver.tell("reset")
        await news.next("framed")
        assert "paused" in text(status)


async def test_save_log_writes_a_log_that_replays(live, tmp_path, monkeypatch):
    monkeypatch.setenv("THERMOLAB_OUT", str(tmp_path / "an out"))

    async with shown(live, [live.gas("a b"), live.gas("c", protocol="lr")]) as (panel, driver, news):
        driver.tell("run")
        await news.next("framed", 3)
        panel._on_knob("dim", 4)  # the log is that of the new runs
        await news.next("started")
        await news.next("framed", 3)
        panel._on_knob("eta", 0.05)
        await news.next("framed", 2)
        controls(panel)["tl-log"].click()
        await live.settled(driver)
        message = text(controls(panel)["tl-status"])
    paths = sorted((tmp_path / "an out" / "live").iterdir())
    assert len(paths) == 2
    for path in paths:
        assert f"thermolab replay '{path}'" in message
        log = json.loads(path.read_text())
        assert (log["settings"]["dim"], log["settings"]["eta"], log["events"][-1][1]) == (4, 0.03, {"eta": 0.05})
        assert replay.replay(path, phenomena.scenarios())


async def test_a_log_of_the_network_replays_too(live, tmp_path, monkeypatch):
    monkeypatch.setenv("THERMOLAB_OUT", str(tmp_path))

    async with shown(live, [live.arm(NETWORK, replicas=1)], [Lines("r")]) as (panel, driver, news):
        panel._on_knob("batch_size", 16)
        driver.tell("run")
        await news.next("framed", 3)
        controls(panel)["tl-log"].click()
        await live.settled(driver)
    (path,) = (tmp_path / "live").iterdir()
    assert replay.replay(path, phenomena.scenarios())


async def test_a_log_that_cannot_be_saved_is_a_message(live, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("THERMOLAB_OUT", str(tmp_path / "file"))

    async with shown(live, [live.gas()]) as (panel, driver, _):
        controls(panel)["tl-log"].click()
        await live.settled(driver)
        assert "the log was not saved" in text(controls(panel)["tl-status"])
        assert driver.state == "paused"


async def test_patience_ends_when_nobody_answers(live, monkeypatch):
    monkeypatch.setattr(widgets, "PATIENCE", 0.05)

    async with shown(live, [live.gas()]) as (panel, driver, news):
        driver.tell("run")
        await news.next("framed")
        panel._echo._began = -math.inf  # a second has gone
        await news.until(lambda: driver.state == "paused")
        assert "nobody is looking" in text(controls(panel)["tl-status"])
        assert "press run" in text(controls(panel)["tl-status"]).lower()
        at = driver.runs[0].state.step
        driver.tell("run")  # somebody is back
        await news.next("framed")
        assert driver.runs[0].state.step > at


async def test_patience_lasts_while_the_page_answers(live, monkeypatch):
    monkeypatch.setattr(widgets, "PATIENCE", 0.1)
    monkeypatch.setattr(echo_module, "ASKED", 0.0)

    async with shown(live, [live.gas()]) as (panel, driver, news):
        driver.tell("run")
        await news.next("framed")
        echo = panel._echo
        echo._began = echo._asked = -math.inf
        echo._ping.observe(lambda change: setattr(echo._pong, "value", change.new), "value")
        began = time.monotonic()
        await news.until(lambda: time.monotonic() - began > 0.4)
        assert driver.state == "running"
        assert echo._ping.value > 2


def test_patience_with_a_page_that_is_late(monkeypatch):
    """One question at a time; late only when its answer takes longer than LATE."""
    now = [0.0]
    monkeypatch.setattr(echo_module.time, "monotonic", lambda: now[0])
    echo = echo_module.Echo()
    echo.ask()
    assert echo._ping.value == 0  # nothing in the first second
    now[0] = 2.0
    echo.ask()
    echo.ask()
    assert echo._ping.value == 1
    assert not echo.late
    now[0] += 1.5 * echo_module.LATE
    assert echo.late
    echo._pong.value = 1
    assert not echo.late
    echo.ask()
    assert echo._ping.value == 1  # asked just now
    now[0] += echo_module.ASKED
    echo.ask()
    assert echo._ping.value == 2


# --- live.panel -----------------------------------------------------------------------------------------------------------
@pytest.fixture
def front(monkeypatch):
    """What is displayed; jobs run in this process; the cell is "one" until `front.cell` changes."""
    shown = SimpleNamespace(all=[], left=[], cell="one")

    async def here(jobs):
        await asyncio.sleep(0)
        return [jobs.function(**settings) for settings in jobs.settings]

    shell = SimpleNamespace(get_parent=lambda: {"metadata": {"cellId": shown.cell}, "content": {"code": "x"}})

    def display(*things, display_id=None):
        if display_id is None:
            shown.all.extend(things)
        return SimpleNamespace(update=shown.left.append)

    monkeypatch.setattr(IPython.display, "display", display)
    monkeypatch.setattr(public.saved, "show", lambda widget, left: shown.all.append(widget))
    monkeypatch.setattr(public, "get_ipython", lambda: shell)
    monkeypatch.setattr(recipe, "_elsewhere", here)
    for name in ("JPY_SESSION_NAME", "VOILA_SERVER_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(public, "_shown", {})
    shown.shell = shell
    return shown


def someone(**more):
    return SimpleNamespace(**{"seed": 0, "device": "cpu", "live": "auto", "eta": 0.05, "dim": 4, "replicas": 8} | more)


async def cell(front, views=VIEWS, setup=None, **more):
    more = {"events": [[40, {"eta": 0.2}]], "steps": 60, "alt": 'the <twin> & "more"'} | more
    setup = setup or someone()
    await public.panel({"gas": ISOTROPIC.at(setup)}, views, setup, **more)
    return front.all


@pytest.mark.parametrize("where", [{"live": "off"}, {"live": "auto"}])
def test_headless_it_is_one_picture_with_alt_text(front, where):
    (picture,) = asyncio.run(cell(front, setup=someone(**where)))
    assert isinstance(picture, IPython.display.HTML)
    assert picture.data.count("<img ") == 1
    assert 'alt="the &lt;twin&gt; &amp; &quot;more&quot;"' in picture.data
    assert "<details" not in picture.data
    assert "stopped early" not in picture.data
    assert public._shown == {}
    assert public.running() == []


def test_the_twin_follows_the_script(front, monkeypatch):
    boards = []
    draw = public.figures.draw
    monkeypatch.setattr(public.figures, "draw", lambda charts, board: boards.append(board) or draw(charts, board))
    asyncio.run(cell(front, goals=[Goal("g", "T", 0.1)]))
    (board,) = boards
    assert board.marks == [(40, "η 0.2")]
    steps = [r.step for r in board.readings[0]]
    assert steps == list(range(2, 61, 2))
    assert [r.knobs["eta"] for r in board.readings[0]][18:21] == [0.05, 0.05, 0.2]
    run = ISOTROPIC.start(seed=0, eta=0.05, dim=4, replicas=8)
    expected = list(run.follow([[40, {"eta": 0.2}]], 2, 60))[-1]
    np.testing.assert_array_equal(board.readings[0][-1].values["U"], expected.observables["U"])


def test_a_script_that_stops_early_says_why(front):
    events = [[30, {"eta": 1.0, "sigma": 10.0}]]
    (picture,) = asyncio.run(cell(front, events=events))
    assert picture.data.count("<img ") == 1
    assert re.search(r"<p>the script stopped early; gas: eta=1[^<]*at step \d+[^<]*try eta=0.25", picture.data)


def test_a_script_that_stops_before_its_first_frame_says_why_too(front):
    (picture,) = asyncio.run(cell(front, views=[*VIEWS, Lines("r")], events=[[0, {"eta": 1.0, "sigma": 10.0}]], steps=9000))
    assert "the script stopped early; gas: eta=1" in picture.data


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"views": [Lines("warp")]}, "warp is no observable of gas; allowed: "),
        ({"setup": someone(dim=2)}, "dim=2 is not allowed"),
        ({"events": [[5, {"warp": 1}]]}, "warp is no knob"),
    ],
)
def test_a_mistake_is_one_line(front, more, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}[^\n]*$"):
        asyncio.run(cell(front, **more))


async def test_where_somebody_looks_there_is_the_panel_and_the_folded_twin(front):
    widget, twin = await cell(front, setup=someone(live="on"))
    assert isinstance(widget, ipywidgets.Widget)
    assert "tl-panel" in widget._dom_classes
    assert twin.data.startswith('<details class="tl-twin">')
    assert "<img alt=" in twin.data
    assert public.running() == ["one: paused"]
    task, panel = public._shown["one"]
    assert panel.driver.settings[0]["eta"] == 0.05
    panel.driver.tell("step")
    while panel.driver.runs[0].state.step < 2:
        await asyncio.sleep(0)
    assert not task.done()
    assert front.left == []
    panel.driver.tell("run")
    panel.driver.tell("pause")
    while not front.left:
        await asyncio.sleep(0)
    (picture,) = front.left  # of the state in which it came to rest
    assert picture.data.startswith('<div class="tl-left"><figure style=')  # without a number: it is no figure of the page
    assert '<img alt="the &lt;twin&gt;' in picture.data
    task.cancel()


def test_a_front_end_is_seen_by_itself(front, monkeypatch):
    assert [public.front_end(x) for x in ("auto", "on", "off")] == [False, True, False]
    for name in ("JPY_SESSION_NAME", "VOILA_SERVER_URL"):
        monkeypatch.setenv(name, "x")
        assert [public.front_end(x) for x in ("auto", "on", "off")] == [True, True, False]
        monkeypatch.delenv(name)
    front.shell.user_ns = {"__vsc_ipynb_file__": "nb.ipynb"}
    assert [public.front_end(x) for x in ("auto", "on", "off")] == [True, True, False]
    monkeypatch.setattr(public, "get_ipython", lambda: None)  # a script
    assert public.front_end() is False


async def test_running_a_cell_again_ends_its_former_task(front):
    await cell(front, setup=someone(live="on"))
    first, panel = public._shown["one"]
    front.cell = "two"
    await cell(front, setup=someone(live="on"))
    other, _ = public._shown["two"]
    front.cell = "one"
    await cell(front, setup=someone(live="on"))
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(asyncio.shield(first), 30)
    assert panel.driver.state == "closed"
    assert not other.done()
    assert not public._shown["one"][0].done()
    assert sorted(public.running()) == ["one: paused", "two: paused"]
    for task, _ in public._shown.values():
        task.cancel()


def test_a_record_is_thirty_readings(front):
    readings = asyncio.run(public.record(ISOTROPIC, [[100, {"eta": 0.1}]], steps=160, replicas=8, eta=0.05))
    assert [r.step for r in readings] == list(range(5, 161, 5))
    assert readings[-1].knobs["eta"] == pytest.approx(0.1)
    asyncio.run(cell(front, ghosts={"before": readings}))
    assert len(front.all) == 1


HEADLESS = """
import asyncio, sys
import IPython.display
from types import SimpleNamespace
from thermolab.lab.live import Lines, panel
from thermolab.phenomena.ideal_gas.live import ISOTROPIC

def display(*things):
    print(*(type(t).__name__ for t in things), things[0].data.count("<img alt=\\"twin\\""))

IPython.display.display = display
setup = SimpleNamespace(seed=0, device="cpu", live="auto", replicas=8)
asyncio.run(panel({"gas": ISOTROPIC.at(setup)}, [Lines("U")], setup, steps=90, alt="twin"))
print(sorted(set(sys.modules) & {"bqplot", "thermolab.lab.live.widgets", "thermolab.lab.live.charts"}))
widgets = sys.modules.get("ipywidgets.widgets.widget")  # seaborn loads them by itself
print(len(widgets._instances) if widgets else 0)
"""


def test_headless_there_are_no_widgets_and_no_bqplot(monkeypatch):
    for name in ("JPY_SESSION_NAME", "VOILA_SERVER_URL"):
        monkeypatch.delenv(name, raising=False)
    done = subprocess.run([sys.executable, "-c", HEADLESS], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.splitlines() == ["HTML 1", "[]", "0"], done.stderr


async def test_a_knob_of_any_observable_of_any_scenario_is_declared_once(live):
    """Observables that mean nothing as a mean are not in the read-out."""
    scenario = live.clock(
        observables={"U": Observable("energy U"), "V": Observable("V", mean=False)}, read=lambda f, s: {**f.observables, "V": 1.0}
    )

    async with shown(live, [live.arm(scenario)], [Lines("U")]) as (panel, *_):
        readout = text(controls(panel)["tl-readout"])
        assert "U=" in readout
        assert "V=" not in readout


async def test_two_arms_have_their_names_in_the_read_out(live):
    async with shown(live, [live.gas("one <1>"), live.gas("two", protocol="lr")]) as (panel, driver, news):
        readout = text(controls(panel)["tl-readout"])
        assert re.search(r"one <1> .*protocol=elr.*two .*protocol=lr", readout, re.DOTALL)
        panel._on_knob("lam", 0.5)
        await news.next("turned")
        assert [run.knobs["lam"].tolist() for run in driver.runs] == [[0.5] * 8] * 2
        assert torch.equal(driver.runs[0].knobs["lam"], driver.runs[1].knobs["lam"])
