"""Entropy estimators: exact cases, exact invariances, known bias, honest error bars."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.signal import lfilter
from scipy.special import digamma

from thermolab.instruments.entropy import gaussian_bias, knn_graph, kozachenko_leonenko, log_ball_volume


def gaussian_entropy(covariance):
    covariance = np.atleast_2d(covariance)
    return 0.5 * len(covariance) * math.log(2 * math.pi * math.e) + 0.5 * np.linalg.slogdet(covariance)[1]


def normal(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def ornstein_uhlenbeck(phi, shape, burn_in=200):
    """Stationary trajectories [..., N, d] of unit variance, correlated by phi from sample to sample."""
    kick = normal((*shape[:-2], shape[-2] + burn_in, shape[-1]))
    return lfilter([math.sqrt(1 - phi**2)], [1, -phi], kick, axis=-2)[..., burn_in:, :]


def over_cells(found):
    """Mean over the cells and its standard error from their spread."""
    return found.value.mean(), found.value.std(ddof=1) / math.sqrt(found.value.size)


# Exact cases ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("d", [2, 3, 10])
def test_gaussian_of_known_covariance(d, k):
    factor = np.tril(normal((d, d), seed=5)) * 0.2 + np.eye(d)
    found = kozachenko_leonenko(normal((40, 600, d)) @ factor.T, k=k)
    mean, error = over_cells(found)
    # The bias is known for an isotropic Gaussian; a few hundredths of a nat per dimension for the rest.
    assert mean - found.bias == pytest.approx(gaussian_entropy(factor @ factor.T), abs=4 * error + 0.03 * d)


def test_uniform_on_an_interval_and_on_spheres():
    mean, error = over_cells(kozachenko_leonenko(np.random.default_rng(0).uniform(0, 5, (40, 500, 1))))
    assert mean == pytest.approx(math.log(5), abs=4 * error + 0.01)
    for d, area in ((2, 2 * math.pi), (3, 4 * math.pi)):
        cloud = normal((60, 500, d), seed=d)
        mean, error = over_cells(kozachenko_leonenko(cloud, sphere=True))
        assert mean == pytest.approx(math.log(area), abs=4 * error + 1e-3)
        unit = cloud / np.linalg.norm(cloud, axis=-1, keepdims=True)
        np.testing.assert_allclose(
            kozachenko_leonenko(unit, dim=d - 1).value, kozachenko_leonenko(cloud, sphere=True).value, rtol=1e-12
        )
        # The control: as a cloud in d dimensions the sphere is thin and its entropy is not log area.
        assert abs(kozachenko_leonenko(unit).value.mean() - math.log(area)) > 0.5


def test_von_mises_fisher_on_the_sphere():
    """The stationary state of the ideal gas at T = 1/κ: S = log(4π sinh κ/κ) − κ coth κ + 1."""
    kappa = 20.0
    exact = math.log(4 * math.pi * math.sinh(kappa) / kappa) - kappa / math.tanh(kappa) + 1
    samples = stats.vonmises_fisher([0, 0, 1], kappa).rvs(20_000, random_state=np.random.default_rng(2))
    mean, error = over_cells(kozachenko_leonenko(samples.reshape(40, 500, 3), sphere=True))
    assert mean == pytest.approx(exact, abs=4 * error + abs(gaussian_bias(500, 1, 2)))


def test_formula_on_four_points():
    """Nearest distances 1, 1, 2, 4 on a line."""
    found = kozachenko_leonenko(np.array([[0.0], [1.0], [3.0], [7.0]]))
    assert found.value == pytest.approx(digamma(4) - digamma(1) + math.log(2) + math.log(8) / 4, rel=1e-14)
    graph = knn_graph(np.array([[0.0, 0], [1, 0], [3, 0], [7, 0]]), k=2, dim=2)
    edges = (1 + 3) + (1 + 2) + (2 + 3) + (4 + 6)
    assert graph.value == pytest.approx(2 * (math.log(edges) - 0.5 * math.log(4)), rel=1e-14)


def test_volume_of_the_ball():
    for dim, volume in ((1, 2), (2, math.pi), (3, 4 * math.pi / 3), (4, math.pi**2 / 2)):
        assert log_ball_volume(dim) == pytest.approx(math.log(volume), rel=1e-14)


# Invariances ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", [kozachenko_leonenko, lambda x: knn_graph(x, k=5)])
@given(log_scale=st.floats(-8, 8), offset=st.floats(-1e3, 1e3), seed=st.integers(0, 99), d=st.sampled_from([1, 3, 10]))
@settings(max_examples=15, deadline=None)
def test_scale_law_and_translation_are_exact(estimator, log_scale, offset, seed, d):
    cloud = normal((50, d), seed)
    value = estimator(cloud).value
    assert estimator(cloud * math.exp(log_scale)).value == pytest.approx(value + d * log_scale, abs=1e-9)
    assert estimator(cloud + offset).value == pytest.approx(value, abs=1e-9)
    turn = np.linalg.qr(normal((d, d), seed + 1))[0]
    assert estimator(cloud @ turn).value == pytest.approx(value, abs=1e-9)
    assert estimator(cloud[::-1]).value == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize("estimator", [kozachenko_leonenko, lambda x: knn_graph(x, k=5)])
def test_the_same_in_many_dimensions(estimator):
    """Through float32 blocks: 1e-5 of a distance is at worst d · 1e-5 nats, and in practice 1e-7."""
    d, cloud = 300, normal((200, 300))
    value = estimator(cloud).value
    assert estimator(cloud * 1e-3 + 1e3).value == pytest.approx(value + d * math.log(1e-3), abs=1e-4)
    assert estimator(torch.as_tensor(cloud).float()).value == pytest.approx(value, abs=1e-3)
    assert estimator(cloud @ np.linalg.qr(normal((d, d)))[0]).value == pytest.approx(value, abs=1e-4)


def test_radius_does_not_enter_on_the_sphere():
    cloud = normal((100, 5))
    far = cloud * np.random.default_rng(1).uniform(0.1, 10, (100, 1))
    assert kozachenko_leonenko(far, sphere=True).value == pytest.approx(kozachenko_leonenko(cloud, sphere=True).value, abs=1e-10)
    assert kozachenko_leonenko(cloud, sphere=True).dim == 4


# Graph entropy -------------------------------------------------------------------------------------------------


def test_graph_entropy_differences():
    """Between Gaussians of one shape exact, between differently stretched ones the difference of their entropies."""
    cloud, axes = normal((60, 400, 3)), np.array([0.5, 1.0, 3.0])
    plain, stretched = knn_graph(cloud, k=5), knn_graph(normal((60, 400, 3), seed=1) * axes, k=5)
    (a, da), (b, db) = over_cells(plain), over_cells(stretched)
    assert b - a == pytest.approx(np.log(axes).sum(), abs=4 * math.hypot(da, db) + 0.03)


def test_a_graph_may_have_coincident_points():
    cloud = normal((40, 3))
    cloud[1] = cloud[0]
    assert np.isfinite(knn_graph(cloud, k=5).value)
    with pytest.raises(ValueError, match="all 40 samples are identical"):
        knn_graph(np.ones((40, 3)), k=5)


# Bias ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "k", "d"), [(300, 1, 3), (300, 4, 10), (300, 1, 50), (300, 20, 50), (200, 1, 500)])
def test_bias_for_an_isotropic_gaussian(n, k, d):
    found = kozachenko_leonenko(torch.as_tensor(normal((40, n, d), seed=d)), k=k)
    mean, error = over_cells(found)
    assert mean - gaussian_entropy(np.eye(d)) == pytest.approx(found.bias, abs=4 * error)
    if d >= 50:
        assert found.bias > 20 * error  # without it the line above would fail


def test_bias_grows_to_half_log_two_per_dimension():
    assert gaussian_bias(1000, 1, 50) / 25 == pytest.approx(0.24, abs=0.005)
    assert gaussian_bias(1000, 1, 576) / 288 == pytest.approx(0.53, abs=0.005)
    assert gaussian_bias(1000, 1, 10**6) / 5e5 == pytest.approx(math.log(2), abs=0.005)


def test_the_note_says_what_the_value_lacks():
    cloud = normal((100, 30))
    found = kozachenko_leonenko(cloud)
    assert f"{found.bias:+.3g} nats" in found.note
    assert "autocorrelation" not in found.note
    graph = knn_graph(cloud, k=5)
    assert math.isnan(graph.bias)
    assert "differences only" in graph.note
    assert "lowers S" in kozachenko_leonenko(normal((100, 30)).cumsum(0), time_ordered=True).note


# Error bars ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 3])
def test_error_is_the_jackknife_done_by_hand(k):
    cloud, n = normal((12, 2)), 12
    for estimator in (kozachenko_leonenko, knn_graph):
        left_out = np.array([estimator(np.delete(cloud, i, 0), k=k).value for i in range(n)])
        error = math.sqrt((n - 1) / n * ((left_out - left_out.mean()) ** 2).sum())
        assert estimator(cloud, k=k).standard_error == pytest.approx(error, rel=1e-10)


@pytest.mark.parametrize(
    ("estimator", "d", "low", "high"),
    [
        (kozachenko_leonenko, 2, 0.55, 1.0),
        (kozachenko_leonenko, 50, 0.75, 1.15),
        (kozachenko_leonenko, 400, 0.8, 1.25),
        (lambda x: knn_graph(x, k=20), 50, 0.8, 1.2),
    ],
)
def test_error_against_the_spread_of_repetitions(estimator, d, low, high):
    """The spread of log distances over √N alone would be 1.1, 1.6, 2.1 and 1.7 times too small."""
    found = estimator(torch.as_tensor(normal((100, 150, d))))
    assert low < found.value.std(ddof=1) / found.standard_error.mean() < high


@pytest.mark.parametrize("estimator", [kozachenko_leonenko, knn_graph])
def test_time_order_widens_the_error(estimator):
    path = ornstein_uhlenbeck(0.9, (60, 1000, 3))
    plain, ordered = estimator(path), estimator(path, time_ordered=True)
    np.testing.assert_array_equal(plain.value, ordered.value)
    assert np.isnan(plain.autocorrelation_time).all()
    assert ordered.autocorrelation_time.mean() == pytest.approx(19, rel=0.15)
    spread = ordered.value.std(ddof=1)
    assert 0.65 < spread / ordered.standard_error.mean() < 1.5
    assert spread / plain.standard_error.mean() > 1.2 * spread / ordered.standard_error.mean()


def test_correlated_samples_come_out_too_low():
    """Why τ stands beside S: a Gaussian of unit variance, once independent and once every nineteenth of τ."""
    independent, slow = (kozachenko_leonenko(ornstein_uhlenbeck(phi, (400, 20))) for phi in (0.0, 0.9))
    assert slow.value < independent.value - 10 * independent.standard_error


# Shapes and refusals -------------------------------------------------------------------------------------------


def test_cells():
    cells = normal((2, 3, 40, 4))
    for estimator in (kozachenko_leonenko, lambda x, **more: knn_graph(x, k=5, **more)):
        table = estimator(cells, time_ordered=True)
        one = estimator(cells[1, 2], time_ordered=True)
        assert table.value.shape == table.standard_error.shape == table.autocorrelation_time.shape == (2, 3)
        assert isinstance(one.value, float)
        assert (one.n, one.dim) == (40, 4)
        assert (table.value[1, 2], table.standard_error[1, 2]) == (one.value, one.standard_error)


def test_torch_numpy_and_read_only_memory_agree():
    cloud = normal((50, 3))
    value = kozachenko_leonenko(cloud).value
    assert kozachenko_leonenko(torch.as_tensor(cloud).requires_grad_()).value == value
    cloud.flags.writeable = False
    assert kozachenko_leonenko(cloud).value == value


@pytest.mark.parametrize("d", [3, 30])
def test_coincident_replicas_are_refused(d):
    cloud = normal((50, d)) + 1
    cloud[7] = cloud[3]
    with pytest.raises(ValueError, match="replicas coincide: 2 of 50"):
        kozachenko_leonenko(cloud)


CLOUD = normal((20, 3))


@pytest.mark.parametrize(
    ("cloud", "more", "message"),
    [
        (CLOUD, {"k": 19}, "k=19 with N=20"),
        (CLOUD, {"k": 0}, "k=0"),
        (CLOUD, {"dim": 4}, "dim=4"),
        (CLOUD, {"dim": 3, "sphere": True}, "on a sphere: must lie in 1 … 2"),
        (np.zeros((20, 3)), {"sphere": True}, "no direction"),
        (CLOUD[0], {}, r"expected \[\.\.\., N, d\]"),
        (np.where(CLOUD > 1, np.nan, CLOUD), {}, "nan or inf"),
    ],
    ids=["as many neighbours", "no neighbour", "dim of more", "dim of the space on a sphere", "zeros", "one point", "nan"],
)
def test_a_cloud_without_an_entropy_is_refused(cloud, more, message):
    with pytest.raises(ValueError, match=message):
        kozachenko_leonenko(cloud, **more)


@pytest.mark.parametrize("estimator", [kozachenko_leonenko, knn_graph])
def test_coordinates_that_never_move_do_not_count(estimator):
    cloud = np.random.default_rng(0).normal(size=(60, 4))
    padded = np.concatenate([cloud, np.full((60, 40), 0.3)], 1)
    alone, found, twice = estimator(cloud, k=3), estimator(padded, k=3), estimator(2 * padded, k=3)
    assert (found.dim, found.frozen, alone.frozen) == (4, 40, 0)
    assert found.value == pytest.approx(alone.value, rel=1e-12)
    assert twice.value - found.value == pytest.approx(4 * math.log(2), rel=1e-9)  # 44 log 2 if all counted
    assert "40 coordinates never moved" in found.note
    assert estimator(padded, k=3, dim=44).dim == 44
    cells = estimator(np.stack([padded, np.random.default_rng(1).normal(size=(60, 44))]), k=3)
    assert (list(cells.dim), list(cells.frozen)) == ([4, 44], [40, 0])
    assert np.shape(cells.bias) == (2,) or estimator is knn_graph


def test_directions_of_weights_some_of_which_never_move():
    """On the sphere what never moves is one direction, however many coordinates it has."""
    cloud = np.random.default_rng(0).normal(size=(60, 4))
    one, many = (np.concatenate([cloud, np.full((60, n), 3 / math.sqrt(n))], 1) for n in (1, 9))
    found = [kozachenko_leonenko(c, k=3, sphere=True) for c in (one, many)]
    assert [f.dim for f in found] == [4, 4]
    assert found[0].value == pytest.approx(found[1].value, rel=1e-9)
    assert kozachenko_leonenko(np.pad(cloud, ((0, 0), (0, 9))), sphere=True).dim == 3


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("d", [2, 20])
def test_nearer_duplicates_do_no_harm(d):
    x = np.random.default_rng(0).normal(size=(100, d))
    found = kozachenko_leonenko(np.concatenate([x, x[:3]]), k=3)
    assert math.isfinite(found.value)
    assert math.isfinite(found.standard_error)


def test_complex_samples_are_refused():
    with pytest.raises(ValueError, match="the samples are complex"):
        kozachenko_leonenko(np.ones((9, 2)) * 1j)
