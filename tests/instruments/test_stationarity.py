"""The balance of pull and noise, on least squares whose noise depends on the place."""

import numpy as np
import pytest

from thermolab.instruments.stationarity import stationarity

HESSIAN = np.array([[1.0, 0.3], [0.3, 0.2]])


def walk(eta, *, start=(0.0, 0.0), steps=2500, replicas=200, decay=0.0, momentum=0.0, centre=(0.0, 0.0), seed=0):
    """SGD on wᵀHw/2 with noise ∝ 1 + |w|: (w − c)·(∇L + λw) and |g + λw|², or (1 + μ)|v|²/η², [replica, step]."""
    rng, pull, squared = np.random.default_rng(seed), [], []
    w, v = np.tile(np.asarray(start, float), (replicas, 1)), np.zeros((replicas, 2))
    for _ in range(steps):
        full = w @ HESSIAN + decay * w
        g = full + (1 + np.abs(w)) * rng.normal(size=w.shape) * (1.0, 0.4)
        pull.append(((w - centre) * full).sum(1))
        v = momentum * v - eta * g
        squared.append((1 + momentum) * (v * v).sum(1) / eta**2)
        w = w + v
    return np.array(pull).T, np.array(squared).T


@pytest.mark.parametrize(
    "how", [{}, {"centre": (1.0, -0.5)}, {"decay": 0.5, "centre": (0.5, 0.0)}, {"momentum": 0.8, "centre": (1.0, 1.0)}]
)
def test_ratio_is_one_in_the_stationary_state(how):
    pull, squared = (a[:, 500:].mean(1) for a in walk(0.05, **how))
    found = stationarity(pull, squared, 0.05)
    assert found.value == pytest.approx(1, abs=4 * found.standard_error)
    assert abs(stationarity(pull, squared, 0.1).value - 1) > 4 * found.standard_error


def test_before_the_relaxation_it_is_not():
    inwards = stationarity(*(a.mean(1) for a in walk(0.05, steps=60, start=(0.0, 4.0))), 0.05)
    outwards = stationarity(*(a.mean(1) for a in walk(0.05, steps=20)), 0.05)
    assert inwards.value > 1 + 10 * inwards.standard_error
    assert outwards.value < 1 - 10 * outwards.standard_error


def test_error_of_a_series_in_time_is_widened():
    pull, squared = (a[:, 500:] for a in walk(0.05))
    between = stationarity(pull.mean(1), squared.mean(1), 0.05)
    found = stationarity(pull, squared, np.full(len(pull), 0.05), time_ordered=True)
    assert (found.autocorrelation_time > 5).mean() > 0.9
    whole = stationarity(pull.mean(0), squared.mean(0), 0.05, time_ordered=True)
    assert whole.standard_error == pytest.approx(between.standard_error, rel=0.4)


def test_error_is_the_spread_over_repetitions():
    pull, squared = (a[:, 300:].mean(1) for a in walk(0.1, steps=1000, replicas=1000))
    parts = [stationarity(p, s, 0.1) for p, s in zip(pull.reshape(50, 20), squared.reshape(50, 20), strict=True)]
    spread = np.std([part.value for part in parts], ddof=1)
    assert np.mean([part.standard_error for part in parts]) == pytest.approx(spread, rel=0.4)
    rows = stationarity(pull.reshape(50, 20), squared.reshape(50, 20), np.full(50, 0.1))
    np.testing.assert_allclose(rows.value, [part.value for part in parts])


def test_what_is_refused():
    with pytest.raises(ValueError, match="same shape"):
        stationarity([1.0, 2.0], [1.0], 0.1)
    with pytest.raises(ValueError, match="positive"):
        stationarity([1.0, 2.0], [1.0, 1.0], 0.0)
