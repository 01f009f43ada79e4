"""The checks of the exercises of notebook 02."""

import math

import numpy as np
import xarray as xr

from thermolab.phenomena.temperature_collapse import exercises, training


def toy_with(slope):
    """A toy whose excess energy is `slope` times η."""

    def fake(*, eta, seed, n_seeds):
        excess = slope * np.array(eta)[:, None] * np.ones(n_seeds)
        return xr.Dataset({"U": (("eta", "seed"), 0.04 + excess), "U_min": 0.04})

    return fake


def test_the_rate_of_the_toy(monkeypatch):
    monkeypatch.setattr(exercises.toy.stationary, "run", toy_with(0.04), raising=False)
    assert exercises.check_toy_rate(0.05)
    assert exercises.check_toy_rate(0.052)
    for wrong in (0.04, 0.055, 0.3):
        assert not exercises.check_toy_rate(wrong)
    for bad in (None, math.nan, 0.0, -0.05, 1e-4, 1e3):
        assert "write a number" in exercises.check_toy_rate(bad).message


def test_the_batch_size(monkeypatch):
    asked = []

    def fake(rates, *, batch_size, **settings):
        asked.append((rates, batch_size))
        known = [0.5, 0.999] if batch_size > 100 else [0.999, 0.6]
        variables = {"accuracy": known, "U": [1.0, 0.1], "T_gas": [1e-2, 1e-5]}
        return xr.Dataset({k: (("eta", "time", "seed"), [np.transpose([v, v])]) for k, v in variables.items()})

    monkeypatch.setattr(training.training, "run", fake, raising=False)
    right, wrong = exercises.check_batch_size(128), exercises.check_batch_size(32)
    assert right
    assert not wrong
    assert asked == [((0.01,), 128), ((0.01,), 32)]
    assert right.message == "at the end U = 0.100, T = 1.0e-05, accuracy 0.999"
    for bad in (None, 1, 0, -8, 257, math.nan, math.inf):
        assert "write a whole number from 2 to 256" in exercises.check_batch_size(bad).message
    assert len(asked) == 2


def test_the_batch_size_at_a_reduced_size(monkeypatch):
    """The real recipe, shortened: it is called with what it takes, and answers."""
    short = {"steps": 8, "logs": 2, "samples": 4, "width": 4, "n_data": 32}
    full = training.training.run
    monkeypatch.setattr(training.training, "run", lambda rates, **settings: full(rates, **settings | short), raising=False)
    answer = exercises.check_batch_size(64)
    assert not answer
    assert "accuracy" in answer.message


def test_bounds_of_the_second_state():
    assert exercises.check_bounds(1e-3, 2e-3)
    assert exercises.check_bounds(1.01e-3, 1.99e-3)
    for wrong, which in (((2e-3, 1e-3), "lower"), ((1e-3, 4e-3), "upper"), ((0, 2e-3), "lower"),
                         ((1.05e-3, 2e-3), "lower"), ((1e-3, 1.9e-3), "upper")):  # fmt: skip
        answer = exercises.check_bounds(*wrong)
        assert not answer
        assert f"the {which} bound is not" in answer.message
    for missing in ((None, 2e-3), (1e-3, None), (1e-3, math.inf), (math.nan, 2e-3)):
        assert "both" in exercises.check_bounds(*missing).message
