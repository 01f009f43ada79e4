"""The fall of the loss in the toy of notebook 02, at points that it does not use, and its claims."""

import numpy as np
import pytest
from claimed import HOLDS, verdicts
from phenomena.temperature_collapse.made_up import FAST, UNEVEN, undocumented

from thermolab.phenomena.temperature_collapse import falling, theory

TURNED = theory.fan(0.5) @ np.linalg.qr(np.random.default_rng(7).normal(size=(3, 3)))[0].T


@pytest.mark.parametrize("points", [TURNED, np.array([[1.0, 0.0, 0.0], [0.5, 0.8, 0.0], [-0.5, 0.6, 0.0]])])
def test_the_fall_of_interpolated_points(points):
    d = falling.converging.run(points, (0.05, 0.2, 0.95, 1.1), replicas=64, steps=2000, n_seeds=2)
    below, above = d.isel(eta=slice(3)).mean("seed"), d.isel(eta=3)
    # the products in the simulation are the predicted ones, over half as many steps
    np.testing.assert_allclose(below["lyapunov"], below["lyapunov_pred"], rtol=0.02)
    np.testing.assert_allclose(below["power"], 1, atol=0.02)
    np.testing.assert_allclose(below["snr_power"], 0, atol=0.02)
    assert (below["U_final"] < 1e-20).all()
    assert (above["U_final"] > 1e-4).all()
    np.testing.assert_allclose(above["drift"], 0, atol=2e-4)
    assert d["critical"] == 1


def test_at_the_critical_rate_it_neither_falls_nor_rises():
    """Reflections: linear steps keep the distance, and what is left falls as a power of the time."""
    d = falling.converging.run(eta=(0.97, 1.0), replicas=64, steps=2000, n_seeds=2).mean("seed")
    assert float(d["drift"][1]) > -0.002
    assert float(d["drift"][0]) == pytest.approx(2 * float(d["lyapunov_pred"][0]), rel=0.05)


def test_underparameterised_points_do_not_fall():
    d = falling.converging.run(UNEVEN, (0.05, 0.3), replicas=64, steps=1600, n_seeds=2)
    assert (d["U"] > d["U_min"]).all()
    np.testing.assert_allclose(d["lyapunov"], 0, atol=1e-4)
    assert np.isnan(d["critical"])


# --- claims -----------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def two():
    return falling.converging.run(**FAST)


@pytest.fixture(scope="module")
def three():
    return falling.converging.run(theory.UNDER, **FAST)


@pytest.mark.parametrize("claim", [falling.critical_rate, falling.power_law])
def test_the_claims_hold_and_their_controls_fail(claim, two, three):
    assert verdicts(claim(two, three)) == HOLDS


def test_a_wrong_critical_rate_fails(two, three):
    # steps 4 % longer than they are said to be, so that the loss stops falling at 0.96
    longer = falling.converging.run(**FAST | {"eta": tuple(1.04 * h for h in FAST["eta"])})
    longer = longer.assign_coords(eta=two["eta"]).assign(lyapunov_pred=two["lyapunov_pred"])
    below, above = two.assign(lyapunov=two["lyapunov"] / 2), two.assign(U=two["U"] + 0.02)
    for wrong in (longer, below, above):
        assert falling.critical_rate(wrong, three).check.verdict == "fails"


def test_a_wrong_exponent_fails(two, three):
    for wrong in (two.assign(power=two["power"] + 0.1), two.assign(snr_power=two["snr_power"] - 0.1)):
        assert falling.power_law(wrong, three).check.verdict == "fails"


def test_the_critical_rate_asks_for_equal_rates_on_both_sides(two, three):
    with pytest.raises(ValueError, match="different learning rates"):
        falling.critical_rate(two, three.isel(eta=slice(2)))
    with pytest.raises(ValueError, match="needed: 1 and 2"):
        falling.critical_rate(two.isel(eta=slice(2)), three.isel(eta=slice(2)))


def test_the_exponent_is_that_of_the_rates_far_below_the_critical_one(two):
    low = two.sel(eta=[0.03, 0.1])
    assert falling.power(two).value == pytest.approx(float(low["power"].mean()))


def test_docstring_lists_the_dataset(two):
    assert undocumented(falling.converging, two) == []
