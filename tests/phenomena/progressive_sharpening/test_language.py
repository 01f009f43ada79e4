"""The small language: its entropies, its noise, its steps and curvature against plain sums, and its claims."""

import itertools
import math

import numpy as np
import pytest
import torch
import xarray as xr
from claimed import verdicts
from torch import nn

from thermolab.instruments import curvature
from thermolab.phenomena.progressive_sharpening import language, next_words
from thermolab.systems.replicas import Replicas

LOSSES = ("cross-entropy", "squared")
SMALL = {"words": 4, "entropies": (0.3, 1.2), "width": 4, "steps": 40, "looks": 2, "n_seeds": 2}
COUNTS = np.array([[5, 1, 1, 1], [2, 2, 2, 2], [1, 4, 2, 1], [1, 1, 2, 4]])  # of each next word, of 8


def weights(r=2, k=4, h=5, seed=0, scale=0.5):
    rng = np.random.default_rng(seed)
    return [scale * rng.standard_normal((r, k, h)) for _ in range(2)]


def pairs(loss):
    """The data set in which each context has its next words as often as COUNTS says: x, y."""
    c, y = np.array([(c, y) for c in range(4) for y in range(4) for _ in range(COUNTS[c, y])]).T
    x = torch.tensor(2 * np.eye(4)[c])
    return x, torch.tensor(y) if loss == "cross-entropy" else torch.tensor(np.eye(4)[y] - 0.25)


def module(first, second):
    """W₂W₁ as an ordinary network, and its weights [P]."""
    net = nn.Sequential(nn.Linear(4, first.shape[1], bias=False), nn.Linear(first.shape[1], 4, bias=False))
    return net, torch.tensor(np.concatenate([first.T.ravel(), second.ravel()]))


# --- the language -----------------------------------------------------------------------------------------------
def test_bigrams_have_the_entropies_asked_for():
    wanted = [0.3, 2.472] * 8
    p = next_words.bigrams(wanted, seed=5)
    np.testing.assert_allclose(p.sum(1), 1)
    np.testing.assert_allclose(-(p * np.log(p)).sum(1), wanted, atol=1e-9)
    assert p.min() >= 0.02 / 16
    even = next_words.bigrams([1.386] * 16, seed=5)
    np.testing.assert_array_equal(p.argmax(1), even.argmax(1))  # the same z
    assert not np.allclose(even, next_words.bigrams([1.386] * 16, seed=6))


def test_amplitudes_keep_the_power_of_the_noise():
    p = np.stack([next_words.bigrams([1.0, 0.5] * 3, seed=s) for s in range(2)])
    a, trace = next_words.amplitudes(p, 0.1), 1 - (p**2).sum(-1)
    np.testing.assert_allclose((a**2 * trace).mean(-1), trace.mean(-1))
    np.testing.assert_allclose(a[:, ::2] ** 2 / a[:, 1::2] ** 2, 0.1)


@pytest.mark.parametrize(("loss", "shift"), [("cross-entropy", 0.0), ("squared", 0.25)])
def test_targets_have_the_mean_and_the_noise_of_their_context(loss, shift):
    p, a = np.stack([COUNTS / 8, COUNTS[::-1] / 8]), np.array([[1.0, 0.5, 2.0, 0.0], [1.0] * 4])
    drawn = list(next_words.batches(p, a, loss, 3000, 8, np.random.default_rng(0)))
    x, t = (np.stack(v) for v in zip(*drawn, strict=True))
    assert x.shape == t.shape == (3000, 2, 8, 4)
    assert set(np.unique(x)) == {0.0, 2.0}
    for r, c in itertools.product(range(2), range(4)):
        seen = t[:, r][x[:, r, :, c] > 0]
        assert len(seen) == pytest.approx(6000, rel=0.1)
        covariance = np.diag(p[r, c]) - np.outer(p[r, c], p[r, c])
        np.testing.assert_allclose(seen.mean(0), p[r, c] - shift, atol=0.05)
        np.testing.assert_allclose(np.cov(seen.T), a[r, c] ** 2 * covariance, atol=0.06)
    ((x, t),) = next_words.batches(p, None, loss, 1, 8, None)
    np.testing.assert_allclose(x[0], 2 * np.eye(4))
    np.testing.assert_allclose(t, p - shift)


