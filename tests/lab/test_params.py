import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thermolab.lab import params
from thermolab.lab.params import ParameterError

RULES = {
    "number": params.number(1e-5, 1.0),
    "integer": params.integer(2, 32),
    "power": params.power_of_two(4, 64),
    "choice": params.choice("elr", "lr"),
    "flag": params.flag(),
    "grid": params.grid(1e-5, 1.0),
    "numbers": params.numbers(0, 4),
    "preset": params.preset(),
    "device": params.device(),
}
GOOD = [
    ("number", 0.05, 0.05),
    ("number", 1, 1.0),
    ("number", np.float64(0.5), 0.5),
    ("integer", 2, 2),
    ("integer", np.int64(32), 32),
    ("power", 4, 4),
    ("power", 64, 64),
    ("choice", "lr", "lr"),
    ("flag", False, False),
    ("grid", [0.01, 1, 5], (0.01, 1.0, 5)),
    ("numbers", [2, 1, 0.6], (2.0, 1.0, 0.6)),
    ("preset", "smoke", "smoke"),
    ("device", "cpu", "cpu"),
]
BAD = [
    ("number", "abc"),
    ("number", "0.05"),
    ("number", True),
    ("number", None),
    ("number", math.nan),
    ("number", math.inf),
    ("number", 0),
    ("number", [0.1]),
    ("integer", 1),
    ("integer", 33),
    ("power", 24),
    ("power", 2),
    ("power", 128),
    ("power", 16.0),
    ("integer", 2.0),
    ("integer", True),
    ("choice", "sphere"),
    ("choice", 1),
    ("choice", ["lr"]),
    ("flag", 1),
    ("flag", "true"),
    ("grid", [0.1, 0.01, 5]),
    ("grid", [0.1, 0.1, 5]),
    ("grid", [0.01, 2, 5]),
    ("grid", [0.01, 1, 1]),
    ("grid", [0.01, 1, 5.0]),
    ("grid", [0.01, 1]),
    ("grid", 0.01),
    ("numbers", []),
    ("numbers", [1, "2"]),
    ("numbers", 1.0),
    ("preset", "big"),
    ("device", "tpu"),
]


@pytest.mark.parametrize(("rule", "value", "result"), GOOD)
def test_a_good_value_is_taken_with_its_type(rule, value, result):
    found = params.checked(RULES[rule], "x", value)
    assert found == result
    assert type(found) is type(result)


@pytest.mark.parametrize(("rule", "value"), BAD)
def test_a_bad_value_gets_one_line_with_name_value_and_what_is_allowed(rule, value):
    with pytest.raises(ParameterError) as error:
        params.checked(RULES[rule], "x", value)
    message = str(error.value)
    assert message.startswith(f"x={value!r} ")
    assert message.endswith(f"; allowed: {RULES[rule].allowed}")
    assert "\n" not in message


def test_the_line_of_the_documentation():
    with pytest.raises(ParameterError) as error:
        params.checked(RULES["number"], "eta", "abc")
    assert str(error.value) == "eta='abc' is not a number; allowed: a number from 1e-05 to 1"


@given(st.floats(), st.floats(), st.floats())
def test_a_number_passes_exactly_within_its_limits(low, high, x):
    try:
        assert params.checked(params.number(low, high), "x", x) == x
        assert low <= x <= high
    except ParameterError:
        assert not low <= x <= high


def test_check_takes_what_has_a_rule_and_freezes_it():
    p = params.check({"eta": 1, "other": 2}, eta=params.number(0, 1))
    assert p.as_dict() == {"eta": 1.0}
    with pytest.raises(AttributeError, match="frozen"):
        p.eta = 2
    with pytest.raises(AttributeError, match="frozen"):
        del p.eta


def test_check_names_a_missing_parameter():
    with pytest.raises(ParameterError, match="eta is missing"):
        params.check({}, eta=params.number(0, 1))


def test_cuda_without_cuda_is_one_line(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert params.checked(RULES["device"], "device", "auto") == "cpu"
    with pytest.raises(ParameterError, match="device='cuda' needs an NVIDIA GPU"):
        params.checked(RULES["device"], "device", "cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert params.checked(RULES["device"], "device", "auto") == params.checked(RULES["device"], "device", "cuda") == "cuda"


@pytest.mark.parametrize("cuda", [True, False])
def test_auto_can_be_told_what_it_means(monkeypatch, cuda):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    rule = params.device(auto="cpu")
    assert params.checked(rule, "device", "auto") == params.checked(rule, "device", "cpu") == "cpu"
    if cuda:
        assert params.checked(rule, "device", "cuda") == "cuda"
    for bad in ("tpu", None, ["auto"], *([] if cuda else ["cuda"])):
        with pytest.raises(ParameterError, match=r"^device="):
            params.checked(rule, "device", bad)


def test_defaults_from_outside(monkeypatch):
    assert (params.default_preset(), params.default_device(), params.default_out()) == ("lab", "auto", "results")
    for name, value in {"PRESET": "smoke", "DEVICE": "cpu", "OUT": "there"}.items():
        monkeypatch.setenv(f"THERMOLAB_{name}", value)
    assert (params.default_preset(), params.default_device(), params.default_out()) == ("smoke", "cpu", "there")


def test_a_notebook_shows_the_error_as_one_line():
    assert ParameterError("eta=3 ...")._render_traceback_() == ["ParameterError: eta=3 ..."]
