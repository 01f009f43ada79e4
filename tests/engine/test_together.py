"""Recipes awaited together: the results of each alone, by name, and an error of one for all."""

import asyncio
from functools import partial

import pytest
import xarray as xr
from toy_recipes import bad_dimension, process_ids, sleeping, squares

from thermolab.engine import recipe
from thermolab.engine.recipe import From, Jobs, Recipe, needed, together
from thermolab.phenomena.ideal_gas import isotropic

pytestmark = pytest.mark.usefixtures("two_workers")


def test_results_come_by_name_in_the_order_that_was_given():
    recipes = {"slow": sleeping(0.3, 1), "b": squares(n=4), "fast": sleeping(0.0, 1), "a": squares(n=2)}
    found = asyncio.run(together(recipes))
    assert list(found) == ["slow", "b", "fast", "a"]
    assert found == {"slow": 0.3, "b": squares.run(n=4), "fast": 0.0, "a": squares.run(n=2)}
    assert asyncio.run(together({})) == {}


def test_results_are_those_of_awaiting_one_after_the_other():
    settings = {"eta": (0.05, 0.1, 2), "lam": (0.1, 0.1, 1), "replicas": 8, "snapshots": 4, "n_seeds": 2}
    calls = {protocol: partial(isotropic.stationary, protocol, **settings) for protocol in ("lr", "elr")}

    async def both():
        singly = {name: await call() for name, call in calls.items()}
        return singly, await together({name: call() for name, call in calls.items()})

    singly, found = asyncio.run(both())
    assert list(found) == ["lr", "elr"]
    for name, data in singly.items():
        xr.testing.assert_identical(found[name], data)
    assert not found["lr"]["U"].equals(found["elr"]["U"])


def test_recipes_share_the_workers(monkeypatch):
    """The jobs of one are handed in while those of the other are still out."""
    out, both = [], asyncio.Event()

    async def elsewhere(jobs):
        out.append(jobs.label)
        if len(out) == 2:
            both.set()
        await asyncio.wait_for(both.wait(), 5)
        return [jobs.label]

    @Recipe
    def labelled(label):
        return (yield Jobs(pow, [], label))

    monkeypatch.setattr(recipe, "_elsewhere", elsewhere)
    assert asyncio.run(together({k: labelled(k) for k in "xy"})) == {"x": ["x"], "y": ["y"]}


def test_what_several_take_from_one_is_measured_once():
    counted = []

    async def first(n):
        counted.append(n)
        await asyncio.sleep(0.01)
        return n

    async def after(n, add):
        return n + add

    plan = {
        "both": {"a": partial(after, n=From("first"), add=1), "b": partial(after, n=From("first"), add=2)},
        "last": partial(after, n=From("first"), add=3),
        "first": partial(first, n=10),
        "other": partial(first, n=0),
    }
    assert asyncio.run(together(plan, "both", "last")) == {"both": {"a": 11, "b": 12}, "last": 13}
    assert counted == [10]
    assert list(needed(plan, "both")) == ["both", "first"]
    assert list(needed(plan, "other")) == ["other"]
    chain = plan | {"end": partial(after, n=From("last"), add=0)}
    assert list(needed(chain, "end")) == ["end", "last", "first"]
    assert asyncio.run(together(chain, "end")) == {"end": 13}


@pytest.mark.parametrize("order", [("bad", "good"), ("good", "bad")])
def test_an_error_in_one_is_raised(order):
    async def failing():
        await process_ids()  # the workers are up
        recipes = {"bad": bad_dimension, "good": squares}
        await together({name: recipes[name]() for name in order})

    with pytest.raises(ValueError, match="dim=2"):
        asyncio.run(failing())
    assert asyncio.run(squares())[0] == [0, 1, 4]


def test_after_an_error_the_next_recipes_work_in_the_same_loop():
    """As in a notebook, whose loop goes on: what was left of the first must not end the workers of the next."""

    async def notebook():
        await process_ids()  # the workers are up
        with pytest.raises(ValueError, match="dim=2"):
            await together({"bad": bad_dimension(), "slow": sleeping(0.5, 4), "other": sleeping(0.5, 4)})
        return await squares(), await squares(4)

    assert asyncio.run(notebook()) == (squares.run(), squares.run(4))
