"""What `make lab`, `make bench` and `make test` start, once everything is set up."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from thermolab import words
from thermolab.lab import layout as layouts
from thermolab.lab.params import UserError

ROOT = Path(__file__).parents[2]
START_PAGE = "/lab/tree/notebooks/README.md"
JUPYTER = Path(__file__).parent / "jupyter"  # has JupyterLab show Markdown rendered; a user's own settings go first


def lab(options: Sequence[str] = (), layout: str | None = None, language: str | None = None) -> int:
    """JupyterLab on the start page, on loopback with its token; a busy port makes it take the next one.

    layout: how much code is shown, see `layouts`; language: of the prose, see `words`; THERMOLAB_LAYOUT and THERMOLAB_LANGUAGE if
    they are not given. Raises UserError for one that is none.
    """
    _need("notebooks/README.md")
    layout, language = layout or layouts.asked_for(), language or os.environ.get("THERMOLAB_LANGUAGE") or words.ENGLISH
    if language not in words.languages():
        raise UserError(f"there is no catalogue of {language!r}; allowed: {', '.join(words.languages())}")
    root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []  # containers
    jupyter = ["jupyterlab", f"--ServerApp.root_dir={ROOT}", f"--LabApp.default_url={START_PAGE}"]
    config = os.pathsep.join(filter(None, [os.environ.get("JUPYTER_CONFIG_PATH"), str(JUPYTER)]))
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])  # for its terminals
    return _module(*jupyter, "--ServerApp.ip=localhost", *root, *options, JUPYTER_CONFIG_PATH=config, PATH=path,
                   THERMOLAB_LAYOUT=layout, THERMOLAB_LANGUAGE=language)  # fmt: skip


def bench(options: Sequence[str] = ()) -> int:
    """The speed ratios, as benchmarks/run.py measures them."""
    _need("benchmarks/run.py")
    return subprocess.call([sys.executable, str(ROOT / "benchmarks" / "run.py"), *options], cwd=ROOT)


def test(options: Sequence[str]) -> int:
    """Style first, for it takes a second, then all tests on two workers; a notebook stays with one of them."""
    _need("tests")
    style = _module("ruff", "check", ".")
    notebooks = ["--nbval-lax", "--nbval-current-env", "-n", "2", "--dist", "loadfile"]
    return style or _module("pytest", *notebooks, *options, THERMOLAB_SOLUTIONS="1")


def _module(*arguments: str, **variables: str) -> int:
    return subprocess.call([sys.executable, "-m", *arguments], cwd=ROOT, env={**os.environ, **variables})


def _need(path: str) -> None:
    if not (ROOT / path).exists():
        raise UserError(f"{path} is not there: this command works in a checkout of thermolab")
