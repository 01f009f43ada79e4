"""JupyterLab with Debian's chromium in front of it: one server a worker, one browser a file, one kernel a test."""

from pathlib import Path

import pytest
from playwright.sync_api import TimeoutError, expect, sync_playwright

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
    const observables = [...rows[i + 1].children].map(cell => cell.textContent.match(/(\\w+)=(.*)/));
    arms.push({...Object.fromEntries([...knobs, ...observables].map(found => [found[1], found[2]]))});
    if (rate) arms.at(-1).rate = rate[1].replace(',', '');
}
const panel = {arms, status: text('status'), goals: text('goals')}, now = arms[0] ?? {};
const chart = i => box.querySelectorAll('.tl-chart .bqplot')[i]?.querySelector('.svg-figure');
const seen = (i, what) => [...chart(i).querySelectorAll(what)].filter(e => !e.closest('[style*="display: none"]'));
const drawn = i => seen(i, 'path, rect, .object_grp').map(
    e => (e.getAttribute('d') ?? '') + (e.getAttribute('transform') ?? '') + (e.style?.fill ?? '')).join();
const lines = (i, colour) => seen(i, '.line').filter(e => e.style.stroke === colour).map(e => e.getAttribute('d'));
"""

# Texts in the charts that run into each other, and those that do not stand out from their ground (contrast of WCAG AA).
UGLY = """(() => {
const light = colour => {
    const linear = c => c <= 0.04 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    const part = colour.match(/[\\d.]+/g).slice(0, 3).map(c => linear(c / 255));
    return 0.2126 * part[0] + 0.7152 * part[1] + 0.0722 * part[2];
};
const ground = e => {
    const own = getComputedStyle(e).backgroundColor;
    return own.match(/, 0\\)$/) && e.parentElement ? ground(e.parentElement) : own;
};
return [...box.querySelectorAll('.tl-chart .bqplot')].flatMap(figure => {
    const labels = [...figure.querySelectorAll('.svg-background text')].filter(e => e.textContent);
    const faint = labels.filter(e => {
        const [dark, bright] = [light(getComputedStyle(e).fill), light(ground(e.closest('svg')))].sort((a, b) => a - b);
        return (bright + 0.05) / (dark + 0.05) < 4.5;
    });
    const boxes = labels.map(e => [e.textContent, e.getBoundingClientRect()]);
    const meet = (a, b) => a.left + 2 < b.right && b.left + 2 < a.right && a.top + 2 < b.bottom && b.top + 2 < a.bottom;
    const over = boxes.flatMap(([one, a], i) =>
        boxes.slice(i + 1).filter(([_, b]) => meet(a, b)).map(([other]) => `${one} on ${other}`));
    return [...faint.map(e => `${e.textContent} is faint`), ...over];
});
})()"""


class LivePanel:
    """The live panel of a cell, as somebody uses it who looks at the page."""

    def __init__(self, lab, cell):
        self.lab, self.page, self.at = lab, lab.page, f".jp-Cell[data-windowed-list-index='{cell}'] .tl-panel"
        lab.scroll_to(cell)
        self.box = lab.page.locator(self.at)
        self.status, self.charts = self.box.locator(".tl-status"), self.box.locator(".tl-chart")
        self.box.wait_for()
        self.until("now.step && panel.status")

    def press(self, button):
        """Presses run, pause, step, reset or log."""
        self.box.locator(f".tl-{button}").click()

    def run(self):
        """Presses run, and the panel takes steps."""
        self.press("run")
        self.goes_on()

    def pause(self):
        """Presses pause, and the panel says so."""
        self.press("pause")
        expect(self.status).to_contain_text("paused")

    def keys(self, knob, *keys):
        """Presses keys, one after the other, on the handle of a slider."""
        self.box.locator(f".tl-{knob} .noUi-handle").focus()
        for key in keys:
            self.page.keyboard.press(key)

    def choose(self, knob, option):
        """Chooses in a drop-down menu."""
        self.box.locator(f".tl-{knob} select").select_option(option)

    def until(self, condition, given=None):
        """Waits until a JavaScript expression of PANEL's names and `given` is true, else fails with what the panel says."""
        try:
            self.page.wait_for_function(f"([at, given]) => {{ {PANEL} return {condition} }}", arg=[self.at, given])
        except TimeoutError:
            pytest.fail(f"not reached: {condition} with {given}; the panel: {self.look('panel')}")

    def look(self, expression="arms[0]", given=None):
        """The value of such an expression, by default the read-out of the first experiment as {name: text}."""
        return self.page.evaluate(f"([at, given]) => {{ {PANEL} return {expression} }}", [self.at, given])

    def ugly(self):
        """What is hard to read in the charts, see UGLY."""
        return self.look(UGLY)

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
