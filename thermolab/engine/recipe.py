"""Recipes: measurements that a notebook awaits, a script runs, and a test calls, with the same numbers in each.

A recipe is a function that measures one seed, under `@recipe(...)`, which adds the seeds, the check of the settings by
their annotations, the processes, the progress bar and the joining of the results:

    @recipe("walkers")
    def growth(rates: Positives = (0.1, 0.3), *, steps: Count = 1000, seed: int = 0, device: str = "cpu") -> xr.Dataset:
        ...
        return xr.Dataset({"r": ("eta", r)}, coords={"eta": list(rates)})  # of this seed

`await growth(n_seeds=5)` gives the jobs to other processes, so the kernel stays free for a live panel and Interrupt
stops them; `growth.run(n_seeds=5)` takes them one after the other in this process: the same numbers. What needs
several rounds of jobs is a `Recipe` of its own: a generator function that yields `Jobs` and is sent their results.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import dataclasses
import functools
import inspect
import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import get_type_hints

import numpy as np
import xarray as xr
from threadpoolctl import threadpool_limits

from thermolab.engine import rules, store
from thermolab.engine.progress import Progress, bar

_ONE_AT_A_TIME = threading.RLock()
_measuring: contextvars.ContextVar = contextvars.ContextVar("measuring", default=None)  # the plan's progress, the recipe's place
_PRELOADED = ["thermolab.engine.preload"]


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
            results = [_counted(_job(jobs.function, s)) for s in _progress(jobs.settings, jobs.label)]


def recipe(
    label: str,
    *,
    shared: Sequence[str] = (),
    dims: Sequence[str] = (),
    over: Mapping[str, str] | None = None,
    n_seeds: int = 5,
    then: Callable[[xr.Dataset], xr.Dataset] | None = None,
):
    """The decorator that makes a `SeedRecipe` of a function (settings, seed[, device]) -> Dataset of that seed.

    label: what the progress bar says, {name} is a setting. shared: variables that are the same for all seeds, predictions
    say, and get no dimension seed. dims: the order of dimensions (default: as they come, seed last). over: {setting: dim},
    settings each of whose values is a job of its own, called with that one value in a tuple; dim: along which they are joined.
    n_seeds: the default. then: a last step, with what has been joined, for means over the seeds. A function that takes `seeds`
    in place of `seed` gets all of them at once and returns them as a dim. A setting that is a frozen dataclass groups
    settings: its fields are settings of the recipe.
    """
    return lambda measure: SeedRecipe(measure, label, shared, dims, over or {}, n_seeds, then)


class SeedRecipe(Recipe):
    """A recipe made by `recipe`. settings: {name: default} of a call; rules: what of it is checked."""

    def __init__(self, measure: Callable, label: str, shared, dims, over: Mapping[str, str], n_seeds: int, then=None):
        super().__init__(self._steps)
        functools.update_wrapper(self, measure)
        self.measure, self.label, self.shared, self.dims, self.over, self.then = measure, label, shared, dims, over, then
        own, hints = inspect.signature(measure).parameters, get_type_hints(measure)
        self.groups = {name: hints[name] for name in own if dataclasses.is_dataclass(hints.get(name))}
        self.all_at_once = "seeds" in own
        self.rules = {"seed": rules.integer(0), "n_seeds": rules.integer(1, 1000), **rules.rules_of(measure)}
        shown = [p for name, p in own.items() if name not in ("seed", "seeds", "device", *self.groups)]
        for group in self.groups.values():
            self.rules |= rules.rules_of(group)
            shown += [_keyword(field.name, field.default) for field in dataclasses.fields(group)]
        shown += [_keyword("seed", 0), _keyword("n_seeds", n_seeds)]
        shown += [own["device"]] if "device" in own else []
        self.__signature__ = inspect.Signature(shown, return_annotation=xr.Dataset)
        self.settings = {p.name: p.default for p in shown}

    def __reduce__(self):
        return self.__qualname__  # by its name, as functions are: jobs go to other processes

    def checked(self, *args, **settings) -> dict[str, object]:
        """All settings of a call, defaults filled in. Raises ValueError, one line; TypeError for a name that is none."""
        bound = self.__signature__.bind(*args, **settings)
        bound.apply_defaults()
        return rules.checked(self.rules, bound.arguments)

    def _steps(self, *args, **settings):
        found = self.checked(*args, **settings)
        numbers = seeds(found.pop("seed"), found.pop("n_seeds"))
        each = [{"seeds": numbers}] if self.all_at_once else [{"seed": s} for s in numbers]
        cells = itertools.product(*([{name: (value,)} for value in found[name]] for name in self.over))
        jobs = [functools.reduce(dict.__or__, cell, found) | one for cell in cells for one in each]
        parts = yield Jobs(self.one, jobs, self.label.format_map(found))
        # from the inside: the seeds of a cell, then the cells
        for name, dim in [(None, "seed"), *reversed(self.over.items())]:
            size = len(each) if name is None else len(found[name])
            parts = [_joined(parts[i : i + size], dim) for i in range(0, len(parts), size)]
        (data,) = parts
        data = data.transpose(*self.dims, ..., *([] if self.dims else ["seed"]), missing_dims="ignore")
        # sums over an array depend in their last bits on its order in memory
        data = data.map(lambda v: v.copy(data=np.asarray(v.values, order="C")), keep_attrs=True)
        return self.then(data) if self.then else data

    def one(self, **settings) -> xr.Dataset:
        """One job: what `measure` returns, with seed as a dimension of all that is not shared."""
        for name, group in self.groups.items():
            settings[name] = group(**{field.name: settings.pop(field.name) for field in dataclasses.fields(group)})
        data = self.measure(**settings)
        if self.all_at_once:
            return data
        shared = [name for name in self.shared if name in data]
        return data.set_coords(shared).expand_dims(seed=[settings["seed"]]).reset_coords(shared)


def _keyword(name: str, default) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)


def _joined(parts: Sequence[xr.Dataset], dim: str) -> xr.Dataset:
    """Datasets along a dimension that they have; what does not have it is the same in all and comes from the first."""
    first, *more = parts
    if not more:
        return first
    same = {"data_vars": "minimal", "coords": "minimal", "compat": "override", "join": "exact", "combine_attrs": "override"}
    return xr.concat(parts, dim, **same)


@dataclass(frozen=True)
class From:
    """A setting that is the result of another recipe of the same plan, by its name there; given by keyword."""

    name: str


def needed(plan: Mapping, *names: str) -> dict:
    """The part of a plan that measures these: they themselves, and what their recipes take `From` others.

    Raises LookupError, one line, for a name that is not in the plan.
    """

    def sources(asked) -> list[str]:
        if isinstance(asked, Mapping):
            return [name for part in asked.values() for name in sources(part)]
        return [value.name for value in getattr(asked, "keywords", {}).values() if isinstance(value, From)]

    for name in names:
        if name not in plan:
            raise LookupError(f"there is no dataset {name!r} among what is measured: {', '.join(plan)}")
    part = {name: plan[name] for name in names}
    more = [name for asked in part.values() for name in sources(asked) if name not in part]
    return needed(plan, *part, *more) if more else part


async def together(recipes: Mapping, *names: str) -> dict:
    """The results of recipes by name: the jobs of those that do not need each other share the workers, so none is idle.

    recipes: {name: recipe}, called already or not (a `functools.partial` of it and its settings), or a mapping of such, whose
    results stand under the name as a dict. A setting of a partial may be `From` another name: that is measured once, first.
    names: which of them (default: all). One progress bar shows how much of all the recipes is done, those of earlier calls too.
    """
    begun: dict[str, asyncio.Future] = {}
    names = names or tuple(recipes)

    async def measured(name: str):
        if name not in begun:
            begun[name] = asyncio.ensure_future(result(recipes[name], (name,)))
        return await begun[name]

    async def result(asked, part: tuple):
        if isinstance(asked, Mapping):
            parts = (result(one, (*part, key)) for key, one in asked.items())
            return dict(zip(asked, await asyncio.gather(*parts), strict=True))
        found = await measure(asked, part)
        progress.finished(part)
        return found

    async def measure(asked, part: tuple):
        _measuring.set((progress, part))
        if isinstance(asked, functools.partial):
            given = {k: await measured(v.name) for k, v in asked.keywords.items() if isinstance(v, From)}
            asked = functools.partial(asked, **given)
        return await (asked() if callable(asked) else asked)

    with Progress.of(recipes) as progress:
        return dict(zip(names, await asyncio.gather(*map(measured, names)), strict=True))


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


def _job(function: Callable, settings: dict) -> tuple[object, bool]:
    """The result of a job, and whether the store had it."""
    return store.kept(function, settings, lambda: _one_thread(function, settings))


def _counted(job: tuple[object, bool]):
    result, found = job
    store.counted["found" if found else "measured"] += 1
    return result


def _progress(items, label: str, total: int | None = None):
    """A progress bar, or what moves the bar of a plan if that is being measured."""
    part = _measuring.get()
    return bar(items, desc=label, total=total) if part is None else part[0].jobs(part[1], label, items, total)


@functools.cache
def _pool() -> ProcessPoolExecutor:
    # a fork server imports once for all workers; where there is none (Windows), each worker imports for itself
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    multiprocessing.set_forkserver_preload(_PRELOADED)
    seen = bool(os.environ.get("JPY_SESSION_NAME"))
    return ProcessPoolExecutor(workers(), multiprocessing.get_context(method), initializer=_begin_worker, initargs=(seen,))


def _begin_worker(seen: bool) -> None:
    # Interrupt reaches the whole group of processes: the workers leave it to the kernel, which then ends them
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if seen and hasattr(os, "nice"):
        os.nice(10)  # somebody may be turning knobs in this kernel meanwhile


def warm_up(*modules: str) -> None:
    """Start the worker processes, which takes seconds, while the reader is still reading; modules: what jobs will import."""
    _PRELOADED.extend(modules)
    pool = _pool()

    def begin():
        # where the server is ended meanwhile, whoever waits for a job hears of it
        with contextlib.suppress(EOFError, OSError, RuntimeError):
            for _ in range(workers()):
                pool.submit(os.getpid)

    threading.Thread(target=begin, daemon=True).start()  # for the first submit waits until the fork server has imported all that


async def _elsewhere(jobs: Jobs) -> list:
    """All results in order; processes for the CPU, a thread for a GPU, which the processes would only share."""
    if any(str(s.get("device", "cpu")).startswith("cuda") for s in jobs.settings):
        return [_counted(await asyncio.to_thread(_job, jobs.function, s)) for s in _progress(jobs.settings, jobs.label)]
    bar, pool = _progress(None, jobs.label, total=len(jobs.settings)), _pool()

    def done(future):
        bar.update()
        future.exception()  # looked at: those of ended workers are no news

    try:
        # in a thread, for the first submit waits until the workers' server is up
        submitted = await asyncio.to_thread(lambda: [pool.submit(_job, jobs.function, s) for s in jobs.settings])
        futures = [asyncio.wrap_future(future) for future in submitted]
        for future in futures:
            future.add_done_callback(done)
        # shielded: a job cancelled in the pool would trip over the end of its worker
        return [_counted(job) for job in await asyncio.gather(*map(asyncio.shield, futures))]
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
