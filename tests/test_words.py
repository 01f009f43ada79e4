"""The catalogues: German is whole for notebook 03, and what is translated can be undone."""

import copy
import re
from pathlib import Path

import nbformat
import pytest

from thermolab import claims, words
from thermolab.lab import tables
from thermolab.phenomena.ideal_gas import exercises

IDEAL_GAS = Path(__file__).parents[1] / "notebooks" / "03_ideal_gas.ipynb"
UNTOUCHED = re.compile(r"\$\$.*\$\$|</details>", re.DOTALL)  # formulas alone, ends of what is folded


@pytest.fixture
def german(monkeypatch):
    monkeypatch.setenv("THERMOLAB_LANGUAGE", "de")


def paragraphs(notebook):
    return [part for cell in notebook.cells if cell.cell_type == "markdown" for part in cell.source.split("\n\n")]


def test_notebook_03_is_whole_in_german_and_comes_back_as_it_was(german):
    before = nbformat.read(IDEAL_GAS, as_version=4)
    words.translate(after := copy.deepcopy(before))
    pairs = list(zip(paragraphs(before), paragraphs(after), strict=True))
    same = [english for english, other in pairs if english == other and not UNTOUCHED.fullmatch(english)]
    assert len(same) <= 0.1 * len(pairs), same  # a paragraph that was just written may wait for its translation
    words.restore(after)
    assert after == before


def test_what_was_edited_meanwhile_stays_as_it_was_written(german):
    notebook = {
        "cells": [{"cell_type": "markdown", "source": "## The idea\n\nMine."}, {"cell_type": "code", "source": "## The idea"}]
    }
    words.translate(notebook)
    assert [cell["source"] for cell in notebook["cells"]] == ["## Die Idee\n\nMine.", "## The idea"]
    notebook["cells"][0]["source"] += "\n\nMehr."
    words.restore(notebook)
    assert notebook["cells"][0]["source"] == "## The idea\n\nMine.\n\nMehr."


def test_a_translation_keeps_formulas_code_and_links():
    for english, other in words.catalogue("de").items():
        if "$" in english or "`" in english:
            assert english.count("$") == other.count("$"), english
        for pattern in (r"`[^`]+`", r"\]\([^)]+\)", r"\{[^ {}]*\}(?!\$)"):
            if not ("$" in english and pattern.startswith(r"\{")):
                assert sorted(re.findall(pattern, english)) == sorted(re.findall(pattern, other)), english


def test_no_two_texts_have_one_translation():
    found = list(words.catalogue("de").values())
    assert sorted(found) == sorted(set(found))


def test_answers_and_verdicts_are_told_in_german(german):
    assert repr(exercises.PREDICTIONS["temperature"].check("3/200")) == "✓ so ist es"
    assert "um einen Faktor 2 daneben, zu groß: ist dein σ²" in repr(exercises.PREDICTIONS["temperature"].check(0.03))
    good, bad = claims.Check(1.0, 1.0, 0.1), claims.Check(2.0, 1.0, 0.1)
    decided = [claims.Result(claim, good, "", bad, 3) for claim in claims.section("03_ideal_gas").values()]
    html = tables.numbers(decided).data
    assert "✓ gilt · Im Modell mit isotropem Rauschen" in html
    assert "<dt>gemessen</dt>" in html


def test_a_language_without_a_catalogue_is_refused_in_one_line(monkeypatch):
    monkeypatch.setenv("THERMOLAB_LANGUAGE", "la")
    with pytest.raises(ValueError, match=r"^THERMOLAB_LANGUAGE='la' has no catalogue; allowed: en, de$"):
        words.language()


def test_english_needs_no_catalogue():
    assert words._("holds") == "holds"
