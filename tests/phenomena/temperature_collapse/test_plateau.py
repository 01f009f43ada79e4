"""The plateau: its closed form against moments of the population, its departures, and a small run to its end."""

import re

import numpy as np
import pytest
import torch
from claimed import HOLDS, verdicts

from thermolab.phenomena.temperature_collapse import plateau
from thermolab.systems.replicas import Replicas

FAST = {"rates": (0.125, 0.16, 0.25), "replicas": 12}


@pytest.fixture(scope="module")
def run():
    return plateau.plateau.run(**FAST)


# --- the task ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("null", [False, True])
@pytest.mark.parametrize(("eta", "batch"), [(0.02, 16), (0.2, 16), (0.1, 1)])
def test_temperature_is_the_fixed_point_of_the_covariance(null, eta, batch):
    """V ← E[(1 − 2ηC) V (1 − 2ηC)] + 4η² Cov/B with the moments of the population, summed over its rows."""
    data = plateau.population(null)
    x = data.x.double().numpy()
    noise = data.y[:, 0].double().numpy() - x @ np.array(plateau.TEACHER)
    mean, v = x.T @ x / len(x), np.eye(6)
    kick = (x * noise[:, None] ** 2).T @ x / len(x)
    for _ in range(int(20 / eta)):
        square = (x * np.einsum("ni,ij,nj->n", x, v, x)[:, None]).T @ x / len(x)
        both = square / batch + (1 - 1 / batch) * mean @ v @ mean
        v = v - 2 * eta * (mean @ v + v @ mean) + 4 * eta**2 * (both + kick / batch)
    np.testing.assert_allclose(v, plateau.temperature(eta, batch) / 2 * np.eye(6), atol=1e-6 * v[0, 0])


def test_the_population_is_balanced():
    for null in (False, True):
        data = plateau.population(null)
        x, y = data.x.double(), data.y[:, 0].double()
        rest = y - x @ torch.tensor(plateau.TEACHER)
        assert rest.mean() == pytest.approx(0, abs=1e-6)
        assert rest.square().mean() == pytest.approx(0.34, rel=1e-6)
        assert (rest @ x / len(x)).abs().max() < 1e-6
        # what a function of x can learn of the rest: its mean at each x
        signal = rest.reshape(64, -1).mean(1)
        expected = torch.zeros(64) if null else 0.5 * plateau.patterns()[:, 0] * plateau.patterns()[:, 1]
        torch.testing.assert_close(signal, expected.double(), atol=1e-6, rtol=0)


def test_gradient_by_hand_is_that_of_autograd():
    net = plateau.system()
    oracle = Replicas(plateau.LinearAndUnits(), "squared", backend="autograd")
    generator = torch.Generator().manual_seed(3)
    w = torch.randn(3, 34, generator=generator, dtype=torch.float64)
    x, y = torch.randn(3, 16, 6, generator=generator).double(), torch.randn(3, 16, 1, generator=generator).double()
    ours, theirs = torch.empty_like(w), torch.empty_like(w)
    torch.testing.assert_close(net.replicas.loss_and_gradient(w, x, y, ours), oracle.loss_and_gradient(w, x, y, theirs))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("null", [False, True])
def test_population_loss_is_the_loss_over_all_rows(null):
    net = plateau.system(null)
    w = plateau.start(net, 2, 5, full=True)
    x, y = (t.double().expand(2, *t.shape) for t in (net.data.x, net.data.y))
    direct = net.replicas.loss_and_gradient(w.double(), x, y, torch.empty_like(w).double())
    np.testing.assert_allclose(plateau.population_loss(net, w, null), direct.numpy(), rtol=1e-6)


def test_tiny_units_and_a_trained_linear_part():
    net = plateau.system()
    w = plateau.start(net, 4, 0)
    np.testing.assert_allclose(w[:, :6], np.broadcast_to(plateau.TEACHER, (4, 6)), rtol=1e-6)
    assert 0 < w[:, 6:].abs().max() < 1e-11
    np.testing.assert_allclose(plateau.population_loss(net, w), plateau.plateau_loss(), rtol=1e-6)


def test_gaussian_entropy_of_a_known_cloud():
    cloud = np.random.default_rng(0).normal(size=(2, 40_000, 3)) * [1.0, 2.0, 3.0]
    np.testing.assert_allclose(plateau.gaussian_entropy(cloud), 1.5 * np.log(2 * np.pi * np.e) + np.log(6), atol=0.02)


def test_departure_is_the_first_of_two_windows_outside():
    null = np.array([[-1.0] * 6, [1.0] * 6])  # mean 0, standard deviation 1
    series = np.array([[0, 5, 0, -5, 5, 0], [0, 0, 0, 0, 0, 9], [5, 5, 0, 0, 0, 0.0]])
    np.testing.assert_array_equal(plateau.departure(series, null), [3, np.nan, 0])


