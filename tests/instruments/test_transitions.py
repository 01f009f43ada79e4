"""Detectors against series written out, tabled run lengths of CUSUM, and AR(1) runs on which the tables are wrong."""

import math

import numpy as np
import pytest
from scipy.signal import lfilter

from thermolab.instruments import transitions
from thermolab.instruments.transitions import cusum, first_alarm, rates, second_difference, steepest, threshold


def ar1(phi, runs, length, seed=0, burn_in=200):
    """Stationary AR(1) of unit variance [runs, length]."""
    kick = np.random.default_rng(seed).normal(size=(runs, length + burn_in))
    return lfilter([np.sqrt(1 - phi**2)], [1, -phi], kick, axis=-1)[:, burn_in:]


# --- second difference --------------------------------------------------------------------------------------------------
def test_second_difference_of_a_parabola_a_line_and_a_step():
    t = np.arange(6.0)
    found = second_difference([3 * t**2 - t, 5 - 2 * t, 7.0 * (t >= 3)])
    assert np.isnan(found[:, :2]).all()
    np.testing.assert_allclose(found[:, 2:], [[6, 6, 6, 6], [0, 0, 0, 0], [0, 7, 7, 0]], atol=1e-12)


def test_second_difference_of_white_noise_is_root_six_wider():
    found = second_difference(np.random.default_rng(0).normal(size=(400, 52)))[:, 2:]
    assert np.sqrt((found**2).mean()) == pytest.approx(math.sqrt(6), rel=0.03)  # 20000 correlated values: 1 %


# --- CUSUM --------------------------------------------------------------------------------------------------------------
def test_cusum_against_the_recursion_and_its_closed_form():
    series = np.random.default_rng(1).normal(size=(5, 40))
    z = (series - 0.3) / 2.0
    for sign, side in ((1, "up"), (-1, "down")):
        # C_t = W_t − min_{s ≤ t} W_s with W the plain sum of z − κ, W_0 = 0
        walk = np.concatenate([np.zeros((5, 1)), np.cumsum(sign * z - 0.25, 1)], 1)
        closed = (walk - np.minimum.accumulate(walk, 1))[:, 1:]
        np.testing.assert_allclose(cusum(series, mean=0.3, sigma=2.0, kappa=0.25, side=side), closed, atol=1e-12)
    both = np.maximum(*(cusum(series, mean=0.3, sigma=2.0, kappa=0.25, side=side) for side in ("up", "down")))
    np.testing.assert_array_equal(cusum(series, mean=0.3, sigma=2.0, kappa=0.25), both)


@pytest.mark.parametrize(
    ("shift", "level", "side", "length"),
    # Montgomery, table 9.3, κ = ½; one-sided without shift: Hawkins & Olwell 1998
    [(0.0, 4, "both", 168), (0.0, 5, "both", 465), (1.0, 4, "both", 8.38), (1.0, 5, "both", 10.4), (-2.0, 5, "both", 4.01),
     (0.0, 4, "up", 335.4)],
)  # fmt: skip
def test_cusum_run_lengths_on_white_noise(shift, level, side, length):
    runs, steps = (800, 6000) if shift == 0 else (4000, 200)
    z = np.random.default_rng(2).normal(shift, size=(runs, steps))
    alarm = first_alarm(cusum(z, mean=0, sigma=1, side=side), level)
    assert (alarm >= 0).all()
    waited = alarm + 1
    assert waited.mean() == pytest.approx(length, abs=4 * waited.std() / math.sqrt(runs) + 0.005 * length)


def test_correlation_breaks_the_nominal_rate_and_calibration_mends_it():
    null = [cusum(ar1(0.6, 400, 60, seed), mean=0, sigma=1) for seed in (0, 1)]
    white = cusum(ar1(0.0, 400, 60), mean=0, sigma=1)
    nominal = 4.77  # a false alarm each 370 samples
    assert rates(white, white, nominal, 1).false_positives.value < 0.2  # 60/370, less the start from 0
    assert rates(null[1], null[1], nominal, 1).false_positives.value > 0.6
    held_out = rates(null[1], null[1], threshold(null[0], 0.05), 1).false_positives
    assert held_out.value == pytest.approx(0.05, abs=4 * math.sqrt(2 * 0.05 * 0.95 / 400))


def test_the_baseline_gives_mean_and_sigma():
    series = np.random.default_rng(3).normal(size=(3, 30))
    before = series[:, :12]
    expected = cusum(series[:, 12:], mean=before.mean(1), sigma=before.std(1, ddof=1))
    found = cusum(series, baseline=12)
    np.testing.assert_allclose(found[:, 12:], expected, rtol=1e-12)
    assert (found[:, :12] == 0).all()
    np.testing.assert_allclose(cusum(-1e3 * series + 7, baseline=12), found, rtol=1e-9)  # units, origin and sign
    np.testing.assert_allclose(cusum(series[1], baseline=12), found[1], rtol=1e-12)  # runs do not mix


# --- thresholds ---------------------------------------------------------------------------------------------------------
def test_threshold_is_an_order_statistic_of_the_run_maxima():
    null = np.zeros((19, 4))
    null[:, 2] = np.random.default_rng(0).permutation(19) + 1.0
    null[:, 0] = np.nan
    assert threshold(null, 0.05) == 19
    assert threshold(null, 0.1) == 18
    assert threshold(null, 0.5) == 10
    with pytest.raises(ValueError, match=r"19 null runs .* 0.04: at least 24"):
        threshold(null, 0.04)
    assert threshold(np.repeat(null, 2, 0), 0.04) == 19  # 38 are enough


