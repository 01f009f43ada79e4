"""Gradient descent without noise, and what leaves the loss alone: exact calculations beside the runs of `linear`.

Descent on the exact loss keeps W_{i+1}ᵀW_{i+1} - W_iW_iᵀ as it was (up to η²), SGD moves it until its noise is in balance; so its
layers stay as unlike as the start left them, unless the start is small and the layers balanced all along. Then, without
views, hidden layer k has the kernel (VᵀV)^(k/L) and alignment comes by itself. Source: document 4, part 3.

Two loops of this package stand beside the one of the engine, `descend` here and `resting.trained`. Both are in float64, for they
compare differences far below the rounding of the engine's float32. `descend` has the exact gradient in place of batches, and
finds a step of its own at each step; `resting.trained` draws the noise of a batch and then the same with the other sign, which
no batch of fixed data does.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch

from thermolab.instruments import alignment
from thermolab.phenomena.platonic_alignment import networks
from thermolab.systems import embedded_linear
from thermolab.systems.embedded_linear import View, orthogonal

GROW, LIMIT = 1.05, 0.01  # of the steps of `descend`: balance is kept up to the square of a step
SPREAD = 0.7  # decades of the inserted R, to both sides
SMALL, LEARNT, COPIES = 0.2, 1e-4, 4  # of the trap: start, of the usual one, excess loss at the end, pairs of networks


def descend(
    view: View, matrices, v, *, excess: float, inputs=None, eta: float = 0.01, most: int = 20_000
) -> tuple[list[np.ndarray], float]:
    """W_1 … W_L after descent on the loss less the noise, Tr (f - V)Σ_x(f - V)ᵀ, down to `excess`; and that number there.

    eta: at the first step; it grows by GROW at each, is halved where the loss would rise, and a step is at most LIMIT of |w|.
    inputs: standard deviations, default 1; most: steps at the most.
    Not the loop of the engine: see above.
    """
    scale = np.ones(v.shape[1]) if inputs is None else np.asarray(inputs, float)
    m_in, m_out, goal = view.inputs * scale, view.answers, v * scale
    w = kept = [np.array(m, float) for m in matrices]
    found = math.inf
    for _ in range(most):
        before = embedded_linear.products(w, m_in)
        miss = m_out @ before[-1] - goal
        now = float(np.square(miss).sum())
        if not now <= found:  # nor if it is no number
            w, eta = kept, eta / 2
            continue
        kept, found = w, now
        if found <= excess:
            break
        back = embedded_linear.products([m.T for m in reversed(w[1:])], 2 * m_out.T @ miss)
        slopes = [b @ h.T for b, h in zip(reversed(back), before[:-1], strict=True)]
        eta = min(GROW * eta, LIMIT * _length(w) / _length(slopes))
        w = [m - eta * slope for m, slope in zip(w, slopes, strict=True)]
    return kept, found


def _length(matrices) -> float:
    return math.sqrt(sum(float(np.square(m).sum()) for m in matrices))


def features(view: View, matrices, x: np.ndarray) -> list[np.ndarray]:
    """Input view, hidden layers, output of W_L, for inputs x [n, d_x]: as `embedded_linear.hidden` with ends, of one replica."""
    return list(itertools.accumulate(matrices, lambda h, w: h @ w.T, initial=x @ view.inputs.T))


def inserted(matrices, seed: int, spread: float) -> list[np.ndarray]:
    """The same product with R and R⁻¹ between all successive W: R = Q diag(10^-spread … 10^spread) Q'ᵀ, orthogonal for 0."""
    rng, w = np.random.default_rng([seed, 7]), [np.array(m, float) for m in matrices]
    for i in range(len(w) - 1):
        n = len(w[i])
        left, right, values = orthogonal(n, rng), orthogonal(n, rng), np.logspace(-spread, spread, n)
        w[i] = left * values @ right @ w[i]
        w[i + 1] = w[i + 1] @ (right.T / values @ left.T)
    return w


