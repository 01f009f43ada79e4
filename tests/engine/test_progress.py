"""The bar of a plan: what it counts, what it remembers, and how long it says the rest takes."""

import asyncio
import functools

import pytest

from thermolab.engine import progress, recipe
from thermolab.engine.progress import Progress


class Bar:
    """A bar that keeps what it was told."""

    def __init__(self, items=None, **settings):
        self.shown, self.n, self.start_t, self.closed = [], 0.0, 0.0, False
        Bar.last = self

    def set_description_str(self, text, refresh=True):
        self.label = text

    def refresh(self):
        self.shown.append(self.n)

    def close(self):
        self.closed = True


@pytest.fixture
def bars(monkeypatch):
    monkeypatch.setattr(progress, "bar", Bar)
    monkeypatch.setattr(Progress, "_latest", None)


async def nothing():
    return 1


def measure(plan, *names):
    return asyncio.run(recipe.together(plan, *names))


def test_each_recipe_counts_alike_and_earlier_cells_are_remembered(bars):
    plan = {"a": nothing, "b": {"x": nothing, "y": nothing}, "c": nothing}
    measure(plan, "a")
    assert (Bar.last.shown[0], Bar.last.n, Bar.last.closed) == (0.0, 0.25, True)
    measure(plan, "b")
    assert (Bar.last.shown[0], Bar.last.n) == (0.25, 0.75)
    measure(plan, "c")
    assert Bar.last.n == 1.0
    measure(dict(plan), "a")  # another plan, as after a change of parameters
    assert Bar.last.n == 0.25


def test_jobs_move_the_bar_and_what_is_needed_counts_too(bars):
    seen = []

    async def jobs(first=None):
        counted = recipe._progress(None, "jobs", total=2)
        for _ in range(2):
            counted.update()
            seen.append((Bar.last.n, Bar.last.label))
        counted.close()

    measure({"a": jobs, "b": functools.partial(jobs, first=recipe.From("a"))}, "b")
    assert seen == [(0.2475, "jobs"), (0.495, "jobs"), (0.7475, "jobs"), (0.995, "jobs")]
    assert Bar.last.n == 1.0


def test_the_time_of_earlier_cells_is_in_the_rate(bars, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "time", lambda: now[0])

    async def slow():
        now[0] += 30

    plan = {"a": slow, "b": slow}
    measure(plan, "a")
    now[0] += 1000  # reading in between
    measure(plan, "b")
    assert Bar.last.start_t == 1130 - 30


def test_a_recipe_that_fails_closes_the_bar(bars):
    async def fails():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        measure({"a": fails}, "a")
    assert Bar.last.closed


def test_outside_a_plan_a_recipe_has_a_bar_of_its_own():
    assert list(recipe._progress([1, 2], "jobs")) == [1, 2]
