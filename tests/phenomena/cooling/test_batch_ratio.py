"""Cells of equal η/B at tiny settings, and their claim on data made up by hand."""

import numpy as np
import pytest
import xarray as xr
from claimed import HOLDS, verdicts
from phenomena.cooling import made_up
from phenomena.cooling.by_hand import begin, judge, window

from thermolab.phenomena.cooling import batch_ratio

RATIO = {"ratios": (1 / 320, 1 / 80), "batch_sizes": (16, 64), "epochs": 3, "average": 2, "window": 1, "copies": 2, "n_seeds": 2}


@pytest.fixture(scope="module")
def cells():
    return batch_ratio.ratio.run(**RATIO)


def test_shapes_of_ratios(cells):
    assert {cells[name].dims for name in batch_ratio.READ} == {("ratio", "batch_size", "seed")}
    np.testing.assert_allclose(cells["eta"], [[0.05, 0.2], [0.2, 0.8]])
    assert (cells[["U", "S"]].to_array().isnull() == (cells["eta"] > 0.4)).all()


def test_a_cell_by_hand(cells):
    for ratio in (0, 1):
        here = cells.isel(ratio=ratio, batch_size=0, seed=1)
        run = begin(float(here["eta"]), 16, 3e-2, int(here["seed"]))
        run.advance(64)
        run.frame()
        windows = [(*window(run, 16, 4), *judge(run)) for _ in range(2)]
        for name, value in zip(("U", "S", "U_val", "accuracy"), np.mean(windows, (0, 2)), strict=True):
            np.testing.assert_allclose(here[name], value, rtol=1e-12, err_msg=name)


def test_windows_are_as_long_for_every_batch():
    wide = {"epochs": 3, "average": 2, "copies": 1, "n_seeds": 1}
    both = batch_ratio.ratio.run((1 / 640,), (32, 128), window=2, **wide)["S"].values.ravel()
    alone = batch_ratio.ratio.run((1 / 640,), (32,), window=1, **wide)["S"].item()
    assert both[0] > alone + 0.3  # in two epochs a weight goes further than in one
    assert abs(both[1] - both[0]) < 0.3  # one window scatters by 0.15


def test_the_ratio_decides():
    assert verdicts(batch_ratio.eta_over_batch(made_up.cells_of_one_law())) == HOLDS
    assert batch_ratio.eta_over_batch(made_up.cells_of_one_law(far=0.01)).control.verdict == "holds"
    for off in ({"energy": 0.1}, {"energy": -0.1}, {"entropy": 0.2}, {"entropy": -0.2}):
        check = batch_ratio.eta_over_batch(made_up.cells_of_one_law(**off)).check
        assert check.verdict == "fails", off
        assert check.measured == pytest.approx(4 / 3, abs=0.1), off  # two thirds of twice the tolerance: a third is in the mean
    assert batch_ratio.eta_over_batch(made_up.cells_of_one_law(size=0.05)).check.verdict == "inconclusive"


def test_starts_that_differ_tell_nothing_about_the_ratio():
    """Each seed has its own level, common to all batch sizes."""
    data = made_up.cells_of_one_law()
    levels = xr.DataArray([0.0, 3.0, -2.0, 1.0], dims="seed")
    assert batch_ratio.eta_over_batch(data.assign(S=data["S"] + levels)).check.verdict == "holds"
