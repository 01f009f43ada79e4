"""The texts of a panel, as HTML: what is read at the moment, and what the marks in its charts mean."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from html import escape

from thermolab import plots
from thermolab.lab.live.board import Board, Reading

GHOSTS = ("", "6 3", "6 3 2 3", "2 3")  # dashes of recorded runs: solid, dashed, dash-dotted, dotted


def number(value: float) -> str:
    """A number in three digits; one that is not known yet says so."""
    return f"{value:.3g}" if math.isfinite(value) else "not yet"


def readout(board: Board, present: Sequence[Mapping], speed: float) -> str:
    """Step, knobs and observables as text, for people and for programs: name=value. present: the settings of each arm."""
    rows = []
    for arm, settings, readings in zip(board.arms, present, board.readings, strict=True):
        if not readings:
            continue
        now = readings[-1]
        others = {k: v for k, v in settings.items() if k not in now.knobs and arm.scenario.settings[k].shown}
        values = {**now.knobs, **others}.items()
        knobs = " ".join(f"{k}={v if isinstance(v, str) else number(v)}" for k, v in values)
        head = f"<b>{escape(arm.label)}</b> " if len(board.arms) > 1 else ""
        rate = f" ({speed:,.0f} steps/s)" if math.isfinite(speed) else ""
        cells = "".join(
            _observable(name, now)
            for name, observable in arm.scenario.observables.items()
            if observable.mean and name in now.means
        )
        rows.append(f"<div>{head}step={now.step} {escape(knobs)}{rate}</div><div>{cells}</div>")
    return f'<div style="line-height: 1.5; font-variant-numeric: tabular-nums">{"".join(rows)}</div>'


def _observable(name: str, now: Reading) -> str:
    mean, error = now.means[name]
    known = math.isfinite(error) and error > 1e-6 * abs(mean)  # less is rounding: a knob, not a measurement
    spread = f" ± {number(error)}" if known else ""
    expected = now.theory.get(name)
    theory = "" if expected is None else f" (theory {number(expected) if math.isfinite(expected) else 'has no value here'})"
    return f'<span style="display: inline-block; margin-right: 1.5em"><b>{name}={number(mean)}</b>{spread}{theory}</span>'


def legend(board: Board) -> str:
    """What the marks in the charts mean, as a line of text with samples."""
    dots = [(f"measured, {arm.label}" if len(board.arms) > 1 else "measured (band: two standard errors)", i)
            for i, arm in enumerate(board.arms)]  # fmt: skip
    items = [(_dot(i), text) for text, i in dots] + [(_dash("#1a1a1a"), "theory at the present knobs")]
    items += [(_dash(plots.COLOURS[3], "1 3"), "a knob was turned"), (_dash(plots.COLOURS[4], "2 3"), "your prediction")]
    items += [(_dash(plots.COLOURS[2], "6 3"), "goal")] if board.goals else []
    items += [(_dash("#999999", GHOSTS[i % len(GHOSTS)]), f"ghost: {label}") for i, label in enumerate(board.ghosts)]
    spans = "".join(
        f'<span style="margin-right: 1.2em; white-space: nowrap">{sample} {escape(text)}</span>' for sample, text in items
    )
    return f'<div class="tl-legend" style="line-height: 1.5">{spans}</div>'


def goals(board: Board, reached: Collection[str], present: Mapping[str, object]) -> str:
    """The goals, a line each: lit where it was reached, with the reason where it cannot be. present: values of the knobs."""
    start, knobs = board.arms[0].settings, board.arms[0].scenario.settings
    rows = []
    for goal in board.goals:
        met, moved = goal.text in reached, goal.moved(present, start)
        why = "".join(f"; not while {knobs[k].symbol} is {_value(present[k])}: it began at {_value(start[k])}" for k in moved)
        why += " (Undo, or Reset)" if moved else ""
        text = f"{'✓ reached:' if met else '○ goal:'} {escape(goal.text)}{'' if met else escape(why)}"
        rows.append(f'<div class="tl-goal{" tl-met" * met}">{text}</div>')
    return "".join(rows)


def without(board: Board) -> str:
    """Which of η, λ and B there is no knob for, and why."""
    lines = {f"No {symbol}: {why}" for arm in board.arms for symbol, why in arm.scenario.without.items()}
    return "".join(f"<div>{escape(line)}</div>" for line in sorted(lines))


def _value(value) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


def _svg(inside: str) -> str:
    ground = '<rect width="26" height="12" rx="2" fill="white"/>'
    return f'<svg width="26" height="12" style="vertical-align: middle" aria-hidden="true">{ground}{inside}</svg>'


def _dot(arm: int) -> str:
    colour = plots.COLOURS[arm % len(plots.COLOURS)]
    shapes = (f'<circle cx="13" cy="6" r="3.5" fill="{colour}"/>', f'<rect x="10" y="3" width="7" height="7" fill="{colour}"/>',
              f'<path d="M13 2 L17 10 L9 10 Z" fill="{colour}"/>')  # fmt: skip
    return _svg(shapes[arm % len(shapes)])


def _dash(colour: str, dashes: str = "") -> str:
    return _svg(f'<path d="M3 6 H23" stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}"/>')
