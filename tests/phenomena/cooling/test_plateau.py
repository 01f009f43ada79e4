"""The escape from a plateau, and which of S and U is dated earlier."""

import numpy as np
import torch
import xarray as xr
from claimed import FAILS, verdicts
from phenomena.cooling import made_up

from thermolab.engine.experiment import Experiment
from thermolab.instruments.spread import along_path
from thermolab.phenomena.cooling import classifiers, plateau
from thermolab.systems.data import Dataset


def test_the_entropy_of_a_window_is_that_of_its_path():
    net = classifiers.system("mlp", width=8)
    run, again = (Experiment(net, eta=0.1, batch_size=4, replicas=3, seed=5) for _ in range(2))
    found = plateau.window(run, 8, 4, which=slice(1, 3))
    path = []
    for _ in range(4):
        again.advance(2)
        path.append(again.state.weights)
    np.testing.assert_array_equal(found, along_path(torch.stack(path)).value[1:])
    assert run.state.step == 8


def test_an_image_with_any_label():
    data = Dataset(torch.arange(6.0).reshape(3, 2), torch.tensor([2, 0, 1]), 4)
    every = plateau.any_label(data)
    assert torch.equal(every.x[:3], data.x)
    assert torch.equal(every.y[:3], data.y)
    pairs = {(*x.tolist(), int(y)) for x, y in zip(every.x, every.y, strict=True)}
    assert len(pairs) == len(every) == 12


def test_the_plateau_and_its_end():
    found = plateau.plateau.run(replicas=3, windows=26, n_seeds=2)
    escape, redrawn = (found.sel(arm=a) for a in plateau.ARMS)
    assert abs(redrawn["U"] - np.log(10)).max() < 0.05
    assert abs(found["U"].isel(window=slice(4)) - np.log(10)).max() < 0.05
    assert (escape["U"].isel(window=-1) < 1.2).all()
    assert (escape["U_validation"].isel(window=-1) < 1.5).all()
    assert (plateau.exits(found, "S") < escape["S_date"]).all()
    assert (escape["S"].isel(window=-1) - escape["S"].isel(window=0) > 8).all()
    # the steepest change by hand
    for name in "SU":
        series = escape[name].values[1, 2]
        change = [abs(series[t + 4] - series[t]) for t in range(22)]
        assert escape[f"{name}_date"].values[1, 2] == int(np.argmax(change)) + 2 + 1


def test_the_exit_from_the_band_of_the_null_runs():
    rng = np.random.default_rng(1)
    null, series = 0.1 * rng.normal(size=(2, 2, 20, 12))
    series[0, 0, 7:] += 5
    series[1, 1, 4:] -= 5
    data = xr.Dataset({"S": (("arm", "seed", "replica", "window"), np.stack([series, null]))}, {"arm": [*plateau.ARMS]})
    found = plateau.exits(data, "S")
    assert found[0, 0] == 8  # windows are numbered from 1
    assert found[1, 1] == 5
    assert np.isnan(found).sum() >= 35


def test_the_earlier_date():
    together, led = made_up.escapes(0.0), made_up.escapes(6.0)
    assert verdicts(plateau.earlier(together)) == FAILS
    assert plateau.earlier(led).check.verdict == "holds"
    assert plateau.earlier(made_up.escapes(-6.0)).check.verdict == "fails"
    assert plateau.earlier(together).control.verdict == "holds"  # U alone is dated by the end of its growth


def test_a_distance_within_the_scatter_of_the_null_runs_is_none():
    """Far below it the logarithm would date a leap of the noise."""
    found = made_up.escapes(0.0)
    found["U"][0, ..., 2] = np.log(10) - 1e-30
    np.testing.assert_array_equal(plateau.dates(found, True), plateau.dates(made_up.escapes(0.0), True))
