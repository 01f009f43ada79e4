"""Who makes runs go: one after the other, or side by side in slices that leave the event loop its turns."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import Protocol

from thermolab.engine.state import Frame, State

SLICE_SECONDS = 0.01  # how long the async driver computes before the event loop gets its turn


class Run(Protocol):
    """What a driver asks of an `Experiment`."""

    state: State
    steps_summed: int
    seconds_per_step: float | None

    def advance(self, n: int) -> None:
        """Take n steps."""

    def frame(self) -> Frame:
        """What the observables read now."""


def slices(
    runs: Sequence[Run], every: int, until: int | None = None, seconds: float | None = None, before=lambda: True
) -> Iterator[None]:
    """Advance the runs side by side, up to the next frame at most, in slices of about `seconds` where that is given."""
    first = runs[0]
    while (until is None or first.state.step < until) and before():
        n = every - first.steps_summed % every
        if until is not None:
            n = min(n, until - first.state.step)
        if seconds is not None:
            n = min(n, 1 if first.seconds_per_step is None else max(1, int(seconds / first.seconds_per_step)))
        began = time.perf_counter()
        for run in runs:
            run.advance(n)
        first.seconds_per_step = (time.perf_counter() - began) / n
        yield


async def lockstep(
    runs: Sequence[Run], every: int, until: int | None = None, before: Callable[[], bool] = lambda: True
) -> AsyncIterator[tuple[Frame, ...]]:
    """The frames of runs that go side by side, giving way to the event loop every ~10 ms.

    before: called before each slice, the place to turn knobs; no further step is taken once it returns False.
    """
    began = time.perf_counter()
    for _ in slices(runs, every, until, SLICE_SECONDS, before):
        if runs[0].steps_summed % every == 0:
            yield tuple(run.frame() for run in runs)
        if time.perf_counter() - began > SLICE_SECONDS:
            await asyncio.sleep(0)
            began = time.perf_counter()


def frame_steps(cadence: Iterable[Iterable[int]]) -> Iterator[int]:
    """The steps that rows (first step, stride, how many) stand for.

    >>> list(frame_steps([[10, 10, 3], [31, 1, 1]]))
    [10, 20, 30, 31]
    """
    for first, stride, count in cadence:
        yield from range(first, first + stride * count, stride)
