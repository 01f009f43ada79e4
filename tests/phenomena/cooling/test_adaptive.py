"""A schedule that waits for the escape from a plateau, and what it gains."""

import numpy as np
import pytest
from claimed import FAILS, HOLDS, verdicts
from phenomena.cooling import made_up

from thermolab.engine import schedules
from thermolab.engine.experiment import Experiment
from thermolab.phenomena.cooling import adaptive, classifiers, plateau


def test_what_has_passed():
    level = -10.0
    rise = np.array([-20.0, -20, -20, -19, -18, -16, -13, -9, -6, -5, -4.5, -4.4])
    flat = np.full(12, -20.0)
    above = np.linspace(-8, -9, 12)
    found = [adaptive.passed(np.stack([rise, flat, above])[:, : t + 1], level).tolist() for t in range(12)]
    assert [f[1] for f in found] == [False] * 12
    assert [f[2] for f in found] == [True] * 12
    # S − S four windows earlier is 4, 7, 10, 12, 11, 8.5, 4.6 from window 5 on: half of 12 is reached at the last
    assert [f[0] for f in found] == [False] * 11 + [True]


def test_schedules_are_those_of_the_engine():
    settings = {"replicas": 2, "windows": 10, "seed": 3}
    found = adaptive.three_schedules.measure(-20.0, tasks=("direct",), **settings).isel(task=0)
    assert found["begin"].values.tolist() == [[0, 0], [10, 10], [1, 1]]  # S is above the level from the start
    net = classifiers.system("mlp", width=plateau.WIDTH)
    cosine = schedules.cosine(0.2, 160, every=16)
    waiting = [[k + 16, change] for k, change in schedules.cosine(0.2, 144, every=16)]
    for events, row in ((cosine, 0), ([], 1), (waiting, 2)):
        run = Experiment(net, eta=0.2, batch_size=16, replicas=2, seed=3)
        list(run.drive(events, [], 160))
        loss = classifiers.evaluate(net.replicas, run.state.weights, classifiers.images()[1])[0]
        np.testing.assert_allclose(found["U_validation"][row], loss, rtol=1e-5)
    rates = schedules.values(cosine, 160)
    reached = found["travelled"].values[0]
    assert all(np.isclose(np.cumsum(rates)[15::16], r).any() for r in reached)
    never = adaptive.three_schedules.measure(0.0, tasks=("delayed",), **settings | {"windows": 6}).isel(task=0)
    assert never["begin"].values[2].tolist() == [6, 6]
    np.testing.assert_array_equal(never["U_validation"][1], never["U_validation"][2])
    assert never["travelled"].isnull().all()


def test_adaptive_waits_for_the_transition_and_only_for_it():
    found = adaptive.adaptive.run(replicas=2, windows=30, n_seeds=2)
    assert found["U_validation"].dims == ("task", "schedule", "seed", "replica")
    begin = found["begin"].sel(schedule="adaptive")
    assert (begin.sel(task="direct") <= 2).all()
    assert ((begin.sel(task="delayed") > 8) & (begin.sel(task="delayed") < 25)).all()
    loss = found["U_validation"].mean(("seed", "replica"))
    assert loss.sel(task="delayed", schedule="adaptive") < 0.8 * loss.sel(task="delayed", schedule="cosine")
    travelled = found["travelled"].sel(task="delayed").mean(("seed", "replica"))
    assert travelled.sel(schedule="cosine") == pytest.approx(float(travelled.sel(schedule="constant")), rel=0.15)


def test_the_adaptive_schedule():
    assert verdicts(adaptive.adaptive_wins(made_up.ended(0.7, 1.0))) == HOLDS
    assert verdicts(adaptive.adaptive_wins(made_up.ended(1.0, 0.7))) == FAILS
    assert verdicts(adaptive.adaptive_wins(made_up.ended(1.3, 1.0)))[0] == "fails"
    assert verdicts(adaptive.adaptive_wins(made_up.ended(0.94, 1.0, scatter=0.2)))[0] == "inconclusive"
    assert adaptive.adaptive_wins(made_up.ended(0.7, 1.0, scatter=0.0)).check.measured == pytest.approx(np.log(0.7))
