"""The live panel: an experiment that runs while its knobs are turned, with what theory says of it beside.

    await panel({"gas": SCENARIO.at(setup)}, [Lines("U", "T")], setup, events=[[1000, {"eta": 0.3}]], alt="…")

Where a front end is, the panel; everywhere else the same experiment driven by the list of events, drawn by the same
views as a still picture.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from html import escape

from IPython import get_ipython

from thermolab import plots
from thermolab.engine.scenario import Scenario, scripted, with_rule
from thermolab.lab import saved
from thermolab.lab.live import figures
from thermolab.lab.live.board import Arm, Board, Goal, Reading, mark, read
from thermolab.lab.live.views import HeatMap, Lines, Scatter, Sphere, Trajectory

__all__ = ["Goal", "HeatMap", "Lines", "Scatter", "Sphere", "Trajectory", "panel", "record", "running", "with_rule"]

READINGS = 30  # of a run that follows a script
_shown: dict[str, tuple[asyncio.Task, object]] = {}  # by cell: the task of its panel, and the panel


def front_end(live: str = "auto") -> bool:
    """Whether somebody sees widgets: "on", "off", or "auto": JupyterLab, Voilà and VS Code say so to their kernels."""
    if live != "auto":
        return live == "on"
    names = getattr(get_ipython(), "user_ns", {})
    return bool({"JPY_SESSION_NAME", "VOILA_SERVER_URL"} & set(os.environ)) or "__vsc_ipynb_file__" in names


async def panel(
    experiments: Mapping[str, tuple[Scenario, Mapping]],
    shown: Sequence,
    setup,
    *,
    alt: str,
    events: Sequence = (),
    steps: int = 4500,
    goals: Sequence[Goal] = (),
    ghosts: Mapping[str, Sequence[Reading]] | None = None,
    speed: float = float("inf"),
) -> None:
    """Show experiments side by side on shared knobs: {label: (scenario, the settings that differ from its defaults)}.

    shown: views, drawn in order. setup: a notebook's checked parameters, of which seed, device and live ("auto", "on" or
    "off") are used. events: [[step, {knob: value}], …], the script of the static twin of `steps` steps; alt: its text for
    those who do not see it. goals: what the student is to reach. ghosts: {label: `await record(…)`}. speed: steps per
    second, at most (1, 10, … 10_000 or inf).
    Raises ValueError, one line, for a setting, a value or an observable that is not there.
    """
    arms = [Arm(label, scenario, scenario.checked(settings)) for label, (scenario, settings) in experiments.items()]
    marks, visible = _marks(arms, events), front_end(setup.live)
    if visible:
        _start(arms, shown, alt, goals=goals, ghosts=ghosts, speed=speed, seed=setup.seed, device=setup.device)
    script = {"steps": steps, "seed": setup.seed, "device": setup.device, "at_turns": True}
    found = await asyncio.gather(*(_script(arm, events, **script) for arm in arms))
    board = Board(arms, [readings for readings, _ in found], dict(ghosts or {}), goals, marks=marks)
    charts = [chart for view in shown for chart in view.charts(board)]
    _display(
        plots.show(figures.draw(charts, board), alt, name=""),
        [f"{a.label}: {e}" for a, (_, e) in zip(arms, found, strict=True) if e],
        visible,
    )


async def record(
    scenario: Scenario, events: Sequence = (), *, steps: int, seed: int = 0, device: str = "cpu", **settings
) -> list[Reading]:
    """The readings of a run driven by a list of events, thirty of them (fewer if it diverged): a ghost for a panel."""
    arm = Arm(scenario.name, scenario, scenario.checked(settings))
    readings, _ = await _script(arm, events, steps=steps, seed=seed, device=device)
    return readings


async def _script(arm: Arm, events: Sequence, **script) -> tuple[list[Reading], str | None]:
    known = arm.scenario.settings  # as in a panel, a knob is turned in the experiments that have it
    events = [[step, {k: v for k, v in change.items() if k in known}] for step, change in events]
    settings = {"every": max(1, script["steps"] // READINGS), **script, **arm.settings}
    functions = (arm.scenario.build, arm.scenario.read, arm.scenario.predict)
    scenario = arm.scenario  # written in a cell, or built from a run of this process: others do not know it
    here = not scenario.portable or any(function.__module__ == "__main__" for function in functions)
    if here:
        frames, error = await asyncio.to_thread(scripted.run, arm.scenario, events, **settings)
    else:
        frames, error = await scripted(arm.scenario, events, **settings)
    return [read(arm, frame) for frame in frames], error


def running() -> list[str]:
    """The cells of this kernel whose panels have a task, and what it is doing."""
    return [f"{cell}: {panel.driver.state}" for cell, (task, panel) in _shown.items() if not task.done()]


def _start(arms: Sequence[Arm], shown: Sequence, alt: str, *, device: str, **settings) -> None:
    """Display a panel and start its task; the one that this cell had before ends. At rest it leaves a picture for the file."""
    import torch
    from IPython.display import HTML, display

    from thermolab.lab.live.widgets import Panel  # not above: a batch job never needs widgets

    torch.set_num_threads(1)  # small tensors gain nothing from more, and the browser wants a core too
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    new = Panel(arms, shown, device=device, devices=devices, **settings)
    cell = _cell()
    if cell in _shown:
        _shown[cell][1].driver.tell("close")
        _shown[cell][0].cancel()
    _shown[cell] = new.driver.begin(), new
    saved.show(new.widget, "<p>Run this cell to go on.</p>")
    left = display(HTML(""), display_id=True)

    def leave() -> None:
        picture = plots.show(figures.draw([chart.chart for chart in new.charts], new.board), alt, name="").data
        left.update(HTML(f'<div class="tl-left">{picture}</div>'))

    new.on_rest = leave
    new.on_run = lambda: _alone(new)


def _alone(new) -> None:
    """The other panels pause when one begins, unless it or they are told to run beside each other."""
    for _, other in _shown.values():
        if other is not new and other.driver.state == "running" and not (new.beside or other.beside):
            other.rest('paused: another panel was started; press Run to go on, or tick "let other panels run" before')


def _cell() -> str:
    """What tells this cell from others: its id in JupyterLab, else its text."""
    shell = get_ipython()
    request = shell.get_parent() if hasattr(shell, "get_parent") else {}
    return request.get("metadata", {}).get("cellId") or request.get("content", {}).get("code", "")


def _marks(arms: Sequence[Arm], events: Sequence) -> list[tuple[int, str]]:
    declared = {name: knob for arm in arms for name, knob in arm.scenario.settings.items()}
    if unknown := {name for _, change in events for name in change} - set(declared):
        raise ValueError(
            f"{', '.join(sorted(unknown))} is no knob of {', '.join(a.label for a in arms)}; allowed: {', '.join(declared)}"
        )
    return [(step, mark(declared[name], value)) for step, change in events for name, value in change.items()]


def _display(picture, errors: Sequence[str], folded: bool) -> None:
    """The static twin, and why it ended early if it did; beneath a live panel it is folded away."""
    from IPython.display import HTML, display

    page = picture.data + "".join(f"<p>the script stopped early; {escape(error)}</p>" for error in errors)
    if folded:
        summary = "The same experiment turned by a script: a still picture of what to expect"
        page = f'<details class="tl-twin"><summary>{summary}</summary>{page}</details>'
    display(HTML(page))
