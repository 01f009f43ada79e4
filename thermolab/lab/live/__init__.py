"""The live panel: an experiment that runs while its knobs are turned, with what theory says of it beside.

    await live.panel({"gas": (SCENARIO, {"eta": 0.1})}, [live.Lines("U", "T")], events=[[1000, {"eta": 0.3}]], alt="…")

Where a front end is, the panel; everywhere else the same experiment driven by the list of events, drawn by the same
views as a still picture.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence

from thermolab.engine.scenario import Scenario, scripted
from thermolab.lab import plots
from thermolab.lab.live import figures, views
from thermolab.lab.live.views import Arm, Board, Goal, HeatMap, Lines, Reading, Scatter, Trajectory

__all__ = ["Goal", "HeatMap", "Lines", "Scatter", "Trajectory", "panel", "record", "running"]

_shown: dict[str, tuple[asyncio.Task, object]] = {}  # by cell: the task of its panel, and the panel


def front_end(live: str = "auto") -> bool:
    """Whether somebody sees widgets: "on", "off", or "auto": JupyterLab and its kin say so to their kernels."""
    if live != "auto":
        return live == "on"
    return bool(os.environ.get("JPY_SESSION_NAME"))


async def panel(
    experiments: Mapping[str, tuple[Scenario, Mapping]],
    shown: Sequence,
    *,
    alt: str,
    events: Sequence = (),
    steps: int = 4500,
    goals: Sequence[Goal] = (),
    ghosts: Mapping[str, Sequence[Reading]] | None = None,
    speed: float = float("inf"),
    seed: int = 0,
    device: str = "cpu",
    live: str = "auto",
) -> None:
    """Show experiments side by side on shared knobs: {label: (scenario, the settings that differ from its defaults)}.

    shown: views, drawn in order. events: [[step, {knob: value}], …], the script of the static twin of `steps` steps;
    alt: its text for those who do not see it. goals: what the student is to reach. ghosts: {label: `await record(…)`}.
    speed: steps per second, at most (1, 10, … 10_000 or inf). live: "auto", "on" or "off".
    Raises ValueError, one line, for a setting, a value or a gauge that is not there.
    """
    arms = [Arm(label, scenario, scenario.checked(settings)) for label, (scenario, settings) in experiments.items()]
    visible = front_end(live)
    if visible:
        _start(arms, shown, goals=goals, ghosts=ghosts, speed=speed, seed=seed, device=device)
    readings = [await record(arm.scenario, events, steps=steps, seed=seed, device=device, **arm.settings) for arm in arms]
    board = Board(arms, readings, dict(ghosts or {}), goals, marks=_marks(arms, events))
    charts = [chart for view in shown for chart in view.charts(board)]
    _display(plots.show(figures.draw(charts, board), alt), folded=visible)


async def record(
    scenario: Scenario, events: Sequence = (), *, steps: int, seed: int = 0, device: str = "cpu", **settings
) -> list[Reading]:
    """The readings of a run driven by a list of events: ninety of them. A ghost for a panel."""
    arm = Arm(scenario.name, scenario, scenario.checked(settings))
    frames = await scripted(scenario, events, every=max(1, steps // 90), steps=steps, seed=seed, device=device, **settings)
    return [views.read(arm, frame) for frame in frames]


def running() -> list[str]:
    """The cells of this kernel whose panels have a task, and what it is doing."""
    return [f"{cell}: {panel.driver.state}" for cell, (task, panel) in _shown.items() if not task.done()]


def _start(arms: Sequence[Arm], shown: Sequence, *, device: str, **settings) -> None:
    """Display a panel and start its task; the one that this cell had before ends."""
    import torch
    from IPython.display import display

    from thermolab.lab.live.widgets import Panel  # not above: a batch job never needs widgets

    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    new = Panel(arms, shown, device=device, devices=devices, **settings)
    cell = _cell()
    if cell in _shown:
        _shown[cell][1].driver.tell("close")
        _shown[cell][0].cancel()
    _shown[cell] = new.driver.begin(), new
    display(new.widget)


def _cell() -> str:
    """What tells this cell from others: its id in JupyterLab, else its text."""
    from IPython import get_ipython

    shell = get_ipython()
    request = shell.get_parent() if hasattr(shell, "get_parent") else {}
    return request.get("metadata", {}).get("cellId") or request.get("content", {}).get("code", "")


def _marks(arms: Sequence[Arm], events: Sequence) -> list[tuple[int, str]]:
    declared = {name: knob for arm in arms for name, knob in arm.scenario.settings.items()}
    return [(step, views.mark(declared[name], value)) for step, change in events for name, value in change.items()]


def _display(picture, folded: bool) -> None:
    """The static twin; beneath a live panel it is folded away."""
    from IPython.display import HTML, display

    if folded:
        summary = "The same experiment turned by a script: a still picture of what to expect"
        picture = HTML(f'<details class="tl-twin"><summary>{summary}</summary>{picture.data}</details>')
    display(picture)
