"""Progress bars: one for a whole plan, that is for all that a notebook measures, with the time left."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping

from tqdm import tqdm

FORM = "{desc}: {percentage:.0f} % of all measurements |{bar}| {elapsed} gone, about {remaining} left"


def bar(items=None, **settings):
    """A progress bar where somebody looks: a terminal or a notebook's front end."""
    if os.environ.get("JPY_SESSION_NAME"):
        from tqdm.auto import tqdm as widget

        return widget(items, leave=False, **settings)
    return tqdm(items, leave=False, disable=None, **settings)


class Progress:
    """How much of a plan is done: each of its recipes counts alike, however long it takes, so the time left is a rough one.

    It is entered while some of them are measured, and remembers those of earlier cells.
    """

    _latest: Progress | None = None  # of the plan that was measured last, so that the next cell goes on with it

    def __init__(self, plan: Mapping):
        self.plan, self.done, self.seconds = plan, dict.fromkeys(_parts(plan), 0.0), 0.0

    @classmethod
    def of(cls, plan: Mapping) -> Progress:
        """The progress of this very plan, the last one's if it is the same object."""
        if cls._latest is None or cls._latest.plan is not plan:
            cls._latest = cls(plan)
        return cls._latest

    @property
    def share(self) -> float:
        """How much is done, from 0 to 1."""
        return sum(self.done.values()) / len(self.done) if self.done else 1.0

    def __enter__(self) -> Progress:
        self._began = time.time()
        self._bar = bar(total=1.0, desc="measuring", bar_format=FORM, smoothing=0)
        self._bar.start_t = self._began - self.seconds  # the rate is that of all cells so far
        self._show()
        return self

    def __exit__(self, *_) -> None:
        self.seconds += time.time() - self._began
        self._bar.close()

    def finished(self, part: tuple) -> None:
        """A recipe, by its place in the plan, is done."""
        self.done[part] = 1.0
        self._show()

    def jobs(self, part: tuple, label: str, items: Iterable | None, total: int | None) -> Jobs:
        """What is told of each job of a recipe; a recipe with several rounds of them counts the one that is furthest."""
        return Jobs(self, part, label, items, total)

    def _show(self, label: str | None = None) -> None:
        if label:
            self._bar.set_description_str(label, refresh=False)
        self._bar.n = round(self.share, 4)
        self._bar.refresh()


class Jobs:
    """The jobs of one recipe as a part of its plan; with the methods of a bar."""

    def __init__(self, progress: Progress, part: tuple, label: str, items: Iterable | None, total: int | None):
        self.progress, self.part, self.label, self.items = progress, part, label, items
        self.total, self.n = total or len(items), 0
        progress._show(label)

    def __iter__(self) -> Iterator:
        for item in self.items:
            yield item
            self.update()

    def update(self) -> None:
        """One more is done."""
        self.n += 1
        done = self.progress.done
        done[self.part] = max(done[self.part], 0.99 * self.n / self.total)  # the last step of a recipe is not a job
        self.progress._show(self.label)

    def close(self) -> None:
        """Nothing to do: the plan's bar goes on."""


def _parts(plan: Mapping, place: tuple = ()) -> Iterator[tuple]:
    """The places of all recipes of a plan, of those in mappings too."""
    for name, asked in plan.items():
        yield from _parts(asked, (*place, name)) if isinstance(asked, Mapping) else [(*place, name)]
