"""Minima of F at tiny settings, and their claim on numbers made up by hand."""

import numpy as np
import pytest
import xarray as xr
from claimed import verdicts
from embedded import DATA

from thermolab.phenomena.platonic_alignment import minimum


def test_minima_of_f_align_as_the_square_of_eta_and_minima_of_the_loss_do_not():
    found = minimum.minima.run((0.03, 0.003), shapes=((2, 3), (3, 4)), **DATA, n_seeds=2)
    assert found["cka"].shape == (3, 2, 3, 3)
    worst = 1 - found["cka"].min(("layer", "other"))
    assert (worst.sel(eta=0.003) < worst.sel(eta=0.03) / 50).all()
    assert (worst.sel(eta=0.0) > 0.01).all()
    np.testing.assert_allclose(found["excess"].sel(eta=0.0), 0, atol=1e-9)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"etas": (0.1, 0)}, r"etas=\(0.1, 0\) is not positive and finite; allowed: a list of 2 or more, each a positive number"),
        ({"etas": (0.001, 0.01)}, r"etas=\[0.001, 0.01\] do not fall; allowed: two or more that fall"),
        ({"shapes": ((2, 3),)}, "width=3 is too small; allowed: 5 or more, the rank of V"),
        ({"shapes": ((1, 6),)}, "depth=1 is too small; allowed: 2 or more"),
    ],
)
def test_settings_that_are_refused(settings, text):
    with pytest.raises(ValueError, match=text):
        minimum.minima.run(**settings)


@pytest.mark.parametrize(("power", "expected"), [(2.05, "holds"), (1.0, "fails")])
def test_minimum_on_made_up_numbers(power, expected):
    rates, noise = np.array([0.01, 0.001]), 1 + 0.01 * np.arange(5)
    apart = np.concatenate([[10 * r**power * noise**k for k, r in enumerate(rates)], [np.full(5, 0.5)]])
    values = np.ones((3, 5, 2, 2))
    values[..., 0, 1] = values[..., 1, 0] = 1 - apart
    data = xr.Dataset({"cka": (("eta", "seed", "layer", "other"), values)}, coords={"eta": [*rates, 0.0]})
    assert verdicts(minimum.minimum_of_f(data)) == (expected, "fails")
