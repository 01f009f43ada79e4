"""Schedules against their formulas, the accounts of examples and time, and the experiment that follows them."""

import math

import numpy as np
import pytest

from thermolab.engine.experiment import Experiment
from thermolab.engine.schedules import (
    batch_growth,
    constant,
    cosine,
    linear_decay,
    logarithmic,
    reversed_order,
    step_decay,
    values,
)
from thermolab.systems.isotropic import IsotropicNoise


# --- the formulas -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0, 20.0])
def test_a_logarithm_of_steps_to_the_last_step(alpha):
    k = np.arange(300)
    found = values(logarithmic(0.2, alpha, 300, accuracy=0), 300)
    np.testing.assert_allclose(found, 0.2 / (1 + alpha * np.log(1 + k)), rtol=1e-12)


@pytest.mark.parametrize("alpha", [1e-4, 0.1, 1.0, 20.0])
@pytest.mark.parametrize("accuracy", [0.003, 0.05])
def test_a_logarithm_of_steps_to_an_accuracy(alpha, accuracy):
    steps = 50_000
    events = logarithmic(0.2, alpha, steps, accuracy=accuracy)
    excess = values(events, steps) * (1 + alpha * np.log(1 + np.arange(steps))) / 0.2 - 1
    assert excess.min() > -1e-9
    assert excess.max() <= accuracy + 1e-9
    # no more events than that takes: a factor 1 + accuracy a piece
    assert len(events) <= 2 + math.log(1 + alpha * math.log(steps)) / math.log1p(accuracy)


