"""Networks that learn noisy answers: their data, what they can learn without error, and how sharp they are there."""

import numpy as np
import pytest
import torch

from thermolab.instruments import curvature
from thermolab.phenomena.progressive_sharpening import two_layers
from thermolab.systems import teacher_student
from thermolab.systems.regression import samples


def test_data_sets_differ_in_the_scale_of_the_noise_alone():
    one, two = (two_layers.learner(p, n_data=200, seed=5).data for p in ((1.0, 1.0, 2.0), (0.5, 3.0, 2.0)))
    assert (one.x == two.x).all()
    np.testing.assert_allclose((two.y - two.x) / (one.y - one.x), np.tile([0.5, 3, 1], (200, 1)), rtol=1e-3)
    np.testing.assert_allclose(two_layers.balanced((3.0, 4.0)), [12.5**0.5] * 2)


@pytest.mark.parametrize("activation", ["linear", "tanh"])
def test_a_network_of_its_own_kind_can_be_learnt_without_error(activation):
    """And the sharpness of such a point is that of the dense Hessian."""
    answer = two_layers.own_kind(3, activation, strength=1.3, seed=4)
    net = two_layers.learner((1.0, 2.0, 0.5), activation, answer=answer, width=3, n_data=300, seed=4)
    if activation == "linear":
        weights = torch.cat([1.3**0.5 * torch.eye(3).flatten()] * 2)[None]
    else:
        teacher = teacher_student.teacher(3, 3, 3, activation, strength=1.3, seed=4)
        weights = torch.cat([p.detach().flatten() for p in teacher.parameters()])[None]
    np.testing.assert_allclose(two_layers.excess(net, weights, answer), 0, atol=1e-10)
    x = samples(np.ones(3), [], n_data=two_layers.PROBES)[0]
    full = curvature.dense(net, weights[0], torch.tensor(x), torch.tensor(answer(x)))
    assert two_layers.sharpness(net, weights, activation, answer)[0] == pytest.approx(float(torch.linalg.eigvalsh(full)[-1]))


def test_sharpness_of_weights_that_are_not_finite_is_nan():
    net = two_layers.learner((1.0, 1.0), width=2, n_data=100)
    weights = net.start(torch.arange(3), 0)
    weights[1, 0] = torch.inf
    assert np.isnan(two_layers.sharpness(net, weights, "linear")).tolist() == [False, True, False]
