"""Live panels where they are used: in the notebooks, beside a measuring cell, and in a page that comes and goes."""

import contextlib
import io
import re
import time
from pathlib import Path

import nbformat
import pytest
from nbformat import v4
from playwright.sync_api import expect

from thermolab import cli
from thermolab.lab.browser import SECONDS
from thermolab.lab.start import ROOT

CHARTS = "[0, 1, 2, 3].filter(i => chart(i)).map(drawn).join()"  # all: without noise a map of a converged pair stands still
THEORY = "[0, 1, 2, 3].filter(i => chart(i)).map(i => lines(i, 'rgb(26, 26, 26)').join())"
NOTEBOOK = ROOT / "notebooks" / "03_ideal_gas.ipynb"
ARROW = ROOT / "notebooks" / "00_irreversibility.ipynb"
COOLING = ROOT / "notebooks" / "01_cooling.ipynb"
COLLAPSE = ROOT / "notebooks" / "02_temperature_collapse.ipynb"
BALANCE = ROOT / "notebooks" / "04_neuron_balance.ipynb"
PLATO = ROOT / "notebooks" / "05_platonic_alignment.ipynb"
SHARPENING = ROOT / "notebooks" / "06_progressive_sharpening.ipynb"
HEAD = """\
from types import SimpleNamespace
from thermolab.engine import recipe
recipe.warm_up("thermolab.phenomena.ideal_gas")
from thermolab.lab.live import Lines, panel, running, widgets
from thermolab.phenomena.ideal_gas import isotropic, live
setup = SimpleNamespace(seed=0, device="cpu", live="auto")
"""
GAS = """await panel({"gas": (live.ISOTROPIC, {})}, [Lines("T", "r")], setup, speed=1000, steps=90, alt="a gas")"""
MEASURE = """\
print("measuring")
found = await isotropic.stationary("lr", dim=32, n_seeds=4)
"""


def rounded(value):
    """As a read-out shows it."""
    return f"{value:.3g}"


def turn(panel, name, key, symbol):
    """One key on a paused panel's slider: value and theory change, the charts get a mark, and no step is taken."""
    before, theory = panel.look(), panel.look(THEORY)
    knob = {"batch": "batch_size"}.get(name, name)
    panel.keys(name, key)
    panel.until(f"now.{knob} !== given", before[knob])
    after = panel.look()
    assert (float(after[knob]) > float(before[knob])) == (key == "ArrowRight")
    assert after["step"] == before["step"]
    expect(panel.charts).to_contain_text(f"{symbol} {after[knob]}")
    if name != "batch" and any(theory):  # theory at another B waits for the E|g|² that is measured there
        panel.until(
            "String([0, 1, 2, 3].filter(i => chart(i)).map(i => lines(i, 'rgb(26, 26, 26)').join())) !== String(given)", theory
        )
    expect(panel.box.locator(f".tl-{name} input[type=text]")).to_have_value(after[knob])


def use(panel, knobs):
    """All that somebody does with a panel. knobs: the symbols of its sliders. Returns the number of its logs, all replayed."""
    start = panel.look()
    assert start["step"] == "1"
    panel.run()
    charts = panel.look(CHARTS)
    panel.keys("eta", "ArrowRight")
    panel.until("now.eta !== given", start["eta"])
    panel.until(f"{CHARTS} !== given", charts)
    panel.keys("speed", "ArrowLeft", "ArrowLeft")
    panel.until("now.rate < 30")
    panel.keys("speed", "End")
    panel.until("now.rate > 30")
    panel.pause()
    expect(panel.status).to_have_text("paused; press Run")
    for name, (symbol, key) in knobs.items():
        turn(panel, name, key, symbol)
    if panel.box.locator(".tl-protocol").count():
        panel.choose("protocol", "lr")
        panel.shows(protocol="lr")
    assert "cpu" in panel.box.locator(".tl-device option").all_inner_texts()
    panel.choose("device", "cpu")
    paused = int(panel.look()["step"])
    for i in (1, 2):
        panel.press("step")
        panel.until("+now.step === given && panel.status.startsWith('paused')", paused + i)
    panel.lab.evaluate_in_kernel("1")  # one turn of the loop on which the panel runs
    assert int(panel.look()["step"]) == paused + 2
    panel.press("log")
    panel.until("panel.status.startsWith('saved')")
    paths = re.findall(r"thermolab replay (\S+\.json|'[^']+\.json')", panel.status.text_content())
    assert paths
    for path in paths:
        replay(path.strip("'"))
    panel.press("reset")
    panel.until("Object.keys(given).every(name => now[name] === given[name])", start)  # the observables too: the seed is the same
    expect(panel.status).to_have_text("paused; press Run")
    panel.run()
    panel.pause()
    return len(paths)


