"""The table of document 2 and simpler features: the claims on numbers made up by hand."""

import numpy as np
import pytest
from claimed import verdicts
from phenomena.platonic_alignment import made_up

from thermolab.phenomena.platonic_alignment import rates

good = made_up.linear()


def test_the_ladder_goes_down_in_eta_and_ends_at_descent():
    shuffled = good.isel(arm=[1, 0, 2])
    for data in (good, shuffled):
        ladder = rates.ladder(data)
        np.testing.assert_allclose(ladder["rung"], [0.02, 0.002, 0.0002, 0])
        np.testing.assert_allclose(ladder.mean("seed"), [0.996, 0.7, 0.59, 0.588], atol=1e-6)


def test_an_arm_with_weight_decay_is_no_rung():
    decayed = good.isel(arm=[0, 0, 1, 2]).assign_coords(lam=("arm", [0.0, 0.1, 0.0, 0.0]))
    assert rates.free(decayed) == [0, 2, 3]


def test_the_table_on_made_up_numbers():
    assert verdicts(rates.falls_with_eta(good)) == ("fails", "holds")
    lower = good.assign(gd=good["gd"] - 0.3)
    lower["cka"][2] -= 0.05
    assert verdicts(rates.falls_with_eta(lower)) == ("holds", "holds")
    apart = good.assign(gd_excess=good["gd_excess"] + [[[0.0]], [[0.0]], [[1.0]]])  # descent that does not get there
    assert rates.falls_with_eta(apart)[0].verdict == "inconclusive"


def test_simpler_by_hand():
    np.testing.assert_allclose(rates.simpler(good, "size").mean("seed"), [-0.4, -0.1, 0], atol=1e-6)
    np.testing.assert_allclose(rates.simpler(good, "directions").mean("seed"), 2 * np.log(1.1), atol=1e-6)


def test_simpler_on_made_up_numbers():
    assert verdicts(rates.smaller(good)) == ("holds", "fails")
    assert verdicts(rates.of_lower_rank(good)) == ("fails", "holds")
    same = good.assign(gd_trace=good["trace"], gd_size=good["size"])
    assert verdicts(rates.smaller(same)) == ("fails", "fails")
    fewer = good.assign(gd_size=good["gd_size"] / 1.3)
    assert verdicts(rates.of_lower_rank(fewer)) == ("holds", "holds")


@pytest.mark.parametrize("decide", [rates.smaller, rates.of_lower_rank])
def test_features_at_another_loss_decide_nothing(decide):
    assert decide(good.assign(gd_excess=good["gd_excess"] * 2))[0].verdict == "inconclusive"
