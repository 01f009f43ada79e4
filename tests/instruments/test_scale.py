"""Groups that are scale-invariant are found in networks of which it is known, and the identity tells them from the others."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from thermolab.instruments import scale
from thermolab.systems import data, models

LOSS = nn.functional.cross_entropy
IMAGES = data.digits(128)


class Reused(nn.Module):
    """A forward of its own, which reads one layer twice, both times before a norm."""

    def __init__(self):
        super().__init__()
        self.first, self.inner, self.last = nn.Linear(64, 12, bias=False), nn.Linear(12, 12, bias=False), nn.Linear(12, 10)

    def forward(self, x):
        h = nn.functional.layer_norm(self.first(x), (12,)).relu()
        for _ in range(2):
            h = nn.functional.layer_norm(self.inner(h), (12,)).relu()
        return self.last(h)


def convolutions():
    first, second = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 6, 3)
    last = [nn.GroupNorm(2, 6), nn.ReLU(), nn.Flatten(), nn.Linear(96, 10)]
    return nn.Sequential(models.AsImages(8), first, nn.BatchNorm2d(4), nn.ReLU(), second, *last)


NETS = {  # the module, and the groups that are scale-invariant
    "plain": (lambda: models.mlp((64, 12, 10)), []),
    "tanh": (lambda: models.mlp((64, 12, 10), activation="tanh"), []),
    "all of it": (lambda: models.scale_invariant_mlp((64, 8, 8)), ["0", "3"]),
    "a bias counts in": (lambda: nn.Sequential(nn.Linear(64, 12), nn.LayerNorm(12), nn.ReLU(), nn.Linear(12, 10)), ["0"]),
    "dropout": (lambda: nn.Sequential(nn.Linear(64, 12), nn.LayerNorm(12), nn.Dropout(0.2), nn.Linear(12, 10)), ["0"]),
    "convolutions": (convolutions, ["1", "4"]),
    "own forward": (Reused, ["first", "inner"]),
    "norms before, not behind": (lambda: models.tiny_transformer(8, size=8), []),
    "weight norm": (
        lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(64, 12)), nn.ReLU(), nn.Linear(12, 10)),
        ["0.parametrizations.weight.original1"],
    ),
}


def made(name):
    torch.manual_seed(1)
    module, wanted = NETS[name]
    return module(), wanted


@pytest.mark.parametrize("name", NETS)
def test_the_invariant_groups_are_found_and_all_weights_are_in_one_group(name):
    module, wanted = made(name)
    before = {k: v.clone() for k, v in module.state_dict().items()}
    found = scale.groups(module, LOSS, IMAGES.x, IMAGES.y)
    assert [g.name for g in found if g.invariant] == wanted
    indices = torch.cat([g.index for g in found])
    assert sorted(indices.tolist()) == list(range(sum(p.numel() for p in module.parameters() if p.requires_grad)))
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())


@pytest.mark.parametrize("name", NETS)
def test_the_identity_holds_for_these_and_for_no_others(name):
    module, _ = made(name)
    w = nn.utils.parameters_to_vector([p for p in module.parameters() if p.requires_grad]).detach().double()
    w = w + 0.05 * torch.randn(w.shape, generator=torch.Generator().manual_seed(2), dtype=w.dtype)  # no bias is 0
    slope = scale.gradient(module, LOSS, IMAGES.x[:64], IMAGES.y[:64], w)
    for group in scale.groups(module, LOSS, IMAGES.x, IMAGES.y):
        error = scale.identity_error(group, w, slope)
        assert error < 0.01 if group.invariant else error > 0.1, group.name


def test_without_epsilon_the_identity_is_exact():
    module = nn.Sequential(nn.Linear(64, 12), nn.LayerNorm(12, eps=0), nn.ReLU(), nn.Linear(12, 10))
    w = nn.utils.parameters_to_vector(module.parameters()).detach().double()
    (group, *_) = scale.groups(module, LOSS, IMAGES.x, IMAGES.y)
    assert scale.identity_error(group, w, scale.gradient(module, LOSS, IMAGES.x, IMAGES.y, w)) < 1e-10


def test_the_gradient_is_that_of_plain_pytorch():
    module, (x, y) = models.mlp((64, 6, 10)).double(), (IMAGES.x[:9].double(), IMAGES.y[:9])
    w = nn.utils.parameters_to_vector(module.parameters()).detach()
    plain = nn.utils.parameters_to_vector(torch.autograd.grad(LOSS(module(x), y), list(module.parameters())))
    torch.testing.assert_close(scale.gradient(module, LOSS, x, y, w), plain)


def test_a_group_without_a_gradient_has_no_error():
    group = scale.Group("dead", torch.arange(2), False)
    assert scale.identity_error(group, torch.ones(4).double(), torch.tensor([0.0, 0.0, 1.0, 1.0]).double()) == 0.0


def test_old_weight_norm_and_pruning_are_copied():
    module = nn.Sequential(nn.Linear(64, 6), nn.ReLU(), nn.Linear(6, 10))
    prune.random_unstructured(module[0], "weight", 0.3)
    module(IMAGES.x[:2])
    assert not any(g.invariant for g in scale.groups(module, LOSS, IMAGES.x, IMAGES.y))


def test_a_module_whose_copy_does_not_run_is_one_line():
    module = nn.Sequential(nn.Linear(64, 10))
    module.forward = lambda x, layer=module[0]: layer(x)  # the layer of the original, in a copy too
    with pytest.raises(ValueError, match=r"a copy of the module in float64 stops with: .*; its symmetries cannot be tried"):
        scale.groups(module, LOSS, IMAGES.x, IMAGES.y)
