import json

import numpy as np
import pytest
import torch

from thermolab.lab import replay
from thermolab.phenomena import scenarios


@pytest.fixture
def replays(tmp_path, monkeypatch):
    """replays(scenario, run, settings): the log of a run, read from its file, gives its weights and last observables again."""
    monkeypatch.setenv("THERMOLAB_OUT", str(tmp_path))

    def check(scenario, run, settings=None):
        path = replay.save(json.loads(json.dumps(scenario.log(run, settings or {}))))
        again, frames = scenario.replay(replay.load(path, scenarios()))
        last = list(frames)[-1]
        assert torch.equal(again.state.weights, run.state.weights)
        for name, values in run.history[-1].observables.items():
            np.testing.assert_array_equal(last.observables[name], values)

    return check
