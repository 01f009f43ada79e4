"""What is read off curves over η and over time: temperatures, minima of F, exponents, errors over seeds."""

import math

import numpy as np
import pytest
import xarray as xr
from phenomena.temperature_collapse.made_up import ENTROPY, curve, noisy

from thermolab.claims import few_seeds
from thermolab.phenomena.temperature_collapse import curves

CONVEX, STRAIGHT = curve(ENTROPY**2, ENTROPY), curve(2 * ENTROPY, ENTROPY)
CONCAVE = curve(-((ENTROPY - 10) ** 2), ENTROPY)  # T = 2 (10 - S)


def test_the_temperature_of_a_parabola():
    found = curves.temperature(CONVEX)
    np.testing.assert_allclose(found[1:-1], 2 * ENTROPY[1:-1], rtol=1e-12)
    assert np.isnan(found[[0, -1]]).all()
    uneven = np.array([0.0, 1.0, 4.0, 5.0])
    np.testing.assert_allclose(curves.temperature(curve(uneven**2, uneven))[1:-1], [4.0, 6.0], rtol=1e-12)
    assert np.isnan(curves.temperature(CONVEX.isel(eta=slice(2)))).all()


def test_rise():
    assert curves.rise(CONVEX) == pytest.approx(math.log(10 / 8))
    assert curves.rise(CONVEX, shuffled=True) < 0
    assert curves.rise(CONCAVE) == pytest.approx(math.log(10 / 12))  # T = 16, 14, 12, 10
    assert curves.rise(STRAIGHT) == pytest.approx(0, abs=1e-12)
    assert math.isnan(curves.rise(CONVEX.isel(eta=slice(3))))
    assert curves.rise(CONVEX.isel(eta=slice(4))) == pytest.approx(math.log(6 / 4))
    # one negative temperature is a fall, wherever it stands
    assert curves.rise(curve([0.0, 1.0, -1.0, 0.5, 9.0], [0.0, 1.0, 2.0, 3.0, 4.0])) < 0


@pytest.mark.parametrize(
    ("mean", "compatible", "own", "next_one"), [(CONVEX, 1, 1, 0), (STRAIGHT, 1, None, None), (CONCAVE, 0, 0, 0)]
)
def test_shares_of_convex_straight_and_concave_curves(mean, compatible, own, next_one):
    """On a straight line all states have the same F at its slope: whose is least is rounding."""
    assert curves.compatible(mean) == compatible
    if own is not None:
        assert curves.own_minima(mean) == own
        assert curves.own_minima(mean, 1) == next_one


def test_shares_count_the_states_between_the_ends():
    dent = curve([1.0, 4.0, 9.0, 16.0, 27.0, 36.0], ENTROPY)  # the fifth lies above the chord of its neighbours
    assert curves.compatible(dent) == 3 / 4
    assert curves.own_minima(dent) == 3 / 4
    for share in (curves.compatible, curves.own_minima):
        assert math.isnan(share(CONVEX.isel(eta=slice(2))))
        assert share(CONVEX.isel(eta=slice(3))) == 1


def test_free_energies_of_a_parabola():
    found = curves.free_energy(CONVEX)  # F_j at T_i = 2 S_i: S_j² - 2 S_i S_j
    np.testing.assert_allclose(found[:, 1:-1], ENTROPY[:, None] ** 2 - 2 * ENTROPY[None, 1:-1] * ENTROPY[:, None], atol=1e-9)
    np.testing.assert_array_equal(curves.free_energy(CONVEX, 1)[:, :-1], found[:, 1:])
    bounds = curves.bounds(CONVEX)
    np.testing.assert_allclose(bounds.lower[1:-1], 2 * ENTROPY[1:-1] - 1)
    np.testing.assert_allclose(bounds.upper[1:-1], 2 * ENTROPY[1:-1] + 1)


@pytest.mark.parametrize("n", [3, 4, 9])
def test_the_jackknife_of_a_mean_is_that_of_few_seeds(n):
    rng = np.random.default_rng(n)
    a, b = (xr.Dataset({"x": ("seed", rng.normal(size=n))}) for _ in range(2))
    np.testing.assert_allclose(curves.jackknife(lambda mean: mean["x"].item(), a), few_seeds(a["x"]), rtol=1e-12)
    # two data sets share their seeds
    paired = curves.jackknife(lambda x, y: float(x["x"] - y["x"]), a, a + 0.5 * b)
    np.testing.assert_allclose(paired, few_seeds(-0.5 * b["x"]), rtol=1e-12)
    # and the number comes from the mean, not from the mean of numbers
    assert curves.jackknife(lambda mean: mean["x"].item() ** 2, a)[0] == pytest.approx(float(a["x"].mean()) ** 2)


def test_two_seeds_are_too_few():
    with pytest.raises(ValueError, match=r"^2 seeds are too few to leave one out; use 3 or more$"):
        curves.jackknife(lambda mean: 1.0, xr.Dataset({"x": ("seed", [1.0, 2.0])}))


def test_exponents():
    x = np.geomspace(0.1, 10, 7)
    assert curves.exponent(x, 3 * x**1.7) == pytest.approx(1.7)
    assert curves.exponent(x.reshape(7, 1), 1 / x) == pytest.approx(-1)
    y = x**2
    y[0], y[3], y[5] = -1, np.nan, 0
    assert curves.exponent(x, y) == pytest.approx(2)
    y[1] = 0
    assert curves.exponent(x, y) == pytest.approx(2)
    y[2] = np.inf
    assert math.isnan(curves.exponent(x, y))


def falling(first, last, n=16):
    """A run whose dU/dS is `first` in its first quarter and `last` in the rest."""
    s = -np.arange(n, dtype=float)
    slope = np.where(np.arange(n - 1) < n // 4, first, last)
    return xr.Dataset({"U": ("time", np.concatenate([[0.0], np.cumsum(-slope)])), "S": ("time", s)})


def test_the_fall_of_a_slope():
    assert curves.fall(falling(5.0, 0.05)) == pytest.approx(2)
    assert curves.fall(falling(0.05, 5.0)) == pytest.approx(-2)
    assert curves.fall(falling(5.0, -0.05)) == pytest.approx(2)  # a slope that noise turns round is as small as its size
    run = falling(5.0, 0.05)
    run["S"][8:] += 0.3 * np.random.default_rng(0).normal(size=8)  # noise in S alone
    assert curves.fall(run) == pytest.approx(2, abs=0.2)
    run = falling(5.0, 0.05, n=32).isel(time=slice(4, 20))
    found = curves.running_temperature(run["U"].values, run["S"].values)
    assert found[[0, -1]].tolist() == pytest.approx([5.0, 0.05])
    assert len(found) == 12


def test_only_rates_with_an_entropy_of_every_seed_are_kept():
    data = noisy(CONVEX)
    data["S"][0, :] = np.nan
    data["S"][3, 1] = np.nan
    assert curves.stationary_only(data)["eta"].values.tolist() == CONVEX["eta"].values[[1, 2, 4, 5]].tolist()
    assert curves.stationary_only(data.isel(seed=0))["eta"].values.tolist() == CONVEX["eta"].values[1:].tolist()
