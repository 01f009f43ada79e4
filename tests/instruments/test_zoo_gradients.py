"""Gradients, noise and accuracy of networks of other people's kinds, against loops over plain modules, at their own weights."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from zoo import ANIMALS, DRAW_EVER, SINGLE, flat, parameters, quiet

from thermolab.engine.experiment import Experiment
from thermolab.instruments import noise, observables, whole, windows
from thermolab.systems import models
from thermolab.systems.data import Dataset, digits
from thermolab.systems.network import FRESH, NetworkOnData
from thermolab.systems.replicas import Replicas

COUPLED = {"cnn", "resnet", "batch norm of one number", "state everywhere", "buffer by its data"}  # a sample knows of the others


def born(name, n=12):
    return quiet(name, n)


def plain(name, shift, x, y):
    """Loss and gradient of a network of this kind as it is born, its weights moved by so much."""
    module, *_ = born(name)
    moved = flat(parameters(module)) + shift
    with torch.no_grad():
        for p, w in zip(parameters(module), moved.split([p.numel() for p in parameters(module)]), strict=True):
            p.copy_(w.view_as(p))
    loss = nn.functional.cross_entropy(module(x.clone()).flatten(0, -2), y.flatten())
    loss.backward()
    g = [torch.zeros_like(p) if p.grad is None else p.grad.to_dense() if p.grad.is_sparse else p.grad for p in parameters(module)]
    return float(loss.detach()), flat(g)


@pytest.mark.parametrize("name", [n for n in ANIMALS if n not in DRAW_EVER])
def test_the_full_gradient_whole_and_in_parts(name):
    module, x, y = born(name)
    kept, own = x.clone(), flat(parameters(module))
    shifts = torch.stack([0 * own, 0.1 * torch.randn(len(own), dtype=own.dtype, generator=torch.Generator().manual_seed(2))])
    expected = [plain(name, shift, x, y) for shift in shifts]
    net = Replicas(module)
    losses, g = whole.gradient(net, own + shifts, x, y)
    tolerance = 1e-5 if name in SINGLE else 1e-9
    for r, (loss, grad) in enumerate(expected):
        assert float(losses[r]) == pytest.approx(loss, rel=tolerance)
        torch.testing.assert_close(g[r], grad, rtol=tolerance, atol=tolerance)
    if name in COUPLED:
        with pytest.raises(ValueError, match="cannot go one after the other"):
            whole.gradient(net, own + shifts, x, y, bound=100)
    else:
        assert len(whole.parts(net, own, x, y, bound=100, times=1)) > 1
        losses, g = whole.gradient(net, own + shifts, x, y, bound=100)
        torch.testing.assert_close(g, torch.stack([grad for _, grad in expected]), rtol=tolerance, atol=tolerance)
    assert torch.equal(x, kept)


@pytest.mark.parametrize("name", ["mlp", "cnn", "lstm", "language", "padding index", "old spectral norm", "forward hook"])
def test_noise_is_that_of_the_gradients_in_a_loop(name):
    """At the weights and with the buffers of each replica; a copy of each module goes through the same batches."""
    module, x, y = born(name, n=20)
    system = NetworkOnData(copy.deepcopy(module), Dataset(x, y, 3))
    weights = flat(parameters(module)).expand(2, -1) * torch.tensor([[1.0], [1.3]], dtype=torch.float64)
    run = Experiment(system, eta=[0.05, 0.1], batch_size=4, seed=7, weights=weights)
    run.advance(5)
    found = windows.probe(run, 4, 6)
    seed = run.seed + 2**32 * (1 + run.state.step)
    batches = [(a.clone(), b.clone()) for a, b in system.batches(seed, run.streams, FRESH, 6, 4)]
    rows = []
    for r in range(2):
        alone = copy.deepcopy(module)
        nn.utils.vector_to_parameters(run.state.weights[r].clone(), parameters(alone))
        for k, buffer in alone.named_buffers():
            buffer.copy_(run.state.memory.get(f"buffers.{k}", [buffer] * 2)[r])
        grads = []
        for a, b in batches:
            loss = nn.functional.cross_entropy(alone(a[r].clone()).flatten(0, -2), b[r].flatten())
            grads.append(flat(torch.autograd.grad(loss, parameters(alone), materialize_grads=True)))
        rows.append(torch.stack(grads))
    by_hand = noise.gradient_noise(torch.stack(rows, 1), spectrum=False)
    np.testing.assert_allclose(found["trace"], by_hand.trace, rtol=1e-8)
    np.testing.assert_allclose(found["gradient_squared"], by_hand.full_gradient_squared, rtol=1e-8, atol=1e-12)
    # whatever the memory: one replica after the other
    for k, v in windows.probe(run, 4, 6, bound=1).items():
        np.testing.assert_allclose(v, found[k], rtol=1e-8, atol=1e-12)


# --- where the weights are measured -------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def trained():
    """A perceptron that has learnt the digits: of length far from 1, and another network at length 1."""
    system = NetworkOnData(models.mlp((64, 16, 10)), digits(60))
    run = Experiment(system, eta=0.3, batch_size=16, seed=1, replicas=2)
    run.advance(400)
    return run


def test_accuracy_and_gradient_are_those_of_the_network_as_it_is(trained):
    d, known, squares = trained.system.data, [], []
    for w in trained.state.weights.double():
        module = models.mlp((64, 16, 10)).double()
        nn.utils.vector_to_parameters(w, module.parameters())
        logits = module(d.x.double())
        known.append(float((logits.argmax(1) == d.y).double().mean()))
        squares.append(
            float(flat(torch.autograd.grad(nn.functional.cross_entropy(logits, d.y), module.parameters())).square().sum())
        )
    assert min(known) > 0.9
    np.testing.assert_allclose(windows.accuracy(trained), known, rtol=1e-12)
    np.testing.assert_allclose(windows.full_gradient_squared(trained), squares, rtol=1e-3)
    for small in (1, 10_000):  # bytes
        np.testing.assert_allclose(windows.accuracy(trained, bound=small), known, rtol=1e-12)
        np.testing.assert_allclose(windows.full_gradient_squared(trained, bound=small), squares, rtol=1e-3)
    # the control: at length 1 it is another network
    assert (np.abs(windows.full_gradient_squared(trained, at="unit") / squares - 1) > 1).all()
    with pytest.raises(ValueError, match="at='sphere' is no place; allowed: weights, as they are, or unit"):
        windows.accuracy(trained, at="sphere")


def test_the_accuracy_of_targets_that_are_no_labels_is_refused():
    system = NetworkOnData(models.mlp((5, 4, 3)), Dataset(torch.randn(9, 5), torch.randn(9, 3), 3), loss="squared")
    with pytest.raises(ValueError, match=r"targets are torch.float32, so nothing is classified"):
        windows.accuracy(Experiment(system, eta=0.1, batch_size=3))


KINDS = {"layer": lambda: models.scale_invariant_mlp((64, 6), norm="layer"), "mlp": lambda: models.mlp((64, 6, 10))}
INVARIANT = {"layer": True, "mlp": False}


@pytest.mark.parametrize("kind", ["layer", "mlp"])
def test_observables_take_directions_where_they_are_the_network_and_say_so(kind):
    run = Experiment(NetworkOnData(KINDS[kind](), digits(60)), eta=0.05, lam=0.01, batch_size=8, replicas=3, seed=3)
    run.advance(20)
    found = observables.MinibatchNoise(n=7)(run.system, run.state, run.knobs)
    of = "direction" if INVARIANT[kind] else "weights"
    asked, other = (
        observables.MinibatchNoise(n=7, of=o)(run.system, run.state, run.knobs) for o in (of, *{"direction", "weights"} - {of})
    )
    assert found.pop("unit").tolist() == [float(INVARIANT[kind])] * 3
    for name, values in asked.items():
        np.testing.assert_array_equal(found[name], values)
        assert name == "snr" or (np.abs(other[name] / values - 1) > 0.1).all()
    entropy = observables.PathEntropy(window=5, spacing=1e-3, k=2)
    with pytest.raises(ValueError, match="of='sphere' is unknown; allowed: measured, direction, weights"):
        observables.PathEntropy(of="sphere")
    for _ in range(6):
        run.advance(2)
        said = entropy(run.system, run.state, run.knobs)
    assert said["unit"].tolist() == [float(INVARIANT[kind])] * 3
    assert np.isfinite(said["S"]).all()


def test_entropy_of_weights_some_of_which_never_move():
    """A row of an embedding that no input names: its coordinates do not count."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Embedding(50, 4, padding_idx=0), nn.Flatten(), nn.Linear(8, 3))
    data = Dataset(torch.randint(5, (40, 2)), torch.randint(3, (40,)), 3)
    run = Experiment(NetworkOnData(module, data), eta=0.1, batch_size=8, seed=1)
    path = []
    for _ in range(12):
        run.advance(5)
        path.append(run.state.weights[0].double().numpy())
    path = np.array(path)
    moving = int((np.ptp(path, axis=0) > 0).sum())
    assert moving < 50 * 4
    observable, found = observables.PathEntropy(window=12, spacing=0, k=3, of="weights"), []
    for scale in (1.0, 2.0):
        observable = observables.PathEntropy(window=12, spacing=0, k=3, of="weights")
        for t, w in enumerate(path):
            state = type("State", (), {"weights": torch.from_numpy(scale * w)[None], "step": t})
            s = observable(run.system, state, {"eta": torch.tensor([0.1])})
        found.append(float(s["S"][0]))
    assert found[1] - found[0] == pytest.approx(moving * np.log(2), rel=1e-9)


