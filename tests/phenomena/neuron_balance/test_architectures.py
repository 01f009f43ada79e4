"""Balance in whole architectures: recipes at small sizes against plain loops, claims on data made up by hand."""

import numpy as np
import pytest
import torch
import xarray as xr
from claimed import FAILS, HOLDS, verdicts
from torch import nn

from thermolab.engine.experiment import Experiment
from thermolab.instruments import symmetry
from thermolab.phenomena.neuron_balance import architectures as arch
from thermolab.phenomena.neuron_balance import claims_architectures as claims

SMALL = {"steps": 12, "logs": 3, "n_data": 200, "n_seeds": 2, "eta": 1e-3}


@pytest.fixture(scope="module")
def runs():
    return arch.architectures.run(**SMALL)


@pytest.mark.parametrize("arm", arch.ARMS)
def test_start_computes_what_the_teacher_does(arm):
    net, teacher = arch.learner(arm, 0.0, 200, 3)
    pairs = symmetry.pairs(net.replicas.module)
    skewed = arch.skewed(pairs, teacher, 5)
    for weights in (teacher, skewed):
        nn.utils.vector_to_parameters(weights, net.replicas.module.parameters())
        with torch.no_grad():
            torch.testing.assert_close(net.replicas.module(net.data.x), net.data.y, rtol=1e-3, atol=1e-4)
    assert net.data.y.square().mean().item() == pytest.approx(1.0, rel=1e-3)
    loud, streams = arch.learner(arm, 1.0, 200, 3)[0], torch.arange(100)
    squares = loud.gradients(teacher.expand(100, -1), 100, 1, 3, streams).square().mean((0, 1))  # the batches of the recipe
    for pair in pairs:
        u, w = symmetry.squared_norms(pair, squares)
        torch.testing.assert_close(u, w, rtol=0.05, atol=1e-6)
    assert not pairs or (arch.skewed(pairs, teacher, 6) != skewed).any()


def test_squares_against_a_plain_loop():
    """Gradients from torch on the same batches, for each of the steps."""
    net, teacher = arch.learner("mlp", 1.0, 200, 0)
    run = Experiment(net, eta=0.01, batch_size=4, seed=7, weights=teacher[None])
    weights, total = teacher.double(), torch.zeros(len(teacher)).double()
    module = net.replicas.module.double()
    for x, y in net.batches(7, torch.zeros(1, dtype=torch.long), 0, 10, 4):
        nn.utils.vector_to_parameters(weights, module.parameters())
        loss = (module(x[0].double()) - y[0]).square().sum(1).mean()
        g = nn.utils.parameters_to_vector(torch.autograd.grad(loss, list(module.parameters())))
        total += g.square()
        weights = weights - 0.01 * g
    found = arch.mean_squares(run, 10, 0.01)
    assert run.state.step == 10
    torch.testing.assert_close(found[0], total / 10, rtol=1e-3, atol=1e-6)


def test_datasets(runs):
    assert tuple(runs) == arch.ARMS
    for arm, data in runs.items():
        assert data["u2"].dims == ("pair", "time", "seed")
        assert data["time"].values.tolist() == [4, 8, 12]
        assert data["seed"].values.tolist() == [0, 1]
        assert np.isfinite(data["log_ratio"]).all()
        np.testing.assert_allclose(data["log_ratio"], np.log(data["w2"] / data["u2"]))
        module = arch.network(arm)
        good = [r == "" for r in data["reason"].values]
        assert data["pair"].values[good].tolist() == [p.name for p in symmetry.pairs(module)]
        assert (data["error"].values[good] < 1e-10).all()
        assert (data["error"].values[np.logical_not(good)] > 1e-2).all()
    assert set(runs["tanh"]["reason"].values) == {"non-homogeneous activation"}


def test_a_seed_does_not_depend_on_how_many_there_are(runs):
    one = arch.architectures.run(["mlp"], **SMALL | {"n_seeds": 3})["mlp"]
    np.testing.assert_allclose(one["u2"].isel(seed=[0, 1]), runs["mlp"]["u2"], rtol=1e-4)


def test_twins():
    data = arch.twins.run(steps=20, logs=2, n_data=200, n_seeds=2)
    assert data["time"].values.tolist() == [10, 20]
    assert (data["apart"].sel(arm="permuted") < 1e-12).all()
    assert (data["apart"].sel(arm="rescaled") > 0.01).all()


BAD = {"eta": 0.0, "batch_size": 0, "noise_std": -1.0, "steps": 2, "logs": 0, "n_data": 10, "n_seeds": 0}


@pytest.mark.parametrize(("name", "value"), BAD.items())
def test_bad_settings(name, value):
    for recipe in (arch.architectures, arch.twins):
        with pytest.raises(ValueError, match=f"^{name}={value}; allowed: [^\n]*$"):
            recipe.run(**{"logs": 3, name: value})


def test_unknown_arms():
    with pytest.raises(ValueError, match=r"^arm='rnn' is unknown; allowed: mlp, [^\n]*$"):
        arch.architectures.run(["rnn"])
    with pytest.raises(ValueError, match=r"^arms=\[\]; allowed: [^\n]*$"):
        arch.architectures.run([])


