"""Ways to break alignment and neural collapse at tiny settings, against plain loops, and their claims on data made up by hand."""

import numpy as np
import pytest
import torch
import xarray as xr
from claimed import verdicts

from thermolab.engine.experiment import Experiment
from thermolab.phenomena.platonic_alignment import breaking, collapse
from thermolab.phenomena.platonic_alignment import claims_breaking as claims
from thermolab.systems import embedded_linear

SHORT = {"steps": 400, "n_seeds": 2}


# --- what breaks alignment --------------------------------------------------------------------------------------
def trained(which, depth, width, *, lam=0.0, noise=1.0, steps=400, seed=0):
    """Product of the matrices up to each hidden layer, on plain inputs, and of all."""
    v, view = embedded_linear.target(seed=seed), embedded_linear.view(6, 5, seed=2 * seed + which)
    net = embedded_linear.network(view, depth, width, embedded_linear.answers(v, noise * np.array(embedded_linear.NOISE), seed=seed))
    weights = 0.5 * net.start(torch.tensor([which]), seed)
    run = Experiment(net, eta=0.02, lam=lam, batch_size=8, streams=[which], weights=weights, seed=seed)
    begin = 3 * steps // 4
    run.advance(begin)
    for k in range(20):
        run.set(eta=0.02 * (1 - (k + 0.5) / 20))
        run.advance(begin + (steps - begin) * (k + 1) // 20 - run.state.step)
    products = [view.inputs]
    for matrix in embedded_linear.matrices(net, run.state.weights):
        products.append(matrix[0].numpy() @ products[-1])
    return products[1:-1], view.answers @ products[-1]


def test_pairs_against_a_plain_loop():
    """For inputs of unit covariance the CKA of linear features Hx and Kx is |HKᵀ|²/(|HHᵀ| |KKᵀ|)."""
    found = breaking.pairs.run({"both": breaking.both(lam=0.05), "B alone": breaking.other(noise=0.5)}, **SHORT)
    assert dict(found.sizes) == {"case": 2, "seed": 2, "layer_a": 2, "layer_b": 3, "net": 2}
    for case, changes in (("both", ({"lam": 0.05}, {"lam": 0.05})), ("B alone", ({}, {"noise": 0.5}))):
        (a, f), (b, g) = (trained(k, *shape, **changes[k]) for k, shape in enumerate(((3, 8), (4, 12))))
        size = np.linalg.norm
        cka = [[size(h @ k.T) ** 2 / size(h @ h.T) / size(k @ k.T) for k in b] for h in a]
        np.testing.assert_allclose(found["cka"].sel(case=case).isel(seed=0), cka, rtol=1e-4)
        excess = [size(m - embedded_linear.target(seed=0)) ** 2 for m in (f, g)]
        np.testing.assert_allclose(found["excess"].sel(case=case).isel(seed=0), excess, rtol=1e-3)


def test_results_of_a_seed_do_not_depend_on_their_number_nor_on_other_cases():
    cases = {"none": breaking.both(), "saddle": breaking.other(live=2)}
    two = breaking.pairs.run(cases, **SHORT)
    one = breaking.pairs.run({"saddle": cases["saddle"]}, **(SHORT | {"n_seeds": 1}))
    xr.testing.assert_equal(one, two.sel(case=["saddle"]).isel(seed=[0]))


def test_silent_neurons_stay_silent():
    found = breaking._train(
        changes={"live": 2}, which=1, shape=(4, 12), seed=0, eta=0.02, batch_size=8, steps=400, spectrum=embedded_linear.SPECTRUM,
        noises=embedded_linear.NOISE, d_x=6, start=0.5, device="cpu",
    )  # fmt: skip
    for h in found[0]:
        assert (h[:, 2:] == 0).all()
        assert (np.abs(h[:, :2]).max(0) > 0).all()
    assert found[1] > 0.9**2 + 0.7**2  # three of five directions are not learnt


def test_a_view_of_lower_rank():
    matrix = embedded_linear.view(6, 5).inputs
    low = breaking._truncated(matrix, 4)
    assert np.linalg.matrix_rank(low) == 4
    full, kept = (np.linalg.svd(m, compute_uv=False) for m in (matrix, low))
    np.testing.assert_allclose(kept[:4], full[:4])


def test_what_breaks_and_what_does_not():
    """An orthogonal map of the labels and a view of full rank change nothing; the six ways all do, at the lab's size."""
    harmless = {
        "turned": breaking.other(labels=(1.0, 1.0)),
        "all seen": breaking.other(rank=6),
        "all live": breaking.other(live=12),
    }
    cases = {breaking.BASE: breaking.both()} | harmless | breaking.WAYS
    drop = claims.lowered(breaking.pairs.run(cases, steps=4000, n_seeds=2)).mean("seed")
    assert (np.abs(drop.sel(case=list(harmless))) < 0.01).all()
    assert (drop.sel(case=list(breaking.WAYS)) > 0.04).all()


def test_transformed_labels_are_learnt():
    found = breaking.pairs.run({"labels": breaking.WAYS["labels transformed"]}, steps=3000, n_seeds=1)
    assert (found["excess"] < 0.15).all()


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"cases": {"x": breaking.both(lamb=1)}}, "changes ['lamb'] are unknown; allowed: lam, labels, live"),
        ({"cases": {"x": breaking.other(rank=0)}}, "rank=0 is not allowed; allowed: a whole number, 1 or more"),
        ({"cases": {"x": breaking.both(answers=9)}}, "allowed: 5 answers at the most"),
        ({"cases": {"x": breaking.both(time=-1.0)}}, "time=-1.0 is not allowed"),
        ({"depth_a": 1}, "depth=0 is not allowed; allowed: a whole number, 1 or more"),
        ({"eta": 0.0}, "eta=0.0 is not allowed; allowed: a positive number"),
        ({"noise": (1.0,)}, "5 singular values, 1 noises, d_x=6"),
    ],
)
def test_bad_settings_get_one_line(settings, text):
    with pytest.raises(ValueError, match=r"^[^\n]*$") as error:
        breaking.pairs.run(**settings)
    assert text in str(error.value)