def test_a_logarithm_of_epochs_holds_for_an_epoch():
    events = logarithmic(0.1, 2.0, 35, epoch=10)
    assert [step for step, _ in events] == [0, 10, 20, 30]
    found = values(events, 35)
    np.testing.assert_allclose(found, 0.1 / (1 + 2 * np.log(1 + np.arange(35) // 10)), rtol=1e-12)
    # one event an epoch is no substitute for counting steps: within the first epoch the rate would be 5.8 times too high
    assert found[9] / values(logarithmic(0.1, 2.0, 35, accuracy=0), 35)[9] == pytest.approx(1 + 2 * math.log(10))


def test_half_a_cosine():
    k = np.arange(40)
    np.testing.assert_allclose(values(cosine(0.2, 40, every=1), 40), 0.1 * (1 + np.cos(np.pi * k / 40)), rtol=1e-12)
    floor = values(cosine(0.2, 40, every=1, final=0.05), 40)
    np.testing.assert_allclose(floor, 0.05 + 0.075 * (1 + np.cos(np.pi * k / 40)), rtol=1e-12)
    coarse = cosine(0.2, 40, every=12)
    assert [step for step, _ in coarse] == [0, 12, 24, 36]
    assert [change["eta"] for _, change in coarse] == list(values(cosine(0.2, 40, every=1), 40)[::12])
    assert coarse[-1][1]["eta"] > 0
    assert cosine(0.2, 40, every=12, final=0.2) == constant(0.2)


def test_steps_and_a_constant():
    assert values(constant(0.3), 4).tolist() == [0.3] * 4
    assert values(step_decay(0.8, 0.5, (1, 3)), 5).tolist() == [0.8, 0.4, 0.4, 0.2, 0.2]
    assert step_decay(0.8, 0.5, []) == constant(0.8)
    assert step_decay(0.8, 1.0, [5]) == constant(0.8)


# --- batches ----------------------------------------------------------------------------------------------------------------
def test_growth_keeps_temperature_time_and_examples_of_each_stage():
    decay, steps = step_decay(0.4, 0.5, [100, 160, 200]), 240
    grown, length = batch_growth(decay, steps, 16)
    assert grown == [
        [0, {"eta": 0.4, "batch_size": 16}],
        [100, {"batch_size": 32}],
        [130, {"batch_size": 64}],
        [140, {"batch_size": 128}],
    ]
    assert length == 145
    size, eta = values(grown, length, "batch_size"), values(grown, length)
    assert size.sum() == 16 * steps
    assert eta.sum() == pytest.approx(values(decay, steps).sum())
    assert sorted(set(eta / size)) == pytest.approx(sorted(set(values(decay, steps) / 16)))


@pytest.mark.parametrize("powers", [False, True])
def test_growth_after_a_smooth_decay_is_rounded(powers):
    decay, steps = cosine(0.2, 4000, every=50, final=0.01), 4000
    grown, length = batch_growth(decay, steps, 8, powers_of_two=powers)
    size = values(grown, length, "batch_size")
    assert (size % 1 == 0).all()
    assert size[0] == 8
    assert (np.diff(size) >= 0).all()
    assert size.sum() == pytest.approx(8 * steps, abs=float(size.max()) * len(grown))
    wanted = {round(8 * 0.2 / change["eta"]) for _, change in decay}
    if powers:
        assert set(size) == {8, 16, 32, 64, 128}
    else:
        assert set(size) == wanted
    assert all(set(change) == {"batch_size"} for _, change in grown[1:])


def test_growth_up_to_a_limit():
    decay = step_decay(0.4, 0.5, [100, 200, 300])
    grown, length = batch_growth(decay, 400, 16, most=32)
    assert grown == [[0, {"eta": 0.4, "batch_size": 16}], [100, {"batch_size": 32}]]
    assert length == 250
    assert batch_growth(constant(0.1), 30, 7) == ([[0, {"eta": 0.1, "batch_size": 7}]], 30)


# --- backwards ----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("events", "steps"),
    [
        (logarithmic(0.1, 1.0, 500), 500),
        (cosine(0.2, 47, every=10), 47),
        ([[0, {"eta": 0.1, "batch_size": 8}], [5, {"batch_size": 16}], [9, {"eta": 0.2}]], 12),
    ],
)
def test_backwards_is_the_same_rates_last_first(events, steps):
    back = reversed_order(events, steps)
    for knob in events[0][1]:
        np.testing.assert_array_equal(values(back, steps, knob), values(events, steps, knob)[::-1])
    assert reversed_order(back, steps) == events


def test_nothing_is_turned_for_nothing():
    same = [[0, {"eta": 0.1}], [5, {"eta": 0.1}], [7, {"eta": 0.2}]]
    assert reversed_order(same, 10) == [[0, {"eta": 0.2}], [3, {"eta": 0.1}]]


# --- the run ------------------------------------------------------------------------------------------------------------------
def test_an_experiment_follows_a_schedule():
    events = logarithmic(0.2, 1.0, 60)
    run = Experiment(IsotropicNoise(3, "elr"), eta=1.0, lam=0.01)
    frames = list(run.follow(events, 10, 60))
    rates = values(events, 60)
    assert [f.knob("eta") for f in frames] == [rates[f.step - 1] for f in frames]  # a frame comes before the turn of its step
    assert run.events[0][1]["eta"] == 0.2
    assert run.events[1:] == events[1:]
    assert run.replay(run.log).log == run.log


# --- errors -------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: constant(0), "eta=0 must be finite and positive"),
        (lambda: constant(math.inf), "eta=inf must be"),
        (lambda: logarithmic(0.1, -1, 10), "alpha=-1 must be finite and not negative"),
        (lambda: logarithmic(0.1, 1, 10, accuracy=-0.1), "accuracy=-0.1"),
        (lambda: logarithmic(0.1, 1, 0), "steps=0 must be a whole number"),
        (lambda: logarithmic(0.1, 1, 10, epoch=0), "epoch=0"),
        (lambda: cosine(0.1, 10, every=2.5), "every=2.5 must be a whole number"),
        (lambda: cosine(0.1, 10, every=2, final=0.2), "final=0.2 must lie between 0 and eta=0.1"),
        (lambda: step_decay(0.1, 0, [5]), "factor=0"),
        (lambda: step_decay(0.1, 0.5, [5, 5]), "must be ascending"),
        (lambda: step_decay(0.1, 0.5, [0, 5]), "must be ascending"),
        (lambda: batch_growth(step_decay(0.1, 2, [5]), 10, 8), "eta=0.2 at step 5 exceeds its start 0.1"),
        (lambda: batch_growth([[0, {"eta": 0.1, "lam": 0.0}]], 10, 8), "events turn other knobs than eta"),
        (lambda: batch_growth(constant(0.1), 10, 0), "batch_size=0"),
        (lambda: batch_growth(constant(0.1), 10, 8, most=4), "most=4 is below batch_size=8"),
        (lambda: reversed_order([], 10), "must begin at 0"),
        (lambda: reversed_order([[3, {"eta": 0.1}]], 10), "must begin at 0"),
        (lambda: reversed_order(step_decay(0.1, 0.5, [10]), 10), "ascend to below steps=10"),
        (lambda: values(constant(0.1), 10, "lam"), "lam is not set at step 0"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_linear_decay_lowers_the_rate_to_nothing_in_the_last_quarter():
    events = linear_decay(0.1, 1000)
    steps, rates = [e[0] for e in events], [e[1]["eta"] for e in events]
    assert (steps[:2], rates[0], len(events)) == ([0, 750], 0.1, 21)
    assert (np.diff(steps) > 0).all()
    assert (np.diff(rates) < 0).all()
    assert rates[-1] == pytest.approx(0.1 / 40)


def test_linear_decay_after_a_warm_up():
    events = linear_decay(0.1, 1000, rise=0.1)
    at = {step: knobs["eta"] for step, knobs in events}
    assert at[0] == pytest.approx(0.0025)
    assert at[95] == pytest.approx(0.0975)
    assert at[100] == 0.1
    assert {k: v for k, v in at.items() if k >= 100} == {100: 0.1} | {k: v["eta"] for k, v in linear_decay(0.1, 1000)[1:]}
    with pytest.raises(ValueError, match=r"rise=0\.8 must be 0 or more and leave the share=0\.25 of the steps in which η falls"):
        linear_decay(0.1, 1000, rise=0.8)


def test_linear_decay_of_few_steps():
    assert linear_decay(1.0, 2, share=1.0, stages=9)[-1][0] == 1
    with pytest.raises(ValueError, match="share=0"):
        linear_decay(0.1, 10, share=0)
