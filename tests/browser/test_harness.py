"""The fixtures of this folder do what the tests of live panels rely on."""

import pytest
from nbformat import v4
from playwright.sync_api import Error, expect

SLIDER = """\
import ipywidgets as widgets
eta = widgets.FloatLogSlider(value=0.01, min=-4, max=0)
eta.add_class("tl-eta")
eta
"""
READ_OUT = """\
shown = widgets.HTML(f"{eta.value:.6f}")
shown.add_class("tl-shown")
def show(change):
    shown.value = f"{change.new:.6f}"
eta.observe(show, "value")
shown
"""


def notebook(*cells):
    return v4.new_notebook(cells=[v4.new_code_cell(cell) for cell in cells])


def test_a_key_on_a_slider_reaches_the_kernel_and_comes_back(lab):
    lab.open(notebook(SLIDER, READ_OUT))
    lab.run_all()
    shown = lab.page.locator(".tl-shown .widget-html-content")
    expect(shown).to_have_text("0.010000")
    lab.page.locator(".tl-eta .noUi-handle").focus()
    lab.page.keyboard.press("ArrowRight")
    expect(shown).not_to_have_text("0.010000")
    assert float(shown.inner_text()) > 0.01
    assert float(lab.evaluate_in_kernel("print(eta.value)")) > 0.01
    assert lab.errors() == []
    assert lab.screenshot("harness").stat().st_size > 10_000


def test_errors_of_cells_callbacks_and_the_page_are_seen(lab):
    fails = "eta.observe(lambda change: 1 / 0, 'value')"
    lab.open(notebook(SLIDER, fails, "import sys; print('a warning', file=sys.stderr)", "raise ValueError('a cell')", "1"))
    lab.run_all()
    assert lab.errors() == ["a warning", "ValueError: a cell"]
    lab.page.locator(".tl-eta .noUi-handle").focus()
    lab.page.keyboard.press("ArrowRight")
    lab.page.wait_for_function("String(window.tlErrors).includes('division')")
    assert lab.errors()[2:] == ["ZeroDivisionError: division by zero"]
    with lab.page.expect_event("pageerror"):
        lab.page.evaluate("setTimeout(() => { throw new Error('a script') })")
    assert lab.errors()[3:] == ["Error: a script"]


def test_code_runs_in_the_kernel_of_the_notebook(lab):
    lab.open(notebook("import os; n = 2", "n = 3"))
    lab.run_cell(0)
    assert lab.evaluate_in_kernel("print(n); n = 5") == "2"
    assert lab.evaluate_in_kernel("print(n)") == "5"
    assert lab.evaluate_in_kernel("print(os.environ['JPY_SESSION_NAME'])").endswith("notebook.ipynb")
    assert lab.evaluate_in_kernel("import thermolab; print(os.environ['THERMOLAB_PRESET'])") == "smoke"
    with pytest.raises(Error, match="NameError: name 'nosuch'"):
        lab.evaluate_in_kernel("nosuch")


def test_a_running_cell_is_interrupted(lab):
    lab.open(notebook("print('here')\nimport asyncio; await asyncio.sleep(600)"))
    lab.run_all(wait=False)
    expect(lab.page.locator(".jp-OutputArea-output")).to_have_text("here")
    lab.interrupt()
    assert lab.evaluate_in_kernel("print(1 + 1)") == "2"


@pytest.mark.parametrize("theme", ["dark", "light"])  # in this order: a theme must not stay for the next test
def test_a_notebook_opens_in_a_theme_and_scrolls(lab, theme, tmp_path):
    lab.open(notebook(*["\n" * 30] * 20), theme=theme)
    assert lab.page.locator("body").get_attribute("data-jp-theme-light") == ("true" if theme == "light" else "false")
    lab.scroll_to(15)
    cell = lab.page.locator(".jp-Cell[data-windowed-list-index='15']")
    expect(cell).to_be_in_viewport()
    assert lab.page.evaluate("window.jupyterapp.shell.leftCollapsed")
