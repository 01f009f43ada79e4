"""What a student wrote and did: predictions are checked at once, and a notebook that is opened again shows what was left."""

import json
from pathlib import Path

from nbformat import v4
from playwright.sync_api import expect

HEAD = """\
from types import SimpleNamespace
from tqdm.auto import tqdm
from thermolab.lab import answers
from thermolab.lab.live import Lines, panel
from thermolab.feedback import Question
from thermolab.phenomena.ideal_gas import exercises, live
way = Question("|w| will", "grow", "which way does a step go?", options=("grow", "stay"))
mine = answers.Answers("03_ideal_gas")
setup = SimpleNamespace(seed=0, device="cpu", live="auto")
"""
ASK = 'mine.predict(exercises.PREDICTIONS | {"way": way})'
BAR = "for _ in tqdm(range(3)): pass"
GAS = 'await panel({"gas": (live.ISOTROPIC, {})}, [Lines("T", "r")], setup, speed=1000, alt="a gas")'
COMPARE = "mine.compare()"


def test_predictions_are_kept_and_a_reopened_notebook_has_pictures(lab, server, panel):
    lab.open(v4.new_notebook(cells=[v4.new_code_cell(cell) for cell in (HEAD, ASK, BAR, GAS, COMPARE)]))
    lab.run_all()
    asked, bar, moved, compared = (
        lab.page.locator(f".jp-Cell[data-windowed-list-index='{i}'] .jp-OutputArea") for i in range(1, 5)
    )
    expect(compared).to_contain_text("T: not predicted")
    temperature = asked.get_by_label("T", exact=True)
    temperature.fill("0.0315")
    temperature.press("Enter")
    expect(asked.get_by_role("status").first).to_have_text(
        "✗ off by a factor of 2.1, too large: is your σ² that of one component, and where is the ½?"
    )
    temperature.fill("3/200")
    temperature.press("Tab")
    expect(asked.get_by_role("status").first).to_have_text("✓ so it is")
    asked.get_by_label("|w| will").select_option("stay")
    expect(asked.get_by_role("status").last).to_have_text("✗ which way does a step go?")
    lab.screenshot("predictions")
    kept = json.loads((Path(server["root_dir"]) / "answers" / "03_ideal_gas.json").read_text())["attempts"]
    assert [attempt["given"] for attempt in kept] == ["0.0315", "3/200", "stay"]

    gas = panel(lab, 3)
    gas.press("run")
    gas.goes_on()
    gas.press("pause")
    expect(moved.locator(".tl-left img")).to_have_count(1)
    expect(moved.locator(".tl-left img")).to_be_hidden()
    lab.reopen()
    expect(asked).to_have_text("Run this cell to see what you predicted.")
    expect(bar.locator(".jp-OutputArea-output")).to_have_count(0)
    expect(moved).to_contain_text("Run this cell to go on.")
    expect(moved.locator(".tl-left img")).to_be_visible()
    expect(lab.page.get_by_text("Error displaying widget")).to_have_count(0)
    lab.screenshot("reopened")

    lab.run_all()
    expect(temperature).to_have_value("3/200")
    expect(compared).to_contain_text("|w| will: you said stay, the answer is grow; ✗ which way does a step go?")
    assert lab.errors() == []
