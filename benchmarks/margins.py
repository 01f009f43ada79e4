"""How firmly the register's verdicts stand: the same lab runs at several seeds, as the table docs/margins.md.

for seed in 0 1 2 101 202; do python -m thermolab run all --seed $seed --out margins; done
python -m benchmarks.margins margins > docs/margins.md
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

from thermolab import claims

MARKS = {"inconclusive": "?"}


def rows(folders) -> dict[str, dict[int, dict]]:
    """{id: {seed: record}} of all claims.json at preset lab under the folders, of `thermolab run` and `thermolab check`."""
    found: dict[str, dict[int, dict]] = {}
    for folder in folders:
        for path in sorted(Path(folder).rglob("claims.json")):
            for record in json.loads(path.read_text(encoding="utf-8")):
                if record["settings"]["preset"] == "lab":
                    found.setdefault(record["id"], {})[record["settings"]["seed"]] = record
    return found


def revisions(folders) -> list[str]:
    """The commits that the results under the folders were measured with."""
    runs = [json.loads(path.read_text(encoding="utf-8")) for folder in folders for path in Path(folder).rglob("run.json")]
    return sorted({str(run.get("git_revision"))[:7] for run in runs})


def mark(record: dict) -> str:
    """✓ as registered, ? inconclusive, ✗ the opposite."""
    return "✓" if record["verdict"] == record["expected"] else MARKS.get(record["verdict"], "✗")


def least(records) -> str:
    """The smallest margin of some checks, in standard errors; one that is nowhere known says so."""
    margins = [math.inf if r["error"] == 0 else r["margin"] for r in records]
    known = [m for m in margins if m is not None and not math.isnan(m)]
    return "–" if not known else "exact" if math.isinf(min(known)) else f"{min(known):.1f}"


def table(found: dict[str, dict[int, dict]], commits: list[str]) -> str:
    """Markdown: a line for each claim of the register, the thinnest first; above it how many verdicts came out how."""
    seeds = sorted({seed for records in found.values() for seed in records})
    marks = [mark(record) for records in found.values() for record in records.values()]
    missing = sorted(claim.id for claim in claims.register().values() if claim.id not in found)
    lines = [
        "# Margins",
        "",
        f"Seeds {', '.join(map(str, seeds))}, preset lab: {len(marks)} verdicts, {marks.count('✓')} as registered, "
        f"{marks.count('?')} inconclusive, {marks.count('✗')} opposite. A margin is the distance from the tolerance in standard "
        f"errors, the least over the seeds; two decide. Measured at {', '.join(commits)} by `benchmarks/margins.py`. "
        f"Not run: {', '.join(missing) or 'none'}.",
        "",
        "| claim | registered | " + " | ".join(map(str, seeds)) + " | margin | of the control |",
        "|---|---|" + "---|" * (len(seeds) + 2),
    ]
    body = []
    for name, records in found.items():
        own, control = least(records.values()), least([r["control"] for r in records.values()])
        cells = [mark(records[seed]) if seed in records else "" for seed in seeds]
        known = [float(text) for text in (own, control) if text not in ("–", "exact")]
        expected = next(iter(records.values()))["expected"]
        body.append((min(known, default=math.inf), f"| {name} | {expected} | {' | '.join(cells)} | {own} | {control} |"))
    return "\n".join([*lines, *(line for _, line in sorted(body))])


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("folders", nargs="+", help="results of lab runs at several seeds")
    folders = arguments.parse_args().folders
    print(table(rows(folders), revisions(folders)))