# --- neural collapse --------------------------------------------------------------------------------------------
def predicted(target, share):
    """CKA with the labels of the kernel G, from the moments of the data themselves."""
    learnt, truth = collapse.task(target, share, seed=1)
    x, y = learnt.x.double().numpy(), learnt.y.double().numpy()
    s_x = x.T @ x / len(x)
    v = np.linalg.solve(s_x, x.T @ y / len(x)).T
    noise = (y - x @ v.T).T @ (y - x @ v.T) / len(x)
    values, vectors = np.linalg.eigh(s_x)
    root = (vectors * np.sqrt(values)) @ vectors.T
    values, vectors = np.linalg.eigh(root @ v.T @ noise @ v @ root)
    half = np.linalg.solve(root, vectors * np.maximum(values, 0) ** 0.25)
    return collapse.collapsed(x[:1000] @ half, truth[:1000])


def test_the_kernel_of_theory_is_that_of_the_labels():
    labels, nc1, nc2 = predicted("labels", 0.3)
    assert labels > 0.999
    assert nc1 < 1e-2
    assert nc2 < 0.03
    labels, nc1, nc2 = predicted("regression", 0.3)
    assert labels < 0.95
    assert nc1 < 1e-2
    assert nc2 > 0.3


def test_task_has_unit_inputs_and_its_share_of_other_labels():
    learnt, truth = collapse.task("labels", 0.5, classes=4, scatter=3)
    x, y = learnt.x.double().numpy(), learnt.y.double().numpy()
    np.testing.assert_allclose(x.T @ x / len(x), np.eye(6), atol=0.03)
    assert (y.argmax(1) != truth).mean() == pytest.approx(0.5 * 3 / 4, abs=0.01)
    np.testing.assert_allclose(y.sum(1), 0, atol=1e-6)
    exact, _ = collapse.task("labels", 0.0)
    assert len(np.unique(exact.y, axis=0)) == 5


