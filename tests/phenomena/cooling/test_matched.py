"""Runs of equal energy against a plain loop, and the order of their gaps."""

import numpy as np
import pytest
import torch
from claimed import FAILS, HOLDS, verdicts
from phenomena.cooling import made_up

from thermolab.engine.experiment import Experiment
from thermolab.instruments import spread
from thermolab.phenomena.cooling import classifiers, matched


def test_matched_runs_stop_where_a_single_run_first_gets_there():
    settings = {"lams": (0.0, 1e-2), "sizes": (64, 32), "energy": 0.8, "label_noise": 0.2, "n_seeds": 2, "seed": 1}
    data = matched.matched.run((0.05, 0.1), epochs=12, **settings)
    assert dict(data.sizes) == {"run": 8, "seed": 2}
    assert data["U"].max() <= 0.8
    which = np.flatnonzero((data["eta"] == 0.05) & (data["lam"] == 1e-2) & (data["batch_size"] == 64))
    found = data.isel(run=int(which[0]), seed=1)
    net, (train, held_out) = classifiers.system("mlp", label_noise=0.2), classifiers.images("mid", 0.2)
    weights = net.start(torch.zeros(1, dtype=torch.int64), 1001)
    run, path = Experiment(net, eta=0.05, lam=1e-2, batch_size=64, seed=1001, weights=weights), []
    while True:
        for _ in range(2):
            run.advance(1)
            path.append(run.state.weights.numpy())
        u = classifiers.evaluate(net.replicas, run.state.weights, train)[0][0]
        if u <= 0.8:
            break
    assert float(found["epoch"]) == run.state.step / 16
    assert float(found["U"]) == pytest.approx(u, rel=1e-5)
    gap = classifiers.evaluate(net.replicas, run.state.weights, held_out)[0][0] - u
    assert float(found["gap"]) == pytest.approx(gap, rel=1e-4)
    assert float(found["S_path"]) == pytest.approx(spread.along_path(np.stack(path[-16:])).value[0], abs=1e-3)


def test_runs_that_do_not_get_there_are_nan():
    data = matched.matched.run((1e-4, 0.2), lams=(0.0,), sizes=(64,), energy=1.0, epochs=3, n_seeds=1)
    assert np.isnan(data["gap"].values[:, 0]).tolist() == [True, False]
    early = matched.matched.run((0.2,), lams=(0.0,), sizes=(16,), energy=2.0, epochs=1, n_seeds=1)
    assert np.isnan(early["S_path"]).all()  # within the first epoch there is no window


def test_the_order_of_the_gaps():
    assert verdicts(matched.minimal_entropy(made_up.equal_runs())) == FAILS
    assert verdicts(matched.minimal_entropy(made_up.equal_runs(path=1.0, entries=-1.0))) == HOLDS
    assert matched.minimal_entropy(made_up.equal_runs(path=0.12)).check.verdict == "inconclusive"
    data = made_up.equal_runs(path=1.0, size=0.0)
    data["gap"][:14, 0] = np.nan
    assert np.isnan(matched.gap_order(data, "S_path")).tolist() == [True, *[False] * 5]
    assert matched.gap_order(data, "S_path")[1] == pytest.approx(1)
