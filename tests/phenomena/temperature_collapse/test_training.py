"""The networks of notebook 02 in training: what the recipe reads, and the claims on runs made up by hand."""

import numpy as np
import pytest
import torch
import xarray as xr
from claimed import FAILS, HOLDS, verdicts
from phenomena.temperature_collapse.made_up import begin, trained, two_points, widths

from thermolab.instruments.windows import graph_entropy
from thermolab.phenomena.temperature_collapse import networks, training

RATES = (0.05, 0.2)
TRAIN = {"width": 8, "steps": 40, "logs": 4, "samples": 5, "n_seeds": 3, "n_data": 64}
TRAINING = {"U", "accuracy", "S", "gradient_squared", "trace", "g2", "snr", "T_gas"}


@pytest.fixture(scope="module")
def run():
    return training.training.run(RATES, **TRAIN)


def test_shapes_of_training(run):
    assert set(run.data_vars) == TRAINING | {"U_min"}
    assert run["U_min"].dims == ()
    for name in TRAINING:
        assert run[name].dims == ("eta", "time", "seed"), name
    assert run.sizes == {"eta": 2, "time": 4, "seed": 3}
    assert run["time"].values.tolist() == [10, 20, 30, 40]
    assert run.attrs == {"dim": 576, "width": 8, "norm": "layer", "batch_size": 32, "n_data": 64}


def test_training_reads_the_run(run):
    again, seed = begin(8, "layer", 2, RATES), run.sel(seed=2)
    for k in range(4):
        path, frames = [], []
        for frame, _ in zip(again.frames(2), range(5), strict=False):
            frames.append(frame)
            path.append(again.state.weights.numpy().copy())
            if len(path) == 5:
                break
        np.testing.assert_allclose(seed["U"][:, k], np.mean([f.observables["U"] for f in frames], 0), rtol=1e-6)
        entropies = [graph_entropy(p).value for p in np.stack(path, 1)]
        np.testing.assert_allclose(seed["S"][:, k], entropies, rtol=1e-6)
    assert again.state.step == run["time"][-1]
    np.testing.assert_allclose(run["trace"], (run["g2"] - run["gradient_squared"]).clip(0), rtol=1e-6)


def test_temperature_and_signal_to_noise_ratio_come_from_the_gradients(run):
    np.testing.assert_allclose(run["T_gas"], run["eta"] * run["trace"] / (2 * (576 - 1)), rtol=1e-9)
    squared = (run["gradient_squared"] / run["trace"]).where(run["trace"] > 0)
    np.testing.assert_allclose(run["snr"] ** 2, squared, rtol=1e-5)


def test_each_width_is_a_run_of_its_own(run):
    settings = {k: v for k, v in TRAIN.items() if k != "width"}
    plan = training.by_width((4, 8), RATES, **settings)
    found = {h: part.func.run(**part.keywords) for h, part in plan.items()}
    assert {h: data.attrs["dim"] for h, data in found.items()} == {4: 272, 8: 576}
    xr.testing.assert_identical(found[8], run)
    array = training.over_width(found, "T_gas")
    assert array.dims == ("width", "eta", "seed")
    assert array["width"].values.tolist() == [4, 8]
    for h, data in found.items():
        np.testing.assert_array_equal(array.sel(width=h), np.median(data["T_gas"][:, -3:], 1))
    np.testing.assert_array_equal(array["eta"], RATES)


# --- claims on data made up by hand -----------------------------------------------------------------------------------
@pytest.mark.parametrize("claim", [training.collapse, training.decay])
def test_the_collapse_along_training(claim):
    op, up = trained(collapses=True), trained(collapses=False)
    assert verdicts(claim(op, up)) == HOLDS
    assert verdicts(claim(up, op)) == FAILS


def test_the_loss_falls_to_its_least():
    run = trained(collapses=True)
    time = run["time"] / run["time"][0]

    def falls(low: float, high: float, least=0.3) -> xr.Dataset:
        power = xr.DataArray([low, *[high] * 10], {"eta": run["eta"]}, dims="eta")
        scatter = 1 + 1e-3 * run["accuracy"]
        return run.assign(U=(least + scatter * time**power).transpose("eta", "time", "seed"), U_min=least)

    assert verdicts(training.loss_zero(falls(-0.9, 0.0))) == HOLDS
    assert verdicts(training.loss_zero(falls(-0.1, -0.9))) == FAILS
    floor = falls(-0.9, 0.0)  # a loss that stays above its least
    assert training.loss_zero(floor.assign(U=floor["U"] + 0.3)).check.verdict == "fails"


def test_the_least_loss_is_that_of_free_features():
    """A bound that trained nets keep, and come near: of one class, that of the best of many random features."""
    wide, narrow = (networks.least_loss(networks.Wide(width=h)) for h in (32, 8))
    assert 0 < wide < 0.003 < 0.5 < narrow
    assert np.isnan(networks.least_loss(networks.Narrow()))
    net = networks.system(8)
    *_, normalise, activate, head = net.replicas.module
    features = activate(normalise(torch.randn(20_000, 8, generator=torch.Generator().manual_seed(1))))
    tried = -torch.log_softmax(head(features), -1).amax(0)[net.data.y].mean()
    assert narrow <= float(tried) < narrow + 0.1


def test_the_power_law():
    assert verdicts(training.power_law(trained(collapses=True, power=1.0), two_points(power=0.8))) == HOLDS
    assert verdicts(training.power_law(trained(collapses=True, power=0.85), two_points(power=1.0))) == FAILS


def test_the_collapse_over_width():
    assert verdicts(training.width_fall(widths())) == HOLDS
    assert verdicts(training.width_fall(widths(low=1.0, high=1e-4))) == FAILS
    assert training.width_fall(widths(low=0.1)).check.verdict == "fails"


def test_the_collapse_comes_where_all_images_are_known():
    assert verdicts(training.width(widths())) == HOLDS
    assert training.width(widths(known=(0.5, 1.0, 1.0, 1.0), cold=3)).check.verdict == "fails"  # known long before
    assert training.width(widths(known=(0.5, 0.6, 0.7, 1.0), cold=1)).check.verdict == "fails"  # only known long after
    assert training.width(widths(known=(0.5, 0.6, 0.7, 0.99))).check.verdict == "inconclusive"  # never known


def test_where_a_curve_first_passes():
    x = np.array([0.0, 1.0, 2.0, 3.0])
    assert training._crossing(x, np.array([0.0, 2.0, 1.0, 5.0]), 1.5) == pytest.approx(0.75)
    assert np.isnan(training._crossing(x, x, 4.0))
    assert np.isnan(training._crossing(x, x + 1, 1.0))


def test_the_exponent_over_width():
    assert verdicts(training.width_exponent(widths(wide=1.0), two_points(power=0.8))) == HOLDS
    assert verdicts(training.width_exponent(widths(wide=0.85), two_points())) == FAILS


def test_a_burst_in_the_last_interval_is_no_warmth():
    """A network that leaves its minimum for an interval and comes back is as cold as before, in each of its three last."""
    found = widths()
    wide = found[max(found)]
    for late in (-1, -2, -3):
        burst = wide["T_gas"].copy()
        burst[{"time": late, "seed": 0}] *= 1e4
        hot = found | {max(found): wide.assign(T_gas=burst)}
        assert training.width_fall(hot).check == training.width_fall(found).check
        assert training.width(hot).check == training.width(found).check
