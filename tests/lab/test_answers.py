"""Predictions and attempts: asked for, checked at once, kept, and found again by the next kernel."""

import json
import threading

import ipywidgets
import pytest

from thermolab.feedback import Feedback, Question
from thermolab.lab import answers
from thermolab.phenomena.common.tasks import Task

QUESTIONS = {
    "temperature": Question("T", 0.015, "what is T?"),
    "way": Question("|w| will", "grow", "which way?", options=("grow", "stay"), names={"increase": "grow"}),
}


def check_number(number):
    return Feedback(number == 4, f"that is {number}", answered=number is not None)


def double(x):
    return 2 * x


@pytest.fixture
def shown(monkeypatch):
    rows = []
    monkeypatch.setattr(answers.saved, "show", lambda box, left: rows.extend(box.children))
    return rows


def asked(folder, live="off", **given):
    mine = answers.Answers("nb", live=live, folder=folder)
    mine.predict(QUESTIONS, **given)
    return mine


def test_without_widgets_the_values_are_checked_and_kept(tmp_path, capsys):
    mine = asked(tmp_path, temperature="0.03", way="grow")
    assert capsys.readouterr().out == "T: ✗ off by a factor of 2, too large: what is T?\n|w| will: ✓ so it is\n"
    kept = json.loads((tmp_path / "nb.json").read_text())
    assert kept["notebook"] == "nb"
    assert [(a["question"], a["given"], a["right"]) for a in kept["attempts"]] == [
        ("temperature", "0.03", False),
        ("way", "grow", True),
    ]
    mine.compare()
    assert capsys.readouterr().out.splitlines() == [
        "T: you said 0.03, the answer is 0.015; ✗ off by a factor of 2, too large: what is T?",
        "|w| will: you said grow, the answer is grow; ✓ so it is",
    ]


def test_two_kernels_that_write_at_once_lose_no_attempt(tmp_path):
    def write(kernel):
        for number in range(20):
            answers.Answers("nb", folder=tmp_path).check(check_number, f"{kernel}.{number}")

    kernels = [threading.Thread(target=write, args=(kernel,)) for kernel in range(2)]
    for kernel in kernels:
        kernel.start()
    for kernel in kernels:
        kernel.join()
    assert len(answers.Answers("nb", folder=tmp_path).kept()) == 40


def test_what_is_not_written_down_is_not_kept_and_not_told(tmp_path, capsys):
    mine = asked(tmp_path)
    mine.compare()
    assert capsys.readouterr().out.count("not ") == 4
    assert list(tmp_path.iterdir()) == []


def test_a_value_without_a_question_is_refused(tmp_path):
    with pytest.raises(TypeError, match="no prediction is called radius; there are temperature, way"):
        asked(tmp_path, radius=1)


def test_boxes_check_at_once_and_the_next_kernel_finds_what_was_said(tmp_path, shown):
    asked(tmp_path, live="on")
    number, choice = shown
    box, said = number.children
    assert said.value == '<span role="status"></span>'
    box.value = "1/2"
    assert "✗ off by a factor of 33, too large: what is T?" in said.value
    box.value = "0.015"
    assert "✓ so it is" in said.value
    choice.children[0].value = "stay"
    assert "which way?" in choice.children[1].value
    attempts = answers.Answers("nb", folder=tmp_path).kept()
    assert [a["given"] for a in attempts] == ["1/2", "0.015", "stay"]
    asked(tmp_path, live="on")
    assert [row.children[0].value for row in shown[2:]] == ["0.015", "stay"]
    assert "✓" in shown[2].children[1].value
    assert len(answers.Answers("nb", folder=tmp_path).kept()) == 3
    assert all(isinstance(row, ipywidgets.HBox) for row in shown)


def test_a_value_in_the_cell_comes_before_what_was_kept(tmp_path, shown):
    asked(tmp_path, live="on", temperature=1)
    asked(tmp_path, live="on", temperature=2, way="increase")
    assert [row.children[0].value for row in shown[2:]] == ["2", "grow"]


def test_a_batch_run_does_not_read_what_a_student_said(tmp_path, capsys):
    asked(tmp_path, temperature=1)
    asked(tmp_path)
    assert "T: … not written down" in capsys.readouterr().out


def test_attempts_at_exercises_are_kept_with_the_function_s_text(tmp_path, capsys):
    mine = answers.Answers("nb", folder=tmp_path)
    task = Task(double, lambda rng: {"one": (1.0,)}, {}, "doubled")
    mine.check(check_number, number=None)
    mine.check(task, lambda x: None)
    mine.check(check_number, number=3)
    mine.check(check_number, number=3)
    mine.check(check_number, number=4)
    mine.check(task, double)
    mine.check(task, None)
    said = capsys.readouterr().out.splitlines()
    assert [line[0] for line in said] == list("……✗✗✓✓…")
    assert [(a["question"], a["given"], a["right"]) for a in mine.kept()] == [
        ("check_number", {"number": 3}, False),
        ("check_number", {"number": 4}, True),
        ("double", "def double(x):\n    return 2 * x\n", True),
    ]


DAMAGED = ("", "{", "[]", '{"attempts": [3]}', '{"attempts": [{"given": 1}]}', '{"attempts": [{"given": 1, "question": []}]}')


@pytest.mark.parametrize("damage", [*DAMAGED, "[" * 100_000, "\xff"], ids=range(len(DAMAGED) + 2))
def test_a_damaged_file_is_set_aside_and_nothing_is_lost(tmp_path, capsys, damage):
    (tmp_path / "nb.json").write_bytes(damage.encode("latin-1"))
    mine = asked(tmp_path, temperature=0.015)
    assert "nb.json is damaged: it was renamed to" in capsys.readouterr().out
    (aside,) = tmp_path.glob("*.damaged")
    assert aside.read_bytes() == damage.encode("latin-1")
    assert [a["given"] for a in mine.kept()] == [0.015]


def test_where_nothing_can_be_written_the_answer_is_still_checked(tmp_path, capsys):
    (tmp_path / "answers").write_text("a file in the way")
    asked(tmp_path / "answers", temperature=0.015)
    assert "T: ✓ so it is (not kept: " in capsys.readouterr().out


def test_solutions_run_where_the_switch_says_so(monkeypatch):
    mine = answers.Answers("nb")
    for text, runs in (("1", True), ("0", False), ("", False)):
        monkeypatch.setenv("THERMOLAB_SOLUTIONS", text)
        assert mine.solutions is runs
    monkeypatch.delenv("THERMOLAB_SOLUTIONS")
    assert not mine.solutions