# --- variables of `linear.linear`, {name: (dims, values)} of one seed; both: networks A and B; x: inputs [n, d_x] of the features
def without_noise(v, both: list[networks.Embedded], excess, inputs, x: np.ndarray) -> dict[str, tuple]:
    """gd, gd_excess, gd_size, gd_trace: descent from the start of each network, past the loss of each arm, excess [arm, net]."""
    stops = [_past(one, v, levels, inputs) for one, levels in zip(both, np.transpose(excess), strict=True)]
    arms = list(zip(*stops, strict=True))
    layers = [[h for one, (w, _) in zip(both, ends, strict=True) for h in features(one.view, w, x)] for ends in arms]
    size, trace = zip(*map(sizes, layers), strict=True)
    return {
        "gd": (("arm", "layer", "other"), np.stack([alignment.layer_cka(h, h) for h in layers])),
        "gd_excess": (("arm", "net"), np.array([[e for _, e in ends] for ends in arms])),
        "gd_size": (("arm", "layer"), np.stack(size)),
        "gd_trace": (("arm", "layer"), np.stack(trace)),
    }


def _past(one: networks.Embedded, v, levels, inputs) -> list[tuple[list[np.ndarray], float]]:
    """Weights and excess where one descent first comes to each of the levels, in their order."""
    found, now = {}, one.begin
    for level in sorted(set(levels), reverse=True):
        found[level] = now, _ = descend(one.view, now, v, excess=level, inputs=inputs)
    return [found[level] for level in levels]


def sizes(layers) -> tuple[np.ndarray, np.ndarray]:
    """|K| and Tr K [layer] of the kernel K of features [n, width], as a mean over n: Tr K is the mean of |h|²."""
    kernels = [np.asarray(h).T @ np.asarray(h) / len(h) for h in layers]
    return np.array([np.linalg.norm(k) for k in kernels]), np.array([np.trace(k) for k in kernels])


def with_inserts(v, both: list[networks.Embedded], weights, x: np.ndarray, seed: int) -> dict[str, tuple]:
    """inserted, inserted_excess: R and its inverse between the layers of each trained network, orthogonal, then invertible."""
    tables, losses = [], []
    for spread in (0.0, SPREAD):
        layers = []
        for i, (one, w) in enumerate(zip(both, weights, strict=True)):
            trained = [m[0].numpy() for m in embedded_linear.matrices(one.net, w)]
            layers.append(features(one.view, inserted(trained, 2 * seed + i, spread), x))
        tables.append(alignment.layer_cka(layers[0] + layers[1], layers[0] + layers[1]))
        outputs = [torch.from_numpy(own[-1]) for own in layers]
        losses.append([networks.excess(one.view, h, torch.from_numpy(x), v) for one, h in zip(both, outputs, strict=True)])
    return {"inserted": (("kind", "layer", "other"), np.stack(tables)), "inserted_excess": (("kind", "net"), np.array(losses))}


def trap(v, shapes: networks.Shapes, task: networks.Task, x: np.ndarray, seed: int) -> dict[str, tuple]:
    """trap: descent from a small start, without views, then with; means over several views and starts.

    small_trace: as `trace` of `linear.linear`, with views, those of A and B.
    """
    tables, traces, (d_y, d_x) = [], [], v.shape
    for frozen, copy in itertools.product((False, True), range(COPIES)):
        layers = []
        for i, (depth, width) in enumerate(shapes.each):
            own = 2 * seed + i + copy * 2**33
            view = task.view(own) if frozen else embedded_linear.no_view(d_x, d_y)
            begin = embedded_linear.gaussian((d_x, *[width] * (depth - 1), d_y), SMALL, own)
            ended, left = descend(view, begin, v, excess=LEARNT, inputs=task.scale)
            layers += [h if left <= LEARNT else h * np.nan for h in features(view, ended, x)]  # it must have learnt
        tables.append(alignment.layer_cka(layers, layers))
        traces.append(sizes(layers)[1])
    return {
        "trap": (("view", "layer", "other"), np.stack(tables).reshape(2, COPIES, *tables[0].shape).mean(1)),
        "small_trace": ("layer", traces[COPIES]),
    }
