"""Many networks as rows of one matrix: against autograd, against one module and torch.optim.SGD, and scale invariance."""

import copy
import json

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import nn

from thermolab.engine.experiment import Experiment
from thermolab.systems import models, random
from thermolab.systems import replicas as engine_replicas
from thermolab.systems.data import Dataset
from thermolab.systems.network import NetworkOnData
from thermolab.systems.replicas import LOSSES, Replicas

DOUBLE = 1e-12
torch_losses = {
    "cross-entropy": nn.functional.cross_entropy,
    "squared": lambda f, y: ((f - y) ** 2).sum(1).mean(),
}


def double(module):
    return module.to(torch.float64)


def case(module, loss, *, n=3, batch=6, seed=0, n_in=None):
    """Weights [R, P], inputs [R, B, n_in] and targets for a module."""
    linear = [m for m in module if isinstance(m, nn.Linear)]
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, batch, n_in or linear[0].in_features, generator=generator, dtype=torch.float64)
    y = torch.randn(n, batch, linear[-1].out_features, generator=generator, dtype=torch.float64)
    replicas = Replicas(module, loss)
    w = torch.randn(n, replicas.n_parameters, generator=generator, dtype=torch.float64)
    return w, x, y.argmax(-1) if loss == "cross-entropy" else y


def both(module, loss, w, x, y):
    """[(losses, gradients)] of the two backends."""
    out = []
    for backend in ("batched", "autograd"):
        g = torch.full_like(w, torch.nan)
        out.append((Replicas(module, loss, backend).loss_and_gradient(w, x, y, g), g))
    return out


def one_by_one(module, loss, w, x, y):
    """Losses and gradients of a copy of the module per replica, by backward()."""
    losses, gradients = [], []
    for row, inputs, targets in zip(w, x, y, strict=True):
        net = with_weights(module, row)
        value = torch_losses[loss](net(inputs), targets)
        value.backward()
        losses.append(value.detach())
        gradients.append(torch.cat([p.grad.flatten() for p in net.parameters() if p.requires_grad]))
    return torch.stack(losses), torch.stack(gradients)


def with_weights(module, row):
    """A copy of the module that holds one row of weights."""
    net = copy.deepcopy(module)
    nn.utils.vector_to_parameters(row.clone(), [p for p in net.parameters() if p.requires_grad])
    return net


def agree(found, expected):
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=DOUBLE, atol=DOUBLE * float(b.abs().max()))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_perceptrons(activation, bias, loss):
    module = double(models.mlp((5, 7, 6, 4), activation=activation, bias=bias))
    sample = case(module, loss)
    batched, autograd = both(module, loss, *sample)
    agree(batched, autograd)
    agree(batched, one_by_one(module, loss, *sample))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_scale_invariant_perceptrons(norm, activation, loss):
    module = double(models.scale_invariant_mlp((5, 9, 8), 4, norm=norm, activation=activation))
    sample = case(module, loss, batch=12)
    batched, autograd = both(module, loss, *sample)
    agree(batched, autograd)
    agree(batched, one_by_one(module, loss, *sample))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.lists(st.integers(1, 6), min_size=2, max_size=4),
    st.sampled_from(["relu", "tanh"]),
    st.booleans(),
    st.sampled_from(list(LOSSES)),
    st.integers(1, 4),
    st.integers(1, 5),
)
def test_any_widths(widths, activation, bias, loss, n, batch):
    module = double(models.mlp(widths, activation=activation, bias=bias))
    sample = case(module, loss, n=n, batch=batch)
    agree(*both(module, loss, *sample))


def test_a_frozen_layer_anywhere():
    """At the start, in the middle, at the end: its weights count, and it gets no gradient."""
    for frozen in range(3):
        module = double(models.mlp((4, 5, 6, 3)))
        [m for m in module if isinstance(m, nn.Linear)][frozen].requires_grad_(False)
        sample = case(module, "squared")
        agree(both(module, "squared", *sample)[0], one_by_one(module, "squared", *sample))


