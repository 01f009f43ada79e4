"""What a hand does to a panel: numbers written, keys pressed, goals, undo, a page that is hidden, a second panel, a rule."""

import re

import pytest
from nbformat import v4
from playwright.sync_api import expect

from thermolab.lab import browser as jupyter

HEAD = """\
from types import SimpleNamespace
from thermolab.lab.live import Goal, HeatMap, Lines, Scatter, Sphere, panel, running, with_rule
from thermolab.phenomena.cooling.live import IMAGES
from thermolab.phenomena.ideal_gas.live import ISOTROPIC
from thermolab.phenomena.temperature_collapse.live import POINTS
setup = SimpleNamespace(seed=0, device="cpu", live="auto")
few = {"replicas": 32}
"""
GAS = """\
goals = [Goal("bring T down to 1 or below", "T", 1.0, fixed=("eta",), way="at most")]
views = [Lines("T", "r"), Scatter("across", "along", equal=True)]
await panel({"gas": (ISOTROPIC, few)}, views, setup, goals=goals, speed=100, steps=90, alt="a gas")
"""
POINT = """await panel({"points": (POINTS, few)}, [Sphere()], setup, speed=100, steps=90, alt="points")"""
RULE = """\
def step(w, g, eta, lam):
    return w - eta * (g + lam * w) if eta.max() < 0.3 else None
arms = {"package": (IMAGES, {"width": 8}), "your rule": (with_rule(IMAGES, step), {"width": 8})}
await panel(arms, [Lines("U")], setup, speed=100, steps=30, alt="two rules")
"""
CELLS = [HEAD, GAS, POINT, RULE]


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


def written(panel, knob, text):
    """Writes into a knob's field, and leaves it by Enter."""
    field = panel.box.locator(f".tl-{knob} input[type=text]")
    field.fill(text)
    field.press("Enter")
    return field


def hidden(page, yes):
    """The page says that it is hidden, as when another tab is in front."""
    page.evaluate(
        """yes => {
            Object.defineProperty(document, 'hidden', {configurable: true, get: () => yes});
            document.dispatchEvent(new Event('visibilitychange'));
        }""",
        yes,
    )


def test_numbers_keys_names_goals_and_undo(lab, panel):
    gas = panel(lab, CELLS.index(GAS))
    goals = gas.box.locator(".tl-goals")
    assert goals.bounding_box()["y"] < gas.charts.bounding_box()["y"]
    for knob, name, text, shown in (
        ("eta", "learning rate η", "0.26", "0.26"), ("lam", "weight decay λ", "0,02", "0.02"),
        ("sigma", "noise σ", "1/2", "0.5"), ("dim", "dimension D", "7", "7"), ("lam", "weight decay λ", "0", "0"),
    ):  # fmt: skip
        field = written(gas, knob, text)
        gas.shows(**{knob: shown})
        expect(field).to_have_value(text)
        handle = gas.box.locator(f".tl-{knob} .noUi-handle")
        expect(handle).to_have_attribute("aria-label", name)
        expect(handle).to_have_attribute("aria-valuetext", shown)
        assert gas.page.get_by_label(name, exact=True).count() >= 2  # the field and the handle
    speed = gas.box.locator(".tl-speed .noUi-handle")
    expect(speed).to_have_attribute("aria-label", "speed (steps/s)")
    expect(speed).to_have_attribute("aria-valuetext", "100")
    expect(goals).to_contain_text("not while η is 0.26: it began at 0.03")
    written(gas, "eta", "7")
    expect(gas.status).to_have_text("eta=7.0 is not allowed; allowed: a number from 0.0001 to 1")
    expect(gas.box.locator(".tl-eta input[type=text]")).to_have_value("0.26")
    gas.keys("eta", "ArrowRight")
    gas.until("now.eta !== '0.26'")
    expect(gas.box.locator(".tl-eta .noUi-handle")).to_have_attribute("aria-valuetext", re.compile(r"^0\.2[67]\d*$"))
    gas.press("undo")
    gas.shows(eta="0.26")
    expect(gas.box.locator(".tl-eta input[type=text]")).to_have_value("0.26")
    lab.screenshot("panel_written")
    gas.press("reset")
    gas.shows(eta="0.03", lam="0.01", dim="3")
    gas.box.locator(".tl-run").focus()
    gas.page.keyboard.press("Enter")
    gas.goes_on()
    assert gas.page.evaluate("document.activeElement.className").count("tl-run") == 1  # the focus stays
    expect(gas.box.locator(".tl-run")).to_have_attribute("aria-disabled", "true")
    gas.until("panel.goals.startsWith('✓ reached')")
    expect(goals.locator(".tl-met")).to_have_count(1)
    lab.screenshot("panel_goal")
    gas.pause()
    assert gas.ugly() == []
    assert lab.errors() == []


