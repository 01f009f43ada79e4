"""The page as students get it: code is folded, verdicts link to figures, nothing needs a mouse, axe has nothing grave to say."""

import json
from pathlib import Path

import nbformat
import pytest
from markupsafe import Markup
from nbformat import v4
from playwright.sync_api import expect

from thermolab.lab import pages

ROOT = Path(__file__).parents[2]
FIRST = ("title", "imports", "parameters-text", "parameters", "check-parameters", "idea", "by-hand-text", "by-hand",
         "predict", "prediction", "live", "live-gas", "measure")  # fmt: skip
MEASURE = """\
import asyncio
async def quick(): return 1
async def slow(): await asyncio.sleep(2)
plan = {"a": quick, "b": slow}
for name in plan:
    await recipe.together(plan, name)
"""
FIGURE = """\
def energy_and_entropy():
    figure, axes = plots.panels(2)
    for ax in axes:
        ax.plot([0, 1], [0, 1])
    return plots.show(figure, "(a) A line. (b) Another one.")
energy_and_entropy()
"""
NUMBERS = """\
good, bad = claims.Check(1.0, 1.0, 0.1, 0.01), claims.Check(2.0, 1.0, 0.1, 0.01)
about = {"preset": setup.preset}
tables.numbers([claims.Result(c, good, "another arm", bad, 3, about) for c in claims.section("03_ideal_gas").values()])
"""


@pytest.fixture
def notebook():
    """Notebook 03 with the quickest of measurements."""
    whole = nbformat.read(ROOT / "notebooks" / "03_ideal_gas.ipynb", as_version=4)
    cells = {cell["id"]: cell for cell in whole.cells}
    made = [v4.new_code_cell(code) for code in (MEASURE, FIGURE, NUMBERS)]
    whole.cells = [*(cells[name] for name in FIRST), *made, cells["exercises"], cells["answers"]]
    return whole


def cell(lab, index):
    return lab.page.locator(f".jp-Cell[data-windowed-list-index='{index}']")


IMPORTS, PARAMETERS, PREDICTED, LIVE = (FIRST.index(name) for name in ("imports", "parameters", "prediction", "live-gas"))
MEASURED, DRAWN, DECIDED = range(len(FIRST), len(FIRST) + 3)


def test_a_notebook_is_done_by_keyboard_alone_and_its_verdicts_link_to_figures(lab, server, notebook):
    """One page for all, for opening it is what takes the time."""
    lab.open(notebook)
    asked, panel, keys = cell(lab, PREDICTED), cell(lab, LIVE), lab.page.keyboard
    for _ in range(LIVE + 1):  # the first cell has the focus
        keys.press("Shift+Enter")
    panel.locator(".tl-panel").wait_for()
    while lab._run("return panel.content.activeCellIndex") >= PREDICTED:
        keys.press("ArrowUp")  # to the text above the boxes; cells whose code is folded are passed over
    focus(lab, asked.get_by_label("T", exact=True))
    keys.type("3/200")
    keys.press("Tab")
    expect(asked.get_by_role("status").first).to_have_text("✓ so it is")
    for button, said in (("run", "running"), ("pause", "paused")):
        focus(lab, panel.locator(f".tl-{button}"))
        keys.press("Enter")
        expect(panel.locator(".tl-status")).to_contain_text(said)
    focus(lab, panel.locator(".tl-text"))
    keys.press("Enter")
    expect(panel.locator(".tl-table table")).to_contain_text("gas, measured")
    focus(lab, lab.page.get_by_text("Hint to 1"))
    keys.press("Enter")
    expect(lab.page.get_by_text("of each protocol into")).to_be_visible()
    assert lab.page.locator("details[open] > summary", has_text="Hint").count() == 1
    lab.screenshot("by keyboard")
    lab.scroll_to(LIVE)
    assert grave(lab.page, ".jp-Cell-outputWrapper") == []

    lab.run_all(wait=False)
    lab.scroll_to(MEASURED)
    expect(cell(lab, MEASURED)).to_contain_text("measuring: 50 % of all measurements")
    lab.run_all()
    lab.scroll_to(IMPORTS)
    expect(cell(lab, IMPORTS).locator(".jp-InputPlaceholder")).to_be_visible()
    expect(cell(lab, PARAMETERS).locator(".cm-content")).to_contain_text("preset: str")
    assert wide(lab) == []
    lab.scroll_to(DECIDED)
    assert wide(lab) == []
    assert grave(lab.page, ".jp-Cell-outputWrapper") == []
    lines = cell(lab, DECIDED).locator(".tl-claim")
    expect(lines.first.locator("dl")).to_be_hidden()
    assert lines.first.bounding_box()["height"] < 40  # one line
    lines.first.locator("summary").focus()
    keys.press("Enter")
    expect(lines.first.locator("dl")).to_contain_text("U over the von Mises-Fisher mean, less 1")
    lab.screenshot("verdicts")
    keys.press("Tab")
    keys.press("Enter")  # on the link
    expect(lab.page.locator("#figure-energy-and-entropy")).to_be_in_viewport()
    lab.screenshot("figure")
    lab._run("await app.commands.execute('docmanager:save')")
    saved = json.loads((Path(server["root_dir"]) / "notebook.ipynb").read_text())
    assert not [c for c in saved["cells"] if c["metadata"].get("jupyter")]
    assert lab.errors() == []


def focus(lab, target):
    """Presses Tab until the focus is there; a page of a hundred stops has lost it."""
    for _ in range(100):
        if target.evaluate("e => e.contains(document.activeElement) && document.activeElement !== document.body"):
            return
        lab.page.keyboard.press("Tab")
    pytest.fail(f"Tab does not lead to {target}")


def wide(lab):
    """What in the cells on the screen can be scrolled sideways."""
    return lab.page.evaluate("""() => [...document.querySelectorAll('.jp-Cell *')].filter(e =>
        e.scrollWidth > e.clientWidth + 1 && ['auto', 'scroll'].includes(getComputedStyle(e).overflowX) && e.clientWidth > 100
        ).map(e => e.className + ': ' + e.textContent.slice(0, 80))""")


def grave(page, *selectors):
    """What axe finds serious or critical, in these parts of the page (all of it if none is given)."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed").Axe()
    found = axe.run(page, context={"include": [[selector] for selector in selectors]} if selectors else None)
    return [
        f"{fault['id']}: {node['html'][:200]}"
        for fault in found.response["violations"]
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_has_nothing_grave_to_say_of_the_pages_of_the_book(page, scheme):
    page.emulate_media(color_scheme=scheme)
    for name in ("README.md", "PRIMER.md", "03_ideal_gas.ipynb"):
        body = Markup(pages.body(ROOT / "notebooks" / name))
        page.set_content(pages.page("page.html.j2", file="x.html", pages=[], title="A page", body=body, footer="a footer"))
        if switch := page.query_selector("#code"):
            switch.check()
        assert grave(page) == [], name
