"""Curvature at equal loss and the energy-entropy update at tiny settings, and their claims on data made up by hand."""

import math

import numpy as np
import pytest
import torch
import xarray as xr
from claimed import FAILS, HOLDS, verdicts

from thermolab.engine.experiment import Experiment
from thermolab.instruments import curvature, spread
from thermolab.phenomena.cooling import claims_flatness, flatness
from thermolab.phenomena.cooling.setting import evaluate, images, system

SMALL = {"epochs": 2, "moments": 4, "probes": 3, "width": 8, "difficulty": "easy", "n_seeds": 2}


@pytest.fixture(scope="module")
def measured():
    return flatness.flatness.run(**SMALL)


@pytest.fixture(scope="module")
def signs():
    return flatness.entropic.run(epochs=2, width=8, difficulty="easy", n_seeds=2)


def trained(steps=96, width=8, **settings):
    """A run as the recipe's, by hand."""
    net = system(width=width, difficulty="easy")
    run = Experiment(net, eta=0.1, batch_size=32, **settings)
    run.advance(steps)
    return net, run.state.weights[0]


def outputs(net, weights):
    """Logits by torch alone."""
    torch.nn.utils.vector_to_parameters(weights, net.replicas.module.parameters())
    with torch.no_grad():
        return net.replicas.module(net.data.x).double()


# --- curvature along training -----------------------------------------------------------------------------------------
def test_shapes(measured):
    assert measured.sizes == {"arm": 3, "time": 4, "seed": 2}
    assert measured["arm"].values.tolist() == ["sgd", "decay", "sam"]
    np.testing.assert_allclose(measured["time"], 0.5 * 4 ** np.array([0, 1 / 3, 2 / 3, 1]), atol=1 / 64)
    plain = {"U", "accuracy", "U_validation", "accuracy_validation", "lambda_max", "trace"}
    assert set(measured.data_vars) == plain | {"matched_lambda_max", "matched_trace"}
    for name in plain:
        assert measured[name].dims == ("arm", "time", "seed"), name
        assert np.isfinite(measured[name]).all(), name
    assert measured["matched_trace"].dims == ("time", "seed")


def test_a_moment_of_each_arm(measured):
    """The same run by hand; λ_max and trace of the whole Hessian in float64."""
    arms = {"sgd": ("sgd", {}), "decay": ("sgd", {"lam": 0.01}), "sam": ("sam", {"rho": 0.3})}
    validation = images("easy")[1]
    for arm, (optimiser, knobs) in arms.items():
        net = system(width=8, difficulty="easy", optimiser=optimiser)
        run = Experiment(net, eta=0.1, batch_size=32, seed=1, **knobs)
        run.advance(25)
        found = measured.sel(arm=arm, seed=1).isel(time=1)
        for suffix, data in (("", net.data), ("_validation", validation)):
            energy, right = evaluate(net.replicas, run.state.weights, data)
            np.testing.assert_allclose(found["U" + suffix], energy[0], rtol=1e-5)
            np.testing.assert_allclose(found["accuracy" + suffix], right[0], atol=1e-3)
        hessian = curvature.HessianProducts(net, run.state.weights[0], net.data.x, net.data.y)
        top = curvature.largest_eigenvalue(hessian, tolerance=1e-6, most=200).value
        np.testing.assert_allclose(found["lambda_max"], top, rtol=2e-3)
        assert abs(float(found["trace"]) / curvature.trace(hessian, probes=200).value - 1) < 0.3


def test_results_of_a_seed_do_not_depend_on_their_number(measured):
    alone = flatness.flatness.run(**SMALL | {"n_seeds": 1})
    xr.testing.assert_identical(alone, measured.isel(seed=[0]))


def test_outputs_scale_exactly():
    net, weights = trained()
    before = outputs(net, weights)
    for factor in (0.2, 1.0, 3.0):
        np.testing.assert_allclose(
            outputs(net, flatness.scaled(net.replicas, weights, factor)), factor * before, rtol=1e-4, atol=1e-4
        )
    for new, old in zip(
        *(net.replicas.views(w[None]).values() for w in (flatness.scaled(net.replicas, weights, 8.0), weights)), strict=True
    ):
        if old.dim() > 2:
            np.testing.assert_allclose(new, 2 * old, rtol=1e-5)  # an equal share for each of the three layers


def test_a_state_is_brought_to_another_loss():
    net, weights = trained(320)
    energy = curvature.HessianProducts(net, weights, net.data.x, net.data.y).loss
    for wanted in (energy + 0.05, energy + 0.5):
        moved = flatness.brought_to(net, weights, wanted)
        assert abs(float(evaluate(net.replicas, moved[None], net.data)[0][0]) - wanted) < 1e-5
        assert torch.equal(outputs(net, moved).argmax(1), outputs(net, weights).argmax(1))
    assert flatness.brought_to(net, weights, energy / 2) is None
    assert flatness.brought_to(net, weights, math.log(10) + 0.1) is None


