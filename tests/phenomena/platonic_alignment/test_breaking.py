"""Ways to break alignment at tiny settings, against a plain loop, and their claims on data made up by hand."""

import itertools

import numpy as np
import pytest
import torch
import xarray as xr
from claimed import verdicts
from phenomena.platonic_alignment import made_up as made

from thermolab.engine.experiment import Experiment
from thermolab.phenomena.platonic_alignment import breaking, networks, theory
from thermolab.systems import embedded_linear

SHORT = {"steps": 400, "n_seeds": 2}


def trained(which, depth, width, *, lam=0.0, noise=1.0, steps=400, seed=0):
    """Product of the matrices up to each hidden layer, on plain inputs, and of all."""
    v, view = embedded_linear.target(seed=seed), embedded_linear.view(6, 5, seed=2 * seed + which)
    net = embedded_linear.network(
        view, depth, width, embedded_linear.answers(v, noise * np.array(embedded_linear.NOISE), seed=seed)
    )
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
    short, live = networks.Training(steps=400), breaking.Changes(live=2)
    found = breaking._trained(live, 1, (4, 12), short, embedded_linear.SPECTRUM, embedded_linear.NOISE, 6, seed=0, device="cpu")
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
    drop = breaking.lowered(breaking.pairs.run(cases, steps=4000, n_seeds=2)).mean("seed")
    assert (np.abs(drop.sel(case=list(harmless))) < 0.01).all()
    assert (drop.sel(case=list(breaking.WAYS)) > 0.04).all()


def test_transformed_labels_are_learnt():
    found = breaking.pairs.run({"labels": breaking.WAYS["labels transformed"]}, steps=3000, n_seeds=1)
    assert (found["excess"] < 0.15).all()


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"cases": {"x": breaking.both(answers=9)}}, "answers=9 are too many; allowed: 5 at the most, as spectrum has"),
        ({"depth_a": 1}, "depth_a=1 is out of range; allowed: a whole number, 2 or more"),
        ({"eta": 0.0}, "eta=0.0 is not positive and finite; allowed: a positive number"),
        ({"noise": (1.0,)}, "noise=[1.0] has another length; allowed: 5 numbers, as spectrum has"),
        ({"d_x": 4}, "d_x=4 is too small; allowed: 5 or more, as spectrum has"),
    ],
)
def test_settings_that_are_refused(settings, text):
    with pytest.raises(ValueError, match=r"^[^\n]*$") as error:
        breaking.pairs.run(**settings)
    assert text in str(error.value)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"rank": 0}, "rank=0 is out of range; allowed: a whole number, 1 or more"),
        ({"time": -1.0}, "time=-1.0 is not positive and finite; allowed: a positive number"),
        ({"noise": np.inf}, "noise=inf is negative or not finite; allowed: 0 or a positive number"),
    ],
)
def test_changes_that_are_refused(changes, text):
    with pytest.raises(ValueError, match=text):
        breaking.both(**changes)
    with pytest.raises(TypeError, match="lamb"):
        breaking.both(lamb=1)


# --- claims on data made up by hand -----------------------------------------------------------------------------
made_up = made.pairs


def test_ways_on_made_up_numbers():
    assert verdicts(breaking.ways(made_up())) == ("holds", "fails")
    assert verdicts(breaking.ways(made_up(saddle=0.995))) == ("fails", "fails")
    assert breaking.ways(made_up(saddle=0.98, spread=0.03))[0].verdict == "inconclusive"


def test_weight_decay_on_made_up_numbers():
    assert verdicts(breaking.weight_decay(made_up())) == ("holds", "fails")
    assert verdicts(breaking.weight_decay(made_up(weight_decay=0.99))) == ("fails", "fails")


def test_the_dose_that_decides_is_that_of_the_rule():
    """Weight decay as strong as the entropic force, ½λ|w|² = (η/4)E|g|² = η L q/B; the time of one e-folding, 1/(η² rate)."""
    default, decay, folds = networks.Training(), [], []
    for seed, (which, (depth, _)) in itertools.product(range(20), enumerate(networks.Shapes().each)):
        v, view = embedded_linear.target(seed=seed), embedded_linear.view(6, 5, seed=2 * seed + which)
        matrices, q = theory.minimum(view, v, embedded_linear.NOISE, depth)
        size = sum(np.square(m).sum() for m in matrices)
        decay.append(2 * default.eta * depth * q / (default.batch_size * size))
        folds.append(1 / (default.eta**2 * theory.rate(matrices, q, default.batch_size) * default.steps))
    assert np.mean(decay) == pytest.approx(breaking.DECAY, rel=0.1)
    assert np.mean(folds) == pytest.approx(breaking.FOLD, rel=0.1)
    assert {way: doses[1.0] for way, doses in breaking.DOSES.items()} == breaking.WAYS


def test_the_response_begins_where_nothing_is_broken():
    found = breaking.response(made_up(**{"saddle, 2": 0.7, "saddle, 3": 0.6}), "saddle").mean("seed")
    assert found["dose"].values.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(found, [0.998, 0.8, 0.7, 0.6], atol=2e-3)


def test_not_simplicity_on_made_up_numbers():
    assert verdicts(breaking.not_simplicity(made_up())) == ("holds", "fails")
    assert verdicts(breaking.not_simplicity(made_up(narrow=0.9))) == ("fails", "fails")
    wide = made_up(**{breaking.QUIET.format("wide"): 0.999})  # a large network would align by itself
    assert verdicts(breaking.not_simplicity(wide)) == ("holds", "holds")
    assert breaking.not_simplicity(made_up(narrow=0.98, spread=0.05))[0].verdict == "inconclusive"
