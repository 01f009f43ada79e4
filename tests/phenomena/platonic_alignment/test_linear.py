"""Embedded deep linear networks: closed forms against minimisation and sampled gradients, recipes at tiny settings, claims."""

import numpy as np
import pytest
import torch
import xarray as xr
from claimed import verdicts
from torch import nn

from thermolab.engine.experiment import Experiment
from thermolab.instruments.alignment import cka, layer_cka
from thermolab.phenomena.common import linear_theory
from thermolab.phenomena.platonic_alignment import claims_linear as claims
from thermolab.phenomena.platonic_alignment import descent, linear, minimum, networks, pace, theory
from thermolab.systems import embedded_linear, models
from thermolab.systems.network import NetworkOnData
from thermolab.systems.regression import Answers

DATA = {"spectrum": (1.2, 0.8), "noise": (1.0, 0.6), "inputs": (1.3, 1.0, 0.7)}
TINY = DATA | {"eta": 0.03, "batch_size": 8, "n_seeds": 2}


def case(depth=3, width=4, seed=0):
    """V, a view, and random weights in float64."""
    v, view = embedded_linear.target(DATA["spectrum"], 3, seed=seed), embedded_linear.view(3, 2, seed=seed)
    return v, view, embedded_linear.gaussian((3, *[width] * (depth - 1), 2), 0.5, seed)


def product(view, matrices):
    return np.linalg.multi_dot([view.answers, *matrices[::-1], view.inputs])


# --- the setting ------------------------------------------------------------------------------------------------
def test_views_and_targets_have_the_singular_values_that_were_asked_for():
    view, v = embedded_linear.view(6, 5, stretch=(0.5, 2.0), seed=3), embedded_linear.target((3, 2, 1), 5, seed=1)
    np.testing.assert_allclose(np.linalg.svd(view.answers)[1], np.linspace(0.5, 2, 5)[::-1])
    assert abs(np.linalg.det(view.inputs)) == pytest.approx(np.prod(np.linspace(0.5, 2, 6)) ** 2)
    np.testing.assert_allclose(np.linalg.svd(v)[1], [3, 2, 1])
    assert not np.allclose(view.inputs, embedded_linear.view(6, 5, stretch=(0.5, 2.0), seed=4).inputs)


def test_a_network_is_the_product_of_its_matrices_and_frozen_ones_stay():
    v, view, _ = case()
    net = embedded_linear.network(view, 3, 4, embedded_linear.answers(v, DATA["noise"], inputs=DATA["inputs"], n_data=500))
    weights, x = embedded_linear.start(net, [0, 0, 1], 5), embedded_linear.probe(DATA["inputs"], 20)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    full = [product(view, [m[r].numpy() for m in embedded_linear.matrices(net, weights)]) for r in range(3)]
    np.testing.assert_allclose(net.replicas.outputs(weights, x.float()), x.numpy() @ np.swapaxes(full, 1, 2), atol=1e-5)
    layers = embedded_linear.hidden(net, weights, x, ends=True)
    assert [h.shape[-1] for h in layers] == [3, 4, 4, 2]
    own = descent.features(view, [m[2].numpy() for m in embedded_linear.matrices(net, weights)], x.numpy())
    for a, b in zip(layers, own, strict=True):
        np.testing.assert_allclose(a[2], b, atol=1e-5)
    assert [h.shape[-1] for h in embedded_linear.hidden(net, weights, x)] == [4, 4]
    run = Experiment(net, eta=0.01, batch_size=8, weights=weights)
    assert net.choose_backend(run.state.weights) == "compiled"
    run.advance(20)
    np.testing.assert_allclose(net.replicas.module[0].weight, view.inputs, atol=1e-6)


def test_hidden_layers_of_a_relu_network_are_its_activations():
    net = NetworkOnData(models.mlp((3, 5, 4, 2)), Answers(torch.zeros(8, 3), torch.zeros(8, 2)), "lr", loss="squared")
    weights, x = net.start(torch.arange(2), 0), torch.randn(7, 3)
    found = embedded_linear.hidden(net, weights, x)
    for r in range(2):
        nn.utils.vector_to_parameters(weights[r], net.replicas.module.parameters())
        for a, upto in zip(found, (2, 4), strict=True):
            np.testing.assert_allclose(a[r], net.replicas.module[:upto](x).detach(), atol=1e-6)
    assert embedded_linear.hidden(net, weights, x, ends=True)[-1].shape == (2, 7, 2)


