"""The checker of notebooks: `python -m thermolab.lab.anatomy [--fix] notebooks/*.ipynb`.

A notebook has its parts in order, short cells, and stores no picture: only the text of cells tagged
`nbval-check-output` is kept, because nbval compares it. `--fix` removes what a session in Jupyter leaves behind.
"""

from __future__ import annotations

import ast
import copy
import itertools
import re
import statistics
import sys
from pathlib import Path

import nbformat

ORDER = ("imports", "parameters", "check-parameters")
NEEDED = (*ORDER, "nbval-check-output", "solution")
MAX_CELLS, MAX_MEDIAN, MAX_LINES, MAX_WIDTH, MAX_RUN = 40, 6, 20, 100, 3
DRAWS, MAX_DRAWN = {"plots", "figures", "plt"}, 0.2  # names by which a statement draws; their share of the lines of code
SOLUTION, CLOSED = "# solution\nif mine.solutions:\n", {"source_hidden": True, "outputs_hidden": True}
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
KEPT = {"tags", "alt", "jupyter"}  # of a cell's metadata
COMMON = {"preset", "seed", "n_seeds", "device", "live"}


def check(notebook) -> list[str]:
    """What is wrong with a notebook, a line for each fault; empty if nothing is."""
    parts = (_tags, _solutions, _parameters, _lengths, _drawing, _headings, _prose, _storage)
    return [fault for part in parts for fault in part(notebook)]


def fix(notebook) -> None:
    """Remove outputs, counts, widget state and kernel noise, in place; give every cell a stable id."""
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": {"name": "python"}})
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    ids: set[str] = set()
    for i, cell in enumerate(notebook.cells):
        fresh = (f"cell-{n:02d}" for n in itertools.count(i))
        cell["id"] = next(name for name in itertools.chain([cell.get("id")], fresh) if name and name not in ids)
        ids.add(cell["id"])
        cell.metadata = nbformat.from_dict({k: v for k, v in cell.metadata.items() if k in KEPT and v})
        cell.source = cell.source.rstrip()
        if cell.cell_type == "code":
            cell.outputs = [_bare(o) for o in cell.outputs if "nbval-check-output" in tags(cell) and _is_text(o)]
            cell.execution_count = 1 if cell.outputs else None  # nbval refuses outputs of a cell that was not run


def tags(cell) -> list[str]:
    """The tags of a cell."""
    return list(cell.metadata.get("tags", ()))


def _tags(notebook):
    places = {tag: [i for i, cell in enumerate(notebook.cells) if tag in tags(cell)] for tag in NEEDED}
    yield from (f"no cell is tagged {tag}" for tag in NEEDED if not places[tag])
    yield from (f"{len(places[tag])} cells are tagged {tag}" for tag in ORDER if len(places[tag]) > 1)
    if not all(places[tag] for tag in ORDER):
        return
    first = [places[tag][0] for tag in ORDER]
    if first != sorted(first):
        yield f"the cells tagged {', '.join(ORDER)} are not in this order"
    if first[2] != first[1] + 1:
        yield "the cell tagged check-parameters does not follow the one tagged parameters"
    if any(cell.cell_type == "code" for cell in notebook.cells[: first[0]]):
        yield "code comes before the cell tagged imports"


def _solutions(notebook):
    """A solution stays folded, with what it prints, and does not run unless it is asked for."""
    for cell in notebook.cells:
        if "solution" not in tags(cell):
            continue
        if not cell.source.startswith(SOLUTION):
            yield f"a solution does not begin with {SOLUTION!r}"
        elif len(ast.parse(cell.source).body) > 1:
            yield "a solution has code outside its if"
        if cell.metadata.get("jupyter", {}) != CLOSED:
            yield f"a solution is open: its metadata has no jupyter: {CLOSED}"


