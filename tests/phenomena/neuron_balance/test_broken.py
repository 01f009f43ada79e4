"""Each claim's physics broken once: an equation, an estimator, the update, or what was measured; its verdict must change.

Data on which each claim comes out as registered are made up by the tests of its recipe; smoke decides too few of them. What is
in a recipe is run, broken, at a small size.
"""

import numpy as np
import pytest
import xarray as xr
from phenomena.neuron_balance import test_architectures as whole
from phenomena.neuron_balance import test_clock as on_time
from phenomena.neuron_balance import test_linear as two_layers
from phenomena.neuron_balance import test_networks as single

from thermolab import claims
from thermolab.instruments import symmetry
from thermolab.phenomena.neuron_balance import ablation, learners, networks, theory, twins


def everything():
    """{name: dataset} of which each claim of the notebook comes out as registered."""
    rng, three = np.random.default_rng(0), np.array([0.99, 1.0, 1.01])
    good, stuck = single.curves(lambda eta, b: 8, rng), single.curves(lambda eta, b: 0.1, rng)
    even = two_layers.made(two_layers.EVEN, (three, three), (1.0, 1.0), 1.0 + three / 100)
    uneven = two_layers.made(two_layers.UNEVEN, (4 * three**0.1, 6 * three**0.1), (4.0, 6.0), 1.5 * three)
    learnt = theory.soft_threshold([1.0, 0.5, 0.05], 0.1) + 1e-4 * rng.normal(size=(5, 3))
    found = {"relu": good, "tanh": stuck, "decayed": single.shifted(1.0, noise=0.01), "linear": {"even": even, "uneven": uneven}}
    found["thresholded"] = xr.Dataset({"singular": (("seed", "i"), learnt), "target": ("i", [1.0, 0.5, 0.05]), "tau": 0.1})
    names = ("mlp", "cnn", "resnet", "transformer")
    found |= dict(zip(names, whole.FOUR, strict=True)) | {"cnn_tanh": whole.TANH}
    found |= {"mlp_digits": whole.plain(first=-0.3), "mlp_even": whole.plain(), "mlp_adam": whole.plain(first=1.5)}
    found |= {"mlp_adagrad": found["mlp_adam"], "skewed": on_time.relaxing(n=100), "skewed_slow": on_time.relaxing(n=100, seed=1)}
    found |= {"skewed_flow": on_time.relaxing(rate=0.0), "skewed_momentum": on_time.relaxing(n=100, seed=2)}
    return found | {"twins": twin_paths(), "alike": neurons(), "matrix": layers()} | graded()


def twin_paths(permuted=1e-15, rescaled=0.5):
    apart = np.array([permuted, rescaled])[:, None, None] * three_seeds()
    return xr.Dataset({"apart": (("arm", "time", "seed"), apart)}, {"arm": list(twins.ARMS)})


def three_seeds():
    return np.array([1.0, 1.05, 0.95])


def neurons(near=0.8, more=-2.0):
    arms = {"flow": 6.0, "sgd": 6.0 + more, "own batches": 20.0, "near": 4.0, "same": np.nan}
    distance = {"flow": 1e-6, "sgd": 1e-7, "own batches": 1.0, "near": near, "same": 0.0}
    values = [np.array(list(part.values()))[:, None, None] * three_seeds() for part in (distance, arms)]
    data = {name: (("arm", "time", "seed"), v) for name, v in zip(("distance", "growth"), values, strict=True)}
    return xr.Dataset(data, {"arm": list(arms)})


def layers():
    below = np.ones((2, 4, 3, 1, 2, 2)) * three_seeds()[:, None, None, None]
    dims = ("eta", "time", "seed", "pair", "row", "column")
    above = below * np.array([1.01, 3.0])[:, None, None, None, None, None]
    return xr.Dataset({"above": (dims, above), "below": (dims, below)}, {"eta": [0.02, 0.001]})


def graded(power=2):
    """Imbalances that fall as exp(-(η/0.01)^power) in as many steps, and alike over η²t/B."""
    rng = np.random.default_rng(3)

    def arm(eta, rate):
        return single.curves(lambda *_: rate, rng, arms=((eta, 8),), noise=0.01)

    rates = {f"{eta:g}": arm(eta, (eta / 0.01) ** power) for eta in ablation.RATES}
    return {"rates": rates, "clock": single.curves(lambda *_: 0.6, rng, arms=[(eta, 8) for eta in ablation.RATES], noise=0.01)}


def changed(data, claim, value, at=None):
    """A copy of a dataset of an architecture in which the log ratio of the rows `at` (a test of names and reasons) is another."""
    rows = [at(str(n), str(r)) for n, r in zip(data["pair"].values, data["reason"].values, strict=True)]
    w2 = data["w2"].copy()
    w2[np.flatnonzero(rows)] = data["u2"].values[np.flatnonzero(rows)] * np.exp(value * (1 + 0.01 * np.arange(3)))
    return {claim: data.assign(w2=w2)}


def pair(name, reason):
    return not reason


