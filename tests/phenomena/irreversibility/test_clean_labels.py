"""Gradient norms on clean labels: equal losses, starts that diverge are left out, and the claim on data made by hand."""

import numpy as np
import pytest
import xarray as xr
from claimed import FAILS, HOLDS, verdicts

from thermolab.phenomena.irreversibility import clean_labels as clean
from thermolab.phenomena.irreversibility.continual import EQUAL

SMALL = {"duration": 4.0, "width": 16, "replicas": 2}


def seeds_of(mean, spread=0.01):
    """Five seeds about a mean."""
    return mean + spread * np.array([-1.0, -0.5, 0, 0.5, 1.0])


@pytest.fixture(scope="module")
def found():
    return clean.clean_labels.run((1 / 16, 1 / 4), **SMALL, n_seeds=2)


def test_arms_end_at_equal_loss(found):
    assert found["S"].dims == found["U"].dims == ("share", "seed")
    np.testing.assert_allclose(found["U"].sel(share=1 / 4), found["U"].sel(share=1 / 16), rtol=EQUAL)
    np.testing.assert_allclose(found["flow_U"], found["U"].sel(share=1 / 16), rtol=EQUAL)
    np.testing.assert_allclose(found["flow_S"], found["S"].sel(share=1 / 16), rtol=0.05)
    assert ((found["limit"] > 0.01) & (found["limit"] < 1)).all()
    assert (found["lost"] == 0).all()


def test_a_seed_does_not_depend_on_the_others(found):
    one = clean.clean_labels.run((1 / 16, 1 / 4), **SMALL, n_seeds=1)
    np.testing.assert_array_equal(one["S"], found["S"].isel(seed=[0]))


def test_starts_that_an_arm_loses_count_nowhere():
    """At the limit itself one of two is lost, in the other arms too."""
    lost = clean.clean_labels.run((1 / 16, 1.0), **SMALL | {"duration": 30.0}, n_seeds=2)
    assert (lost["lost"] == 0.5).all()
    assert np.isfinite(lost["S"]).all()
    np.testing.assert_allclose(lost["flow_U"], lost["U"].sel(share=1 / 16), rtol=EQUAL)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"shares": (0, 0.5)}, "shares=(0, 0.5) is out of range; allowed: a list of 1 or more, each a number from 0.001 to 1"),
        ({"replicas": 0}, "replicas=0 is out of range; allowed: a whole number, 1 or more"),
        ({"duration": 0}, "duration=0 is not positive and finite; allowed: a positive number"),
    ],
)
def test_it_refuses_settings_out_of_range(setting, words):
    with pytest.raises(ValueError, match=r"^[^\n]+$") as error:
        clean.clean_labels.run(**setting)
    assert words in str(error.value)


def test_the_claim_asks_for_smaller_gradients_at_equal_loss():
    def decided(large, flow=10.0, behind=0.0):
        s = np.stack([seeds_of(x, 0.02) for x in (10.0, 9.0, large)])
        data = xr.Dataset({"S": (("share", "seed"), s), "flow_S": ("seed", seeds_of(flow, 0.02))}, {"share": [0.1, 0.2, 0.4]})
        data = data.assign(U=xr.ones_like(data["S"]), flow_U=xr.ones_like(data["flow_S"]))
        data["U"][-1, 0] += behind
        return verdicts(clean.large_rate_regularises_clean_labels(data))

    assert decided(8.0) == HOLDS
    assert decided(9.95, flow=8.0) == FAILS
    assert decided(9.8)[0] == "holds"
    assert decided(8.0, behind=0.02) == ("inconclusive", "fails")
