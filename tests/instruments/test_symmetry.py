"""Rescalable pairs against the loss itself, against real steps, and against lists written by hand."""

import pytest
import torch
from torch import nn

from thermolab.instruments import symmetry
from thermolab.systems import models

LEAKY = lambda: nn.LeakyReLU(0.1)  # noqa: E731


def residual(activation=nn.ReLU):
    inner = [nn.Sequential(nn.Linear(7, n), activation(), nn.Linear(n, 7)) for n in (9, 8)]
    return nn.Sequential(nn.Linear(6, 7), *map(models.Residual, inner), nn.ReLU(), nn.Linear(7, 3))


NETS = {
    "mlp": (lambda: models.mlp((6, 12, 10, 3)), (6,)),
    "no bias": (lambda: models.mlp((6, 12, 10, 3), bias=False), (6,)),
    "tanh": (lambda: models.mlp((6, 12, 10, 3), activation="tanh"), (6,)),
    "cnn": (
        lambda: nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 3), LEAKY(),
                              nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(20, 3)), (2, 8, 8)),
    "images": (lambda: models.cnn((4, 6), 3, size=8), (64,)),
    "residual": (residual, (6,)),
    "residual tanh": (lambda: residual(nn.Tanh), (6,)),
    "transformer": (lambda: models.tiny_transformer(8, 3, size=8), (64,)),
    "norms": (
        lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.LayerNorm(144), nn.ReLU(),
                              nn.Linear(144, 5), nn.BatchNorm1d(5), LEAKY(), nn.Linear(5, 3)), (1, 8, 8)),
    "invariant": (lambda: models.scale_invariant_mlp((6, 8, 8), 3), (6,)),
}  # fmt: skip


def example(kind, seed=0):
    """A net with generic weights, biases too, as float64, and a batch."""
    torch.manual_seed(seed)
    make, shape = NETS[kind]
    net = make().double()
    with torch.no_grad():
        for p in net.parameters():
            p += 0.2 * torch.randn_like(p)
    return net, torch.randn(16, *shape, dtype=torch.float64), torch.randn(16, 3, dtype=torch.float64)


def loss_at(net, weights, x, y):
    nn.utils.vector_to_parameters(weights, [p for p in net.parameters() if p.requires_grad])
    return (net(x) - y).square().sum(1).mean()


def flat(net):
    return nn.utils.parameters_to_vector([p for p in net.parameters() if p.requires_grad]).detach()


@pytest.mark.parametrize("kind", NETS)
def test_loss_under_rescaling(kind):
    """What is named leaves the loss unit by unit, what is rejected changes it."""
    net, x, y = example(kind)
    weights = flat(net)
    before = loss_at(net, weights, x, y).item()
    for pair in [*symmetry.pairs(net), *symmetry.neighbours(net)]:
        units = len(pair.incoming)
        for unit in range(units):
            factors = torch.ones(units).double()
            factors[unit] = 1.7
            after = loss_at(net, symmetry.rescale(pair, weights, factors), x, y).item()
            if not pair.reason:
                assert after == pytest.approx(before, rel=1e-12), (pair.name, unit)
        if pair.reason:
            after = loss_at(net, symmetry.rescale(pair, weights, torch.linspace(1.2, 2, units).double()), x, y).item()
            assert abs(after / before - 1) > 1e-4, (pair.name, pair.reason)


@pytest.mark.parametrize("kind", NETS)
def test_identity_at_a_real_step(kind):
    """Against weights before and after a step of torch.optim; and the errors that the instrument reports."""
    net, x, y = example(kind)
    eta, before = 0.05, flat(net)
    optimiser = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=eta)
    (net(x) - y).square().sum(1).mean().backward()
    gradient = torch.cat([p.grad.flatten() for p in net.parameters() if p.requires_grad])
    errors = symmetry.identity_errors(net, x, y, eta=eta)
    optimiser.step()
    after = flat(net)
    for pair in [*symmetry.pairs(net), *symmetry.neighbours(net)]:
        u, w = pair.incoming, pair.outgoing
        change = ((after[u] ** 2).sum(1) - (after[w] ** 2).sum(1)) - ((before[u] ** 2).sum(1) - (before[w] ** 2).sum(1))
        size = eta**2 * ((gradient[u] ** 2).sum(1) + (gradient[w] ** 2).sum(1))
        missed = (change - eta**2 * ((gradient[u] ** 2).sum(1) - (gradient[w] ** 2).sum(1))).abs()
        found = symmetry.identity_error(pair, before, gradient, eta)
        alive = size > 1e-8
        torch.testing.assert_close(found[alive] * size[alive], missed[alive], rtol=1e-6, atol=1e-13)
        if pair.reason:
            assert errors[pair.name] == pytest.approx(float(missed.sum() / size.sum()), rel=1e-9)
            assert errors[pair.name] >= 1e-2, (pair.name, pair.reason)
        else:
            assert errors[pair.name] <= 1e-10, pair.name


