"""The network with a free radius at small sizes; and the claims on its grid."""

import numpy as np
import pytest
from claimed import HOLDS, verdicts
from phenomena.ideal_gas import made_up

from thermolab.phenomena.ideal_gas import network, reference, theory


@pytest.mark.parametrize("protocol", ["elr", "lr"])
def test_a_small_network_grid(small_reference, protocol):
    eta = {"elr": (0.02, 0.05, 2), "lr": (0.2, 0.5, 2)}[protocol]
    data = network.stationary.run(
        protocol, reference=small_reference, eta=eta, lam=(0.05, 0.1, 3), burn_in=300, window=64 * network.STRIDE, n_seeds=2
    )
    needed = "U r g2 trace gradient_squared S S_full diverged r_pred r_pred_without eta_eff T p relaxed"
    made_up.check_docstring(network.stationary, data, needed)
    assert data.sizes == {"eta": 2, "lam": 3, "seed": 2}
    for name in data.data_vars:
        assert np.isfinite(data[name]).all(), name
    assert (data["diverged"] == 0).all()
    np.testing.assert_allclose(data["S_full"], data["S"] + 575 * np.log(data["r"]), rtol=1e-9)
    rate = data["eta_eff"]
    np.testing.assert_allclose(rate, data["eta"] / data["r_pred"] ** 2 if protocol == "lr" else data["eta"] + 0 * data["lam"])
    np.testing.assert_allclose(data["T"], rate * data["trace"].mean("seed") / 2 / 575, rtol=1e-9)
    np.testing.assert_allclose(data["p"], np.broadcast_to(data["lam"], (2, 3)))
    # the prediction is the fixed point of a step with the reference's E|g|² at that effective rate
    moment = reference.second_moment(small_reference, "g2")(rate.values)
    np.testing.assert_allclose(
        data["r_pred"], theory.finite_step_radius(protocol, data["eta"].values[:, None], data["lam"].values, moment), rtol=1e-6
    )
    assert (data["r_pred_without"] < data["r_pred"]).all()
    assert abs(np.log(data["r"] / data["r_pred"])).max() < 0.25  # nearer than it started


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"protocol": "sphere"}, "protocol='sphere' is unknown; allowed: one of elr, lr"),
        ({"label_noise": 1.5}, "label_noise=1.5 is out of range; allowed: a number from 0 to 1"),
        ({"window": 3 * network.STRIDE}, "window=72 is out of range; allowed: a whole number, 96 or more"),
    ],
)
def test_a_grid_of_no_such_protocol_noise_or_window_is_refused(small_reference, bad, message):
    with pytest.raises(ValueError, match=message):
        network.stationary.run(reference=small_reference, **bad)


# --- what is decided --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("check", "path", "variable", "change"),
    [
        (network.radii, ("net", "lr"), "r", lambda r: 0.94 * r),
        (network.idle_noise, ("net", "elr"), "trace", lambda t: t * t["lam"] ** 0.1),
        (network.maxwell_relation, ("net", "lr"), "r", lambda r: r**1.3),
    ],
)
def test_a_claim_holds_on_an_exact_network_and_fails_on_a_spoilt_one(found, check, path, variable, change):
    assert verdicts(check(found[path[0]])) == HOLDS
    made_up.spoil(found, path, variable, change)
    assert check(found[path[0]]).check.verdict == "fails"


def test_the_tautology_does_not_see_the_entropy(found):
    """Any entropy passes the Maxwell relation: only the radius is tested."""
    before = network.tautology(found["net"])
    assert verdicts(before) == HOLDS
    made_up.spoil(found, ("net", "lr"), "S", lambda s: 0 * s + 5)
    assert network.tautology(found["net"]).check == before.check
