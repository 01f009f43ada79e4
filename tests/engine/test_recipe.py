"""Recipes: the same numbers awaited and run, and workers that end with what they were started for."""

import asyncio
import inspect
import itertools
import os
import re
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import psutil
import pytest
import torch
import xarray as xr
from toy_recipes import bad_dimension, process_ids, sleeping, squares

from thermolab.engine import recipe
from thermolab.engine.recipe import Jobs, Recipe, seeds
from thermolab.engine.recipe import recipe as one_seed
from thermolab.engine.rules import Count, Positives
from thermolab.phenomena.ideal_gas import isotropic

pytestmark = pytest.mark.usefixtures("two_workers")


def processes():
    return [psutil.Process(pid) for pid in recipe._pool()._processes]


def all_gone(workers):
    """Whether the processes end within five seconds."""
    return not psutil.wait_procs(workers, timeout=5)[1]


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


# --- recipes that measure one seed


@dataclass(frozen=True)
class Ending:
    decay: Count = 3
    floor: float = 0.0


@one_seed("walks of {steps} steps", shared=["known"], dims=("eta", "seed", "time"), over={"rates": "eta"}, n_seeds=2)
def walks(
    rates: Positives = (0.1, 0.3),
    *,
    kind: Literal["free", "bound"] = "free",
    steps: Count = 4,
    ending: Ending = Ending(),
    seed: int = 0,
) -> xr.Dataset:
    """Numbers that say where they come from."""
    (eta,) = rates
    way = eta * seed + np.arange(steps) + ending.decay
    return xr.Dataset(
        {"way": (("time", "eta"), way[:, None]), "known": ("eta", [2 * eta]), "last": way[-1]},
        coords={"eta": [eta], "phase": ("time", np.arange(steps) % 2)},
        attrs={"kind": kind},
    )


@one_seed("all at once")
def crowd(*, seeds: list[int]) -> xr.Dataset:
    """All seeds in one job."""
    return xr.Dataset({"number": ("seed", np.square(seeds))}, coords={"seed": seeds})


def test_a_recipe_of_one_seed_is_joined_over_seeds_and_cells():
    data = walks.run((0.5, 2.0), steps=3, seed=7, n_seeds=3, decay=1)
    assert data["seed"].values.tolist() == seeds(7, 3)
    assert data["eta"].values.tolist() == [0.5, 2.0]
    assert data["way"].dims == ("eta", "seed", "time")
    expected = np.multiply.outer([0.5, 2.0], seeds(7, 3))[..., None] + np.arange(3) + 1
    np.testing.assert_array_equal(data["way"], expected)
    assert data["way"].values.flags.c_contiguous  # sums depend on it in their last bits
    assert data["known"].dims == ("eta",)  # what is shared has no seed
    assert data["known"].values.tolist() == [1.0, 4.0]
    assert data["phase"].dims == ("time",)
    assert data["last"].dims == ("seed",)
    assert data.attrs == {"kind": "free"}


def test_seeds_may_be_measured_all_at_once():
    assert crowd.run(n_seeds=3, seed=2)["number"].values.tolist() == [2000**2, 2001**2, 2002**2]


def test_a_last_step_sees_all_seeds():
    @one_seed("numbers", then=lambda data: data.assign(mean=data["number"].mean("seed")))
    def numbers(*, seed: int = 0) -> xr.Dataset:
        return xr.Dataset({"number": float(seed)})

    data = numbers.run(n_seeds=3, seed=1)
    assert data["number"].dims == ("seed",)
    assert data["mean"] == 1001


def test_a_recipe_shows_its_settings_once():
    assert list(walks.settings) == ["rates", "kind", "steps", "decay", "floor", "seed", "n_seeds"]
    assert walks.settings["decay"] == 3
    assert walks.settings["n_seeds"] == 2
    assert list(inspect.signature(walks).parameters) == list(walks.settings)
    assert walks.__doc__ == "Numbers that say where they come from."


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps=0 is out of range; allowed: a whole number, 1 or more"),
        ({"steps": 2.5}, "steps=2.5 is not a whole number; allowed: a whole number, 1 or more"),
        ({"decay": 0}, "decay=0 is out of range; allowed: a whole number, 1 or more"),
        ({"rates": (0.1, 0)}, "rates=(0.1, 0) is not positive and finite; allowed: a list of 1 or more, each a positive number"),
        ({"rates": "fast"}, "rates='fast' is not a list; allowed: a list of 1 or more, each a positive number"),
        ({"kind": "odd"}, "kind='odd' is unknown; allowed: one of free, bound"),
        ({"n_seeds": 0}, "n_seeds=0 is out of range; allowed: a whole number from 1 to 1000"),
        ({"seed": -1}, "seed=-1 is out of range; allowed: a whole number, 0 or more"),
    ],
)
def test_a_setting_that_its_annotation_does_not_allow_is_one_line(settings, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        walks.run(**settings)


def test_an_unknown_setting_is_refused():
    with pytest.raises(TypeError, match="stepz"):
        walks.run(stepz=3)


def test_recipes_together_called_or_not_in_groups_and_by_name():
    group = {"a": partial(process_ids), "b": partial(squares, n=3)}
    plan = {"squares": squares(n=2), "group": group, "not": partial(sleeping, 99)}
    found = asyncio.run(recipe.together(plan, "squares", "group"))
    assert found["squares"] == ([0, 1], [0, 1])
    assert found["group"]["b"][0] == [0, 1, 4]
    assert list(found) == ["squares", "group"]
