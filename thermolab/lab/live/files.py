"""What a panel shows as files to take away, the picture and the numbers behind it; and those numbers as a table to be read."""

from __future__ import annotations

import base64
import csv
import io
import re
from collections.abc import Sequence
from html import escape

import matplotlib.pyplot as plt

from thermolab.lab.live import figures, readout
from thermolab.lab.live.board import Board
from thermolab.lab.live.views import Chart
from thermolab.words import _

READ = 10  # readings of a table that is read, of each experiment


def links(charts: Sequence[Chart], board: Board) -> str:
    """Two links, as HTML, by which a page saves the picture (PNG) and the data (CSV): nothing is asked of the kernel for them."""
    figure, picture = figures.draw(charts, board), io.BytesIO()
    figure.savefig(picture, format="png", dpi=144, facecolor="white")
    plt.close(figure)
    name = re.sub(r"[^\w.-]+", "-", f"{board.arms[0].scenario.name}-step-{board.readings[0][-1].step}")
    files = {"picture": ("png", "image/png", picture.getvalue()), "data": ("csv", "text/csv", table(board).encode())}
    return "save the " + " or the ".join(
        f'<a class="tl-{what}" download="{escape(name)}.{end}" href="data:{kind};base64,{base64.b64encode(content).decode()}"'
        f' style="text-decoration: underline">{what} ({name}.{end})</a>'
        for what, (end, kind, content) in files.items()
    )


def table(board: Board) -> str:
    """All readings as CSV: a row for each experiment and reading, with step, knobs, means, standard errors and theory."""
    rows = []
    for arm, readings in zip(board.arms, board.readings, strict=True):
        for reading in readings:
            row = {"experiment": arm.label, "step": reading.step, **reading.knobs}
            for name, observable in arm.scenario.observables.items():
                if observable.mean and name in reading.means:
                    row[name], row[f"{name}_error"] = reading.means[name]
                    row[f"{name}_theory"] = reading.theory.get(name, "")
            rows.append(row)
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_text(board: Board) -> str:
    """The charts as tables, HTML, for those who do not see them: READ readings of each experiment, the last one among them."""
    tables = "".join(map(_table, board.arms, board.readings))
    return f"<details open><summary>{_('The charts as a table')}</summary>{tables}</details>"


def _table(arm, readings: Sequence) -> str:
    names = [name for name in arm.scenario.observables if any(name in reading.means for reading in readings)]
    few = list(readings)[-1 :: -max(1, -(-len(readings) // READ))][::-1]
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in (_("step"), *names))
    rows = "".join(
        f'<tr><th scope="row">{reading.step}</th>{"".join(f"<td>{_cell(reading, name)}</td>" for name in names)}</tr>'
        for reading in few
    )
    caption = escape(f"{arm.label}, {_('measured ± standard error (theory)')}")
    return f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _cell(reading, name: str) -> str:
    if name not in reading.means:
        return "–"
    (mean, error), known = reading.means[name], reading.theory.get(name)
    theory = "" if known is None else f" ({readout.number(known)})"
    return f"{readout.number(mean)} ± {readout.number(error)}{theory}"
