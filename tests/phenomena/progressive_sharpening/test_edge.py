"""Gradient descent on all data at once: its steps against plain loops, the edge where it is known, the recipe and its claim."""

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

from thermolab.engine.experiment import DivergenceError, Experiment
from thermolab.instruments import curvature
from thermolab.phenomena.progressive_sharpening import claims_edge as claims
from thermolab.phenomena.progressive_sharpening import edge
from thermolab.systems.regression import Answers

SHORT = {"n_data": 40, "widths": (4,), "steps": 27, "every": 9, "n_seeds": 2}


def test_a_step_is_that_of_the_whole_gradient():
    """Two replicas at two rates, with weight decay, against autograd on all data."""
    net = edge.digits(30, (6,))
    start = net.start(torch.arange(2), 3)
    run = Experiment(net, eta=[0.1, 0.05], lam=0.1, weights=start)
    run.advance(4)
    x, y, module = net.data.x.double(), net.data.y.double(), net.replicas.module.double()
    for r, eta in enumerate((0.1, 0.05)):
        w = start[r].double()
        for _ in range(4):
            w = w.requires_grad_()
            parameters = {k: v[0] for k, v in net.replicas.views(w[None]).items()}
            loss = (torch.func.functional_call(module, parameters, (x,)) - y).square().sum() / 30
            (g,) = torch.autograd.grad(loss, w)
            w = (w - eta * (g + 0.1 * w)).detach()
        torch.testing.assert_close(run.state.weights[r], w.float(), rtol=1e-4, atol=1e-5)


def test_there_is_no_noise_and_no_batch_size():
    """Other random numbers make no difference, and runs may be cut into slices."""
    start = 0.4 * edge.digits(30, (6,)).start(torch.arange(1), 0)
    one, other = (Experiment(edge.digits(30, (6,)), eta=0.1, weights=start, seed=s) for s in (0, 1))
    one.advance(6)
    for _ in range(3):
        other.advance(2)
    assert (one.state.weights == other.state.weights).all()
    assert not (one.state.weights == start).all()
    with pytest.raises(ValueError, match="batch_size is no knob of this system"):
        one.set(batch_size=4)


@pytest.mark.parametrize(("ratio", "grows"), [(0.98, False), (1.02, True)])
def test_a_linear_layer_leaves_its_minimum_beyond_the_edge(ratio, grows):
    """λ_max = 2 max eig XᵀX/N whatever the weights: exactly at 2/η descent turns into growth."""
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(1))
    net = edge.FullBatch(nn.Sequential(nn.Linear(3, 1, bias=False)), Answers(x, x[:, :1].clone()), loss="squared")
    top = 2 * float(torch.linalg.eigvalsh(x.T.double() @ x.double() / 20)[-1])
    run = Experiment(net, eta=ratio * 2 / top, weights=net.start(torch.arange(1), 0))
    far = [float((run.state.weights - torch.tensor([[1.0, 0, 0]])).norm())]
    for _ in range(2):
        run.advance(200)
        far.append(float((run.state.weights - torch.tensor([[1.0, 0, 0]])).norm()))
    assert (far[2] > 10 * far[1] > far[0]) is grows


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
    late = claims.late(data)
    np.testing.assert_allclose(late.sel(eta=0.3), 1, atol=0.05)
    assert late.sel(eta=0.01).max() < 0.3


def test_a_rate_that_is_too_large_is_masked_and_told():
    data = edge.edge.run((100.0, 0.02), **SHORT)
    assert np.isnan(data["lambda_max"].sel(eta=100.0).isel(time=-1)).all()
    assert np.isfinite(data["lambda_max"].sel(eta=0.02)).all()
    with pytest.raises(DivergenceError, match="try eta="):
        edge.edge.run((100.0, 90.0), **SHORT)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"etas": (0.1, -0.1)}, "etas[1]=-0.1 is not allowed; allowed: a positive number"),
        ({"etas": (0.1,)}, "etas=[0.1] must be two or more different rates"),
        ({"etas": (0.1, 0.1)}, "must be two or more different rates"),
        ({"steps": 0}, "steps=0 is not allowed; allowed: a whole number, 1 or more"),
        ({"widths": (8, 0)}, "widths[1]=0 is not allowed"),
        ({"n_data": 5000}, "n=5000 images asked for; allowed: 1 to 1797"),
        ({"activation": "gelu"}, "activation='gelu' is unknown; allowed: relu, tanh"),
        ({"scale": 0.0}, "scale=0.0 is not allowed"),
    ],
)
def test_bad_settings_get_one_line(settings, text):
    with pytest.raises(ValueError, match=r"^[^\n]*$") as error:
        edge.edge.run(**settings)
    assert text in str(error.value)


# --- the claim on data made up by hand --------------------------------------------------------------------------
def made_up(ends, noise=0.001, etas=(0.2, 0.1, 0.01)):
    """λ_max that climbs to these multiples of 2/η in half of the time and stays there."""
    rng, climb = np.random.default_rng(0), np.minimum(1, np.linspace(0, 2, 30))
    ends = np.array(ends)[:, None, None] * (1 + noise * rng.standard_normal((len(etas), 5, 1)))
    data = xr.Dataset({"edge": ("eta", 2 / np.array(etas))}, coords={"eta": list(etas)})
    return data.assign(lambda_max=(("eta", "seed", "time"), ends * climb * data["edge"].values[:, None, None]))


@pytest.mark.parametrize(
    ("ends", "noise", "verdicts"),
    [
        ((1.02, 1.01, 0.1), 1e-3, ("holds", "fails")),
        ((1.02, 0.8, 0.1), 1e-3, ("fails", "fails")),
        ((1.2, 1.0, 0.1), 1e-3, ("fails", "fails")),
        ((1.01, 1.02, 1.0), 1e-3, ("holds", "holds")),
        ((1.02, 1.03, 0.1), 0.05, ("inconclusive", "fails")),
    ],
)
def test_edge_on_made_up_curves(ends, noise, verdicts):
    check, name, control = claims.checks(made_up(ends, noise))["sharpening.edge"]()
    assert (check.verdict, control.verdict) == verdicts
    assert name == "η = 0.01, too small for the time"


def test_a_run_that_diverged_at_the_end_decides_nothing():
    data = made_up((1.02, 1.01, 0.1))
    data["lambda_max"][0, :, -2:] = np.nan
    assert claims.edge(data)[0].verdict == "inconclusive"


def test_the_slowest_rate_is_the_control_wherever_it_stands():
    data = made_up((0.1, 1.02, 1.01), etas=(0.01, 0.2, 0.1))
    check, _, control = claims.edge(data)
    assert (check.verdict, control.verdict) == ("holds", "fails")
