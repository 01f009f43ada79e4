"""The three entropy proxies against variances that are known, and what must not change them."""

import math

import numpy as np
import pytest
import torch

from thermolab.instruments import spread
from thermolab.systems import models
from thermolab.systems.replicas import Replicas


# --- (a) entries --------------------------------------------------------------------------------------------------------
def test_entries_are_those_of_weight_tensors():
    replicas = Replicas(models.mlp((8, 5, 3)))
    w = torch.randn(4, replicas.n_parameters, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = spread.entries(w, replicas.views)
    first, second = w[:, :40].numpy(), w[:, 45:60].numpy()
    np.testing.assert_allclose(found, (np.log(first.var(1)) + np.log(second.var(1))) / 2, rtol=1e-12)
    w[:, 40:45] = 100.0  # the biases do not count
    np.testing.assert_array_equal(spread.entries(w, replicas.views), found)
    np.testing.assert_allclose(spread.entries(3 * w, replicas.views), found + 2 * math.log(3), rtol=1e-12)


@pytest.mark.parametrize("module", [models.mlp((256, 32, 10)), models.cnn(), models.tiny_transformer()])
def test_entries_at_the_start(module):
    """The start has the variances of `start_scale`, and no tensor of variance 0."""
    replicas = Replicas(module)
    w = replicas.start(torch.randn(64, replicas.n_parameters, generator=torch.Generator().manual_seed(0)))
    found = spread.entries(w, replicas.views)
    matrices = {k: p for k, p in replicas.trainable.items() if p.dim() > 1}
    # E log of a sample variance over n entries is −1/n + log v to first order
    expected = np.mean([2 * math.log(models.start_scale(k, p)) - 2 / p.numel() for k, p in matrices.items()])
    assert found.shape == (64,)
    assert found.mean() == pytest.approx(expected, abs=4 * found.std(ddof=1) / 8 + 5e-4)


def test_entries_of_equal_and_lost_weights():
    replicas = Replicas(models.mlp((2, 2), bias=False))
    w = torch.tensor([[1.0, 1, 1, 1], [1, 2, math.nan, 1], [1, -1, 1, -1]])
    np.testing.assert_array_equal(spread.entries(w, replicas.views), [-math.inf, math.nan, 0.0])
    with pytest.raises(ValueError, match="two dimensions or more"):
        spread.entries(torch.ones(2, 3), lambda flat: {"bias": flat})


# --- (b) along the path -------------------------------------------------------------------------------------------------
def path(t=16, r=3, p=50, seed=0):
    return np.random.default_rng(seed).normal(size=(t, r, p))


@pytest.mark.parametrize(("detrend", "degree"), [("linear", 1), ("constant", 0)])
def test_against_polyfit(detrend, degree):
    times = np.cumsum(np.random.default_rng(1).uniform(0.5, 2, 16))
    found = spread.along_path(path(), detrend=detrend, times=times)
    flat = path().reshape(16, -1)
    rest = flat - np.vander(times, degree + 1) @ np.polyfit(times, flat, degree)
    variance = (rest**2).sum(0) / (16 - degree - 1)
    np.testing.assert_allclose(found.value, np.log(variance).reshape(3, 50).mean(1), rtol=1e-10)
    np.testing.assert_array_equal(found.frozen, 0)
    assert found.n == 16


def test_known_variance():
    """E log of a χ² of ν = 14 degrees over ν is ψ(7) − log 7."""
    found = spread.along_path(0.01 * path(r=1, p=20_000)).value[0]
    expected = 2 * math.log(0.01) + float(torch.digamma(torch.tensor(7.0))) - math.log(7)
    assert found == pytest.approx(expected, abs=4 * math.sqrt(float(torch.polygamma(1, torch.tensor(7.0))) / 20_000))


def test_what_leaves_it_alone():
    cloud, found = path(), spread.along_path(path()).value
    drift = np.arange(16)[:, None, None] * np.linspace(-50, 50, 50) + 1000
    same = {
        "drift": cloud + drift,
        "reversed": cloud[::-1],
        "permuted": cloud[:, :, ::-1],
        "signs": cloud * np.where(np.arange(50) % 2, 1, -1),
    }
    for name, other in same.items():
        np.testing.assert_allclose(spread.along_path(other).value, found, rtol=1e-8, err_msg=name)
    np.testing.assert_allclose(spread.along_path(1e-3 * cloud).value, found + 2 * math.log(1e-3), rtol=1e-10)
    assert (spread.along_path(cloud + drift, detrend="constant").value > found + 5).all()  # the control: drift counts
    single = spread.along_path(cloud[:, 1])
    assert single.value == pytest.approx(found[1], rel=1e-12)
    assert isinstance(single.value, float)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_frozen_parameters_are_counted_and_left_out(dtype):
    cloud = torch.from_numpy(path()).to(dtype)
    still = torch.full((16, 3, 4), 0.1, dtype=dtype)
    line = torch.linspace(1, 3, 16, dtype=dtype)[:, None, None].expand(16, 3, 5)  # deviates by rounding only
    both = torch.cat([cloud, still, line, torch.zeros(16, 3, 1, dtype=dtype)], 2)
    found = spread.along_path(both)
    np.testing.assert_allclose(found.value, spread.along_path(cloud).value, rtol=1e-12)
    np.testing.assert_array_equal(found.frozen, 10)
    nothing = spread.along_path(still)
    assert np.isnan(nothing.value).all()
    np.testing.assert_array_equal(nothing.frozen, 4)


def test_small_motion_far_from_the_origin():
    """float32 weights near 1 that move by 1e-5: a hundred units of rounding, so the value is right to a part in 10³."""
    moved = 1 + 1e-5 * path()
    found = spread.along_path(torch.from_numpy(moved).float())
    np.testing.assert_allclose(found.value, spread.along_path(moved).value, atol=1e-2)
    np.testing.assert_array_equal(found.frozen, 0)


def test_lost_weights_give_nan():
    lost = path()
    lost[3, 1, 7] = math.inf
    found = spread.along_path(lost).value
    np.testing.assert_array_equal(np.isnan(found), [False, True, False])


def test_what_along_path_refuses():
    for arguments, message in (
        ({"snapshots": path(2)}, "T of 3 or more"),
        ({"snapshots": path(), "detrend": "quadratic"}, "allowed: linear, constant"),
        ({"snapshots": path(), "times": np.arange(15.0)}, r"allowed: \(16,\)"),
        ({"snapshots": path(), "times": np.ones(16)}, "not all equal"),
    ):
        with pytest.raises(ValueError, match=message):
            spread.along_path(**arguments)


# --- (c) Laplace --------------------------------------------------------------------------------------------------------
def test_laplace():
    fisher = np.array([[0.0, 1.0, 99.0], [4.0, 4.0, 4.0]])
    found = spread.laplace(fisher, floor=1.0)
    np.testing.assert_allclose(found, [-math.log(200) / 6, -math.log(5) / 2], rtol=1e-12)
    assert spread.laplace(torch.zeros(5)) == pytest.approx(-0.5 * math.log(1e-4))
    assert (spread.laplace(2 * fisher) < spread.laplace(fisher)).all()  # sharper is less entropy
    assert np.isnan(spread.laplace(np.array([math.nan, 1.0])))
    for bad, floor, message in ((fisher - 1, 1.0, "0 or more"), (fisher, 0.0, "floor=0.0")):
        with pytest.raises(ValueError, match=message):
            spread.laplace(bad, floor=floor)
