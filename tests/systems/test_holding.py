"""A module lent to its replicas: it is one of them meanwhile, whatever it is made of, and its own afterwards."""

import copy

import pytest
import torch
from torch import nn

from thermolab.systems.replicas import Replicas


def rich():
    """Tied, shared, frozen and normalised layers, a hook, an old weight norm and a parametrization."""
    torch.manual_seed(0)
    shared, norm = nn.Linear(4, 4), nn.BatchNorm1d(4)
    old = nn.utils.weight_norm(nn.Linear(4, 4)) if hasattr(nn.utils, "weight_norm") else nn.Linear(4, 4)
    new = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3))
    net = nn.Sequential(shared, nn.Tanh(), shared, norm, old, nn.Dropout(0.3), nn.Linear(4, 4).requires_grad_(False), new)
    net[1].register_forward_hook(lambda module, inputs, output: 2 * output)
    return net


def everything(module):
    """All that a module is, to be compared."""
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {k: (id(t), t.detach().clone(), t.requires_grad, t.grad) for k, t in tensors.items()}


def unchanged(module, before):
    now = everything(module)
    assert now.keys() == before.keys()
    for name, (same, value, wants, gradient) in before.items():
        assert now[name][0] == same, name
        assert torch.equal(now[name][1], value), name
        assert now[name][2] == wants, name
        assert now[name][3] is gradient, name


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_it_is_the_replica_and_then_itself_again():
    module, x = rich(), torch.randn(6, 4)
    module(x).sum().backward()
    replicas, before = Replicas(module), everything(module)
    row = torch.randn(replicas.n_parameters)
    own = {"buffers.3.running_mean": torch.full((4,), 3.0)}
    with replicas.holding(row, own) as held:
        assert held is module
        assert torch.equal(torch.cat([p.detach().flatten() for p in held.parameters() if p.requires_grad]), row)
        assert torch.equal(held[3].running_mean, own["buffers.3.running_mean"])
        assert all(p.grad is None for p in held.parameters())
        held.eval()
        held[5].p = 0.5
        held(x).sum().backward()
        held.train()
        held(x)
        assert held[0].weight.grad.any()
    unchanged(module, before)
    assert module.training
    assert module[5].p == 0.3
    assert (own["buffers.3.running_mean"] == 3).all()
    module(x).sum().backward()  # and it goes on as an ordinary module


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_an_error_inside_leaves_it_as_it_was():
    module = rich()
    replicas, before = Replicas(module), everything(module)

    def fails():
        with replicas.holding(torch.zeros(replicas.n_parameters)) as held:
            held(torch.randn(5, 4))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    unchanged(module, before)
    with pytest.raises(ValueError, match=r"^weights have shape \[3\]; allowed: \[\d+\], those of one replica$"):
        replicas.holding(torch.zeros(3)).__enter__()


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_outputs_are_those_of_a_copy_with_these_weights():
    module = rich().eval()
    replicas, x = Replicas(module), torch.randn(6, 4)
    weights = torch.randn(3, replicas.n_parameters)
    expected = []
    for row in weights:
        torch.manual_seed(0)
        net = rich().eval()
        nn.utils.vector_to_parameters(row.clone(), [p for p in net.parameters() if p.requires_grad])
        net[6].load_state_dict(module[6].state_dict())
        expected.append(net(x).detach())
    torch.testing.assert_close(replicas.outputs(weights, x), torch.stack(expected))


def test_other_precision_and_integers():
    """All floats take the dtype of the weights, if the module has one alone; integers stay what they are."""
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    replicas = Replicas(module, "squared")
    with replicas.holding(torch.randn(replicas.n_parameters, dtype=torch.float64)) as held:
        assert {p.dtype for p in held.parameters()} == {torch.float64}
        assert held[1].running_var.dtype == torch.float64
        assert held[1].num_batches_tracked.dtype == torch.int64
        assert held(torch.randn(5, 3, dtype=torch.float64)).dtype == torch.float64
    assert {p.dtype for p in module.parameters()} == {torch.float32}
    mixed = nn.Sequential(nn.Linear(3, 4), copy.deepcopy(module[1]).double())
    with Replicas(mixed, "squared").holding(torch.randn(24)) as held:
        assert [p.dtype for p in held.parameters()] == [torch.float32] * 2 + [torch.float64] * 2
