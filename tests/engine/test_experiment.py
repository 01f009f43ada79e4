"""The one loop: knobs, frames, logs and replays, the async driver, divergence."""

import asyncio
import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import xarray as xr

from thermolab.engine import drivers, experiment
from thermolab.engine.experiment import DivergenceError, Experiment
from thermolab.systems import data, models
from thermolab.systems.isotropic import IsotropicNoise
from thermolab.systems.network import NetworkOnData
from thermolab.systems.system import Base

SUMS = 64 * 2.0**-24  # observables add up to 64 float32 before they join a float64 total


def gas(replicas=5, protocol="elr", **settings):
    settings = {"eta": 0.05, "lam": 0.02, "seed": 3} | settings
    return Experiment(IsotropicNoise(4, protocol), replicas=replicas, **settings)


def net(replicas=3, **settings):
    system = NetworkOnData(models.scale_invariant_mlp((64, 6)), data.digits(40), settings.pop("protocol", "elr"))
    return Experiment(system, replicas=replicas, **{"eta": 0.05, "lam": 0.02, "batch_size": 8, "seed": 3} | settings)


def equal(a, b):
    """Two runs are where they are to the bit."""
    return a.state.step == b.state.step and torch.equal(a.state.weights, b.state.weights)


class Clock(Base):
    """A system that only takes time: a number of seconds a step, on a clock of its own. It keeps the lengths of its slices."""

    name, observables, n_parameters, now = "clock", ("U",), 1, 0.0

    def __init__(self, seconds=0.0):
        self.seconds, self.knobs, self.slices = seconds, {}, []

    def start(self, streams, seed):
        return torch.zeros(len(streams), 1)

    def advance(self, weights, first_step, n, knobs, seed, streams, radius, memory=()):
        Clock.now += n * self.seconds
        self.slices.append(n)
        weights += n
        steps = torch.arange(first_step, first_step + n, dtype=torch.float64)
        return {"U": steps.mean().expand(len(weights))}, torch.full((len(weights),), -1)


@pytest.fixture
def only_clocks_take_time(monkeypatch):
    """Drivers read the clock of `Clock`, so what they do depends on no machine."""
    monkeypatch.setattr(drivers, "time", SimpleNamespace(perf_counter=lambda: Clock.now))


# --- knobs ----------------------------------------------------------------------------------------------------------
def test_knobs_take_effect_from_the_next_step_and_are_logged():
    run = gas()
    run.advance(7)
    run.set(eta=0.1, sigma=0.5)
    first = {"eta": 0.05, "lam": 0.02, "sigma": 1.0, "protocol": "elr"}
    assert run.events == [[0, first], [7, {"eta": 0.1, "sigma": 0.5}]]
    assert run.knobs["eta"].tolist() == [0.1] * 5
    other = gas()
    other.advance(7)
    assert equal(run, other)
    run.advance(1)
    other.advance(1)
    assert not equal(run, other)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"nosuch": 1}, r"nosuch is no knob of this system; allowed: eta, lam"),
        ({"eta": float("nan")}, r"eta=nan must be finite and positive"),
        ({"eta": float("inf")}, r"eta=inf must be finite"),
        ({"eta": 0.0}, r"eta=0.0 must be finite and positive"),
        ({"lam": -1.0}, r"lam=-1.0 must be finite and not negative"),
        ({"lam": [0.1, 0.2]}, r"lam has shape \(2,\); allowed: a number or one per replica \(5,\)"),
        ({"lam": [[0.1]]}, r"lam has shape \(1, 1\)"),
    ],
)
def test_a_refusal_says_what_is_allowed_and_changes_no_other_knob(knobs, message):
    run = gas()
    before = {k: np.asarray(v).tolist() for k, v in run.knobs.items()}
    with pytest.raises(ValueError, match=message):
        run.set(**{"lam": 0.5} | knobs)
    assert {k: np.asarray(v).tolist() for k, v in run.knobs.items()} == before
    assert len(run.events) == 1


WRONG = {
    "no batches": (lambda: Experiment(net().system, eta=0.1), "batch_size is missing"),
    "batches for a gas": (lambda: gas().set(batch_size=3), r"batch_size is no knob .*allowed: eta, lam, protocol, sigma"),
    "knobs of two lengths": (
        lambda: Experiment(IsotropicNoise(3), eta=[0.1, 0.1], lam=[0.0, 0.0, 0.0]),
        r"disagree on the number of replicas: \[2, 3\]",
    ),
    "streams and weights of two lengths": (
        lambda: Experiment(IsotropicNoise(3), eta=0.1, streams=[0, 1], weights=torch.ones(4, 3)),
        r"disagree on the number of replicas: \[2, 4\]",
    ),
    "a negative knob": (lambda: gas(sigma=-1.0), "sigma"),
}


