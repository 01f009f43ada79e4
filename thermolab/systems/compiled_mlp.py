"""The compiled steps of a chain of layers: a network of a few thousand weights lives in the cache of one core.

Drawing, gathering, forward, backward and update of one replica follow each other without a call into Python; only the
matrix products leave for BLAS. `replicas.Replicas` is the same in tensors, and the oracle.

The same steps must give the same bits in every process, whatever the addresses, and two things would undo that:
* A helper compiled as a function of its own exists twice, rounded differently: alone, and inside `advance_chain`. A
  process that compiles runs the first, one that loads numba's cache the second. Hence forceinline.
* An index that might be negative wraps around for all numba knows: the reach of the array is then a guess, and where a
  neighbour in memory lies within it the loop runs unvectorised, rounded differently. Hence tables, indexed from 0.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numba
import numpy as np
from numba import float32, int32, uint32, uint64

from thermolab.systems.codes import BIAS, FROZEN, KIND, N_IN, N_OUT, WEIGHT, LayerKind, ProtocolCode
from thermolab.systems.jit import cached_njit
from thermolab.systems.kernels import BATCH, DIVERGED, FASTMATH, philox


class Chain(NamedTuple):
    """A chain of layers: plan [layers, columns of `codes`], eps [layers] of the norms, the frozen weights, flat.

    squared: the loss is |f - y|², else cross-entropy. tangent: gradients have no part along the weights.
    """

    plan: np.ndarray
    eps: np.ndarray
    frozen: np.ndarray
    squared: bool
    tangent: bool


class Samples(NamedTuple):
    """Data: x [N, D]; classes y [N] for cross-entropy, targets [N, K] for the squared loss; batch: how many a step draws."""

    x: np.ndarray
    y: np.ndarray
    targets: np.ndarray
    batch: int


@numba.njit(inline="always")
def _exp(x):
    """exp of a float32 from -87 to 88; a polynomial (Cephes) that vectorises."""
    x = max(min(x, float32(88)), float32(-87))
    n = math.floor(x * float32(1.44269504088896341) + float32(0.5))
    x = x - n * float32(0.693359375) + n * float32(2.12194440e-4)
    y = float32(1.9875691500e-4)
    y = y * x + float32(1.3981999507e-3)
    y = y * x + float32(8.3334519073e-3)
    y = y * x + float32(4.1665795894e-2)
    y = y * x + float32(1.6666665459e-1)
    y = y * x + float32(5.0000001201e-1)
    y = y * x * x + x + float32(1)
    return y * np.int32((int32(n) + int32(127)) << 23).view(np.float32)


@cached_njit(fastmath=FASTMATH, error_model="numpy", nogil=True)
def advance_chain(w, chain, samples, span, rates, found):
    """The steps of `network.NetworkOnData.advance` for a chain of layers, one replica after the other, in its cache.

    w [R, P] float32; span, rates, found: as in `kernels`. The products are BLAS calls.
    """
    plan, eps, frozen, squared, tangent = chain
    x, y, targets, batch = samples
    first_step, n, seed, streams = span
    eta, lam, radius, protocol = rates
    sums, diverged = found
    n_replicas, size = w.shape
    layers, width, last = len(plan), x.shape[1], plan[-1, N_OUT]
    widest = max(width, plan[:, N_OUT].max())
    acts = np.empty((layers + 1, batch * widest), np.float32)  # what goes into each layer, and the output
    scales = np.empty((layers, max(batch, widest)), np.float32)  # of the normalisations
    ping, pong = np.empty(batch * widest, np.float32), np.empty(batch * widest, np.float32)
    g, pick = np.zeros(size, np.float32), np.empty(batch + 3, np.int64)
    first = 0
    while plan[first, WEIGHT] < 0:
        first += 1
    for r in range(n_replicas):
        weights = w[r]
        for i in range(first_step, first_step + n + 1):
            # |w|² is summed in one place only: the same bits however a run is cut into slices
            r2 = np.float32(0)
            for k in range(size):
                r2 += weights[k] * weights[k]
            if i > first_step and not (r2 < float32(DIVERGED)) and diverged[r] < 0:
                diverged[r] = i
            if i == first_step + n:
                break
            for j in range(0, batch, 4):
                four = philox(uint32(i), uint32(BATCH), streams[r], uint32(j // 4), uint32(seed), uint32(seed >> np.uint64(32)))
                for k in range(4):
                    pick[j + k] = np.int64((uint64(four[k]) * uint64(len(x))) >> uint64(32))
            for j in range(batch):
                row = x[pick[j]]
                for k in range(width):
                    acts[0, j * width + k] = row[k]
            for a in range(layers):
                _forward(plan[a], eps[a], weights, frozen, acts[a], acts[a + 1], scales[a], batch)
            if squared:
                loss = _squared_back(acts[layers], targets, pick, ping, batch, last)
            else:
                loss = _cross_entropy_back(acts[layers], y, pick, ping, batch, last)
            for a in range(layers - 1, first - 1, -1):
                _backward(plan[a], weights, g, frozen, acts[a], acts[a + 1], scales[a], ping, pong, batch, a > first)
                ping, pong = pong, ping
            g2, along = np.float32(0), np.float32(0)  # along = w·g, which is 0 for a scale-invariant network only
            for k in range(size):
                g2 += g[k] * g[k]
                along += weights[k] * g[k]
            step, keep, pressure, scale = eta[r], np.float32(1), lam[r], np.float32(1)
            if protocol == ProtocolCode.LR:
                keep -= step * lam[r]
            else:
                step *= r2
                if protocol == ProtocolCode.ELR:
                    keep -= step * lam[r]
                else:
                    stretch = step * step * g2 / r2
                    if not tangent:
                        stretch -= float32(2) * step * along / r2
                    pressure = stretch / (1 + math.sqrt(1 + stretch)) / (eta[r] * r2)
                    scale = radius[r] / math.sqrt(r2 - float32(2) * step * along + step * step * g2)
            sums[0, r] += loss
            sums[1, r] += r2
            sums[2, r] += pressure
            sums[3, r] += np.float64(g2) * r2
            keep, step = keep * scale, step * scale
            for k in range(size):
                weights[k] = keep * weights[k] - step * g[k]


@numba.njit(inline="always")
def _table(flat, rows, columns):
    return flat[: rows * columns].reshape(rows, columns)


@numba.njit(fastmath=FASTMATH, error_model="numpy", nogil=True, forceinline=True)
def _forward(layer, eps, weights, frozen, h, out, scale, batch):
    kind, n_in, n_out = layer[KIND], layer[N_IN], layer[N_OUT]
    # an integer divisor would turn these loops into float64
    inverse_batch, inverse_width = float32(1) / float32(batch), float32(1) / float32(n_out)
    u, z = _table(h, batch, n_in), _table(out, batch, n_out)
    if kind == LayerKind.LINEAR:
        source, o = (frozen, layer[FROZEN]) if layer[WEIGHT] < 0 else (weights, layer[WEIGHT])
        np.dot(u, _table(source[o:], n_out, n_in).T, z)
        if layer[BIAS] >= 0:
            bias = source[layer[BIAS] :][:n_out]
            for j in range(batch):
                for k in range(n_out):
                    z[j, k] += bias[k]
    elif kind == LayerKind.RELU:
        for k in range(batch * n_out):
            out[k] = max(h[k], float32(0))
    elif kind == LayerKind.TANH:
        for k in range(batch * n_out):
            out[k] = float32(1) - float32(2) / (_exp(float32(2) * h[k]) + float32(1))
    elif kind == LayerKind.BATCH_NORM:
        mean = np.zeros(n_out, np.float32)
        scale[:n_out] = 0
        for j in range(batch):
            for k in range(n_out):
                mean[k] += u[j, k] * inverse_batch
        for j in range(batch):
            for k in range(n_out):
                c = u[j, k] - mean[k]
                z[j, k] = c
                scale[k] += c * c * inverse_batch
        for k in range(n_out):
            scale[k] = float32(1) / math.sqrt(scale[k] + float32(eps))
        for j in range(batch):
            for k in range(n_out):
                z[j, k] *= scale[k]
    else:
        for j in range(batch):
            mean, square = float32(0), float32(0)
            for k in range(n_out):
                mean += u[j, k] * inverse_width
            for k in range(n_out):
                c = u[j, k] - mean
                z[j, k] = c
                square += c * c * inverse_width
            scale[j] = float32(1) / math.sqrt(square + float32(eps))
            for k in range(n_out):
                z[j, k] *= scale[j]


@numba.njit(fastmath=FASTMATH, error_model="numpy", nogil=True, forceinline=True)
def _backward(layer, weights, g, frozen, h, out, scale, d, below, batch, pass_on):
    """From d, the gradient of the layer's output, its own gradients into g and that of its input into `below`."""
    kind, n_in, n_out = layer[KIND], layer[N_IN], layer[N_OUT]
    # an integer divisor would turn these loops into float64
    inverse_batch, inverse_width = float32(1) / float32(batch), float32(1) / float32(n_out)
    z, error, passed = _table(out, batch, n_out), _table(d, batch, n_out), _table(below, batch, n_in)
    if kind == LayerKind.LINEAR:
        source, o = (frozen, layer[FROZEN]) if layer[WEIGHT] < 0 else (weights, layer[WEIGHT])
        if layer[WEIGHT] >= 0:
            np.dot(error.T, _table(h, batch, n_in), _table(g[o:], n_out, n_in))
            if layer[BIAS] >= 0:
                bias = g[layer[BIAS] :][:n_out]
                bias[:] = 0
                for j in range(batch):
                    for k in range(n_out):
                        bias[k] += error[j, k]
        if pass_on:
            np.dot(error, _table(source[o:], n_out, n_in), passed)
    elif kind == LayerKind.RELU:
        for k in range(batch * n_out):
            below[k] = d[k] if out[k] > 0 else float32(0)
    elif kind == LayerKind.TANH:
        for k in range(batch * n_out):
            below[k] = d[k] * (float32(1) - out[k] * out[k])
    elif kind == LayerKind.BATCH_NORM:
        mean, along = np.zeros(n_out, np.float32), np.zeros(n_out, np.float32)
        for j in range(batch):
            for k in range(n_out):
                mean[k] += error[j, k] * inverse_batch
                along[k] += error[j, k] * z[j, k] * inverse_batch
        for j in range(batch):
            for k in range(n_out):
                passed[j, k] = scale[k] * (error[j, k] - mean[k] - z[j, k] * along[k])
    else:
        for j in range(batch):
            mean, along = float32(0), float32(0)
            for k in range(n_out):
                mean += error[j, k] * inverse_width
                along += error[j, k] * z[j, k] * inverse_width
            for k in range(n_out):
                passed[j, k] = scale[j] * (error[j, k] - mean - z[j, k] * along)