def test_large_logits_overflow_nothing():
    module = double(models.mlp((3, 4)))
    w, x, y = case(module, "cross-entropy")
    w *= 1e4
    batched, autograd = both(module, "cross-entropy", w, x, y)
    assert torch.isfinite(batched[0]).all()
    agree(batched, autograd)


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_scale_invariance(norm):
    """L(c w) = L(w), ∇L(c w) = ∇L(w)/c, w·∇L = 0; broken by EPSILON over the variance of a pre-activation only."""
    module = double(models.scale_invariant_mlp((6, 8, 8), 5, norm=norm))
    w, x, y = case(module, "cross-entropy", batch=16)
    w /= torch.linalg.vector_norm(w, dim=1, keepdim=True)
    replicas = Replicas(module)
    g, g_scaled = torch.empty_like(w), torch.empty_like(w)
    loss = replicas.loss_and_gradient(w, x, y, g)
    loss_scaled = replicas.loss_and_gradient(7 * w, x, y, g_scaled)
    torch.testing.assert_close(loss_scaled, loss, rtol=1e-9, atol=0)
    torch.testing.assert_close(7 * g_scaled, g, rtol=0, atol=1e-8 * float(g.abs().max()))
    assert ((w * g).sum(1).abs() < 1e-8 * torch.linalg.vector_norm(g, dim=1)).all()
    assert (torch.linalg.vector_norm(g, dim=1) > 1e-3).all()


@pytest.mark.parametrize("norm", [None, "batch", "layer"])
def test_training_is_that_of_torch_optim_sgd(norm):
    """A module and an optimiser per replica, fed with the same batches."""
    plain = models.mlp((6, 8, 4), activation="tanh") if norm is None else models.scale_invariant_mlp((6, 8, 8), 4, norm=norm)
    module = double(plain)
    generator = torch.Generator().manual_seed(3)
    data = Dataset(
        torch.randn(50, 6, generator=generator, dtype=torch.float64), torch.randint(4, (50,), generator=generator), n_classes=4
    )
    system = NetworkOnData(module, data, "lr")
    streams, seed, first, n, batch = torch.tensor([0, 5, 9]), 2, 7, 12, 8
    eta, lam = torch.tensor([0.1, 0.3, 0.2], dtype=torch.float64), torch.tensor([0.0, 0.1, 0.02], dtype=torch.float64)
    w = system.replicas.start(random.normals(seed, streams, 0, 1, system.n_parameters, torch.float64)[0])
    nets = [with_weights(module, row) for row in w]
    parameters = [[p for p in net.parameters() if p.requires_grad] for net in nets]
    optimisers = [
        torch.optim.SGD(p, lr=float(h), weight_decay=float(decay)) for p, h, decay in zip(parameters, eta, lam, strict=True)
    ]
    losses, r2, g2 = (torch.zeros(3, dtype=torch.float64) for _ in range(3))
    for x, y in system.batches(seed, streams, first, n, batch):
        for i, (net, optimiser) in enumerate(zip(nets, optimisers, strict=True)):
            optimiser.zero_grad()
            loss = nn.functional.cross_entropy(net(x[i]), y[i])
            loss.backward()
            now = sum(float(p.detach().square().sum()) for p in parameters[i])
            losses[i] += loss.detach() / n
            r2[i] += now / n
            g2[i] += now * sum(float(p.grad.square().sum()) for p in parameters[i]) / n
            optimiser.step()
    expected = torch.stack([nn.utils.parameters_to_vector(p).detach() for p in parameters])
    knobs = {"eta": eta, "lam": lam, "batch_size": batch}
    observables, diverged = system.advance(w, first, n, knobs, seed, streams, torch.ones(3))
    torch.testing.assert_close(w, expected, rtol=0, atol=n * DOUBLE * float(expected.abs().max()))
    for name, value in {"U": losses, "r2": r2, "g2": g2, "p": lam}.items():
        torch.testing.assert_close(observables[name], value, rtol=n * DOUBLE, atol=0)
    assert (diverged == -1).all()


