"""Scenarios: what may be turned, in words; runs from plain values; scripts and logs."""

import asyncio
import json
import math
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from thermolab.engine.experiment import Experiment
from thermolab.engine.scenario import BATCH_SIZE, ETA, LAM, Knob, Observable, Scenario, scripted
from thermolab.systems.isotropic import IsotropicNoise

PROTOCOL = Knob("protocol", scale="choice", options=("elr", "lr"))


def build(*, seed, device, eta, lam, protocol, dim):
    return Experiment(IsotropicNoise(dim, protocol), eta=eta, lam=lam, replicas=4, seed=seed, device=device)


GAS = Scenario(
    "gas",
    build,
    {"eta": ETA, "lam": LAM, "protocol": PROTOCOL, "dim": Knob("dimension D", 3, 16, "whole")},
    {"eta": 0.05, "lam": 0.02, "protocol": "elr", "dim": 4},
    {"U": Observable("energy U")},
)


def equal(a, b):
    return a.state.step == b.state.step and torch.equal(a.state.weights, b.state.weights)


# --- knobs ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("knob", "value", "found"),
    [
        (ETA, 1e-4, 1e-4), (ETA, 1, 1.0), (ETA, np.float32(0.5), 0.5), (LAM, 0, 0.0), (LAM, 0.0, 0.0), (LAM, 1e-5, 1e-5),
        (BATCH_SIZE, 2, 2), (BATCH_SIZE, np.int64(1024), 1024), (BATCH_SIZE, 33, 33), (PROTOCOL, "lr", "lr"),
        (Knob("x", -1, 1, "linear"), -0.5, -0.5),
    ],
)  # fmt: skip
def test_allowed_values_become_plain_ones(knob, value, found):
    got = knob.check("x", value)
    assert got == found
    assert type(got) is type(found)


@pytest.mark.parametrize(
    ("knob", "value", "message"),
    [
        (ETA, 0, "eta=0 is not allowed; allowed: a number from 0.0001 to 1"),
        (ETA, 1.5, "eta=1.5 is not allowed; allowed: a number from 0.0001 to 1"),
        (ETA, math.nan, "eta=nan is not allowed"),
        (ETA, math.inf, "eta=inf is not allowed"),
        (ETA, True, "eta=True is not allowed"),
        (ETA, "0.1", "eta='0.1' is not allowed"),
        (ETA, None, "eta=None is not allowed"),
        (ETA, [0.1], "eta=[0.1] is not allowed"),
        (LAM, 1e-6, "eta=1e-06 is not allowed; allowed: 0 or a number from 1e-05 to 1"),
        (LAM, -1.0, "eta=-1.0 is not allowed"),
        (BATCH_SIZE, 1, "eta=1 is not allowed; allowed: a whole number from 2 to 1024"),
        (BATCH_SIZE, 32.5, "eta=32.5 is not allowed"),
        (BATCH_SIZE, 10**400, "is not allowed"),
        (PROTOCOL, "warp", "eta='warp' is not allowed; allowed: one of elr, lr"),
        (PROTOCOL, 0, "eta=0 is not allowed; allowed: one of elr, lr"),
        (PROTOCOL, ["lr"], "eta=['lr'] is not allowed"),
    ],
)
def test_other_values_are_refused_in_one_line(knob, value, message):
    with pytest.raises(ValueError, match=r"^[^\n]*$") as error:
        knob.check("eta", value)
    assert message in str(error.value)


def test_a_knob_of_an_unknown_scale():
    with pytest.raises(ValueError, match="scale='cubic' is unknown; allowed: log, linear, powers of two, whole, choice"):
        Knob("x", scale="cubic")


@given(st.one_of(st.floats(), st.integers(), st.text(), st.none(), st.booleans()))
def test_what_is_let_through_lies_in_the_range(value):
    for knob in (ETA, LAM, BATCH_SIZE):
        try:
            found = knob.check("x", value)
        except ValueError:
            continue
        assert found == value
        assert knob.low <= found <= knob.high or (knob.zero and found == 0)


# --- settings -----------------------------------------------------------------------------------------------------------
def test_defaults_are_filled_in_and_checked():
    assert GAS.checked({}) == {"eta": 0.05, "lam": 0.02, "protocol": "elr", "dim": 4}
    assert list(GAS.checked({"dim": 5, "eta": 1}).items()) == [("eta", 1.0), ("lam", 0.02), ("protocol", "elr"), ("dim", 5)]
    with pytest.raises(ValueError, match=r"^nosuch is no setting of gas; allowed: eta, lam, protocol, dim$"):
        GAS.checked({"nosuch": 1})
    with pytest.raises(ValueError, match=r"^dim=2 is not allowed; allowed: a whole number from 3 to 16$"):
        GAS.start(dim=2)
    assert GAS.defaults["dim"] == 4


def test_a_notebooks_parameters_are_taken_as_far_as_they_are_known():
    scenario, settings = GAS.at(SimpleNamespace(eta=0.1, dim=5, seed=3, live="auto", n_seeds=5))
    assert scenario is GAS
    assert settings == {"eta": 0.1, "dim": 5}


