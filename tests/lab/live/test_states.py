"""Going back: the last knob, kept states; goals that a moved knob forbids; and who may run at the same time."""

import csv
import functools
import io
import json
import re

import numpy as np
import pytest
from panels import VIEWS, controls, shown, text, write

from thermolab import phenomena
from thermolab.engine.experiment import DivergenceError
from thermolab.lab import live as public
from thermolab.lab import replay
from thermolab.lab.live import advice, files, widgets
from thermolab.lab.live.board import Goal

pytestmark = pytest.mark.usefixtures("no_window")


@pytest.fixture(autouse=True)
def answering(monkeypatch):
    """A page that answers every drawing."""
    monkeypatch.setattr(widgets.Echo, "late", False)


async def test_undo_turns_the_last_knobs_back_one_by_one(live, monkeypatch):
    monkeypatch.setattr("thermolab.lab.live.driver.DRAG", 0.0)
    async with shown(live, [live.gas(eta=0.03, lam=0.01)]) as (panel, driver, _):
        knobs, start = panel._controls.knobs, dict(driver.settings[0])
        for name, written in (("eta", "0.26"), ("lam", "0.02"), ("dim", "5"), ("eta", "0.3"), ("lam", "0")):
            write(panel, name, written)
            await live.settled(driver)
        for name, value in (("lam", 0.02), ("eta", 0.26), ("dim", 3), ("lam", 0.01), ("eta", 0.03)):
            controls(panel)["tl-undo"].click()
            await live.settled(driver)
            assert driver.settings[0][name] == value
            assert float(knobs[name].field.value) == pytest.approx(value, rel=1e-5)
        assert driver.settings[0] == start
        controls(panel)["tl-undo"].click()  # nothing is left
        await live.settled(driver)
        assert driver.settings[0] == start
        assert driver.state == "paused"


async def test_a_drag_is_one_turn_for_undo(live):
    async with shown(live, [live.gas(eta=0.03)]) as (panel, driver, _):
        for _ in range(5):
            panel._controls.knobs["eta"].slider.value += 1
            await live.settled(driver)
        controls(panel)["tl-undo"].click()
        await live.settled(driver)
        assert driver.settings[0]["eta"] == 0.03


async def test_a_kept_state_is_returned_to_and_its_log_replays(live, tmp_path, monkeypatch):
    monkeypatch.setenv("THERMOLAB_OUT", str(tmp_path))
    async with shown(live, [live.gas(eta=0.03)]) as (panel, driver, news):
        driver.tell("run")
        await news.next("framed", 3)
        driver.tell("pause")
        await live.settled(driver)
        controls(panel)["tl-keep"].click()
        await live.settled(driver)
        step, weights, readings = driver.runs[0].state.step, driver.runs[0].state.weights.clone(), list(panel.board.readings[0])
        assert f"step {step:,}" in text(controls(panel)["tl-status"])
        ends = []
        for eta in ("0.1", "0.1", "0.2"):
            write(panel, "eta", eta)
            driver.tell("step")
            await news.next("framed")
            await live.settled(driver)
            assert (driver.state, driver.runs[0].state.step) == ("paused", step + 1)
            ends.append(driver.runs[0].state.weights.clone())
            controls(panel)["tl-log"].click()
            controls(panel)["tl-back"].value = 0
            await live.settled(driver)
            await live.settled(driver)
            assert (driver.runs[0].state.step, driver.state, driver.settings[0]["eta"]) == (step, "paused", 0.03)
            assert (driver.runs[0].state.weights == weights).all()
            assert list(panel.board.readings[0]) == readings
            assert panel._controls.knobs["eta"].field.value == "0.03"
            assert controls(panel)["tl-back"].value is None
            assert panel.board.marks == []
        assert (ends[0] == ends[1]).all()  # the same noise again
        assert not (ends[0] == ends[2]).all()
    paths = sorted((tmp_path / "live").iterdir())
    assert len(paths) == 3
    for path in paths:
        assert len(json.loads(path.read_text())["events"]) == 2  # nothing of the branches that were left
        assert replay.replay(path, phenomena.scenarios())