def test_the_probe_has_exact_moments():
    x = embedded_linear.probe(DATA["inputs"], 16).numpy()
    np.testing.assert_allclose(x.T @ x / 16, np.diag(np.square(DATA["inputs"])), atol=1e-12)
    assert not np.allclose(x, embedded_linear.probe(DATA["inputs"], 16, seed=1))


# --- the theory ---------------------------------------------------------------------------------------------------
def test_free_energy_against_sampled_gradients_and_finite_differences():
    v, view, w = case()
    rng, n, batch = np.random.default_rng(0), 50_000, 4
    x = rng.standard_normal((n, batch, 3)) * DATA["inputs"]
    y = x @ v.T + rng.standard_normal((n, batch, 2)) * DATA["noise"]
    before = [x @ view.inputs.T]
    for m in w:
        before.append(before[-1] @ m.T)
    error = before[-1] @ view.answers.T - y
    back, g2 = 2 / batch * error @ view.answers, 0.0
    for m, h in zip(w[::-1], before[-2::-1], strict=True):
        g2 += np.square(np.swapaxes(back, 1, 2) @ h).sum((1, 2)).mean()
        back = back @ m
    how = (v, DATA["noise"], 0.3, DATA["inputs"], batch)
    loss, found, slopes = theory.free_energy(view, w, *how)
    assert loss == pytest.approx(np.square(error).sum(-1).mean(), rel=0.02)
    assert found == pytest.approx(g2, rel=0.03)
    for i in range(3):
        moved = [[m + (k == i) * s * 1e-5 * np.eye(*m.shape) for k, m in enumerate(w)] for s in (1, -1)]
        high, low = (f[0] + 0.3 / 4 * f[1] for f in (theory.free_energy(view, m, *how) for m in moved))
        assert np.trace(slopes[i]) == pytest.approx((high - low) / 2e-5, rel=1e-6)


@pytest.mark.parametrize("depth", [2, 4])
def test_minimum_and_kernel_against_dense_minimisation(depth):
    """L-BFGS from random weights finds the same kernel in all hidden layers, and the same least E|g|²."""
    v, view, w = case(depth, seed=depth)
    found, loss, g2 = minimum.least(view, w, v, DATA["noise"], 1e-4, inputs=DATA["inputs"], batch_size=3)
    best, q = theory.minimum(view, v, DATA["noise"], depth, DATA["inputs"])
    assert g2 == pytest.approx(4 * depth * q / 3, rel=5e-3)
    assert loss == pytest.approx(np.square(DATA["noise"]).sum(), rel=1e-4)
    np.testing.assert_allclose(product(view, best), v, atol=1e-12)
    assert theory.free_energy(view, best, v, DATA["noise"], 0.0, DATA["inputs"], 3)[1] == pytest.approx(4 * depth * q / 3)
    x = embedded_linear.probe(DATA["inputs"], 32).numpy()
    rooted = x @ linear_theory.root(theory.kernel(v, DATA["noise"], DATA["inputs"]))
    for matrices, least in ((found, 1 - 1e-5), (best, 1 - 1e-12)):
        assert layer_cka(descent.features(view, matrices, x)[1:-1], [rooted]).min() > least
    assert cka(rooted, x) < 0.99  # so that the comparison can fail


def test_kernel_is_the_printed_formula():
    v, noise, scale = embedded_linear.target((1.5, 0.5), 3), np.diag([1.0, 0.36]), np.diag([1.3, 1.0, 0.7])
    inner = linear_theory.root(scale @ v.T @ noise @ v @ scale)
    expected = np.linalg.inv(scale) @ inner @ np.linalg.inv(scale)
    np.testing.assert_allclose(theory.kernel(v, [1.0, 0.6], DATA["inputs"]), expected, atol=1e-7)


