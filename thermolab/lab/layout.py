"""Student and developer layout of a notebook in JupyterLab: text, panels and figures alone, or all of its code.

THERMOLAB_LAYOUT, which `thermolab lab --layout` sets, is the switch. The server folds code as it opens a notebook and unfolds it
as it saves, so that nothing of this is in a file, for git, papermill or nbval to see. In JupyterLab *View → Expand All Code*
shows everything for the moment.
"""

from __future__ import annotations

import os

from thermolab.lab.params import UserError

LAYOUTS = ("student", "developer")
OPEN = {"parameters", "student", "solution"}  # tags of cells that students read or write; a solution has its own fold


def asked_for() -> str:
    """THERMOLAB_LAYOUT, "student" unless it is set. Raises UserError, one line, for another word."""
    name = os.environ.get("THERMOLAB_LAYOUT") or LAYOUTS[0]
    if name not in LAYOUTS:
        raise UserError(f"THERMOLAB_LAYOUT={name!r} is no layout; allowed: {', '.join(LAYOUTS)}")
    return name


def fold(notebook: dict) -> None:
    """Hide the source of the code cells that are not for students, in place, and the list of ids that tests compare."""
    for cell in _machinery(notebook):
        hidden = cell["metadata"].setdefault("jupyter", {})
        hidden["source_hidden"] = True
        if "nbval-check-output" in cell["metadata"].get("tags", ()):
            hidden["outputs_hidden"] = True


def unfold(notebook: dict) -> None:
    """Undo `fold`, in place."""
    for cell in _machinery(notebook):
        hidden = cell["metadata"].get("jupyter", {})
        hidden.pop("source_hidden", None)
        hidden.pop("outputs_hidden", None)
        if not hidden:
            cell["metadata"].pop("jupyter", None)


def is_open(cell: dict) -> bool:
    """Whether a code cell is for students to read or write."""
    return bool(OPEN & {*cell["metadata"].get("tags", ())})


def _machinery(notebook: dict) -> list[dict]:
    return [cell for cell in notebook.get("cells", ()) if cell["cell_type"] == "code" and not is_open(cell)]