BROKEN = [  # claim, what is broken, what its check becomes
    ("identity", lambda d: {"cnn": d["cnn"].assign(error=d["cnn"]["error"] + 1e-6)}, "fails"),
    ("relu", lambda d: {"relu": d["tanh"]}, "fails"),
    ("time", lambda d: {"relu": single.curves(lambda eta, b: 4e-3 * b / eta, np.random.default_rng(0))}, "fails"),
    ("eta.table", lambda d: graded(power=0), "fails"),
    ("linear.norms", lambda d: {"linear": {k: v.assign(norm_1=1.1 * v["norm_1"]) for k, v in d["linear"].items()}}, "fails"),
    ("linear.soft-threshold", lambda d: {"thresholded": d["thresholded"].assign(tau=0.05)}, "fails"),
    ("weight-decay", lambda d: {"decayed": single.shifted(0.5, noise=0.01)}, "fails"),
    ("mlp", lambda d: changed(d["mlp"], "mlp", 0.3, pair), "fails"),
    ("cnn", lambda d: changed(d["cnn"], "cnn", 0.3, pair), "fails"),
    ("cnn.last", lambda d: changed(d["cnn"], "cnn", 0.01, pair), "holds"),
    ("resnet", lambda d: changed(d["resnet"], "resnet", 0.3, pair), "fails"),
    ("transformer", lambda d: changed(d["transformer"], "transformer", 0.3, pair), "fails"),
    ("transformer.perceptron", lambda d: changed(d["transformer"], "transformer", 0.01, pair), "holds"),
    ("digits", lambda d: {"mlp_digits": d["mlp_even"]}, "holds"),
    ("adam", lambda d: {"mlp_adam": d["mlp_even"]}, "fails"),
    ("adagrad", lambda d: {"mlp_adagrad": d["mlp_even"]}, "fails"),
    ("clock", lambda d: {"skewed_slow": on_time.relaxing(n=100, rate=4.0)}, "fails"),
    ("momentum", lambda d: {"skewed_momentum": on_time.relaxing(n=100, rate=0.01)}, "fails"),
    ("adjacent-layers", lambda d: {"mlp": whole.plain(other=0.01), "resnet": whole.blocks(across=0.01)}, "holds"),
    ("permutation", lambda d: {"twins": twin_paths(permuted=1e-3)}, "fails"),
    ("permutation.unbroken", lambda d: {"alike": neurons(near=0.02)}, "holds"),
    ("permutation.noise", lambda d: {"alike": neurons(more=2.0)}, "fails"),
    ("matrix", lambda d: {"matrix": d["matrix"].assign(above=3 * d["matrix"]["above"])}, "fails"),
    ("sharp-flat", lambda d: {"linear": sharper(d["linear"], 1.5)}, "fails"),
    ("sharp-flat.any-noise", lambda d: {"linear": sharper(d["linear"], 1 / 1.5)}, "holds"),
]


def sharper(runs, factor):
    return {name: data.assign(lambda_max=factor * data["lambda_max"]) for name, data in runs.items()}


@pytest.fixture
def found():
    return everything()


@pytest.mark.parametrize(("claim", "broken", "becomes"), BROKEN)
def test_a_broken_law_is_found(found, claim, broken, becomes):
    right = claims.decide(f"balance.{claim}", found)
    assert right.agrees, right
    wrong = claims.decide(f"balance.{claim}", found | broken(found))
    assert wrong.check.verdict == becomes, wrong.check
    assert not wrong.agrees


def test_every_claim_is_broken_here():
    assert {f"balance.{line[0]}" for line in BROKEN} == set(claims.section("04_neuron_balance"))


# --- the recipes broken ------------------------------------------------------------------------------------------------
def test_a_shift_without_its_factor_of_two_is_found(found, monkeypatch):
    """λ/η in the place of 2λ/η."""
    monkeypatch.setattr(theory, "decay_shift", lambda eta, lam: np.asarray(lam) / np.asarray(eta))
    assert claims.decide("balance.weight-decay", found).check.verdict == "fails"


def test_a_permutation_of_one_side_alone_is_found(monkeypatch):
    """Neurons whose incoming weights trade places and whose outgoing ones stay: no symmetry."""

    def half(pair, weights, order):
        out = weights.clone()
        out[..., pair.incoming] = weights[..., pair.incoming[order]]
        return out

    monkeypatch.setattr(symmetry, "permute", half)
    data = twins.twins.run(steps=20, logs=2, n_data=200, n_seeds=2)
    assert twins.permutation(data).check.verdict != "holds"


def test_steps_that_are_no_multiple_of_the_gradient_lose_the_identity():
    """SGD keeps Δ(|u|² - |w|²) = η² (|g_u|² - |g_w|²) over a window of the recipe's own; Adam does not."""
    gaps = {}
    for optimiser in ("sgd", "adam"):
        net = learners.lessons("mlp", "teacher", 1.0, 200, [0], 1, optimiser)
        run = networks.Experiment(net, eta=1e-3, batch_size=4, replicas=1)
        before = run.state.weights.double()
        run.advance(20)
        (first, _) = symmetry.pairs(net.replicas.module)
        (u, w), (g_u, g_w) = (
            symmetry.squared_norms(first, v)
            for v in (run.state.weights.double().square() - before.square(), net.replicas.squares)
        )
        gaps[optimiser] = float(abs((u - w) - 1e-6 * (g_u - g_w)).max())
    assert gaps["sgd"] < 1e-5 < 100 * gaps["sgd"] < gaps["adam"]
