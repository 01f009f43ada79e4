"""For any module, data and loss what plain PyTorch gives on the same batches: losses, gradients, twenty steps, buffers."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.zoo import MORE, ZOO
from thermolab.engine.experiment import Experiment
from thermolab.systems import global_random
from thermolab.systems import replicas as replicas_module
from thermolab.systems.data import Dataset
from thermolab.systems.full_batch import FullBatch
from thermolab.systems.network import NetworkOnData
from thermolab.systems.replicas import Replicas

STEPS, BATCH, SEED, N = 20, 6, 5, 24
ETA, LAM, STREAMS = (0.01, 0.02), (0.01, 0.0), [3, 1]
DOUBLE = 1e-10  # of twenty steps whose operations may come in another order
EVERYTHING = {**ZOO, **MORE}


def smooth(outputs, targets):
    """A loss of one's own, of outputs [..., 3] and labels [...]."""
    return F.cross_entropy(outputs.flatten(0, -2), targets.flatten(), label_smoothing=0.1) + 1e-3 * outputs.square().mean()


def plain_cross_entropy(outputs, targets):
    return F.cross_entropy(outputs.flatten(0, -2), targets.flatten())


def plain_squared(outputs, targets):
    return (outputs - targets).square().flatten(1).sum(1).mean()


LOSSES = {"cross-entropy": plain_cross_entropy, "squared": plain_squared, smooth: smooth}


def born(animal, dtype):
    """A module of this dtype; one that has two keeps them, a traced one is what it is."""
    module = animal.born()
    parameters = list(module.parameters())
    if any(isinstance(p, nn.parameter.UninitializedParameter) for p in parameters):
        with torch.random.fork_rng():
            torch.manual_seed(7)
            module(animal.data(2, torch.float32)[0])
    return module if len({p.dtype for p in parameters}) > 1 else module.to(dtype)


def experiment(animal, loss, dtype=torch.float64, backend="auto"):
    x, y = animal.data(N, dtype, regression=loss == "squared")
    system = NetworkOnData(born(animal, dtype), Dataset(x, y), "lr", loss, backend, starts="own")
    return Experiment(system, eta=list(ETA), lam=list(LAM), batch_size=BATCH, seed=SEED, streams=STREAMS)


def plain(animal, loss, system, dtype=torch.float64, r=0, steps=STEPS):
    """(module, its losses, its gradients at each step) of replica r by torch.optim.SGD on the same batches."""
    module, losses, gradients = born(animal, dtype), [], []
    free = [p for p in module.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(free, lr=ETA[r], weight_decay=LAM[r])
    for step, (x, y) in enumerate(system.batches(SEED, torch.tensor(STREAMS), 0, steps, BATCH)):
        optimiser.zero_grad()
        with global_random.kept():
            global_random.seed(SEED, step, STREAMS[r])
            value = LOSSES[loss](module(x[r].clone()), y[r])
        value.backward()
        losses.append(value.item())
        zeros = [torch.zeros_like(p) if p.grad is None else p.grad.to_dense() for p in free]
        gradients.append(torch.cat([g.flatten().double() for g in zeros]))
        for p in free:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad.to_dense()  # λ acts on a weight without gradient too
        optimiser.step()
    weights = torch.cat([p.detach().flatten().double() for p in free])
    return module, weights, losses, gradients


def state_of(module, names):
    buffers = {f"buffers.{k}": v for k, v in module.named_buffers()}
    return {k: buffers[k] for k in names if k in buffers}


CASES = [(name, loss) for name in ZOO for loss in LOSSES] + [(name, "cross-entropy") for name in MORE]


@pytest.mark.parametrize(("name", "loss"), CASES)
def test_twenty_steps_are_those_of_plain_torch(name, loss):
    animal = EVERYTHING[name]
    run = experiment(animal, loss)
    tolerance = DOUBLE if name != "two dtypes" else 1e-5
    for n in (1, 12, STEPS - 13):  # however a run is cut
        run.advance(n)
    energy = run.frame().observables["U"]
    for r in range(2):
        module, weights, losses, _ = plain(animal, loss, run.system, r=r)
        torch.testing.assert_close(run.state.weights[r].double(), weights, rtol=0, atol=tolerance)
        assert energy[r] == pytest.approx(sum(losses) / STEPS, abs=tolerance)
        assert (weights - run.start.weights[r]).abs().max() > 1e-3  # it has moved
        for key, value in state_of(module, run.state.memory).items():
            torch.testing.assert_close(run.state.memory[key][r], value, rtol=0, atol=tolerance)
    lent, fresh = run.system.replicas.module, born(animal, torch.float64)
    assert all(torch.equal(v, fresh.state_dict()[k]) for k, v in lent.state_dict().items())
    assert all(p.grad is None for p in lent.parameters())


def at_random(animal, dtype, loss="cross-entropy", n=3):
    """Replicas' weights [n, P] around the module's own, and a batch for each."""
    module = born(animal, dtype)
    own = torch.cat([p.detach().flatten() for p in module.parameters() if p.requires_grad])
    generator = torch.Generator().manual_seed(4)
    weights = own + 0.1 * torch.randn(n, len(own), generator=generator).to(own)
    x, y = animal.data(n * BATCH, dtype, regression=loss == "squared")
    return module, weights, x.unflatten(0, (n, BATCH)), y.unflatten(0, (n, BATCH))


def one_by_one(animal, dtype, weights, x, y, loss="cross-entropy"):
    """Losses and gradients of a module for each row of weights."""
    losses, gradients = [], []
    for r, row in enumerate(weights):
        module = born(animal, dtype)
        free = [p for p in module.parameters() if p.requires_grad]
        nn.utils.vector_to_parameters(row.clone(), free)
        with global_random.kept():
            global_random.seed(SEED, 0, r)
            value = LOSSES[loss](module(x[r].clone()), y[r])
        value.backward()
        losses.append(value.detach())
        gradients.append(torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad.to_dense()).flatten() for p in free]))
    return torch.stack(losses), torch.stack(gradients)


