"""The arrow of time on small networks against loops by hand, and its claims on data made up by hand."""

import itertools

import numpy as np
import pytest
import torch
import xarray as xr
from claimed import FAILS, HOLDS, verdicts
from scipy.linalg import expm

from thermolab.claims import decide
from thermolab.instruments import curvature
from thermolab.phenomena.irreversibility import flows
from thermolab.phenomena.irreversibility.landscape import Landscape, flow

NETWORK = {"widths": (2, 3, 1), "n_data": 6}


@pytest.fixture(scope="module")
def measured():
    return flows.steps.run((0.04, 0.02), time=0.08, n_seeds=2, **NETWORK)


@pytest.fixture(scope="module")
def shuffled():
    return flows.epochs.run((0.02, 0.01), parts=3, n_seeds=2, **NETWORK)


@pytest.fixture(scope="module")
def entropies():
    return flows.split.run((1, 2, 3), times=(0, 5), copies=2, n_seeds=2, **NETWORK)


def by_torch(land):
    """θ -> ∇L and θ, c -> ∇(L + c |∇L|²), by torch alone: no replicas, no hand-written backward pass."""
    w1, b1, w2, b2 = (torch.Size(s) for s in ((3, 2), (3,), (1, 3), (1,)))

    def loss(theta, x=land.x, y=land.y):
        p = [t.view(s) for t, s in zip(theta.split([6, 3, 3, 1]), (w1, b1, w2, b2), strict=True)]
        return ((torch.tanh(x @ p[0].T + p[1]) @ p[2].T + p[3] - y) ** 2).sum(1).mean()

    gradient = torch.func.grad(loss)

    def effective(theta, c, *data):
        return torch.func.grad(lambda t: loss(t, *data) + c * gradient(t, *data).square().sum())(theta)

    return gradient, effective


def runge_kutta(force, w, time, n=200):
    """The flow dw/dt = force(w), by n steps of fourth order."""
    h = time / n
    for _ in range(n):
        k1 = force(w)
        k2 = force(w + h / 2 * k1)
        k3 = force(w + h / 2 * k2)
        w = w + h / 6 * (k1 + 2 * k2 + 2 * k3 + force(w + h * k3))
    return w


# --- the landscape ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("activation", ["tanh", "gelu"])
def test_slopes_are_those_of_the_dense_hessian(activation):
    land = Landscape((3, 4, 4, 2), activation, 7, seed=3)
    w = torch.cat([land.start, land.start + 0.1])
    gradient, bend = land.slopes(w)
    torch.testing.assert_close(gradient, land.gradient(w), rtol=1e-12, atol=1e-14)
    for row in range(2):
        hessian = curvature.dense(land.replicas, w[row], land.x, land.y)
        torch.testing.assert_close(bend[row], hessian @ gradient[row], rtol=1e-10, atol=1e-12)
    top = torch.linalg.eigvalsh(curvature.dense(land.replicas, land.start[0], land.x, land.y))[-1]
    assert land.sharpness() == pytest.approx(float(top), rel=1e-3)


def test_a_flow_on_a_quadratic():
    a = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
    start, time = torch.tensor([[1.0, -1.0], [0.3, 2.0]]).double(), torch.tensor([[0.5], [2.0]]).double()
    found = flow(lambda w: -w @ a, start, time)
    for row in range(2):
        np.testing.assert_allclose(found[row], expm(-float(time[row]) * a.numpy()) @ start[row].numpy(), rtol=1e-11)
    with pytest.raises(RuntimeError, match="diverges"):
        flow(lambda w: w**3, torch.ones(1, 1).double(), torch.ones(1, 1).double())


# --- steps ------------------------------------------------------------------------------------------------------------
def test_there_and_back_on_a_parabola():
    found = flows.quadratic.run((0.1, 0.5), n_seeds=3)
    np.testing.assert_allclose(found["miss"], [[0.01] * 3, [0.25] * 3], rtol=1e-13)
    assert len(set(found["start"].values)) == 3