def test_relative_curvature_does_not_know_how_layers_share_a_factor():
    """A factor 4 moved from the last layer to the first, which changes neither the outputs nor what they are made of."""
    net, weights = trained()
    moved = weights.clone()
    first, first_bias, _, middle_bias, last, _ = net.replicas.views(moved[None]).values()
    for tensor, factor in ((first, 4), (first_bias, 4), (middle_bias, 4), (last, 1 / 4)):
        tensor.mul_(factor)
    np.testing.assert_allclose(outputs(net, moved), outputs(net, weights), rtol=1e-4, atol=1e-4)
    tops = {
        kind: [
            curvature.largest_eigenvalue(kind(net, w.double(), net.data.x, net.data.y), most=100).value for w in (weights, moved)
        ]
        for kind in (curvature.HessianProducts, flatness.RelativeProducts)
    }
    plain, relative = tops.values()
    np.testing.assert_allclose(*relative, rtol=2e-3)
    assert max(plain) / min(plain) > 1.5


def test_relative_curvature_of_the_whole_hessian():
    net, weights = trained(width=8)
    x, y, w = net.data.x[:64], net.data.y[:64], weights.double()
    lengths = torch.cat([v.norm().expand(v.numel()) for v in net.replicas.views(w[None]).values()])
    products, plain = flatness.RelativeProducts(net, w, x, y), curvature.HessianProducts(net, w, x, y)
    v = torch.randn(len(w), generator=torch.Generator().manual_seed(1)).double()
    np.testing.assert_allclose(products(v), lengths * plain(lengths * v), rtol=1e-9)
    np.testing.assert_allclose(products.gradient, lengths * plain.gradient, rtol=1e-9)
    # the second derivative of the loss as every tensor grows by a share: 1ᵀ of a direction of unit shares
    step, shares = 1e-3, (w / lengths)
    losses = [curvature.HessianProducts(net, w + h * lengths * shares, x, y).loss for h in (-step, 0.0, step)]
    assert abs((losses[0] - 2 * losses[1] + losses[2]) / step**2 - float(shares @ products(shares))) < 1e-3 * abs(
        float(shares @ products(shares))
    )


def test_the_matched_curvature(measured):
    """It begins at the sharpest moment, with the relative curvature of that state as it is."""
    for seed in measured["seed"].values:
        found = measured.sel(seed=seed)
        first = int(np.argmax(found["lambda_max"].sel(arm="sgd").values))
        assert np.isnan(found["matched_trace"][:first]).all()
        net = system(width=8, difficulty="easy")
        run = Experiment(net, eta=0.1, batch_size=32, seed=int(seed))
        steps = flatness._steps(net, 32, 2, 4)
        run.advance(int(steps[first]))
        products = flatness.RelativeProducts(net, run.state.weights[0], net.data.x, net.data.y)
        top = curvature.largest_eigenvalue(products, tolerance=1e-5, most=200).value
        np.testing.assert_allclose(found["matched_lambda_max"][first], top, rtol=2e-3)
        if first < 3:
            energy = found["U"].sel(arm="sgd")
            assert np.isfinite(found["matched_lambda_max"][-1]) == bool(energy[-1] < energy[first])


# --- the energy-entropy update ----------------------------------------------------------------------------------------
def test_shapes_of_the_signs(signs):
    assert signs.sizes == {"sign": 3, "time": 3, "seed": 2}
    assert set(signs.data_vars) == {"r2", "U", "accuracy", "S", "cosine", "rate", "growth"}
    assert signs["sign"].values.tolist() == [1, 0, -1]
    assert np.isfinite(signs.to_array()).all()


def test_the_rate_is_that_of_the_term_alone(signs):
    np.testing.assert_allclose(signs["rate"], signs["sign"].broadcast_like(signs["rate"]), atol=2e-4)


def test_growth_is_a_product_of_steps(signs):
    product = 1.0
    for _ in range(64):
        product *= (1 + 0.1 * 0.03) ** 2
    np.testing.assert_allclose(signs["growth"].sel(sign=1)[-1], product, rtol=1e-9)
    np.testing.assert_allclose(signs["growth"].isel(time=0), 1.0)
    np.testing.assert_allclose(signs["r2"].sel(sign=1)[-1] / signs["r2"].sel(sign=1)[0], product, rtol=0.3)
    assert (signs["r2"].sel(sign=-1)[-1] < signs["r2"].sel(sign=-1)[0]).all()


def test_all_signs_start_alike_on_equal_batches(signs):
    """Without the term it is plain SGD, and with the sign turned weight decay."""
    for name in ("r2", "U", "S"):
        np.testing.assert_array_equal(signs[name].isel(time=0, sign=0), signs[name].isel(time=0, sign=2))
    for sign, lam in ((0, 0.0), (-1, 0.03)):
        _, weights = trained(64, seed=1, lam=lam)
        np.testing.assert_allclose(signs["r2"].sel(sign=sign, seed=1)[-1], float(weights @ weights), rtol=1e-4)