@pytest.mark.parametrize("backend", ["auto", "batched", "autograd", "loop"])
@pytest.mark.parametrize("name", ZOO)
def test_every_backend_is_plain_torch_or_refuses(name, backend):
    module, weights, x, y = at_random(ZOO[name], torch.float64)
    if backend == "batched" and name not in ("mlp", "relu mlp", "one activation twice", "sequence"):
        with pytest.raises(ValueError, match=r"^backend='batched' takes an nn.Sequential of [^\n]*$"):
            Replicas(module, backend=backend)
        return
    replicas, gradient = Replicas(module, backend=backend), torch.full_like(weights, torch.nan)
    losses = replicas.loss_and_gradient(weights, x, y, gradient, draw=lambda r: global_random.seed(SEED, 0, r))
    expected = one_by_one(ZOO[name], torch.float64, weights, x, y)
    torch.testing.assert_close((losses, gradient), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["mlp", "cnn", "transformer"])
def test_other_precisions(name, dtype):
    """Single and half precision: each operation rounds, a step has some ten of them in a row."""
    eps = torch.finfo(dtype).eps
    animal, run = ZOO[name], experiment(ZOO[name], "cross-entropy", dtype)
    run.advance(STEPS)
    _, weights, losses, _ = plain(animal, "cross-entropy", run.system, dtype)
    assert run.state.weights.dtype == dtype
    torch.testing.assert_close(run.state.weights[0].double(), weights, rtol=0, atol=STEPS * 10 * eps)
    assert run.frame().observables["U"][0] == pytest.approx(sum(losses) / STEPS, rel=10 * STEPS**0.5 * eps)


@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet", "transformer", "language"])
def test_half_precision_where_asked_costs_its_rounding(name):
    """Weights stay in float32; loss and gradient are those of autocast in plain torch, and off by bfloat16's 2⁻⁸ an operation."""
    module, weights, x, y = at_random(ZOO[name], torch.float32)
    half, full, g = Replicas(module, precision="bf16"), Replicas(module, backend="loop"), torch.empty_like(weights)
    draw = {"draw": lambda r: global_random.seed(SEED, 0, r)}
    losses = half.loss_and_gradient(weights, x, y, g, **draw)
    with torch.autocast("cpu", torch.bfloat16):
        plain_losses, plain_gradients = one_by_one(ZOO[name], torch.float32, weights, x, y)
    torch.testing.assert_close(losses, plain_losses, rtol=2**-7, atol=0)
    off = torch.linalg.vector_norm(g - plain_gradients, dim=1) / torch.linalg.vector_norm(plain_gradients, dim=1)
    assert (off < 10 * 2**-8).all()
    exact = torch.empty_like(weights)
    expected = full.loss_and_gradient(weights, x, y, exact, **draw)
    assert ((losses - expected).abs() < 10 * 2**-8 * expected).all()
    assert not torch.equal(g, exact)
    with pytest.raises(ValueError, match=r"^precision='half' with backend='auto'; allowed: None, or 'bf16' with auto or loop$"):
        Replicas(module, precision="half")


