"""Instruments that need more than a frame: entropy windows along a run, fresh gradients and accuracy at a moment of it.

at: "weights", the network as it is, or "unit", its direction w/|w|: for a scale-invariant network, of which it is the convention,
and for no other, to which it is another network (`systems.invariance` measures which one it is).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch

from thermolab.engine.experiment import Experiment
from thermolab.instruments import entropy, noise, whole
from thermolab.systems import global_random
from thermolab.systems.network import FRESH

FRAME = 4  # steps between the frames of a run with slow windows
SPACING = 0.25  # between the weights of a window, in correlation times 1/η_eff: closer ones lower S by far more than its error
NEIGHBOURS = 50  # of the k-NN graph, or a quarter of a shorter window
At = Literal["weights", "unit"]


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


def weights_at(weights: torch.Tensor, at: At) -> torch.Tensor:
    """The weights [R, D] as they are, or over their length, 0 where a replica diverged. Raises ValueError for another place."""
    if at not in ("weights", "unit"):
        raise ValueError(f"at={at!r} is no place; allowed: weights, as they are, or unit, their direction")
    weights = weights / torch.linalg.vector_norm(weights, dim=1, keepdim=True) if at == "unit" else weights
    return torch.nan_to_num(weights, 0.0, 0.0, 0.0)


def unit(run: Experiment) -> torch.Tensor:
    """Directions [R, D] of the weights; 0 where a replica diverged."""
    return weights_at(run.state.weights, "unit")


def fresh_gradients(run: Experiment, batch_size: int, n: int, *, at: At = "weights") -> torch.Tensor:
    """Gradients [n, R, D] of n fresh minibatches, drawn with replacement, at the weights of this moment."""
    # another seed for each moment, none of which the training draws from
    seed = run.seed + 2**32 * (1 + run.state.step)
    return run.system.gradients(weights_at(run.state.weights, at), n, batch_size, seed, run.streams, run.state.memory)


def probe(run: Experiment, batch_size: int, n: int, *, at: At = "weights", bound: int = whole.BOUND) -> dict[str, np.ndarray]:
    """Tr Σ and |∇L|² [R] from n fresh minibatches; the second is unbiased and may be negative.

    Tr Σ is that of a batch as the system draws it; where that is without replacement, batches of an epoch are correlated, too.
    nan, unless at="unit", where a replica was lost. bound: bytes; where n gradients of all replicas are more, one replica is
    measured after the other.
    """
    w, seed, memory = weights_at(run.state.weights, at), run.seed + 2**32 * (1 + run.state.step), run.state.memory
    found = noise_at(run.system, w, memory, batch_size, n, seed, run.streams, bound)
    return {name: _known(values, run, at) for name, values in found.items()}


def noise_at(
    system, weights, memory, batch_size: int, n: int, seed: int, streams, bound: int = whole.BOUND
) -> dict[str, np.ndarray]:
    """`probe` of a system at weights [R, D]; seed: one that the training does not draw from."""
    fits = n * weights.numel() * weights.element_size() <= bound
    rows = [slice(None)] if fits else [slice(r, r + 1) for r in range(len(weights))]
    found = []
    for r in rows:
        kept = {k: v[r] for k, v in memory.items()}
        found.append(moments(system.gradients(weights[r], n, batch_size, seed, streams[r], kept)))
    found = {name: np.concatenate([f[name] for f in found]) for name in found[0]}
    if not system.replacement:  # of a part of the data that is drawn as one, with the samples' variance over N, not N − 1
        size = len(system.data)
        found["trace"] *= (size - batch_size) / max(size - 1, 1)
    return found


def moments(gradients: torch.Tensor) -> dict[str, np.ndarray]:
    """`probe` of gradients [n, R, D] that are known already, of batches drawn with replacement."""
    found = noise.gradient_noise(gradients, spectrum=False)
    return {"trace": np.asarray(found.trace), "gradient_squared": np.asarray(found.full_gradient_squared)}


@contextmanager
def drawing(seed: int, step: int) -> Iterator[None]:
    """What a module draws meanwhile, as dropout does, is a function of seed and step; the global generators stay as they are."""
    with global_random.kept():
        global_random.seed(seed, FRESH + step, 0)
        yield


def full_gradient_squared(run: Experiment, *, at: At = "weights", bound: int = whole.BOUND) -> np.ndarray:
    """|∇L|² [R] over the whole data set. With BatchNorm it is not the mean of the minibatch gradients.

    bound: bytes; raises ValueError, one line, where the data are too many for it and cannot be taken in parts.
    """
    w, d = weights_at(run.state.weights, at), run.system.data
    with drawing(run.seed, run.state.step):
        g = whole.gradient(run.system.replicas, w, d.x, d.y, run.state.memory, bound=bound)[1]
    return _known(g.square().sum(1).cpu().numpy(), run, at)


def accuracy(run: Experiment, *, at: At = "weights", bound: int = whole.BOUND) -> np.ndarray:
    """Share [R] of the training data that each replica classifies as labelled.

    Raises ValueError, one line, for targets that are no labels, and as `full_gradient_squared`.
    """
    w, d = weights_at(run.state.weights, at), run.system.data
    if d.y.is_floating_point():
        raise ValueError(f"targets are {d.y.dtype}, so nothing is classified; allowed: whole numbers, the labels of classes")
    with drawing(run.seed, run.state.step):
        outputs = whole.outputs(run.system.replicas, w, d.x, d.y, run.state.memory, bound=bound)
    classes = outputs.argmax(-1) if outputs.shape[1:-1] == d.y.shape else outputs.argmax(2)
    return _known((classes == d.y).double().flatten(1).mean(-1).cpu().numpy(), run, at)


def _known(values: np.ndarray, run: Experiment, at: At) -> np.ndarray:
    """Values [R] at the weights, nan where those are lost."""
    return np.where(run.state.weights.isfinite().all(1).cpu().numpy(), values, np.nan) if at == "weights" else values