def test_batches_are_rows_of_the_data_with_their_labels():
    data = Dataset(torch.arange(40.0)[:, None], torch.arange(40))
    system = NetworkOnData(models.mlp((1, 40)), data)
    found = [(x.clone(), y.clone()) for x, y in system.batches(0, torch.arange(3), 4, 5, 7)]
    for x, y in found:
        assert x.shape == (3, 7, 1)
        assert torch.equal(x[..., 0].long(), y)
    (late,) = (y.clone() for _, y in system.batches(0, torch.arange(3), 8, 1, 7))
    assert torch.equal(late, found[4][1])  # a batch belongs to its step, whatever came before
    assert not torch.equal(found[0][1][0], found[0][1][1])


def test_without_replacement_an_epoch_meets_each_datum_once():
    """Fresh batches at fixed weights, whose scatter is that of one batch, are drawn independently all the same."""
    data, module = Dataset(torch.arange(40.0)[:, None], torch.arange(40)), models.mlp((1, 40))
    system, streams = NetworkOnData(module, data, replacement=False), torch.arange(3)
    epoch = torch.cat([y.clone() for _, y in system.batches(0, streams, 5, 5, 8)], 1)
    assert torch.equal(epoch.sort(1).values, data.y.expand(3, 40))
    w = system.start(streams, 0)
    assert torch.equal(system.gradients(w, 5, 8, 1, streams), NetworkOnData(module, data).gradients(w, 5, 8, 1, streams))
    assert "replacement" not in NetworkOnData(module, data).settings()  # as in logs from before there was this
    assert system.settings()["replacement"] is False


def test_a_network_learns_the_data_that_it_is_told_to_use():
    """As one that was made with them, from the next step on; inputs of another shape are refused."""
    generator = torch.Generator().manual_seed(0)
    one, other = (Dataset(torch.randn(30, 4, generator=generator), torch.randint(3, (30,), generator=generator), 3) for _ in "ab")
    torch.manual_seed(0)
    module = models.mlp((4, 3))
    runs = [Experiment(NetworkOnData(module, data), eta=0.1, batch_size=8, seed=1) for data in (one, other)]
    runs[0].system.use(other)
    for run in runs:
        run.advance(5)
    assert torch.equal(runs[0].state.weights, runs[1].state.weights)
    assert "data" not in runs[1].log["events"][-1][1]
    runs[0].system.use(one)
    for run in runs:
        run.advance(1)
    assert not torch.equal(runs[0].state.weights, runs[1].state.weights)
    with pytest.raises(ValueError, match=r"^inputs have shape \(5,\); allowed: \(4,\), as those so far$"):
        runs[0].system.use(Dataset(torch.ones(2, 5), torch.zeros(2, dtype=torch.int64)))
    assert runs[0].system.data is one


def test_what_a_run_was_told_to_use_is_in_its_log_and_replays_or_is_refused():
    """Data before the first step, between two steps and back again; another system never had them."""
    generator = torch.Generator().manual_seed(0)
    first, *others = (Dataset(torch.randn(30, 4, generator=generator), torch.arange(30) % 3, 3) for _ in range(3))
    run, stranger = (Experiment(NetworkOnData(models.mlp((4, 3)), first), eta=0.1, batch_size=8, seed=1) for _ in "ab")
    steps = (0, 4, 9)
    for step, data in zip(steps, (*others, first), strict=True):
        run.advance(step - run.state.step)
        run.system.use(data)
    run.advance(5)
    log = json.loads(json.dumps(run.log))
    told = [(step, change["data"]) for step, change in log["events"] if "data" in change]
    assert [step for step, _ in told] == list(steps)
    assert len({key for _, key in told}) == 3
    run.system.use(others[0])  # wherever the system is by now
    again = run.replay(log)
    assert torch.equal(again.state.weights, run.state.weights)
    assert again.log == log
    with pytest.raises(ValueError, match=r"^the run learnt data \w{8}… that this system never had[^\n]*$"):
        stranger.replay(log)