def test_sharpness_against_the_dense_hessian():
    v, view, _ = case()
    best, _ = theory.minimum(view, v, DATA["noise"], 3, DATA["inputs"])
    shapes = [m.shape for m in best]
    m_in, m_out = torch.tensor(view.inputs * np.array(DATA["inputs"])), torch.tensor(view.answers)

    def loss(flat):
        w = [p.view(s) for p, s in zip(flat.split([a * b for a, b in shapes]), shapes, strict=True)]
        return (m_out @ w[2] @ w[1] @ w[0] @ m_in - torch.tensor(v * DATA["inputs"])).square().sum()

    hessian = torch.autograd.functional.hessian(loss, torch.tensor(np.concatenate([m.ravel() for m in best])))
    assert theory.sharpness(view, best, DATA["inputs"]) == pytest.approx(float(torch.linalg.eigvalsh(hessian)[-1]))


def test_recommended_settings_follow_depth_batch_views_and_noise():
    known = {"spectrum": DATA["spectrum"], "noise": DATA["noise"], "inputs": DATA["inputs"]}
    flat, steps = theory.recommended((2, 3), **known)
    steep, more = theory.recommended((2, 6), **known)
    assert steep < flat
    assert more > steps
    assert theory.recommended((2, 3), **known, batch_size=32) == (flat, pytest.approx(2 * steps, abs=2))
    assert theory.recommended((2, 3), **known, eta=flat / 2) == (flat / 2, pytest.approx(4 * steps, abs=4))
    assert theory.recommended((2, 3), **known, eta=1e-6) == (1e-6, theory.LONGEST)
    eta, longer = theory.recommended((2, 3), **known, stretch=(0.4, 1.8))
    assert longer * eta**2 > 2 * steps * flat**2  # what is seen faintly aligns slowly
    loud = known | {"noise": (10.0, 6.0)}
    assert theory.recommended((2, 3), **loud)[0] < flat / 4  # λ_max alone would ask for a third
    assert theory.recommended((2, 3), **loud, batch_size=10**6)[0] > flat / 4


@pytest.mark.parametrize("depth", [2, 4])
def test_rate_of_alignment_against_the_second_derivative_on_the_orbit(depth):
    """h_k → exp(A) h_k with the same A everywhere: the cost, over the square of how far the weights move."""
    v, view, _ = case(depth)
    best, q = theory.minimum(view, v, DATA["noise"], depth, DATA["inputs"])
    a, step, g2 = np.array([[0.0, 1.0], [1.0, 0.0]]), 1e-3, []  # A² = 1
    for s in (-step, 0.0, step):
        turn, back = (np.cosh(s) * np.eye(2) + np.sinh(x) * a for x in (s, -s))
        moved = [turn @ best[0], *(turn @ w @ back for w in best[1:-1]), best[-1] @ back]
        g2.append(theory.free_energy(view, moved, v, DATA["noise"], 0.0, DATA["inputs"], 3)[1])
    curvature = (g2[0] - 2 * g2[1] + g2[2]) / step**2
    way = np.square(a @ best[0]).sum() + np.square(best[-1] @ a).sum()
    assert theory.rate(best, q, 3) == pytest.approx(curvature / way / 4, rel=1e-4)  # weights move by -(η²/4) dE|g|²/dW a step


# --- what needs no training -----------------------------------------------------------------------------------------
def test_descent_reaches_the_target_and_keeps_the_balance():
    v, view, w = case()
    ended, excess = descent.descend(view, w, v, excess=1e-6, inputs=DATA["inputs"])
    assert excess <= 1e-6
    np.testing.assert_allclose(product(view, ended), v, atol=3e-3)
    for i in range(2):
        kept = [m[i + 1].T @ m[i + 1] - m[i] @ m[i].T for m in (w, ended)]
        np.testing.assert_allclose(*kept, atol=0.01)
    x = embedded_linear.probe(DATA["inputs"], 200, seed=2).numpy()
    miss = descent.features(view, w, x)[-1] @ view.answers.T - x @ v.T
    assert descent.descend(view, w, v, excess=1e9, inputs=DATA["inputs"])[1] == pytest.approx(np.square(miss).sum(1).mean())


def test_descent_halves_a_rate_that_is_too_large():
    v, view, w = case()
    ended, excess = descent.descend(view, w, v, eta=2.0, excess=1e-6, inputs=DATA["inputs"])
    assert excess <= 1e-6
    assert np.isfinite(product(view, ended)).all()