def test_the_gradient_of_entropy_points_along_the_weights():
    net, weights = trained()
    assert float(flatness.entropy_cosine(net.replicas, weights[None])[0]) > 0.9
    # by differences of the instrument: S grows by 2 log(1 + h) where all weights grow by h
    entropy = [spread.entries((1 + h) * weights.double()[None], net.replicas.views)[0] for h in (0.0, 0.01)]
    assert entropy[1] - entropy[0] == pytest.approx(2 * math.log(1.01))
    shifted = weights[None].clone()
    next(iter(net.replicas.views(shifted).values())).add_(1.0)  # a mean is no spread
    assert float(flatness.entropy_cosine(net.replicas, shifted)[0]) < 0.5


# --- settings ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("recipe", "settings", "words"),
    [
        (flatness.flatness, {"epochs": 0.5}, "epochs=0.5"),
        (flatness.flatness, {"moments": 1}, "moments=1"),
        (flatness.flatness, {"probes": 1}, "probes=1"),
        (flatness.flatness, {"n_seeds": 0}, "n_seeds=0"),
        (flatness.flatness, {"difficulty": "odd"}, "difficulty='odd'"),
        (flatness.flatness, {"width": 7}, "width=7"),
        (flatness.flatness, {"batch_size": 0}, "batch_size=0"),
        (flatness.entropic, {"lam_entropy": -0.1}, "lam_entropy=-0.1"),
        (flatness.entropic, {"epochs": 0}, "epochs=0"),
    ],
)
def test_bad_settings(recipe, settings, words):
    with pytest.raises(ValueError, match=f"^{words}[^\n]*allowed: [^\n]*$"):
        recipe.run(**settings)


# --- claims -----------------------------------------------------------------------------------------------------------
def curves(sam=0.4, decay=0.95, matched=(1.0, 0.35, 0.33), spread=0.02, n_seeds=4):
    """Curvature that goes with a power of U, lower by a factor with SAM and with decay; three levels of the matched one."""
    time, rng = np.geomspace(0.5, 30, 40), np.random.default_rng(0)
    noise = 1 + spread * rng.normal(size=(3, 1, n_seeds))
    energy = (1 / time)[None, :, None] * np.array([1.0, 1.1, 2.0])[:, None, None] * np.ones((1, 1, n_seeds))
    factor = np.array([1.0, decay, sam])[:, None, None] * noise
    level = np.select([time < 1, time < 2, time < 15], [np.nan, matched[0], matched[1]], matched[2])[:, None] * noise[0]
    data = {"U": energy, "lambda_max": 20 * energy**0.5 * factor, "trace": 300 * energy**0.4 * factor}
    found = {k: (("arm", "time", "seed"), v) for k, v in data.items()}
    found |= {"matched_lambda_max": (("time", "seed"), 7 * level), "matched_trace": (("time", "seed"), 90 * level)}
    return xr.Dataset(found, {"arm": ["sgd", "decay", "sam"], "time": time})


def test_curvature_at_a_loss():
    found = claims_flatness.at_loss(curves(spread=0.0).sel(arm="sgd"), "lambda_max")
    np.testing.assert_allclose(found, 20 * 0.1**0.5, rtol=1e-9)
    short = curves().isel(time=slice(0, 20))  # does not come down to 0.1
    assert np.isnan(claims_flatness.at_loss(short.sel(arm="sam"), "trace")).all()


def test_sam():
    assert verdicts(claims_flatness.sam_flatter(curves())) == HOLDS
    assert verdicts(claims_flatness.sam_flatter(curves(sam=0.9, decay=0.5))) == FAILS
    assert claims_flatness.sam_flatter(curves(sam=0.75))[0].verdict == "inconclusive"
    lower_in_one = curves()
    lower_in_one["trace"][2] = lower_in_one["trace"][2] * 2.5
    assert claims_flatness.sam_flatter(lower_in_one)[0].verdict == "fails"
    assert claims_flatness.sam_flatter(curves().isel(time=slice(0, 20)))[0].verdict == "inconclusive"


def test_terminal_flatness():
    assert verdicts(claims_flatness.terminal_flatness(curves())) == HOLDS
    assert claims_flatness.terminal_flatness(curves(matched=(1.0, 1.0, 1.0)))[0].verdict == "fails"
    assert verdicts(claims_flatness.terminal_flatness(curves(matched=(0.3, 1.0, 0.33)))) == FAILS
    nothing = curves(matched=(1.0, 0.5, math.nan))
    assert claims_flatness.terminal_flatness(nothing)[0].verdict == "inconclusive"
    one = curves()
    one["matched_trace"][:] = 90.0
    assert claims_flatness.terminal_flatness(one)[0].verdict == "fails"


def rates(printed, other):
    values = np.array([printed, 0.0, other])[:, None, None] * np.ones((3, 5, 3))
    return xr.Dataset({"rate": (("sign", "time", "seed"), values)}, {"sign": [1, 0, -1]})


def test_the_sign_of_weight_decay(signs):
    assert verdicts(claims_flatness.eef_is_weight_decay(rates(1.0, -1.0))) == FAILS
    assert verdicts(claims_flatness.eef_is_weight_decay(rates(-0.995, 1.0))) == HOLDS
    assert verdicts(claims_flatness.eef_is_weight_decay(signs)) == FAILS


def test_all_claims_are_registered():
    from thermolab.claims import section

    assert set(claims_flatness.checks(None, None)) <= set(section("01_cooling"))
