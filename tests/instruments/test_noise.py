"""Gradient noise against hand computation, complete enumeration, and Gaussians of known covariance."""

import itertools
import math

import numpy as np
import pytest
import torch

from thermolab.instruments import noise
from thermolab.instruments.noise import gradient_noise

X = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 2.0]])
Y = np.array([1.0, 0.0, -1.0])
W = np.array([0.5, -0.25])


def regression_gradients(w=W):
    """Per-sample gradients of (x·w − y)², by hand 2 (x·w − y) x."""
    return 2 * (X @ w - Y)[:, None] * X


def test_the_gradients_by_hand():
    np.testing.assert_allclose(regression_gradients(), [[-1, 0], [0.5, 0.5], [0, 2]])


@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_per_sample_against_all_minibatches(batch_size):
    g = regression_gradients()
    batches = np.array([g[list(i)].mean(0) for i in itertools.product(range(3), repeat=batch_size)])
    mean, covariance = batches.mean(0), np.cov(batches.T, ddof=0)
    found = gradient_noise(g, batch_size=batch_size, kind="per-sample")
    assert found.full_gradient_squared == pytest.approx(mean @ mean, rel=1e-12)
    assert found.full_gradient_squared == pytest.approx((1 / 6) ** 2 + (5 / 6) ** 2, rel=1e-12)
    assert found.trace == pytest.approx(np.trace(covariance), rel=1e-12)
    assert found.second_moment == pytest.approx((batches**2).sum(1).mean(), rel=1e-12)
    assert found.snr == pytest.approx(math.sqrt(mean @ mean / np.trace(covariance)), rel=1e-12)
    eigenvalues = np.linalg.eigvalsh(covariance)[::-1]
    np.testing.assert_allclose(found.top_eigenvalues, eigenvalues, rtol=1e-12)
    assert found.effective_dimension == pytest.approx(eigenvalues.sum() ** 2 / (eigenvalues**2).sum(), rel=1e-12)
    assert found.trace_error == found.snr_error == 0


def test_more_samples_than_weights_and_fewer():
    """The covariance and the Gram matrix give the same spectrum."""
    g = np.random.default_rng(0).normal(size=(30, 6))
    tall = gradient_noise(g, batch_size=3, kind="per-sample", eigenvalues=4)
    wide = gradient_noise(np.hstack([g, np.zeros((30, 40))]), batch_size=3, kind="per-sample", eigenvalues=4)
    np.testing.assert_allclose(tall.top_eigenvalues, wide.top_eigenvalues, rtol=1e-12)
    np.testing.assert_allclose(tall.top_eigenvalues, np.linalg.eigvalsh(np.cov(g.T, ddof=0))[:-5:-1] / 3, rtol=1e-12)
    assert tall.effective_dimension == pytest.approx(wide.effective_dimension, rel=1e-12)


def test_minibatch_estimates_are_unbiased():
    """Averaged over every possible draw of five gradients they equal the population's moments."""
    g = regression_gradients() + np.array([0.3, -0.7])
    mean, covariance = g.mean(0), np.cov(g.T, ddof=0)
    signal, trace, second, square = [], [], [], []
    for draw in itertools.product(range(3), repeat=5):
        found = gradient_noise(g[list(draw)], spectrum=False)
        signal.append(found.full_gradient_squared)
        trace.append(found.trace)
        second.append(found.second_moment)
        sample = torch.as_tensor(g[list(draw)])
        square.append(noise._trace_of_square(sample @ sample.T)[0])
    assert np.mean(signal) == pytest.approx(mean @ mean, rel=1e-12)
    assert np.mean(trace) == pytest.approx(np.trace(covariance), rel=1e-12)
    assert np.mean(second) == pytest.approx((g**2).sum(1).mean(), rel=1e-12)
    assert np.mean(square) == pytest.approx((covariance**2).sum(), rel=1e-12)
    assert min(signal) < 0  # unbiased, hence negative at times; the signal-to-noise ratio is then 0
    assert gradient_noise([[1.0], [-1.0], [1.0], [-1.0], [0.0]]).snr == 0


def test_errors_are_the_jackknife_done_by_hand():
    g = np.random.default_rng(3).normal(size=(9, 4)) * [2, 1, 1, 0.5] + 1
    found = gradient_noise(g)
    for name in ("full_gradient_squared", "trace", "second_moment", "snr", "effective_dimension"):
        left_out = np.array([getattr(gradient_noise(np.delete(g, i, 0)), name) for i in range(9)])
        error = math.sqrt(8 / 9 * ((left_out - left_out.mean()) ** 2).sum())
        assert getattr(found, f"{name}_error") == pytest.approx(error, rel=1e-9), name
    products = g @ g.T
    signal = (products.sum() - products.trace()) / (9 * 8)
    assert found.full_gradient_squared == pytest.approx(signal, rel=1e-12)
    assert found.second_moment_error == pytest.approx((g**2).sum(1).std(ddof=1) / 3, rel=1e-12)


