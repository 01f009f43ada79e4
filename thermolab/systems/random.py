"""Random numbers by counter: Philox-4x32-10, once for compiled loops and once for tensors.

A number is a function of (seed, stream, step, position) and of nothing else, so a replica draws the
same noise whatever stands beside it in the batch, however a run is cut into slices and on whatever
device, and the state of the generator is the step counter alone.

Reference: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
Limit: 2^32 steps and 2^32 streams per seed; the float32 normals resolve tails up to 5.8 standard deviations.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from thermolab.systems import kernels
from thermolab.systems.kernels import BATCH, MULTIPLIER_0, MULTIPLIER_1, NOISE, ORDER, ROUNDS, START, WEYL_0, WEYL_1

__all__ = ["NOISE", "START", "directions", "indices", "normals", "shuffled"]


def _counters(seed: int, streams: torch.Tensor, first_step: int, n: int, blocks: int, purpose: int):
    """Philox words [4][n, R, blocks] as int64 tensors; the tensor twin of `kernels.philox`."""
    device, mask = streams.device, 0xFFFFFFFF
    shape = (n, len(streams), blocks)
    c0 = torch.arange(first_step, first_step + n, device=device)[:, None, None].expand(shape)
    c1 = torch.full(shape, purpose, device=device)
    c2 = streams.to(torch.int64)[None, :, None].expand(shape)
    c3 = torch.arange(blocks, device=device)[None, None, :].expand(shape)
    k0, k1 = seed & mask, (seed >> 32) & mask
    for _ in range(ROUNDS):
        high_0, low_0 = _multiply(c0, MULTIPLIER_0)
        high_1, low_1 = _multiply(c2, MULTIPLIER_1)
        c0, c1, c2, c3 = high_1 ^ c1 ^ k0, low_1, high_0 ^ c3 ^ k1, low_0
        k0, k1 = (k0 + WEYL_0) & mask, (k1 + WEYL_1) & mask
    return c0, c1, c2, c3


def _multiply(x: torch.Tensor, factor: int):
    """High and low 32 bits of x * factor for 32-bit x held in int64, without overflow of the sign."""
    low = x * (factor & 0xFFFF)
    high = x * (factor >> 16) + (low >> 16)
    return high >> 16, ((high & 0xFFFF) << 16) | (low & 0xFFFF)


def indices(seed: int, streams: torch.Tensor, first_step: int, n: int, batch_size: int, high: int) -> torch.Tensor:
    """Batches drawn with replacement: [n, R, B] int64 below `high`, on the device of `streams` [R]."""
    if streams.device.type == "cpu":
        out = np.empty((n, len(streams), batch_size), np.int64)
        kernels.fill_indices(out, np.uint64(seed), streams.numpy().astype(np.uint32), first_step, high)
        return torch.from_numpy(out)
    words = torch.stack(_counters(seed, streams, first_step, n, -(-batch_size // 4), BATCH), -1)
    words = words.flatten(2)[..., :batch_size]
    return (words * high) >> 32


def shuffled(seed: int, streams: torch.Tensor, first_step: int, n: int, batch_size: int, high: int) -> torch.Tensor:
    """Batches drawn without replacement: [n, R, B] int64 below `high`, on the device of `streams` [R].

    An epoch is high // B steps, in which each index comes once, and the high % B that are left over do not come at all. Its order
    is a function of (seed, stream, number of the epoch): all orders are equally likely, up to words that are equal, 1 in 2^32.
    Raises ValueError for a batch larger than the data.
    """
    length = high // batch_size
    if not length:
        raise ValueError(f"batch_size={batch_size} without replacement; allowed: 1 to {high}, the number of data")
    epoch, begin = divmod(first_step, length)
    words = torch.stack(_counters(seed, streams, epoch, -(-(begin + n) // length), -(-high // 4), ORDER), -1)
    order = words.flatten(2)[..., :high].argsort(dim=-1, stable=True)[..., : length * batch_size]
    return order.unflatten(-1, (length, batch_size)).transpose(1, 2).flatten(0, 1)[begin : begin + n]


def directions(seed: int, streams: torch.Tensor, count: int, dtype=torch.float32) -> torch.Tensor:
    """Starts [R, count] uniform on the unit sphere, one for each of the `streams` [R]."""
    w = normals(seed, streams, 0, 1, count, dtype, purpose=START)[0]
    return w / torch.linalg.vector_norm(w, dim=1, keepdim=True)


def normals(
    seed: int, streams: torch.Tensor, first_step: int, n: int, count: int, dtype=torch.float32, purpose: int = NOISE
) -> torch.Tensor:
    """Standard normals [n, R, count] on the device of `streams` [R]; the same numbers as the compiled loops draw."""
    a, b, c, d = _counters(seed, streams, first_step, n, -(-count // 4), purpose)
    out = []
    for radius, turn in ((a, b), (c, d)):
        length = torch.sqrt(-2 * torch.log(((radius >> 8) + 1).to(torch.float64) * 2.0**-24))
        angle = turn.to(torch.float64) * (2 * math.pi / 2**32)
        out += [length * torch.cos(angle), length * torch.sin(angle)]
    return torch.stack(out, -1).flatten(2)[..., :count].to(dtype)
