"""Logs of live runs: what a driver did comes back to the bit, and no other file gets further than one line."""

import asyncio
import builtins
import copy
import importlib
import json
import math
import os
import random
import subprocess
import sys
import threading
import time

import pytest
import torch
import xarray as xr

from thermolab import cli, phenomena
from thermolab.engine.experiment import Experiment
from thermolab.engine.scenario import Scenario
from thermolab.lab import replay
from thermolab.lab.live.board import Arm
from thermolab.lab.live.driver import Driver, Listener
from thermolab.lab.params import UserError
from thermolab.phenomena.ideal_gas.live import ISOTROPIC, NETWORK

TABLE = phenomena.scenarios()


def call(*arguments):
    with pytest.raises(SystemExit) as end:
        cli.main([str(a) for a in arguments])
    return int(end.value.code or 0)


class Frames(Listener):
    """Keeps all frames, and lets a thread wait for them."""

    def __init__(self):
        self.seen, self.one, self.stopped = [], threading.Event(), None

    def framed(self, frames):
        self.seen.append(frames[0])
        self.one.set()

    def failed(self, error):
        self.stopped = error
        self.one.set()


def live(scenario, play, seed=3, **settings):
    """Drive a scenario while `play(driver, frames)` gives orders from a thread. Returns (log, weights, frames)."""
    driver, frames, saved = Driver([Arm("a", scenario, scenario.checked(settings))], seed=seed), Frames(), []
    driver.listener = frames

    def save():
        run = driver.runs[0]
        saved.append((json.loads(json.dumps(scenario.log(run, driver.built[0]))), run.state.weights, list(frames.seen)))

    async def main():
        task = driver.begin()
        await asyncio.to_thread(play, driver, frames)
        # at whatever moment this is, as the button Save log does
        driver.tell("call", save)
        driver.tell("close")
        await asyncio.wait_for(task, 60)

    asyncio.run(main())
    return saved[0]


def same(again, log):
    """Two logs agree; in their observables, which are summed in slices, as far as float32 goes."""
    assert {**again, "gauges": 0} == {**log, "gauges": 0}
    assert set(again["gauges"]) == set(log["gauges"])
    for name, values in log["gauges"].items():
        expected = [math.nan if v is None else v for v in values]
        found = [math.nan if v is None else v for v in again["gauges"][name]]
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-9, nan_ok=True), name


def some_frames(frames, n=1):
    for _ in range(n):
        frames.one.clear()
        assert frames.one.wait(30)
        assert frames.stopped is None


def anyhow(turns, seed):
    """Orders in a random order at random moments; at the end it runs or is paused, in the middle of a frame or not."""

    def play(driver, frames):
        dice = random.Random(seed)
        driver.tell("run")
        some_frames(frames, 3)
        for _ in range(40):
            order = dice.choice(["turn"] * 6 + ["pause", "run", "run", "run", "step", "speed"])
            if order == "turn":
                name, values = dice.choice(turns)
                driver.tell("turn", name, dice.choice(values))
            elif order == "speed":
                driver.speed = dice.choice([300.0, 3000.0, float("inf")])
                driver.tell("call", lambda: None)
            else:
                driver.tell(order)
            time.sleep(0.006 * dice.random())  # any moment
        driver.speed = float("inf")
        driver.tell("run")
        some_frames(frames, 2)

    return play


GAS = [("eta", [0.01, 0.05, 0.1]), ("lam", [0.02, 0.1]), ("sigma", [0.5, 1.0]), ("protocol", ["elr", "lr", "sphere"])]
NET = [("eta", [0.01, 0.02]), ("lam", [0.02, 0.1]), ("batch_size", [16, 32]), ("protocol", ["elr", "lr", "sphere"])]


