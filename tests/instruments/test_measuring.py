"""What a measurement says of a trace: mean, error, autocorrelation time, and whether it drifts."""

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

from thermolab.engine.experiment import Experiment
from thermolab.instruments.curvature import batch_sharpness
from thermolab.instruments.measuring import STRAYED, measure, statistics
from thermolab.instruments.windows import full_gradient_squared
from thermolab.systems.data import Dataset
from thermolab.systems.network import NetworkOnData
from thermolab.systems.own import Network

RNG = np.random.default_rng(3)


def ornstein(n, rho):
    """AR(1) of unit variance: τ = (1 + ρ)/(1 - ρ)."""
    x, noise = np.empty(n), RNG.normal(size=n) * np.sqrt(1 - rho**2)
    x[0] = RNG.normal()
    for i in range(1, n):
        x[i] = rho * x[i - 1] + noise[i]
    return x


def test_a_series_with_memory_has_the_error_of_fewer_samples():
    n, tau = 40_000, 19.0
    found = statistics(ornstein(n, 0.9)[:, None], every=5)
    assert found["tau"][0] == pytest.approx(5 * tau, rel=0.15)
    assert found["error"][0] == pytest.approx(np.sqrt(tau / n), rel=0.15)
    assert abs(found["mean"][0]) < 4 * found["error"][0]
    assert abs(found["drift"][0]) < 3.5


def test_a_trend_drifts_and_readings_that_are_missing_do_not_count():
    series = ornstein(400, 0.1) + np.linspace(0, 2, 400)
    series[:7] = np.nan
    found = statistics(np.stack([series, np.full(400, 2.0), np.full(400, np.nan)], 1))
    assert found["drift"][0] > STRAYED
    assert found["n"].tolist() == [393, 400, 0]
    assert (found["mean"][1], found["error"][1], found["drift"][1]) == (2, 0, 0)
    assert np.isnan(found["mean"][2])


@pytest.fixture
def run():
    torch.manual_seed(1)
    x, y = torch.randn(64, 4), torch.randn(64, 1)
    return Experiment(Network(nn.Linear(4, 1), (x, y), loss="squared"), eta=0.05, batch_size=4, replicas=3)


def test_a_run_at_its_minimum_is_stationary_at_the_energy_of_the_exact_solution(run):
    """Least squares at its minimum: U of independent batches is the least loss plus what the noise adds, and does not drift."""
    data = measure(run, 2000, burn_in=500, observe=["U", "r"])
    assert run.state.step == 2500
    assert dict(data["U"].sizes) == {"time": 200, "replica": 3}
    x = torch.cat([run.system.data.x, torch.ones(64, 1)], 1).double()
    w = torch.linalg.lstsq(x, run.system.data.y.double()).solution
    least = float((x @ w - run.system.data.y).square().mean())
    assert (data["U_mean"] > least).all()
    assert (data["U_mean"] < 1.4 * least).all()  # η h is below .15
    assert "U drifts" not in data.attrs["notes"]
    assert "gauges" not in run.observables


def test_the_start_of_a_run_is_not_called_stationary(run):
    run.put(run.state.weights + 5)
    data = measure(run, 100, observe=["U"], every=2)
    assert "not stationary" in data.attrs["notes"] or "not known to be stationary" in data.attrs["notes"]


def test_a_measurement_is_written_and_read_again(run, tmp_path):
    data = measure(run, 40, observe=["U", "sharpness"])
    data.to_netcdf(tmp_path / "results.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "results.nc", engine="h5netcdf") as found:
        xr.testing.assert_identical(found.load(), data)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"steps": 3}, "steps=3 is not allowed"),
        ({"steps": 10.5}, "steps=10.5 is not allowed"),
        ({"steps": 100, "every": 50}, "every=50 leaves 2 readings"),
        ({"steps": 100, "burn_in": -1}, "burn_in=-1 is not allowed"),
        ({"steps": 100, "observe": ["heat"]}, "observe='heat' is unknown"),
    ],
)
def test_what_is_not_allowed_is_one_line(run, settings, line):
    with pytest.raises(ValueError, match=line):
        measure(run, **settings)
    assert run.state.step == 0


def test_a_run_that_was_measured_has_a_record(run):
    run.advance(3)
    run.frame()
    measure(run, 40, every=10, observe=["U", "T"])
    found = run.record()
    assert found.time.values.tolist() == [3, 3, 13, 23, 33, 43]
    assert np.isfinite(found["T"].values[1:]).all()
    assert np.isnan(found["T"].values[0]).all()  # not asked for
    assert np.isnan(found["U"].values[1]).all()  # no step was taken


def test_readings_under_dropout_are_functions_of_seed_and_step_and_what_is_none_is_refused():
    module = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2))
    data, readings, after = (torch.randn(64, 3), torch.arange(64) % 2), [], []
    for number in (1, 1, 2):
        torch.manual_seed(number)
        run = Experiment(Network(module, data), eta=0.1, batch_size=8)
        found = measure(run, 8, every=2, observe=["accuracy", "T"])
        readings.append([*found["accuracy"].values.ravel(), *found["T"].values.ravel(), full_gradient_squared(run)[0]])
        after.append(torch.rand(1))
    assert readings[0] == readings[1] == readings[2]
    assert after[0] == after[1] != after[2]  # somebody's own numbers go on as they were
    for name in ("sharpness", "batch_sharpness"):
        with pytest.raises(ValueError, match=f"{name} cannot be read: the module draws random numbers"):
            measure(run, 8, every=2, observe=[name])
    with pytest.raises(ValueError, match="the module draws random numbers"):
        batch_sharpness(run.system, run.state.weights[0], 8)


def test_a_module_of_one_number_of_samples_is_read():
    module = nn.Sequential(nn.Unflatten(0, (32, 1)), nn.Flatten(1), nn.Linear(3, 2))
    run = Experiment(Network(module, (torch.randn(64, 3), torch.arange(64) % 2)), eta=0.1, batch_size=32)
    assert np.isfinite(measure(run, 8, every=2, observe=["U", "T"])["T"]).all()


def test_a_module_that_computes_in_the_precision_of_its_inputs_is_read():
    net = NetworkOnData(nn.Linear(3, 2), Dataset(torch.randn(64, 3).double(), torch.arange(64) % 2))
    run = Experiment(net, eta=0.1, batch_size=8, weights=net.replicas.own_weights().double()[None])
    assert np.isfinite(measure(run, 8, every=2, observe=["U", "accuracy"])["accuracy"]).all()
