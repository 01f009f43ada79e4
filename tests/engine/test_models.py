"""The modules of the book: layers, frozen heads, starts."""

import math

import pytest
import torch
from torch import nn

from thermolab.engine import models


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