def test_an_inserted_matrix_is_seen_by_the_layers_alone():
    _, view, w = case()
    x = embedded_linear.probe(DATA["inputs"], 32).numpy()
    for spread, alike in ((0.0, True), (0.7, False)):
        changed = descent.inserted(w, 1, spread)
        np.testing.assert_allclose(product(view, changed), product(view, w), atol=1e-10)
        values = np.diag(layer_cka(descent.features(view, changed, x), descent.features(view, w, x)))[1:-1]
        assert (values > 1 - 1e-9).all() if alike else (values < 0.99).all()


# --- the recipes ------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def small():
    return linear.linear.run(2, 3, 3, 4, **TINY, factors=(1.0, 0.3), lams=(0.1,), steps=1000, frames=4)


def test_recipe_at_tiny_settings(small):
    assert dict(small.sizes) == {"arm": 3, "time": 5, "seed": 2, "layer": 7, "other": 7, "net": 2, "shuffle": linear.SHUFFLES,
                                 "kind": 2, "view": 2}  # fmt: skip
    np.testing.assert_allclose(small["eta"], [0.03, 0.009, 0.03])
    np.testing.assert_allclose(small["lam"], [0, 0, 0.1])
    assert small["time"].values.tolist() == [0, 250, 500, 750, 1000]
    assert small["layer"].values.tolist() == ["A0", "A1", "A2", "B0", "B1", "B2", "B3"]
    assert small["layer"].values[small["hidden"].values].tolist() == ["A1", "B1", "B2"]
    assert all(np.isfinite(v).all() for v in small.data_vars.values())
    np.testing.assert_allclose(np.diagonal(small["cka"], axis1=-2, axis2=-1), 1)
    np.testing.assert_allclose(small["cka"], small["cka"].transpose("arm", "time", "seed", "other", "layer").values, atol=1e-12)
    np.testing.assert_array_equal(small["cka"].isel(time=0, arm=0), small["cka"].isel(time=0, arm=2))
    assert (small["excess"].isel(time=-1, arm=0) < 0.1 * small["excess"].isel(time=0, arm=0)).all()
    assert (small["gd_excess"] <= small["excess"].isel(time=-1, arm=0) + 1e-12).all()
    np.testing.assert_allclose(small["inserted"].sel(kind="orthogonal"), small["cka"].isel(arm=0, time=-1), atol=1e-9)
    assert abs(small["cka_debiased"].isel(arm=0) - small["cka"].isel(arm=0, time=-1)).max() < 0.1
    assert 0 < float(small["null"].mean()) < 0.05
    assert abs(float(small["null_debiased"].mean())) < 0.01


def test_a_seed_gives_the_same_whatever_stands_beside_it(small):
    alone = linear.linear.run(2, 3, 3, 4, **TINY | {"n_seeds": 1}, factors=(1.0, 0.3), lams=(0.1,), steps=1000, frames=4)
    xr.testing.assert_identical(alone, small.isel(seed=[0]))


def test_training_aligns_what_started_apart():
    data = linear.linear.run(2, 3, 3, 4, **DATA, eta=0.04, batch_size=8, steps=8000, n_seeds=2, factors=(1.0,), lams=(), frames=2)
    assert claims.between(claims.final(data)).min() > 0.99
    assert claims.between(data["cka"].isel(arm=0, time=0)).max() < 0.95
    assert data["to_kernel"].isel(arm=0, time=-1).values[:, data["hidden"]].min() > 0.99


def test_pace_and_minima_at_tiny_settings():
    paces = pace.pace.run(2, 3, 3, 4, **TINY, steps=200)
    assert paces["steps"].values.tolist() == [[200, 200, 200], [200, 800, 3200]]
    np.testing.assert_array_equal(paces["cka"].isel(eta=0, clock=0), paces["cka"].isel(eta=0, clock=1))
    assert not np.allclose(paces["cka"].isel(eta=1, clock=0), paces["cka"].isel(eta=1, clock=1))
    found = minimum.minima.run((0.03, 0.003), shapes=((2, 3), (3, 4)), **DATA, n_seeds=2)
    assert found["cka"].shape == (3, 2, 3, 3)
    worst = 1 - found["cka"].min(("layer", "other"))
    assert (worst.sel(eta=0.003) < worst.sel(eta=0.03) / 50).all()
    assert (worst.sel(eta=0.0) > 0.01).all()
    np.testing.assert_allclose(found["excess"].sel(eta=0.0), 0, atol=1e-9)