def replay(path):
    """`thermolab replay` of a saved log ends with its weights and observables."""
    with contextlib.redirect_stdout(io.StringIO()) as output, pytest.raises(SystemExit) as end:
        cli.main(["replay", path])
    said = output.getvalue()
    assert (end.value.code, "weights: equal to the last bit" in said) == (0, True), said
    observables = re.findall(r"replayed (\S+)   log (\S+)", said)
    assert len(observables) >= 4
    assert all(again == logged for again, logged in observables), said


def twin(panel):
    """The still picture beneath a panel: folded away, with a text for those who do not see it."""
    picture = panel.page.locator(panel.at.removesuffix(" .tl-panel")).locator(".tl-twin")
    assert len(picture.locator("img").get_attribute("alt")) > 40
    expect(picture.locator("img")).to_be_hidden()
    picture.locator("summary").click()
    expect(picture.locator("img")).to_be_visible()
    assert panel.ugly() == []


def run_until(lab, notebook, name):
    """Opens a notebook and runs its cells up to the one of this id; the number of that cell."""
    cells = nbformat.read(notebook, as_version=4).cells
    last = next(i for i, cell in enumerate(cells) if cell.id == name)
    lab.open(notebook)
    for i in range(last + 1):
        if cells[i].cell_type == "code":
            lab.run_cell(i)
    return last


@pytest.mark.slow
def test_the_panels_of_notebook_00(lab, panel):
    """Three rules side by side, forwards and backwards; and walkers in a plane. No line here jumps when η is turned."""
    cells = [cell.id for cell in nbformat.read(ARROW, as_version=4).cells]
    rules = panel(lab, run_until(lab, ARROW, "live-landscape"))
    lab.run_cell(cells.index("live-walker"))
    walkers = panel(lab, cells.index("live-walker"))
    rules.press("run")
    rules.until("arms.every(arm => +arm.time > 1)")
    rules.choose("way", "backward")
    rules.until("arms.every(arm => +arm.time === 0)")
    missed = [float(arm["missed"]) for arm in rules.look("arms")]
    assert missed[0] > 100 * max(missed[1:])  # the flows come home, the descent does not
    lab.screenshot("notebook_00_rules")
    rules.press("reset")
    rules.until("now.step === '1'")
    assert use(rules, {}) + use(walkers, {}) == 4
    for name in ("eta", "lam", "sigma"):
        before = walkers.look()[name]
        walkers.keys(name, "ArrowRight")
        walkers.until(f"now.{name} !== given", before)
    lab.screenshot("notebook_00_walkers")
    for live in (rules, walkers):
        twin(live)
    assert lab.errors() == []


@pytest.mark.slow
def test_the_panel_of_notebook_01(lab, panel):
    """A network that is cooled by hand, in front of two recorded schedules."""
    live = panel(lab, run_until(lab, COOLING, "live-cooling"))
    legend = live.box.locator(".tl-legend")
    for ghost in ("cosine", "logarithm"):
        expect(legend).to_contain_text(f"ghost: {ghost}")
    use(live, {"eta": ("η", "ArrowLeft"), "batch": ("B", "ArrowRight")})
    lam = live.look()["lam"]  # on which no line here depends
    live.keys("lam", "ArrowRight")
    live.until("now.lam !== given", lam)
    lab.screenshot("notebook_01")
    twin(live)
    assert lab.errors() == []


@pytest.mark.slow
def test_the_panels_of_notebook_02(lab, panel):
    """Two experiments side by side under the same knobs, each with its own log; and a sphere that is turned."""
    cells = nbformat.read(COLLAPSE, as_version=4).cells
    last = run_until(lab, COLLAPSE, "live-points")
    nets = panel(lab, next(i for i, cell in enumerate(cells) if cell.id == "live-networks"))
    logs = use(nets, {"eta": ("η", "ArrowLeft"), "batch": ("B", "ArrowRight")})
    lab.screenshot("notebook_02_networks")
    points = panel(lab, last)
    logs += use(points, {"eta": ("η", "ArrowRight")})
    assert logs == 4
    expect(points.status).to_have_text("paused; press Run")
    at, seen = points.look(), points.look("drawn(1)")
    points.keys("azimuth", "ArrowRight", "ArrowRight")
    points.until("now.azimuth !== given", at["azimuth"])
    points.until("drawn(1) !== given", seen)
    assert points.look()["step"] == at["step"]  # the picture turned, not the run
    lab.screenshot("notebook_02_points")
    for live in (nets, points):
        twin(live)
    assert lab.errors() == []