def _parameters(notebook):
    """Every parameter is annotated, has a comment and a rule; the cell of the rules holds their call alone."""
    declared, rules = (next((c.source for c in notebook.cells if tag in tags(c)), "") for tag in ORDER[1:])
    lines = [line for line in declared.splitlines() if line.strip() and not line.startswith("#")]
    bare = [line for line in lines if not re.match(r"\w+: .+ = .+ # \S", line)]
    yield from (f"parameter without type or comment: {line}" for line in bare)
    if len(ast.parse(rules).body) > 1:
        yield "the cell tagged check-parameters holds more than the call of params.check"
    names = {m[1] for line in lines if (m := re.match(r"(\w+)\s*[:=]", line))}
    if missing := COMMON - names:
        yield f"parameters that every notebook has are missing: {', '.join(sorted(missing))}"
    calls = [node for node in ast.walk(ast.parse(rules)) if isinstance(node, ast.Call)]
    ruled = {k.arg for call in calls if ast.unparse(call.func) == "params.check" for k in call.keywords}
    if names ^ ruled:
        yield f"parameters and rules differ: {', '.join(sorted(str(n) for n in names ^ ruled))}"


def _lengths(notebook):
    lengths = [len(c.source.splitlines()) for c in notebook.cells if c.cell_type == "code"]
    if len(notebook.cells) > MAX_CELLS:
        yield f"{len(notebook.cells)} cells, more than {MAX_CELLS}"
    if lengths and max(lengths) > MAX_LINES:
        yield f"a code cell of {max(lengths)} lines, more than {MAX_LINES}"
    if lengths and statistics.median(lengths) > MAX_MEDIAN:
        yield f"code cells of {statistics.median(lengths)} lines in the median, more than {MAX_MEDIAN}"
    lines = [line for cell in notebook.cells if cell.cell_type == "code" for line in cell.source.splitlines()]
    yield from (f"a line of code of more than {MAX_WIDTH} characters: {line[:60]}" for line in lines if len(line) > MAX_WIDTH)


def _drawing(notebook):
    """Figures have their home in the package: what draws here are calls of it."""
    lines = drawn = 0
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        names = set(DRAWS)
        for statement in ast.parse(cell.source).body:
            if isinstance(statement, ast.Import | ast.ImportFrom):
                continue
            length = statement.end_lineno - statement.lineno + 1
            used = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
            lines += length
            if used & names and ast.unparse(statement) != "plots.style()":
                drawn += length
                names |= {n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    if drawn > MAX_DRAWN * lines:
        yield f"{drawn} of {lines} lines of code draw, more than a fifth: a figure stands in its phenomenon's figures.py"


def _headings(notebook):
    text = "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    levels = [len(m[1]) for m in re.finditer(r"^(#{1,6}) ", text, flags=re.MULTILINE)]
    if levels.count(1) != 1 or levels[0] != 1:
        yield f"{levels.count(1)} headings of level 1, which must be the first heading and the only one"
    if any(b > a + 1 for a, b in itertools.pairwise(levels)):
        yield f"a heading skips a level: {levels}"


def _prose(notebook):
    """Prose stands between the code: never more than a few code cells in a row, the set-up apart."""
    run = 0
    for cell in notebook.cells:
        run = run + 1 if cell.cell_type == "code" and not {*ORDER} & {*tags(cell)} else 0
        if run == MAX_RUN + 1:
            yield f"more than {MAX_RUN} code cells without prose before: {cell.source.splitlines()[0][:60]}"


def _storage(notebook):
    ids = [cell.get("id") for cell in notebook.cells]
    if None in ids or len(set(ids)) < len(ids):
        yield "cell ids are missing or double"
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        yield "the kernel is not python3"
    stripped = copy.deepcopy(notebook)
    fix(stripped)
    if stripped != notebook:
        yield "outputs, counts or other traces of a session are stored: python -m thermolab.lab.anatomy --fix"


def _is_text(output) -> bool:
    if output.output_type == "stream":
        return output.name == "stdout"
    return set(output.get("data", {})) == {"text/plain"}


def _bare(output):
    if output.output_type == "execute_result":
        output.execution_count = 1
    return output


def main(arguments: list[str]) -> int:
    """Check (and with --fix mend) the notebooks; 1 if one has faults."""
    paths = [Path(a) for a in arguments if a != "--fix"]
    faults = 0
    for path in paths:
        notebook = nbformat.read(path, as_version=4)
        if "--fix" in arguments:
            fix(notebook)
            nbformat.write(notebook, path)
        for fault in check(notebook):
            print(f"{path}: {fault}")
            faults += 1
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
