"""The pace of alignment at tiny settings, and its claim on numbers made up by hand."""

import numpy as np
import pytest
from claimed import verdicts
from embedded import TINY
from phenomena.platonic_alignment import made_up

from thermolab.phenomena.platonic_alignment import pace


def test_the_largest_rate_takes_equally_many_steps_on_both_clocks():
    paces = pace.pace.run(depth_a=2, depth_b=3, width_a=3, width_b=4, **TINY, steps=200)
    assert paces["steps"].values.tolist() == [[200, 200, 200], [200, 800, 3200]]
    np.testing.assert_array_equal(paces["cka"].isel(eta=0, clock=0), paces["cka"].isel(eta=0, clock=1))
    assert not np.allclose(paces["cka"].isel(eta=1, clock=0), paces["cka"].isel(eta=1, clock=1))


@pytest.mark.parametrize(
    ("divisors", "text"),
    [
        ((1, 0), r"divisors=\(1, 0\) is out of range; allowed: a list of 2 or more, each a whole number, 1 or more"),
        ((4, 1), r"divisors=\[4, 1\] do not rise; allowed: two or more that rise"),
    ],
)
def test_divisors_that_are_refused(divisors, text):
    with pytest.raises(ValueError, match=text):
        pace.pace.run(divisors=divisors)


@pytest.mark.parametrize(("steps", "expected"), [((0.97, 0.8, 0.65), "holds"), ((0.97, 0.96, 0.95), "fails")])
def test_eta_on_made_up_numbers(steps, expected):
    paces = made_up.pace(steps)
    assert verdicts(pace.larger_rates_are_ahead(paces)) == (expected, "fails")
