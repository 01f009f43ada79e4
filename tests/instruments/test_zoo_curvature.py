"""Curvature of networks of other people's kinds, against second backward passes and differences in plain PyTorch."""

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from zoo import ANIMALS, DRAW, DRAW_EVER, SINGLE, flat, parameters, quiet

from thermolab.engine.experiment import Experiment
from thermolab.instruments import curvature
from thermolab.instruments.curvature import HessianProducts, dense, fisher_diagonal, largest_eigenvalue, trace
from thermolab.systems.data import Dataset
from thermolab.systems.network import NetworkOnData
from thermolab.systems.replicas import Replicas

N = 8
NO_SECOND = {"sparse embedding", "reentrant checkpoint", "embedding bag", "weight norm", "old weight norm"}  # or a wrong one
LOSSES = {"cross-entropy": nn.functional.cross_entropy, "squared": lambda o, t: (o - t).square().flatten(1).sum(1).mean()}


def born(name):
    return quiet(name, N)


def plain_loss(module, x, y, loss="cross-entropy"):
    outputs = module(x.clone())
    if loss == "cross-entropy":
        outputs = outputs.flatten(0, -2)
    return LOSSES[loss](outputs, y.flatten() if loss == "cross-entropy" else y)


def random_vectors(n, count=2):
    return torch.randn(count, n, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def second_backward(name, vectors, loss="cross-entropy"):
    """(L, ∇L, H v of each vector) of a network of this kind as it is born."""
    module, x, y = born(name)
    y = torch.randn(*y.shape, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(5)) if loss == "squared" else y
    p = parameters(module)
    with sdpa_kernel(SDPBackend.MATH):
        value = plain_loss(module, x, y, loss)
        g = torch.autograd.grad(value, p, create_graph=True, materialize_grads=True)
        curved = [k for k in g if k.requires_grad]
        found = []
        for v in vectors:
            pieces = [
                w.view_as(k).to(k.dtype) for w, k in zip(v.split([k.numel() for k in g]), g, strict=True) if k.requires_grad
            ]
            found.append(flat(torch.autograd.grad(curved, p, pieces, retain_graph=True, materialize_grads=True)))
    return float(value.detach()), flat(g), torch.stack(found), (x, y)


def by_differences(name, vectors, h=1e-5):
    """The same by central differences of what `backward` leaves, each time in a network as it is born."""

    def gradient(shift):
        module, x, y = born(name)
        nn.utils.vector_to_parameters(flat(parameters(module)) + shift, parameters(module))
        value = plain_loss(module, x, y)
        value.backward()
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters(module)]
        return float(value.detach()), flat([g.to_dense() if g.is_sparse else g for g in grads])

    _, x, y = born(name)
    value, g = gradient(0 * vectors[0])
    products = torch.stack([(gradient(h * v)[1] - gradient(-h * v)[1]) / (2 * h) for v in vectors])
    return value, g, products, (x, y)


def close(found, expected, tolerance):
    assert float((found.double() - expected).norm()) <= tolerance * float(expected.norm()) + 1e-12


@pytest.mark.parametrize("name", [n for n in ANIMALS if n not in DRAW_EVER])
def test_products_are_those_of_plain_pytorch(name):
    module, *_ = born(name)
    before = {k: t.clone() for k, t in module.state_dict().items()}
    vectors = random_vectors(sum(p.numel() for p in parameters(module)))
    value, g, expected, (x, y) = (by_differences if name in NO_SECOND else second_backward)(name, vectors)
    kept = x.clone()
    hessian = HessianProducts(Replicas(module), flat(parameters(module)), x, y)
    tolerance = 1e-5 if name in SINGLE else 1e-6 if name in NO_SECOND else 1e-9
    assert hessian.loss == pytest.approx(value, rel=tolerance)
    close(hessian.gradient, g, tolerance)
    for v, e in zip(vectors, expected, strict=True):
        close(hessian(v), e, tolerance)
    assert hessian.exact == (name not in NO_SECOND)
    assert torch.equal(x, kept)
    for k, t in module.state_dict().items():
        assert torch.equal(t, before[k]), k


