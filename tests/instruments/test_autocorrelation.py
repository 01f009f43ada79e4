"""Autocorrelation times against AR(1), where τ = (1 + φ)/(1 − φ), and against the sum written out."""

import numpy as np
import pytest
import torch
from scipy.signal import lfilter

from thermolab.instruments.autocorrelation import (
    integrated_autocorrelation_time,
    sample_mean,
    trajectory_autocorrelation_time,
)


def ar1(phi, shape, seed=0, burn_in=500):
    """Stationary AR(1) along the last axis, unit variance."""
    kick = np.random.default_rng(seed).normal(size=(*shape[:-1], shape[-1] + burn_in))
    return lfilter([np.sqrt(1 - phi**2)], [1, -phi], kick, axis=-1)[..., burn_in:]


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9])
def test_ar1(phi):
    tau = (1 + phi) / (1 - phi)
    found = integrated_autocorrelation_time(ar1(phi, (60, 10_000)))
    # Truncation at five τ leaves out exp(-10); subtracting the sample mean costs τ/T.
    mean, spread = found.value.mean(), found.value.std(ddof=1)
    assert mean == pytest.approx(tau, abs=4 * spread / np.sqrt(60) + 0.005 * tau)
    assert 0.6 < spread / found.standard_error.mean() < 1.4


def test_against_the_sum_written_out():
    series = ar1(0.6, (200,))
    deviation = series - series.mean()
    rho = [deviation[: 200 - t] @ deviation[t:] / (deviation @ deviation) for t in range(200)]
    w = next(w for w in range(200) if w >= 5 * (1 + 2 * sum(rho[1 : w + 1])))
    found = integrated_autocorrelation_time(series)
    assert found.window == w
    assert found.value == pytest.approx(1 + 2 * sum(rho[1 : w + 1]), rel=1e-12)
    assert found.standard_error == pytest.approx(found.value * np.sqrt(2 * (2 * w + 1) / 200), rel=1e-12)


def test_units_and_origin_do_not_matter():
    series = ar1(0.8, (3, 2000))
    plain = integrated_autocorrelation_time(series)
    np.testing.assert_allclose(integrated_autocorrelation_time(-1e-7 * series).value, plain.value, rtol=1e-10)
    np.testing.assert_allclose(integrated_autocorrelation_time(series + 1e6).value, plain.value, rtol=1e-6)
    assert integrated_autocorrelation_time(torch.as_tensor(series[0])).value == plain.value[0]


def test_anticorrelated_and_constant_series():
    assert integrated_autocorrelation_time(ar1(-0.9, (2000,))).value == 1.0
    assert np.isnan(integrated_autocorrelation_time(np.full(100, 0.1)).value)


def test_trajectory_averages_over_the_coordinates_that_move():
    moving = ar1(0.8, (2, 40, 4000)).swapaxes(-1, -2) * np.logspace(-3, 3, 40) + 5
    found = trajectory_autocorrelation_time(moving)
    np.testing.assert_allclose(found.value, 9, rtol=0.06)  # one coordinate alone has an error of 16 %
    frozen = np.concatenate([moving, np.full((2, 4000, 10), 0.1)], axis=-1)
    np.testing.assert_allclose(trajectory_autocorrelation_time(frozen).value, found.value, rtol=1e-12)
    some = trajectory_autocorrelation_time(moving, max_coordinates=10)
    np.testing.assert_allclose(some.value, trajectory_autocorrelation_time(moving[..., ::4]).value, rtol=1e-12)
    assert np.isnan(trajectory_autocorrelation_time(np.ones((50, 3))).value)


def test_error_of_a_mean_of_correlated_samples():
    samples = ar1(0.8, (300, 2000))
    spread = samples.mean(-1).std(ddof=1)
    ordered, unordered = sample_mean(samples, time_ordered=True), sample_mean(samples)
    assert spread / ordered.standard_error.mean() == pytest.approx(1, abs=4 / np.sqrt(2 * 300))
    assert spread / unordered.standard_error.mean() == pytest.approx(3, rel=0.2)  # the control: √τ too small
    assert np.isnan(unordered.autocorrelation_time).all()


def test_an_average_over_fewer_than_fifty_correlation_times_says_so():
    """AR(1) with τ = 19: ten τ are too short, two hundred long enough; independent samples always are."""
    samples = ar1(0.9, (8, 19 * 200))
    for length, short in ((19 * 200, False), (19 * 10, True)):
        found = sample_mean(samples[:, :length], time_ordered=True)
        assert found.short.tolist() == [short] * 8
        assert integrated_autocorrelation_time(samples[0, :length]).short is short
        assert sample_mean(samples[0, :length]).short is False
    assert found.autocorrelation_time.mean() < 0.9 * 19  # what it tells of: τ of so short a series is too small


def test_mean_of_one_and_of_constant_samples():
    one = sample_mean(2.0 * np.ones(1))
    assert one.value == 2
    assert one.n == 1
    assert np.isnan(one.standard_error)
    assert sample_mean(np.ones(10), time_ordered=True).standard_error == 0


def test_a_series_too_short_or_broken_has_no_time():
    for bad, message in ((np.ones(1), "T=1"), (3.0, "no series"), ([1.0, np.nan, 2.0], "nan or inf")):
        with pytest.raises(ValueError, match=message):
            integrated_autocorrelation_time(bad)
    with pytest.raises(ValueError, match="T=1"):
        trajectory_autocorrelation_time(np.ones((1, 5)))
