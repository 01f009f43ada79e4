"""Descent at the edge of stability: the recipe against the dense Hessian, a network that comes to its edge, and the claim."""

import numpy as np
import pytest
import torch
import xarray as xr
from claimed import HOLDS, verdicts

from thermolab.engine.experiment import DivergenceError
from thermolab.instruments import curvature
from thermolab.phenomena.progressive_sharpening import edge

SHORT = {"n_data": 40, "widths": (4,), "steps": 27, "every": 9, "n_seeds": 2}


def test_edge_reads_the_hessian_of_all_data():
    data = edge.edge.run((0.3, 0.02), **SHORT)
    assert dict(data.sizes) == {"eta": 2, "seed": 2, "time": 4}
    assert data["time"].values.tolist() == [0, 9, 18, 27]
    np.testing.assert_allclose(data["edge"], [2 / 0.3, 100])
    run = edge.experiment([0.3], n_data=40, widths=(4,), seed=1)
    for at in (0, 3):
        full = curvature.dense(run.system, run.state.weights[0], run.system.data.x, run.system.data.y)
        found = data["lambda_max"].sel(eta=0.3, seed=1).isel(time=at)
        np.testing.assert_allclose(found, torch.linalg.eigvalsh(full)[-1], rtol=5e-3)
        run.advance(27)
    assert float(data["lambda_max"].isel(time=0).std("eta").max()) < 1e-2 * float(data["lambda_max"].min())  # one start
    assert np.isnan(data["U"].isel(time=0)).all()
    assert (np.diff(data["U"].isel(time=slice(1, None))) < 0).all()
    xr.testing.assert_equal(edge.edge.run((0.3, 0.02), **(SHORT | {"n_seeds": 1})), data.isel(seed=[0]))


def test_a_small_network_comes_to_its_edge():
    data = edge.edge.run((0.3, 0.01), n_data=60, widths=(16,), scale=0.2, steps=738, every=41, n_seeds=2)
    start = (data["lambda_max"] / data["edge"]).isel(time=0)
    assert start.max() < 0.8
    late = edge.late(data)
    np.testing.assert_allclose(late.sel(eta=0.3), 1, atol=0.05)
    assert late.sel(eta=0.01).max() < 0.3


def test_a_rate_that_is_too_large_is_masked_and_told():
    data = edge.edge.run((100.0, 0.02), **SHORT)
    assert np.isnan(data["lambda_max"].sel(eta=100.0).isel(time=-1)).all()
    assert np.isfinite(data["lambda_max"].sel(eta=0.02)).all()
    with pytest.raises(DivergenceError, match="try eta="):
        edge.edge.run((100.0, 90.0), **SHORT)


# --- the claim on data made up by hand --------------------------------------------------------------------------
def made_up(ends, noise=0.001, etas=(0.2, 0.1, 0.01)):
    """λ_max that climbs to these multiples of 2/η in half of the time and stays there."""
    rng, climb = np.random.default_rng(0), np.minimum(1, np.linspace(0, 2, 30))
    ends = np.array(ends)[:, None, None] * (1 + noise * rng.standard_normal((len(etas), 5, 1)))
    data = xr.Dataset({"edge": ("eta", 2 / np.array(etas))}, coords={"eta": list(etas)})
    return data.assign(lambda_max=(("eta", "seed", "time"), ends * climb * data["edge"].values[:, None, None]))


@pytest.mark.parametrize(
    ("ends", "noise", "wanted"),
    [
        ((1.02, 1.01, 0.1), 1e-3, HOLDS),
        ((1.02, 0.8, 0.1), 1e-3, ("fails", "fails")),
        ((1.2, 1.0, 0.1), 1e-3, ("fails", "fails")),
        ((1.01, 1.02, 1.0), 1e-3, ("holds", "holds")),
        ((1.02, 1.03, 0.1), 0.05, ("inconclusive", "fails")),
    ],
)
def test_the_rate_furthest_from_its_edge_decides(ends, noise, wanted):
    decision = edge.reaches_edge(made_up(ends, noise))
    assert verdicts(decision) == wanted
    assert decision.control_name == "η = 0.01, too small for the time"


def test_a_run_that_diverged_at_the_end_decides_nothing():
    data = made_up((1.02, 1.01, 0.1))
    data["lambda_max"][0, :, -2:] = np.nan
    assert edge.reaches_edge(data).check.verdict == "inconclusive"


def test_the_slowest_rate_is_the_control_wherever_it_stands():
    assert verdicts(edge.reaches_edge(made_up((0.1, 1.02, 1.01), etas=(0.01, 0.2, 0.1)))) == HOLDS
