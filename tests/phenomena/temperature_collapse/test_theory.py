"""Closed forms of the toy of notebook 02, at points that it does not use, against forms written out here."""

import math

import numpy as np
import pytest
from phenomena.temperature_collapse.made_up import FOUR, UNEVEN

from thermolab.phenomena.temperature_collapse import theory


def unit(points):
    return np.asarray(points, float) / np.linalg.norm(points, axis=1, keepdims=True)


def loss(points, w):
    return float(np.mean((unit(points) @ w) ** 2) / (w @ w))


@pytest.mark.parametrize(("height", "n"), [(0.1, 3), (0.196, 3), (0.4, 5), (0.3, 8)])
def test_leading_order_of_points_at_one_height(height, n):
    """T = η d_z² (1 - d_z²), H = 1 - 3 d_z², S = log(2πeT/H), SNR² = 2TH/(4 d_z² (1 - d_z²)), as the source prints them."""
    eta, z2 = 0.03, height**2
    at, state = theory.minimum(theory.around(height, n)), theory.leading_state(theory.around(height, n), eta)
    t = eta * z2 * (1 - z2)
    np.testing.assert_allclose(at.hessian, 1 - 3 * z2, rtol=1e-12)
    assert at.loss == pytest.approx(z2, rel=1e-12)
    assert state.temperature == pytest.approx(t, rel=1e-12)
    assert state.energy == pytest.approx(z2 + t, rel=1e-12)
    assert state.entropy == pytest.approx(math.log(2 * math.pi * math.e * t / (1 - 3 * z2)), rel=1e-12)
    assert state.snr == pytest.approx(math.sqrt(2 * t * (1 - 3 * z2) / (4 * z2 * (1 - z2))), rel=1e-12)


@pytest.mark.parametrize("points", [UNEVEN, FOUR])
def test_hessian_and_noise_against_differences(points):
    at, h = theory.minimum(points), 1e-4
    v, axes = at.frame[-1], at.frame[:-1]

    def along(t, rows=points):
        return loss(rows, v * math.sqrt(1 - t @ t) + t @ axes)

    steps = np.eye(len(axes)) * h
    assert along(0 * steps[0]) == pytest.approx(at.loss, rel=1e-12)
    second = [[(along(a + b) - along(a - b) - along(b - a) + along(-a - b)) / (4 * h * h) for a in steps] for b in steps]
    np.testing.assert_allclose(second, np.diag(at.hessian), atol=1e-6)
    each = np.array([[(along(a, row[None]) - along(-a, row[None])) / (2 * h) for a in steps] for row in points])
    np.testing.assert_allclose(each.mean(0), 0, atol=1e-7)
    np.testing.assert_allclose(each.T @ each / len(points), at.noise, atol=1e-7)


@pytest.mark.parametrize("points", [UNEVEN, FOUR])
def test_covariance_solves_the_lyapunov_equation(points):
    at, state = theory.minimum(points), theory.leading_state(points, 0.02, batch=2)
    h = np.diag(at.hessian)
    np.testing.assert_allclose(h @ state.covariance + state.covariance @ h, 0.01 * at.noise, atol=1e-15)
    assert np.trace(h @ state.covariance) == pytest.approx(state.temperature * len(h), rel=1e-12)


@pytest.mark.parametrize("points", [theory.UNDER, UNEVEN, FOUR])
def test_the_finite_step_state_tends_to_the_leading_order(points):
    """Its relative distance is of order η: a tenth of the rate, a tenth of the distance."""
    gaps = [
        theory.stationary_state(points, h).temperature / theory.leading_state(points, h).temperature - 1 for h in (1e-3, 1e-4)
    ]
    assert abs(gaps[0]) < 5e-3
    assert gaps[0] / gaps[1] == pytest.approx(10, rel=0.02)
    cold, lead = theory.stationary_state(points, 1e-5), theory.leading_state(points, 1e-5)
    assert cold.entropy == pytest.approx(lead.entropy, abs=1e-4)
    assert cold.snr == pytest.approx(lead.snr, rel=1e-4)


