"""JupyterLab with a browser in front of it, for the browser tests and the benchmark of the live panels.

Needs playwright and a chromium of the system; nothing else of thermolab imports this.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import nbformat

from thermolab.lab.start import JUPYTER, ROOT

SCREENSHOTS = ROOT / "build" / "screenshots"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WINDOW = {"width": 1280, "height": 800}  # a small laptop's
SECONDS = 60  # for whatever is waited for: the machine may be busy
_SANDBOX = ["--no-sandbox", "--disable-gpu"]  # as root in a container, without a graphics card
_QUIET = ["quic", "background-networking", "component-update", "sync"]
ARGUMENTS = [*_SANDBOX, "--no-first-run", *(f"--disable-{name}" for name in _QUIET)]  # chromium asks nothing of the network
LAUNCH = {"executable_path": CHROMIUM, "headless": True, "args": ARGUMENTS}


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[dict]:
    """JupyterLab on a free port, with settings and folders of its own in `folder`: yields a dict with url, token and root_dir."""
    (folder / "notebooks").mkdir()
    variables = {name: text for name, text in os.environ.items() if not name.startswith(("JUPYTER", "JPY", "THERMOLAB"))}
    variables |= {f"JUPYTER_{kind}_DIR": str(folder / kind) for kind in ("CONFIG", "DATA", "RUNTIME")}
    variables["JUPYTER_CONFIG_PATH"] = str(JUPYTER)  # the settings that `make lab` has
    variables |= {"IPYTHONDIR": str(folder / "ipython"), "THERMOLAB_PRESET": "smoke", "THERMOLAB_OUT": str(folder / "out")}
    variables["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), variables.get("PYTHONPATH")]))
    options = ["--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1", "--ServerApp.port=0"]
    options += [f"--ServerApp.root_dir={folder / 'notebooks'}", "--LabApp.expose_app_in_browser=True"]
    with (folder / "log").open("w") as log:
        command = [sys.executable, "-m", "jupyterlab", *options]
        process = subprocess.Popen(command, env=variables, stdout=log, stderr=log, start_new_session=True)
    try:
        yield _listening(process, folder)
    finally:
        _end(process)


def _listening(process, folder):
    """What a server writes about itself, as soon as it answers."""
    deadline = time.monotonic() + SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError):  # nothing or half of it written, or nobody listening yet
            server = json.loads((folder / "RUNTIME" / f"jpserver-{process.pid}.json").read_text())
            _rest(server, "status")
            return server
        time.sleep(0.1)
    raise RuntimeError(f"JupyterLab does not answer. It says:\n{(folder / 'log').read_text()}")


def _end(process):
    """Ends a process and what it started: politely first, for a server then ends its kernels, which are in other groups."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(SECONDS)


def _rest(server, path, method="GET"):
    """One call of the server's REST API, past any proxy."""
    headers = {"Authorization": f"token {server['token']}"}
    request = urllib.request.Request(f"{server['url']}api/{path}", method=method, headers=headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=SECONDS) as answer:
        return json.loads(answer.read() or "null")


