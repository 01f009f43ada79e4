"""The panel of notebook 01: entropy beside its closed form, and observables that leave no trace."""

import dataclasses
import math

import numpy as np
import pytest

from thermolab.instruments.spread import along_path
from thermolab.lab.live.views import Arm, read
from thermolab.phenomena.cooling import live
from thermolab.phenomena.cooling.live import IMAGES


def start(seed=5, **settings):
    return IMAGES.start(seed=seed, **IMAGES.checked(settings))


def readings(events, every, steps, **settings):
    arm = Arm("a", IMAGES, IMAGES.checked(settings))
    return [read(arm, frame) for frame in start(**settings).follow(events, every, steps)]


@pytest.mark.parametrize(("eta", "batch_size"), [(0.1, 16), (0.03, 64), (0.2, 256)])
def test_free_spread_is_that_of_a_random_walk(eta, batch_size):
    """Noise of variance η² C/B a step, of five values of C."""
    rng, noise = np.random.default_rng(0), np.repeat(10.0 ** np.arange(-2, 3), 8000)
    steps = rng.normal(size=(live.SNAPSHOTS, len(noise))) * eta * np.sqrt(live.spacing(batch_size) * noise / batch_size)
    found = along_path(np.cumsum(steps, 0)).value
    # the deviation of one logarithm is about 0.8
    assert found == pytest.approx(live.free_spread(float(np.log(noise).mean()), eta, batch_size), abs=3 * 0.8 / math.sqrt(40_000))


def test_a_window_lasts_an_epoch_where_that_has_16_steps():
    assert [live.SNAPSHOTS * live.spacing(b) * b for b in (4, 16, 64, 256)] == [1024, 1024, 1024, 4096]


def test_theory_follows_the_knobs():
    """η and B at the noise of one frame: a quarter of η, four times B with a quarter of the steps in an epoch."""
    frame = next(start(eta=0.2, batch_size=16).frames(10))
    before, colder, larger = (
        IMAGES.predict(dataclasses.replace(frame, knobs=frame.knobs | turned), {})
        for turned in ({}, {"eta": np.array([0.05])}, {"batch_size": np.array(64)})
    )
    assert before["S"] - colder["S"] == pytest.approx(math.log(16))
    assert before["S"] - larger["S"] == pytest.approx(math.log(16))
    assert [x["lambda_max"] for x in (before, colder, larger)] == pytest.approx([10, 40, 10])


def test_the_measurement_follows_theory():
    """Late in training, through a fall of S by 5 nats; what is left is of the noise, which is not white, and of a drift."""
    found = readings([[800, {"eta": 0.05}], [1000, {"batch_size": 64}]], 50, 1200, eta=0.2, batch_size=16)[8:]
    measured, theory = (np.array([r.means["S"][0] if k else r.theory["S"] for r in found]) for k in (1, 0))
    assert np.ptp(theory) > 4
    assert abs(np.mean(measured - theory)) < 0.3
    assert np.sqrt(np.mean((measured - theory) ** 2)) < 0.5


def test_observables_leave_no_trace():
    looked, blind = start(), start()
    for _ in looked.frames(7, until=70):
        pass
    blind.advance(70)
    assert (looked.state.weights == blind.state.weights).all()


def test_it_replays(replays):
    run = start()
    list(run.follow([[20, {"eta": 0.05}], [40, {"batch_size": 8}]], 10, 60))
    replays(IMAGES, run)
