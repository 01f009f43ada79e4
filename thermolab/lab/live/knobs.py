"""The control of a knob: a slider, and a field in which a number is written and kept as it was written.

The slider counts places on a grid that goes through the value it starts with, so that neither it nor the page moves the
knob by rounding. A written number need not lie on the grid: the slider then stands at the nearest place.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import ipywidgets as w

from thermolab.engine.scenario import Knob
from thermolab.feedback import FORM, as_number

STEP = 0.02  # between two places of a logarithmic grid, in decades
PLACES = 100  # of a linear one
CLASSES = {"batch_size": "tl-batch"}  # of knobs whose class is not their name


class Control:
    """The widget of a knob. turn(name, value) and refuse(name, line) are called in whatever thread the page's message comes;
    `follow` and `show` belong to the panel's task."""

    def __init__(self, name: str, knob: Knob, value, turn: Callable, refuse: Callable):
        self.name, self.knob, self._turn, self._refuse = name, knob, turn, refuse
        self._told, self._written = value, None  # the value that was told last, and the words it was written in
        self.grid = _grid(knob, value)
        self.widget = self._choice() if knob.scale == "choice" else self._slider_and_field()
        self.widget.add_class(CLASSES.get(name, f"tl-{name}"))
        self.show(value)

    def _choice(self) -> w.Widget:
        choice = w.Dropdown(options=self.grid, value=self._told, description=self.knob.label, layout={"width": "max-content"})
        choice.style.description_width = "initial"
        choice.observe(lambda change: self._tell(change.new), "value")
        return choice

    def _slider_and_field(self) -> w.Widget:
        self.field = w.Text(
            description=self.knob.label, continuous_update=False, layout={"width": "208px"}, style={"description_width": "128px"}
        )
        self.slider = w.IntSlider(min=0, max=len(self.grid) - 1, readout=False, layout={"width": "150px"})
        self.field.observe(lambda change: self._on_field(change.new), "value")
        self.slider.observe(lambda change: self._on_slider(change.new), "value")
        box = w.Box([self.field, self.slider], layout={"align_items": "center", "overflow": "visible"})
        box.add_class("tl-knob")
        return box

    # --- from the page, in any thread ---------------------------------------------------------------------------------------
    def _on_slider(self, place: int) -> None:
        if place != self._place:  # it also reports where it was put
            self._place, self._written = place, None
            self._tell(self.grid[place])

    def _on_field(self, text: str) -> None:
        if text in (self._written, self._shown):
            return
        # "1,000" is a thousand to some and one to others
        value = None if re.fullmatch(r"\s*[1-9]\d{0,2}(,\d{3})+\s*", text) else as_number(text.replace(",", "."))
        if value is not None and self.knob.scale in ("powers of two", "whole"):
            value = int(value) if value == int(value) else value
        try:
            value = None if value is None else self.knob.check(self.name, value)
        except ValueError as error:
            self._refuse(self, str(error))
        else:
            if value is None:
                self._refuse(self, f"{self.name}={text!r} is no number: {FORM}")
            else:
                self._written = text
                self._tell(value)

    def _tell(self, value) -> None:
        if value != self._told:
            self._told = value
            self._turn(self.name, value)

    # --- from the task ------------------------------------------------------------------------------------------------------
    def follow(self, value) -> None:
        """The knob is in use at this value: slider and field agree, unless there is a newer one on its way."""
        if value == self._told:
            self._put(value, self._written)

    def show(self, value) -> None:
        """The knob was turned by something else, or a written number was refused: an order is not given."""
        self._told, self._written = value, None
        self._put(value, None)

    def _put(self, value, written: str | None) -> None:
        if self.knob.scale == "choice":
            self.widget.value = value
            return
        self._place = min(range(len(self.grid)), key=lambda i: abs(_place(self.knob, self.grid[i]) - _place(self.knob, value)))
        self._shown = written or (f"{value:.3g}" if value in self.grid[1:-1] else f"{value:.6g}")
        # the page names the slider by its field and what it stands at by this tooltip, see page.js
        self.slider.tooltip = f"{value:.6g}"
        self.slider.value, self.field.value = self._place, self._shown


def _place(knob: Knob, value: float) -> float:
    """Where a value stands, so that distances are those that the eye sees."""
    if knob.scale not in ("log", "powers of two"):
        return value
    return math.log10(value) if value > 0 else math.log10(knob.low) - STEP


def _grid(knob: Knob, value) -> list:
    """The places of a slider, in order; the value is one of them."""
    if knob.scale == "choice":
        return list(knob.options)
    if knob.scale == "powers of two":
        return sorted({*(2**i for i in range(20) if knob.low <= 2**i <= knob.high), value})
    if knob.scale == "whole":
        return list(range(int(knob.low), int(knob.high) + 1))
    if knob.scale == "linear":
        span = knob.high - knob.low
        places = (knob.low + span * i / PLACES for i in range(PLACES + 1))
        return sorted([value, *(x for x in places if abs(x - value) > 1e-9 * span)])
    through = value or knob.low
    at = math.log10(through)
    first, last = math.ceil((math.log10(knob.low) - at) / STEP - 1e-9), math.floor((math.log10(knob.high) - at) / STEP + 1e-9)
    places = [through if k == 0 else min(max(through * 10 ** (k * STEP), knob.low), knob.high) for k in range(first, last + 1)]
    return [0.0, *places] if knob.zero else places
