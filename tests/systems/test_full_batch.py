"""Gradient descent on all data at once: its steps against autograd, no noise, and the edge of a quadratic valley."""

import pytest
import torch
from torch import nn

from thermolab.engine.experiment import Experiment
from thermolab.systems import data, models
from thermolab.systems.full_batch import FullBatch
from thermolab.systems.regression import Answers


def digits() -> FullBatch:
    """A perceptron on 30 images, with one-hot targets."""
    images = data.digits(30, seed=0)
    return FullBatch(models.mlp((64, 6, 10), activation="tanh"), Answers(images.x, torch.eye(10)[images.y]), loss="squared")


def test_a_step_is_that_of_the_whole_gradient():
    """Two replicas at two rates, with weight decay, against autograd on all data."""
    net = digits()
    start = net.start(torch.arange(2), 3)
    run = Experiment(net, eta=[0.1, 0.05], lam=0.1, weights=start)
    run.advance(4)
    x, y, module = net.data.x.double(), net.data.y.double(), net.replicas.module.double()
    for r, eta in enumerate((0.1, 0.05)):
        w = start[r].double()
        for _ in range(4):
            w = w.requires_grad_()
            parameters = {k: v[0] for k, v in net.replicas.views(w[None]).items()}
            loss = (torch.func.functional_call(module, parameters, (x,)) - y).square().sum() / 30
            (g,) = torch.autograd.grad(loss, w)
            w = (w - eta * (g + 0.1 * w)).detach()
        torch.testing.assert_close(run.state.weights[r], w.float(), rtol=1e-4, atol=1e-5)


def test_there_is_no_noise_and_no_batch_size():
    """Other random numbers make no difference, and runs may be cut into slices."""
    start = 0.4 * digits().start(torch.arange(1), 0)
    one, other = (Experiment(digits(), eta=0.1, weights=start, seed=s) for s in (0, 1))
    one.advance(6)
    for _ in range(3):
        other.advance(2)
    assert (one.state.weights == other.state.weights).all()
    assert not (one.state.weights == start).all()
    with pytest.raises(ValueError, match="batch_size is no knob of this system"):
        one.set(batch_size=4)


@pytest.mark.parametrize(("ratio", "grows"), [(0.98, False), (1.02, True)])
def test_a_linear_layer_leaves_its_minimum_beyond_the_edge(ratio, grows):
    """λ_max = 2 max eig XᵀX/N whatever the weights: exactly at 2/η descent turns into growth."""
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(1))
    net = FullBatch(nn.Sequential(nn.Linear(3, 1, bias=False)), Answers(x, x[:, :1].clone()), loss="squared")
    top = 2 * float(torch.linalg.eigvalsh(x.T.double() @ x.double() / 20)[-1])
    run = Experiment(net, eta=ratio * 2 / top, weights=net.start(torch.arange(1), 0))
    far = [float((run.state.weights - torch.tensor([[1.0, 0, 0]])).norm())]
    for _ in range(2):
        run.advance(200)
        far.append(float((run.state.weights - torch.tensor([[1.0, 0, 0]])).norm()))
    assert (far[2] > 10 * far[1] > far[0]) is grows
