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