# --- the run ----------------------------------------------------------------------------------------------------------
def test_the_plateau_has_its_temperature(run):
    """36 replicas × 3 windows of 16 correlation times each, six weights: V to 1.5 %, here within 4 standard errors."""
    excess = (run["U"].mean("seed") - plateau.plateau_loss()) / (3 * run["T"])
    np.testing.assert_allclose(excess, 1, atol=0.06)
    np.testing.assert_allclose(run["S"].mean("seed"), run["S_pred"], atol=3 * 0.06)
    np.testing.assert_allclose(run["U_pred"], 0.34 + 3 * run["T"])


def test_the_saddle_is_left_and_the_null_task_is_not(run):
    assert run["U_exit"].notnull().mean() > 0.9
    assert run["null_exit"].isnull().all()
    # 0.34 on the plateau, 0.09 for who has learnt it all
    assert (run["U_t"].isel(window=-1).median(("seed", "replica")) < 0.3).all()
    assert (run["null_U_t"].isel(window=-1) > 0.33).all()
    assert (run["frozen_exit"].mean("replica") < run["U_exit"].mean("replica") - 2).all()


def test_free_energy_of_all_weights_falls_without_a_barrier(run):
    """The mean never climbs by more than 1 % of its fall; where there is nothing to learn it does not fall."""
    falls, still = ((run[k].mean(("seed", "replica")) / run["T"]).values for k in ("F_t", "null_F_t"))
    climbs = [(path - np.minimum.accumulate(path, 1)).max(1) / np.ptp(path, 1) for path in (falls, still)]
    assert (climbs[0] < 0.01).all()
    assert (climbs[1] > 0.5).all()
    np.testing.assert_allclose(run["U_t"].isel(window=slice(6)).mean(("replica", "window", "seed")), run["U_pred"], atol=0.01)
    assert (np.diff(falls[:, 1:6]) < -30).all()  # while U rests
    assert (abs(still - still[:, :1]) < 30).all()


def test_entropy_of_all_weights_is_that_of_single_ones():
    """At units of 1e-12 the sum is -27.6 nats for each of 28 weights, and F differs from U by T times it."""
    found = plateau._trajectories(0.16, 16, 6, 4, [0], "cpu", null=True)
    spread = (found["U_t"] - found["F_t"]) / plateau.temperature(0.16, 16)
    warm = plateau.entropy_of(plateau.temperature(0.16, 16))
    assert spread.mean() == pytest.approx(warm - 28 * 27.6, rel=0.2)
    # the frozen part alone: 28/2 log(2πe) and the logs of the variances, below the log of their mean
    assert (spread - found["S_t"] < 14 * (np.log(2 * np.pi * np.e) + found["frozen_t"]) + 1).all()


def test_docstring_lists_the_dataset(run):
    text = plateau.plateau.__doc__.split("Returns a Dataset")[1]
    for name in run.data_vars:
        assert re.search(rf"\b{name}\b", text), name
    assert run["U_t"].dims == ("eta", "seed", "replica", "window")
    assert run["U"].dims == run["open_S"].dims == ("eta", "seed")
    assert run.sizes == {"eta": 3, "seed": 3, "replica": 12, "window": 14}
    assert len(np.unique(run["U"])) == 9


# --- the claims -------------------------------------------------------------------------------------------------------
def exact(run, factor=1.0):
    """The dataset with U and S of the closed form at a multiple of its temperature, and a seed's scatter of 0.1 %."""
    t = factor * run["T"] * (1 + 0.001 * (run["seed"] - 1))
    return run.assign(U=plateau.plateau_loss() + 3 * t, S=plateau.entropy_of(t))


def test_plateau_temperature_tells_a_wrong_temperature(run):
    assert verdicts(plateau.has_temperature(exact(run))) == HOLDS
    # 8 % leaves each state at its own minimum of F, a fifth does not
    good = exact(run)
    for wrong in (exact(run, 1.08), exact(run, 1.2), good.assign(S=good["S"] + 0.3), good.assign(U=good["U"] * 1.01)):
        assert plateau.has_temperature(wrong).check.verdict == "fails"


def test_early_warning_counts_windows(run):
    ahead = run.assign(S_exit=run["U_exit"] - 2, frozen_exit=run["U_exit"] + 0.5)
    assert verdicts(plateau.early_warning(ahead)) == HOLDS
    assert plateau.early_warning(ahead).check.measured == pytest.approx(2)
    never = run.assign(U_exit=0 * run["S_t"].isel(window=0) + 9, S_exit=np.nan * run["S_t"].isel(window=0))
    assert plateau.early_warning(never).check.measured == pytest.approx(9 - 14)
