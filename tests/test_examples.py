"""The example to copy: it does what its docstring says, and stays short."""

import asyncio
import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from thermolab.claims import Result
from thermolab.engine.experiment import Experiment
from thermolab.engine.scenario import scripted

PATH = Path(__file__).parents[1] / "examples" / "ornstein_uhlenbeck.py"


@pytest.fixture(scope="module")
def example():
    """The example as a module that other processes find by its name, as they would in a package."""
    sys.path.insert(0, str(PATH.parent))
    yield importlib.import_module(PATH.stem)
    sys.path.remove(str(PATH.parent))


def test_it_is_short():
    assert len(PATH.read_text(encoding="utf-8").splitlines()) <= 80


def test_as_a_script_it_decides_its_claim():
    run = subprocess.run([sys.executable, str(PATH)], capture_output=True, text=True, check=True)
    assert "'verdict': 'holds'" in run.stdout


def test_the_claim_holds_at_other_settings_and_its_control_fails(example):
    data = example.variance.run((0.3, 1.2), sigma=2.0, n_seeds=3, seed=5)
    assert Result(example.CLAIM, *example.decide(data)).verdict == "holds"
    wrong = data.assign(w2=data["w2"] * 1.1)
    assert Result(example.CLAIM, *example.decide(wrong)).verdict != "holds"
    np.testing.assert_allclose(data["exact"], [4 * 0.3 / 1.7, 4 * 1.2 / 0.8])


def test_its_figure_has_a_theory_and_units(example):
    axes = example.figure(example.variance.run(steps=20, n_seeds=2)).axes[0]
    assert axes.get_xlabel() == "learning rate η"
    assert {text.get_text() for text in axes.get_legend().get_texts()} == {"measured", "exact", "continuous"}


def test_its_panel_runs_and_replays(example):
    script = [example.LIVE, [[400, {"eta": 1.5}]]]
    frames, stopped = asyncio.run(scripted(*script, every=400, steps=1200))  # in another process, as behind a panel
    assert stopped is None
    np.testing.assert_allclose(frames[-1].observables["w2"].mean(), example.LIVE.predict(frames[-1], {})["w2"], rtol=0.1)
    run = example.LIVE.start(seed=2)
    list(run.frames(50, until=100))
    run.set(eta=0.1)
    list(run.frames(50, until=200))
    log = json.loads(json.dumps(example.LIVE.log(run, {})))
    again, driven = example.LIVE.replay(log)
    assert [frame.step for frame in driven] == [50, 100, 150, 200]
    assert (again.state.weights == run.state.weights).all()


def test_its_system_keeps_what_every_system_keeps(example):
    system = example.Parabola()
    one, two = (system.start(torch.tensor(streams), 3) for streams in ([0, 1, 2], [2]))
    assert len(one.unique()) == 3
    assert (one[2:] == two).all()
    runs = [Experiment(example.Parabola(), eta=[0.1, 0.5], streams=[4, 5], seed=1) for _ in range(2)]
    runs[0].advance(7)
    for n in (3, 1, 3):
        runs[1].advance(n)
    assert (runs[0].state.weights == runs[1].state.weights).all()
    run = Experiment(example.Parabola(), eta=[2.5, 0.1], seed=1)
    run.advance(400)
    assert run.state.diverged[0] > 0 > run.state.diverged[1]
