"""The languages of the labs: one gettext catalogue for each, `thermolab/locale/LANGUAGE.po`, chosen by THERMOLAB_LANGUAGE.

What a catalogue does not have stays English. Prose is translated by paragraphs, so that an edit costs one of them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path

LOCALE = Path(__file__).parent / "locale"
ENGLISH = "en"


def languages() -> tuple[str, ...]:
    """English, and the languages of which there is a catalogue."""
    return ENGLISH, *sorted(path.stem for path in LOCALE.glob("*.po"))


def language() -> str:
    """THERMOLAB_LANGUAGE, English unless it is set. Raises ValueError, one line, for one without a catalogue."""
    name = os.environ.get("THERMOLAB_LANGUAGE") or ENGLISH
    if name not in languages():
        raise ValueError(f"THERMOLAB_LANGUAGE={name!r} has no catalogue; allowed: {', '.join(languages())}")
    return name


def _(text: str) -> str:
    """A text in the language that is asked for, as it is where the catalogue does not have it."""
    return catalogue(language()).get(text, text)


def translate(notebook: dict) -> None:
    """Put the prose of a notebook into the language that is asked for, in place."""
    _change(notebook, catalogue(language()))


def restore(notebook: dict) -> None:
    """Undo `translate`, in place; what was edited meanwhile stays as it was written."""
    _change(notebook, {text: english for english, text in catalogue(language()).items()})


@cache
def catalogue(name: str) -> Mapping[str, str]:
    """{English: translation} of a language."""
    if name == ENGLISH:
        return {}
    from babel.messages.pofile import read_po  # comes with JupyterLab; a batch job in English never needs it

    with open(LOCALE / f"{name}.po", "rb") as file:
        return {message.id: message.string for message in read_po(file) if message.id and message.string and not message.fuzzy}


def _change(notebook: dict, texts: Mapping[str, str]) -> None:
    if not texts:
        return
    for cell in notebook.get("cells", ()):
        if cell["cell_type"] == "markdown":
            whole = "".join(cell["source"])  # in a file a list of lines
            cell["source"] = "\n\n".join(texts.get(part, part) for part in whole.split("\n\n"))
