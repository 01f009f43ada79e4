"""Curvature at equal loss at tiny settings, and its claims on data made up by hand."""

import math

import numpy as np
import pytest
import torch
from claimed import FAILS, HOLDS, verdicts
from phenomena.cooling import made_up
from phenomena.cooling.by_hand import trained

from thermolab.engine.experiment import Experiment
from thermolab.instruments import curvature
from thermolab.phenomena.cooling import flatness
from thermolab.phenomena.cooling.classifiers import evaluate, images, system

SMALL = {"epochs": 2, "moments": 4, "probes": 3, "width": 8, "difficulty": "easy", "n_seeds": 2}


@pytest.fixture(scope="module")
def measured():
    return flatness.flatness.run(**SMALL)


def outputs(net, weights):
    """Logits by torch alone."""
    torch.nn.utils.vector_to_parameters(weights, net.replicas.module.parameters())
    with torch.no_grad():
        return net.replicas.module(net.data.x).double()


# --- curvature along training -----------------------------------------------------------------------------------------
def test_shapes(measured):
    assert measured.sizes == {"arm": 4, "time": 4, "seed": 2, "place": 2}
    assert measured["arm"].values.tolist() == ["sgd", "decay", "sam", "eef"]
    np.testing.assert_allclose(measured["time"], 0.5 * 4 ** np.array([0, 1 / 3, 2 / 3, 1]), atol=1 / 64)
    plain = {"U", "accuracy", "U_validation", "accuracy_validation", "lambda_max", "trace", "r2"}
    assert set(measured.data_vars) == plain | {"matched_lambda_max", "matched_trace", "asymmetry"}
    assert {v.dims for v in measured.drop_vars("asymmetry").data_vars.values()} == {("arm", "time", "seed")}
    assert set(measured["asymmetry"].dims) == {"arm", "place", "seed"}
    assert measured.attrs["growth"] == pytest.approx(1.001**64)
    assert np.isfinite(measured[[*plain]].to_array()).all()
    assert measured["matched_trace"].sel(arm=["decay", "sam"]).isnull().all()


def test_a_moment_of_each_arm(measured):
    """The same run by hand; λ_max and trace of the whole Hessian in float64."""
    arms = {
        "sgd": ("sgd", {}),
        "decay": ("sgd", {"lam": 0.01}),
        "sam": ("sam", {"rho": 0.3}),
        "eef": ("eef", {"lam_entropy": 0.01}),
    }
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
        np.testing.assert_allclose(found["r2"], run.state.weights[0].double().square().sum(), rtol=1e-5)
        hessian = curvature.HessianProducts(net, run.state.weights[0], net.data.x, net.data.y)
        top = curvature.largest_eigenvalue(hessian, tolerance=1e-6, most=200).value
        np.testing.assert_allclose(found["lambda_max"], top, rtol=2e-3)
        # three products tell a trace to √(2/3) |H|/Tr H, about a tenth here
        assert abs(float(found["trace"]) / curvature.trace(hessian, probes=200).value - 1) < 0.3


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
        found = measured.sel(seed=seed, arm="sgd")
        first = int(np.argmax(found["lambda_max"].values))
        assert np.isnan(found["matched_trace"][:first]).all()
        net = system(width=8, difficulty="easy")
        run = Experiment(net, eta=0.1, batch_size=32, seed=int(seed))
        steps = flatness.looks(32, 2, 4)
        run.advance(int(steps[first]))
        products = flatness.RelativeProducts(net, run.state.weights[0], net.data.x, net.data.y)
        top = curvature.largest_eigenvalue(products, tolerance=1e-5, most=200).value
        np.testing.assert_allclose(found["matched_lambda_max"][first], top, rtol=2e-3)
        if first < 3:
            energy = found["U"]
            assert np.isfinite(found["matched_lambda_max"][-1]) == bool(energy[-1] < energy[first])


