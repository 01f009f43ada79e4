"""Small notebooks for the tests of the runner, the tables and the book."""

import nbformat
import pytest
from nbformat import v4

PARAMETERS = """\
preset: str = params.default_preset()  # how much to measure
seed: int = 0  # of all random numbers
device: str = "cpu"  # where to compute
eta: float = 0.05  # learning rate
dim: int = 3  # dimension
protocol: str = "elr"  # what is kept
profile: list = [1.0, 2.0]  # noise
eta_range: list = [0.01, 0.1, 5]  # grid
"""
RULES = """\
p = params.check(
    globals(), preset=params.preset(), seed=params.integer(0), device=params.device(), eta=params.number(1e-5, 1.0),
    dim=params.integer(3, 512), protocol=params.choice("elr", "lr"), profile=params.numbers(0, 9),
    eta_range=params.grid(1e-5, 1.0))
"""


def code(source, *tags):
    """A code cell with tags."""
    return v4.new_code_cell(source, metadata={"tags": list(tags)})


def notebook(*cells, title="# A test"):
    """A notebook whose parameters are checked, followed by `cells` (sources of code)."""
    head = [
        v4.new_markdown_cell(title),
        code("from thermolab.lab import params", "imports"),
        code(PARAMETERS, "parameters"),
        code(RULES, "check-parameters"),
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return v4.new_notebook(cells=head + [code(cell) for cell in cells], metadata={"kernelspec": kernel})


@pytest.fixture
def write(tmp_path):
    """write(name, *cells) -> path of a new notebook in tmp_path."""

    def write(name, *cells, **more):
        path = tmp_path / f"{name}.ipynb"
        nbformat.write(notebook(*cells, **more), path)
        return path

    return write


@pytest.fixture(autouse=True)
def _no_variables_from_outside(monkeypatch):
    for name in ("PRESET", "DEVICE", "OUT", "RESULTS", "WORKERS"):
        monkeypatch.delenv(f"THERMOLAB_{name}", raising=False)
