"""The bowl with turned noise: its covariance against scipy, a step by hand, what is read of a step, and the moments at rest."""

import math

import numpy as np
import pytest
import torch
from scipy import linalg, stats

from thermolab.engine.experiment import Experiment
from thermolab.systems import bowl, walker
from thermolab.systems.bowl import Bowl

ETA, LAM, SIGMA, ANGLE = 0.3, 0.2, 1.5, 30.0


def matrices(eta=ETA, lam=LAM, sigma=SIGMA, angle=ANGLE):
    """A, C [2, 2]."""
    turn = np.array([[math.cos(math.radians(angle)), -math.sin(math.radians(angle))], [0, 0]])
    turn[1] = -turn[0, 1], turn[0, 0]
    return np.diag(1 - eta * (np.array(bowl.HESSIAN) + lam)), sigma**2 * turn @ np.diag(bowl.HESSIAN) @ turn.T


def test_the_covariance_solves_its_equation():
    a, c = matrices()
    values = bowl.covariance(*(torch.tensor(x, dtype=torch.float64) for x in (ETA, LAM, SIGMA, ANGLE)))
    s11, s12, s22 = map(float, values)
    np.testing.assert_allclose([[s11, s12], [s12, s22]], linalg.solve_discrete_lyapunov(a, ETA**2 * c), rtol=1e-12)


def test_a_step_by_hand_and_what_is_read_of_it():
    """The place, the area and the log ratio of both ways, with scipy's density, where the noise is not the Hessian's."""
    start = torch.tensor([[0.4, -1.0, 0.25]], dtype=torch.float64)
    run = Experiment(Bowl(), eta=ETA, lam=LAM, sigma=SIGMA, angle=ANGLE, weights=start, seed=3)
    run.advance(1)
    a, c = matrices()
    z = walker.normals(3, torch.tensor([0]), 0, 1, 2)[0, 0].numpy()
    turn = math.radians(ANGLE)
    root = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]]) @ np.diag(np.sqrt(bowl.HESSIAN))
    w, after = np.array([0.4, -1.0]), run.state.weights[0, :2].numpy()
    np.testing.assert_allclose(after, a @ w - ETA * SIGMA * root @ z, rtol=1e-12)
    area = w[0] * after[1] - w[1] * after[0]
    there, back = (stats.multivariate_normal(a @ x, ETA**2 * c).logpdf(y) for x, y in ((w, after), (after, w)))
    found = {name: float(value[0]) for name, value in run.frame().observables.items()}
    assert found == pytest.approx({"U": (0.4**2 + 0.1) / 2, "swept": area, "produced": there - back})
    cloud = np.sqrt(np.linalg.det(linalg.solve_discrete_lyapunov(a, ETA**2 * c)))
    assert float(run.state.weights[0, 2]) == pytest.approx(0.25 + area / (4 * math.pi * cloud))


def test_at_rest_the_cloud_keeps_its_shape():
    """Second moments of many replicas after many relaxation times, in five standard errors."""
    run = Experiment(Bowl(), eta=0.5, sigma=1.0, angle=45.0, seed=1, replicas=4000)
    run.advance(200)
    w = run.state.weights[:, :2].numpy()
    a, c = matrices(0.5, 0.0, 1.0, 45.0)
    known = linalg.solve_discrete_lyapunov(a, 0.25 * c)
    error = np.sqrt((np.outer(np.diag(known), np.diag(known)) + known**2) / len(w))
    assert (abs(w.T @ w / len(w) - known) < 5 * error).all()
