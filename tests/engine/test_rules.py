"""What a setting may be, beside what recipes and notebooks show of it: the rules that are bound to others."""

from typing import Literal

import numpy as np
import pytest

from thermolab.engine import rules
from thermolab.engine.rules import Count, Positive


def test_a_list_may_be_an_array_and_comes_back_as_plain_numbers():
    rule = rules.several(rules.number(0, 2), 2, 3)
    assert rule("x", np.array([0.5, 1.0])) == (0.5, 1.0)
    with pytest.raises(ValueError, match=r"^x=\[3.0, 1.0\] is out of range; allowed: a list of 2 to 3, each a"):
        rule("x", np.array([3.0, 1.0]))
    with pytest.raises(ValueError, match="has a length that is out of range"):
        rule("x", [1])


@pytest.mark.parametrize("value", [0.1, 3])
def test_a_number_for_a_list_is_told_how_the_list_is_written(value):
    with pytest.raises(ValueError, match=rf"^rates={value} is not a list, as \[{value}\] is; allowed: a list of 1 or more"):
        rules.several(rules.positive())("rates", value)


@pytest.mark.parametrize(
    ("hint", "allowed"),
    [
        (Positive | None, "a positive number"),
        (None | Count, "a whole number, 1 or more"),
        (Literal["a", "b"] | None, "one of a, b"),
    ],
)
def test_a_rule_beside_none_is_found(hint, allowed):
    def measure(x=None): ...

    measure.__annotations__["x"] = hint
    assert rules.rules_of(measure)["x"].allowed == allowed
    measure.__annotations__["x"] = hint | Positive | Count
    with pytest.raises(TypeError, match=r"^x of [^\n]*measure has [23] rules; allowed: one, beside None$"):
        rules.rules_of(measure)


def test_settings_bound_to_each_other_are_refused_by_name():
    rules.multiple(4, "logs", steps=12)
    with pytest.raises(ValueError, match=r"^steps=10 is not divisible; allowed: a multiple of logs=4$"):
        rules.multiple(4, "logs", steps=10)


def test_none_stands_for_a_default_that_the_recipe_fills_in():
    assert rules.checked({"eta": rules.positive()}, {"eta": None, "steps": 3}) == {"eta": None, "steps": 3}


@pytest.mark.parametrize("value", [0, -1.0, np.inf, np.nan, True, "1"])
def test_a_positive_number_is_finite_and_above_zero(value):
    with pytest.raises(ValueError, match="allowed: a positive number"):
        rules.positive()("eta", value)


@pytest.mark.parametrize(("value", "fits"), [(0, True), (0.5, True), (-1e-9, False), (np.inf, False)])
def test_zero_is_not_negative(value, fits):
    if fits:
        assert rules.not_negative()("lam", value) == value
    else:
        with pytest.raises(ValueError, match="allowed: 0 or a positive number"):
            rules.not_negative()("lam", value)


def test_a_choice_or_the_function_of_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").touch()
    rule = rules.choice_or_function("mlp", "cnn")
    assert rule("network", "cnn") == "cnn"
    assert rule("network", "mine.py:make") == f"{tmp_path / 'mine.py'}:make"
    assert rule("network", rule("network", "mine.py:make")) == f"{tmp_path / 'mine.py'}:make"
    for wrong, said in (("rnn", "is unknown"), ("mine.txt:make", "is unknown"), ("mine.py:a b", "is unknown"), (3, "is unknown")):
        with pytest.raises(ValueError, match=rf"{said}; allowed: one of mlp, cnn, or FILE\.py:FUNCTION"):
            rule("network", wrong)
    with pytest.raises(ValueError, match=r"names no file: other\.py is not there"):
        rule("network", "other.py:make")