@pytest.mark.parametrize(("start", "message"), WRONG.values(), ids=WRONG)
def test_a_run_starts_only_if_knobs_streams_and_weights_agree(start, message):
    with pytest.raises(ValueError, match=message):
        start()


def test_the_number_of_replicas():
    assert Experiment(IsotropicNoise(3), eta=0.1).n_replicas == 1
    assert Experiment(IsotropicNoise(3), eta=0.1, sigma=[1.0, 2.0]).n_replicas == 2
    assert Experiment(IsotropicNoise(3), eta=0.1, weights=torch.ones(4, 3)).n_replicas == 4
    assert Experiment(IsotropicNoise(3), eta=0.1, streams=[7, 8, 9]).state.weights.shape == (3, 3)


# --- weights put into a run ---------------------------------------------------------------------------------------------
def test_weights_that_are_put_replay_in_their_order():
    """A protocol turned at the step at which weights are put finds their radius, or that of those before."""
    runs = []
    for first in ("put", "protocol"):
        run = gas(protocol="lr", streams=[3, 1, 4, 1, 5])
        run.advance(11)
        run.set(eta=0.1)
        kept = run.state
        for what in (first, {"put": "protocol", "protocol": "put"}[first]):
            if what == "put":
                run.put(2 * run.state.weights)
            else:
                run.set(protocol="sphere")
        run.set(lam=0.1)
        run.advance(60)  # the compiled loop returns to the radius at step 64
        assert torch.equal(kept.weights, gas_at(11))  # a State never changes
        again = run.replay(json.loads(json.dumps(run.log)))
        assert equal(again, run)
        assert again.log == run.log
        runs.append(run)
    torch.testing.assert_close(runs[0].state.radius, 2 * runs[1].state.radius)


def gas_at(step):
    run = gas(protocol="lr", streams=[3, 1, 4, 1, 5])
    run.advance(step)
    return run.state.weights


def test_weights_that_are_put_are_copied_and_of_the_same_shape_and_type():
    run, weights = gas(), torch.ones(5, 4, dtype=torch.float64)
    run.put(weights)
    weights += 1
    assert torch.equal(run.state.weights, torch.ones(5, 4))
    with pytest.raises(ValueError, match=r"^weights have shape \[3, 4\]; allowed: \[5, 4\]$"):
        run.put(torch.ones(3, 4))


# --- states ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("make", [gas, net])
def test_a_state_never_changes(make):
    own = make().state.weights.clone()
    run = make(weights=own)
    states, copies = [], []
    for _ in range(3):
        states.append(run.state)
        copies.append((run.state.weights.clone(), run.state.step, run.state.diverged.clone(), run.state.radius.clone()))
        run.advance(5)
        run.set(eta=0.07)
    for state, (weights, step, diverged, radius) in zip(states, copies, strict=True):
        assert torch.equal(state.weights, weights)
        assert (state.step, state.diverged.tolist(), state.radius.tolist()) == (step, diverged.tolist(), radius.tolist())
    assert torch.equal(own, states[0].weights)  # nor do the weights that it was started from
    assert run.start is states[0]


# --- frames ---------------------------------------------------------------------------------------------------------
def test_frames_come_at_their_steps_with_means_since_the_last():
    run = Experiment(Clock(), eta=1.0, replicas=2)
    frames = list(run.frames(10, until=40))
    assert [f.step for f in frames] == [10, 20, 30, 40]
    assert [f.observables["U"].tolist() for f in frames] == [[t + 4.5] * 2 for t in (0, 10, 20, 30)]
    assert run.history == frames
    assert [f.step for f in run.frames(10, until=65)] == [50, 60]
    assert run.state.step == 65
    assert [f.step for f in run.frames(10, until=75)] == [70]  # the five steps before count