def test_predictions_do_not_depend_on_the_frame():
    q, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))
    for form in (theory.leading_state, theory.stationary_state):
        a, b = form(FOUR, 0.05), form(-3 * FOUR @ q.T, 0.05)
        for name in ("temperature", "energy", "entropy", "snr"):
            assert getattr(a, name) == pytest.approx(getattr(b, name), rel=1e-8), name
    turned = theory.aligned(FOUR @ q.T)
    np.testing.assert_allclose((turned @ turned.T) ** 2, (unit(FOUR) @ unit(FOUR).T) ** 2, atol=1e-12)
    assert (theory.aligned(theory.OVER @ np.linalg.qr(q[:3, :3])[0])[:, -1] == 0).all()


def test_batches_are_all_there_and_their_shares_are_multinomial():
    picks, share = theory.batches(3, 4)
    assert len(picks) == math.comb(6, 4)
    assert share.sum() == pytest.approx(1)
    mean = np.einsum("n,nb->", share, (picks == 1).astype(float)) / 4
    assert mean == pytest.approx(1 / 3)
    assert share[(picks == [0, 0, 1, 2]).all(1)] == pytest.approx(12 / 81)


def test_tangent_maps_are_the_derivative_of_the_step():
    eta, picks, h = 0.3, np.array([[0, 2], [1, 1], [3, 0]]), 1e-6
    at = theory.minimum(UNEVEN)
    d, v, axes = unit(UNEVEN), at.frame[-1], at.frame[:-1]

    def step(y, pick):
        w = v + y @ axes
        w /= np.linalg.norm(w)
        a = d[pick] @ w
        new = w - eta * 2 * np.mean(a[:, None] * (d[pick] - a[:, None] * w), 0)
        return axes @ new / (v @ new)

    for pick, found in zip(picks, theory.tangent_maps(UNEVEN, eta, picks), strict=True):
        expected = np.stack([(step(e, pick) - step(-e, pick)) / (2 * h) for e in np.eye(2) * h], 1)
        np.testing.assert_allclose(found, expected, atol=1e-8)


def test_lyapunov_exponent_of_one_coordinate_is_the_mean_logarithm():
    """In the plane the maps are numbers."""
    points, eta = np.array([[1.0, 0.0], [1.0, 0.3], [1.0, -0.5]]), 0.7
    logs = np.log(np.abs(theory.tangent_maps(points, eta, np.arange(3)[:, None]).ravel()))
    value, error = theory.lyapunov(points, eta)
    assert abs(value - logs.mean()) < 4 * error
    assert error == pytest.approx(logs.std() / math.sqrt(256 * 1000), rel=0.2)
    assert theory.lyapunov([[1.0, 0.0]], 0.3)[0] == pytest.approx(math.log(0.4), rel=1e-12)


@pytest.mark.parametrize(
    "points",
    [theory.OVER, theory.fan(0.2), [[1, 0, 0], [0.5, 0.8, 0], [-0.5, 0.6, 0]], np.eye(5)[:4] + 0.1 * np.eye(5)[[1, 2, 3, 0]]],
)
def test_the_critical_rate_of_interpolated_points_is_one(points):
    """Below, each map 1 - 2η d dᵀ shortens no less than it keeps; at 1 it reflects; above it lengthens."""
    found, error = theory.critical_rate(points, numerical=True)
    assert abs(found - 1) < 0.002 + 3 * error
    assert theory.critical_rate(points) == (1.0, 0.0)
    assert theory.mean_square_critical_rate(points) == pytest.approx(1, rel=1e-6)
    assert theory.lyapunov(points, 1.0)[0] == pytest.approx(0, abs=1e-10)


def test_larger_batches_are_stable_up_to_larger_rates():
    """A batch of all points is gradient descent, stable up to 2/max H: approached from below as B grows."""
    limit = 2 / theory.minimum(theory.OVER).hessian.max()
    rates = [theory.mean_square_critical_rate(theory.OVER, b) for b in (1, 2, 8, 64)]
    assert rates == sorted(rates)
    assert rates[-1] < limit
    assert rates[-1] == pytest.approx(limit, rel=0.03)
    found, error = theory.critical_rate(theory.OVER, 2, accuracy=0.05)
    assert rates[1] < found < limit
    assert error < 0.01


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: theory.minimum([[1.0, 0.0, 0.0]]), "not simple.*valley"),
        (lambda: theory.around(1.0), "height=1.0; allowed"),
        (lambda: theory.around(0.1, 1), "n=1"),
    ],
)
def test_points_without_a_minimum_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