# --- claims -----------------------------------------------------------------------------------------------------------
def test_curvature_at_a_loss():
    found = flatness.at_loss(made_up.curves(spread=0.0).sel(arm="sgd"), "lambda_max")
    np.testing.assert_allclose(found, 20 * 0.1**0.5, rtol=1e-9)
    short = made_up.curves().isel(time=slice(0, 20))  # does not come down to 0.1
    assert np.isnan(flatness.at_loss(short.sel(arm="sam"), "trace")).all()


def test_sam():
    assert verdicts(flatness.sam_flatter(made_up.curves())) == HOLDS
    assert verdicts(flatness.sam_flatter(made_up.curves(sam=0.9, decay=0.5))) == FAILS
    assert flatness.sam_flatter(made_up.curves(sam=0.75)).check.verdict == "inconclusive"
    lower_in_one = made_up.curves()
    lower_in_one["trace"][2] = lower_in_one["trace"][2] * 2.5
    assert flatness.sam_flatter(lower_in_one).check.verdict == "fails"
    assert flatness.sam_flatter(made_up.curves().isel(time=slice(0, 20))).check.verdict == "inconclusive"


def test_terminal_flatness():
    assert verdicts(flatness.terminal_flatness(made_up.curves())) == HOLDS
    assert flatness.terminal_flatness(made_up.curves(matched=(1.0, 1.0, 1.0))).check.verdict == "fails"
    assert verdicts(flatness.terminal_flatness(made_up.curves(matched=(0.3, 1.0, 0.33)))) == FAILS
    nothing = made_up.curves(matched=(1.0, 0.5, math.nan))
    assert flatness.terminal_flatness(nothing).check.verdict == "inconclusive"
    one = made_up.curves()
    one["matched_trace"][:] = 90.0
    assert flatness.terminal_flatness(one).check.verdict == "fails"


def test_moments_are_brought_to_the_loss_of_the_sharpest_one(monkeypatch):
    """And to no other: left at their own U, all of them would be taken as they are."""
    wanted = []

    def note(net, weights, energy):
        wanted.append(energy)
        return flatness_brought_to(net, weights, energy)

    flatness_brought_to = flatness.brought_to
    monkeypatch.setattr(flatness, "brought_to", note)
    found = flatness.flatness.run(arms=("sgd",), **SMALL | {"epochs": 6, "n_seeds": 1}).isel(arm=0, seed=0)
    first = int(np.argmax(found["lambda_max"].values))
    assert wanted == [float(found["U"][first])] * (4 - first)
    assert first < 3
    assert float(found["U"][-1]) < float(found["U"][first]) - 0.05


def test_the_entropic_update():
    assert verdicts(flatness.eef_flatter(made_up.curves())) == FAILS
    assert verdicts(flatness.eef_flatter(made_up.curves(eef=0.4, sam=1.0))) == HOLDS
    assert verdicts(flatness.eef_generalises(made_up.curves())) == FAILS
    assert verdicts(flatness.eef_generalises(made_up.curves(losses=(1.0, 1.1, 0.9, 0.9)))) == HOLDS
    assert flatness.eef_generalises(made_up.curves(losses=(1.0, 0.9, 0.9, 1.01))).check.verdict == "inconclusive"


def test_the_asymmetry_of_a_parabola_and_of_a_line(monkeypatch):
    monkeypatch.setattr(flatness, "evaluate", lambda replicas, w, data: ((w[:, 0] ** 2).double().numpy(), None))
    net, across = trained(1)[0], torch.tensor([2.0])
    assert flatness.asymmetry(net, torch.tensor([0.0]), across) == pytest.approx(1)
    assert flatness.asymmetry(net, torch.tensor([2 / 3]), across) == pytest.approx(5)  # a third of `across`
    assert math.isnan(flatness.asymmetry(net, torch.tensor([3.0]), across))


def test_asymmetric_valleys():
    assert verdicts(flatness.valley_asymmetric(made_up.curves())) == FAILS
    assert verdicts(flatness.valley_asymmetric(made_up.curves(valley=(3.0, 1.1)))) == HOLDS