def test_frames_after_steps_without_one():
    """Steps taken by `advance` since the last frame count, however many they are: a run never goes backwards."""
    run = Experiment(Clock(), eta=1.0)
    run.advance(13)
    assert [(f.step, f.observables["U"].item()) for f in run.frames(5, until=25)] == [(15, 7.0), (20, 17.0), (25, 22.0)]
    run.advance(10)
    assert [f.step for f in run.frames(5, until=45)] == [40, 45]


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_what_decays_to_nothing_is_nothing(activation):
    """Weights on pixels that are always black only decay: once below the smallest normal float they cost time, and are 0."""
    digits = data.digits(40)
    run = Experiment(NetworkOnData(models.mlp((64, 6, 10), activation=activation), digits), eta=1e-3, lam=1e-3, batch_size=8)
    black = (digits.x == 0).all(0)
    assert black.any()
    first = run.state.weights[0, : 64 * 6].view(6, 64)
    first[:, black] = 1e-39
    run.advance(3)
    assert (run.state.weights[0, : 64 * 6].view(6, 64)[:, black] == 0).all()
    assert np.float64(5e-324) * 1.0 > 0  # everybody else's numbers are as they were


def test_no_steps_change_nothing():
    run = gas()
    before = run.state
    run.advance(0)
    assert run.state is before
    with pytest.raises(ValueError, match="n=-3 steps"):
        run.advance(-3)


def test_closing_the_generator_is_stop():
    run = gas()
    frames = run.frames(10)  # for ever
    next(frames), next(frames)
    frames.close()
    assert run.state.step == 20
    with pytest.raises(StopIteration):
        next(frames)
    run.advance(3)
    straight = gas()
    straight.advance(23)
    assert equal(run, straight)


def test_observables_handed_in_are_read_at_every_frame():
    def height(system, state, knobs):
        return state.weights[:, 0] + 0 * knobs["eta"]

    run = gas(observables={"height": height, "step": lambda system, state, knobs: np.full(5, state.step)})
    frame = run.frame()
    assert set(frame.observables) == {"height", "step"}  # no step yet, no means
    for frame in run.frames(4, until=8):
        np.testing.assert_array_equal(frame.observables["height"], run.state.weights[:, 0])
        assert frame.observables["step"].tolist() == [frame.step] * 5
        assert set(frame.observables) == {"U", "r2", "p", "g2", "height", "step"}


def test_record_is_the_frames_as_a_dataset():
    run = gas()
    with pytest.raises(ValueError, match=r"no frames yet: call frames\(\) or frame\(\)"):
        run.record()
    frames = list(run.frames(10, until=30))
    record = run.record()
    assert isinstance(record, xr.Dataset)
    assert dict(record.sizes) == {"time": 3, "replica": 5}
    assert record["time"].values.tolist() == [10, 20, 30]
    np.testing.assert_array_equal(record["U"], [f.observables["U"] for f in frames])
    assert record.attrs["seed"] == 3


def test_follow_turns_knobs_at_their_steps():
    run = gas()
    frames = list(run.follow([[15, {"eta": 0.1}], [20, {"lam": 0.5}]], 10, 42))
    assert [f.step for f in frames] == [10, 20, 30, 40]
    assert [f.knobs["eta"][0] for f in frames] == [0.05, 0.1, 0.1, 0.1]
    assert [f.knobs["lam"][0] for f in frames] == [0.02, 0.02, 0.5, 0.5]
    assert [step for step, _ in run.events] == [0, 15, 20]
    by_hand = gas()
    by_hand.advance(15)
    by_hand.set(eta=0.1)
    by_hand.advance(5)
    by_hand.set(lam=0.5)
    by_hand.advance(22)
    assert equal(run, by_hand)


# --- logs -----------------------------------------------------------------------------------------------------------
def test_a_replay_reads_the_same_frames_whatever_their_cadence():
    run = gas()
    for every, until in ((10, 60), (7, 81), (1, 83), (10, 95)):
        list(run.frames(every, until=until))
    run.set(eta=0.1)
    run.advance(3)
    run.frame()
    assert [f.step for f in run.history] == list(drivers.frame_steps(run.cadence))
    assert len(run.cadence) < len(run.history)
    again = run.replay(json.loads(json.dumps(run.log)))
    xr.testing.assert_identical(again.record(), run.record())


def test_the_weights_of_a_log_tell_two_runs_apart():
    one, other = gas(), gas(seed=4)
    one.advance(5)
    other.advance(5)
    assert one.log["weights"] != other.log["weights"]
    assert one.log["weights"] == one.replay(one.log).log["weights"]