BAD = [({"depth_a": 1}, "depths 1 and 4"), ({"width_b": 4}, "widths 8 and 4"), ({"eta": -1}, "eta=-1"), ({"steps": 0}, "steps=0"),
       ({"batch_size": 0.5}, "batch_size=0.5"), ({"noise": (1, 0)}, "noise=0"), ({"noise": (1, 1)}, "2 noises"),
       ({"spectrum": (0.0,) * 5}, "spectrum="), ({"stretch": (0, 1)}, "stretch=0"), ({"lams": (-1,)}, "lams="),
       ({"frames": 0}, "frames=0"), ({"factors": (0,)}, r"factors=\[0.0\]"), ({"inputs": (1, 1)}, "2 inputs"),
       ({"start": 0}, "start=0")]  # fmt: skip


@pytest.mark.parametrize(("bad", "message"), BAD)
def test_bad_settings(bad, message):
    with pytest.raises(ValueError, match=message) as caught:
        linear.linear.run(**bad)
    assert "\n" not in str(caught.value)


def test_bad_settings_of_the_others():
    with pytest.raises(ValueError, match="divisors"):
        pace.pace.run(divisors=(1, 0))
    with pytest.raises(ValueError, match=r"etas=\[0.1, 0.0\]"):
        minimum.minima.run((0.1, 0))
    with pytest.raises(ValueError, match="rise"):
        pace.pace.run(divisors=(4, 1))
    with pytest.raises(ValueError, match="fall"):
        minimum.minima.run((0.001, 0.01))
    with pytest.raises(ValueError, match="widths 3 and 3"):
        minimum.minima.run(shapes=((2, 3),))


# --- the claims, on numbers made up by hand -----------------------------------------------------------------------------
def table(worst, other=1.0, spread=1e-4):
    """CKA [seed, layer, other] of A0 A1 A2 B0 B1 B2 B3: `worst` for hidden pairs, `other` for all else but the diagonal."""
    values = np.full((5, 7, 7), other)
    hidden = networks.layers(2, 3)["hidden"][1]
    values[:, np.outer(hidden, hidden)] = worst
    values = values + spread * np.linspace(-1, 1, 5)[:, None, None]
    values[:, np.arange(7), np.arange(7)] = 1
    return values


def made(**over):
    """What `linear` returns where all is as the register expects."""
    spread = 1e-4 * np.linspace(-1, 1, 5)
    values = {
        "cka": (("arm", "time", "seed", "layer", "other"),
                np.stack([[table(0.4), table(0.996, 0.7)], [table(0.4), table(0.7, 0.7)]])),
        "to_kernel": (("arm", "time", "seed", "layer"), np.broadcast_to(0.997 + spread[:, None], (2, 2, 5, 7)).copy()),
        "to_inputs": (("arm", "seed", "layer"), np.broadcast_to(0.8 + spread[:, None], (2, 5, 7)).copy()),
        "excess": (("arm", "time", "seed", "net"), np.full((2, 2, 5, 2), 0.01)),
        "gd": (("seed", "layer", "other"), table(0.5)),
        "gd_excess": (("seed", "net"), np.full((5, 2), 0.009)),
        "inserted": (("kind", "seed", "layer", "other"), np.stack([table(0.996), table(0.6)])),
        "inserted_excess": (("kind", "seed", "net"), np.full((2, 5, 2), 0.01)),
        "trap": (("view", "seed", "layer", "other"), np.stack([table(0.97), table(0.6)])),
        "size": (("arm", "seed", "layer"), np.broadcast_to([1, 1, 1, 1, 1.5, 2, 1] + spread[:, None], (2, 5, 7)).copy()),
    }  # fmt: skip
    where = networks.layers(2, 3) | {"lam": ("arm", [0, 0.1]), "kind": ["orthogonal", "invertible"], "view": ["none", "frozen"]}
    return xr.Dataset(values, coords=where).assign(**over)


EXPECTED = {"edln": ("holds", "fails"), "within": ("holds", "fails"), "kernel": ("holds", "fails"), "perfect": ("fails", "holds"),
            "most_are_not": ("holds", "fails"), "weight_decay": ("holds", "fails"), "needs_views": ("holds", "fails"),
            "all_layers": ("fails", "holds")}  # fmt: skip