def test_fresh_batches_are_none_of_the_run():
    """`gradients` at fixed weights: unlike the training's batches, and each the gradient of its own batch."""
    generator = torch.Generator().manual_seed(0)
    data = Dataset(torch.randn(30, 4, generator=generator), torch.randint(3, (30,), generator=generator), 3)
    system = NetworkOnData(models.mlp((4, 3)), data)
    streams = torch.arange(2)
    w = system.start(streams, 0)
    fresh = system.gradients(w, 3, 5, 0, streams)
    trained = torch.empty_like(fresh)
    for g, (x, y) in zip(trained, system.batches(0, streams, 0, 3, 5), strict=True):
        system.replicas.loss_and_gradient(w, x, y, g)
    assert fresh.shape == (3, 2, system.n_parameters)
    rows = torch.cat([fresh.flatten(0, 1), trained.flatten(0, 1)])
    assert torch.cdist(rows, rows)[~torch.eye(len(rows), dtype=torch.bool)].min() > 1e-3


def test_start_has_the_usual_scale_and_depends_on_stream_and_seed_alone():
    system = NetworkOnData(models.mlp((64, 50, 10)), Dataset(torch.zeros(1, 64), torch.zeros(1, dtype=torch.int64)))
    w = system.start(torch.arange(4), 1)
    views = system.replicas.views(w)
    for name, fan_in in (("0.weight", 64), ("2.weight", 50)):
        n = views[name].numel()
        assert float(views[name].var()) == pytest.approx(2 / fan_in, rel=4 * (2 / n) ** 0.5)
        assert (views[name.replace("weight", "bias")] == 0).all()
    assert torch.equal(system.start(torch.tensor([2]), 1)[0], w[2])
    assert not torch.equal(system.start(torch.tensor([2]), 0)[0], w[2])