@pytest.mark.parametrize("name", sorted(DRAW))
def test_what_draws_has_no_curvature(name):
    module, x, y = born(name)
    module.train()
    w, state = flat(parameters(module)), torch.get_rng_state()
    system = NetworkOnData(module, Dataset(x, y, 3))
    for call in (
        lambda: HessianProducts(Replicas(module), w, x, y),
        lambda: dense(Replicas(module), w, x, y),
        lambda: curvature.batch_sharpness(system, w, 4, n=2),
    ):
        with pytest.raises(ValueError, match="draws random numbers"):
            call()
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    "name",
    [
        "relu mlp",
        pytest.param("lstm", marks=pytest.mark.slow),
        pytest.param("language", marks=pytest.mark.slow),
        "old weight norm",
        "batch norm in eval",
        "sparse embedding",
    ],
)
def test_the_whole_matrix_its_trace_and_its_top(name):
    module, x, y = born(name)
    w = flat(parameters(module))
    unit = torch.eye(len(w), dtype=torch.float64)
    expected = (by_differences if name in NO_SECOND else second_backward)(name, unit)[2]
    full = dense(Replicas(module), w, x, y)
    torch.testing.assert_close(full, expected, rtol=1e-6, atol=1e-5 if name in NO_SECOND else 1e-8)
    hessian = HessianProducts(Replicas(module), w, x, y)
    assert trace(hessian).value == pytest.approx(float(expected.trace()), rel=1e-6)
    top = float(torch.linalg.eigvalsh(expected)[-1])
    assert largest_eigenvalue(hessian, looks=2).value == pytest.approx(top, rel=2e-3)


@pytest.mark.parametrize("loss", ["squared", "own"])
@pytest.mark.parametrize("name", ["mlp", "lstm", "tied weights"])
def test_other_losses(name, loss):
    module, *_ = born(name)
    vectors = random_vectors(sum(p.numel() for p in parameters(module)))
    *_, expected, (x, y) = second_backward(name, vectors, "squared")
    net = Replicas(module, "squared" if loss == "squared" else LOSSES["squared"])
    hessian = HessianProducts(net, flat(parameters(module)), x, y)
    for v, e in zip(vectors, expected, strict=True):
        close(hessian(v), e, 1e-9)


@pytest.mark.parametrize("name", ["mlp", "lstm", "language", "transformer", "sparse embedding", "batch norm in eval"])
def test_the_bound_on_memory_changes_nothing_but_the_memory(name):
    module, x, y = born(name)
    x, y = torch.cat([x, x.flip(0), x[:3]]), torch.cat([y, y, y[:3]])
    net, w = Replicas(module), flat(parameters(module))
    whole, parts = (HessianProducts(net, w, x, y, bound=b) for b in (2**30, 3000))
    assert len(whole._parts) == 1 < len(parts._parts)
    assert parts.loss == pytest.approx(whole.loss, rel=1e-9)
    close(parts.gradient, whole.gradient, 1e-9)
    for v in random_vectors(len(w)):
        close(parts(v), whole(v), 1e-5 if name in NO_SECOND else 1e-9)


def test_what_does_not_fit_and_does_not_add_up_is_refused():
    module, _, _ = born("cnn")
    x, y = ANIMALS["cnn"].data(40)
    with pytest.raises(ValueError, match=r"40 samples take about .* GB at once, above bound=.* allowed: module.eval"):
        HessianProducts(Replicas(module), flat(parameters(module)), x, y, bound=3000)
    module.eval()
    HessianProducts(Replicas(module), flat(parameters(module)), x, y, bound=3000)