@pytest.mark.parametrize(
    "name", ["state everywhere", "state in a tuple", "dropout", "layer drop", "cnn", "old spectral norm", "slow twin"]
)
def test_a_log_replays_and_a_state_stays(name):
    animal = EVERYTHING[name]
    run = experiment(animal, "cross-entropy")
    run.advance(5)
    before = {k: v.clone() for k, v in run.state.memory.items()}
    kept, drawn = run.state.memory, torch.rand(1)
    run.advance(6)
    assert all(torch.equal(kept[k], v) for k, v in before.items())
    assert run.replay(run.log).log == run.log
    alone = Experiment(run.system, eta=ETA[1], lam=LAM[1], batch_size=BATCH, seed=SEED, streams=STREAMS[1:])
    alone.advance(11)
    assert torch.equal(alone.state.weights[0], run.state.weights[1])
    assert 0 <= drawn < 1


def test_what_is_set_in_the_module_acts_from_the_next_call_on(monkeypatch):
    """Attributes, modes, hooks, buffers and layers, after the operations were recorded."""
    monkeypatch.setattr(replicas_module, "TRACE_AFTER", (1, 1))
    net = nn.Sequential(nn.Linear(5, 6), nn.LeakyReLU(0.1), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 3)).double().eval()
    x, y = (t[None] for t in ZOO["mlp"].data(BATCH))
    replicas, generator = Replicas(net), torch.Generator().manual_seed(1)

    def check(backend):
        for _ in range(4):
            assert replicas.backend == backend
            weights = torch.cat([p.detach().flatten() for p in net.parameters()])[None]
            loss = replicas.loss_and_gradient(weights, x, y, torch.empty_like(weights))
            torch.testing.assert_close(loss[0], F.cross_entropy(copy.deepcopy(net)(x[0]), y[0]), rtol=1e-9, atol=0)

    check("autograd")
    assert any(operations for _, operations, _ in replicas._traces.values())
    net[1].negative_slope = 0.7
    check("autograd")
    net[2].running_mean = torch.randn(6, generator=generator).double()
    check("autograd")
    net[2].running_var.mul_(3)
    net[2].eps = 0.1
    check("autograd")
    net[2].train()
    check("loop")
    net[2].eval()
    check("autograd")
    handle = net[0].register_forward_hook(lambda module, inputs, out: 2 * out)
    check("loop")
    handle.remove()
    check("autograd")
    net[3] = nn.Sigmoid()
    check("autograd")
    everywhere = nn.modules.module.register_module_forward_hook(lambda module, inputs, out: out + 1)
    try:
        check("loop")
    finally:
        everywhere.remove()
    with torch.autocast("cpu", torch.bfloat16):
        check("loop")
    check("autograd")
    monkeypatch.setattr(nn.Linear, "forward", lambda self, x: F.linear(x, 3 * self.weight, self.bias))
    check("loop")
    monkeypatch.undo()
    net[1].forward = torch.sin
    check("loop")


def test_batches_of_the_whole_data_are_not_changed_by_the_module():
    x, y = MORE["changes its input"].data(N)
    kept, module = x.clone(), born(MORE["changes its input"], torch.float64)
    run = Experiment(FullBatch(module, Dataset(x, y)), eta=0.1, replicas=2)
    run.advance(3)
    run.system.replicas.outputs(run.state.weights, x)
    assert torch.equal(x, kept)
    plain_module = born(MORE["changes its input"], torch.float64)
    torch.testing.assert_close(run.system.replicas.outputs(run.start.weights, x)[1], plain_module(kept.clone()).detach())
