"""Notebooks on disk: what is left of widgets when their kernel is gone.

`thermolab lab` opens a notebook that has no kernel through `without_widgets` (see `contents`), so that it shows pictures and
text in place of "Error displaying widget: model not found".
"""

from __future__ import annotations

from IPython.display import display

WIDGET = "application/vnd.jupyter.widget-view+json"


def show(widget, left: str) -> None:
    """Display a widget; left: HTML, what a saved notebook shows in its place."""
    display(widget._repr_mimebundle_() | {"text/html": left}, raw=True)


def without_widgets(notebook: dict) -> None:
    """Take the widgets out of a notebook, in place.

    What a widget has for those who cannot show it (a picture, HTML) stays; one that has only its name, such as a finished
    progress bar, goes.
    """
    notebook.get("metadata", {}).pop("widgets", None)
    for cell in notebook.get("cells", ()):
        if "outputs" in cell:
            cell["outputs"] = [output for output in cell["outputs"] if _still(output)]


def _still(output: dict) -> bool:
    """Whether an output has something to show without its widget, which is taken out of it."""
    data = output.get("data", {})
    return data.pop(WIDGET, None) is None or bool(data.keys() - {"text/plain"})