def test_lists_by_hand():
    def listed(net):
        return [p.name for p in symmetry.pairs(net)], {p.name: p.reason for p in symmetry.neighbours(net)}

    assert listed(models.mlp((3, 4, 2))) == (["0 -> 2"], {"0 -> 2 (no bias)": "missing bias"})
    assert listed(models.mlp((3, 4, 2), bias=False)) == (["0 -> 2"], {})
    assert listed(models.mlp((3, 4, 2), activation="tanh")) == ([], {"0 -> 2": "non-homogeneous activation"})
    assert listed(models.scale_invariant_mlp((3, 4, 4)))[1] == {"0 -> 3": "normalisation"}  # the head is frozen
    assert listed(models.mlp((3, 4, 2))[:1]) == ([], {})
    found, rejected = listed(residual())
    assert found == ["0+1.inner.2+2.inner.2 -> 1.inner.0+2.inner.0+4", "1.inner.0 -> 1.inner.2", "2.inner.0 -> 2.inner.2"]
    assert rejected["1.inner.2 -> 2.inner.0"] == "skip connection"
    assert "1.inner.2 -> 1.inner.0" not in rejected  # nothing flows back
    found, rejected = listed(models.tiny_transformer(8, 3, size=8))
    assert found == ["3.norm1 -> 3.attention.mix", "3.attention.query -> 3.attention.key", "3.attention.value -> 3.attention.out",
                     "3.norm2 -> 3.perceptron.0", "3.perceptron.0 -> 3.perceptron.2", "4 -> 6"]  # fmt: skip
    assert rejected["3.attention.out -> 3.perceptron.0"] == "normalisation, skip connection"
    assert rejected["3.attention.query -> 3.attention.value"] == "side by side, not in a row"


def test_indices_of_a_flattened_image():
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))
    (pair,) = symmetry.pairs(net)
    assert pair.incoming.tolist() == [[0, 2], [1, 3]]
    first = [4 + 8 * row + column for row in range(3) for column in range(4)]
    assert pair.outgoing.tolist() == [first, [i + 4 for i in first]]


def test_frozen_weights_are_no_pair():
    net = models.mlp((3, 4, 2))
    net[0].bias.requires_grad_(False)
    assert symmetry.pairs(net) == []
    assert [(p.name, p.reason) for p in symmetry.neighbours(net)] == [("0 -> 2", "frozen weights")]


def behind(*layers, width=5):
    """A pair of a Linear and a Linear, then `layers`, which read `width` units."""
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, width), *layers, nn.Linear(width, 2))


@pytest.mark.parametrize(("net", "seen"), [
    (behind(nn.BatchNorm1d(5)), False),
    (behind(nn.Identity(), nn.BatchNorm1d(5, affine=False), nn.ReLU()), False),
    (behind(nn.LayerNorm(5)), True),
    (behind(nn.ReLU(), nn.BatchNorm1d(5)), True),
    (behind(models.Residual(nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 5)))), True),
    (behind(models.Residual(nn.Tanh()), nn.BatchNorm1d(5)), True),
])  # fmt: skip
def test_a_bias_that_a_batch_norm_takes_away(net, seen):
    """It gets no gradient, so that the pair needs it as little as any other weight of no effect."""
    names = [p.name for p in symmetry._find(net)]
    assert "0 -> 1" in names
    assert ("0 -> 1 (no bias)" in names) == seen
    torch.manual_seed(0)
    for layer in net.modules():  # the same weights in whatever order tests run: units that are always above 0 would be linear
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()
    x, y = torch.randn(9, 3), torch.randn(9, 2)
    (net(x) - y).square().mean().backward()
    assert (net[0].bias.grad.abs().max().item() > 1e-5) == seen