@pytest.mark.parametrize("m", [200, 500])
def test_isotropic_noise_fills_all_dimensions(m):
    d, sigma = 576, 0.1
    g = sigma * torch.randn(m, d, generator=torch.Generator().manual_seed(m)) + 0.05
    found = gradient_noise(g)
    assert found.effective_dimension == pytest.approx(d, rel=0.04)
    assert found.effective_dimension == pytest.approx(d, abs=4 * found.effective_dimension_error)
    assert found.trace == pytest.approx(d * sigma**2, abs=4 * found.trace_error)
    assert found.full_gradient_squared == pytest.approx(d * 0.05**2, abs=4 * found.full_gradient_squared_error)
    assert found.snr == pytest.approx(0.5, abs=4 * found.snr_error)
    # The control: the plug-in estimate knows only m directions.
    plug_in = float(torch.linalg.eigvalsh(torch.cov(g.T).double()).square().sum())
    assert found.trace**2 / plug_in < 0.6 * d


def test_errors_against_the_spread_of_repetitions():
    scales = torch.linspace(0.2, 2, 20)
    g = scales * torch.randn(100, 150, 20, generator=torch.Generator().manual_seed(0)) + 0.3
    found = gradient_noise(g.swapaxes(0, 1))
    exact = float((scales**2).sum()) ** 2 / float((scales**4).sum())
    error = found.effective_dimension.std(ddof=1) / 10
    assert found.effective_dimension.mean() == pytest.approx(exact, abs=4 * error + 0.01 * exact)
    for name in ("full_gradient_squared", "trace", "second_moment", "snr", "effective_dimension"):
        spread = getattr(found, name).std(ddof=1)
        assert spread / getattr(found, f"{name}_error").mean() == pytest.approx(1, abs=4 / math.sqrt(200)), name


def test_minibatches_agree_with_the_exact_moments():
    rng = np.random.default_rng(0)
    g = rng.standard_t(5, size=(64, 12)) * np.linspace(0.1, 2, 12) + 0.4
    exact = gradient_noise(g, batch_size=8, kind="per-sample")
    drawn = gradient_noise(g[rng.integers(0, 64, (800, 8))].mean(1), batch_size=8)
    for name in ("full_gradient_squared", "trace", "second_moment", "snr", "effective_dimension"):
        value, error = getattr(drawn, name), getattr(drawn, f"{name}_error")
        assert value == pytest.approx(getattr(exact, name), abs=4 * error), name
        assert error < 0.1 * value
    np.testing.assert_allclose(drawn.top_eigenvalues, exact.top_eigenvalues, rtol=0.2)