def test_whole_numbers_as_inputs_leave_the_buffers_as_they_are():
    """A float buffer is one of .7, and not of 0, beside inputs that are whole numbers."""

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Embedding(7, 4), nn.Linear(4, 3)
            self.register_buffer("scale", torch.tensor(0.7))

        def forward(self, x):
            return self.head(torch.tanh(self.scale * self.embed(x).mean(1)))

    torch.manual_seed(0)
    module, x, y = Scaled(), torch.randint(7, (12, 3)), torch.randint(3, (12,))
    w = flat(parameters(module)).float()
    top = largest_eigenvalue(HessianProducts(Replicas(module), w, x, y), tolerance=1e-5).value
    full = dense(Replicas(module), w, x, y)
    plain = torch.autograd.functional.hessian(lambda v: nn.functional.cross_entropy(_scaled_logits(v, x), y), w.double())
    torch.testing.assert_close(full, plain, rtol=1e-6, atol=1e-9)
    assert top == pytest.approx(float(torch.linalg.eigvalsh(plain)[-1]), rel=1e-3)


def _scaled_logits(v, x):
    embed, weight, bias = v[:28].view(7, 4), v[28:40].view(3, 4), v[40:]
    return torch.tanh(float(torch.tensor(0.7)) * embed[x].mean(1)) @ weight.T + bias


def test_observables_read_each_replica_with_its_own_buffers():
    """Running statistics move in training; in eval mode the curvature is that with the replica's own."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3))
    data = Dataset(3 + torch.randn(40, 5), torch.randint(3, (40,)), 3)
    system = NetworkOnData(module, data)
    run = Experiment(system, eta=[0.1, 0.3], batch_size=8, seed=1)
    run.advance(60)
    module.eval()
    found = curvature.LargestCurvature()(system, run.state, {})
    for r in range(2):
        alone = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3)).double().eval()
        nn.utils.vector_to_parameters(run.state.weights[r].double(), alone.parameters())
        for k in ("running_mean", "running_var"):
            getattr(alone[1], k).copy_(run.state.memory[f"buffers.1.{k}"][r])
        full = dense(Replicas(alone), flat(parameters(alone)), data.x, data.y)
        assert found["lambda_max"][r] == pytest.approx(float(torch.linalg.eigvalsh(full)[-1]), rel=2e-3)
    assert "lambda_max_samples" not in found
    some = curvature.LargestCurvature(samples=10)(system, run.state, {})
    assert (some["lambda_max_samples"].tolist(), some["lambda_max_data"].tolist()) == ([10, 10], [40, 40])


def test_an_observable_refuses_active_dropout_and_does_not_call_it_diverged():
    module = nn.Sequential(nn.Linear(5, 6), nn.Dropout(0.3), nn.Linear(6, 3))
    system = NetworkOnData(module, Dataset(torch.randn(20, 5), torch.randint(3, (20,)), 3))
    run = Experiment(system, eta=0.1, batch_size=4, observables={"sharpness": curvature.LargestCurvature()})
    with pytest.raises(ValueError, match="draws random numbers"):
        next(run.frames(2))


@pytest.mark.parametrize("name", ["relu mlp", "lstm", "language", "old spectral norm", "batch norm in eval"])
def test_the_fisher_diagonal_of_any_module(name):
    """Of the same labels, drawn by hand, with each sample's gradient in a loop."""
    module, x, y = born(name)
    module.eval()
    p, draws, expected = parameters(module), 2, 0.0
    with torch.no_grad():
        chances = module(x).softmax(-1)
    generator = torch.Generator().manual_seed(4)
    drawn = torch.multinomial(chances.flatten(0, -2), draws, replacement=True, generator=generator)
    for i, labels in enumerate(drawn.unflatten(0, chances.shape[:-1])):
        for y_i in labels.movedim(-1, 0):
            loss = nn.functional.cross_entropy(module(x[[i]]).flatten(0, -2), y_i.reshape(-1))
            expected = expected + flat(torch.autograd.grad(loss, p, materialize_grads=True)).square() / (len(x) * draws)
    system = NetworkOnData(module, Dataset(x, y, 3))
    found = fisher_diagonal(system, flat(p), x, draws=draws, seed=4)
    torch.testing.assert_close(torch.from_numpy(found.value), expected, rtol=1e-8, atol=1e-12)
