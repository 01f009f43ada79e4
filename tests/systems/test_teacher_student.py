"""Networks that learn a teacher: exact covariances of the data, the best network, the neurons of the teacher."""

import numpy as np
import pytest
import torch

from thermolab.systems import regression, teacher_student


def test_samples_have_exact_moments():
    x, e = regression.samples([1.0, 2.0], [0.5, 1.0, 3.0], n_data=500, seed=3)
    z = np.concatenate([x, e], 1)
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(z.T @ z / 500, np.diag([1, 4, 0.25, 1, 9]), atol=1e-12)


def test_the_best_linear_network_is_the_target():
    target = np.random.default_rng(0).normal(size=(3, 2))
    net = teacher_student.student((2, 4, 3), lambda x: x @ target.T, "linear", [1.0, 2.0, 3.0], n_data=400)
    found = torch.linalg.lstsq(net.data.x.double(), net.data.y.double())
    np.testing.assert_allclose(found.solution.T, target, atol=1e-6)


@pytest.mark.parametrize("activation", teacher_student.ACTIVATIONS)
def test_neurons_of_a_teacher_are_of_equal_length_and_do_different_things(activation):
    net = teacher_student.teacher(6, 4, 5, activation, strength=2.0, seed=3)
    first, second = net[0].weight.detach(), net[-1].weight.detach()
    np.testing.assert_allclose(first @ first.T, 2 * np.eye(4), atol=1e-6)
    np.testing.assert_allclose(second.T @ second, 2 * np.eye(4), atol=1e-6)
    if activation == "linear":
        assert net[0].bias is None
    else:
        np.testing.assert_allclose(net[0].bias.detach().square(), 0.09 * 2, rtol=1e-5)
