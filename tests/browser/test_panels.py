"""Live panels in small notebooks of their own: all panels of this file live in one kernel, in one page."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from nbformat import v4
from playwright.sync_api import expect

from thermolab import plots
from thermolab.lab import browser as jupyter

HEAD = """\
import asyncio
from types import SimpleNamespace
from thermolab.lab.live import Goal, HeatMap, Lines, Scatter, Trajectory, panel, running
from thermolab.phenomena.ideal_gas.live import ISOTROPIC, NETWORK
setup = SimpleNamespace(seed=0, device="cpu", live="auto")
few = {"replicas": 32}
"""
GOALS = """\
goals = [Goal("bring the radius to its half", "r", 0.87, fixed=("eta",)), Goal("bring U to a thousand", "U", 1000.0)]
await panel({"gas": (ISOTROPIC, few)}, [Lines("T", "r")], setup, goals=goals, speed=1000, steps=90, alt="a gas")
"""
OTHER = """await panel({"gas": (ISOTROPIC, few)}, [Lines("r")], setup, speed=1000, steps=90, alt="another gas")"""
ARMS = """\
arms = {"free": (ISOTROPIC, few), "held": (ISOTROPIC, few | {"protocol": "sphere"})}
await panel(arms, [Lines("p")], setup, speed=1000, steps=90, alt="two gases")
"""
VIEWS = """\
heat = HeatMap("along", rows=("upper", "lower"), columns=("1", "2", "3", "4"), limits=(-2, 2), x="replica", y="row")
views = [Scatter("across", "along", equal=True), Trajectory("U", "r"), heat]
await panel({"gas": (ISOTROPIC, {"replicas": 8})}, views, setup, speed=1000, steps=90, alt="a gas in three views")
"""
NET = """await panel({"network": (NETWORK, {})}, [Lines("r")], setup, speed=1000, steps=90, alt="a network")"""
CELLS = [HEAD, GOALS, OTHER, ARMS, VIEWS, NET]
TASKS = "print(sum(task.get_name() == 'thermolab live panel' for task in asyncio.all_tasks()))"


@pytest.fixture(scope="module")
def lab(server, browser):
    """The notebook of this file; all its cells have run."""
    context = browser.new_context(viewport=jupyter.WINDOW)
    lab = jupyter.Lab(server, context.new_page())
    lab.open(v4.new_notebook(cells=[v4.new_code_cell(cell) for cell in CELLS]))
    lab.run_all()
    yield lab
    lab.close()
    context.close()


def colour(code):
    """As the page writes it."""
    return "rgb({}, {}, {})".format(*bytes.fromhex(code[1:]))


def replayed(path):
    """What the command line says of a log."""
    command = [sys.executable, "-m", "thermolab", "replay", path]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_setting_that_diverges_is_reported_and_reset_makes_the_panel_usable(lab, panel):
    net = panel(lab, CELLS.index(NET))
    net.run()
    net.keys("eta", "End")
    net.until("panel.status.startsWith('stopped at step')")
    step, eta, advised = re.match(
        r"stopped at step (\d+): eta=(\S+),.* at step \d+ in .*; try eta=(\S+) or .*press Reset", net.status.text_content()
    ).groups()
    assert int(step) > 1
    assert 0.9 < float(eta) <= 1.0
    assert float(advised) < float(eta)
    expect(net.box.locator(".tl-run")).to_be_enabled()
    net.press("reset")
    net.shows(step=1, eta="0.03")
    net.run()
    net.pause()
    assert lab.errors() == []


def test_two_panels_run_at_once_and_keep_their_knobs_apart(lab, panel):
    one, two = CELLS.index(GOALS), CELLS.index(OTHER)
    panel(lab, two).press("run")
    first = panel(lab, one)
    first.box.locator(".tl-beside input").check()
    first.press("run")
    first.keys("eta", "ArrowRight")
    first.until("now.eta !== '0.03'")
    eta = first.look()["eta"]
    first.goes_on()
    second = panel(lab, two)
    second.goes_on()
    assert second.look()["eta"] == "0.03"
    second.keys("lam", "ArrowLeft")
    second.until("now.lam !== '0.01'")
    second.pause()
    first = panel(lab, one)
    first.goes_on()
    assert (first.look()["eta"], first.look()["lam"]) == (eta, "0.01")
    first.press("reset")
    first.shows(step=1, eta="0.03")
    assert lab.errors() == []


def test_a_cell_that_runs_again_ends_its_former_panel(lab, panel):
    cell = CELLS.index(OTHER)
    second = panel(lab, cell)
    second.run()
    assert lab.evaluate_in_kernel(TASKS) == str(len(CELLS) - 1)
    before = lab.evaluate_in_kernel("print(*running())").count("running")
    lab.run_cell(cell)
    second = panel(lab, cell)
    second.shows(step=1)
    assert lab.evaluate_in_kernel(TASKS) == str(len(CELLS) - 1)
    assert lab.evaluate_in_kernel("print(*running())").count("running") == before - 1
    second.run()
    second.press("reset")
    assert lab.errors() == []


def test_two_experiments_on_shared_knobs(lab, panel):
    both = panel(lab, CELLS.index(ARMS))
    expect(both.box.locator(".tl-readout b").filter(has_text=re.compile("^(free|held)$"))).to_have_text(["free", "held"])
    assert [arm["protocol"] for arm in both.look("arms")] == ["elr", "sphere"]
    both.run()
    both.keys("eta", *["ArrowRight"] * 3)
    both.until("arms.every(arm => arm.eta === (10 ** (Math.log10(0.03) + 0.06)).toPrecision(3))")
    both.pause()
    free, held = both.look("arms")
    assert (free["step"], free["eta"]) == (held["step"], held["eta"])
    assert free["r"] != held["r"]
    both.press("log")
    both.until("panel.status.startsWith('saved')")
    paths = re.findall(r"thermolab replay (\S+\.json)", both.status.text_content())
    assert ["free" in paths[0], "held" in paths[1]] == [True, True]
    events = [json.loads(Path(path).read_text())["events"] for path in paths]
    assert events[0][1:] == events[1][1:] != []  # turned at the same steps
    for path in paths:
        found = replayed(path)
        assert (found.returncode, "weights: equal to the last bit" in found.stdout) == (0, True), found
    lab.screenshot("two_experiments")
    assert lab.errors() == []


def test_views_that_are_no_lines_move(lab, panel):
    views = panel(lab, CELLS.index(VIEWS))
    before = [views.look(f"drawn({i})") for i in range(3)]
    assert len(set(before)) == 3
    assert all(before)
    views.press("run")
    for i in range(3):
        views.until(f"drawn({i}) !== given", before[i])
    assert views.look("chart(2).querySelectorAll('rect').length") >= 8
    views.pause()
    lab.screenshot("views")
    assert views.ugly() == []
    assert lab.errors() == []


def test_predictions_ghosts_and_goals(lab, panel):
    gas = panel(lab, CELLS.index(GOALS))
    prediction, ghost = colour(plots.COLOURS[4]), colour("#999999")
    field = gas.box.locator(".tl-guess input")
    gas.until("given.every(stroke => !lines(0, stroke).length)", [prediction, ghost])
    gas.run()
    field.fill("a lot")
    field.press("Enter")
    expect(gas.status).to_have_text(re.compile("'a lot' is no number: write a number, as "))
    field.fill("0,02")
    field.press("Enter")
    gas.until("lines(0, given).length === 1", prediction)
    assert gas.look("panel.goals").count("○ goal") == 2
    gas.keys("lam", *["ArrowRight"] * 30)  # 0.6 decades, and r ~ λ^(-1/2)
    gas.until("panel.goals.includes('✓ reached: bring the radius to its half')")
    assert gas.look("panel.goals").count("○ goal: bring U to a thousand") == 1
    lab.screenshot("predictions_and_goals")
    gas.box.locator(".tl-ghost input").check()
    gas.press("reset")
    gas.shows(step=1, lam="0.01")
    gas.until("lines(0, given).length === 1 && lines(1, given).length === 1", ghost)
    assert gas.look("panel.goals").count("○ goal") == 2
    gas.run()
    gas.pause()
    lab.screenshot("ghost")
    assert lab.errors() == []
