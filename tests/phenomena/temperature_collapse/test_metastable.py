"""The false minimum: its landscape, Kramers' time against the exact chain, and exits counted on trajectories made by hand."""

import re

import numpy as np
import pytest
import torch
import xarray as xr

from thermolab.claims import few_seeds
from thermolab.phenomena.temperature_collapse import metastable
from thermolab.phenomena.temperature_collapse.metastable import FALSE, OUT, TOP
from thermolab.systems.replicas import Replicas

FAST = {"rates": (0.06, 0.08, 0.1), "replicas": 60, "length": 64.0}


@pytest.fixture(scope="module")
def run():
    return metastable.metastable.run(**FAST)


# --- the landscape ----------------------------------------------------------------------------------------------------
def test_loss_is_that_of_all_cases_and_has_its_extrema():
    delta = np.linspace(0, 2 * np.pi, 41)
    data = metastable.population()
    (x, psi), y = data.x.double().numpy().T, data.y[:, 0].double().numpy()
    direct = ((np.sin((1 + delta[:, None]) * x + psi) - y) ** 2).mean(1)
    np.testing.assert_allclose(metastable.loss(delta), direct, atol=1e-6)
    assert metastable.loss(FALSE) == pytest.approx(metastable.BOTTOM)
    assert metastable.loss(TOP) - metastable.loss(FALSE) == pytest.approx(metastable.HEIGHT)
    g, h = (v.mean(-1) for v in metastable.derivatives(np.array([FALSE, TOP])))
    np.testing.assert_allclose(g, 0, atol=1e-6)
    np.testing.assert_allclose(h, metastable.CURVATURES, rtol=1e-6)


def test_derivatives_are_those_of_the_loss_and_of_each_other():
    delta, step = np.linspace(0.3, 3, 7), 1e-5
    (g, h), (up, _), (down, _) = (metastable.derivatives(delta + d) for d in (0, step, -step))
    np.testing.assert_allclose((up - down) / (2 * step), h, atol=1e-6)
    np.testing.assert_allclose(np.sin(delta) / 2 + np.sin(2 * delta), g.mean(-1), atol=1e-6)


def test_gradient_by_hand_is_that_of_autograd():
    net, oracle = metastable.system(), Replicas(metastable.SineUnit(), "squared", backend="autograd")
    w = torch.tensor([[0.3], [4.1]], dtype=torch.float64)
    x, y = torch.randn(2, 5, 2, generator=torch.Generator().manual_seed(1)).double(), torch.ones(2, 5, 1).double()
    ours, theirs = torch.empty_like(w), torch.empty_like(w)
    torch.testing.assert_close(net.replicas.loss_and_gradient(w, x, y, ours), oracle.loss_and_gradient(w, x, y, theirs))
    torch.testing.assert_close(ours, theirs)


def test_tilt_is_the_other_root():
    g = metastable.derivatives(np.linspace(TOP + 0.1, FALSE - 0.1, 9))[0]
    theta = metastable.tilt(g)
    np.testing.assert_allclose(np.exp(-theta[:, None] * g).mean(1), 1, atol=1e-12)
    assert (abs(theta) > 0.01).all()
    np.testing.assert_allclose(metastable.tilt(np.array([[1.0, -0.5]])), 2 * np.log((1 + 5**0.5) / 2), rtol=1e-9)


# --- the theory against the exact chain -------------------------------------------------------------------------------
def chain(eta: float, batch: int, points: int = 500) -> tuple[float, float]:
    """Mean ηn until |δ| < OUT and 2(U − U_false) of the quasi-stationary state, for the matrix of all steps on a grid."""
    delta = np.linspace(OUT, 2 * np.pi - OUT, points)
    g = metastable.derivatives(delta)[0]
    if batch == 2:
        g = ((g[:, :, None] + g[:, None]) / 2).reshape(points, -1)
    place = (delta[:, None] - eta * g - OUT) / (delta[1] - delta[0])
    inside = (place >= 0) & (place < points - 1)
    low, row = np.where(inside, place, 0).astype(int), np.broadcast_to(np.arange(points)[:, None], place.shape)
    share, matrix = (place - low)[inside], np.zeros((points, points))
    np.add.at(matrix, (row[inside], low[inside]), (1 - share) / g.shape[1])
    np.add.at(matrix, (row[inside], low[inside] + 1), share / g.shape[1])
    state = np.full(points, 1 / points)
    for _ in range(3):  # inverse iteration
        state = np.linalg.solve(np.eye(points) - matrix.T, state)
        state /= state.sum()
    return eta / (1 - matrix.sum(1) @ state), 2 * (state @ (metastable.loss(delta) - metastable.BOTTOM))