def test_a_run_starts_with_its_settings():
    run = GAS.start(seed=9, eta=0.1, dim=5)
    alone = Experiment(IsotropicNoise(5, "elr"), eta=0.1, lam=0.02, replicas=4, seed=9)
    for r in (run, alone):
        r.advance(20)
    assert equal(run, alone)


def test_without_more_the_observables_are_read_as_they_are_and_nothing_is_predicted():
    run = GAS.start()
    (frame,) = run.frames(5, until=5)
    assert GAS.read(frame, {}) is frame.observables
    assert GAS.predict(frame, {}) == {}


def test_a_scenario_can_be_sent_to_another_process():
    again = pickle.loads(pickle.dumps(GAS))
    assert (again.name, again.settings, again.observables) == (GAS.name, GAS.settings, GAS.observables)


# --- logs -----------------------------------------------------------------------------------------------------------------
def test_a_log_replays_to_the_bit():
    settings = {"eta": 0.1, "protocol": "lr"}
    run = GAS.start(seed=2, **settings)
    list(run.follow([[15, {"lam": 0.3}], [20, {"protocol": "elr"}]], 10, 43))
    run.advance(3)
    log = json.loads(json.dumps(GAS.log(run, settings), allow_nan=False))
    assert list(log)[:2] == ["thermolab", "recipe"]
    assert (log["recipe"], log["seed"], log["steps"]) == ("gas", 2, 46)
    assert log["settings"] == GAS.checked(settings)
    assert log["frames"] == [[10, 10, 4]]
    assert log["gauges"]["U"] == pytest.approx(run.history[-1].observables["U"])
    again, frames = GAS.replay(log)
    assert again.state.step == 0
    assert [f.step for f in frames] == [10, 20, 30, 40]
    assert equal(again, run)


def test_a_log_without_frames_or_with_nothing_to_read_is_json_too():
    run = GAS.start()
    assert GAS.log(run, {})["gauges"] == {}
    run.observables["S"] = lambda *_: math.nan
    run.advance(1)
    run.frame()
    assert GAS.log(run, {})["gauges"]["S"] == [None] * 4


# --- scripts ----------------------------------------------------------------------------------------------------------------
def test_a_script_turns_knobs_at_their_steps():
    events = [[15, {"eta": 0.1}], [20, {"lam": 0.5, "protocol": "lr"}]]
    plain, _ = scripted.run(GAS, events, every=10, steps=45, seed=3, dim=5)
    assert [f.step for f in plain] == [10, 20, 30, 40]
    frames, error = scripted.run(GAS, events, every=10, steps=45, seed=3, dim=5, at_turns=True)
    assert error is None
    assert [f.step for f in frames] == [10, 15, 20, 30, 40]  # one at each turn: a line jumps there and not at the frame before
    assert [f.knob("eta") for f in frames] == [0.05, 0.05, 0.1, 0.1, 0.1]
    assert [f.knob("lam") for f in frames] == [0.02, 0.02, 0.02, 0.5, 0.5]
    assert [f.knob("protocol") for f in frames] == ["elr", "elr", "elr", "lr", "lr"]
    run = GAS.start(seed=3, dim=5)
    for frame, expected in zip(frames, run.drive(events, [10, 15, 20, 30, 40], 45), strict=True):
        for name, values in expected.observables.items():
            np.testing.assert_array_equal(frame.observables[name], values)
    assert (
        scripted.run(GAS, events, every=10, steps=45, seed=4, dim=5)[0][-1].observables["U"][0] != frames[-1].observables["U"][0]
    )


def test_a_script_that_diverges_keeps_its_frames_and_says_why():
    frames, error = scripted.run(GAS, [[20, {"eta": 50.0}]], every=10, steps=400)
    assert 2 <= len(frames) < 40
    assert [f.step for f in frames[:2]] == [10, 20]
    assert error.startswith("eta=50")
    assert "at step" in error
    assert "\n" not in error


def test_a_script_with_a_mistake_raises():
    with pytest.raises(ValueError, match="nosuch is no knob"):
        scripted.run(GAS, [[5, {"nosuch": 1}]], every=10, steps=20)
    with pytest.raises(ValueError, match="dim=99 is not allowed"):
        scripted.run(GAS, every=10, steps=20, dim=99)


def test_an_awaited_script_is_the_same(monkeypatch):
    """In the processes of the pool, to which the whole scenario goes."""
    from thermolab.phenomena.ideal_gas.live import ISOTROPIC

    settings = {"every": 20, "steps": 60, "seed": 1, "replicas": 8}
    frames, error = asyncio.run(scripted(ISOTROPIC, [[30, {"eta": 0.1}]], **settings))
    expected, _ = scripted.run(ISOTROPIC, [[30, {"eta": 0.1}]], **settings)
    assert error is None
    for frame, other in zip(frames, expected, strict=True):
        for name, values in other.observables.items():
            np.testing.assert_array_equal(frame.observables[name], values)