def test_a_lost_replica_reads_nan_and_no_number():
    system = NetworkOnData(models.mlp((64, 6, 10)), digits(60))
    run = Experiment(system, eta=[0.05, 1e20], batch_size=8, seed=3)
    run.advance(8)
    readings = [windows.accuracy(run), windows.full_gradient_squared(run), *windows.probe(run, 8, 6).values()]
    readings += [v for k, v in observables.MinibatchNoise(n=6)(system, run.state, run.knobs).items() if k != "unit"]
    for values in readings:
        assert np.isfinite(values).tolist() == [True, False]


def test_batches_without_replacement_have_their_own_noise():
    """Tr Σ of a batch as it is drawn, against the formula with the gradients of all samples."""
    d = digits(24)
    system = NetworkOnData(models.mlp((64, 4, 10)), d, replacement=False)
    run = Experiment(system, eta=0.1, batch_size=8, seed=3)
    run.advance(6)
    w, g = run.state.weights, torch.empty(24, system.n_parameters)
    with torch.no_grad():
        system.replicas.loss_and_gradient(w.expand(24, -1), d.x[:, None], d.y[:, None], g)
    exact = noise.gradient_noise(g[:, None], batch_size=8, drawn_from=24, kind="per-sample", spectrum=False)
    wrong = noise.gradient_noise(g[:, None], batch_size=8, kind="per-sample", spectrum=False)
    n = 800
    found = windows.probe(run, 8, n)
    error = noise.gradient_noise(windows.fresh_gradients(run, 8, n), spectrum=False).trace_error
    assert abs(found["trace"] - exact.trace) < 4 * error
    assert abs(found["trace"] - wrong.trace) > 4 * error
