"""Neighbour distances against a dense float64 table, above all for a small cloud far from the origin."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from thermolab.instruments import distances
from thermolab.instruments.distances import centre, gram, nearest_distances


def dense(samples, k):
    """All pairs in float64 by differences, sorted."""
    samples = np.asarray(samples, dtype=np.float64)
    table = cdist(samples, samples)
    np.fill_diagonal(table, np.inf)
    return np.sort(table, axis=1)[:, :k]


def window(n, d, correlation=0.0, offset=1.0, displacement=1e-3, seed=0):
    """A stationary window of weights around a common offset."""
    rng = np.random.default_rng(seed)
    kick = rng.normal(size=(n, d))
    x = kick.copy()
    for t in range(1, n):
        x[t] = correlation * x[t - 1] + np.sqrt(1 - correlation**2) * kick[t]
    return offset + displacement * x


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("d", [1, 3, 10, 11, 576, 3000])
def test_against_the_dense_table(d, dtype):
    accuracy = 1e-11 if d <= distances.TREE_DIMENSION else 1e-5
    samples = torch.as_tensor(window(150, d)).to(dtype)
    near = nearest_distances(samples, 5)
    np.testing.assert_allclose(near.distance, dense(samples, 5), rtol=accuracy)
    pairs = samples.double().numpy()[near.index] - samples.double().numpy()[:, None]
    np.testing.assert_allclose(np.linalg.norm(pairs, axis=2), near.distance, rtol=accuracy)


def test_float32_without_centring_has_no_correct_digit():
    """The control: what the tolerance above would let through if the centre were not subtracted."""
    samples = torch.as_tensor(window(150, 576)).float()
    naive = torch.cdist(samples, samples, compute_mode="use_mm_for_euclid_dist").fill_diagonal_(torch.inf).min(1).values
    assert np.abs(naive.numpy() / dense(samples, 1)[:, 0] - 1).max() > 0.1


def test_a_slow_trajectory_is_done_in_float64(monkeypatch):
    samples = window(300, 200, correlation=0.9995)
    truth = dense(samples, 1)
    np.testing.assert_allclose(nearest_distances(samples).distance, truth, rtol=1e-5)
    monkeypatch.setattr(distances, "ACCURACY", np.inf)  # the control: float32 is kept
    assert np.abs(nearest_distances(samples).distance / truth - 1).max() > 1e-5


def test_an_ordinary_window_is_done_in_float32(monkeypatch):
    """The fast way is taken, and its result is kept."""
    seen = []
    original = distances._by_gram
    monkeypatch.setattr(distances, "_by_gram", lambda x, k: seen.append(x.dtype) or original(x, k))
    monkeypatch.setattr(distances, "_by_differences", None)
    nearest_distances(window(200, 576, correlation=0.7))
    assert seen == [torch.float32]


def test_close_pairs_and_an_outlier_are_done_by_differences():
    samples = np.random.default_rng(1).normal(size=(60, 20))
    samples[1] = samples[0] + 1e-11
    samples[7] += 1e5
    np.testing.assert_allclose(nearest_distances(samples, 2).distance, dense(samples, 2), rtol=1e-5)


@pytest.mark.parametrize("d", [3, 40])
@pytest.mark.parametrize("scale", [1e-180, 1e180])
def test_extreme_scales_neither_underflow_nor_overflow(d, scale):
    samples = window(50, d, offset=0.0, displacement=1.0)
    np.testing.assert_allclose(nearest_distances(samples * scale, 2).distance / scale, dense(samples, 2), rtol=1e-5)


@pytest.mark.parametrize("d", [3, 40])
def test_coincident_points_are_neighbours_at_distance_zero(d):
    samples = window(30, d)
    samples[[4, 9, 20]] = samples[3]
    near = nearest_distances(samples, 3)
    assert np.all(near.distance[[3, 4, 9, 20]] == 0)
    assert (near.distance == 0).sum() == 12
    assert not np.any(near.index == np.arange(30)[:, None])


def test_blocks_leave_no_seam(monkeypatch):
    samples = window(130, 250)
    whole = nearest_distances(samples, 3)
    monkeypatch.setattr(distances, "ROWS", 32)
    monkeypatch.setattr(distances, "COLUMNS", 100)
    monkeypatch.setattr(distances, "STREAM", 1000)
    blocks = nearest_distances(samples, 3)
    np.testing.assert_array_equal(blocks.index, whole.index)
    np.testing.assert_allclose(blocks.distance, whole.distance, rtol=1e-6)
    samples[::2] = samples[0]  # through the differences
    assert np.all(nearest_distances(samples, 3).distance[::2] == 0)


def test_centre_and_gram():
    samples = window(40, 30, offset=1e3)
    x, mean, scale = centre(samples)
    np.testing.assert_allclose(mean + scale * x, samples, rtol=1e-15)
    assert x.abs().max() <= 4
    assert abs(x.mean()) < 1e-12
    np.testing.assert_allclose(gram(x), x @ x.T, atol=1e-12)
    np.testing.assert_allclose(gram(x, slice(3, 9)), (x @ x.T)[3:9], atol=1e-12)


def test_neighbours_that_are_not_there_are_refused():
    samples = window(10, 3)
    for k in (0, 10):
        with pytest.raises(ValueError, match=f"k={k} neighbours among N=10"):
            nearest_distances(samples, k)
    with pytest.raises(ValueError, match=r"expected \[N, d\]"):
        nearest_distances(samples[0])
    for bad in (np.nan, np.inf):
        for d in (3, 30):
            broken = window(10, d)
            broken[4, 1] = bad
            with pytest.raises(ValueError, match="nan or inf"):
                nearest_distances(broken)