def test_log_ratio_and_norms():
    net = models.mlp((1, 2, 1), bias=False)
    (pair,) = symmetry.pairs(net)
    squares = torch.tensor([[1.0, 2.0, 3.0, 6.0], [4.0, 4.0, 1.0, 1.0]])
    assert [side.tolist() for side in symmetry.squared_norms(pair, squares)] == [[[1, 2], [4, 4]], [[3, 6], [1, 1]]]
    torch.testing.assert_close(symmetry.log_ratio(pair, squares), torch.log(torch.tensor([3.0, 0.25])))


def test_permutation_leaves_the_loss():
    net, x, y = example("cnn")
    weights = flat(net)
    for pair in symmetry.pairs(net):
        moved = symmetry.permute(pair, weights, torch.arange(len(pair.incoming)).roll(1))
        assert (moved != weights).any()
        assert loss_at(net, moved, x, y).item() == pytest.approx(loss_at(net, weights, x, y).item(), rel=1e-12)


def test_a_unit_that_is_switched_off():
    net, x, y = example("mlp")
    with torch.no_grad():
        net[0].bias[0] = -1e3
    errors = symmetry.identity_errors(net, x, y)
    assert errors["0 -> 2"] <= 1e-10
    assert errors["0 -> 2 (no bias)"] >= 1e-2


def test_weights_of_another_moment():
    net, x, y = example("mlp")
    weights, other = flat(net), example("mlp", seed=1)[0]
    assert symmetry.identity_errors(other, x, y, weights=weights) == symmetry.identity_errors(net, x, y)


@pytest.mark.parametrize("layer", [nn.PReLU(), nn.Dropout(0.1), nn.Conv2d(4, 4, 3, groups=2), nn.Softmax(-1)])
def test_unsupported_layers(layer):
    with pytest.raises(ValueError, match=f"^layer 1 is {type(layer).__name__}; allowed: [^\n]*$"):
        symmetry.pairs(nn.Sequential(nn.Linear(4, 4), layer, nn.Linear(4, 2)))


def test_layers_used_twice():
    shared = nn.Linear(4, 4)
    with pytest.raises(ValueError, match=r"^the module uses some of its parameters twice[^\n]*$"):
        symmetry.pairs(nn.Sequential(shared, nn.ReLU(), shared))


def test_a_layer_that_reads_something_else():
    with pytest.raises(ValueError, match=r"^layer 2 reads 12 values of 4 units; [^\n]*$"):
        symmetry.pairs(nn.Sequential(nn.Linear(3, 4), nn.Flatten(), nn.Linear(12, 2)))  # three tokens, flattened


def test_an_activation_that_comes_twice_counts_twice():
    """Between layers 2 and 4 the same tanh stands as between 0 and 2."""
    tanh = nn.Tanh()
    net = nn.Sequential(nn.Linear(3, 4), tanh, nn.Linear(4, 5), tanh, nn.Linear(5, 2))
    assert symmetry.pairs(net) == []
    assert {p.reason for p in symmetry.neighbours(net)} == {"non-homogeneous activation"}


@pytest.mark.parametrize(
    "change",
    [
        lambda net: net[1].register_forward_hook(lambda m, i, out: out.tanh()),
        lambda net: net[0].register_forward_pre_hook(lambda m, i: i),
        lambda net: setattr(net[1], "forward", torch.tanh),
        lambda net: net[0].weight.register_hook(lambda g: 2 * g),
        lambda net: setattr(net, "forward", lambda x: net[2](torch.tanh(net[0](x)))),
    ],
)
def test_layers_that_do_something_else_are_refused(change):
    net = models.mlp((3, 4, 2))
    change(net)
    with pytest.raises(ValueError, match=r"^layer \w+ has hooks or a forward of its own; allowed: layers as they are$"):
        symmetry.pairs(net)


def test_labels_are_no_targets_of_the_squared_loss_however_many_there_are():
    """Of as many samples as classes, [3] would be broadcast against [3, 3]."""
    with pytest.raises(ValueError, match="do not fit"):
        symmetry.identity_errors(models.mlp((4, 5, 3)), torch.randn(3, 4), torch.randn(3))