# --- to the bit -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dice", [0, 1])
@pytest.mark.parametrize(
    ("scenario", "turns", "settings"),
    [(ISOTROPIC, GAS, {"replicas": 16, "dim": 4}), (NETWORK, NET, {"replicas": 2, "batch_size": 16})],
    ids=["gas", "network"],
)
def test_whatever_was_done_to_a_run_its_log_replays_to_the_bit(scenario, turns, settings, dice, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("THERMOLAB_OUT", str(tmp_path))
    log, weights, frames = live(scenario, anyhow(turns, dice), **settings)
    assert len(log["events"]) > 3
    path = replay.save(log, "a panel")
    assert replay.replay(path, TABLE)
    assert "weights: equal to the last bit" in capsys.readouterr().out
    run, again = scenario.replay(replay.load(path, TABLE))
    again = list(again)
    assert torch.equal(run.state.weights, weights)
    assert run.state.step == log["steps"]
    assert [f.step for f in again] == [f.step for f in frames]
    same(scenario.log(run, log["settings"]), log)


def test_a_run_that_was_paused_stepped_and_moved_replays(tmp_path):
    def play(driver, frames):
        assert frames.one.wait(30)
        for order in (["step"], ["turn", "eta", 0.2], ["step"], ["move", "cpu:0"], ["step"], ["run"]):
            frames.one.clear()
            driver.tell(*order)
            if order[0] in ("step", "run"):
                assert frames.one.wait(30)
        driver.tell("pause")

    log, *_ = live(ISOTROPIC, play, replicas=8)
    assert [list(change) for _, change in log["events"][1:]] == [["eta"], ["device"]]
    assert log["device"] == "cpu"  # where it started
    path = tmp_path / "log.json"
    path.write_text(json.dumps(log).replace("cpu:0", "cpu"))
    assert replay.replay(path, TABLE)


@pytest.mark.parametrize("turn", [("batch_size", 4), ("eta", 0.5)])
def test_a_knob_turned_just_before_a_pause_in_the_middle_of_a_frame_replays_the_observables_too(turn):
    """The frame of the pause is read with the new knob, at the step at which it was turned."""

    def play(driver, frames):
        driver.tell("run")
        some_frames(frames, 2)
        while not driver.runs[0].steps_summed or driver.state == "running":

            def both():
                if driver.runs[0].steps_summed:
                    driver._turn(*turn)
                    driver._pause()

            driver.tell("call", both)
            time.sleep(0.002)
            if driver.state == "paused":
                break

    log, *_ = live(NETWORK, play, replicas=1, batch_size=16)
    run, frames = NETWORK.replay(log)
    list(frames)
    same(NETWORK.log(run, log["settings"]), log)


def test_the_log_of_a_run_that_diverged_replays_to_its_end(tmp_path, capsys):
    def play(driver, frames):
        assert frames.one.wait(30)
        driver.tell("turn", "sigma", 10.0)
        driver.tell("turn", "eta", 1.0)
        driver.tell("run")
        while frames.stopped is None:
            frames.one.wait(0.1)

    log, *_ = live(ISOTROPIC, play, replicas=8)
    path = tmp_path / "log.json"
    path.write_text(json.dumps(log))
    assert call("replay", path) == 0
    assert "equal to the last bit" in capsys.readouterr().out


# --- a log to play with -----------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def good():
    settings = ISOTROPIC.checked({"replicas": 8})
    run = ISOTROPIC.start(seed=5, **settings)
    list(run.follow([[15, {"eta": 0.1, "lam": 0.2}], [20, {"protocol": "lr"}]], 10, 40))
    log = json.loads(json.dumps(ISOTROPIC.log(run, settings)))
    return log


@pytest.fixture
def write(tmp_path):
    def write(content, name="log.json"):
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    return write


def test_the_command_line_replays(good, write, tmp_path, capsys):
    out = tmp_path / "frames.nc"
    assert call("replay", write(good), "--out", out) == 0
    printed = capsys.readouterr().out
    assert "ideal_gas.isotropic: 40 steps, knobs turned at 2 of them" in printed
    assert "weights: equal to the last bit" in printed
    for name, values in good["gauges"].items():
        known = [v for v in values if v is not None]
        if known:
            assert f"{name:<18} replayed {sum(known) / len(known):.6g}   log {sum(known) / len(known):.6g}" in printed
    with xr.open_dataset(out, engine="h5netcdf") as found:
        assert found["time"].values.tolist() == [10, 20, 30, 40]
        assert found["U"].shape == (4, 8)


def test_a_log_under_the_former_name_of_its_scenario_replays(good, write, capsys):
    assert call("replay", write(good | {"recipe": "ideal-gas.isotropic"})) == 0
    assert "weights: equal to the last bit" in capsys.readouterr().out


def put_weights(factor):
    """A run whose weights were multiplied by hand."""
    run = ISOTROPIC.start(seed=5, replicas=8)
    list(run.follow([[15, {"eta": 0.1}]], 10, 25))
    run.put(factor * run.state.weights)
    list(run.frames(10, until=40))
    return json.loads(json.dumps(ISOTROPIC.log(run, {"replicas": 8})))


def test_weights_put_into_a_run_replay(write, capsys):
    assert call("replay", write(put_weights(2.0))) == 0
    assert "weights: equal to the last bit" in capsys.readouterr().out
    assert call("replay", write(put_weights(2.0) | {"weights": put_weights(3.0)["weights"]})) == 1


@pytest.mark.parametrize(("text", "said"), [("AAAA", "have 3 bytes; allowed: "), ("no base64!", "")])
def test_weights_of_another_size_are_one_line(write, capsys, text, said):
    log = put_weights(2.0)
    (change,) = (change for _, change in log["events"] if "weights" in change)
    change["weights"] = text
    assert call("replay", write(log)) == 2
    assert said in one_line(capsys)


def test_other_weights_are_found_out(good, write, capsys):
    path = write(good | {"weights": "0" * 64})
    assert replay.replay(path, TABLE) is False
    assert call("replay", path) == 1
    assert "NOT those of the log" in capsys.readouterr().out


@pytest.mark.parametrize("change", [{"seed": 6}, {"steps": 41}, {"settings": {"dim": 4}}, {"events": {"eta": 0.11}}])
def test_any_other_run_is_found_out(good, write, change):
    log = copy.deepcopy(good)
    for key, value in change.items():
        if key == "settings":
            log["settings"].update(value)
        elif key == "events":
            log["events"][1][1].update(value)
        else:
            log[key] = value
    assert replay.replay(write(log), TABLE) is False


def test_the_number_of_threads_of_the_log_is_the_one_that_counts(good, write):
    """The replay takes the log's threads, whatever this process had before, and is exact."""
    assert good["threads"] == 1
    torch.set_num_threads(2)
    try:
        assert replay.replay(write(good), TABLE)
        assert replay.replay(write(good | {"weights": "0" * 64}), TABLE) is False
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("there", [{"processor": "another"}, {"thermolab": "0.0"}, {"backend": "tensor"}])
def test_elsewhere_the_end_may_differ(good, write, there, capsys):
    assert call("replay", write(good | {"weights": "0" * 64} | there)) == 0
    printed = capsys.readouterr().out
    (key,) = there
    assert f"{key} {there[key]} there" in printed
    assert "need not be" in printed


def test_a_log_without_weights_or_observables(good, write, capsys):
    bare = {k: v for k, v in good.items() if k not in ("weights", "gauges")}
    assert call("replay", write(bare)) == 0
    assert "no weights to compare with" in capsys.readouterr().out


def test_a_log_of_a_gpu_replays_on_the_cpu_when_told(good, write, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    log = good | {"device": "cuda", "backend": "tensor", "events": [*good["events"], [30, {"device": "cuda", "eta": 0.2}]]}
    assert call("replay", write(log)) == 2
    assert "--device cpu" in one_line(capsys)
    assert call("replay", write(log), "--device", "cpu") == 0
    assert "need not be" in capsys.readouterr().out


# --- corrupt and foreign files ------------------------------------------------------------------------------------------
def one_line(capsys):
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert captured.err.startswith("thermolab: ")
    return captured.err


@pytest.fixture
def _nothing_runs(monkeypatch):
    """Neither an experiment nor an import, an evaluation or a process."""

    def never(name):
        return lambda *_, **__: pytest.fail(f"{name} was called")

    monkeypatch.setattr(Scenario, "start", never("start"))
    monkeypatch.setattr(Experiment, "__init__", never("Experiment"))
    monkeypatch.setattr(importlib, "import_module", never("import_module"))
    monkeypatch.setattr(os, "system", never("os.system"))
    monkeypatch.setattr(builtins, "eval", never("eval"))
    before = set(sys.modules)
    yield
    assert not {m for m in set(sys.modules) - before if not m.startswith("thermolab")}


def without(key):
    return lambda log: {k: v for k, v in log.items() if k != key}


def put(**more):
    return lambda log: log | more


def settings(**more):
    return lambda log: log | {"settings": log["settings"] | more}


def event(step, change):
    return lambda log: log | {"events": [*log["events"], [step, change]]}


def text(change):
    return lambda log: change(json.dumps(log))


NEEDED = ["thermolab", "recipe", "settings", "seed", "backend", "device", "threads", "steps", "events", "frames"]
WRONG = {
    "empty": lambda log: "",
    "binary": lambda log: bytes(range(256)),
    "pickle": lambda log: b"\x80\x04cos\nsystem\n(S'true'\ntR.",
    "truncated": text(lambda s: s[: len(s) // 2]),
    "two values": text(lambda s: s + s),
    "utf-16": lambda log: json.dumps(log).encode("utf-16"),
    "a list": lambda log: [log],
    "a number": lambda log: "17",
    "null": lambda log: "null",
    "a notebook": lambda log: {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5},
    "NaN": text(lambda s: s.replace('"eta": 0.1,', '"eta": NaN,')),
    "Infinity": text(lambda s: s.replace('"eta": 0.1,', '"eta": Infinity,')),
    "1e999": text(lambda s: s.replace('"eta": 0.1,', '"eta": 1e999,')),
    "long number": text(lambda s: s.replace('"seed": 5', '"seed": ' + "5" * 5000)),
    "deep": lambda log: "[" * 100_000 + "]" * 100_000,
    "deep inside": text(lambda s: s.replace('"eta": 0.1,', '"eta": ' + "[" * 400 + "]" * 400 + ",")),
    "deep recipe": put(recipe={"a": [[[[[]]]]]}),
    **{f"no {key}": without(key) for key in NEEDED},
    "version is a number": put(thermolab=1),
    "settings are a list": put(settings=[]),
    "events are an object": put(events={}),
    "an event without change": lambda log: log | {"events": [*log["events"], [40]]},
    "an event too long": lambda log: log | {"events": [*log["events"], [40, {}, {}]]},
    "an event at a text": event("40", {}),
    "an event at half a step": event(39.5, {}),
    "an event at true": event(True, {"eta": 0.1}),
    "unknown recipe": put(recipe="ideal-gas.warp"),
    "os.system": put(recipe="os.system"),
    "a path": put(recipe="../../etc/passwd"),
    "a dunder": put(recipe="__import__('os').system('true')"),
    "recipe of many lines": put(recipe="a\nb\n" * 100),
    "half a character": put(recipe="\ud800"),
    "extra setting": settings(nosuch=1),
    "missing setting": lambda log: log | {"settings": {k: v for k, v in log["settings"].items() if k != "dim"}},
    "no settings": put(settings={}),
    "dim too small": settings(dim=2),
    "dim too large": settings(dim=10**9),
    "dim half": settings(dim=3.5),
    "dim true": settings(dim=True),
    "eta as text": settings(eta="0.1"),
    "eta as code": settings(eta="__import__('os').system('true')"),
    "eta negative": settings(eta=-0.1),
    "eta as list": settings(eta=[0.1]),
    "eta of 400 digits": settings(eta=10**400),
    "replicas of 400 digits": settings(replicas=10**400),
    "protocol unknown": settings(protocol="warp"),
    "protocol a number": settings(protocol=1),
    "replicas a billion": settings(replicas=10**9),
    "knob out of range": event(40, {"eta": 1e6}),
    "knob true": event(40, {"eta": True}),
    "knob null": event(40, {"eta": None}),
    "knob one per replica": event(40, {"eta": [0.1] * 8}),
    "unknown knob": event(40, {"nosuch": 1}),
    "other data": event(30, {"data": "0" * 64}),
    "weights that are numbers": event(30, {"weights": [0.0]}),
    "a setting that is no knob": event(40, {"dim": 5}),
    "replicas turned": event(40, {"replicas": 16}),
    "a dunder as knob": event(40, {"__class__": 1}),
    "device of an event unknown": event(40, {"device": "tpu"}),
    "device of an event a number": event(40, {"device": 1}),
    "events out of order": event(10, {"eta": 0.1}),
    "an event past the end": event(41, {"eta": 0.1}),
    "an event before the start": lambda log: log | {"events": [[-1, {}], *log["events"]]},
    "frames out of order": put(frames=[[30, 10, 2], [10, 10, 2]]),
    "frames past the end": put(frames=[[10, 10, 5]]),
    "frames twice": put(frames=[[10, 10, 4], [40, 1, 1]]),
    "frames of no stride": put(frames=[[10, 0, 4]]),
    "frames backwards": put(frames=[[40, -10, 4]]),
    "frames at once": put(frames=[[0, 1, 3]]),
    "frames short": put(frames=[[10, 10]]),
    "frames as objects": put(frames=[{}]),
    "frames without end": put(frames=[[1, 1, 10**30]]),
    "steps negative": put(steps=-1),
    "steps past the last": put(steps=2**31 + 1),
    "steps as text": put(steps="40"),
    "seed negative": put(seed=-1),
    "seed too large": put(seed=2**64),
    "seed half": put(seed=0.5),
    "seed true": put(seed=True),
    "device a GPU": put(device="cuda"),
    "device a GPU's number": put(device="cuda:7"),
    "device of an event a GPU": event(40, {"device": "cuda"}),
    "device unknown": put(device="tpu"),
    "device meta": put(device="meta"),
    "device with a line's end": put(device="cpu\n"),
    "device empty": put(device=""),
    "device null": put(device=None),
    "no threads": put(threads=0),
    "many threads": put(threads=10**9),
    "weights no hash": put(weights="abc"),
    "gauges no numbers": put(gauges={"U": ["1"]}),
    "gauges NaN": put(gauges={"U": [math.nan]}),
}  # fmt: skip


@pytest.mark.usefixtures("_nothing_runs")
@pytest.mark.parametrize("make", WRONG.values(), ids=WRONG)
def test_a_corrupt_or_foreign_file_is_one_line(make, good, write, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    path = write(make(copy.deepcopy(good)), "a log.json")
    assert call("replay", path) == 2
    line = one_line(capsys)
    assert str(path) in line
    assert len(line) < 2000


@pytest.mark.parametrize(
    ("key", "value"), [("seed", 5.0), ("threads", 1.0), ("steps", 40.0), ("frames", [[10.0, 10, 4]]), ("step", 30.0)]
)
def test_whole_numbers_with_a_point_are_taken_or_refused_in_one_line(good, write, capsys, key, value):
    """JSON Schema calls 40.0 an integer."""
    log = event(value, {"eta": 0.05})(good) if key == "step" else good | {key: value}
    code = call("replay", write(log))
    if key == "step":
        assert code in (1, 2)  # another run than the log's
    else:
        assert code in (0, 2)
    if code == 2:
        one_line(capsys)


@pytest.mark.usefixtures("_nothing_runs")
def test_files_that_are_none(tmp_path, capsys, monkeypatch):
    huge = tmp_path / "huge.json"
    with huge.open("wb") as file:
        file.truncate(replay.LARGEST + 1)
    locked = tmp_path / "below a file" / "log.json"
    (tmp_path / "below a file").write_text("")
    for path in (huge, tmp_path, tmp_path / "nosuch.json", locked):
        assert call("replay", path) == 2
        line = one_line(capsys)
        assert str(path) in line
        assert (f"more than {replay.LARGEST} bytes" in line) is (path == huge)  # it is not even read
    assert call("replay") == 2
    one_line(capsys)
    assert call("replay", "a\0b") == 2
    one_line(capsys)


def test_a_log_whose_replay_diverges_is_one_line(good, write, capsys):
    wild = good | {"settings": good["settings"] | {"sigma": 10.0, "eta": 1.0}, "steps": 2000, "frames": [[10, 10, 200]]}
    wild["events"] = []
    assert call("replay", write(wild)) in (1, 2)
    captured = capsys.readouterr()
    assert len(captured.err.splitlines()) == 1
    assert "at step" in captured.err


def test_loading_says_what_is_wrong(good, write):
    for change, words in (
        (put(recipe="os.system"), ["recipe 'os.system' is unknown", "ideal_gas.isotropic, ideal_gas.network"]),
        (settings(dim=2), ["dim=2 is not allowed", "a whole number from 3 to 128"]),
        (event(40, {"eta": 7.0}), ["at step 40 eta=7.0 is not allowed"]),
        (event(40, {"nosuch": 1}), ["nosuch at step 40 is no knob of ideal_gas.isotropic"]),
        (event(41, {}), ["an event at step 41 does not lie between 20 and 40"]),
        (put(frames=[[10, 10, 5]]), ["frames from step 10 on do not lie between 0 and 40"]),
        (put(seed=-1), ["$.seed: -1 is less than the minimum of 0"]),
    ):
        with pytest.raises(UserError) as error:
            replay.load(write(change(copy.deepcopy(good))), TABLE)
        for word in [*words, "is no log of a live run", "Save log"]:
            assert word in str(error.value)


def test_an_output_that_cannot_be_written_is_one_line(good, write, tmp_path, capsys):
    assert call("replay", write(good), "--out", tmp_path) in (1, 2)
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_command_in_a_process_of_its_own(good, write):
    command = [sys.executable, "-m", "thermolab", "replay"]
    done = subprocess.run([*command, str(write(good | {"recipe": "os.system"}))], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)


# --- saving -------------------------------------------------------------------------------------------------------------
@pytest.fixture
def out(tmp_path, monkeypatch):
    monkeypatch.setenv("THERMOLAB_OUT", str(tmp_path / "out"))
    return tmp_path / "out" / "live"


def test_logs_saved_in_one_second_have_names_of_their_own(good, out, monkeypatch):
    monkeypatch.setattr(time, "strftime", lambda _: "20250101-120000")
    paths = [replay.save(good | {"seed": i}, 'the "gas" /../ η') for i in range(3)]
    assert len(set(paths)) == 3
    assert [json.loads(p.read_text())["seed"] for p in paths] == [0, 1, 2]
    assert sorted(p.name for p in out.iterdir()) == sorted(p.name for p in paths)  # and no temporary file
    assert all(p.is_absolute() and p.parent == out and "20250101-120000" in p.name for p in paths)
    assert all(replay.load(p, TABLE) for p in paths)


def test_a_log_is_written_whole_or_not_at_all(good, out, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    first = replay.save(good)
    monkeypatch.setattr(os, "replace", fail)
    monkeypatch.setattr(os, "link", fail)
    with pytest.raises(OSError, match="No space left"):
        replay.save(good)
    assert list(out.iterdir()) == [first]


def test_a_log_with_no_json_value_writes_nothing_readable_twice(good, out):
    path = replay.save(good, "")
    assert path.name.startswith("ideal_gas.isotropic-")
    assert path.read_text(encoding="utf-8").endswith("}\n")


def test_saving_never_overwrites_a_file_that_came_meanwhile(good, out, monkeypatch):
    """Two kernels save in the same second: both looked before either wrote."""
    monkeypatch.setattr(time, "strftime", lambda _: "20250101-120000")
    theirs, dumps, faster = replay.save(good), json.dumps, []
    theirs.unlink()

    def late(*args, **settings):
        if not list(out.iterdir()):  # the other kernel is faster
            faster.append(theirs.write_text("theirs"))
        return dumps(*args, **settings)

    monkeypatch.setattr(json, "dumps", late)
    path = replay.save(good)
    assert json.loads(path.read_text()) == good
    if faster:  # else the name was taken before
        assert theirs.read_text() == "theirs"


def test_a_folder_that_cannot_be_made(good, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("THERMOLAB_OUT", str(tmp_path / "file"))
    with pytest.raises(OSError, match="file"):
        replay.save(good)