# --- a choice, a second value before the next step, another device, the last step ------------------------------------
@pytest.mark.parametrize("make", [gas, net])
def test_a_protocol_is_turned_like_a_knob(make):
    run, fixed = make(protocol="elr"), make(protocol="lr")
    run.set(protocol="lr")
    for r in (run, fixed):
        r.advance(30)
    assert equal(run, fixed)
    run.set(protocol="sphere")
    held = torch.linalg.vector_norm(run.state.weights, dim=1)
    run.advance(64)
    torch.testing.assert_close(torch.linalg.vector_norm(run.state.weights, dim=1), held, rtol=1e-5, atol=0)
    assert run.frame().knob("protocol") == "sphere"
    with pytest.raises(ValueError, match="protocol='warp' is unknown; allowed: elr, lr, sphere"):
        run.set(protocol="warp")
    assert equal(run.replay(json.loads(json.dumps(run.log))), run)


def test_only_the_last_value_before_a_step_is_logged():
    run = gas()
    run.advance(5)
    for eta in (0.1, 0.2, 0.3):
        run.set(eta=eta, lam=eta)
    run.set(lam=0.5)
    assert run.events[1:] == [[5, {"eta": 0.3, "lam": 0.5}]]


def test_a_run_ends_before_its_random_numbers_repeat():
    run = gas()
    run.state = dataclasses.replace(run.state, step=experiment.LAST_STEP - 3)
    run.advance(3)
    with pytest.raises(ValueError, match=f"step {2**31} is the last one.*start a new run"):
        run.advance(1)


def test_a_observable_may_return_several_readings():
    run = gas()
    run.observables["both"] = lambda system, state, knobs: {"S": 1.5, "norm": state.weights.norm(dim=1)}
    run.advance(1)
    observables = run.frame().observables
    assert observables["S"].tolist() == [1.5] * 5
    assert observables["norm"].shape == (5,)
    assert "both" not in observables


def test_a_replay_starts_from_given_weights_and_streams():
    w = torch.eye(3, 4)
    run = Experiment(IsotropicNoise(4), eta=[0.1, 0.2, 0.3], seed=2**40 + 1, streams=[5, 1, 2**32 - 1], weights=w)
    run.advance(20)
    again = run.replay(json.loads(json.dumps(run.log)))
    assert equal(again, run)
    assert not torch.equal(again.state.weights, w)


def test_the_log_says_what_ran():
    run = net()
    log = run.log
    assert {"thermolab", "system", "settings", "seed", "backend", "device", "threads", "events", "steps", "streams"} <= set(log)
    assert (log["system"], log["backend"], log["device"], log["threads"]) == (
        "network", run.system.choose_backend(run.state.weights), "cpu", torch.get_num_threads(),
    )  # fmt: skip
    assert gas().log["settings"] == {"dim": 4, "protocol": "elr"}


@pytest.mark.usefixtures("only_clocks_take_time")
def test_before_each_slice_knobs_may_be_turned_or_the_run_be_held():
    run = Experiment(Clock(seconds=2.0**-10), eta=1.0)

    def before():
        if run.state.step > 20 and len(run.events) == 1:
            run.set(eta=0.5)
        return run.state.step < 60

    async def held():
        return [f.step async for (f,) in drivers.lockstep([run], 25, 100, before)]

    assert asyncio.run(held()) == [25, 50]
    assert run.events[1][0] == 21  # slices of 10 ms, after a first one of a step: the knob did not wait for the frame
    assert run.state.step == 60
    rest = [f.step for f in run.frames(25, until=100)]
    assert rest == [75, 100]  # a frame that was held is finished later


@pytest.mark.usefixtures("only_clocks_take_time")
def test_runs_in_lockstep_are_at_the_same_step_whenever_a_knob_may_be_turned():
    runs = [Experiment(Clock(seconds=2.0**-10), eta=1.0), gas()]

    async def both():
        met = []
        async for frames in drivers.lockstep(runs, 30, 90, lambda: met.append([r.state.step for r in runs]) or True):
            assert frames[0].step == frames[1].step
        return met

    met = asyncio.run(both())
    assert all(a == b for a, b in met)
    assert len(met) == 10  # slices of 1, 10, 10, 9, and of 10 from the first frame on
    alone = gas()
    list(alone.frames(30, until=90))
    assert equal(alone, runs[1])