@pytest.mark.slow
def test_the_panels_of_notebook_03(lab, panel):
    cells = [cell.id for cell in nbformat.read(NOTEBOOK, as_version=4).cells]
    lab.open(NOTEBOOK)
    lab.run_all()
    assert lab.errors() == []
    gas = panel(lab, cells.index("live-gas"))
    gas.keys("dim", "ArrowRight")
    expect(gas.box.locator(".tl-dim input[type=text]")).to_have_value("4")
    gas.until("now.step === '1' && !now.r.includes('theory 1.75')")  # a gas of four dimensions has another radius
    gas.press("reset")
    gas.until("now.step === '1' && now.r.includes('theory 1.75')")
    expect(gas.box.locator(".tl-dim input[type=text]")).to_have_value("3")
    use(gas, {"eta": ("η", "ArrowLeft"), "lam": ("λ", "ArrowRight"), "sigma": ("σ", "ArrowLeft")})
    lab.screenshot("notebook_03_gas")
    net = panel(lab, cells.index("live-network"))
    use(net, {"eta": ("η", "ArrowLeft"), "lam": ("λ", "ArrowRight"), "batch": ("B", "ArrowRight")})
    lab.screenshot("notebook_03_network")
    for live in (gas, net):
        twin(live)
    assert lab.errors() == []


@pytest.mark.slow
def test_the_panel_of_notebook_04(lab, panel):
    """Neurons that go to the diagonal, and weight decay, with which theory leaves 0 and follows η."""
    live = panel(lab, run_until(lab, BALANCE, "live-balance"))
    first = live.look()["log_ratio"]
    assert "theory 0" in first
    use(live, {"batch": ("B", "ArrowRight")})
    live.keys("lam", *["PageUp"] * 20, "ArrowRight")  # from 0, which is below 1e-5
    live.until("now.lam === '0.001'")  # the last of these: a key on its way would turn the knob while it is read
    turn(live, "lam", "ArrowRight", "λ")
    turn(live, "eta", "ArrowRight", "η")
    live.press("run")
    live.until("+now.step > 5000")
    live.pause()
    assert abs(float(live.look()["log_ratio"].split()[0])) < abs(float(first.split()[0])) / 2
    lab.screenshot("notebook_04")
    twin(live)
    assert lab.errors() == []


@pytest.mark.slow
def test_the_panel_of_notebook_05(lab, panel):
    """Two networks whose layers align once there is noise: theory has lines only then, and the map changes."""
    live = panel(lab, run_until(lab, PLATO, "live-pair"))
    use(live, {"eta": ("η", "ArrowLeft"), "batch": ("B", "ArrowRight")})
    live.press("reset")
    live.until("now.step === '1'")
    before, heat = live.look()["cka"], live.look("drawn(0)")
    assert "theory" not in before
    live.keys("noise", *["ArrowRight"] * 50)
    live.until("now.noise === '1' && now.cka.includes('theory 1')")
    live.press("run")
    live.until("parseFloat(now.cka) > 0.9 && drawn(0) !== given", heat)
    assert float(before.split()[0]) < 0.7
    assert live.look("chart(0).querySelectorAll('rect').length") >= 36
    live.pause()
    lab.screenshot("notebook_05")
    twin(live)
    assert lab.errors() == []


