"""Compiled loops, and what is inlined into them: Philox, Box-Muller, the isotropic model's steps."""

from __future__ import annotations

import math
from typing import NamedTuple

import numba
import numpy as np
from numba import float32, int32, uint32, uint64

from thermolab.systems.codes import ProtocolCode
from thermolab.systems.jit import cached_njit

MULTIPLIER_0, MULTIPLIER_1 = 0xD2511F53, 0xCD9E8D57
WEYL_0, WEYL_1 = 0x9E3779B9, 0xBB67AE85
ROUNDS = 10
NOISE, BATCH, START, ORDER = 0, 1, 2, 3  # purposes: draws for different ends never share a counter
LANES = 32  # replicas worked on side by side: two vector registers of 16 float32
SEGMENT = 64  # steps summed in float32 before they join a float64 total
DIVERGED = 1e24  # |w|² past which a replica counts as diverged, while float32 still holds its square
FASTMATH = {"nsz", "arcp", "contract", "reassoc"}  # all but the promise that nothing is NaN: divergence must show


class Span(NamedTuple):
    """Which steps, n from first_step on, and what their random numbers are made of: seed, uint64, and streams [R] uint32."""

    first_step: int
    n: int
    seed: np.uint64
    streams: np.ndarray


class Rates(NamedTuple):
    """eta, lam and radius (of the fixed sphere), [R] float32 each; protocol: a `ProtocolCode`, as an int."""

    eta: np.ndarray
    lam: np.ndarray
    radius: np.ndarray
    protocol: int


class Found(NamedTuple):
    """What a loop fills in: sums over the steps of U, r2, p and g2, [4, R]; the step of divergence [R], or -1."""

    sums: np.ndarray
    diverged: np.ndarray

    @classmethod
    def nothing(cls, n_replicas: int) -> Found:
        """Sums of no step, and nobody diverged."""
        return cls(np.zeros((4, n_replicas)), np.full(n_replicas, -1, np.int64))


@numba.njit(inline="always")
def philox(c0, c1, c2, c3, k0, k1):
    """Four random uint32 for a counter of four and a key of two uint32."""
    for _ in range(ROUNDS):
        product_0, product_1 = uint64(c0) * uint64(MULTIPLIER_0), uint64(c2) * uint64(MULTIPLIER_1)
        c0, c2 = uint32(product_1 >> uint64(32)) ^ c1 ^ k0, uint32(product_0 >> uint64(32)) ^ c3 ^ k1
        c1, c3 = uint32(product_1), uint32(product_0)
        k0, k1 = uint32(k0 + uint32(WEYL_0)), uint32(k1 + uint32(WEYL_1))
    return uint32(c0), uint32(c1), uint32(c2), uint32(c3)


# The three functions below are float32 polynomials (Cephes, S. Moshier) because calls into the
# mathematical library keep the compiler from using vector instructions.
@numba.njit(inline="always")
def _log(x):
    """Natural logarithm of a positive normal float32."""
    bits = np.float32(x).view(np.int32)
    exponent = (bits - int32(0x3F3504F3)) >> 23
    m = np.int32(bits - (exponent << 23)).view(np.float32) - float32(1)
    y = float32(7.0376836292e-2)
    y = y * m + float32(-1.1514610310e-1)
    y = y * m + float32(1.1676998740e-1)
    y = y * m + float32(-1.2420140846e-1)
    y = y * m + float32(1.4249322787e-1)
    y = y * m + float32(-1.6668057665e-1)
    y = y * m + float32(2.0000714765e-1)
    y = y * m + float32(-2.4999993993e-1)
    y = y * m + float32(3.3333331174e-1)
    return m + (y * m * m * m - float32(0.5) * m * m) + float32(exponent) * float32(math.log(2))


@numba.njit(inline="always")
def _sin_cos(turn):
    """Sine and cosine of 2π turn/2^32 for a uint32 turn."""
    quadrant = int32(uint32(turn + uint32(0x20000000)) >> uint32(30))
    f = float32(int32(uint32(turn - (uint32(quadrant) << uint32(30))))) * float32(2 * math.pi / 2**32)
    z = f * f
    s = f + f * z * (float32(-1.6666654611e-1) + z * (float32(8.3321608736e-3) - z * float32(1.9515295891e-4)))
    c = float32(4.166664568298827e-2) + z * (float32(-1.388731625493765e-3) + z * float32(2.443315711809948e-5))
    c = float32(1) - float32(0.5) * z + z * z * c
    swap = (quadrant & 1) == 1
    sine, cosine = (c if swap else s), (s if swap else c)
    return (-sine if quadrant > 1 else sine), (-cosine if quadrant == 1 or quadrant == 2 else cosine)


@numba.njit(inline="always")
def box_muller(a, b):
    """Two standard normal float32 from two uint32."""
    u = (float32(a >> uint32(8)) + float32(1)) * float32(2.0**-24)
    radius = math.sqrt(float32(-2) * _log(u))
    sine, cosine = _sin_cos(b)
    return radius * cosine, radius * sine


