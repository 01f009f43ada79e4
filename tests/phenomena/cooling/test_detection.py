"""A drop of η, seen in S; what detectors make of series made up by hand."""

import numpy as np
import pytest
import xarray as xr
from claimed import FAILS, verdicts

from thermolab.engine.experiment import Experiment
from thermolab.phenomena.cooling import classifiers, detection, plateau

DROP = {"replicas": 3, "burn_in": 10, "baseline": 3, "before": 2, "after": 3, "n_seeds": 2}


def test_a_drop_of_the_learning_rate():
    found = detection.detection.run((0.5,), **DROP)
    assert found["S"].dims == ("ratio", "seed", "replica", "window")
    assert found["S"].shape == (2, 2, 3, 8)
    assert found["calibration"].shape == (2, 3, 8)
    assert found.attrs == {"baseline": 3, "change": 5}
    same, dropped = found["S"].values
    np.testing.assert_array_equal(same[..., :5], dropped[..., :5])  # up to the change
    assert not (found["calibration"].values[..., 0] == same[..., 0]).any()
    # S goes as 2 log η: the change is −1.4, beside 0.15 for what a window scatters by
    assert (dropped - same)[..., 5:].mean() == pytest.approx(2 * np.log(0.5), abs=0.3)
    assert same[..., 5:].mean() == pytest.approx(same[..., :5].mean(), abs=0.3)


def test_the_runs_after_a_drop_are_those_of_a_plain_loop():
    found = detection.detection.run((0.5, 2.0), **DROP | {"n_seeds": 1})["S"].isel(seed=0)
    more = {"lam": detection.DECAY, "batch_size": 16}
    net = classifiers.system("mlp", width=detection.WIDTH)
    run = Experiment(net, eta=0.1, replicas=6, **more)
    run.advance((10 + 5) * 32)
    # the last replica, under the last of the ratios
    after = Experiment(net, eta=0.2, weights=run.state.weights[5:], streams=[6 + 4 * 3 - 1], **more)
    assert plateau.window(after, 32, 16)[0] == pytest.approx(found.values[2, 2, 5], abs=1e-6)


def series(step, *, runs=60, loud=1.0, seed=1):
    """White noise of 80 windows with a step after the sixtieth, at a ratio of 0.8; `loud`: of the runs without a drop."""
    rng = np.random.default_rng(seed)
    calm, null, changed = rng.normal(size=(3, 2, runs // 2, 80))
    changed[..., 60:] -= step
    data = {
        "S": (("ratio", "seed", "replica", "window"), np.stack([loud * null, changed])),
        "calibration": (("seed", "replica", "window"), calm),
    }
    return xr.Dataset(data, {"ratio": [1.0, 0.8]}, {"baseline": 30, "change": 60})


def test_second_differences_and_sums():
    assert verdicts(detection.second_differences(series(3.5))) == FAILS  # as in the real thing
    assert verdicts(detection.second_differences(series(30.0))) == ("holds", "holds")
    assert verdicts(detection.second_differences(series(0.0))) == ("fails", "fails")
    assert verdicts(detection.second_differences(series(3.5, runs=16))) == ("inconclusive", "inconclusive")
    # null runs that alarm far too often: the level is worth nothing
    assert verdicts(detection.second_differences(series(30.0, loud=3.0)))[0] == "inconclusive"


def test_the_performance_of_a_detector():
    found = detection.performance(series(8.0), detection.sums)
    assert found.power.value > 0.9
    assert found.delay <= 2
    assert found.power.n == 60
    # a step is seen at once, or one window later, or not at all
    alarm = detection.accelerations(np.r_[np.zeros(60), np.ones(20)], 30)
    assert np.flatnonzero(alarm).tolist() == [30, 31]
