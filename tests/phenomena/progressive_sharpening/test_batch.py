"""SGD at its edge: the recipe against the dense Hessian; the claims on data made up by hand."""

import numpy as np
import pytest
import torch
import xarray as xr
from claimed import HOLDS, verdicts

from thermolab.instruments import curvature
from thermolab.phenomena.progressive_sharpening import batch, edge
from thermolab.systems import models
from thermolab.systems.network import NetworkOnData

SHORT = {"etas": (0.1, 1e-4), "n_data": 40, "widths": (4,), "steps": 4, "looks": 2, "n_seeds": 2}


def test_batch_reads_the_hessian_of_all_data_and_shares_its_start():
    found = batch.batch.run((4, 8), **SHORT)
    assert dict(found.sizes) == {"batch": 2, "eta": 2, "seed": 2, "time": 2}
    assert found["time"].values.tolist() == [2, 4]
    assert np.isfinite(found["batch_sharpness"]).all()
    net = NetworkOnData(models.mlp((64, 4, 10), activation="tanh"), edge.answers(40, 1.0, seed=1), loss="squared")
    start = edge.SCALE * net.start(torch.arange(1), 1)[0]
    sharp = torch.linalg.eigvalsh(curvature.dense(net, start, net.data.x, net.data.y))[-1]
    slow = found["lambda_max"].sel(seed=1, eta=1e-4).isel(time=0)
    np.testing.assert_allclose(slow, [sharp] * 2, rtol=0.02)  # two steps of η = 0.0001 leave it there
    xr.testing.assert_equal(batch.batch.run((4, 8), **(SHORT | {"n_seeds": 1})), found.isel(seed=[0]))


def made_up(sharp, top, slow=(0.01, 0.012)):
    """η/2 times batch sharpness and λ_max of batch sizes 8 and 16 at the larger rate, of both sizes at the smaller."""
    rng, etas = np.random.default_rng(0), np.array([0.2, 0.002])
    values = np.array([[[s, slow[0]] for s in sharp], [[t, slow[1]] for t in top]])[..., None, None] * np.ones((5, 6))
    values = values * np.exp(0.01 * rng.standard_normal(values.shape)) * 2 / etas[:, None, None]
    dims = ("batch", "eta", "seed", "time")
    data = {k: (dims, v) for k, v in zip(("batch_sharpness", "lambda_max"), values, strict=True)}
    return xr.Dataset(data, coords={"batch": [8, 16], "eta": etas})


@pytest.mark.parametrize(
    ("sharp", "top", "wanted"),
    [
        ((0.96, 1.05), (0.5, 0.75), HOLDS),
        ((1.05, 0.8), (0.5, 0.75), ("fails", "fails")),  # the furthest decides
        ((1.3, 1.05), (0.9, 0.75), ("fails", "fails")),  # above counts as below
        ((0.5, 0.75), (0.96, 1.05), ("fails", "fails")),  # λ_max is there
    ],
)
def test_the_batch_sharpness_has_to_be_nearer_than_the_largest_eigenvalue(sharp, top, wanted):
    assert verdicts(batch.nearer_to_its_edge(made_up(sharp, top))) == wanted


@pytest.mark.parametrize(
    ("top", "wanted"), [((0.5, 0.75), HOLDS), ((0.75, 0.5), ("fails", "fails")), ((0.5, 1.0), ("fails", "fails"))]
)
def test_the_largest_eigenvalue_has_to_fall_with_the_batch_and_to_lie_below(top, wanted):
    assert verdicts(batch.flatter_in_small_batches(made_up((1, 1), top))) == wanted
