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
from thermolab.phenomena.neuron_balance import learners, twins
from thermolab.systems.losses import LOSSES

SMALL = {"steps": 12, "logs": 3, "n_data": 200, "n_seeds": 2, "eta": 1e-3, "copies": 2, "warm_up": 0}


@pytest.fixture(scope="module")
def runs():
    return {arm: arch.train.run(arm, **SMALL) for arm in learners.ARMS}


@pytest.mark.parametrize("arm", learners.ARMS)
def test_a_teacher_has_biases_and_answers_of_unit_size(arm):
    module = learners.network(arm, "teacher")
    quiet, loud = (learners.taught(module, 4 if arm == "mlp" else 64, 400, noise, 3) for noise in (0.0, 1.5))
    assert quiet.y.mean(0).abs().max() < 1e-5
    assert quiet.y.square().mean().item() == pytest.approx(1.0, rel=1e-4)
    assert (loud.x == quiet.x).all()
    assert (loud.y - quiet.y).std().item() == pytest.approx(1.5, rel=0.1)
    at_zero = learners.taught(module, 4 if arm == "mlp" else 64, 400, 0.0, 4)
    assert not torch.equal(at_zero.y, quiet.y)


def test_no_student_starts_as_its_teacher():
    """Seed and stream of the first student are those of the first data set, but for the stream of its teacher."""
    net = learners.lessons("mlp", "teacher", 0.0, 200, [0], 1)
    start = net.start(torch.zeros(1, dtype=torch.long), 0)
    outputs = net.replicas.outputs(start, net.data.x)[0]
    assert abs(np.corrcoef(outputs.flatten(), net.data.y.flatten())[0, 1]) < 0.9


def test_doubtful_digits_cannot_be_learnt_by_heart():
    data = learners.doubtful_digits(100, 0.5, 0)
    assert len(data) == 100 * learners.TIMES
    labels = data.y.reshape(learners.TIMES, 100)
    assert torch.equal(data.x[:100], data.x[100:200])
    assert 0.4 < (labels == labels.mode(0).values).float().mean() < 0.8  # 0.55 keep their label
    assert torch.equal(learners.doubtful_digits(100, 0.0, 0).y[:100], learners.doubtful_digits(100, 0.0, 0).y[100:200])


