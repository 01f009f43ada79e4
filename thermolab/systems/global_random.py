"""The global generators of torch, numpy and Python, from which dropout and whatever a module draws by itself take their numbers.

Seeded by (seed, step, stream) before a replica's step they make it a function of these, as all else is; afterwards they are given
back as they were. Limit: what a module draws from a generator of its own is not seen.
"""

from __future__ import annotations

import hashlib
import random
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def kept() -> Iterator[None]:
    """The generators are afterwards as they were, whatever is drawn meanwhile."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        random.setstate(states[2])
        if cuda:
            torch.cuda.set_rng_state_all(cuda)


def seed(seed: int, step: int, stream: int) -> None:
    """Seed the generators by (seed, step, stream) alone; seed below 2^64."""
    number = int.from_bytes(hashlib.blake2b(struct.pack("<QQq", seed, step, stream), digest_size=8).digest(), "little")
    torch.default_generator.manual_seed(number)  # not torch.manual_seed, which looks for devices each time
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(number)
    np.random.seed(number & 0xFFFFFFFF)  # noqa: NPY002
    random.seed(number)