def test_steps_returns_what_it_promises(measured):
    assert measured.sizes == {"against": 3, "constant": 9, "rate": 2, "seed": 2}
    assert set(measured.data_vars) == {"local", "whole", "fitted", "eta", "unlike", "unlike_shape", "lambda_max"}
    assert np.isfinite(measured.drop_vars("against").to_array()).all()
    np.testing.assert_array_equal(measured["eta"], [[0.04] * 2, [0.02] * 2])


@pytest.mark.parametrize("constant", [0.0, 0.25, 1.0])
def test_distances_by_hand(measured, constant):
    """Two steps of η = 0.04 and four of 0.02, each way."""
    land = Landscape(seed=1, **NETWORK)
    gradient, effective = by_torch(land)
    for rate, eta in enumerate((0.04, 0.02)):
        for name, n in (("local", 1), ("whole", round(0.08 / eta))):
            end, halves = land.start[0].clone(), land.start[0].clone()
            for _ in range(n):
                end = end - eta * gradient(end)
            back = end
            for _ in range(n):
                back = back + eta * effective(back, constant * eta)
            for _ in range(2 * n):
                halves = halves - eta / 2 * effective(halves, constant * eta)
            flowed = runge_kutta(lambda w, c=constant * eta: -effective(w, c), land.start[0], n * eta, 20)
            gaps = [back - land.start[0], flowed - end, halves - end]
            found = measured[name].sel(constant=constant, seed=1).isel(rate=rate)
            np.testing.assert_allclose(found, [float(g.norm()) for g in gaps], rtol=1e-4, err_msg=f"{name}, η = {eta}")


def test_defaults_are_in_units_of_the_curvature():
    found = flows.steps.run(constants=(0.0,), time=0.01, n_seeds=2, **NETWORK)
    np.testing.assert_allclose(found["eta"] * found["lambda_max"], np.tile([[0.1], [0.05], [0.025], [0.0125]], 2))


def test_each_comparison_has_a_constant_of_its_own(measured):
    fitted = measured["fitted"].isel(rate=1).mean("seed").values
    np.testing.assert_allclose(fitted, [1 / 2, 1 / 4, 1 / 8], rtol=0.05)
    best = measured["local"].isel(rate=1).idxmin("constant")
    np.testing.assert_array_equal(best, [[1 / 2] * 2, [1 / 4] * 2, [1 / 8] * 2])
    np.testing.assert_array_equal(measured["whole"].isel(rate=1).idxmin("constant"), best)


def test_results_of_a_seed_do_not_depend_on_their_number(measured, shuffled, entropies):
    alone = flows.steps.run((0.04, 0.02), time=0.08, n_seeds=1, **NETWORK)
    xr.testing.assert_identical(alone, measured.isel(seed=[0]))
    xr.testing.assert_identical(flows.epochs.run((0.02, 0.01), parts=3, n_seeds=1, **NETWORK), shuffled.isel(seed=[0]))
    alone = flows.split.run((1, 2, 3), times=(0, 5), copies=2, n_seeds=1, **NETWORK)
    xr.testing.assert_identical(alone, entropies.isel(seed=[0]))


# --- epochs -----------------------------------------------------------------------------------------------------------
def test_epochs_by_hand(shuffled):
    """Three batches of two samples in all six orders, and flows of L and of L + (η/12) Σ |∇L_k|²."""
    land, eta = Landscape(seed=1, **NETWORK), 0.02
    gradient, effective = by_torch(land)
    batches = [(land.x[i : i + 2], land.y[i : i + 2]) for i in (0, 2, 4)]
    ends = []
    for order in itertools.permutations(batches):
        w = land.start[0]
        for batch in order:
            w = w - eta * gradient(w, *batch)
        ends.append(w)
    ends = torch.stack(ends)
    # the mean over the batches of L_k + (η/4) |∇L_k|²
    own = runge_kutta(lambda w: -sum(effective(w, eta / 4, *b) for b in batches) / 3, land.start[0], 3 * eta, 20)
    none = runge_kutta(lambda w: -gradient(w), land.start[0], 3 * eta, 20)
    found = shuffled.isel(rate=0).sel(seed=1)
    np.testing.assert_allclose(found["error"], [float((ends.mean(0) - f).norm()) for f in (own, none)], rtol=1e-4)
    np.testing.assert_allclose(found["one_order"], float((ends - own).square().sum(1).mean().sqrt()), rtol=1e-6)


