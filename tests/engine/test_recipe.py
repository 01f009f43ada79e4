"""Recipes: the same numbers awaited and run, and workers that end with what they were started for."""

import asyncio
import itertools
import os
import time
from functools import partial

import psutil
import pytest
import torch
import xarray as xr

from thermolab.engine import recipe
from thermolab.engine.recipe import Jobs, Recipe, seeds
from thermolab.phenomena.ideal_gas import isotropic
from thermolab.systems.isotropic import IsotropicNoise

pytestmark = pytest.mark.usefixtures("two_workers")


def processes():
    return [psutil.Process(pid) for pid in recipe._pool()._processes]


def all_gone(workers):
    """Whether the processes end within five seconds."""
    return not psutil.wait_procs(workers, timeout=5)[1]


@Recipe
def squares(n=3):
    """Two rounds of jobs; the second needs the results of the first."""
    first = yield Jobs(pow, [{"base": i, "exp": 2} for i in range(n)])
    second = yield Jobs(pow, [{"base": i, "exp": 2} for i in first])
    return first, second


@Recipe
def process_ids():
    return (yield Jobs(os.getpid, [{}, {}]))


@Recipe
def bad_dimension():
    yield Jobs(IsotropicNoise, [{"dim": 3}, {"dim": 2}, {"dim": 4}])


@Recipe
def sleeping(seconds):
    yield Jobs(partial(time.sleep, seconds), [{}, {}, {}])


def test_run_and_await_send_the_results_in_order():
    assert squares.run() == ([0, 1, 4], [0, 1, 16])
    assert asyncio.run(squares(n=4)) == ([0, 1, 4, 9], [0, 1, 16, 81])
    assert squares.__name__ == "squares"
    assert squares.__doc__.startswith("Two rounds")


def test_run_and_await_measure_the_same():
    settings = {"eta": (0.05, 0.1, 2), "lam": (0.03, 0.1, 2), "replicas": 16, "snapshots": 8, "n_seeds": 2, "seed": 5}
    here = isotropic.stationary.run("lr", **settings)
    there = asyncio.run(isotropic.stationary("lr", **settings))
    xr.testing.assert_identical(here, there)


def test_jobs_run_elsewhere_when_awaited():
    assert set(process_ids.run()) == {os.getpid()}
    assert os.getpid() not in asyncio.run(process_ids())


def test_a_job_has_one_thread_and_gives_the_others_back():
    @Recipe
    def threads():
        return (yield Jobs(torch.get_num_threads, [{}]))

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert threads.run() == [1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_an_error_in_a_job_comes_through_and_ends_the_workers():
    with pytest.raises(ValueError, match="dim=2"):
        bad_dimension.run()
    workers = []

    async def awaited():
        await process_ids()  # the workers are up
        workers.extend(processes())
        await bad_dimension()

    with pytest.raises(ValueError, match="dim=2"):
        asyncio.run(awaited())
    assert workers
    assert all_gone(workers)
    assert asyncio.run(squares())[0] == [0, 1, 4]


def test_interrupt_stops_the_workers_and_the_next_recipe_works():
    async def interrupted():
        await process_ids()  # the workers are up
        workers = processes()
        task = asyncio.ensure_future(sleeping(30))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return all_gone(workers), await squares()

    gone, results = asyncio.run(interrupted())
    assert gone
    assert results == ([0, 1, 4], [0, 1, 16])


def test_the_event_loop_is_free_while_a_recipe_is_awaited():
    async def ticking():
        await process_ids()
        task, ticks = asyncio.ensure_future(sleeping(0.1)), 0
        while not task.done():
            ticks += 1
            await asyncio.sleep(0.005)
        return ticks

    assert asyncio.run(ticking()) >= 5


def test_seeds_of_different_runs_are_disjoint():
    for a, b in itertools.combinations([seeds(s, 1000) for s in range(4)], 2):
        assert not set(a) & set(b)
    assert len(set(seeds(3, 1000))) == 1000
    assert seeds(2, 3) == seeds(2, 5)[:3]


def test_the_number_of_workers(monkeypatch):
    assert recipe.workers() == 2
    monkeypatch.delenv("THERMOLAB_WORKERS")
    assert recipe.workers() >= 1
