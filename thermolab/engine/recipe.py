"""Recipes: measurements that a notebook awaits, a script runs, and a test calls, with the same numbers in each.

A recipe is a generator function that yields `Jobs` (one picklable function and the settings of each call) and is
sent the list of their results. `await recipe(...)` gives the jobs to other processes, so the kernel stays free for
a live panel and Interrupt stops them; `recipe.run(...)` takes them one after the other in this process.
"""

from __future__ import annotations

import asyncio
import functools
import multiprocessing
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from threadpoolctl import threadpool_limits
from tqdm import tqdm

_ONE_AT_A_TIME = threading.RLock()


@dataclass(frozen=True)
class Jobs:
    """Independent calls of one function of a module: their settings, and what the progress bar calls them."""

    function: Callable
    settings: Sequence[dict]
    label: str = "jobs"


class Recipe:
    """A measurement. Calling it returns a coroutine; `run` is the same for scripts."""

    def __init__(self, function: Callable):
        functools.update_wrapper(self, function)
        self.function = function

    async def __call__(self, *args, **settings):
        steps = self.function(*args, **settings)
        results = None
        while True:
            try:
                jobs = steps.send(results)
            except StopIteration as end:
                return end.value
            results = await _elsewhere(jobs)

    def run(self, *args, **settings):
        """The recipe in this process, one job after the other."""
        steps = self.function(*args, **settings)
        results = None
        while True:
            try:
                jobs = steps.send(results)
            except StopIteration as end:
                return end.value
            results = [_one_thread(jobs.function, s) for s in _progress(jobs.settings, jobs.label)]


async def together(recipes: Mapping[str, Awaitable]) -> dict:
    """The results of recipes that do not need each other, by name: their jobs share the workers, so none is idle."""
    return dict(zip(recipes, await asyncio.gather(*recipes.values()), strict=True))


def seeds(seed: int, n: int) -> list[int]:
    """n seeds of a recipe, disjoint from those of any other `seed` (n up to 1000)."""
    return [1000 * seed + i for i in range(n)]


def workers() -> int:
    """How many processes `await recipe(...)` uses: THERMOLAB_WORKERS, else one per core."""
    return int(os.environ.get("THERMOLAB_WORKERS", 0)) or os.cpu_count() or 1


def _one_thread(function: Callable, settings: dict):
    """The call with one thread, torch's and BLAS's: small matrices gain nothing from more, and results depend on their number."""
    import torch  # not above: `warm_up` is there to start the workers before this process loads torch itself

    with _ONE_AT_A_TIME:  # the numbers of threads belong to the process; jobs of a GPU, in threads, would undo each other's
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with threadpool_limits(1, user_api="blas"):
                return function(**settings)
        finally:
            torch.set_num_threads(before)


def _progress(items, label: str, total: int | None = None):
    """A progress bar where somebody looks: a terminal or a notebook's front end."""
    if os.environ.get("JPY_SESSION_NAME"):
        from tqdm.auto import tqdm as bar

        return bar(items, desc=label, total=total, leave=False)
    return tqdm(items, desc=label, total=total, leave=False, disable=None)


@functools.cache
def _pool() -> ProcessPoolExecutor:
    # a fork server imports once for all workers; where there is none (Windows), each worker imports for itself
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    seen = bool(os.environ.get("JPY_SESSION_NAME"))
    return ProcessPoolExecutor(workers(), multiprocessing.get_context(method), initializer=_begin_worker, initargs=(seen,))


def _begin_worker(seen: bool) -> None:
    # Interrupt reaches the whole group of processes: the workers leave it to the kernel, which then ends them
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if seen and hasattr(os, "nice"):
        os.nice(10)  # somebody may be turning knobs in this kernel meanwhile


def warm_up(*modules: str) -> None:
    """Start the worker processes, which takes seconds, while the reader is still reading; modules: what jobs will import."""
    multiprocessing.set_forkserver_preload(["thermolab.engine.preload", *modules])
    pool = _pool()
    # in a thread, for the first submit waits until the fork server has imported all that
    threading.Thread(target=lambda: [pool.submit(os.getpid) for _ in range(workers())], daemon=True).start()


async def _elsewhere(jobs: Jobs) -> list:
    """All results in order; processes for the CPU, a thread for a GPU, which the processes would only share."""
    if any(str(s.get("device", "cpu")).startswith("cuda") for s in jobs.settings):
        return [await asyncio.to_thread(_one_thread, jobs.function, s) for s in _progress(jobs.settings, jobs.label)]
    bar, pool = _progress(None, jobs.label, total=len(jobs.settings)), _pool()

    def done(future):
        bar.update()
        future.exception()  # looked at: those of ended workers are no news

    try:
        # in a thread, for the first submit waits until the workers' server is up
        submitted = await asyncio.to_thread(lambda: [pool.submit(_one_thread, jobs.function, s) for s in jobs.settings])
        futures = [asyncio.wrap_future(future) for future in submitted]
        for future in futures:
            future.add_done_callback(done)
        # shielded: a job cancelled in the pool would trip over the end of its worker
        return list(await asyncio.gather(*map(asyncio.shield, futures)))
    except BaseException:
        _stop_workers(pool)
        raise
    finally:
        bar.close()


def _stop_workers(pool: ProcessPoolExecutor) -> None:
    """Interrupt, or a job that failed: end the jobs at once; the next recipe starts fresh workers, which others must not end."""
    processes = list((getattr(pool, "_processes", None) or {}).values())
    pool.shutdown(wait=False)
    for process in processes:
        process.terminate()
    if pool is _pool():
        _pool.cache_clear()
