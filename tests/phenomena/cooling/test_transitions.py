"""A drop of η seen in S, λ_max across it and along an escape; what detectors make of series made up by hand."""

import numpy as np
import pytest
from claimed import FAILS, HOLDS, verdicts
from phenomena.cooling import made_up

from thermolab.engine.experiment import Experiment
from thermolab.instruments.curvature import HessianProducts, largest_eigenvalue, largest_fisher
from thermolab.phenomena.cooling import classifiers, plateau, transitions

DROP = {"replicas": 3, "burn_in": 10, "baseline": 3, "before": 2, "after": 3, "n_seeds": 2}


def test_a_drop_of_the_learning_rate():
    found = transitions.detection.run((0.5,), **DROP)
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
    found = transitions.detection.run((0.5, 2.0), **DROP | {"n_seeds": 1})["S"].isel(seed=0)
    more = {"lam": transitions.DECAY, "batch_size": 16}
    net = classifiers.system("mlp", width=transitions.WIDTH)
    run = Experiment(net, eta=0.1, replicas=6, **more)
    run.advance((10 + 5) * 32)
    # the last replica, under the last of the ratios
    after = Experiment(net, eta=0.2, weights=run.state.weights[5:], streams=[6 + 4 * 3 - 1], **more)
    assert plateau.window(after, 32, 16)[0] == pytest.approx(found.values[2, 2, 5], abs=1e-6)


def test_second_differences_and_sums():
    assert verdicts(transitions.second_differences(made_up.series(3.5))) == FAILS  # as in the real thing
    assert verdicts(transitions.second_differences(made_up.series(30.0))) == ("holds", "holds")
    assert verdicts(transitions.second_differences(made_up.series(0.0))) == ("fails", "fails")
    assert verdicts(transitions.second_differences(made_up.series(3.5, runs=16))) == ("inconclusive", "inconclusive")
    # null runs that alarm far too often: the level is worth nothing
    assert verdicts(transitions.second_differences(made_up.series(30.0, loud=3.0)))[0] == "inconclusive"


def test_the_performance_of_a_detector():
    found = transitions.performance(made_up.series(8.0), transitions.sums)
    assert found.power.value > 0.9
    assert found.delay <= 2
    assert found.power.n == 60
    # a step is seen at once, or one window later, or not at all
    alarm = transitions.accelerations(np.r_[np.zeros(60), np.ones(20)], 30)
    assert np.flatnonzero(alarm).tolist() == [30, 31]


# --- curvature ----------------------------------------------------------------------------------------------------------
def test_curvature_along_the_runs():
    found = transitions.curvature.run(replicas=1, points=3, baseline=1, samples=64, n_seeds=1)
    assert found["lambda_max"].dims == ("arm", "seed", "replica", "point")
    assert found.attrs["baseline"] == 1
    assert (found["U"].sel(arm="steady") < 0.5).all()
    begun = plateau.begin(0.04, [0], "mid", seed=0)
    begun.advance(64)
    still = Experiment(classifiers.system("mlp", width=16), eta=0.1, lam=0.03, batch_size=16)
    still.advance((60 + 2) * 32)
    still.set(eta=0.05)
    still.advance(64)
    x, y = classifiers.images()[0].x[:64], classifiers.images()[0].y[:64]
    for arm, run in (("escape", begun), ("drop", still)):
        top = largest_eigenvalue(HessianProducts(run.system, run.state.weights[0], x, y), looks=3)
        assert found["lambda_max"].sel(arm=arm).values[0, 0, 1] == pytest.approx(top.value, rel=0.02)
        fisher = largest_fisher(run.system, run.state.weights[0], x)
        assert found["fisher_max"].sel(arm=arm).values[0, 0, 1] == pytest.approx(fisher, rel=1e-3)


@pytest.mark.parametrize("flags", [transitions.hessian_flags, transitions.fisher_flags])
def test_curvature_flags(flags):
    assert verdicts(flags(made_up.curved(20.0, 1.0))) == HOLDS
    assert verdicts(flags(made_up.curved(0.05, 1.0))) == HOLDS
    assert verdicts(flags(made_up.curved(1.0, 3.0))) == FAILS
    assert verdicts(flags(made_up.curved(20.0, 3.0))) == ("holds", "holds")


def test_each_flag_reads_its_own_matrix():
    data = made_up.curved(20.0, 1.0)
    data["fisher_max"][0] = data["fisher_max"][1]
    assert transitions.hessian_flags(data).check.verdict == "holds"
    assert transitions.fisher_flags(data).check.verdict == "fails"
    data["lambda_max"][0, 0, 0, 5] = -1e-3  # of a search that did not get there
    assert verdicts(transitions.hessian_flags(data)) == HOLDS
