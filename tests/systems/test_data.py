"""Data sets: the same for the same seed, standardised, noisy as told, and learnable."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import RidgeClassifier

from thermolab.systems import data


def equal(a, b):
    return torch.equal(a.x, b.x) and torch.equal(a.y, b.y)


def test_digits_are_the_same_for_the_same_seed():
    assert equal(data.digits(100, label_noise=0.3, seed=4), data.digits(100, label_noise=0.3, seed=4))
    assert not equal(data.digits(100, seed=4), data.digits(100, seed=5))


@pytest.mark.parametrize("n", [1, 50, 256, 1797])
def test_digits_are_standardised_pixel_by_pixel(n):
    d = data.digits(n)
    assert (len(d), d.x.shape, d.x.dtype, d.y.dtype, d.n_classes) == (n, (n, 64), torch.float32, torch.int64, 10)
    x = d.x.double()
    np.testing.assert_allclose(x.mean(0), 0, atol=n**0.5 * 1e-6)
    spread = x.std(0, correction=0)
    dark = spread < 0.5  # pixels at the rim that never change
    np.testing.assert_allclose(spread[dark], 0, atol=1e-6)
    np.testing.assert_allclose(spread[~dark], 1, rtol=1e-3)  # 1e-6 of the range is added to each deviation
    assert dark.sum() < 20 or n == 1


def test_digits_have_the_share_of_new_labels():
    clean, noisy = data.digits(1797), data.digits(1797, label_noise=0.4)
    assert torch.equal(clean.x, noisy.x)
    redrawn = round(0.4 * 1797)
    changed = int((clean.y != noisy.y).sum())  # a tenth of the redrawn ones keep their value
    assert abs(changed - 0.9 * redrawn) < 4 * (redrawn * 0.9 * 0.1) ** 0.5
    assert torch.equal(clean.y, data.digits(1797, label_noise=0.0).y)
    agreement = float((clean.y == data.digits(1797, label_noise=1.0).y).float().mean())
    assert abs(agreement - 0.1) < 4 * (0.09 / 1797) ** 0.5


def test_redrawn_labels_leave_their_source_alone():
    labels = np.arange(10)
    data.redraw_labels(labels, 1.0, np.random.default_rng(0))
    assert (labels == np.arange(10)).all()
    changed = data.redraw_labels(np.zeros(1000, int), 1.0, np.random.default_rng(0), n_classes=3)
    assert set(changed) == {0, 1, 2}


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_bad_shares(share):
    with pytest.raises(ValueError, match=r"label_noise=.* is no share; allowed: 0 to 1"):
        data.digits(10, label_noise=share)


@pytest.mark.parametrize("n", [0, 1798, -3])
def test_bad_numbers_of_digits(n):
    with pytest.raises(ValueError, match=rf"n={n} .*allowed: 1 to 1797"):
        data.digits(n)


def class_means(d):
    return torch.stack([d.x[d.y == k].mean(0).flatten() for k in range(10)]).numpy()


def test_images_are_the_same_for_the_same_seed():
    a = data.synthetic_images(200, seed=1, label_noise=0.2)
    assert (a.x.shape, a.x.dtype, a.y.dtype) == ((200, 1, 16, 16), torch.float32, torch.int64)
    assert equal(a, data.synthetic_images(200, seed=1, label_noise=0.2))
    assert data.synthetic_images(3, size=12).x.shape == (3, 1, 12, 12)
    np.testing.assert_allclose([a.x.mean(), a.x.std(correction=0)], [0, 1], atol=1e-5)


def test_templates_depend_on_the_seed_alone():
    """Class means of another number of images are those of the same templates; another seed has others."""
    few, many, other = (class_means(data.synthetic_images(n, seed=s)) for n, s in ((1000, 2), (3000, 2), (3000, 3)))
    same = [np.corrcoef(a, b)[0, 1] for a, b in zip(few, many, strict=True)]
    assert min(same) > 0.8
    assert max(same) < 1
    assert np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(few, other, strict=True)]) < 0.3


def test_noisy_labels_are_on_the_same_images():
    clean, noisy = data.synthetic_images(500), data.synthetic_images(500, label_noise=0.5)
    assert torch.equal(clean.x, noisy.x)
    assert abs(int((clean.y != noisy.y).sum()) - 0.9 * 250) < 4 * (250 * 0.09) ** 0.5


def test_images_can_be_learnt_and_the_difficulties_differ():
    """A linear classifier, on images it has not seen: far above a tenth, and worse the harder they are."""
    score = []
    for difficulty in data.DIFFICULTIES:
        d = data.synthetic_images(3000, difficulty=difficulty, seed=0)
        x = d.x.flatten(1).numpy()
        score.append(RidgeClassifier(alpha=100.0).fit(x[:2000], d.y[:2000]).score(x[2000:], d.y[2000:]))
    easy, mid, hard = score
    error = (0.25 / 1000) ** 0.5
    assert easy > mid + 3 * error > hard + 6 * error
    assert hard > 0.1 + 6 * error
    assert easy > 0.5


def test_bad_difficulty():
    with pytest.raises(ValueError, match=r"difficulty='mild' .*allowed: easy, mid, hard"):
        data.synthetic_images(10, difficulty="mild")
    with pytest.raises(ValueError, match="is no share"):
        data.synthetic_images(10, label_noise=2.0)


def test_a_difficulty_of_ones_own_without_noise_shows_the_templates():
    still = data.Difficulty(noise=0.0, elastic=0.0, shift=0.0)
    d = data.synthetic_images(60, difficulty=still)
    for k in d.y.unique():  # images of a class differ in gain only
        rows = d.x[d.y == k].flatten(1).double()
        rows = rows - rows.mean(1, keepdim=True)
        correlation = torch.corrcoef(rows) if len(rows) > 1 else torch.ones(1, 1)
        np.testing.assert_allclose(correlation.abs(), 1, atol=1e-5)
