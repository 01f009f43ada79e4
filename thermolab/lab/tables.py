"""The scorecard: claims with their verdicts, of one notebook or of a whole results folder."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from thermolab import claims as register
from thermolab import feedback
from thermolab.lab.params import UserError
from thermolab.words import _

if TYPE_CHECKING:
    from thermolab.claims import Result

SYMBOLS = register.SYMBOLS | {"not measured": "–"}
COLUMNS = ("id", "expected", "verdict", "measured", "predicted", "tolerance", "control", "run")


def verdicts(results: Iterable[Result]) -> None:
    """Print id, expected verdict and verdict, one claim a line: text that stays the same on every machine."""
    rows = [(r.claim.id, r.claim.expected, r.verdict) for r in results]
    width = max((len(row[0]) for row in rows), default=0)
    for name, expected, verdict in [("claim", "expected", "verdict"), *rows]:
        print(f"{name:<{width}}  {expected:<8}  {verdict}")


def numbers(results: Iterable[Result]):
    """The numbers behind the verdicts as HTML: a line for each claim, which opens, and a link to the figure that shows it."""
    from IPython.display import HTML

    results = list(results)
    remarks = {feedback.first_look(str(r.settings.get("preset", ""))) for r in results} - {""}
    rows = "".join(f'<div class="tl-claim">{_folded(r)}{_link(r.claim.figure)}</div>' for r in results)
    return HTML(f"{STYLE}{''.join(f'<p><em>{remark}</em></p>' for remark in remarks)}{rows}")


STYLE = """<style>
.tl-claim { display: flex; gap: 1em; align-items: baseline; max-width: 75em; border-bottom: 1px solid rgba(128, 128, 128, .4); }
.tl-claim details { flex: 1; min-width: 0; border: 0; padding: .15em 0; }
.tl-claim details:not([open]) summary { white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.tl-claim dl { display: grid; grid-template-columns: max-content 1fr; gap: .15em 1em; margin: .3em 0 .6em 1.2em; }
.tl-claim dt { font-weight: 600; } .tl-claim dd { margin: 0; }
</style>"""


def _folded(result: Result) -> str:
    """A claim in one line, its verdict, statement and measurement, that opens on what is behind them."""
    row = result.as_dict()
    shown, claim = texts(row), result.claim
    facts = {
        "measured": f"{shown['measured']}: {row['quantity']}",
        "predicted": f"{shown['predicted']}, tolerance {shown['tolerance']}",
        "control": shown["control"],
        "undecided": result.undecided,
        "registered": claim.expected + (f": {claim.reason}" if claim.reason else ""),
        "source": f"{claim.source}: {claim.claimed}",
        "narrowed": claim.narrowed,
        "id": claim.id,
    }
    lines = "".join(
        f"<dt>{_(name)}</dt><dd>{escape(register.with_titles(text).strip(': '))}</dd>" for name, text in facts.items() if text
    )
    word = _word(result)
    verdict = word if result.verdict == "holds" else f"<b>{word}</b>"
    title = f"{verdict} · {escape(_(claim.statement))}"
    return f"<details><summary>{title}</summary><dl>{lines}</dl></details>"


def _word(result: Result) -> str:
    """The verdict; one of a first look says that it is."""
    word = f"{SYMBOLS[result.verdict]} {_(result.verdict)}"
    return f"{word} ({_('first look')})" if feedback.first_look(str(result.settings.get("preset", ""))) else word


def _link(figure: str) -> str:
    from thermolab import plots  # not above: the command line draws nothing

    number = plots.number(figure)
    return f'<a href="#{plots.anchor(figure)}">{_("Figure")} {number}</a>' if number else ""


def published(name: str, results: Iterable[Result]):
    """What a source prints beside our verdicts on it, as HTML; the rows of this notebook in data/published/NAME.csv.

    A row has `notebook`, `what`, `setting`, `published`, and the ids of the `claims` that put it to the test.
    """
    from IPython.display import HTML

    found = {result.claim.id: result for result in results}
    notebooks = {result.claim.notebook for result in found.values()}
    with open(register.data_folder() / "published" / f"{name}.csv", encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["notebook"] in notebooks]
    head = "".join(f'<th scope="col" style="text-align: left">{_(text)}</th>' for text in ("what", "where", "published", "ours"))
    lines = [_beside(row, [found[claim] for claim in row["claims"].split()]) for row in rows]
    return HTML(f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>")


def _beside(row: dict, ours: list[Result]) -> str:
    cells = [escape(_(row[name])) for name in ("what", "setting", "published")]
    cells.append("<br>".join(f"{_word(r)}: {escape(_(r.claim.statement))}" for r in ours))
    left = ' style="text-align: left; vertical-align: top"'
    return f"<tr>{''.join(f'<td{left}>{cell}</td>' for cell in cells)}</tr>"


def scorecard(folder) -> list[dict]:
    """One row for each claim of each finished run below `folder`, and for each claim that no run measured.

    A row is the claim's record in claims.json with `notebook`, `run` (its key), `preset` and `default_settings`.
    Raises UserError where there is no finished run.
    """
    runs = sorted(path.parent for path in Path(folder).glob("*/[!.]*/run.json"))
    if not runs:
        raise UserError(f"{folder} holds no finished run; make some with: thermolab run all --out {folder}")
    rows = measured(runs)
    return rows + missing({run.parent.name for run in runs}, {row["id"] for row in rows})


def measured(runs: Iterable[Path]) -> list[dict]:
    """The rows of some finished runs, given by their folders."""
    return [row for folder in runs for row in _rows(folder)]


def missing(notebooks: set[str], ids: set[str]) -> list[dict]:
    """A blank row for each claim that is registered for one of the notebooks and not among `ids`."""
    claims = [c for c in register.register().values() if c.notebook in notebooks and c.id not in ids]
    blank = dict.fromkeys(("measured", "error", "predicted", "tolerance", "control", "run", "preset"))
    blank |= {"verdict": "not measured", "default_settings": False}
    facts = ("id", "statement", "source", "claimed", "narrowed", "expected", "notebook")
    return [{**{name: getattr(c, name) for name in facts}, **blank} for c in claims]


def contradictions(rows: Iterable[dict]) -> list[dict]:
    """The rows whose verdict is not the registered one, where that binds: at a notebook's default settings.

    An open claim has no verdict to contradict, and at preset smoke inconclusive contradicts nothing.
    """
    return [row for row in rows if row["default_settings"] and _contradicts(row)]


def together(rows: Iterable[dict]) -> str:
    """What the decided verdicts among these rows mean together, in one sentence; "" where there is none."""
    decided = [row for row in rows if row["verdict"] in ("holds", "fails") and "margin" in row]  # records of old have none
    if not decided:
        return ""
    margins = [(math.inf if row["margin"] is None else row["margin"], row["n_seeds"]) for row in decided]
    found = register.together(margins)
    return (
        f"{found.n} verdicts at two standard errors: {found.expected:.1f} of them are expected to be wrong by chance, "
        f"{found.at_worst:.1f} if every truth lay on the edge of its tolerance; {found.standing} stay if the chance of any "
        f"wrong one is to be {found.family:.0%} (Bonferroni)."
    )


def as_text(rows: list[dict], style: str = "table") -> str:
    """The scorecard as a "table" for the terminal, as "json" or as "markdown"."""
    if style == "json":
        return json.dumps(rows, indent=1, ensure_ascii=False)
    lines = [texts(row) for row in rows]
    if style == "markdown":
        cells = [COLUMNS, ["---"] * len(COLUMNS), *([line[c] for c in COLUMNS] for line in lines)]
        return "\n".join("| " + " | ".join(text.replace("|", "\\|") for text in row) + " |" for row in cells)
    return _terminal(lines)


def _rows(folder: Path) -> list[dict]:
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    path = folder / "claims.json"
    claims = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    facts = {"notebook": folder.parent.name, "run": folder.name, "preset": run["parameters"].get("preset")}
    return [{**claim, **facts, "default_settings": run["default_settings"]} for claim in claims]


def _contradicts(row: dict) -> bool:
    if row["expected"] == "open" or row["verdict"] == row["expected"]:
        return False
    return not (row["verdict"] == "inconclusive" and row["preset"] == "smoke")


def texts(row: dict) -> dict[str, str]:
    """The columns of one row of the scorecard as short texts."""
    control = row["control"]
    other = f"{control['name']}: {short(control['measured'])} ({control['verdict']})" if control and control["name"] else "–"
    sign = {"above": "≥ ", "below": "≤ "}.get(row.get("relation"), "")
    return {
        "id": row["id"],
        "expected": row["expected"],
        "verdict": f"{SYMBOLS[row['verdict']]} {row['verdict']}" + (f": {why}" if (why := row.get("undecided")) else ""),
        "measured": measurement(row["measured"], row["error"]),
        "predicted": sign + short(row["predicted"]),
        "tolerance": short(row["tolerance"]),
        "control": other,
        "run": row.get("run") or "–",
    }


def short(x: float | None) -> str:
    """A number in three significant digits."""
    return "–" if x is None else f"{x:.3g}"


def measurement(x: float | None, error: float | None) -> str:
    """Measured ± standard error, both in the error's decimals.

    >>> measurement(0.50312, 0.0021)
    '0.5031 ± 0.0021'
    """
    if x is None or not error:
        return short(x)
    from math import floor, log10

    decimals = 1 - floor(log10(error))
    if not -1 <= decimals <= 6:
        return f"{x:.3g} ± {error:.2g}"
    return f"{round(x, decimals):.{max(decimals, 0)}f} ± {round(error, decimals):.{max(decimals, 0)}f}"


def _terminal(lines: list[dict[str, str]]) -> str:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in COLUMNS:
        table.add_column(name, overflow="fold")
    for line in lines:
        table.add_row(*(line[name] for name in COLUMNS))
    console = Console(width=None if Console().is_terminal else 200, highlight=False, markup=False)
    with console.capture() as capture:
        console.print(table)
    return capture.get().rstrip()
