"""A network's data from what people have: two arrays, a Dataset of torch, a DataLoader, in memory or in a file beyond it.

All of it becomes one `data.Dataset` of tensors, from which the engine draws its batches: independently, as functions of (seed,
stream, step). What is larger than `MEMORY` is written once, in chunks, into a temporary file that the system maps into memory
and reads as it is needed. Limits: augmentation that draws random numbers is frozen as it came out in that one pass; the
order, the batches and the workers of a loader are not used later on.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import torch
from torch.utils import data as torch_data

from thermolab.systems.data import Dataset

MEMORY = 2**30  # bytes of inputs or targets that are held in memory; more goes into a file
CHUNK = 256  # samples read at once from what is read by number
UNIFORM = (torch_data.SequentialSampler, torch_data.RandomSampler)


def as_dataset(data, *, memory: int = MEMORY) -> Dataset:
    """Inputs x [N, ...] and targets y [N, ...] as tensors.

    data: (x, y), tensors or what numpy takes as arrays; a `Dataset` of ours; a torch Dataset of (input, target); or a
    DataLoader, of which dataset and collate_fn count. memory: bytes up to which inputs (and targets) stay in memory.
    Raises ValueError, one line, for anything else, no samples, samples of different shapes, a sampler that does not draw alike.
    """
    if isinstance(data, Dataset):
        return Dataset(data.x.detach(), data.y.detach(), data.n_classes) if _has_graph(data) else data
    several = tuple if isinstance(data, tuple) else tuple | list  # ([[1, 2], …], [0, …]) is (x, y), [[x, y], [x, y]] two samples
    if isinstance(data, tuple | list) and len(data) == 2 and not isinstance(data[0], several):
        return Dataset(*map(_tensor, data))
    if isinstance(data, torch_data.DataLoader):
        return _collected(_batches(data), _length(data), memory)
    samples = hasattr(data, "__getitem__") and hasattr(data, "__len__") and not isinstance(data, str | Mapping)
    if isinstance(data, torch_data.Dataset) or samples:
        return as_dataset(torch_data.DataLoader(data, batch_size=CHUNK), memory=memory)
    raise ValueError(f"data of type {type(data).__name__} are unknown; allowed: (x, y), a torch Dataset, a DataLoader")


def _has_graph(data: Dataset) -> bool:
    return any(isinstance(t, torch.Tensor) and t.requires_grad for t in (data.x, data.y))


def _tensor(values) -> torch.Tensor:
    if isinstance(values, torch.Tensor):
        return values.detach()
    try:
        return torch.as_tensor(np.asarray(values))
    except (TypeError, ValueError) as error:
        raise ValueError(f"data of type {type(values).__name__} are no array of numbers: {error}") from error


def map_style(loader: torch_data.DataLoader) -> torch_data.Dataset | None:
    """What a loader draws from alike, with numbers from 0 to N - 1; None for a stream. Raises ValueError for another sampler."""
    if isinstance(loader.dataset, torch_data.IterableDataset):
        return None
    sampler = getattr(loader.batch_sampler, "sampler", loader.sampler)
    if isinstance(sampler, torch_data.SubsetRandomSampler):
        return torch_data.Subset(loader.dataset, list(sampler.indices))
    if not isinstance(sampler, UNIFORM) or not isinstance(loader.batch_sampler, torch_data.BatchSampler | None):
        kind = type(loader.batch_sampler if isinstance(sampler, UNIFORM) else sampler).__name__
        raise ValueError(f"{kind} is not kept: batches are drawn alike from all samples; pass the dataset itself, or (x, y)")
    return loader.dataset


def _length(loader: torch_data.DataLoader) -> int | None:
    known = map_style(loader)
    return None if known is None or loader.batch_sampler is None else len(known)


def _batches(loader: torch_data.DataLoader) -> Iterable:
    """Each sample once, in its order, collated by the loader's own function; those of a stream, or of batch_size=None, as they
    come."""
    known = map_style(loader)
    if known is None:
        return loader
    size = None if loader.batch_sampler is None else CHUNK  # None: what the dataset gives are batches already
    return torch_data.DataLoader(known, batch_size=size, collate_fn=loader.collate_fn, num_workers=loader.num_workers)


def _collected(batches: Iterable, n: int | None, memory: int) -> Dataset:
    """All batches, one after the other, in one tensor for inputs and one for targets."""
    columns: list[_Column] = []
    batches = iter(batches)
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            break
        except (RuntimeError, TypeError) as error:  # as where they have several shapes
            said = next(iter(str(error).splitlines()), type(error).__name__)
            raise ValueError(f"the samples make no batch: {said}; allowed: (input, target), each of one shape") from error
        parts = pair(batch)
        columns = columns or [_Column(part, n, memory) for part in parts]
        for column, part in zip(columns, parts, strict=True):
            column.add(part)
    if not columns:
        raise ValueError("the data hold no samples; allowed: at least one")
    return Dataset(*(column.whole() for column in columns))


def pair(batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and targets of a batch. Raises ValueError, one line, for what is no pair of tensors."""
    if isinstance(batch, Mapping) or not isinstance(batch, tuple | list) or len(batch) != 2:
        what = f"a {type(batch).__name__} of {list(batch)}" if isinstance(batch, Mapping) else f"a {type(batch).__name__}"
        raise ValueError(f"a batch is {what}; allowed: (inputs, targets), a tensor each, as a collate_fn can make them")
    for part in batch:
        if not isinstance(part, torch.Tensor):
            raise ValueError(f"a batch holds a {type(part).__name__}; allowed: (inputs, targets), a tensor each")
        if not part.dim():
            raise ValueError("a batch holds a single number; allowed: tensors [B, ...], as a batch_size gives")
    return tuple(batch)


class _Column:
    """Inputs or targets on their way into one tensor: in memory, or in a file where they are too many and counted."""

    def __init__(self, first: torch.Tensor, n: int | None, memory: int):
        self.shape, self.parts, self.filled, self.memory = tuple(first.shape[1:]), [], 0, memory
        size = first[0].nbytes
        self.mapped = None
        if n is not None and n * size > memory:
            with tempfile.TemporaryFile() as file:  # it stays as long as a tensor is mapped from it
                self.mapped = torch.from_numpy(np.memmap(file, first.numpy().dtype, "w+", shape=(n, *self.shape)))

    def add(self, part: torch.Tensor) -> None:
        if tuple(part.shape[1:]) != self.shape:
            raise ValueError(f"samples have shapes {self.shape} and {tuple(part.shape[1:])}; allowed: one shape for all")
        if self.mapped is not None:
            self.mapped[self.filled : self.filled + len(part)] = part.detach()
        else:
            self.parts.append(part.detach().clone())
            if (self.filled + len(part)) * max(1, part[0].nbytes) > self.memory:
                raise ValueError(
                    f"a stream of more than {self.memory:.2g} bytes has no number of samples; allowed: a dataset with a length, "
                    "or your own loop with a Watch"
                )
        self.filled += len(part)

    def whole(self) -> torch.Tensor:
        return torch.cat(self.parts) if self.mapped is None else self.mapped


def chunks(n: int, bytes_each: float, memory: int = MEMORY) -> Iterator[slice]:
    """Slices of 0 … n - 1 of which each takes `memory` bytes at most, at `bytes_each` for one; at least one each.

    >>> list(chunks(5, 2.0, memory=4))
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    size = max(1, int(memory / bytes_each))
    for begin in range(0, n, size):
        yield slice(begin, min(n, begin + size))