@pytest.mark.parametrize("name", sorted({scenario.name for scenario in phenomena.scenarios().values()}))
def test_a_fork_of_any_scenario_goes_on_as_its_original(name):
    scenario = phenomena.scenarios()[name]
    few = {"replicas": int(max(1, scenario.settings["replicas"].low))}
    run = scenario.start(seed=3, **few)
    run.advance(2)
    run.frame()
    run.advance(1)  # in the middle of a frame
    other = run.fork()
    other.set(eta=float(run.knobs["eta"][0]) / 2)
    other.advance(2)
    other.frame()  # what it does leaves no trace
    third, ends = run.fork(), []
    for one in (run, third):
        one.advance(2)
        ends.append(one.frame())
    assert (run.state.weights == third.state.weights).all()
    assert not (run.state.weights == other.state.weights).all()
    for key, value in ends[0].observables.items():
        np.testing.assert_array_equal(value, ends[1].observables[key], err_msg=key)
    assert run.log == third.log
    assert len(other.events) == 2


def test_a_fork_shares_the_system_with_what_reads_it(live):
    run = live.gas().scenario.start(replicas=8)
    run.observables["reader"] = functools.partial(lambda kept, *_: 0.0, run.system)
    assert run.fork().observables["reader"].args[0] is run.system


async def test_a_goal_lights_up_and_says_why_not(live):
    goals = [Goal("bring U down", "U", 1e9, fixed=("eta",), way="at most"), Goal("bring U up", "U", 1e9, way="at least")]
    async with shown(live, [live.gas(eta=0.03)], goals=goals) as (panel, driver, news):
        box = controls(panel)["tl-goals"]
        children = panel.widget.children
        assert children.index(box) < children.index(controls(panel)["tl-chart"])
        write(panel, "eta", "0.05")
        await live.settled(driver)
        assert "○ goal: bring U down; not while η is 0.05: it began at 0.03 (Undo, or Reset)" in text(box)
        driver.tell("run")
        await news.next("framed", 25)
        assert "✓" not in text(box)
        controls(panel)["tl-undo"].click()
        await news.next("framed", 25)
        assert "✓ reached: bring U down" in text(box)
        assert "not while" not in text(box)
        assert box.value.count("tl-met") == 1
        assert "○ goal: bring U up" in text(box)


@pytest.mark.parametrize(
    ("way", "value", "met"),
    [("at least", 0.9801, True), ("at least", 0.9799, False), ("at most", 0.9799, True), ("at most", 0.9801, False),
     ("near", 0.99, True), ("near", 1.2, False)],
)  # fmt: skip
def test_the_line_of_a_goal_is_where_it_is_met(reading, way, value, met):
    assert Goal("g", "U", 0.98, 0.05, way=way).reached([reading(k, U=[value]) for k in range(20)], {}) is met


def test_a_way_that_is_none_is_one_line():
    with pytest.raises(ValueError, match=r"^way='below' is unknown; allowed: near, at least, at most$"):
        Goal("g", "U", 1.0, way="below")


async def test_a_panel_rests_while_its_page_is_hidden_and_goes_on_by_itself(live):
    async with shown(live, [live.gas()]) as (panel, driver, news):
        look, status = controls(panel)["tl-look"], controls(panel)["tl-status"]
        look.value = "hidden 1"  # a panel at rest stays at rest
        look.value = "seen 2"
        await live.settled(driver)
        assert driver.state == "paused"
        driver.tell("run")
        await news.next("framed")
        look.value = "hidden 3"
        await news.until(lambda: driver.state == "paused")
        await live.settled(driver)
        assert "nobody looks at this page" in text(status)
        look.value = "seen 4"
        await news.until(lambda: driver.state == "running")
        assert "it paused while nobody looked" in text(status)
        driver.tell("pause")
        look.value = "hidden 5"
        look.value = "seen 6"
        await live.settled(driver)
        assert driver.state == "paused"  # the student's own pause is kept


@pytest.mark.parametrize("beside", [False, True])
async def test_a_second_panel_that_is_started_pauses_the_first(live, monkeypatch, beside):
    async with shown(live, [live.gas()]) as (first, one, news), shown(live, [live.gas()]) as (second, two, others):
        monkeypatch.setattr(public, "_shown", {"a": (None, first), "b": (None, second)})
        for panel in (first, second):
            panel.on_run = lambda panel=panel: public._alone(panel)
        controls(second)["tl-beside"].value = beside
        one.tell("run")
        await news.next("framed")
        two.tell("run")
        await others.next("framed", 3)
        await live.settled(one)
        assert (one.state, two.state) == ("running" if beside else "paused", "running")
        assert ("another panel was started" in text(controls(first)["tl-status"])) is not beside


