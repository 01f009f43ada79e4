"""The network in the live panel of notebook 02: what it reads, its settings, its log."""

import json

import numpy as np
import pytest
import torch

from thermolab.lab.live.views import Arm, read
from thermolab.phenomena.temperature_collapse.live import NETWORK
from thermolab.systems.data import digits


def readings(events, every, steps, **settings):
    arm = Arm("a", NETWORK, NETWORK.checked(settings))
    experiment = NETWORK.start(seed=4, **arm.settings)
    return experiment, arm.settings, [read(arm, frame) for frame in experiment.follow(events, every, steps)]


def test_frames_of_the_live_network():
    experiment, _, found = readings([[60, {"eta": 0.25}]], 2, 100, eta=0.5, width=6, batch_size=16, replicas=2)
    assert set(NETWORK.observables) == {"U", "T", "snr", "S"}
    for reading in found:
        assert set(NETWORK.observables) <= set(reading.values)
        rate = 0.5 if reading.step <= 60 else 0.25
        np.testing.assert_allclose(reading.values["T"], rate * reading.values["trace"] / 2 / (64 * 6 + 36 - 1), rtol=1e-6)
        assert np.isfinite([reading.values[k] for k in ("U", "T", "snr")]).all()
        assert reading.values["U"].shape == (2,)
        assert reading.theory == {}
    assert np.isnan(found[0].values["S"]).all()  # the window is not full
    assert np.isfinite(found[-1].values["S"]).all()
    np.testing.assert_allclose(torch.linalg.vector_norm(experiment.state.weights, dim=1), 1, rtol=1e-4)


def test_defaults_of_the_live_network():
    assert NETWORK.checked({}) == dict(NETWORK.defaults)
    assert set(NETWORK.defaults) == set(NETWORK.settings)
    for name, bad in {"width": 1, "label_noise": 1.5, "replicas": 0, "eta": 0.0, "batch_size": 1}.items():
        with pytest.raises(ValueError, match=f"^{name}={bad} is not allowed; allowed: [^\n]*$"):
            NETWORK.checked({name: bad})


def test_labels_of_the_live_network():
    labels = {share: NETWORK.start(width=4, replicas=1, label_noise=share).system.data.y for share in (0.0, 0.3, 1.0)}
    assert torch.equal(labels[0.3], digits(256, label_noise=0.3).y)
    assert (labels[0.0] != labels[0.3]).sum() < (labels[0.0] != labels[1.0]).sum()


def test_the_log_of_the_live_network_replays_to_the_bit():
    events = [[4, {"eta": 0.2}], [9, {"batch_size": 8}]]
    experiment, settings, found = readings(events, 5, 20, width=4, replicas=2, label_noise=0.5)
    log = json.loads(json.dumps(NETWORK.log(experiment, settings)))
    assert log["recipe"] == "temperature_collapse.network"
    again, frames = NETWORK.replay(log)
    frames = list(frames)
    assert torch.equal(again.state.weights, experiment.state.weights)
    assert [f.step for f in frames] == [r.step for r in found]
    for frame, reading in zip(frames, found, strict=True):
        np.testing.assert_array_equal(frame.observables["U"], reading.values["U"])
    assert NETWORK.log(again, settings)["weights"] == log["weights"]
    other, rest = NETWORK.replay({**log, "events": [e for e in log["events"] if e[0] != 9]})
    list(rest)
    assert not torch.equal(other.state.weights, experiment.state.weights)
