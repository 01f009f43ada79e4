"""Runs behind the recipes of cooling, started and read by hand."""

import numpy as np
import torch

from thermolab.engine.experiment import Experiment
from thermolab.instruments.spread import along_path
from thermolab.phenomena.cooling import classifiers


def begin(eta, batch_size, lam, seed, copies=2):
    """The run behind a recipe, started by hand."""
    net = classifiers.system("mlp", difficulty="mid", label_noise=0.1)
    return Experiment(net, eta=eta, batch_size=batch_size, lam=lam, seed=seed, replicas=copies)


def judge(run):
    return classifiers.evaluate(run.system.replicas, run.state.weights, classifiers.images("mid", 0.1)[1])


def window(run, n, steps):
    """Mean batch loss and S of each replica over n snapshots, `steps` apart."""
    path = []
    for _ in range(n):
        run.advance(steps)
        path.append(run.state.weights)
    return run.frame().observables["U"], along_path(torch.stack(path)).value


def trained(steps=96, width=8, **settings):
    """A run as the recipe's, by hand."""
    net = classifiers.system(width=width, difficulty="easy")
    run = Experiment(net, eta=0.1, batch_size=32, **settings)
    run.advance(steps)
    return net, run.state.weights[0]


def scatter(values, size=1e-3, n=4):
    """n seeds along a last dimension."""
    values = np.asarray(values, float)[..., None]
    return values + size * np.random.default_rng(values.size).normal(size=(*values.shape[:-1], n))
