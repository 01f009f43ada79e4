import copy
from pathlib import Path

import nbformat
import pytest
from nbformat import v4

from thermolab import claims
from thermolab.lab import anatomy

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
PARAMETERS = "\n".join(f'{name}: str = "x"  # a comment' for name in sorted(anatomy.COMMON))
PICTURE = v4.new_output("display_data", {"image/png": "x", "text/plain": "x"})
RULES = "p = params.check(globals(), " + ", ".join(f"{name}=rule" for name in anatomy.COMMON) + ")"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook(path):
    assert anatomy.check(nbformat.read(path, as_version=4)) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_stored_verdicts_are_those_of_the_register(path):
    """So a line of the register that is changed by itself is found without a run."""
    (cell,) = (c for c in nbformat.read(path, as_version=4).cells if "nbval-check-output" in anatomy.tags(c))
    rows = [line.split() for line in cell.outputs[0].text.splitlines()[1:]]
    registered = [[name, claim.expected] for name, claim in claims.section(path.stem).items()]
    assert [row[:2] for row in rows] == registered
    of_open = (["holds"], ["fails"], ["inconclusive"], ["not", "applicable"])
    assert all(row[2:] in of_open if row[1] == "open" else row[2:] == row[1:2] for row in rows)


def code(source, *tags, **more):
    return v4.new_code_cell(source, metadata={"tags": list(tags)} if tags else {}, **more)


@pytest.fixture
def notebook():
    """A notebook without a fault."""
    output = v4.new_output("stream", name="stdout", text="claim  expected  verdict\n")
    cells = [
        v4.new_markdown_cell("# Title"),
        code("import thermolab", "imports"),
        code(PARAMETERS, "parameters"),
        code(RULES, "check-parameters"),
        v4.new_markdown_cell("## Measure\n\n```\n# no heading\n```"),
        code("tables.verdicts(results)", "nbval-check-output", outputs=[output]),
        v4.new_markdown_cell("### Exercise"),
        code(anatomy.SOLUTION + "    print(42)", "solution"),
    ]
    cells[-1].metadata["jupyter"] = dict(anatomy.CLOSED)
    notebook = v4.new_notebook(cells=cells)
    anatomy.fix(notebook)
    return notebook


def test_a_good_notebook_has_no_fault_and_keeps_its_verdicts(notebook):
    assert anatomy.check(notebook) == []
    assert notebook.cells[5].outputs[0].text == "claim  expected  verdict\n"


def add(cell):
    return lambda cells: cells.append(cell)


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda cells: cells.pop(2), "no cell is tagged parameters"),
        (lambda cells: cells[5].metadata.clear(), "no cell is tagged nbval-check-output"),
        (lambda cells: cells[7].metadata.clear(), "no cell is tagged solution"),
        (lambda cells: cells[7].update(source="42"), "does not begin with"),
        (lambda cells: cells[7].update(source=cells[7].source + "\nprint(43)"), "outside its if"),
        (lambda cells: cells[7].metadata.pop("jupyter"), "a solution is open"),
        (lambda cells: cells.insert(3, v4.new_markdown_cell("x")), "does not follow"),
        (lambda cells: cells.insert(1, cells.pop(2)), "not in this order"),
        (lambda cells: cells.insert(1, code("1")), "code comes before"),
        (lambda cells: cells[2].update(source=PARAMETERS + "\neta: float = 1.0  # rate"), "rules differ: eta"),
        (lambda cells: cells[2].update(source=PARAMETERS.replace("  # a comment", "", 1)), "without type or comment"),
        (lambda cells: cells[3].update(source=RULES + "\nprint(p)"), "more than the call"),
        (add(code("\n".join("x" * 21))), "a code cell of 21 lines"),
        (add(code("x" * 101)), "a line of code of more than 100 characters"),
        (lambda cells: [cells.append(v4.new_markdown_cell("x")) for _ in range(33)], "41 cells"),
        (add(code("figure, ax = plots.panels(1)\nax.plot(data)\n" * 4)), "8 of 17 lines of code draw"),
        (add(v4.new_markdown_cell("# Second title")), "2 headings of level 1"),
        (add(v4.new_markdown_cell("##### Deep")), "skips a level"),
        (lambda cells: cells.extend(code("1") for _ in range(4)), "without prose"),
        (lambda cells: cells[7].update(id=cells[5]["id"]), "ids are missing or double"),
        (lambda cells: cells[7].update(execution_count=3), "traces of a session"),
        (lambda cells: cells[7].update(outputs=[v4.new_output("stream", text="x")]), "traces of a session"),
        (lambda cells: cells[5].update(outputs=[PICTURE]), "traces of a session"),
    ],
)
def test_each_fault_is_found(notebook, spoil, fault):
    spoil(notebook.cells)
    assert any(fault in found for found in anatomy.check(notebook)), anatomy.check(notebook)


def test_fix_removes_what_a_session_leaves_and_nothing_else(notebook):
    before = copy.deepcopy(notebook)
    notebook.metadata["widgets"] = {"state": {}}
    notebook.metadata["kernelspec"] = {"name": "my-env", "display_name": "mine"}
    for i, cell in enumerate(notebook.cells):
        cell.metadata["collapsed"] = True
        if cell.cell_type == "code":
            cell.execution_count = i + 2
    notebook.cells[7].outputs = [v4.new_output("display_data", {"image/png": "x"})]
    assert anatomy.check(notebook) != []
    anatomy.fix(notebook)
    assert notebook == before
    anatomy.fix(notebook)
    assert notebook == before


def test_command_line(notebook, tmp_path, capsys):
    path = tmp_path / "nb.ipynb"
    notebook.cells[7].execution_count = 3
    nbformat.write(notebook, path)
    assert anatomy.main([str(path)]) == 1
    assert "traces of a session" in capsys.readouterr().out
    assert anatomy.main(["--fix", str(path)]) == 0
    assert anatomy.main([str(path)]) == 0