# --- the split of the entropy -----------------------------------------------------------------------------------------
def test_split_by_hand(entropies):
    """Gradients of single samples by torch; a batch of three is a sum of three of them."""
    land = Landscape(seed=(1, 1), **NETWORK)
    gradient, _ = by_torch(land)
    w = land.start[0]
    for _ in range(5):
        w = w - 0.1 / land.sharpness() * gradient(w)
    g = torch.stack([gradient(w, land.x[[i]], land.y[[i]]) for i in range(6)])
    found = entropies.sel(seed=1, time=5).isel(copy=1)
    for b in (1, 2, 3):
        squares = [g[list(pick)].mean(0).square().sum() for pick in itertools.product(range(6), repeat=b)]
        assert float(found["g2"].sel(batch_size=b)) == pytest.approx(float(torch.stack(squares).mean()), rel=1e-10)
    covariance = np.cov(g.numpy().T, bias=True)
    np.testing.assert_allclose(found["trace"], np.trace(covariance), rtol=1e-10)
    np.testing.assert_allclose(found["S_GD"], float(g.mean(0).square().sum()), rtol=1e-10)
    first, last = g[:, :9].square().sum(1), g[:, 9:].square().sum(1)
    np.testing.assert_allclose(found["S"], [float(first.mean()), float(last.mean())], rtol=1e-10)
    # of the first map ∇_b = ∇_p, so that the bias's gradient says what the product of the means is
    length, slope = land.x.square().sum(1) + 1, g[:, 6:9].square().sum(1)
    np.testing.assert_allclose(found["factorised"].sel(layer=1), float(slope.mean() * length.mean()), rtol=1e-10)
    np.testing.assert_allclose(found["product"], found["S"], rtol=1e-10)


# --- settings ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("recipe", "setting", "words"),
    [
        (flows.quadratic, {"rates": ()}, "rates=() has a length that is out of range; allowed: a list of 1 or more"),
        (flows.quadratic, {"n_seeds": 0}, "n_seeds=0 is out of range; allowed: a whole number from 1"),
        (flows.steps, {"rates": (0.1, -0.1)}, "rates=(0.1, -0.1) is not positive and finite; allowed: a list of 1 or more"),
        (
            flows.steps,
            {"rates": 0.1},
            "rates=0.1 is not a list, as [0.1] is; allowed: a list of 1 or more, each a positive number",
        ),
        (flows.steps, {"time": 0.0}, "time=0.0 is not positive and finite; allowed: a positive number"),
        (flows.steps, {"constants": ()}, "constants=() has a length that is out of range; allowed: a list of 1 or more"),
        (flows.steps, {"constants": (0.0, np.nan)}, "constants=(0.0, nan) is not a number; allowed: a list of 1 or more"),
        (flows.steps, {"widths": (3,)}, "widths=(3,) has a length that is out of range; allowed: a list of 2 or more"),
        (
            flows.steps,
            {"widths": (3, 0, 2)},
            "widths=(3, 0, 2) is out of range; allowed: a list of 2 or more, each a whole number",
        ),
        (flows.steps, {"activation": "relu"}, "activation='relu' is unknown; allowed: one of tanh, sigmoid, softplus, gelu"),
        (flows.steps, {"n_data": 1}, "n_data=1 is out of range; allowed: a whole number, 2 or more"),
        (flows.epochs, {"parts": 1}, "parts=1 is out of range; allowed: a whole number from 2 to 6"),
        (flows.epochs, {"parts": 5}, "n_data=24 is not divisible; allowed: a multiple of parts=5"),
        (flows.epochs, {"parts": 8}, "parts=8 is out of range; allowed: a whole number from 2 to 6"),
        (
            flows.split,
            {"batch_sizes": (0,)},
            "batch_sizes=(0,) is out of range; allowed: a list of 1 or more, each a whole number",
        ),
        (flows.split, {"batch_sizes": (4,)}, "batch_sizes=[4] are too large for n_data=24; allowed: at most 300000 minibatches"),
        (flows.split, {"times": (5, 0)}, "times=[5, 0] are not in order; allowed: steps in ascending order"),
        (flows.split, {"copies": 0}, "copies=0 is out of range; allowed: a whole number, 1 or more"),
    ],
)
def test_recipes_refuse_settings_out_of_range(recipe, setting, words):
    with pytest.raises(ValueError, match=r"^[^\n]*$") as error:
        recipe.run(**setting)
    assert words in str(error.value)


