"""CKA against the published formulas as plain loops, invariances and non-invariances, and its null."""

import numpy as np
import pytest
import torch

from thermolab.instruments.alignment import cka, kernel_cka, layer_cka, null


def pair(n=12, p=3, q=5, seed=0):
    """Features that have something in common, off the origin."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, p)) + 3
    return x, x @ rng.normal(size=(p, q)) + rng.normal(size=(n, q)) - 2


def orthogonal(d, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]


def published(x, y):
    """Kornblith et al., arXiv:1905.00414, Table 1: |YᵀX|²/(|XᵀX| |YᵀY|), columns centred, Frobenius norms, entry by entry."""

    def norm(a, b):
        a, b = a - a.mean(0), b - b.mean(0)
        return np.sqrt(sum(sum(u * v for u, v in zip(c, d, strict=True)) ** 2 for c in a.T for d in b.T))

    return norm(y, x) ** 2 / (norm(x, x) * norm(y, y))


def unbiased_hsic(x, y):
    """HSIC₁ of Song et al. 2012, eq. 5, as sums over different samples i, j, q, r of products of kernels."""
    n = len(x)
    k, l = x @ x.T, y @ y.T  # noqa: E741
    two = three = four = 0.0
    for i in range(n):
        for j in range(n):
            if j == i:
                continue
            two += k[i, j] * l[i, j]
            for q in range(n):
                if q in (i, j):
                    continue
                three += k[i, j] * l[i, q]
                four += sum(k[i, j] * l[q, r] for r in range(n) if r not in (i, j, q))
    a, b, c = n * (n - 1), n * (n - 1) * (n - 2), n * (n - 1) * (n - 2) * (n - 3)
    return two / a - 2 * three / b + four / c


@pytest.mark.parametrize(("n", "p", "q"), [(12, 3, 5), (4, 2, 2), (5, 9, 3), (6, 8, 11)])  # features, least n, Gram, both Gram
def test_against_the_published_formulas(n, p, q):
    x, y = pair(n, p, q)
    assert cka(x, y) == pytest.approx(published(x, y), abs=1e-12)
    unbiased = unbiased_hsic(x, y) / np.sqrt(unbiased_hsic(x, x) * unbiased_hsic(y, y))
    assert cka(x, y, debiased=True) == pytest.approx(unbiased, abs=1e-9)


@pytest.mark.parametrize("debiased", [False, True])
@pytest.mark.parametrize("p", [3, 20])
def test_what_it_does_not_see_and_what_it_sees(p, debiased):
    x, y = pair(p=p)
    before = cka(x, y, debiased=debiased)
    moved = -3 * x @ orthogonal(p) + np.arange(p)
    assert cka(moved, y, debiased=debiased) == pytest.approx(before, abs=1e-12)
    assert cka(y, x, debiased=debiased) == pytest.approx(before, abs=1e-12)
    assert cka(x, moved, debiased=debiased) == pytest.approx(1, abs=1e-12)
    order = np.random.default_rng(1).permutation(len(x))
    assert cka(x[order], y[order], debiased=debiased) == pytest.approx(before, abs=1e-12)
    stretched = x @ orthogonal(p) @ np.diag(np.logspace(-0.7, 0.7, p))
    assert abs(cka(stretched, y, debiased=debiased) - before) > 0.01
    assert cka(x, stretched, debiased=debiased) < 0.99


@pytest.mark.parametrize("debiased", [False, True])
def test_kernels_and_features_agree(debiased):
    x, y = pair()
    expected = cka(x, y, debiased=debiased)
    assert kernel_cka(x @ x.T, y @ y.T, debiased=debiased) == pytest.approx(expected, abs=1e-12)
    g = np.diag([1.0, 2.0, 5.0])
    assert kernel_cka(x @ g @ x.T, 7 * y @ y.T, debiased=debiased) == pytest.approx(
        cka(x * np.sqrt([1, 2, 5]), y, debiased=debiased)
    )


def test_leading_dimensions_tensors_and_layers():
    xs, ys = (np.stack([pair(seed=s)[i] for s in range(3)]) for i in (0, 1))
    together = cka(torch.tensor(xs), torch.tensor(ys), samples=-2)
    assert together.shape == (3,)
    np.testing.assert_allclose(together, [published(x, y) for x, y in zip(xs, ys, strict=True)])
    assert cka(xs[0], ys, samples=-2).shape == (3,)
    assert cka(xs[:, None], ys, samples=-2).shape == (3, 3)
    table = layer_cka([xs, ys], [ys, xs, xs @ orthogonal(3)], samples=-2)
    assert table.shape == (3, 2, 3)
    np.testing.assert_allclose(table[:, 0, 0], together)
    np.testing.assert_allclose(table[:, 1], np.stack([np.ones(3), together, together], -1))
    single = torch.tensor(xs[0], dtype=torch.float32)
    assert cka(single, ys[0]) == pytest.approx(together[0], abs=1e-6)


def test_null_and_bias():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(20, 32, 6)), rng.normal(size=(20, 32, 6))
    shuffled = null(x, y, 30, seed=1, samples=-2)
    assert shuffled.shape == (30, 20)
    # ⟨K, L⟩ of independent features with spread 1: pq/n of what √(⟨K, K⟩⟨L, L⟩) is, p(1 + p/n)
    expected = 6 / 32 / (1 + 7 / 32)
    assert shuffled.mean() == pytest.approx(expected, abs=0.02)
    assert cka(x, y, samples=-2).mean() == pytest.approx(expected, abs=0.03)
    assert abs(cka(x, y, debiased=True, samples=-2).mean()) < 0.03
    assert abs(null(x, y, 30, debiased=True, samples=-2).mean()) < 0.01
    np.testing.assert_array_equal(shuffled, null(x, y, 30, seed=1, samples=-2))
    wide = np.concatenate([x, np.zeros((20, 32, 30))], -1)  # the same by Gram matrices
    np.testing.assert_allclose(null(wide, y, 5, seed=1, samples=-2), shuffled[:5])


def test_what_cannot_be_answered():
    x, y = pair()
    with pytest.raises(ValueError, match=r"shape \(3, 3\) .* n = 4"):
        cka(x[:3], y[:3])
    with pytest.raises(ValueError, match="n = 4"):
        kernel_cka(np.eye(3), np.eye(3))
    with pytest.raises(ValueError, match="12 and of 11 samples"):
        cka(x, y[1:])
    for debiased in (False, True):
        assert np.isnan(cka(np.full((12, 3), 0.1), y, debiased=debiased))
        assert np.isnan(kernel_cka(np.full((12, 12), 0.1), y @ y.T, debiased=debiased))
        both = cka(np.stack([x, np.full((12, 3), 1e9 / 3)]), y, debiased=debiased, samples=-2)
        assert np.isfinite(both[0])
        assert np.isnan(both[1])
    assert cka(x + 1e6, y) == pytest.approx(cka(x, y), abs=1e-8)
    with pytest.raises(ValueError, match="the samples are complex"):
        cka(x * 1j, y)
    with pytest.raises(ValueError, match=r"shape \(12,\) have no CKA; allowed: \[n, ...\]"):
        cka(x[:, 0], y)


@pytest.mark.parametrize("debiased", [False, True])
@pytest.mark.parametrize("shape", [(2, 3, 3), (3, 2, 1, 2), (4, 1), (1,), (30, 2)])
def test_feature_maps_of_any_rank_are_one_vector_for_each_sample(shape, debiased):
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(9, *shape)), rng.normal(size=(9, 4))
    found = cka(x, y, debiased=debiased)
    assert isinstance(found, float)
    assert found == cka(x.reshape(9, -1), y, debiased=debiased)
    assert layer_cka([x], [y, x], debiased=debiased).shape == (1, 2)
    many = cka(np.stack([x, 2 * x]), y[None], debiased=debiased, samples=1)
    np.testing.assert_allclose(many, [found, found], rtol=1e-12)


@pytest.mark.parametrize("debiased", [False, True])
@pytest.mark.parametrize("p", [3, 100])
@pytest.mark.parametrize(("s", "t"), [(1e20, 1e20), (1e80, 1), (1e80, 1e80), (1e-80, 1e-80), (1e-160, 1e150), (1e300, 1e-300)])
def test_no_scale_is_too_large_or_too_small(p, s, t, debiased):
    x, y = pair(p=p)
    expected = cka(x, y, debiased=debiased)
    assert cka(s * x, t * y, debiased=debiased) == pytest.approx(expected, rel=1e-12)
    assert kernel_cka(s * x @ x.T, t * y @ y.T, debiased=debiased) == pytest.approx(expected, rel=1e-12)