@pytest.mark.parametrize(("eta", "batch"), [(0.04, 1), (0.06, 1), (0.08, 2)])
def test_kramers_and_the_cloud_are_those_of_the_chain(eta, batch):
    """Time to 3 % (2 % of it are the grid's), T to O(η²), 4 to 7 %; a diffusion misses the times by a third and more."""
    time, hot = chain(eta, batch)
    assert metastable.escape_time(eta, batch) == pytest.approx(time, rel=0.03)
    assert metastable.temperature(eta, batch) == pytest.approx(hot, rel=0.07)


def test_equipartition_at_small_rates():
    rates = np.array([1e-4, 1e-3])
    lead = rates * metastable.noise(FALSE) / 2
    assert (abs(metastable.temperature(rates) / lead - 1) < 10 * rates).all()
    assert metastable.noise(FALSE) == pytest.approx(1 + 5 * metastable.NOISE**2)


def test_batches_divide_the_noise():
    one, four = metastable.cloud(1), metastable.cloud(4)
    np.testing.assert_allclose(four[1], 4 * one[1], rtol=1e-9)
    assert one[1][0] == pytest.approx(0.239137, abs=1e-5)


# --- the measurement --------------------------------------------------------------------------------------------------
def by_hand() -> dict:
    """Four trajectories of 10 windows at ±0.1 around the false minimum; two leave, in windows 6 and 9, one in window 0."""
    delta = FALSE + 0.1 * np.resize([1.0, -1.0], (1, 4, 320))
    delta[0, 0, 6 * 32 + 10 :] = 0
    delta[0, 1, 9 * 32 + 20 :] = 2 * np.pi
    delta[0, 3, 5:] = 0
    return metastable.read(delta, 0.25)


def test_exits_are_counted_among_those_that_are_still_there():
    found = by_hand()
    assert found["exits"].tolist() == [2]  # the third never leaves, the fourth has left before the clock starts
    assert found["time"] == pytest.approx(0.25 * ((5 * 32 + 10) + (8 * 32 + 20) + 9 * 32) / 2)
    assert found["T"] == pytest.approx(2 * (metastable.loss(FALSE + 0.1) - metastable.BOTTOM))
    still = np.log(2 * np.pi * np.e * 0.01 * 32 / 31) / 2
    np.testing.assert_allclose(found["S"], still)
    np.testing.assert_allclose(found["S_before"], np.full((1, 5), still))
    never = metastable.read(np.full((1, 2, 320), FALSE), 0.25)
    assert never["time"] == np.inf
    assert np.isnan(never["S_before"]).all()


def test_barrier_is_the_slope_in_the_inverse_rate():
    rates = xr.DataArray([0.02, 0.04, 0.1], dims="eta", coords={"eta": [0.02, 0.04, 0.1]})
    times = 3 * np.exp(0.2 / rates) * xr.DataArray([1.0, 2.0], dims="seed")
    np.testing.assert_allclose(metastable.barrier(times), 0.2)
    stuck = metastable.barrier(xr.where((times["eta"] == 0.02) & (times > 1e5), np.inf, times))
    assert stuck.notnull().values.tolist() == [True, False]


def test_exits_are_arrhenius_and_the_entropy_is_flat_until_the_last_window(run):
    """Some 100 exits a rate, over three seeds: the slope to 15 %, well away from that of U over T."""
    assert (run["exits"] > 5).all()
    np.testing.assert_allclose(np.log(run["time"].mean("seed") / run["time_pred"]), 0, atol=0.35)
    mean, error, _ = few_seeds(metastable.barrier(run["time"]))
    naive = np.polyfit(1 / run["eta"], np.log(run["time_naive"]), 1)[0]
    assert abs(mean - run["barrier"]) < max(0.06, 3 * error) < abs(mean - naive)
    assert (np.diff(run["T"].mean("seed")) > 0).all()
    np.testing.assert_allclose(run["T"].mean("seed"), run["T_pred"], rtol=0.2)
    before = (run["S_before"] - run["S"]).mean(("eta", "seed"))
    assert abs(before[1:]).max() < 0.15 < 0.4 < before[0]


def test_docstring_lists_the_dataset(run):
    text = metastable.metastable.__doc__.split("Returns a Dataset")[1]
    for name in run.data_vars:
        assert re.search(rf"\b{name}\b", text), name
    assert run["S_before"].dims == ("eta", "seed", "lag")
    alone = metastable.metastable.run(**FAST | {"rates": (0.08, 0.1)}, n_seeds=1)
    xr.testing.assert_equal(alone["time"], run["time"].sel(eta=[0.08, 0.1], seed=[0]))