# --- claims -----------------------------------------------------------------------------------------------------------
ORDERS = {("undo", 1 / 2): 1, ("flow", 1 / 4): 1, ("halves", 1 / 8): 1}  # what the right constant adds to the order


def made_up(gain=ORDERS, spread=0.005, unlike=1.0, n_seeds=4, rates=(0.1, 0.05, 0.02)):
    """Distances that go with η² after one step and with η after many, one order higher where `gain` says so."""
    rng = np.random.default_rng(0)
    eta = np.array(rates)[:, None] * np.ones(n_seeds)
    wobble = spread * rng.normal(size=(3, 9, 1, n_seeds))
    orders = np.array([[gain.get((a, c), 0) for c in flows.CONSTANTS] for a in flows.AGAINST])[..., None, None] + wobble
    dims = ("against", "constant", "rate", "seed")
    data = {"local": (dims, eta ** (2 + orders)), "whole": (dims, eta ** (1 + orders)), "eta": (("rate", "seed"), eta)}
    data |= {k: (("rate", "seed"), v * (1 + eta)) for k, v in (("unlike", unlike), ("unlike_shape", 0.02))}
    return xr.Dataset(data, {"against": [*flows.AGAINST], "constant": [*flows.CONSTANTS]})


ON_STEPS = (flows.reversal, flows.modified_flow, flows.global_error, flows.half_rate)


@pytest.mark.parametrize("claim", ON_STEPS)
def test_a_claim_on_an_order_asks_for_its_power(claim):
    assert verdicts(claim(made_up())) == HOLDS
    assert claim(made_up(spread=0.5)).check.verdict == "inconclusive"
    assert claim(made_up(rates=(0.1,))).check.verdict == "inconclusive"
    steeper = {(a, c): 1 - ORDERS.get((a, c), 0) for a in flows.AGAINST for c in flows.CONSTANTS}
    assert verdicts(claim(made_up(steeper))) == FAILS


AS_PRINTED = (flows.reversal_as_printed, flows.modified_flow_as_printed, flows.half_rate_as_printed)


@pytest.mark.parametrize("claim", AS_PRINTED)
def test_the_printed_constant_fails_unless_it_gains_an_order(claim):
    assert verdicts(claim(made_up())) == FAILS
    printed = {(a, 1.0): 1 for a in flows.AGAINST}
    assert verdicts(claim(made_up(printed))) == HOLDS
    assert verdicts(claim(made_up(ORDERS | printed))) == ("holds", "holds")


def test_the_printed_constant_misses_by_more_than_none(measured):
    """By (1 − 2c), (1/2 − 2c) and (1/4 − 2c) η²H∇L at c = 1, against c = 0, to first order in η, as the register says."""
    ratio = (measured["local"].sel(constant=1) / measured["local"].sel(constant=0)).isel(rate=1).mean("seed")
    np.testing.assert_allclose(ratio, [1, 3, 7], rtol=0.2)


