"""The page as students get it: nothing needs a mouse, and axe has nothing grave to say of the book."""

from pathlib import Path

import nbformat
import pytest
from markupsafe import Markup
from playwright.sync_api import expect

from thermolab.lab import pages

ROOT = Path(__file__).parents[2]
FIRST = ("title", "imports", "parameters-text", "parameters", "check-parameters", "idea", "by-hand-text", "by-hand",
         "predict", "prediction", "live", "live-gas", "measure")  # fmt: skip


@pytest.fixture
def notebook():
    """Notebook 03 without its measurements."""
    whole = nbformat.read(ROOT / "notebooks" / "03_ideal_gas.ipynb", as_version=4)
    cells = {cell["id"]: cell for cell in whole.cells}
    whole.cells = [*(cells[name] for name in FIRST), cells["exercises"], cells["answers"]]
    return whole


def cell(lab, index):
    return lab.page.locator(f".jp-Cell[data-windowed-list-index='{index}']")


PREDICTED, LIVE = FIRST.index("prediction"), FIRST.index("live-gas")


def test_a_notebook_is_begun_by_keyboard_alone(lab, notebook):
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
    hint = lab.page.locator("summary", has_text="Hint to 1")
    focus(lab, hint)
    keys.press("Enter")
    expect(lab.page.locator("details[open] > summary", has_text="Hint")).to_have_count(1)
    lab.screenshot("by keyboard")
    assert lab.errors() == []


def focus(lab, target):
    """Presses Tab until the focus is there; a page of a hundred stops has lost it."""
    for _ in range(100):
        if target.evaluate("e => e.contains(document.activeElement) && document.activeElement !== document.body"):
            return
        lab.page.keyboard.press("Tab")
    pytest.fail(f"Tab does not lead to {target}")


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
