"""Least squares with and without replacement: the data, the variances of a small run, and what is refused."""

import numpy as np
import pytest
import torch
from phenomena.ideal_gas import made_up

from thermolab.phenomena.ideal_gas import epochs
from thermolab.systems import network

SMALL = {"length": 25, "window": 25, "n_seeds": 2}


def test_the_hessian_is_diagonal_with_the_curvatures():
    data = epochs.answers((0.5, 2.0, 3.0), 120, seed=1)
    x = data.x.double().numpy()
    np.testing.assert_allclose(2 * x.T @ x / 120, np.diag([0.5, 2.0, 3.0]), atol=120 * 3 * 2.0**-23)
    assert abs(data.y.mean(0)).max() < 1e-6


def test_more_curvatures_than_directions_are_refused():
    with pytest.raises(ValueError, match=r"^65 curvatures; allowed: up to \d\d, the directions in which 100 images differ$"):
        epochs.answers(np.ones(65), 100)


def test_each_arm_has_the_variance_of_its_batches():
    found = epochs.epochs.run((0.8, 3.2), **SMALL)
    made_up.check_docstring(epochs.epochs, found, "variance predicted")
    decision = epochs.scatters_less(found)
    assert (decision.check.verdict != "fails", decision.control.verdict) == (True, "fails"), decision
    with_replacement = found["variance"].sel(batches="with").mean("position")
    np.testing.assert_allclose(with_replacement, 1, atol=0.25)  # 80 rows of 25 looks, a few steps of e-folding apart
    assert found["predicted"].sel(batches="without", curvature=0.8).mean() < 0.1


def test_one_order_for_all_epochs_is_told_apart(monkeypatch):
    """The physics broken: what an epoch leaves is the same each time and adds up."""
    drawn = network.random.shuffled

    def repeated(seed, streams, first_step, n, batch_size, high):
        length = high // batch_size
        return drawn(seed, streams, 0, length, batch_size, high)[(first_step + torch.arange(n)) % length]

    monkeypatch.setattr(network.random, "shuffled", repeated)
    found = epochs.epochs.run((0.8, 3.2), **SMALL)
    assert epochs.scatters_less(found).check.verdict == "fails"
