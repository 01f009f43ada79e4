"""The panels of notebooks 05 and 06 in a small notebook: each runs, follows its knobs and saves a log that replays to the bit."""

import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
from nbformat import v4
from playwright.sync_api import expect

from thermolab.lab import browser as jupyter

HEAD = """\
from types import SimpleNamespace
from thermolab.lab.live import HeatMap, Lines, panel
from thermolab.phenomena.platonic_alignment import live as alignment
from thermolab.phenomena.progressive_sharpening import live as sharpening
setup = SimpleNamespace(seed=0, device="cpu", live="auto")
"""
PAIR = """\
names = alignment.names(3, 4)
heat = HeatMap("map", rows=names, columns=names, limits=(0.4, 1), x="hidden layer", y="hidden layer")
await panel({"pair": (alignment.PAIR, {"noise": 0.0})}, [heat, Lines("cka", "U")], setup, speed=1000, steps=90, alt="a pair")
"""
SWITCH = """\
views = [Lines("lambda_max", "cka", "U")]
await panel({"network": (sharpening.NETWORK, {})}, views, setup, speed=1000, steps=90, alt="a switch")
"""
EDGE = """\
views = [Lines("lambda_max", "U")]
await panel({"descent": (sharpening.EDGE, {})}, views, setup, speed=1000, steps=90, alt="the edge")
"""
CELLS = [HEAD, PAIR, SWITCH, EDGE]
THEORY = "[0, 1, 2].filter(i => chart(i)).map(i => lines(i, 'rgb(26, 26, 26)').join()).join()"


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


def number(text):
    """(measured, theory or None) of a gauge in the read-out."""
    theory = re.search(r"\(theory ([^)]*)\)", text)
    return SimpleNamespace(measured=float(text.split()[0]), theory=theory and float(theory[1]))


def gauge(live, name):
    return number(live.look()[name])


def replays(live):
    """Pauses, saves the log, and whether the command line ends with the log's weights and gauges."""
    live.press("pause")
    expect(live.status).to_have_text("paused; press Run")
    live.press("log")
    live.until("panel.status.startsWith('saved')")
    path = re.search(r"thermolab replay (\S+\.json)", live.status.text_content())[1]
    command = [sys.executable, "-m", "thermolab", "replay", path]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (found.returncode, "weights: equal to the last bit" in found.stdout) == (0, True), found
    gauges = re.findall(r"replayed (\S+)   log (\S+)", found.stdout)
    assert gauges
    assert all(again == logged for again, logged in gauges), found.stdout


def test_a_pair_aligns_when_noise_is_turned_on(lab, panel):
    live = panel(lab, CELLS.index(PAIR))
    assert gauge(live, "cka").theory is None
    before, heat = gauge(live, "cka").measured, live.look("drawn(0)")
    live.press("run")
    live.until("+now.step > 200")
    live.keys("noise", *["ArrowRight"] * 50)
    live.until("now.noise === '1'")
    live.until("now.cka.includes('theory 1')")
    live.until("drawn(0) !== given", heat)
    live.until("parseFloat(now.cka) > 0.85")
    assert before < 0.6
    theory = live.look(THEORY)
    live.keys("eta", "ArrowLeft")
    live.until(THEORY + " !== given", theory)
    replays(live)
    assert live.look("chart(0).querySelectorAll('rect').length") >= 36
    assert live.ugly() == []
    lab.screenshot("panel_05_pair")
    assert lab.errors() == []


def test_sharpness_follows_the_imbalance_of_the_noise(lab, panel):
    live = panel(lab, CELLS.index(SWITCH))
    live.press("run")
    live.until("+now.step > 1000")
    flat = gauge(live, "lambda_max")
    assert flat.theory == 4
    theory = live.look(THEORY)
    live.keys("imbalance", *["ArrowRight"] * 40)  # 0.8 decades
    live.until(THEORY + " !== given", theory)
    live.until("now.imbalance === given", f"{10**0.8:.3g}")
    live.until("parseFloat(now.lambda_max) > 8")
    assert gauge(live, "lambda_max").theory > 10
    expect(live.charts).to_contain_text(f"ρ {10**0.8:.3g}")
    replays(live)
    assert live.ugly() == []
    lab.screenshot("panel_06_switch")
    assert lab.errors() == []


def test_descent_meets_the_edge_and_its_line_moves_with_the_rate(lab, panel):
    live = panel(lab, CELLS.index(EDGE))
    live.press("run")
    live.until("parseFloat(now.lambda_max) > 9.5")
    assert gauge(live, "lambda_max").theory == 10
    theory = live.look(THEORY)
    live.keys("eta", *["ArrowRight"] * 10)
    live.until(THEORY + " !== given", theory)
    live.until("now.lambda_max.includes('theory ' + given)", f"{2 / (0.2 * 10**0.2):.3g}")
    live.until("parseFloat(now.lambda_max) < 7")
    replays(live)
    assert live.ugly() == []
    lab.screenshot("panel_06_edge")
    assert lab.errors() == []