# --- async ----------------------------------------------------------------------------------------------------------
async def beside(frames):
    """Frames of an async generator, and how often another task got its turn meanwhile."""
    ticks, done = 0, False

    async def ticker():
        nonlocal ticks
        while not done:
            ticks += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(ticker())
    found = [f async for f in frames]
    done = True
    await task
    return found, ticks


@pytest.mark.parametrize("make", [gas, net])
def test_async_frames_are_the_same(make):
    run, other = make(), make()
    frames, _ = asyncio.run(beside(run.aframes(100, until=400)))
    expected = list(other.frames(100, until=400))
    assert equal(run, other)
    assert [f.step for f in frames] == [f.step for f in expected] == [100, 200, 300, 400]
    for a, b in zip(frames, expected, strict=True):
        for name in b.observables:
            np.testing.assert_allclose(a.observables[name], b.observables[name], rtol=SUMS, err_msg=name)


@pytest.mark.usefixtures("only_clocks_take_time")
def test_async_frames_give_way_to_others():
    """Slices of at most 10 ms, 10 steps of 1/1024 s: without giving way the other task would not run before the end."""
    clock = Clock(seconds=2.0**-10)
    frames, ticks = asyncio.run(beside(Experiment(clock, eta=1.0).aframes(100, until=200)))
    assert [f.step for f in frames] == [100, 200]
    assert [f.observables["U"].item() for f in frames] == [49.5, 149.5]
    assert max(clock.slices) == 10
    assert ticks >= 10  # of 20 slices, each second one ends more than 10 ms after the last turn


def test_closing_the_async_generator_is_stop():
    async def two():
        run = Experiment(Clock(), eta=1.0)
        frames = run.aframes(10)
        found = [await anext(frames), await anext(frames)]
        await frames.aclose()
        return run.state.step, [f.step for f in found]

    assert asyncio.run(two()) == (20, [10, 20])


# --- divergence -----------------------------------------------------------------------------------------------------
def hot(replicas=64, **settings):
    return Experiment(IsotropicNoise(10, "elr"), **{"eta": 0.4, "lam": 0.01, "replicas": replicas} | settings)


def test_a_single_setting_that_diverges_stops_with_one_line():
    run = hot()
    with pytest.raises(DivergenceError) as error:
        list(run.frames(1, until=2500))
    message = str(error.value)
    lost = int((run.state.diverged >= 0).sum())
    assert 0 < lost < 64  # one is enough
    assert f"in {lost} of 64 replicas" in message
    step = int(run.state.diverged[run.state.diverged >= 0].min())
    assert message.startswith("eta=0.4, lam=0.01 (elr): ")
    assert f"at step {step} " in message
    assert "try eta=0.1" in message
    assert "\n" not in message
    assert error.value._render_traceback_() == [f"DivergenceError: {message}"]
    assert run.state.step == step


def test_one_replica_stops_too():
    with pytest.raises(DivergenceError, match=r"eta=4.*in 1 of 1 replicas"):
        list(hot(1, eta=4.0).frames(20, until=100))


def test_in_a_grid_the_lost_are_masked_and_the_others_stay():
    eta = np.array([0.05, 4.0, 0.02, 3.0, 0.05])
    run, alone = hot(None, eta=eta), hot(None, eta=eta[[0, 2, 4]], streams=[0, 2, 4])
    frames, expected = (list(r.frames(100, until=300)) for r in (run, alone))
    lost = np.array([False, True, False, True, False])
    assert ((run.state.diverged.numpy() >= 0) == lost).all()
    assert torch.equal(run.state.weights[~lost], alone.state.weights)
    for a, b in zip(frames, expected, strict=True):
        for name in a.observables:
            assert np.isnan(a.observables[name][lost]).all()
            np.testing.assert_array_equal(a.observables[name][~lost], b.observables[name])
    first = run.state.diverged.clone()
    run.advance(50)
    assert torch.equal(run.state.diverged, first)  # the step of divergence is the first one


def test_a_grid_without_a_survivor_stops():
    with pytest.raises(DivergenceError, match="2 of 2"):
        list(hot(None, eta=[4.0, 3.0]).frames(100, until=300))


def test_divergence_may_be_raised_without_a_frame():
    run = hot(1, eta=4.0)
    run.raise_if_diverged()
    run.advance(100)
    with pytest.raises(DivergenceError, match=r"in 1 of 1 replicas"):
        run.raise_if_diverged()
    assert run.history == []