@cached_njit(nogil=True)
def fill_indices(out, seed, streams, first_step, high):
    """out [n, R, B]: uniform integers below high."""
    n, n_replicas, batch = out.shape
    for i in range(n):
        for r in range(n_replicas):
            for j in range(0, batch, 4):
                four = philox(uint32(first_step + i), uint32(BATCH), streams[r], uint32(j // 4), uint32(seed), uint32(seed >> 32))
                for k in range(min(4, batch - j)):
                    out[i, r, j + k] = np.int64((uint64(four[k]) * uint64(high)) >> uint64(32))


@cached_njit(fastmath=FASTMATH, error_model="numpy", nogil=True)
def advance_isotropic(w, sigma, amplitude, span, rates, found):
    """The steps of `isotropic.IsotropicNoise.advance`, LANES replicas at a time, all of a block's steps before the next block.

    w [R, D], sigma [R], amplitude [D] of the noise, all float32.
    """
    first_step, n, seed, streams = span
    eta, lam, radius, protocol = rates
    sums, diverged = found
    n_replicas, dim = w.shape
    x, noise = np.empty((dim, LANES), np.float32), np.empty((dim + 3, LANES), np.float32)
    h, decay_rate, s = np.empty(LANES, np.float32), np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    stream, bad = np.empty(LANES, np.uint32), np.empty(LANES, np.int32)
    partial = np.empty((4, LANES), np.float32)
    r2, dot, along, squared = (np.empty(LANES, np.float32), np.empty(LANES, np.float32),
                               np.empty(LANES, np.float32), np.empty(LANES, np.float32))  # fmt: skip
    keep, push, shrink = np.empty(LANES, np.float32), np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    one = float32(1)
    for block in range(0, n_replicas, LANES):
        size = min(LANES, n_replicas - block)
        for j in range(LANES):
            q = block + min(j, size - 1)  # the last block is filled up with copies of its last replica
            h[j], decay_rate[j], s[j], stream[j], bad[j] = eta[q], lam[q], sigma[q], streams[q], -1
            for d in range(dim):
                x[d, j] = w[q, d]
        begin = 0
        while begin < n:
            # segments end at multiples of SEGMENT whatever the slices of a run are: replay is exact
            stop = min(n, begin + SEGMENT - (first_step + begin) % SEGMENT)
            partial[:] = 0
            for i in range(begin, stop):
                for d in range(0, dim, 4):
                    for j in range(LANES):
                        a, b, c, e = philox(uint32(first_step + i), uint32(NOISE), stream[j],
                                                   uint32(d // 4), uint32(seed), uint32(seed >> np.uint64(32)))  # fmt: skip
                        noise[d, j], noise[d + 1, j] = box_muller(a, b)
                        noise[d + 2, j], noise[d + 3, j] = box_muller(c, e)
                r2[:] = 0
                dot[:] = 0
                squared[:] = 0
                for d in range(dim):
                    shift = one if d == 0 else float32(0)
                    for j in range(LANES):
                        # noise becomes the ambient gradient at |w| = 1, before its part along w is taken out
                        noise[d, j] = shift + s[j] * amplitude[d] * noise[d, j]
                        r2[j] += x[d, j] * x[d, j]
                        dot[j] += x[d, j] * noise[d, j]
                        squared[j] += noise[d, j] * noise[d, j]
                for j in range(LANES):
                    r = math.sqrt(r2[j])
                    along[j] = dot[j] / r
                    g2 = squared[j] - along[j] * along[j]
                    decay, pressure, scale = float32(0), decay_rate[j], one
                    if protocol == ProtocolCode.ELR:
                        push[j] = h[j] * r
                        decay = h[j] * r2[j] * decay_rate[j]
                    elif protocol == ProtocolCode.LR:
                        push[j] = h[j] / r
                        decay = h[j] * decay_rate[j]
                    else:
                        push[j] = h[j] * r
                        stretch = h[j] * h[j] * g2
                        root = math.sqrt(one + stretch)
                        pressure = stretch / (one + root) / (h[j] * r2[j])
                        scale = one / root
                    keep[j] = one - decay + push[j] * along[j] / r
                    shrink[j] = scale
                    partial[0, j] += one + x[0, j] / r
                    partial[1, j] += r2[j]
                    partial[2, j] += pressure
                    partial[3, j] += g2
                    r2[j] = 0
                for d in range(dim):
                    for j in range(LANES):
                        x[d, j] = (x[d, j] * keep[j] - push[j] * noise[d, j]) * shrink[j]
                        r2[j] += x[d, j] * x[d, j]
                for j in range(LANES):
                    escaped = not (r2[j] < float32(DIVERGED))
                    bad[j] = first_step + i + 1 if escaped and bad[j] < 0 else bad[j]
            if protocol == ProtocolCode.SPHERE and (first_step + stop) % SEGMENT == 0:
                # rounding lets the radius wander by 1e-7 a step: put it back
                for j in range(size):
                    if bad[j] < 0:
                        for d in range(dim):
                            x[d, j] *= radius[block + j] / math.sqrt(r2[j])
            for j in range(size):
                for k in range(4):
                    sums[k, block + j] += partial[k, j]
            begin = stop
        for j in range(size):
            diverged[block + j] = bad[j]
            for d in range(dim):
                w[block + j, d] = x[d, j]
