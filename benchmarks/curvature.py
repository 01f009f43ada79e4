"""Contests of curvature in the form of `contests.py`: sharpness against scipy's eigsh, a product against backward passes."""

from __future__ import annotations

import copy

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import nn

from thermolab.engine.experiment import Experiment
from thermolab.instruments.curvature import HessianProducts, largest_eigenvalue
from thermolab.systems import data, models
from thermolab.systems.network import NetworkOnData

STEPS, EARLIER = 1000, 20  # of the run whose sharpness is measured, and how much older the warm vector is


def sharpness(device: str):
    """λ_max of the MLP 64-64-10 to 1e-3; a unit of work is one measurement, with its graph."""
    learn = data.digits(1024).to(device)
    run = Experiment(NetworkOnData(models.mlp((64, 64, 10)), learn), eta=0.05, lam=0.001, batch_size=32, device=device)
    run.advance(STEPS - EARLIER)
    earlier = largest_eigenvalue(HessianProducts(run.system, run.state.weights[0], learn.x, learn.y)).vector
    run.advance(EARLIER)

    def products():
        return HessianProducts(run.system, run.state.weights[0], learn.x, learn.y)

    def lanczos(start):
        return lambda n: [largest_eigenvalue(products(), start=start) for _ in range(n)]

    def arpack(n):
        for _ in range(n):
            hessian = products()
            size = len(hessian.weights)
            times = lambda v: hessian(torch.as_tensor(v.ravel(), device=device)).cpu().numpy()  # noqa: B023, E731
            operator = LinearOperator((size, size), matvec=times, dtype=np.float32)
            eigsh(operator, k=1, which="LA", tol=1e-3, return_eigenvectors=False)

    return {"scipy eigsh": lambda: arpack, "thermolab, cold": lambda: lanczos(None), "thermolab, warm": lambda: lanczos(earlier)}


def product(device: str):
    """A Hessian-vector product of the MLP 64-64-10 on 1024 images; a unit of work is one product, or one gradient."""
    learn = data.digits(1024).to(device)
    system = NetworkOnData(models.mlp((64, 64, 10)), learn)
    weights = system.start(torch.arange(1), 0)[0].to(device)
    module = copy.deepcopy(system.replicas.module).to(device)
    parameters = list(module.parameters())
    v = torch.randn(len(weights), device=device)
    parts = [part.view_as(p) for part, p in zip(v.split([p.numel() for p in parameters]), parameters, strict=True)]

    def gradient(n, graph=False):
        for _ in range(n):
            loss = nn.functional.cross_entropy(module(learn.x), learn.y)
            slopes = torch.autograd.grad(loss, parameters, create_graph=graph)
            if graph:
                torch.autograd.grad(slopes, parameters, parts)

    hessian = HessianProducts(system, weights, learn.x, learn.y)
    return {
        "plain double backward": lambda: lambda n: gradient(n, graph=True),
        "one gradient": lambda: gradient,
        "thermolab": lambda: lambda n: [hessian(v) for _ in range(n)],
    }


CONTESTS = {"sharpness of MLP 64-64-10": sharpness, "Hessian product of MLP 64-64-10": product}
