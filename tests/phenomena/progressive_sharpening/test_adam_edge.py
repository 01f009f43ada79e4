"""Adam at its edge: the preconditioned Hessian against the dense one; the claims on data made up by hand."""

import numpy as np
import pytest
import torch
import xarray as xr
from claimed import HOLDS, verdicts

from thermolab.engine.experiment import Experiment
from thermolab.instruments import curvature
from thermolab.phenomena.progressive_sharpening import adam_edge, edge, starts
from thermolab.systems import models
from thermolab.systems.full_batch import FullBatch

SHORT = {"n_data": 40, "widths": (4,), "steps": 4, "looks": 2, "n_seeds": 1}


def test_the_preconditioned_hessian_is_that_of_adams_own_scale():
    found = adam_edge.adam_edge.run((0.005, 5e-6), **SHORT)
    assert found["time"].values.tolist() == [1, 3, 5]
    net = FullBatch(models.mlp((64, 4, 10), activation="tanh"), edge.answers(40), loss="squared", optimiser="adam")
    start = edge.SCALE * net.start(torch.arange(1), 0)
    run = Experiment(net, eta=0.005, weights=start, beta1=adam_edge.BETA1, **starts.ADAM)
    run.advance(5)
    full = curvature.dense(net, run.state.weights[0], net.data.x, net.data.y).double()
    scale = (run.state.memory["s"][0].double() / (1 - 0.995**5)).sqrt() + 1e-7
    for name, matrix in (("lambda_max", full), ("preconditioned", full / (scale[:, None] * scale).sqrt())):
        wanted = torch.linalg.eigvalsh(matrix)[-1]
        np.testing.assert_allclose(found[name].sel(eta=0.005).isel(time=-1), [wanted], rtol=0.02)


def made_up(rise, edges):
    """λ_max that is multiplied by so much, and η/38 times the preconditioned one at the end, at the larger and smaller rate."""
    rng, etas = np.random.default_rng(0), np.array([0.005, 5e-6])
    climb = np.linspace(0, 3, 10).clip(0, 1)
    top = np.array(rise)[:, None, None] ** climb * np.exp(0.01 * rng.standard_normal((2, 5, 1)))
    inner = np.array(edges)[:, None, None] * np.exp(0.01 * rng.standard_normal((2, 5, 10))) * 38 / etas[:, None, None]
    dims = ("eta", "seed", "time")
    return xr.Dataset({"lambda_max": (dims, top), "preconditioned": (dims, inner)}, coords={"eta": etas})


@pytest.mark.parametrize(("rise", "wanted"), [((3, 1), HOLDS), ((0.5, 1), ("fails", "fails")), ((3, 3), ("holds", "holds"))])
def test_the_largest_eigenvalue_has_to_rise(rise, wanted):
    assert verdicts(adam_edge.sharpens_digits(made_up(rise, (1, 0)))) == wanted


@pytest.mark.parametrize(
    ("edges", "wanted"), [((1, 0.01), HOLDS), ((0.8, 0.01), ("fails", "fails")), ((1, 1), ("holds", "holds"))]
)
def test_the_preconditioned_one_has_to_come_to_38(edges, wanted):
    assert verdicts(adam_edge.comes_to_38(made_up((3, 1), edges))) == wanted