def test_circles_are_round_and_charts_fill_the_width(lab, panel):
    gas, points = panel(lab, CELLS.index(GAS)), CELLS.index(POINT)
    row, last = gas.charts.bounding_box(), gas.charts.locator(".bqplot").last.bounding_box()
    assert abs(last["x"] + last["width"] - row["x"] - row["width"]) < 6
    ground = "chart(2).closest('.bqplot').querySelector('.plotarea_background').getBoundingClientRect()"
    across, up = gas.look(f"(b => [b.width, b.height])({ground})")
    assert abs(across / up - 1) < 0.02
    sphere = panel(lab, points)
    ring = sphere.look("lines(0, 'rgb(153, 153, 153)')[0].match(/[-\\d.]+/g).map(Number)")
    across, up = ring[::2], ring[1::2]
    assert abs((max(across) - min(across)) / (max(up) - min(up)) - 1) < 0.02
    lab.screenshot("panel_sphere")


def test_a_hidden_page_rests_and_a_second_panel_pauses_the_first(lab, panel):
    gas = panel(lab, CELLS.index(GAS))
    gas.run()
    gas.page.wait_for_timeout(2100)  # page.js speaks to the kernel no sooner
    hidden(gas.page, True)
    expect(gas.status).to_contain_text("nobody looks at this page")
    assert "1: paused" in lab.evaluate_in_kernel("print(*['1: ' + text.split(': ')[-1] for text in running()][:1])")
    hidden(gas.page, False)
    expect(gas.status).to_contain_text("it paused while nobody looked")
    gas.goes_on()
    points = panel(lab, CELLS.index(POINT))
    points.run()
    gas = panel(lab, CELLS.index(GAS))
    expect(gas.status).to_contain_text("paused: another panel was started")
    gas.box.locator(".tl-beside input").check()
    gas.run()
    points = panel(lab, CELLS.index(POINT))
    points.goes_on()
    points.pause()
    panel(lab, CELLS.index(GAS)).pause()
    assert lab.errors() == []


def test_kept_states_and_files(lab, panel):
    gas = panel(lab, CELLS.index(GAS))
    first = gas.look()["step"]
    gas.press("step")
    gas.until("now.step !== given", first)
    expect(gas.status).to_have_text("paused; press Run")
    gas.press("keep")
    expect(gas.status).to_contain_text("is kept")
    step = gas.look()["step"]
    gas.press("step")
    gas.until("now.step !== given", step)
    gas.box.locator(".tl-back select").select_option(index=1)
    gas.shows(step=step)
    gas.press("save")
    for kind, start in (("picture", b"\x89PNG"), ("data", b"experiment,step,")):
        with gas.page.expect_download() as download:
            gas.box.locator(f"a.tl-{kind}").click()
        with open(download.value.path(), "rb") as file:
            assert file.read(16).startswith(start)
    assert lab.errors() == []


def test_your_rule_beside_the_packages(lab, panel):
    both = panel(lab, CELLS.index(RULE))
    both.run()
    both.until("+now.step > 20")
    both.pause()
    package, yours = (float(arm["U"].split()[0]) for arm in both.look("arms"))
    assert abs(yours / package - 1) < 0.05  # the same noise
    both.press("log")
    expect(both.status).to_contain_text("no log of your rule: a log can name no function of yours")
    lab.screenshot("panel_rule")
    written(both, "eta", "0.5")
    both.press("run")
    expect(both.status).to_contain_text("your step returned NoneType; allowed: the new weights, shape [1, ")
    assert lab.errors() == []
