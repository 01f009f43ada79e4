"""The rule for a list of rows of numbers, such as the points of the toy."""

import math

import numpy as np
import pytest

from thermolab.lab import params
from thermolab.lab.params import ParameterError

ROWS = params.rows(3, -1.0, 1.0, 2, 4)
GOOD = [
    ([[1, 0, 0], [0.5, -1, 1]], ((1.0, 0.0, 0.0), (0.5, -1.0, 1.0))),
    (((0, 0, 1), (0, 1, 0), [1, 0, 0], [1, 1, 1]), ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0), (1.0, 1.0, 1.0))),
    ([[np.float64(0.5), 0, 0], [0, np.int64(1), 0]], ((0.5, 0.0, 0.0), (0.0, 1.0, 0.0))),
]
BAD = [
    ([[1, 0, 0]], "has a length that is out of range"),
    ([[1, 0, 0]] * 5, "has a length that is out of range"),
    ([], "has a length that is out of range"),
    ([[1, 0, 0], [0, 1]], "has a length that is out of range"),
    ([[1, 0, 0], [0, 1, 0, 0]], "has a length that is out of range"),
    ([[1, 0, 0], [0, 1.01, 0]], "is out of range"),
    ([[1, 0, 0], [0, -2, 0]], "is out of range"),
    ([[1, 0, 0], [0, math.inf, 0]], "is out of range"),
    ([[1, 0, 0], [0, math.nan, 0]], "is not a number"),
    ([[1, 0, 0], [0, "1", 0]], "is not a number"),
    ([[1, 0, 0], [0, True, 0]], "is not a number"),
    ([[1, 0, 0], [0, None, 0]], "is not a number"),
    ([[1, 0, 0], [0, 0, 0]], "has a row of zeros"),
    ([[0.0, -0.0, 0], [1, 0, 0]], "has a row of zeros"),
    ([1, 0, 0], "is not a list"),
    ([[1, 0, 0], "abc"], "is not a list"),
    ([[1, 0, 0], None], "is not a list"),
    ("abc", "is not a list"),
    (None, "is not a list"),
    (1.0, "is not a list, as [1.0] is"),
    ({"a": [1, 0, 0], "b": [0, 1, 0]}, "is not a list"),
]


@pytest.mark.parametrize(("value", "result"), GOOD)
def test_rows_become_tuples_of_floats(value, result):
    found = params.checked(ROWS, "points", value)
    assert found == result
    assert type(found) is tuple
    assert {type(row) for row in found} == {tuple}
    assert {type(x) for row in found for x in row} == {float}


@pytest.mark.parametrize(("value", "complaint"), BAD)
def test_a_bad_value_gets_one_line_with_name_value_and_what_is_allowed(value, complaint):
    with pytest.raises(ParameterError) as error:
        params.checked(ROWS, "points", value)
    assert str(error.value) == f"points={value!r} {complaint}; allowed: 2 to 4 rows of 3 numbers from -1 to 1, none all zero"
    assert "\n" not in str(error.value)


def test_without_limits_one_row_will_do():
    rule = params.rows(2, 0, 9)
    assert params.checked(rule, "x", [[0, 9]]) == ((0.0, 9.0),)
    assert len(params.checked(rule, "x", [[1, 2]] * 512)) == 512
    with pytest.raises(ParameterError, match="1 to 512 rows of 2"):
        params.checked(rule, "x", [[1, 2]] * 513)


def test_rows_in_a_notebook():
    p = params.check({"points": [[1, 0], [0, 1]]}, points=params.rows(2, -1, 1))
    assert p.points == ((1.0, 0.0), (0.0, 1.0))