@pytest.mark.parametrize("kind", ["minibatch", "per-sample"])
def test_replicas_precision_and_layout(kind):
    g = torch.randn(20, 2, 3, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 1e-3 + 1
    table = gradient_noise(g, batch_size=4, kind=kind, eigenvalues=5)
    one = gradient_noise(g[:, 1, 2], batch_size=4, kind=kind, eigenvalues=5)
    assert table.trace.shape == (2, 3)
    assert table.top_eigenvalues.shape == (2, 3, 5)
    assert table.trace[1, 2] == one.trace
    assert table.effective_dimension[1, 2] == one.effective_dimension
    quick = gradient_noise(g, batch_size=4, kind=kind, spectrum=False)
    np.testing.assert_array_equal(quick.trace, table.trace)
    assert np.isnan(quick.effective_dimension).all()
    assert quick.top_eigenvalues.shape == (2, 3, 0)
    single = gradient_noise(g.float(), batch_size=4, kind=kind)
    back = gradient_noise(g.float().double(), batch_size=4, kind=kind)  # the same numbers, in float64 throughout
    np.testing.assert_allclose(single.trace, back.trace, rtol=1e-6)
    np.testing.assert_allclose(single.effective_dimension, back.effective_dimension, rtol=1e-5)


def test_without_noise():
    for kind in ("minibatch", "per-sample"):
        found = gradient_noise(np.ones((6, 3)), batch_size=2, kind=kind)
        assert (found.trace, found.full_gradient_squared, found.snr) == (0, 3, math.inf)
        assert math.isnan(found.effective_dimension)


ONES = np.ones((6, 3))


@pytest.mark.parametrize(
    ("gradients", "more", "message"),
    [
        (ONES, {"kind": "batch"}, "kind='batch'"),
        (ONES, {"kind": "per-sample"}, "batch_size=None"),
        (ONES, {"kind": "per-sample", "batch_size": 0}, "batch_size=0"),
        (ONES[:4], {}, "4 gradients are too few"),
        (ONES[0], {}, r"expected \[M, \.\.\., P\]"),
        (np.where(np.eye(6, 3) > 0, np.nan, ONES), {}, "nan or inf"),
    ],
    ids=["unknown kind", "no batch size", "empty batches", "too few", "one gradient", "nan"],
)
def test_too_few_gradients_or_broken_ones_give_no_noise(gradients, more, message):
    with pytest.raises(ValueError, match=message):
        gradient_noise(gradients, **more)


def partitions(items):
    """All ways to divide items into pairs."""
    if not items:
        yield []
    for other in items[1:]:
        for rest in partitions([i for i in items[1:] if i != other]):
            yield [(items[0], other), *rest]


def without_replacement(g, batch_size):
    """|∇L|² and Tr Σ over all batches of different samples."""
    batches = np.array([g[list(i)].mean(0) for i in itertools.combinations(range(len(g)), batch_size)])
    return float(g.mean(0) @ g.mean(0)), float(np.trace(np.cov(batches.T, ddof=0)))


@pytest.mark.parametrize(
    ("n", "size", "draws"),
    [(7, 1, [[(i,) for i in draw] for draw in itertools.combinations(range(7), 5)]), (10, 2, list(partitions(list(range(10)))))],
    ids=["part of an epoch", "an epoch"],
)
def test_batches_of_an_epoch_are_unbiased(n, size, draws):
    """Averaged over every possible draw; the control is what holds for batches with replacement."""
    g = np.random.default_rng(0).normal(size=(n, 3)) + np.array([1.0, 0.5, 0.0])
    signal, trace = without_replacement(g, size)
    batches = [np.array([g[list(batch)].mean(0) for batch in draw]) for draw in draws]
    found = [gradient_noise(b, batch_size=size, drawn_from=n, spectrum=False) for b in batches]
    assert np.mean([f.full_gradient_squared for f in found]) == pytest.approx(signal, rel=1e-9)
    assert np.mean([f.trace for f in found]) == pytest.approx(trace, rel=1e-9)
    if size == 2:  # the whole epoch knows its mean
        np.testing.assert_allclose([f.full_gradient_squared for f in found], signal, rtol=1e-9)
        assert {f.full_gradient_squared_error for f in found} == {0.0}
    wrong = [gradient_noise(b, spectrum=False) for b in batches]
    assert np.mean([f.full_gradient_squared for f in wrong]) < signal - trace / 10
    assert np.mean([f.trace for f in wrong]) > 1.1 * trace


@pytest.mark.parametrize("size", [1, 2, 4])
def test_samples_of_batches_without_replacement_by_enumeration(size):
    g = np.random.default_rng(1).normal(size=(6, 2))
    signal, trace = without_replacement(g, size)
    found = gradient_noise(g, batch_size=size, drawn_from=6, kind="per-sample")
    assert found.full_gradient_squared == pytest.approx(signal, rel=1e-12)
    assert found.trace == pytest.approx(trace, rel=1e-12)
    assert found.top_eigenvalues.sum() == pytest.approx(trace, rel=1e-12)
    whole = gradient_noise(g, batch_size=6, drawn_from=6, kind="per-sample")
    assert (whole.trace, whole.snr) == (0.0, math.inf)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g: gradient_noise(g, drawn_from=30), "batch_size=None: drawn_from=30 needs the size"),
        (lambda g: gradient_noise(g, batch_size=4, drawn_from=30), "8 batches of 4 hold more than drawn_from=30 samples"),
        (lambda g: gradient_noise(g, batch_size=4, drawn_from=30, kind="per-sample"), "8 samples of drawn_from=30"),
        (lambda g: gradient_noise(g * 1j), "the samples are complex"),
    ],
)
def test_batches_that_cannot_be_of_one_epoch(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.ones((8, 3)))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", ["minibatch", "per-sample"])
def test_no_noise_and_no_gradient(kind):
    still = gradient_noise(np.full((6, 3), 0.1), batch_size=2, kind=kind)
    assert (still.trace, still.snr) == (0.0, math.inf)
    assert still.full_gradient_squared == pytest.approx(0.03)
    nothing = gradient_noise(np.zeros((6, 3)), batch_size=2, kind=kind)
    assert (nothing.trace, nothing.full_gradient_squared) == (0.0, 0.0)
    assert math.isnan(nothing.snr)