def test_half_rate_with_the_constant_of_the_flow(monkeypatch):
    monkeypatch.setattr(flows, "HALVES", 1 / 4)
    assert flows.half_rate(made_up()).check.verdict == "fails"


def test_one_constant_compares_the_terms_at_the_smallest_rate():
    assert verdicts(flows.one_constant(made_up())) == FAILS
    assert flows.one_constant(made_up(unlike=0.03)).check.verdict == "holds"
    assert flows.one_constant(made_up()).check.measured == pytest.approx(1.02)  # at the smallest rate


def test_slope_of_a_power():
    eta = xr.DataArray(np.array([[0.1, 0.2], [0.05, 0.1], [0.01, 0.03]]), dims=("rate", "seed"))
    np.testing.assert_allclose(flows.slope(7 * eta**2.5, eta), [2.5, 2.5], rtol=1e-12)


def test_the_error_on_a_parabola_is_its_square():
    eta = np.array([0.1, 0.3])[:, None]
    made = xr.Dataset({"miss": (("eta", "seed"), eta**2 * np.ones(3))}, {"eta": eta[:, 0]})
    assert verdicts(flows.misses_by_a_square(made)) == HOLDS
    assert verdicts(flows.misses_by_a_square(made**1.5)) == FAILS  # η³
    assert flows.misses_by_a_square(made + 1e-12).check.verdict == "fails"


def test_an_epoch_follows_the_flow_with_the_minibatch_term():
    eta = np.array([0.1, 0.05])[:, None] * np.ones(3)
    orders = np.array([3.0, 2.0])[:, None, None] + 0.01 * np.random.default_rng(0).normal(size=(2, 1, 3))
    made = xr.Dataset({"error": (("term", "rate", "seed"), eta**orders), "eta": (("rate", "seed"), eta)})
    made = made.assign_coords(term=["batches", "none"])
    assert verdicts(flows.epoch(made)) == HOLDS
    assert verdicts(flows.epoch(made.assign_coords(term=["none", "batches"]))) == FAILS


def test_the_split_of_the_entropy_is_exact_and_factors_are_not(entropies):
    assert flows.entropy_split(entropies).check.verdict == "holds"
    rng = np.random.default_rng(0)
    dims, shape = ("layer", "time", "copy", "seed"), (2, 2, 2, 2)
    made = entropies.assign(factorised=(dims, entropies["S"].values * (1.4 + 0.01 * rng.normal(size=shape))))
    assert verdicts(flows.entropy_split(made)) == HOLDS
    close = entropies.assign(factorised=(dims, entropies["S"].values * (1.05 + 0.001 * rng.normal(size=shape))))
    assert flows.entropy_split(close).control.verdict == "holds"
    for name in ("g2", "product", "trace"):  # any of them off by a millionth
        assert flows.entropy_split(made.assign({name: made[name] * (1 + 1e-6)})).check.verdict == "fails"


def test_all_claims_of_the_networks():
    """At the settings of a first look, on other data: nothing comes out against the register."""
    small = {"widths": (2, 4, 1), "n_data": 12, "n_seeds": 3}
    found = {"quadratic": flows.quadratic.run(n_seeds=3), "steps": flows.steps.run(time=0.1, **small)}
    found |= {"epochs": flows.epochs.run(**small), "split": flows.split.run(times=(0, 100), **small)}
    for name in ("reversal", "quadratic", "modified-flow", "one-constant", "global-error", "half-rate", "epoch", "entropy-split",
                 "reversal.printed", "modified-flow.printed", "half-rate.printed"):  # fmt: skip
        decided = decide(f"irreversibility.{name}", found)
        wanted = FAILS if name == "one-constant" or "printed" in name else HOLDS
        for verdict, expected in zip((decided.check.verdict, decided.control.verdict), wanted, strict=True):
            assert verdict in (expected, "inconclusive"), name
