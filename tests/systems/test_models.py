"""The modules of the book: layers, frozen heads, starts."""

import copy
import math

import pytest
import torch
from torch import nn

from thermolab.engine.experiment import Experiment
from thermolab.systems import data, models
from thermolab.systems.network import NetworkOnData
from thermolab.systems.replicas import Replicas

DOUBLE = 1e-12
IMAGES = {
    "cnn": (models.cnn, 16),
    "transformer": (models.tiny_transformer, 16),
    "two layers": (lambda: models.tiny_transformer(8, layers=2, heads=4, size=8, patch=2), 8),
    "scale-invariant cnn": (models.scale_invariant_cnn, 8),
}


def kinds(module):
    return [type(layer).__name__ for layer in module]


def test_mlp():
    assert kinds(models.mlp((3, 4, 2))) == ["Linear", "ReLU", "Linear"]
    assert kinds(models.mlp((3, 2), activation="tanh")) == ["Linear"]
    assert kinds(models.mlp((3, 4, 4, 2), activation="tanh")) == ["Linear", "Tanh"] * 2 + ["Linear"]
    assert sum(p.numel() for p in models.mlp((3, 4, 2)).parameters()) == 3 * 4 + 4 + 4 * 2 + 2
    assert sum(p.numel() for p in models.mlp((3, 4, 2), bias=False).parameters()) == 3 * 4 + 4 * 2


@pytest.mark.parametrize(("norm", "layer"), [("batch", "BatchNorm1d"), ("layer", "LayerNorm")])
def test_scale_invariant_mlp(norm, layer):
    module = models.scale_invariant_mlp((64, 8, 8), norm=norm, head_norm=5.0)
    assert kinds(module) == ["Linear", layer, "ReLU"] * 2 + ["Linear"]
    trainable = [p for p in module.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trainable) == 576
    head = module[-1].weight
    assert not head.requires_grad
    assert float(head.norm()) == pytest.approx(5.0, rel=1e-6)
    assert head.shape == (10, 8)
    assert [name for name, _ in module.named_parameters()] == ["0.weight", "3.weight", "6.weight"]