class Lab:
    """One notebook in JupyterLab; `page` is Playwright's, for everything that is not here."""

    def __init__(self, server, page):
        self.page, self._server, self._page_errors = page, server, []
        page.set_default_timeout(1000 * SECONDS)
        page.on("pageerror", lambda error: self._page_errors.append(f"{error.name}: {error.message}"))

    def open(self, notebook, theme="light"):
        """Opens a copy of a notebook, given as a path or by nbformat, and waits for its kernel, the old one if opened again."""
        name = "notebook.ipynb"
        if not isinstance(notebook, nbformat.NotebookNode):
            name, notebook = Path(notebook).name, nbformat.read(notebook, as_version=4)
        notebook.metadata.setdefault("kernelspec", {"name": "python3", "display_name": "Python 3"})  # or JupyterLab asks
        nbformat.write(notebook, Path(self._server["root_dir"]) / name)
        self._show(name, theme)

    def reopen(self):
        """Saves the notebook, ends its kernel, and opens it once more with a new one."""
        name = self._run("await app.commands.execute('docmanager:save'); return panel.context.path")
        self._end_kernels()
        self._show(name)

    def _show(self, name, theme="light"):
        # Reset, for JupyterLab would also open what the test before had open.
        self.page.goto(f"{self._server['url']}lab/tree/{name}?reset&token={self._server['token']}")
        self.page.wait_for_selector(".jp-NotebookPanel")
        self._run(READY, f"JupyterLab {theme.capitalize()}")
        self.page.wait_for_selector(f"body[data-jp-theme-light={'true' if theme == 'light' else 'false'}]", state="attached")

    def run_all(self, wait=True):
        """Runs all cells; with wait=False it returns as soon as they are on their way."""
        self._run("const done = app.commands.execute('notebook:run-all-cells'); if (given) await done", wait)

    def run_cell(self, index):
        """Runs one cell to its end, counted from 0 and with the Markdown cells."""
        self._run("panel.content.activeCellIndex = given; await app.commands.execute('notebook:run-cell')", index)

    def scroll_to(self, index):
        """Brings a cell to the top of the window, counted as by run_cell."""
        self._run("await panel.content.scrollToItem(given, 'start')", index)

    def evaluate_in_kernel(self, code):
        """What the code prints in the notebook's kernel, stripped; it waits for a running cell, and raises what the code does."""
        return self._run(EVALUATE, code).strip()

    def interrupt(self):
        """Interrupts the kernel, as the stop button does."""
        self._run("await kernel.interrupt()")

    def errors(self):
        """Exceptions, texts on stderr and the page's own errors since the opening, those of widgets' callbacks included."""
        pieces = groupby(self._run("return window.tlErrors"), key=itemgetter(0))  # a busy kernel sends a line in pieces
        texts = ["".join(text for _, text in group).strip() for _, group in pieces]
        # JupyterLab asks a kernel for its widgets before ipywidgets is imported, and this is the answer.
        return [text for text in texts if not text.startswith("No such comm")] + self._page_errors

    def screenshot(self, name):
        """Saves the window as build/screenshots/<name>.png and returns the path."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png")
        return SCREENSHOTS / f"{name}.png"

    def close(self):
        """Closes the window and ends all kernels of the server."""
        self.page.close()  # before its kernel goes, or JupyterLab asks what to do about that
        self._end_kernels()

    def _end_kernels(self):
        for kernel in _rest(self._server, "kernels"):
            _rest(self._server, f"kernels/{kernel['id']}", "DELETE")

    def _run(self, script, given=None):
        return self.page.evaluate(f"async given => {{ {NAMES} {script} }}", given)


NAMES = "const app = window.jupyterapp, panel = app.shell.currentWidget, kernel = panel.sessionContext?.session?.kernel;"

# The session's signal has what no cell shows: an exception in a callback goes to JupyterLab's log alone.
READY = """
await app.restored;
const notebook = app.shell.currentWidget, session = notebook.sessionContext;
await notebook.context.ready;
await session.ready;
await session.session.kernel.info;
window.tlErrors = [];  // pairs of what belongs together and a text
session.iopubMessage.connect((_, {header, parent_header, content}) => {
    if (header.msg_type === 'error') window.tlErrors.push([header.msg_id, `${content.ename}: ${content.evalue}`]);
    if (header.msg_type === 'stream' && content.name === 'stderr') window.tlErrors.push([parent_header.msg_id, content.text]);
});
app.shell.collapseLeft();
await app.commands.execute('apputils:change-theme', {theme: given});
"""

EVALUATE = """
let content, printed = '';
do {
    const future = kernel.requestExecute({code: given, store_history: false});
    future.onIOPub = ({header, content}) => {
        if (header.msg_type === 'stream' && content.name === 'stdout') printed += content.text;
    };
    content = (await future.done).content;
} while (content.status === 'aborted');  // as all that is sent right after an error or an interrupt
if (content.status !== 'ok') throw new Error(`${content.ename}: ${content.evalue}`);
return printed;
"""
