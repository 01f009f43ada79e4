"""Instruments that need more than a frame: entropy windows along a run, fresh gradients and accuracy at a moment of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from thermolab.engine.experiment import Experiment
from thermolab.instruments import entropy, noise

FRAME = 4  # steps between the frames of a run with slow windows
SPACING = 0.25  # between the weights of a window, in correlation times 1/η_eff: closer ones lower S by far more than its error
NEIGHBOURS = 50  # of the k-NN graph, or a quarter of a shorter window


def graph_entropy(path: np.ndarray) -> entropy.Entropy:
    """Graph entropy, up to a constant, of a window of weights [N, D] on a sphere in time order; float32 will do."""
    return entropy.knn_graph(path, dim=path.shape[-1] - 1, k=min(NEIGHBOURS, len(path) // 4), time_ordered=True)


def slow_windows(
    run: Experiment, rates, burn_in: int, window: int, samples: int, each: Callable[[int], None] = lambda k: None
) -> dict[str, np.ndarray]:
    """Entropy S and autocorrelation time tau [R] of windows whose weights lie a quarter of a correlation time apart.

    rates [R]: effective learning rates. The run goes on by burn_in and window steps with a frame each FRAME steps; each(k)
    is called at frame k. NaN where `samples` weights at their spacing 0.25/rate do not fit into the window.
    """
    run.advance(burn_in)
    run.frame()
    stride = np.maximum(1, np.round(SPACING / np.asarray(rates) / FRAME)).astype(int)
    shape = (samples, run.system.n_parameters)
    paths, filled = [np.empty(shape, np.float32) for _ in rates], np.zeros(len(rates), int)
    for k, _ in enumerate(run.frames(FRAME, until=run.state.step + window)):
        now = run.state.weights.cpu().numpy()
        for i in np.flatnonzero((k % stride == 0) & (filled < samples)):
            paths[i][filled[i]], filled[i] = now[i], filled[i] + 1
        each(k)
    out = {"S": np.full(len(rates), np.nan), "tau": np.full(len(rates), np.nan)}
    for i in np.flatnonzero((filled == samples) & (run.state.diverged.cpu().numpy() < 0)):
        s = graph_entropy(paths[i])
        out["S"][i], out["tau"][i] = s.value, s.autocorrelation_time
    return out


def unit(run: Experiment) -> torch.Tensor:
    """Directions [R, D] of the weights; 0 where a replica diverged."""
    return torch.nan_to_num(run.state.weights / torch.linalg.vector_norm(run.state.weights, dim=1, keepdim=True))


def fresh_gradients(run: Experiment, batch_size: int, n: int) -> torch.Tensor:
    """Gradients [n, R, D] at |w| = 1 of n fresh minibatches at the weights of this moment."""
    # another seed for each moment, none of which the training draws from
    return run.system.gradients(unit(run), n, batch_size, run.seed + 2**32 * (1 + run.state.step), run.streams)


def probe(run: Experiment, batch_size: int, n: int) -> dict[str, np.ndarray]:
    """Tr Σ and |∇L|² [R] at |w| = 1 from n fresh minibatches; the second is unbiased and may be negative."""
    return moments(fresh_gradients(run, batch_size, n))


def moments(gradients: torch.Tensor) -> dict[str, np.ndarray]:
    """`probe` of gradients [n, R, D] that are known already."""
    found = noise.gradient_noise(gradients, spectrum=False)
    return {"trace": np.asarray(found.trace), "gradient_squared": np.asarray(found.full_gradient_squared)}


def full_gradient_squared(run: Experiment) -> np.ndarray:
    """|∇L|² [R] at |w| = 1 over the whole data set. With BatchNorm it is not the mean of the minibatch gradients."""
    w, d = unit(run), run.system.data
    g = torch.empty_like(w)
    with torch.no_grad():
        run.system.replicas.loss_and_gradient(w, *(t.expand(len(w), *t.shape) for t in (d.x, d.y)), g)
    return g.square().sum(1).cpu().numpy()


def accuracy(run: Experiment) -> np.ndarray:
    """Share [R] of the training data that each replica classifies as labelled."""
    d = run.system.data
    return (run.system.replicas.outputs(unit(run), d.x).argmax(-1) == d.y).double().mean(-1).cpu().numpy()