def test_each_replica_learns_its_own_data():
    net = learners.lessons("mlp", "teacher", 1.0, 150, [0, 1, 2], 2)
    sets = [learners.taught(learners.network("mlp", "teacher"), 4, 150, 1.0, s) for s in range(3)]
    batches = list(net.batches(0, torch.arange(6), 5, 300, 4))
    assert len(batches) == 300
    for x, y in batches[::100]:
        for replica in range(6):
            own = {tuple(row.tolist()) for row in torch.cat([sets[replica // 2].x, sets[replica // 2].y], 1)}
            assert all(tuple(row.tolist()) in own for row in torch.cat([x[replica], y[replica]], 1))
    later = list(net.batches(0, torch.arange(6), 300, 5, 4))  # as in one go
    assert torch.equal(later[0][0], batches[295][0])


@pytest.mark.parametrize(("task", "loss"), [("teacher", "squared"), ("digits", "cross-entropy")])
def test_squares_against_a_plain_loop(task, loss):
    """Gradients from torch on the same batches, for each of the steps."""
    net = learners.lessons("mlp", task, 0.5, 200, [0, 1], 1)
    start = net.start(torch.arange(2), 7)
    run = Experiment(net, eta=0.01, batch_size=4, seed=7, weights=start)
    run.advance(10)
    module = learners.network("mlp", task).double()
    for replica in (0, 1):
        weights, total = start[replica].double(), torch.zeros(start.shape[1]).double()
        for x, y in net.batches(7, torch.arange(2), 0, 10, 4):
            nn.utils.vector_to_parameters(weights, module.parameters())
            y = y[replica].double() if task == "teacher" else y[replica]
            g = nn.utils.parameters_to_vector(
                torch.autograd.grad(LOSSES[loss](module(x[replica].double()), y), list(module.parameters()))
            )
            total += g.square()
            weights = weights - 0.01 * g
        torch.testing.assert_close(net.replicas.squares[replica], total, rtol=1e-3, atol=1e-6)


def test_datasets(runs):
    for arm, data in runs.items():
        assert data["u2"].dims == data["in2"].dims == ("pair", "time", "seed")
        assert data["time"].values.tolist() == [4, 8, 12]
        assert data["seed"].values.tolist() == [0, 1]
        assert np.isfinite(data["log_ratio"]).all()
        np.testing.assert_allclose(data["log_ratio"], np.log(data["w2"] / data["u2"]))
        module = learners.network(arm)
        good = [r == "" for r in data["reason"].values]
        assert data["pair"].values[good].tolist() == [p.name for p in symmetry.pairs(module)]
        assert (data["error"].values[good] < 1e-10).all()
        assert (data["error"].values[np.logical_not(good)] > 1e-2).all()
    assert set(runs["cnn_tanh"]["reason"].values) == {symmetry.ACTIVATION}


def test_what_the_identity_says_of_a_window(runs):
    """|u|² - |w|² moves by η² times the sum of |g_u|² - |g_w|² over the steps between two ends of windows."""
    for data in runs.values():
        gap = (data["in2"] - data["out2"]).diff("time")
        moved = SMALL["eta"] ** 2 * 4 * (data["u2"] - data["w2"]).isel(time=slice(1, None))
        pairs = data["reason"] == ""
        np.testing.assert_allclose(gap.where(pairs, drop=True), moved.where(pairs, drop=True), atol=2e-5)


def test_a_seed_does_not_depend_on_how_many_there_are(runs):
    one = arch.train.run("mlp", **SMALL | {"n_seeds": 3})
    np.testing.assert_allclose(one["u2"].isel(seed=[0, 1]), runs["mlp"]["u2"], rtol=1e-4)


def test_an_arm_has_settings_of_its_own(runs):
    eta, batch_size, *_ = arch.USUAL["mlp", "teacher"]
    given = arch.train.run("mlp", "teacher", **SMALL, batch_size=batch_size, noise=arch.NOISE["teacher"])
    xr.testing.assert_equal(given, runs["mlp"])
    assert eta != SMALL["eta"]
    assert not (arch.train.run("mlp", **SMALL | {"eta": None})["u2"] == given["u2"]).all()


def test_a_warm_up_is_steps_at_a_quarter_of_the_rate():
    """Before the first window and in none of them."""
    short = SMALL | {"n_seeds": 1, "copies": 1}
    warm = arch.train.run("mlp", **short | {"warm_up": 5})
    net = learners.lessons("mlp", "teacher", 1.5, 200, [0], 1)
    run = Experiment(net, eta=arch.WARM_UP * SMALL["eta"], batch_size=4)
    run.advance(5)
    run.set(eta=SMALL["eta"])
    run.advance(12)
    (first, _) = symmetry.pairs(net.replicas.module)
    ends = [float(side.sum()) for side in symmetry.squared_norms(first, run.state.weights[0].double().square())]
    last = warm.isel(pair=0, time=-1, seed=0)
    np.testing.assert_allclose([last["in2"], last["out2"]], ends, rtol=1e-5)
    assert warm["time"].values.tolist() == [4, 8, 12]


def test_neurons_alike_stay_so_only_if_they_are_the_same():
    data = twins.alike.run(steps=40, logs=2, n_data=100, copies=2, n_seeds=2)
    assert (data["distance"].sel(arm="same") == 0).all()
    early = data["distance"].isel(time=0)
    assert (early.sel(arm="sgd") < 1e-7).all()
    assert (early.sel(arm="own batches") > 1e-3).all()
    assert (early.sel(arm="near") > 5e-3).all()
    first = twins.alike.run(steps=2, logs=2, n_data=100, copies=2, n_seeds=1)["growth"].isel(time=0)
    assert (abs(first.sel(arm=["flow", "sgd", "near"])) < 0.5).all()  # a difference begins at the size that it is compared with


def test_only_permuted_twins_stay_together():
    data = twins.twins.run(steps=20, logs=2, n_data=200, n_seeds=2)
    assert data["time"].values.tolist() == [10, 20]
    assert (data["apart"].sel(arm="permuted") < 1e-12).all()
    assert (data["apart"].sel(arm="rescaled") > 0.01).all()


BAD = {"eta": 0.0, "batch_size": 0, "steps": 2, "logs": 0, "n_data": 10, "n_seeds": 0}


@pytest.mark.parametrize(("name", "value"), BAD.items())
def test_settings_out_of_range_are_refused_in_one_line(name, value):
    for recipe in (arch.train, twins.twins):
        with pytest.raises(ValueError, match=f"^{name}={value} is [^\n]*; allowed: [^\n]*$"):
            recipe.run(**{"logs": 3, name: value})


def test_an_unknown_architecture_is_refused():
    allowed = ", ".join(learners.ARMS)
    with pytest.raises(ValueError, match=f"^arm='rnn' is unknown; allowed: one of {allowed}$"):
        arch.train.run("rnn")
    with pytest.raises(ValueError, match=f"^arm='rnn' is unknown; allowed: {allowed}$"):
        learners.network("rnn")


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


def plain(pair=0.02, other=0.3, reason=symmetry.BIAS, error=1e-14, missed=1.0, first=0.0, **more):
    rows = {"0 -> 2": ("", first, error), "2 -> 4": ("", pair, error), "2 -> 4 (no bias)": (reason, other, missed)}
    return made(rows, **more)


def convnet(first=0.02, last=-0.2, reason=""):
    rows = {"1 -> 4": (reason, first, 1e-14), "4 -> 8": (reason, last, 1e-14)}
    return made(rows if reason else rows | {"4 -> 8 (no bias)": (symmetry.BIAS, 0.0, 1.0)})


def blocks(whole=0.02, inside=0.4, across=0.5, start=0.6):
    rows = {
        "0+1.inner.2 -> 1.inner.0+2": ("", whole, 1e-14),
        "1.inner.0 -> 1.inner.2": ("", inside, 1e-14),
        "0 -> 2": (symmetry.SKIP, across, 1.0),
    }
    return made(rows, start=start)


def attention(vo=-0.03, perceptron=-0.4, qv=-1.0):
    rows = {
        "1.attention.query -> 1.attention.key": ("", 0.15, 1e-14),
        "1.attention.value -> 1.attention.out": ("", vo, 1e-14),
        "1.perceptron.0 -> 1.perceptron.2": ("", perceptron, 1e-14),
        "1.attention.out -> 1.perceptron.0": (f"{symmetry.NORM}, {symmetry.SKIP}", 0.05, 1.0),
        "1.attention.query -> 1.attention.value": (symmetry.PARALLEL, qv, 1.0),
    }
    return made(rows)


TANH = convnet(first=0.3, reason=symmetry.ACTIVATION)
FOUR = [plain(), convnet(), blocks(), attention()]


@pytest.mark.parametrize(
    ("claim", "good", "bad"),
    [
        (arch.perceptron, [plain()], [plain(pair=-0.3, other=0.01)]),
        (arch.convolutions, [convnet(), TANH], [convnet(first=0.3), TANH]),
        (arch.stream, [blocks()], [blocks(whole=0.3, across=0.01)]),
        (arch.preconditioned, [plain(first=1.5), plain()], [plain(), plain()]),
        (arch.attention, [attention()], [attention(vo=-0.3, qv=0.01)]),
        (arch.identity, FOUR, [plain(error=1e-3), *FOUR[1:]]),
    ],
)
def test_claims_that_hold_and_fail(claim, good, bad):
    decision = claim(*good)
    assert verdicts(decision) == HOLDS
    assert decision.n_seeds == 3
    assert claim(*bad).check.verdict == "fails"


@pytest.mark.parametrize(
    ("claim", "good", "bad"),
    [
        (arch.last_layer, [convnet()], [convnet(last=0.01)]),
        (arch.perceptrons_of_blocks, [attention()], [attention(perceptron=0.01)]),
        (arch.soft_inputs, [plain(first=-0.3), plain()], [plain(), plain()]),
        (arch.adjacent_layers, [plain(), blocks()], [plain(other=0.01), blocks(across=0.01)]),
    ],
)
def test_claims_that_do_not_hold(claim, good, bad):
    assert verdicts(claim(*good)) == FAILS
    assert claim(*bad).check.verdict == "holds"


def test_controls_that_tell_nothing_apart():
    assert arch.perceptron(plain(other=0.01)).control.verdict == "holds"
    assert arch.convolutions(convnet(), convnet(reason=symmetry.ACTIVATION)).control.verdict == "holds"
    assert arch.stream(blocks(across=0.01)).control.verdict == "holds"
    assert arch.attention(attention(qv=0.01)).control.verdict == "holds"
    assert arch.identity(plain(), plain(missed=1e-12), *FOUR[2:]).control.verdict == "holds"


def test_pairs_inside_blocks_are_not_let_into_the_check_of_the_stream():
    """The guard of the check: a pair inside a block, at 0.4 here, neither decides it alone nor beside the stream."""
    data = blocks(whole=0.02, inside=0.4)
    assert set(arch.rescalable(data)["pair"].values) == {"0+1.inner.2 -> 1.inner.0+2", "1.inner.0 -> 1.inner.2"}
    assert arch.stream(data).check.measured == pytest.approx(0.02, abs=0.005)


def test_noise_decides_nothing():
    assert arch.perceptron(plain(size=1.0)).check.verdict == "inconclusive"


def test_permutation():
    def data(permuted, rescaled):
        apart = np.array([permuted, rescaled])[:, None, None] * np.array([1.0, 1.1, 0.9])
        return xr.Dataset({"apart": (("arm", "time", "seed"), apart)}, {"arm": list(twins.ARMS)})

    assert verdicts(twins.permutation(data(1e-15, 0.5))) == HOLDS
    assert verdicts(twins.permutation(data(0.5, 1e-15))) == FAILS