@numba.njit(fastmath=FASTMATH, error_model="numpy", nogil=True, forceinline=True)
def _cross_entropy_back(logits, y, pick, d, batch, classes):
    """Mean cross-entropy of the logits, its gradient into d."""
    loss, inverse_batch = 0.0, float32(1) / float32(batch)
    z, error = _table(logits, batch, classes), _table(d, batch, classes)
    for j in range(batch):
        top = z[j, 0]
        for k in range(1, classes):
            top = max(top, z[j, k])
        loss += top - z[j, y[pick[j]]]
        for k in range(classes):
            error[j, k] = z[j, k] - top
    for q in range(batch * classes):
        d[q] = _exp(d[q])
    for j in range(batch):
        total = float32(0)
        for k in range(classes):
            total += error[j, k]
        loss += math.log(total)
        inverse = inverse_batch / total
        for k in range(classes):
            error[j, k] *= inverse
        error[j, y[pick[j]]] -= float32(1) * inverse_batch
    return loss / batch


@numba.njit(fastmath=FASTMATH, error_model="numpy", nogil=True, forceinline=True)
def _squared_back(outputs, targets, pick, d, batch, size):
    """Mean of |z - y|² over the outputs z, its gradient into d."""
    loss, inverse_batch = 0.0, float32(1) / float32(batch)
    z, error = _table(outputs, batch, size), _table(d, batch, size)
    for j in range(batch):
        target = targets[pick[j]]
        for k in range(size):
            off = z[j, k] - target[k]
            error[j, k] = float32(2) * off * inverse_batch
            loss += off * off
    return loss / batch