class Residual(nn.Module):
    """No chain."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.b(x + self.a(x).sin())


OTHERS = {
    "gelu": lambda: nn.Sequential(nn.Linear(4, 5), nn.GELU(), nn.Linear(5, 3)),
    "affine": lambda: nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.Linear(5, 3)),
    "running": lambda: nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5, affine=False), nn.Linear(5, 3)),
    "residual": Residual,
}
TRACED = {**OTHERS, "transformer": lambda: nn.Sequential(nn.Linear(4, 4), models.Residual(nn.Tanh()), nn.Linear(4, 3))}


@pytest.mark.parametrize("name", OTHERS)
def test_other_modules_go_to_autograd_or_plain_torch(name):
    module = double(OTHERS[name]())
    replicas = Replicas(module, "squared")
    assert replicas.backend == ("autograd" if name in ("gelu", "affine") else "loop")
    with pytest.raises(ValueError, match=r"backend='batched' takes an nn.Sequential of Linear, ReLU"):
        Replicas(module, "squared", "batched")
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(2, replicas.n_parameters, generator=generator, dtype=torch.float64)
    x, y = (torch.randn(2, 6, k, generator=generator, dtype=torch.float64) for k in (4, 3))
    g = torch.empty_like(w)
    agree((replicas.loss_and_gradient(w, x, y, g), g), one_by_one(module, "squared", w, x, y))


@pytest.mark.parametrize("name", ["gelu", "affine", "transformer"])
def test_traced_operations_are_those_of_autograd(name, monkeypatch):
    """To the bit, for other weights and layouts than those traced, and with frozen parameters as they are now."""
    monkeypatch.setattr(engine_replicas, "TRACE_AFTER", (1, 1))
    module = TRACED[name]()
    last = list(module.children())[-1].requires_grad_(False)
    replicas, generator = Replicas(module, "squared"), torch.Generator().manual_seed(0)
    for n, shape in ((2, (2, 6)), (2, (2, 6)), (2, (6, 2)), (3, (3, 1))):
        w = torch.randn(n, replicas.n_parameters, generator=generator)
        x, y = (torch.randn(*shape, k, generator=generator) for k in (4, 3))
        x, y = (t if len(t) == n else t.transpose(0, 1) for t in (x, y))
        with torch.no_grad():
            last.weight.mul_(1.1)
        for _ in range(4):
            g, expected = torch.empty_like(w), torch.empty_like(w)
            loss = replicas.loss_and_gradient(w, x, y, g)
            assert torch.equal(loss, Replicas(module, "squared").loss_and_gradient(w, x, y, expected))
            assert torch.equal(g, expected)
    assert sorted(calls for calls, operations, _ in replicas._traces.values() if operations) == [4, 4, 8]


def test_a_parameter_without_influence_has_gradient_zero():
    module = nn.Sequential(nn.Linear(2, 2), nn.GELU())
    module.spare = nn.Parameter(torch.ones(3))
    module.forward = lambda x: module[1](module[0](x))
    replicas = Replicas(module, "squared", "autograd")
    w = torch.ones(1, replicas.n_parameters)
    g = torch.full_like(w, torch.nan)
    replicas.loss_and_gradient(w, torch.ones(1, 4, 2), torch.zeros(1, 4, 2), g)
    gradients = replicas.views(g)
    assert not gradients["spare"].any()
    assert gradients["0.weight"].all()


def test_what_cannot_be_traced_says_so_once_and_goes_on(monkeypatch):
    def refuse(_):
        raise RuntimeError("no trace")

    monkeypatch.setattr(engine_replicas, "TRACE_AFTER", (1, 1))
    monkeypatch.setattr(engine_replicas, "make_fx", refuse)
    replicas = Replicas(nn.Sequential(nn.Linear(2, 1), nn.GELU()), "squared")
    w = torch.ones(1, replicas.n_parameters)

    def loss():
        return replicas.loss_and_gradient(w, torch.ones(1, 4, 2), torch.zeros(1, 4, 1), torch.empty_like(w)).item()

    first = loss()
    with pytest.raises(RuntimeError, match="no trace"):
        loss()
    assert [loss(), loss()] == [first, first]


def test_traces_follow_the_module_and_are_few(monkeypatch):
    monkeypatch.setattr(engine_replicas, "TRACE_AFTER", (1, 1))
    module = nn.Sequential(nn.Linear(4, 3), nn.GELU(), nn.Linear(3, 2, bias=False))
    module[2].weight.requires_grad_(False)
    replicas = Replicas(module, "squared")
    w, g = torch.ones(1, replicas.n_parameters), torch.empty(1, replicas.n_parameters)

    def loss(batch=2):
        return replicas.loss_and_gradient(w, torch.ones(1, batch, 4), torch.zeros(1, batch, 2), g).item()

    before = [loss() for _ in range(4)][-1]
    module[2].weight = nn.Parameter(2 * module[2].weight.detach(), requires_grad=False)
    assert loss() == pytest.approx(4 * before)
    for batch in range(1, 2 * engine_replicas.TRACES):
        loss(batch)
    assert len(replicas._traces) <= engine_replicas.TRACES


def test_backends_and_losses_are_checked():
    assert Replicas(models.mlp((2, 2))).backend == "batched"
    assert Replicas(models.mlp((2, 2)), backend="autograd").backend == "autograd"
    with pytest.raises(ValueError, match=r"loss='hinge' .*allowed: cross-entropy, squared, or a function"):
        Replicas(models.mlp((2, 2)), "hinge")
    with pytest.raises(ValueError, match=r"backend='fast' .*allowed: auto, batched, autograd, loop"):
        Replicas(models.mlp((2, 2)), backend="fast")