@pytest.mark.parametrize("name", EXPECTED)
def test_claims_as_registered(name):
    assert verdicts(getattr(claims, name)(made())) == EXPECTED[name]


def test_claims_the_other_way_round():
    good = made()
    swapped = good.assign(cka=good["cka"].isel(time=[1, 0]), gd=good["cka"].isel(arm=0, time=1))
    for name in ("edln", "within", "all_layers"):
        assert getattr(claims, name)(swapped)[0].verdict == "fails"
    assert claims.edln(swapped)[2].verdict == "holds"
    assert claims.kernel(good.assign(to_kernel=good["to_kernel"] - 0.1))[0].verdict == "fails"
    assert claims.weight_decay(good.assign_coords(lam=("arm", [0.1, 0.0])))[0].verdict == "fails"
    turned = good.isel(kind=[1, 0], view=[1, 0]).assign_coords(kind=good["kind"], view=good["view"])
    assert verdicts(claims.most_are_not(turned)) == ("fails", "holds")
    assert verdicts(claims.needs_views(turned)) == ("fails", "holds")
    assert claims.perfect(good.assign(size=good["size"] * 0 + 1))[0].verdict == "holds"
    assert claims.most_are_not(good.assign(inserted_excess=good["inserted_excess"] + 1e-3))[0].verdict == "inconclusive"
    assert claims.edln(good.assign(gd_excess=good["gd_excess"] * 2))[2].verdict == "inconclusive"  # not at the same loss
    holes = good["cka"].copy()
    holes[0, 1, 0, 1, 4] = np.nan  # a pair that is not known is no good pair
    assert claims.edln(good.assign(cka=holes))[0].verdict == "inconclusive"
    wide = xr.DataArray(0.05 * np.linspace(-1, 1, 5), dims="seed")
    assert claims.edln(good.assign(cka=good["cka"] + wide))[0].verdict == "inconclusive"


def test_median_and_distance_by_hand():
    assert claims.median([0.9, 0.99, 0.995])[0] == 0.99
    # kernels of sizes 1 and 2 with a CKA of 0.996: √(1 + 4 - 4·0.996)/√2
    found = claims.distance(made(), scaled=False)
    np.testing.assert_allclose(found, np.sqrt((1 + 4 - 4 * 0.996) / 2), atol=2e-3)
    np.testing.assert_allclose(claims.distance(made(), scaled=True), np.sqrt(2 * 0.004), atol=2e-3)


@pytest.mark.parametrize(("steps", "expected"), [((0.97, 0.8, 0.65), "holds"), ((0.97, 0.96, 0.95), "fails")])
def test_eta_on_made_up_numbers(steps, expected):
    level = (0.97, 0.965, 0.962)
    values = np.array([[table(c) for c in row] for row in (steps, level)])
    where = networks.layers(2, 3) | {"clock": ["steps", "eta2t"], "eta": [0.02, 0.01, 0.005]}
    paces = xr.Dataset({"cka": (("clock", "eta", "seed", "layer", "other"), values)}, coords=where)
    assert verdicts(claims.eta(paces)) == (expected, "fails")


@pytest.mark.parametrize(("power", "expected"), [(2.05, "holds"), (1.0, "fails")])
def test_minimum_on_made_up_numbers(power, expected):
    rates, noise = np.array([0.01, 0.001]), 1 + 0.01 * np.arange(5)
    apart = np.concatenate([[10 * r**power * noise**k for k, r in enumerate(rates)], [np.full(5, 0.5)]])
    values = np.ones((3, 5, 2, 2))
    values[..., 0, 1] = values[..., 1, 0] = 1 - apart
    data = xr.Dataset({"cka": (("eta", "seed", "layer", "other"), values)}, coords={"eta": [*rates, 0.0]})
    assert verdicts(claims.minimum_of_f(data)) == (expected, "fails")


def test_every_claim_of_the_linear_half_is_decided():
    wanted = (
        "edln",
        "within",
        "kernel",
        "eta",
        "minimum-of-F",
        "most-are-not",
        "weight-decay",
        "needs-views",
        "all-layers",
        "perfect",
    )
    assert set(claims.checks(None, None, None)) == {f"platonic.{name}" for name in wanted}
