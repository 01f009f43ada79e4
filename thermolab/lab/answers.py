"""What a student writes down: predictions and exercises, checked at once and kept in answers/NOTEBOOK.json."""

from __future__ import annotations

import datetime
import inspect
import json
import os
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path

import ipywidgets
from filelock import FileLock

from thermolab.lab import results, saved
from thermolab.lab.live import front_end
from thermolab.words import _

LOCKED = 5  # seconds to wait for another kernel that writes the same file


class Answers:
    """The predictions and attempts of one student in one notebook.

    notebook: its name. live: "auto", "on" or "off", whether predictions are asked for by widgets. folder: where attempts
    are kept, `answers` beside the notebook unless given. What is kept is the question, the answer as it was given, what
    was said to it, and when.
    """

    def __init__(self, notebook: str, *, live: str = "auto", folder: Path | str | None = None):
        self.notebook, self.live = notebook, live
        self.file = Path("answers" if folder is None else folder) / f"{notebook}.json"
        self._questions, self._given = {}, {}

    def predict(self, questions: Mapping, **given) -> None:
        """Ask for predictions: by widgets where somebody sees them, else by the values given; None is not yet written down.

        questions: {name: question}, with a `text`, `options` and `check`. Raises TypeError for a value without a question.
        """
        unknown = sorted(set(given) - set(questions))
        if unknown:
            raise TypeError(f"no prediction is called {unknown[0]}; there are {', '.join(questions)}")
        self._questions, self._given = dict(questions), {name: given.get(name) for name in questions}
        if front_end(self.live):
            last = {attempt["question"]: attempt["given"] for attempt in self._before()}
            self._given |= {name: last[name] for name in questions if name in last and given.get(name) is None}
            saved.show(ipywidgets.VBox([self._row(name) for name in questions]), _("Run this cell to see what you predicted."))
            return
        for name in questions:
            print(f"{_(questions[name].text)}: {self._said(name)}")

    def compare(self) -> None:
        """Say again, once it has been measured, what is to be said to each prediction, with the answer of theory."""
        for name, question in self._questions.items():
            given, found = self._given[name], question.check(self._given[name])
            form = _("you said {given}, the answer is {answer}; {found}") if found.answered else _("not predicted")
            print(f"{_(question.text)}: {form.format(given=given, answer=_short(question.answer), found=found)}")

    def check(self, check: Callable, *args, **given):
        """Check an answer to an exercise, print what is said to it, and keep the attempt. check: a function, or what has one."""
        found = getattr(check, "check", check)(*args, **given)
        if not found.answered or all(value is None for value in (*args, *given.values())):
            print(f"… {found.message}")
            return
        name = getattr(check, "name", None) or check.__name__
        print(f"{found}{self._keep(name, _plain(given if given else args[0] if len(args) == 1 else args), found)}")

    @property
    def solutions(self) -> bool:
        """Whether the cells of solutions are to run: THERMOLAB_SOLUTIONS=1, as batch runs, tests and the book have it."""
        return os.environ.get("THERMOLAB_SOLUTIONS") == "1"

    def kept(self) -> list[dict]:
        """All attempts so far, the first one first; a file that is no such list is set aside. Raises OSError."""
        try:
            attempts = json.loads(self.file.read_text(encoding="utf-8"))["attempts"]
            if all(isinstance(attempt["question"], str) and "given" in attempt for attempt in attempts):
                return attempts
        except FileNotFoundError:
            return []
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            pass
        aside = self.file.with_suffix(f".{datetime.datetime.now():%Y%m%d-%H%M%S}.damaged")
        self.file.rename(aside)
        print(f"{self.file} is damaged: it was renamed to {aside.name}, and a new one begins")
        return []

    def _before(self) -> list[dict]:
        try:
            return self.kept()
        except OSError as error:
            print(f"{self.file} cannot be read ({error.strerror}): earlier attempts are not shown")
            return []

    def _said(self, name: str) -> str:
        """What is said to a prediction, which is kept."""
        found = self._questions[name].check(self._given[name])
        return repr(found) + (self._keep(name, _plain(self._given[name]), found) if found.answered else "")

    def _keep(self, question: str, given, found) -> str:
        """Append an attempt, unless the last one to this question was the same; why that failed, "" if it did not."""
        when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        new = {"question": question, "given": given, "right": bool(found), "said": found.message, "time": when}
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self.file.with_name(f".{self.notebook}.lock"), timeout=LOCKED):  # the notebook may be open twice
                attempts = self.kept()
                same = [attempt["given"] for attempt in attempts if attempt["question"] == question]
                if not same or same[-1] != given:
                    results.write_json(self.file, {"notebook": self.notebook, "attempts": [*attempts, new]})
        except OSError as error:
            return f" (not kept: {self.file}: {error.strerror or error})"
        return ""

    def _row(self, name: str) -> ipywidgets.Widget:
        question, value = self._questions[name], self._given[name]
        wide = {"description_width": f"{0.6 * max(len(q.text) for q in self._questions.values()):.0f}em"}  # in one column
        if question.options:
            box = ipywidgets.Dropdown(
                options=[(_("choose …"), ""), *((option, option) for option in question.options)],
                value=question.option(value) or "",
                description=_(question.text),
                style=wide,
                layout={"width": "max-content", "max_width": "100%"},
            )
        else:
            box = ipywidgets.Text(
                "" if value is None else str(value),
                description=_(question.text),
                placeholder=_("a number, then Enter"),
                continuous_update=False,
                style=wide,
                layout={"width": "max-content", "max_width": "100%"},
            )
        said = ipywidgets.HTML()

        def on_change(_=None):
            self._given[name] = box.value or None
            said.value = f'<span role="status">{escape(self._said(name)) if box.value else ""}</span>'

        box.observe(on_change, "value")
        on_change()
        return ipywidgets.HBox([box, said], layout={"flex_flow": "row wrap"})


def _plain(given):
    """An answer as JSON can hold it; a function as its text."""
    if callable(given):
        try:
            return inspect.getsource(given)
        except (OSError, TypeError):
            return repr(given)
    if isinstance(given, Mapping):
        return {str(k): _plain(v) for k, v in given.items()}
    if isinstance(given, list | tuple | set | frozenset):
        return [_plain(v) for v in given]
    if isinstance(given, str | int | float | bool | None):
        return given
    return _plain(given.tolist()) if hasattr(given, "tolist") else repr(given)


def _short(answer) -> str:
    return answer if isinstance(answer, str) else f"{answer:.3g}"
