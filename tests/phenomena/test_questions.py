"""What is said to predictions and answers: right ones however they are written, mistakes with a question, junk in one line."""

import importlib
import inspect
import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from thermolab import claims
from thermolab.feedback import Question, as_number, as_numbers

MODULES = {name: importlib.import_module(f"thermolab.phenomena.{name}.exercises") for name in claims.phenomena().values()}
QUESTIONS = {f"{name}.{key}": question for name, module in MODULES.items() for key, question in module.PREDICTIONS.items()}
CHECKS = {
    f"{name}.{key}": check for name, module in MODULES.items() for key, check in vars(module).items() if key.startswith("check_")
}
JUNK = (True, math.nan, math.inf, -math.inf, "", "many", "1/0", "1,000", 1j, object(), {}, [], [1, [2]], np.ones(3), b"1", len)


def name_of(junk) -> str:
    """The same in all workers: no address."""
    return type(junk).__name__ if callable(junk) or type(junk) is object else repr(junk)


@pytest.mark.parametrize(
    ("given", "number"),
    [
        (0.5, 0.5),
        ("1/2", 0.5),
        (" −3/4 ", -0.75),
        ("2e-3", 0.002),
        (Fraction(1, 3), 1 / 3),
        (np.float32(0.25), 0.25),
        ([2], 2.0),
        (np.array([[7]]), 7.0),
        (torch.tensor(1.5, requires_grad=True), 1.5),
        (10**400, None),
        ("1e99999999", None),
        (np.datetime64("2026-01-01"), None),
        (None, None),
        *((junk, None) for junk in JUNK),
    ],
)
def test_the_number_that_is_meant(given, number):
    assert as_number(given) == number


def test_the_numbers_that_are_meant():
    assert as_numbers(["1/2", 2], (2,)).tolist() == [0.5, 2.0]
    assert as_numbers(torch.eye(2), (2, 2)).tolist() == [[1, 0], [0, 1]]
    for junk in (*JUNK, [1, None], [1, math.nan], [1, 2, 3], [[1, 2]], None, 1.0):
        assert as_numbers(junk, (2,)) is None


def test_each_notebook_has_two_predictions():
    assert all(len(module.PREDICTIONS) >= 2 for module in MODULES.values())


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
def test_the_answer_is_accepted_and_mistakes_get_a_question(question):
    answers = [
        question.answer,
        f" {question.answer} ",
        *(name for name, option in question.names.items() if option == question.answer),
    ]
    assert all(question.check(answer) for answer in answers)
    wrong = set(question.options) - {question.answer} if question.options else {3 * question.answer, -question.answer}
    for given in (*wrong, *question.hints):
        found = question.check(given)
        assert not found
        assert found.message.endswith(question.hints.get(given, question.hint))
        assert str(question.answer) not in found.message.replace(f"factor of {question.answer}", "").replace(str(given), "") or (
            question.answer in (1, 2)  # which stand in the words of a question
        )
    assert not question.check(None).answered
    assert not question.check(" ").answered


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
@pytest.mark.parametrize("junk", JUNK, ids=name_of)
def test_junk_is_no_prediction(question, junk):
    found = question.check(junk)
    assert not found
    assert "write" in found.message or not found.answered
    assert "\n" not in found.message


def test_how_far_off():
    question = Question("T", 0.015, "why?", {0.045: "a third of it"})
    assert question.check(0.0315).message == "off by a factor of 2.1, too large: why?"
    assert question.check("0.005").message == "off by a factor of 3, too small: why?"
    assert question.check(0.045).message == "off by a factor of 3, too large: a third of it"
    assert question.check(-0.015).message == "the sign is another: why?"
    assert question.check(0).message == "it is not 0: why?"
    assert question.check(0.0155)
    assert not question.check(0.0165)


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
@pytest.mark.parametrize("junk", [None, *JUNK], ids=name_of)
def test_junk_is_no_answer_to_an_exercise(check, junk):
    names = [name for name in inspect.signature(check).parameters if name != "seed"]
    found = check(**dict.fromkeys(names, junk))
    assert not found
    assert found.message
    assert "\n" not in found.message
