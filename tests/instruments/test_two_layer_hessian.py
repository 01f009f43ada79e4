"""The Hessian of a two-layer network, written out, against automatic differentiation."""

import numpy as np
import pytest
import torch

from thermolab.instruments import curvature
from thermolab.instruments.two_layer_hessian import hessian
from thermolab.systems import teacher_student


@pytest.mark.parametrize("activation", teacher_student.ACTIVATIONS)
def test_the_hessian_is_that_of_automatic_differentiation(activation):
    net = teacher_student.student((3, 4, 3), lambda x: x, activation, np.ones(3), n_data=64, seed=1)
    weights = net.start(torch.arange(2), 5).double()
    weights += 0.1 * torch.randn(weights.shape, generator=torch.Generator().manual_seed(0))  # biases start at 0
    x, y = net.data.x.double(), net.data.y.double()
    ours = torch.linalg.eigvalsh(hessian(activation, *teacher_student.weight_matrices(net, weights), x, y))
    dense = torch.stack([torch.linalg.eigvalsh(curvature.dense(net, w, x, y)) for w in weights])
    torch.testing.assert_close(ours, dense)
