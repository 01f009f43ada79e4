"""Thermometers on states whose temperature is known."""

import numpy as np
import pytest
import torch

from thermolab.instruments.temperature import free_energy_temperature, gas_temperature, slope_temperature

T = np.geomspace(1e-4, 1e-1, 13)
C = 7.0  # heat capacity: U = C T, S = C log T, so dU/dS = T exactly
U, S = C * T + 0.3, C * np.log(T) - 50


def test_gas_temperature():
    assert gas_temperature(0.01, 4.0, 5) == pytest.approx(0.005)
    # Isotropic noise of variance σ² per component: Tr Σ̃ = (D − 1) σ², T = η σ²/2.
    np.testing.assert_allclose(gas_temperature(np.array([0.1, 0.2]), 9 * 0.5**2, 10), [0.0125, 0.025])
    assert isinstance(gas_temperature(torch.ones(3), torch.ones(3), 4), torch.Tensor)
    with pytest.raises(ValueError, match="dim=1"):
        gas_temperature(0.1, 1.0, 1)


def test_bounds_bracket_the_temperature():
    found = free_energy_temperature(U, S)
    assert not found.crossed.any()
    assert np.all(found.lower[1:-1] < T[1:-1])
    assert np.all(T[1:-1] < found.upper[1:-1])
    # The bounds are the chords to both neighbours, here exact.
    chord = np.diff(T) / np.diff(np.log(T))
    np.testing.assert_allclose(found.lower[1:], chord, rtol=1e-9)
    np.testing.assert_allclose(found.upper[:-1], chord, rtol=1e-9)
    np.testing.assert_allclose(found.value[1:-1], (chord[1:] + chord[:-1]) / 2, rtol=1e-9)
    assert np.isnan(found.value[[0, -1]]).all()
    assert found.lower[0] == -np.inf
    assert found.upper[-1] == np.inf


def test_free_energy_is_least_at_home_and_only_there():
    found = free_energy_temperature(U, S)
    for i in range(1, 12):
        assert np.argmin(U - found.value[i] * S) == i
        assert np.argmin(U - (found.upper[i] * 1.01) * S) != i
        assert np.argmin(U - (found.lower[i] * 0.99) * S) != i


def test_order_and_constants_do_not_matter():
    found, order = free_energy_temperature(U, S), np.random.default_rng(0).permutation(13)
    np.testing.assert_array_equal(free_energy_temperature(U[order], S[order]).value, found.value[order])
    np.testing.assert_allclose(free_energy_temperature(U - 3, S + 1000).value, found.value, rtol=1e-6)
    np.testing.assert_allclose(free_energy_temperature(5 * U, S).value, 5 * found.value, rtol=1e-12)
    batch = free_energy_temperature(np.stack([U, 5 * U]), torch.as_tensor(np.stack([S, S])))
    np.testing.assert_array_equal(batch.value[0], found.value)


def test_crossed_bounds_are_reported():
    lifted = U.copy()
    lifted[6] += 0.5 * (U[7] - U[5])
    found = free_energy_temperature(lifted, S)
    assert found.crossed[6]
    assert found.lower[6] > found.upper[6]
    assert np.isfinite([found.lower[6], found.upper[6]]).all()
    assert np.isnan(found.value[6])
    assert found.crossed.sum() == 1
    np.testing.assert_allclose(found.value[[2, 10]], free_energy_temperature(U, S).value[[2, 10]], rtol=1e-12)


def test_equal_entropies():
    found = free_energy_temperature([0.0, 1.0, 2.0, 4.0], [0.0, 1.0, 1.0, 2.0])
    np.testing.assert_array_equal(found.crossed, [False, False, True, False])
    assert found.value[1] == 2.0
    assert np.isnan(found.value[2])


def test_slope_of_a_line_and_of_a_curve():
    s = np.sort(np.random.default_rng(0).uniform(0, 5, 40))
    line = slope_temperature(0.7 * s + 2, s, 6)
    np.testing.assert_allclose(line.value, 0.7, rtol=1e-10)
    assert line.value.shape == (35,)
    assert np.all(line.standard_error < 1e-6)
    dense = np.linspace(-3, 0, 400)
    curve = slope_temperature(np.exp(dense), dense, 9)
    np.testing.assert_allclose(curve.value, np.exp(curve.entropy), rtol=1e-3)


def test_slope_error():
    rng = np.random.default_rng(1)
    s = np.tile(np.linspace(0, 1, 12), (4000, 1))
    found = slope_temperature(2 * s + 0.1 * rng.normal(size=s.shape), s, 12)
    assert found.value.mean() == pytest.approx(2, abs=4 * found.value.std() / np.sqrt(4000))
    rms = np.sqrt((found.standard_error**2).mean())
    assert found.value.std() / rms == pytest.approx(1, abs=4 / np.sqrt(8000))
    (slope, _), covariance = np.polyfit(s[0], 2 * s[0] + s[0] ** 2, 1, cov=True)
    one = slope_temperature(2 * s[0] + s[0] ** 2, s[0], 12)
    assert one.value[0] == pytest.approx(slope, rel=1e-10)
    assert one.standard_error[0] == pytest.approx(np.sqrt(covariance[0, 0]), rel=1e-10)


def test_slope_is_nan_where_entropy_stands_still():
    found = slope_temperature(np.arange(8.0), [0, 0, 0, 0, 1, 2, 3, 4], 3)
    assert np.isnan(found.value[:2]).all()
    assert np.isnan(found.standard_error[:2]).all()
    assert np.isfinite(found.value[2:]).all()


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (lambda: free_energy_temperature(U, S[:-1]), "same shape"),
        (lambda: free_energy_temperature(U[:2], S[:2]), "too few"),
        (lambda: slope_temperature(U, np.where(S < -90, -np.inf, S), 5), "nan or inf"),
        (lambda: slope_temperature(U, S, 2), "window=2"),
        (lambda: slope_temperature(U, S, 14), "window=14"),
    ],
    ids=["other lengths", "two states", "inf", "a window of two", "a window of more than all"],
)
def test_curves_that_hold_no_temperature_are_refused(found, message):
    with pytest.raises(ValueError, match=message):
        found()


@pytest.mark.parametrize("window", [3, 4, 5, 7])
def test_an_entropy_that_does_not_change_has_no_slope(window):
    u, s = np.arange(20.0) ** 1.5, np.full(20, 0.1)
    for constant in (s, s * (1 + np.finfo(float).eps * (np.arange(20) % 2))):
        found = slope_temperature(u, constant, window)
        assert np.isnan(found.value).all()
        assert np.isnan(found.standard_error).all()
    s[10] = 0.1001
    assert np.isfinite(slope_temperature(u, s, window).value).sum() == window  # the windows that see the change


def test_equal_entropies_bound_nothing_whatever_their_rounding():
    """0.3 and 0.1 + 0.2 are one entropy: no slope of 1e16 between them."""
    exact = free_energy_temperature([0.0, 1.0, 3.0, 4.0], [0.0, 0.2, 0.3, 0.3])
    rounded = free_energy_temperature([0.0, 1.0, 3.0, 4.0], [0.0, 0.2, 0.3, 0.1 + 0.2])
    for name in ("value", "lower", "upper", "crossed"):
        np.testing.assert_allclose(getattr(exact, name), getattr(rounded, name), rtol=1e-12)
    assert exact.crossed.tolist() == [False, False, False, True]