@pytest.mark.slow
def test_the_panels_of_notebook_06(lab, panel):
    """Sharpness under a noise whose imbalance is turned; and at the edge of stability, which follows η."""
    cells = [cell.id for cell in nbformat.read(SHARPENING, as_version=4).cells]
    noise = panel(lab, run_until(lab, SHARPENING, "live-noise"))
    use(noise, {"eta": ("η", "ArrowLeft"), "batch": ("B", "ArrowRight"), "imbalance": ("ρ", "ArrowRight")})
    noise.press("run")
    noise.keys("imbalance", *["ArrowRight"] * 40)  # 0.8 decades
    noise.until("parseFloat(now.lambda_max) > 8 && now.lambda_max.includes('theory 1')")
    noise.pause()
    lab.screenshot("notebook_06_noise")
    lab.run_cell(cells.index("live-edge"))
    edge = panel(lab, cells.index("live-edge"))
    use(edge, {"eta": ("η", "ArrowRight")})
    edge.press("reset")
    edge.until("now.step === '1'")
    edge.press("run")
    edge.until("parseFloat(now.lambda_max) > 9.5 && now.lambda_max.includes('theory 10')")
    edge.keys("eta", *["ArrowRight"] * 10)
    edge.until("now.lambda_max.includes('theory ' + given) && parseFloat(now.lambda_max) < 7", rounded(2 / (0.2 * 10**0.2)))
    edge.pause()
    lab.screenshot("notebook_06_edge")
    for live in (noise, edge):
        twin(live)
    assert lab.errors() == []


def test_the_dark_theme(lab, panel):
    lab.open(v4.new_notebook(cells=[v4.new_code_cell(cell) for cell in (HEAD, GAS)]), theme="dark")
    lab.run_all()
    gas = panel(lab, 1)
    gas.run()
    gas.pause()
    lab.screenshot("panel_dark")
    assert gas.ugly() == []
    assert lab.errors() == []


# not its prompt: JupyterLab draws no cell that is below the window
MEASURING = "window.jupyterapp.shell.currentWidget.content.widgets[2].model.executionState"


def test_a_panel_is_used_while_a_cell_measures(lab, panel):
    lab.open(v4.new_notebook(cells=[v4.new_code_cell(cell) for cell in (HEAD, GAS, MEASURE)]))
    lab.run_all(wait=False)
    expect(lab.page.get_by_text("measuring", exact=True)).to_be_visible()
    gas = panel(lab, 1)
    gas.run()
    for k in range(1, 9):  # one after the other: the second is pressed when the first one has arrived
        gas.keys("eta", "ArrowRight")
        gas.shows(eta=rounded(0.03 * 10 ** (0.02 * k)))
    gas.keys("lam", *["ArrowRight"] * 8)  # and all at once
    gas.shows(lam=rounded(0.01 * 10**0.16))
    gas.goes_on()
    assert lab.page.evaluate(MEASURING) == "running"
    assert lab.errors() == []
    lab.interrupt()
    lab.page.wait_for_function(f"{MEASURING} !== 'running'")
    assert len(lab.errors()) == 1  # that of the interrupted cell
    assert "Interrupt" in lab.errors()[0] or "Cancelled" in lab.errors()[0]
    gas.goes_on()
    eta = gas.look()["eta"]
    gas.keys("eta", "ArrowLeft")
    gas.until("now.eta !== given", eta)
    gas.pause()
    assert lab.evaluate_in_kernel("print('found' in globals())") == "False"
    assert len(lab.errors()) == 1


def test_a_page_that_is_loaded_again_and_one_that_is_closed(lab, panel, server, tmp_path):
    lab.open(v4.new_notebook(cells=[v4.new_code_cell(cell) for cell in (HEAD, GAS)]))
    lab.run_all()
    gas = panel(lab, 1)
    gas.run()
    lab.page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
    saved = nbformat.read(Path(server["root_dir"]) / "notebook.ipynb", as_version=4)
    lab.open(saved)  # the page is loaded again, with the widgets that the kernel still has
    gas = panel(lab, 1)
    gas.goes_on()
    gas.pause()
    eta = gas.look()["eta"]
    gas.keys("eta", "ArrowRight")
    gas.until("now.eta !== given", eta)
    assert lab.errors() == []

    note = tmp_path / "state"
    watch = f"""
import asyncio, pathlib
widgets.PATIENCE = 2.0
async def watch():
    while "running" in running()[0]:
        await asyncio.sleep(0.1)
    widgets.PATIENCE = 30.0  # the page that comes back needs three seconds for its first answer, see echo.py
    pathlib.Path({str(note)!r}).write_text(*running())
watching = asyncio.get_running_loop().create_task(watch())
"""
    gas.run()
    lab.evaluate_in_kernel(watch)
    lab.page.goto("about:blank")
    deadline = time.monotonic() + SECONDS
    while not note.exists() and time.monotonic() < deadline:
        time.sleep(0.1)  # there is no page to wait with
    assert note.read_text().endswith(": paused")
    lab.open(saved)
    gas = panel(lab, 1)
    expect(gas.status).to_contain_text("it paused while nobody looked")
    gas.goes_on()
    assert lab.errors() == []