# --- claims -------------------------------------------------------------------------------------------------------------
def made(rows, n_time=10, size=1e-3, start=None):
    """A dataset with these rows {name: (reason, log ratio at the end, error)}; three seeds that scatter by `size`."""
    rng = np.random.default_rng(0)
    end = np.array([ratio for _, ratio, _ in rows.values()])
    ratios = np.repeat(end[:, None], n_time, 1)
    if start is not None:
        ratios[:, : n_time // 2] = start
    ratios = ratios[..., None] + size * rng.normal(size=(*ratios.shape, 3))
    variables = {"u2": np.ones(ratios.shape), "w2": np.exp(ratios), "log_ratio": ratios}
    error = np.repeat([[e] for *_, e in rows.values()], 3, 1)
    return xr.Dataset(
        {k: (("pair", "time", "seed"), v) for k, v in variables.items()} | {"error": (("pair", "seed"), error)},
        {"pair": list(rows), "reason": ("pair", [r for r, *_ in rows.values()])},
    )


def plain(pair=0.02, other=0.3, reason=claims.SHORT, error=1e-14, missed=1.0, **more):
    rows = {"0 -> 2": ("", 0.0, error), "2 -> 4": ("", pair, error), "2 -> 4 (no bias)": (reason, other, missed)}
    return made(rows, **more)


def blocks(inside=0.02, across=0.5, start=0.6):
    rows = {"0+1.inner.2 -> 1.inner.0+2": ("", 0.0, 1e-14), "1.inner.0 -> 1.inner.2": ("", inside, 1e-14),
            "0 -> 2": (claims.ACROSS, across, 1.0)}  # fmt: skip
    return made(rows, start=start)


def attention(qk=0.02, vo=-0.03, o1=0.4, qv=-1.0):
    return made({"1.attention.query -> 1.attention.key": ("", qk, 1e-14), "1.attention.value -> 1.attention.out": ("", vo, 1e-14),
                 "1.attention.out -> 1.perceptron.0": ("normalisation, skip connection", o1, 1.0),
                 "1.attention.query -> 1.attention.value": ("side by side, not in a row", qv, 1.0)})  # fmt: skip


def everything(**changed):
    good = {"mlp": plain(), "cnn": plain(), "tanh": plain(reason="non-homogeneous activation"), "resnet": blocks(),
            "transformer": attention()}  # fmt: skip
    return good | changed


@pytest.mark.parametrize(("claim", "arm", "good", "bad"), [
    (claims.mlp, "mlp", plain(), plain(pair=-0.3, other=0.01)),
    (claims.cnn, "cnn", plain(), plain(pair=0.3)),
    (claims.transformer, "transformer", attention(), attention(qk=0.3, qv=0.01)),
    (claims.transformer, "transformer", attention(), attention(vo=-0.3, o1=0.01)),
    (claims.identity, "mlp", plain(), plain(error=1e-3)),
])  # fmt: skip
def test_claims_that_hold_and_fail(claim, arm, good, bad):
    assert verdicts(claim(everything(**{arm: good}))) == HOLDS
    assert claim(everything(**{arm: bad}))[0].verdict == "fails"


def test_controls():
    assert claims.mlp(everything(mlp=plain(other=0.01)))[2].verdict == "holds"
    assert claims.cnn(everything(tanh=plain(reason="tanh", other=0.01)))[2].verdict == "holds"
    assert claims.transformer(everything(transformer=attention(o1=0.01)))[2].verdict == "holds"
    assert claims.identity(everything(resnet=plain(missed=1e-12)))[2].verdict == "holds"


def test_noise_decides_nothing():
    loud = everything(mlp=plain(size=1.0))
    assert claims.mlp(loud)[0].verdict == "inconclusive"


def test_residual_blocks():
    assert verdicts(claims.resnet(everything())) == HOLDS
    assert verdicts(claims.resnet(everything(resnet=blocks(inside=0.3, across=0.01)))) == FAILS


def test_adjacent_layers():
    assert verdicts(claims.adjacent_layers(everything())) == FAILS
    assert claims.adjacent_layers(everything(mlp=plain(other=0.01), resnet=blocks(across=0.01)))[0].verdict == "holds"


def test_permutation():
    def data(permuted, rescaled):
        apart = np.array([permuted, rescaled])[:, None, None] * np.array([1.0, 1.1, 0.9])
        return xr.Dataset({"apart": (("arm", "time", "seed"), apart)}, {"arm": ["permuted", "rescaled"]})

    assert verdicts(claims.permutation(data(1e-15, 0.5))) == HOLDS
    assert verdicts(claims.permutation(data(0.5, 1e-15))) == FAILS


def test_every_claim_is_decided():
    apart = xr.Dataset({"apart": (("arm", "time", "seed"), np.ones((2, 1, 3)))}, {"arm": ["permuted", "rescaled"]})
    found = claims.checks(everything(), apart)
    names = {"identity", "mlp", "cnn", "resnet", "transformer", "adjacent-layers", "permutation"}
    assert set(found) == {f"balance.{name}" for name in names}
    assert all(len(check()) == 3 for check in found.values())