async def test_picture_and_data_are_links_in_the_page(live):
    async with shown(live, [live.gas("a"), live.gas("b", protocol="lr")]) as (panel, driver, news):
        driver.tell("run")
        await news.next("framed", 3)
        driver.tell("pause")
        await live.settled(driver)
        await live.settled(driver)  # it is said after the last frame
        controls(panel)["tl-save"].click()
        await live.settled(driver)
        assert 'href="data:image/png;base64,iVBOR' in controls(panel)["tl-status"].value
        rows = list(csv.DictReader(io.StringIO(files.table(panel.board))))
    assert [row["experiment"] for row in rows] == ["a"] * (len(rows) // 2) + ["b"] * (len(rows) // 2)
    last = panel.board.readings[1][-1]
    assert (int(rows[-1]["step"]), float(rows[-1]["T"])) == (last.step, last.means["T"][0])
    assert float(rows[-1]["T_theory"]) == last.theory["T"]
    assert rows[-1]["protocol"] == "lr"


async def test_charts_are_read_as_a_table_on_demand(live):
    async with shown(live, [live.gas("a"), live.gas("b", protocol="lr")]) as (panel, driver, news):
        driver.tell("run")
        await news.next("framed", 2 * files.READ + 3)
        driver.tell("pause")
        await live.settled(driver)
        assert controls(panel)["tl-table"].value == ""
        controls(panel)["tl-text"].click()
        await live.settled(driver)
        tables = controls(panel)["tl-table"].value.split("<table>")[1:]
    assert ["a, measured" in tables[0], "b, measured" in tables[1]] == [True, True]
    last = panel.board.readings[1][-1]
    rows = re.findall(r'<tr><th scope="row">(\d+)</th><td>(.*?)</td>', tables[1])
    assert rows[-1] == (str(last.step), "{:.3g} ± {:.3g} ({:.3g})".format(*last.means["T"], last.theory["T"]))
    assert 2 <= len(rows) <= files.READ
    assert re.search(r'<th scope="col">step</th><th scope="col">T</th>', tables[1])


async def test_advice_after_divergence_was_tried(live):
    async with shown(live, [live.gas(sigma=10.0)]) as (panel, driver, news):
        write(panel, "eta", "1")
        driver.tell("run")
        await news.next("failed")
        said = text(controls(panel)["tl-status"])
        assert "went well" in said
        eta = float(said.partition("try eta=")[2].split()[0])
        for rate, lives in ((eta, True), (4 * eta, False)):
            run = driver.arms[0].scenario.start(**{**driver.settings[0], "eta": rate})
            run.advance(500)
            assert bool((run.state.diverged < 0).all()) is lives


@pytest.mark.parametrize(("seconds", "said"), [(60.0, "down to {:.3g}, go well"), (-1.0, "not tried")])
def test_advice_names_no_rate_that_was_not_tried(live, monkeypatch, seconds, said):
    rates = []
    monkeypatch.setattr(advice, "SECONDS", seconds)
    monkeypatch.setattr(advice, "_taken", lambda arm, settings, *rest, **more: rates.append(settings["eta"]) or 0)
    arm = live.gas()
    told = advice.after_divergence([arm], [arm.settings], DivergenceError("x"), steps=10, seed=0, device="cpu")
    assert said.format(min(rates, default=0)) in told
    assert bool(rates) is (seconds > 0)
    assert "try eta" not in told


def test_trying_ends_where_a_system_is_slow(live, monkeypatch):
    monkeypatch.setattr(advice, "LONGEST", 0.0)
    arm = live.gas()
    assert advice._taken(arm, arm.settings, 10**9, advice.time.monotonic(), seed=0, device="cpu") == 10


def test_why_there_is_no_knob_is_said(live):
    panel = widgets.Panel([live.gas()], VIEWS)
    lines = [child.value for child in panel.widget.children if "No B" in getattr(child, "value", "")]
    assert len(lines) == 1
    assert "drawn, not made by data" in lines[0]
