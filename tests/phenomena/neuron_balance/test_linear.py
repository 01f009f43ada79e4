"""Linear networks of two layers at tiny settings, against their closed forms, and their claims on numbers made up by hand."""

import numpy as np
import pytest
import xarray as xr
from claimed import FAILS, HOLDS, verdicts

from thermolab.phenomena.neuron_balance import linear, theory


@pytest.mark.parametrize(
    ("profile", "inputs", "target"),
    [((1.4, 1.0, 0.6), None, 1.0), ((1.5, 0.8), (1.2, 1.0, 0.7), [[1.0, 0.3, 0.0], [0.2, 0.8, -0.4]])],
)
def test_norms_of_other_profiles_and_dimensions(profile, inputs, target):
    found = linear.linear.run(profile, inputs=inputs, target=target, width=4, window=10, n_seeds=2)
    for name in ("norm_1", "norm_2"):
        assert found[name].mean() == pytest.approx(float(found[f"{name}_theory"]), rel=0.03)


def test_linear_reads_what_theory_defines():
    found = linear.linear.run((1.0, 1.0), width=3, burn_in=2000, window=1000, decay=800, n_seeds=2, copies=2)
    assert float(found["tau"]) == pytest.approx(0.02 / 16 * 2)
    assert (found["start_lambda_max"] > 1.5 * found["start_flattest_lambda_max"]).all()
    assert (found["lambda_max"] > found["flattest_lambda_max"]).all()
    np.testing.assert_allclose(found["singular"], 1, atol=0.1)
    assert found["singular"].dims == ("seed", "i")
    assert found["singular"].shape == (2, 2)
    assert {name for name in found if "seed" not in found[name].dims} == {
        "sigma",
        "norm_1_theory",
        "norm_2_theory",
        "target",
        "tau",
    }


@pytest.mark.parametrize(
    ("settings", "begin", "allowed"),
    [
        ({"profile": (1.0, -1.0)}, "profile=(1.0, -1.0) is not positive", "each a positive number"),
        ({"profile": (1.0, 1.0), "inputs": (1.0, 0.0)}, "inputs=(1.0, 0.0) is not positive", "each a positive number"),
        ({"profile": (1.0, 1.0), "target": np.eye(3)}, "target=[[1.0, 0.0, 0.0],", "(2, 3), outputs by inputs"),
        ({"profile": (1.0, 1.0), "target": (1.0, 1.0, 1.0)}, "target=[1.0, 1.0, 1.0] is of shape (3,)", "(2, 2), outputs"),
        ({"width": 2}, "width=2 is too small", "5 or more, the rank of the target"),
        ({"tilt": 0.0}, "tilt=0.0 is not positive", "a positive number"),
        ({"decay": 0}, "decay=0 is out of range", "a whole number, 1 or more"),
    ],
)
def test_settings_out_of_range_are_refused_in_one_line(settings, begin, allowed):
    with pytest.raises(ValueError, match=r"^[^\n]*$") as error:
        linear.linear.run(**settings)
    assert str(error.value).startswith(begin)
    assert allowed in str(error.value).partition("; allowed: ")[2]


# --- claims on numbers made up by hand --------------------------------------------------------------------------
EVEN, UNEVEN = (1.0, 1.0), (1.0, 2.0)


def made(sigma, norms, forms, sharpness):
    names = ("norm_1", "norm_2")
    data = {k: ("seed", np.array(v)) for k, v in zip(names, norms, strict=True)}
    data |= {f"{k}_theory": v for k, v in zip(names, forms, strict=True)}
    ones = ("seed", np.ones(len(norms[0])))
    data |= {"lambda_max": ("seed", np.array(sharpness)), "flattest_lambda_max": ones, "sigma": ("output", list(sigma))}
    return xr.Dataset(data)


def test_norms_and_sharpness_on_made_up_numbers():
    three = np.array([0.99, 1.0, 1.01])
    flat, sharp = 1.0 + three / 100, 1.5 * three
    even = made(EVEN, (three, three), (1.0, 1.0), flat)
    uneven = made(UNEVEN, (4 * three**0.1, 6 * three**0.1), (4.0, 6.0), sharp)
    decision = linear.norms_agree({"even": even, "uneven": uneven})
    assert verdicts(decision) == HOLDS
    assert decision.n_seeds == 3
    off = made(UNEVEN, (4.4 * three**0.1, 6 * three**0.1), (4.0, 6.0), sharp)
    assert linear.norms_agree({"uneven": off}).check.verdict == "fails"
    assert verdicts(linear.balanced_noise_flattens({"even": even, "uneven": uneven})) == HOLDS
    assert verdicts(linear.any_noise_flattens({"even": even, "uneven": uneven})) == FAILS
    swapped = {"even": even.assign(lambda_max=("seed", sharp)), "uneven": uneven.assign(lambda_max=("seed", flat))}
    assert linear.balanced_noise_flattens(swapped).check.verdict == "fails"
    assert linear.any_noise_flattens(swapped).check.verdict == "holds"


@pytest.mark.parametrize(
    ("used", "noise", "expected"),
    [(0.1, 1e-3, ("holds", "fails")), (0.0, 1e-3, ("fails", "holds")), (0.1, 0.2, ("inconclusive", "fails"))],
)
def test_soft_threshold_on_made_up_numbers(used, noise, expected):
    target, rng = np.array([1.0, 0.5, 0.05]), np.random.default_rng(2)
    learnt = theory.soft_threshold(target, used) + 0.1 * noise * rng.normal(size=(5, 3))
    data = xr.Dataset({"singular": (("seed", "i"), learnt), "target": ("i", target), "tau": 0.1})
    assert verdicts(linear.soft_threshold(data)) == expected