def test_threshold_keeps_its_promise_on_average():
    """P(max of a further run > threshold) = 1 − k/(n + 1) exactly: 2/20 for 19 runs at a rate of 0.1."""
    maxima = np.random.default_rng(4).exponential(size=(20_000, 20, 1))
    exceeded = np.mean([m[19, 0] > threshold(m[:19], 0.1) for m in maxima])
    assert exceeded == pytest.approx(0.1, abs=4 * math.sqrt(0.09 / 20_000))


# --- rates --------------------------------------------------------------------------------------------------------------
def test_rates_counted_by_hand():
    null = np.zeros((4, 10))
    null[2, 0] = 2.0
    changed = np.zeros((5, 10))
    changed[0, 5:] = 2.0  # delay 0
    changed[1, 7] = 2.0  # delay 2
    changed[2, 9] = 2.0  # delay 4
    changed[3, [4, 6]] = 2.0  # too early, whatever comes later
    changed[4] = 1.0  # the level itself is no alarm
    changed[:, 0] = np.nan
    found = rates(null, changed, 1.0, 5)
    assert (found.false_positives.value, found.power.value, found.early.value) == (0.25, 0.6, 0.2)
    assert (found.false_positives.n, found.power.n, found.level) == (4, 5, 1.0)
    assert found.delay == 4  # of 0, 2, 4, ∞, ∞
    assert math.isnan(found.delay_error)
    np.testing.assert_array_equal(first_alarm(changed, 1.0), [5, 7, 9, 4, -1])
    assert rates(null, changed[2:], 1.0, 5).delay == math.inf


def test_errors_of_shares_are_wilson():
    none, half = transitions._share(np.zeros(30, bool)), transitions._share(np.arange(30) < 15)
    assert none.standard_error == pytest.approx(0.5 / 31)
    assert half.standard_error == pytest.approx(math.sqrt(0.25 / 31))
    assert (half.value, half.n) == (0.5, 30)


def test_error_of_the_median():
    delays = np.random.default_rng(5).exponential(size=(2000, 33))
    found = np.array([transitions._median(d) for d in delays])
    # order statistics are discrete and cover at least 68 %
    assert 0.95 < found[:, 1].mean() / found[:, 0].std() < 1.35


def test_a_step_change():
    """CUSUM finds a lasting step of 1.5 σ that the second difference misses: the statement of the register."""
    null, held_out, changed = ar1(0.3, 200, 50, 0), ar1(0.3, 200, 50, 1), ar1(0.3, 200, 50, 2)
    changed[:, 30:] += 1.5
    power = {}
    for name, detector in (("cusum", lambda s: cusum(s, mean=0, sigma=1)), ("second", second_difference)):
        found = rates(detector(held_out), detector(changed), threshold(detector(null)), 30)
        power[name] = found.power.value
        assert found.false_positives.value <= 0.05 + 3 * math.sqrt(2) * found.false_positives.standard_error
    assert power["cusum"] > 0.9
    assert power["second"] < 0.2


# --- steepest -----------------------------------------------------------------------------------------------------------
def test_steepest():
    t = np.arange(40)
    rise, fall = np.tanh((t - 21.5) / 2), -np.tanh((t - 10.5) / 2)
    np.testing.assert_array_equal(steepest([rise, fall]), [21.5, 10.5])
    assert steepest(rise, lag=5) == 21.5
    assert steepest(3 * fall - 1, lag=3) == 10.5


# --- refusals -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: second_difference([1.0, 2.0]), "T of 3 or more"),
        (lambda: second_difference([1.0, np.nan, 2.0]), "nan or inf"),
        (lambda: cusum(np.ones((2, 9)), baseline=4), r"sigma=0\.0 .* constant"),
        (lambda: cusum(np.arange(9.0)), "either a baseline, or both"),
        (lambda: cusum(np.arange(9.0), mean=0), "either a baseline, or both"),
        (lambda: cusum(np.arange(9.0), baseline=4, sigma=1), "either a baseline, or both"),
        (lambda: cusum(np.arange(9.0), baseline=4, mean=0, sigma=1), "either a baseline, or both"),
        (lambda: cusum(np.arange(9.0), baseline=9), "allowed: 2 to 8"),
        (lambda: cusum(np.arange(9.0), baseline=4, side="left"), "allowed: both, up, down"),
        (lambda: cusum(np.arange(9.0), baseline=4, kappa=-1), "kappa=-1"),
        (lambda: threshold(np.ones((30, 3)), 0), "rate=0"),
        (lambda: threshold(np.ones(30)), r"allowed: \[runs, T\]"),
        (lambda: rates(np.ones((2, 9)), np.ones((2, 9)), 1, 9), "change=9 .*1 to 8"),
        (lambda: steepest(np.arange(4.0), lag=4), "lag=4 .*1 to 3"),
    ],
)
def test_a_series_without_a_transition_to_find_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("value", [0.1, 0.3, 123.456, 0.5, 0.0, -1e-300])
def test_a_baseline_that_differs_by_rounding_alone_is_constant(value):
    series = np.full(1000, value)
    for changed in (series, series * (1 + np.finfo(float).eps * (np.arange(1000) % 2))):
        with pytest.raises(ValueError, match=r"sigma=0\.0 for a run; allowed: above 0: its baseline is constant"):
            cusum(changed, baseline=30)
    moving = np.stack([series, np.arange(1000.0)])
    with pytest.raises(ValueError, match="its baseline is constant"):
        cusum(moving, baseline=30)


def test_complex_series_are_refused():
    with pytest.raises(ValueError, match="the values are complex"):
        second_difference(np.arange(5) * 1j)
