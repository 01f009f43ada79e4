"""Whether the page keeps up, and whether anybody is there; and a word with ipykernel, so that the page may speak at all."""

from __future__ import annotations

import time

import ipywidgets as w

ASKED = 0.2  # seconds between questions: JupyterLab redraws its icons whenever a kernel has been spoken to
LATE = 0.1  # seconds that a page may take before the next drawing waits for it
RENEWED = 3.0  # seconds without an answer after which the pair of numbers is replaced


class Echo:
    """The page answers each drawing by itself: how far it lags behind, and whether anybody is there.

    A number in the kernel is linked to another one in the page, which sends it back. Nothing is asked in the first
    second, and a pair of numbers that got no answer is replaced: JupyterLab 4.6 loses count of a widget whose first
    message comes too early to a kernel that awaits a cell, and a page that was reloaded begins anew.
    """

    def __init__(self):
        self.heard = time.monotonic()
        self._renew()

    def _renew(self) -> None:
        self._ping, self._pong = w.IntText(), w.IntText()
        self._began = self._asked = time.monotonic()
        self._link = w.jsdlink((self._ping, "value"), (self._pong, "value"))
        self._pong.observe(lambda _: setattr(self, "heard", time.monotonic()), "value")
        answer_where_asked(self._pong)

    def ask(self) -> None:
        """Let the page answer what was sent until now, unless it has been asked just now."""
        now = time.monotonic()
        if self._open and now - max(self.heard, self._asked) > RENEWED:
            self._renew()
        if not self._open and now - self._began > 1 and now - self._asked > ASKED:
            self._ping.value += 1
            self._asked = now

    @property
    def _open(self) -> bool:
        return self._ping.value != self._pong.value

    @property
    def late(self) -> bool:
        """Whether the page is busy with what it has."""
        return self._open and time.monotonic() - self._asked > LATE


def answer_where_asked(widget: w.Widget) -> None:
    """Let messages of this widget and all within it be handled by the subshell that the page chose.

    ipykernel 7.4 sends them to the main shell instead, which awaits a measuring cell, and then does not say when it is
    done with one: JupyterLab waits for that word before the next, so a slider would move once and never again.
    """
    if hasattr(widget.comm, "_reply_subshell_for"):
        widget.comm._reply_subshell_for = lambda data, chosen: chosen
    for child in getattr(widget, "children", ()):
        answer_where_asked(child)