def test_the_head_is_always_the_same():
    torch.manual_seed(1)
    first = models.scale_invariant_mlp((8, 4)).state_dict()["3.weight"]
    torch.manual_seed(2)
    assert torch.equal(models.scale_invariant_mlp((8, 4)).state_dict()["3.weight"], first)


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_scaling_the_weights_changes_nothing(norm):
    torch.manual_seed(0)
    module = models.scale_invariant_mlp((6, 8, 8), 3, norm=norm).double()
    x = torch.randn(10, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    before = module(x).detach()
    with torch.no_grad():
        for layer, factor in ((module[0], 0.5), (module[3], 3.0)):  # each map by itself
            layer.weight *= factor
    torch.testing.assert_close(module(x).detach(), before, rtol=0, atol=1e-9 * float(before.abs().max()))


def test_bad_norm():
    with pytest.raises(ValueError, match=r"norm='group' .*allowed: batch, layer"):
        models.scale_invariant_mlp((4, 4), norm="group")


def test_start_scale():
    assert models.start_scale("0.weight", nn.Linear(8, 3).weight) == math.sqrt(2 / 8)
    assert models.start_scale("0.weight", nn.Conv2d(2, 5, 3).weight) == math.sqrt(2 / 18)
    assert models.start_scale("0.bias", nn.Linear(8, 3).bias) == 0


def test_start_scale_and_mean_of_a_transformer():
    scales, means = (
        {k: rule(k, p) for k, p in models.tiny_transformer().named_parameters()}
        for rule in (models.start_scale, models.start_mean)
    )
    assert scales["1.weight"] == math.sqrt(2 / 16)
    assert scales["2.positions"] == 0.02
    assert scales["3.attention.mix.weight"] == scales["3.attention.out.weight"] == math.sqrt(1 / 16)
    assert scales["3.perceptron.2.weight"] == math.sqrt(2 / 64)
    assert {k for k, mean in means.items() if mean} == {"3.norm1.weight", "3.norm2.weight", "4.weight"}
    assert {means[k] for k in ("3.norm1.weight", "3.norm2.weight", "4.weight")} == {1.0}
    assert {scale for k, scale in scales.items() if k.endswith("bias") or means[k]} == {0.0}


# --- networks for images ------------------------------------------------------------------------------------------------
def images(size, n=3, batch=5):
    """Flat images [n, batch, size²] and labels [n, batch]."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, batch, size**2, generator=generator, dtype=torch.float64)
    return x, torch.randint(10, (n, batch), generator=generator)


def starts(replicas, n=3):
    """Weights [n, P] a little off the start, so that no bias is 0 and no gain 1."""
    generator = torch.Generator().manual_seed(1)
    normal = torch.randn(2, n, replicas.n_parameters, generator=generator, dtype=torch.float64)
    return replicas.start(normal[0]) + 0.1 * normal[1]


def test_layers_and_sizes():
    assert kinds(models.cnn()) == ["AsImages", *["Conv2d", "ReLU"] * 2, "Flatten", "Linear"]
    assert Replicas(models.cnn()).n_parameters == (9 + 1) * 8 + (9 * 8 + 1) * 16 + (16 * 16 + 1) * 10
    assert Replicas(models.cnn((4,), activation="tanh")).n_parameters == 10 * 4 + (4 * 64 + 1) * 10
    block = 4 * 16 + (16 * 48 + 48) + (16 * 16 + 16) + (16 * 64 + 64) + (64 * 16 + 16)
    assert Replicas(models.tiny_transformer()).n_parameters == (16 * 16 + 16) + 16 * 16 + block + 2 * 16 + 170
    module = models.scale_invariant_cnn(head_norm=5.0)
    assert kinds(module) == ["AsImages", *["Conv2d", "GroupNorm", "ReLU"] * 2, "Flatten", "Linear"]
    assert Replicas(module).n_parameters == 9 * 8 + 9 * 8 * 16
    assert module[-1].weight.shape == (10, 64)
    assert float(module[-1].weight.norm()) == pytest.approx(5.0, rel=1e-6)


@pytest.mark.parametrize("name", IMAGES)
def test_replicas_are_the_modules_one_by_one(name):
    build, size = IMAGES[name]
    module = build().double()
    replicas, (x, y) = Replicas(module), images(size)
    weights = starts(replicas)
    found = torch.full_like(weights, torch.nan)
    losses = replicas.loss_and_gradient(weights, x, y, found)
    for r in range(3):
        net = copy.deepcopy(module)
        nn.utils.vector_to_parameters(weights[r].clone(), [p for p in net.parameters() if p.requires_grad])
        loss = nn.functional.cross_entropy(net(x[r]), y[r])
        loss.backward()
        gradient = torch.cat([p.grad.flatten() for p in net.parameters() if p.requires_grad])
        torch.testing.assert_close(losses[r], loss.detach(), rtol=DOUBLE, atol=0)
        torch.testing.assert_close(found[r], gradient, rtol=1e-9, atol=DOUBLE * float(gradient.abs().max()))
    assert len({float(loss) for loss in losses}) == 3


@pytest.mark.parametrize("name", IMAGES)
def test_flat_images_and_others_and_single_ones(name):
    """The same logits for flat and unflattened images, and for each image by itself: no sample depends on its batch."""
    build, size = IMAGES[name]
    module, x = build().double(), images(size)[0][0]
    logits = module(x)
    assert logits.shape == (5, 10)
    torch.testing.assert_close(module(x.reshape(5, 1, size, size)), logits, rtol=0, atol=0)
    for i in range(5):
        torch.testing.assert_close(module(x[i : i + 1])[0], logits[i], rtol=1e-10, atol=1e-12)


def test_scaling_the_weights_of_the_convolutions_changes_nothing():
    replicas, (x, y) = Replicas(models.scale_invariant_cnn().double()), images(8)
    weights = starts(replicas)
    gradients = [torch.empty_like(weights) for _ in range(3)]
    first = replicas.loss_and_gradient(weights, x, y, gradients[0])
    scaled = replicas.loss_and_gradient(0.1 * weights, x, y, gradients[1])
    torch.testing.assert_close(scaled, first, rtol=1e-8, atol=0)
    torch.testing.assert_close(0.1 * gradients[1], gradients[0], rtol=1e-6, atol=1e-8)  # ∇L(cw) = ∇L(w)/c
    along = (weights * gradients[0]).sum(1) / (weights.norm(dim=1) * gradients[0].norm(dim=1))
    assert float(along.abs().max()) < 1e-8
    each = torch.cat([weights[:, :72] * 3, weights[:, 72:] / 2], 1)  # each convolution by itself
    torch.testing.assert_close(replicas.loss_and_gradient(each, x, y, gradients[2]), first, rtol=1e-8, atol=0)


def test_the_control_plain_networks_are_not_scale_invariant():
    for name in ("cnn", "transformer"):
        build, size = IMAGES[name]
        replicas, (x, y) = Replicas(build().double()), images(size)
        weights, gradient = starts(replicas), torch.empty(3, replicas.n_parameters, dtype=torch.float64)
        first, scaled = (replicas.loss_and_gradient(c * weights, x, y, gradient) for c in (1.0, 2.0))
        assert ((scaled - first).abs() > 0.01 * first).all()


def test_hidden_channels_may_be_exchanged():
    net = models.cnn().double()
    x, order = images(16)[0][0], torch.arange(7, -1, -1)
    before = net(x)
    with torch.no_grad():
        for tensor in (net[1].weight, net[1].bias):
            tensor.copy_(tensor[order])
        assert not torch.allclose(net(x), before)
        net[3].weight.copy_(net[3].weight[:, order])
    torch.testing.assert_close(net(x), before, rtol=1e-10, atol=1e-12)


def test_the_transformer_is_that_of_torch():
    """The same block by torch's own encoder layer."""
    block = models.Block(16, 2).double()
    other = nn.TransformerEncoderLayer(16, 2, 64, dropout=0.0, norm_first=True, batch_first=True, dtype=torch.float64)
    names = {
        "norm1": "norm1",
        "norm2": "norm2",
        "attention.out": "self_attn.out_proj",
        "perceptron.0": "linear1",
        "perceptron.2": "linear2",
    }
    state = {
        f"{theirs}.{kind}": block.state_dict()[f"{own}.{kind}"] for own, theirs in names.items() for kind in ("weight", "bias")
    }
    state |= {f"self_attn.in_proj_{kind}": block.state_dict()[f"attention.mix.{kind}"] for kind in ("weight", "bias")}
    other.load_state_dict(state)
    x = torch.randn(3, 7, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    torch.testing.assert_close(block(x), other(x), rtol=1e-10, atol=1e-12)


def test_patches_are_squares_of_the_image():
    image = torch.arange(64.0).reshape(1, 1, 8, 8)
    patches = models.Patches(8, 4)(image)
    assert patches.shape == (1, 4, 16)
    torch.testing.assert_close(patches[0, 1].reshape(4, 4), image[0, 0, :4, 4:])
    torch.testing.assert_close(patches[0, 2].reshape(4, 4), image[0, 0, 4:, :4])


def test_gains_start_at_one_and_signals_keep_their_size():
    replicas = Replicas(models.tiny_transformer())
    weights = replicas.start(torch.randn(2, replicas.n_parameters, generator=torch.Generator().manual_seed(0)))
    views = replicas.views(weights)
    assert all((views[k] == 1).all() for k in ("3.norm1.weight", "3.norm2.weight", "4.weight"))
    assert (views["4.bias"] == 0).all()
    assert float(views["3.attention.mix.weight"].std()) == pytest.approx(0.25, rel=4 / math.sqrt(2 * 1536))


def test_the_start_of_a_net_without_gains_is_as_it_was():
    """To the bit: logs hold hashes of weights, and −0 is not 0."""
    replicas = Replicas(models.mlp((3, 4, 2)))
    normal = -torch.ones(1, replicas.n_parameters)
    found = replicas.start(normal)
    scales = torch.cat([torch.full((p.numel(),), models.start_scale(k, p)) for k, p in replicas.trainable.items()])
    assert found.numpy().tobytes() == (normal * scales).numpy().tobytes()


@pytest.mark.parametrize("name", ["cnn", "transformer"])
def test_they_learn_synthetic_images(name):
    pictures = data.synthetic_images(256)
    run = Experiment(NetworkOnData(IMAGES[name][0](), pictures), eta=0.1, batch_size=32, replicas=1)
    losses = [float(frame.observables["U"][0]) for frame in run.frames(40, until=160)]
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: models.cnn((4, 4, 4), size=12), r"3 layers of stride 2 on images of size=12; .* multiple of 8"),
        (lambda: models.scale_invariant_cnn(()), "0 layers"),
        (lambda: models.tiny_transformer(patch=5), r"patch=5 .* a divisor of 16"),
        (lambda: models.tiny_transformer(heads=3), r"heads=3 .* a divisor of 16"),
    ],
)
def test_sizes_that_do_not_fit(build, message):
    with pytest.raises(ValueError, match=message):
        build()