def test_measures_of_collapse():
    truth, rng = np.arange(40) % 4, np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(6, 6)))[0][:4]
    np.testing.assert_allclose(collapse.collapsed(3 * np.eye(4)[truth] @ turn + 1, truth), (1, 0, 0), atol=1e-7)
    means = np.diag([3.0, 1.0, 1.0, 1.0])
    cka, nc1, nc2 = collapse.collapsed(means[truth], truth)
    assert cka < 0.9
    assert nc1 == 0
    assert nc2 > 0.4
    scattered = np.concatenate([np.eye(4)[truth], np.where(np.arange(40) // 4 % 2, 1.0, -1.0)[:, None]], 1)
    cka, nc1, nc2 = collapse.collapsed(scattered, truth)
    assert nc1 == pytest.approx(1 / 0.75)
    assert nc2 == pytest.approx(0, abs=1e-9)
    assert cka < 0.9


def test_labels_collapse_and_regression_does_not():
    found = collapse.collapse.run(steps=4000, n_seeds=2)
    assert dict(found.sizes) == {"target": 2, "share": 2, "seed": 2, "layer": 5}
    assert found["layer"].values.tolist() == ["A1", "A2", "B1", "B2", "B3"]
    mean = found.mean(("layer", "seed"))
    assert mean["labels"].sel(target="labels", share=0.3) > 0.98
    for other in ({"target": "regression", "share": 0.3}, {"target": "labels", "share": 0.0}):
        assert mean["labels"].sel(other) < 0.92
    assert mean["nc1"].sel(target="regression", share=0.3) < 0.05 < mean["nc1"].sel(target="labels", share=0.0)
    one = collapse.collapse.run((0.3,), steps=4000, n_seeds=1)
    xr.testing.assert_equal(one, found.sel(share=[0.3]).isel(seed=[0]))


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"classes": 1}, "classes=1, widths 8, 12; allowed: 2 classes or more"),
        ({"shares": (0.3, 1.0)}, "shares=(0.3, 1.0); allowed: 0 to below 1"),
        ({"width_a": 3}, "width of classes - 1 or more"),
        ({"scatter": 0}, "scatter=0 is not allowed"),
    ],
)
def test_bad_classes_get_one_line(settings, text):
    with pytest.raises(ValueError, match=r"^[^\n]*$") as error:
        collapse.collapse.run(**settings)
    assert text in str(error.value)


# --- claims on data made up by hand -----------------------------------------------------------------------------
def made_up(spread=0.002, **values):
    """CKA .998 where there is noise, .6 where not, .8 for each way to break it; other values by the name of the case."""
    cases = {name: 0.6 if "no noise" in name else 0.998 for name in breaking.CASES} | dict.fromkeys(breaking.WAYS, 0.8)
    cases |= {k.replace("_", " "): v for k, v in values.items()}
    cka = np.array(list(cases.values()))[:, None, None, None] + spread * np.random.default_rng(0).normal(
        size=(len(cases), 5, 2, 3)
    )
    return xr.Dataset({"cka": (("case", "seed", "layer_a", "layer_b"), cka)}, coords={"case": list(cases)})


def test_ways_on_made_up_numbers():
    assert verdicts(claims.ways(made_up())) == ("holds", "fails")
    assert verdicts(claims.ways(made_up(saddle=0.995))) == ("fails", "fails")
    assert claims.ways(made_up(saddle=0.98, spread=0.03))[0].verdict == "inconclusive"


def test_not_simplicity_on_made_up_numbers():
    assert verdicts(claims.not_simplicity(made_up())) == ("holds", "fails")
    assert verdicts(claims.not_simplicity(made_up(narrow=0.9))) == ("fails", "fails")
    wide = made_up(**{breaking.QUIET.format("wide"): 0.999})  # a large network would align by itself
    assert verdicts(claims.not_simplicity(wide)) == ("holds", "holds")
    assert claims.not_simplicity(made_up(narrow=0.98, spread=0.05))[0].verdict == "inconclusive"


@pytest.mark.parametrize(
    ("labels", "spread", "verdict"), [(0.99, 1e-3, "holds"), (0.95, 1e-3, "fails"), (0.98, 0.02, "inconclusive")]
)
def test_neural_collapse_on_made_up_numbers(labels, spread, verdict):
    cka = np.full((2, 2, 5, 3), 0.8)
    cka[0, 0] = labels
    cka += spread * np.random.default_rng(0).normal(size=(1, 1, 5, 1))
    data = xr.Dataset(
        {"labels": (("target", "share", "seed", "layer"), cka)}, coords={"target": list(collapse.TARGETS), "share": [0.3, 0.0]}
    )
    check, _, control = claims.neural_collapse(data)
    assert (check.verdict, control.verdict) == (verdict, "fails")