# --- the network ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("loss", LOSSES)
def test_steps_against_autograd(loss):
    first, second = weights()
    w = [torch.tensor(v) for v in (first, second)]
    p, rates = np.stack([COUNTS / 8] * 2), [0.1, 0.05, 0.2]
    drawn = list(next_words.batches(p, np.full((2, 4), 0.7), loss, 3, 6, np.random.default_rng(2)))
    next_words.descend(first, second, drawn, rates, loss)
    for (x, t), eta in zip(drawn, rates, strict=True):
        w = [v.requires_grad_() for v in w]
        f, t = torch.tensor(x) @ w[0] @ w[1].mT, torch.tensor(t)
        each = (f - t).square().sum(-1) if loss == "squared" else torch.logsumexp(f, -1) - (f * t).sum(-1)
        w = [(v - eta * g).detach() for v, g in zip(w, torch.autograd.grad(each.mean(-1).sum(), w), strict=True)]
    np.testing.assert_allclose(first, w[0], atol=1e-12)
    np.testing.assert_allclose(second, w[1], atol=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_lambda_max_against_the_hessian_of_a_data_set(loss):
    """The mean over p is the mean over pairs that occur as often as p says; the constant part of the loss has no curvature."""
    first, second = weights(r=3)
    found = next_words.lambda_max(first, second, np.stack([COUNTS / 8] * 3), loss)
    for r in range(3):
        net, w = module(first[r], second[r])
        full = curvature.dense(Replicas(net, loss), w, *pairs(loss))
        np.testing.assert_allclose(found[r], torch.linalg.eigvalsh(full)[-1], rtol=1e-6)
    first[1] = math.nan
    assert np.isfinite(next_words.lambda_max(first, second, np.stack([COUNTS / 8] * 3), loss)).tolist() == [True, False, True]


def gradient_power(first, second, p, a):
    """E|g|² of a single sample under the squared loss, summed over contexts and words."""
    total, k = 0.0, len(p)
    for c, y in itertools.product(range(k), repeat=2):
        x = math.sqrt(k) * np.eye(k)[c]
        d = 2 * (second @ (first.T @ x) - (p[c] + a[c] * (np.eye(k)[y] - p[c]) - 1 / k))
        total += p[c, y] / k * ((np.outer(d, first.T @ x) ** 2).sum() + (np.outer(second.T @ d, x) ** 2).sum())
    return total


def test_theory_is_where_the_noise_is_least():
    """On the orbit of W₂W₁ = V: any other point of it has more E|g|², and λ_max there is that of the Hessian."""
    p, a, rng = COUNTS / 8, np.array([1.0, 0.4, 1.5, 0.8]), np.random.default_rng(0)
    expected = float(next_words.theory(p[None], a[None])[0])
    # by hand: minimise over W₁ᵀW₁-changing maps from a balanced start
    u, s, vt = np.linalg.svd((p - 0.25).T / 2)
    keep = s > 1e-9
    first, second = (vt[keep].T * np.sqrt(s[keep])), u[:, keep] * np.sqrt(s[keep])
    generator = torch.zeros(keep.sum(), keep.sum(), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([generator], max_iter=300, tolerance_grad=1e-12, line_search_fn="strong_wolfe")
    cov = a[:, None, None] ** 2 * (p[:, :, None] * np.eye(4) - p[:, :, None] * p[:, None])
    noise, traces = torch.tensor(cov.sum(0)), torch.tensor(np.trace(cov, axis1=1, axis2=2))
    one, two = torch.tensor(first), torch.tensor(second)

    def moved():
        turn = torch.linalg.matrix_exp(generator)
        return one @ turn.T, two @ torch.linalg.inv(turn)

    def closure():
        optimiser.zero_grad()
        w1, w2 = moved()
        power = (w2.T @ noise @ w2).trace() + (w1.T @ torch.diag(traces) @ w1).trace()
        power.backward()
        return power

    least = 4 * min(float(optimiser.step(closure).detach()) for _ in range(3))
    w1, w2 = (v.detach().numpy() for v in moved())
    assert least == pytest.approx(gradient_power(w1, w2, p, a))
    for _ in range(5):
        turn = np.eye(3) + 0.1 * rng.standard_normal((3, 3))
        assert gradient_power(w1 @ turn.T, w2 @ np.linalg.inv(turn), p, a) > gradient_power(w1, w2, p, a)
    assert float(next_words.lambda_max(w1[None], w2[None], p[None], "squared")[0]) == pytest.approx(expected, rel=1e-4)
    assert expected > 1.05 * float(next_words.least(w1[None], w2[None])[0])


def test_a_language_that_treats_all_alike_is_learnt_by_the_flattest_network():
    """Each context has a word of its own and all others alike: λ_max = 4s, but for the outputs having one direction fewer."""
    p, s = (0.6 * np.eye(6) + 0.4 / 6)[None], 0.6 / math.sqrt(6)
    assert next_words.theory(p, np.ones((1, 6)))[0] == pytest.approx(2 * s * (math.sqrt(6 / 5) + math.sqrt(5 / 6)))
    assert np.isnan(next_words.theory(p, None)).all()


# --- the recipe -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("loss", LOSSES)
def test_language_has_one_first_third_and_the_same_numbers_for_a_seed(loss):
    data = language.language.run(loss, **SMALL)
    assert dict(data["lambda_max"].sizes) == {"arm": 3, "seed": 2, "language": 4, "time": 6}
    assert data["time"].values.tolist() == [20, 40, 60, 80, 100, 120]
    first, rest = data["lambda_max"].isel(time=slice(2)), data["lambda_max"].isel(time=slice(2, None))
    assert (first == first.isel(arm=0)).all()
    assert (rest.std("arm") > 1e-6).all()
    assert ("least" in data) == ("theory" in data) == (loss == "squared")
    xr.testing.assert_equal(language.language.run(loss, **(SMALL | {"n_seeds": 1})), data.isel(seed=[0]))


def test_arms_start_from_the_same_weights(monkeypatch):
    """Descent draws no random numbers, so it does not matter what ran before it."""
    after = language.language.run(**SMALL)["lambda_max"].sel(arm="descent")
    monkeypatch.setattr(language, "ARMS", ("descent",))
    alone = language.language.run(**SMALL)["lambda_max"].sel(arm="descent")
    xr.testing.assert_equal(after, alone)


def test_squared_loss_comes_to_the_closed_form_and_descent_stays_flat():
    settings = {"words": 6, "entropies": (0.4, 1.7), "width": 6, "steps": 2500, "looks": 1, "batch_size": 8, "eta": 0.15}
    data = language.language.run("squared", **settings, languages=3, n_seeds=2)
    off = data["lambda_max"].rename(time="third").drop_vars("third") / data["theory"] - 1
    assert abs(off.sel(arm=["language", "noise"]).mean(("seed", "language"))).max() < 0.08
    assert (data["theory"].sel(arm="language").isel(third=1) / data["theory"].isel(third=0)).mean() > 1.2
    rises = language.of_noise(data).mean(("seed", "language"))
    assert rises.sel(arm="language") > 0.08 > 0.04 > rises.sel(arm="descent")
    ratio = data["lambda_max"] / data["least"]
    change = (ratio.isel(time=1) / ratio.isel(time=0)).mean(("seed", "language"))
    assert change.sel(arm="language") > 1.1 > 1.05 > change.sel(arm="descent")
    assert abs(data["least"].sel(arm="noise") / data["least"].sel(arm="noise").isel(time=0) - 1).max() < 0.15


def test_cross_entropy_flattens():
    data = language.language.run(words=6, entropies=(0.4, 1.7), width=6, steps=1500, looks=1, n_seeds=2)
    rises = language.rise(data["lambda_max"]).mean(("seed", "language"))
    assert rises.sel(arm="language") < -0.3
    assert rises.sel(arm="descent") < -0.3
    assert rises.sel(arm="noise") > rises.sel(arm="language") + 0.3


def test_divergence_shows_as_nan():
    data = language.language.run("squared", **(SMALL | {"eta": 50.0}))
    assert np.isnan(data["lambda_max"]).all()
    assert language.sharpens_under_squared_loss(data).check.verdict == "inconclusive"


# --- claims on data made up by hand -----------------------------------------------------------------------------
def made_up(ends, least=(1.0, 1.0, 1.0), noise=0.01):
    """λ_max that is at ends[arm] at the ends of the thirds and elsewhere at 9; least likewise, the same for all arms."""
    rng = np.random.default_rng(0)
    full, low = np.full((3, 5, 4, 6), 9.0), np.full((3, 5, 4, 6), 9.0)
    full[..., 1::2] = np.array([ends[arm] for arm in language.ARMS])[:, None, None]
    low[..., 1::2] = least
    full *= np.exp(noise * rng.standard_normal(full.shape))
    dims = ("arm", "seed", "language", "time")
    return xr.Dataset({"lambda_max": (dims, full), "least": (dims, low)}, coords={"arm": list(language.ARMS)})


FLAT, UP, DOWN, STAYS = (1.0, 1.0, 1.0), (1.0, 1.5, 1.0), (1.0, 0.5, 1.0), (1.0, 1.5, 1.5)


@pytest.mark.parametrize(
    ("ends", "noise", "wanted"),
    [
        ((DOWN, UP), 0.01, ("fails", "holds")),
        ((UP, DOWN), 0.01, ("holds", "fails")),
        ((STAYS, UP), 0.01, ("holds", "holds")),
        ((FLAT, UP), 0.01, ("holds", "holds")),  # no effect is no fall
        ((UP, UP), 0.01, ("holds", "holds")),
        (((1.0, 0.9, 1.0), (1.0, 3.0, 1.0)), 0.3, ("inconclusive", "holds")),
    ],
)
def test_cross_entropy_is_told_apart_from_noise_alone(ends, noise, wanted):
    data = made_up({"language": ends[0], "noise": ends[1], "descent": FLAT}, noise=noise)
    assert verdicts(language.sharpens_under_cross_entropy(data)) == wanted


@pytest.mark.parametrize(
    ("uneven", "least", "verdict"),
    [(UP, FLAT, "holds"), (UP, UP, "fails"), ((1.0, 1.8, 1.0), (1.0, 1.3, 1.0), "holds"), ((1.0, 1.02, 1.0), DOWN, "fails"),
     (STAYS, FLAT, "fails")],
)  # fmt: skip
def test_squared_counts_what_the_function_does_not_explain(uneven, least, verdict):
    data = made_up({"language": uneven, "noise": UP, "descent": least}, least)
    assert verdicts(language.sharpens_under_squared_loss(data)) == (verdict, "fails")
