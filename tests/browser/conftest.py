"""JupyterLab with Debian's chromium in front of it: one server a worker, one browser a file, one kernel a test."""

from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from thermolab.lab import browser as jupyter


def pytest_collection_modifyitems(items):
    """Marks this folder's tests, for the hook is handed those of all folders."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.skipif(jupyter.CHROMIUM is None, reason="no chromium here: apt-get install chromium"))


@pytest.fixture(scope="session")
def browser_type_launch_args():
    """Debian's chromium."""
    return jupyter.LAUNCH


@pytest.fixture(scope="session")
def browser_context_args():
    """A small laptop's window."""
    return {"viewport": jupyter.WINDOW}


@pytest.fixture(scope="module")
def playwright():
    """Playwright for one file only: while it is there asyncio.run fails in this worker, and other folders' tests call it."""
    expect.set_options(timeout=1000 * jupyter.SECONDS)
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="module")
def browser(playwright, browser_type_launch_args):
    """A browser for one file, as playwright is; each test has a context of its own in it."""
    browser = playwright.chromium.launch(**browser_type_launch_args)
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """JupyterLab; see `jupyter.serve`."""
    with jupyter.serve(tmp_path_factory.mktemp("jupyter")) as server:
        yield server


@pytest.fixture
def lab(server, page):
    """JupyterLab in a fresh browser window; see `jupyter.Lab`."""
    lab = jupyter.Lab(server, page)
    yield lab
    lab.close()


# What a page says of the panel at a selector: {arms: the read-out, {name: text} for each experiment; status, goals: texts}.
PANEL = """
const box = document.querySelector(at), text = name => box.querySelector('.tl-' + name)?.textContent ?? '';
const rows = [...box.querySelectorAll('.tl-readout .widget-html-content > div > div')], arms = [];
for (let i = 0; i + 1 < rows.length; i += 2) {
    const knobs = rows[i].textContent.matchAll(/(\\w+)=(\\S+)/g), rate = rows[i].textContent.match(/([\\d,]+) steps.s/);
    const gauges = [...rows[i + 1].children].map(cell => cell.textContent.match(/(\\w+)=(.*)/));
    arms.push({...Object.fromEntries([...knobs, ...gauges].map(found => [found[1], found[2]]))});
    if (rate) arms.at(-1).rate = rate[1].replace(',', '');
}
const panel = {arms, status: text('status'), goals: text('goals')}, now = arms[0] ?? {};
const chart = i => box.querySelectorAll('.tl-chart .bqplot')[i].querySelector('.svg-figure');
const seen = (i, what) => [...chart(i).querySelectorAll(what)].filter(e => !e.closest('[style*="display: none"]'));
const drawn = i => seen(i, 'path, rect, .object_grp').map(
    e => (e.getAttribute('d') ?? '') + (e.getAttribute('transform') ?? '') + (e.style?.fill ?? '')).join();
const lines = (i, colour) => seen(i, '.line').filter(e => e.style.stroke === colour).map(e => e.getAttribute('d'));
"""


class LivePanel:
    """The live panel of a cell, as somebody uses it who looks at the page."""

    def __init__(self, lab, cell):
        self.lab, self.page, self.at = lab, lab.page, f".jp-Cell[data-windowed-list-index='{cell}'] .tl-panel"
        lab.scroll_to(cell)
        self.box = lab.page.locator(self.at)
        self.status, self.charts = self.box.locator(".tl-status"), self.box.locator(".tl-chart")
        self.until("now.step && panel.status")

    def press(self, button):
        """Presses run, pause, step, reset or log."""
        self.box.locator(f".tl-{button}").click()

    def keys(self, knob, *keys):
        """Presses keys, one after the other, on the handle of a slider."""
        self.box.locator(f".tl-{knob} .noUi-handle").focus()
        for key in keys:
            self.page.keyboard.press(key)

    def choose(self, knob, option):
        """Chooses in a drop-down menu."""
        self.box.locator(f".tl-{knob} select").select_option(option)

    def until(self, condition, given=None):
        """Waits until a JavaScript expression of PANEL's names and `given` is true."""
        self.page.wait_for_function(f"([at, given]) => {{ {PANEL} return {condition} }}", arg=[self.at, given])

    def look(self, expression="arms[0]", given=None):
        """The value of such an expression, by default the read-out of the first experiment as {name: text}."""
        return self.page.evaluate(f"([at, given]) => {{ {PANEL} return {expression} }}", [self.at, given])

    def goes_on(self):
        """Waits for further steps."""
        self.until("now.step > given + 3", int(self.look()["step"]))

    def shows(self, **values):
        """Waits until the read-out of every experiment shows these values."""
        wanted = {name: str(value) for name, value in values.items()}
        self.until("arms.every(arm => Object.entries(given).every(([name, value]) => arm[name] === value))", wanted)


@pytest.fixture
def panel():
    """panel(lab, cell) -> LivePanel; cells are counted as by run_cell."""
    return LivePanel
