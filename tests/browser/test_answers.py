"""Predictions as a student writes them down: boxes that answer at once, and are full again after a restart."""

import json
from pathlib import Path

from nbformat import v4
from playwright.sync_api import expect

HEAD = """\
from thermolab.lab import answers
from thermolab.phenomena.ideal_gas import exercises
"""
ASK = """\
mine = answers.Answers("03_ideal_gas")
mine.predict(exercises.PREDICTIONS | {"way": WAY})
"""
WAY = """\
from thermolab.phenomena.common.feedback import Question
WAY = Question("|w| will", "grow", "which way does a step go?", options=("grow", "stay"))
"""


def test_predictions_are_checked_at_once_and_found_again(lab, server):
    lab.open(v4.new_notebook(cells=[v4.new_code_cell(HEAD + WAY), v4.new_code_cell(ASK)]))
    lab.run_all()
    output = lab.page.locator(".jp-Cell[data-windowed-list-index='1'] .jp-OutputArea")
    temperature = output.get_by_label("T", exact=True)
    temperature.fill("0.0315")
    temperature.press("Enter")
    expect(output.get_by_role("status").first).to_have_text("✗ off by a factor of 2.1, too large: half of that: T = ½ η_eff σ²")
    temperature.fill("3/200")
    temperature.press("Tab")
    expect(output.get_by_role("status").first).to_have_text("✓ so it is")
    output.get_by_label("|w| will").select_option("stay")
    expect(output.get_by_role("status").last).to_have_text("✗ which way does a step go?")
    lab.screenshot("predictions_boxes")
    kept = json.loads((Path(server["root_dir"]) / "answers" / "03_ideal_gas.json").read_text())["attempts"]
    assert [attempt["given"] for attempt in kept] == ["0.0315", "3/200", "stay"]
    lab.page.reload()
    lab.open(v4.new_notebook(cells=[v4.new_code_cell(HEAD + WAY), v4.new_code_cell(ASK + "mine.compare()")]))
    lab.run_all()
    expect(temperature).to_have_value("3/200")
    expect(output).to_contain_text("|w| will: you said stay, theory grow; ✗ which way does a step go?")
    assert lab.errors() == []
