"""The book: every notebook executed, a page for each, and a first page with the scorecard of all claims."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from markupsafe import Markup

from thermolab import claims
from thermolab.lab import pages, reference, results, runner, tables
from thermolab.lab.runner import Outcome


def build(
    out: str = "build/book",
    results: str = "build/results",
    jobs: int = 2,
    preset: str = "lab",
    notebooks: Sequence[str] = ("all",),
) -> bool:
    """Run the notebooks (finished runs are used again) and write OUT/index.html and a page for each.

    Returns whether every notebook finished; the page of one that failed is missing and the index says why.
    """
    outcomes = runner.run(notebooks, preset=preset, out=results, jobs=jobs)
    outcomes.sort(key=lambda outcome: outcome.run.notebook.stem)
    write(outcomes, Path(out))
    print(f"the book is at {Path(out, 'index.html')}")
    return all(outcome.state != "failed" for outcome in outcomes)


def write(outcomes: Sequence[Outcome], out: Path) -> None:
    """Write the pages of these runs to the folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    done = [outcome.run for outcome in outcomes if outcome.state != "failed"]
    links = [{"file": f"{run.notebook.stem}.html", "label": run.notebook.stem[:2]} for run in done]
    links.insert(0, {"file": "reference.html", "label": "your own network"})
    primer = next((path for run in done if (path := run.notebook.with_name("PRIMER.md")).exists()), None)
    if primer:
        links.insert(0, {"file": "primer.html", "label": "primer"})
        content = {"title": pages.title(primer), "body": Markup(pages.body(primer)), "footer": ""}
        _write(out / "primer.html", pages.page("page.html.j2", file="primer.html", pages=links, **content))
    for run, link in zip(done, links[len(links) - len(done) :], strict=True):
        executed = run.folder / "notebook.ipynb"
        body = pages.body(executed).replace('href="PRIMER.md', 'href="primer.html')
        content = {"title": pages.title(executed), "body": Markup(body), "footer": _footer(run.folder)}
        _write(out / link["file"], pages.page("page.html.j2", file=link["file"], pages=links, **content))
    _reference(out, links)
    sections = _sections(outcomes)
    rows = [row for section in sections for row in section["rows"]]
    shown = [section | {"rows": [_row(row) for row in section["rows"]]} for section in sections]
    content = {"title": "Scorecard", "sections": shown, "counts": _counts(rows), "symbols": tables.SYMBOLS}
    content["together"] = tables.together(rows)
    content["footer"] = "Built by make book; each page tells the settings of its run."
    _write(out / "index.html", pages.page("index.html.j2", file="index.html", pages=links, **content))


def _reference(out: Path, links: list[dict]) -> None:
    """The page of the public names."""
    with TemporaryDirectory() as folder:
        source = Path(folder, "reference.md")
        source.write_text(reference.markdown(), encoding="utf-8")
        content = {"title": pages.title(source), "body": Markup(pages.body(source)), "footer": ""}
    _write(out / "reference.html", pages.page("page.html.j2", file="reference.html", pages=links, **content))


def _sections(outcomes: Sequence[Outcome]) -> list[dict]:
    """The register, notebook by notebook, with what was measured."""
    by_notebook = {outcome.run.notebook.stem: outcome for outcome in outcomes}
    names = list(dict.fromkeys([*(c.notebook for c in claims.register().values()), *by_notebook]))
    return [_section(name, by_notebook.get(name)) for name in names]


def _section(name: str, outcome: Outcome | None) -> dict:
    section = {"name": name, "title": name.replace("_", " "), "file": "", "note": ""}
    measured = []
    if outcome is None:
        section["note"] = "This notebook is in preparation."
    elif outcome.state == "failed":
        section["note"] = f"The run failed: {outcome.message}"
    else:
        measured = tables.measured([outcome.run.folder])
        section |= {"title": pages.title(outcome.run.notebook), "file": f"{name}.html"}
    return section | {"rows": measured + tables.missing({name}, {row["id"] for row in measured})}


def _counts(rows: Sequence[dict]) -> dict[str, int]:
    counts = Counter(row["verdict"] for row in rows)
    return {name: counts[name] for name in tables.SYMBOLS if counts[name]}


def _row(row: dict) -> dict:
    agreement = "as registered" if row["verdict"] == row["expected"] else f"registered: {row['expected']}"
    told = {name: claims.with_titles(row[name]) for name in ("source", "claimed", "narrowed") if row.get(name)}
    return row | told | tables.texts(row) | {"state": row["verdict"], "agreement": agreement}


def _footer(folder: Path) -> str:
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    parameters = ", ".join(f"{name} = {value}" for name, value in run["parameters"].items())
    machine = f"{run['seconds']:.0f} s on {run['device']}, torch {run['versions']['torch']}"
    return f"Run of {run['started'][:10]} ({machine}, revision {run['git_revision'] or 'unknown'}) with {parameters}."


def _write(path: Path, text: str) -> None:
    results.write(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
