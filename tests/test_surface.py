"""The public names: light to import, typed, and each with an example that runs."""

import ast
import asyncio
import doctest
import importlib.util
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import thermolab

ROOT = Path(thermolab.__file__).parents[1]
LIGHT = """
import sys, thermolab
assert set(thermolab.__all__) <= set(dir(thermolab))
heavy = {"torch", "numpy", "xarray", "matplotlib", "ipywidgets"} & set(sys.modules)
assert not heavy, heavy
"""
USER = """
import torch
import thermolab as tl

module = torch.nn.Linear(3, 2)
net = tl.Network(module, (torch.randn(8, 3), torch.zeros(8, dtype=torch.long)), loss="cross-entropy")
run = tl.Experiment(net, eta=0.1, lam=1e-3, batch_size=4, replicas=4)
data = tl.measure(run, steps=100, observe=["U", "T"])
reveal_type(data)
optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
watch = tl.Watch(module, optimizer, torch.nn.CrossEntropyLoss(), [])
watch.step()
reveal_type(watch.record())


async def show() -> None:
    await tl.live(run, observe=["U"])
"""
WRONG = {
    "tl.measure(run, steps='many')": "arg-type",
    "tl.Experiment(net)": "call-arg",
    "tl.Network(module)": "call-arg",
    "tl.temperature(run)": "attr-defined",
    "watch.steps()": "operator",
}


def test_the_package_is_light_to_import():
    found = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


def test_names_are_few_and_all_there():
    assert len(thermolab.__all__) <= 12
    assert sorted(thermolab.__all__) == sorted(thermolab._PLACES)
    with pytest.raises(AttributeError, match="thermolab has no temperature; there are Div"):
        thermolab.temperature  # noqa: B018


@pytest.mark.parametrize("name", [n for n in thermolab.__all__ if n not in ("DivergenceError", "Scenario")])
def test_each_has_an_example(name):
    found = getattr(thermolab, name)
    assert found.__module__ == thermolab._PLACES[name]
    assert doctest.DocTestParser().get_examples(inspect.getdoc(found))


def test_the_lines_of_the_readme_run():
    """All but the scorecard, which takes minutes; fewer steps."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"```python\n(import thermolab as tl\n.*?)```", text, re.DOTALL)
    assert len([line for line in lines.splitlines()[1:] if line]) == 6
    lines = lines.replace("steps=20_000", "steps=40").replace("tl.scorecard(run)", "tl.scorecard")
    model = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.ReLU(), torch.nn.Linear(4, 3))
    x, y = torch.randn(64, 5), torch.arange(64) % 3
    names = {"module": model, "x": x, "y": y, "model": model, "optimizer": torch.optim.SGD(model.parameters(), lr=0.1)}
    names |= {"loss_fn": torch.nn.CrossEntropyLoss(), "loader": [(x, y)]}
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    asyncio.run(eval(compile(lines, "README.md", "exec", flags), names))
    assert set(names["data"]["U"].dims) == {"time", "replica"}
    names["watch"].step()
    assert names["watch"].steps == 1


@pytest.mark.slow
def test_types_are_those_that_a_user_sees(tmp_path):
    """mypy over the public modules, and over a script of a user: right as it is, and each slip is found."""
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("mypy is not installed")
    (tmp_path / "right.py").write_text(USER)
    slips = "\n".join(WRONG)
    (tmp_path / "wrong.py").write_text(USER + "\n" + slips + "\n")
    public = sorted({importlib.util.find_spec(place).origin for place in thermolab._PLACES.values()})
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--config-file",
        str(ROOT / "pyproject.toml"),
        "--cache-dir",
        str(tmp_path / "cache"),
    ]
    found = subprocess.run(
        [*command, *public, str(tmp_path / "right.py"), str(tmp_path / "wrong.py")], capture_output=True, text=True, cwd=ROOT
    )
    lines = [line for line in found.stdout.splitlines() if ": error:" in line]
    assert not [line for line in lines if "wrong.py" not in line], found.stdout + found.stderr
    assert 'Revealed type is "xarray.core.dataset.Dataset"' in found.stdout.replace("_typing.", "")
    for code in WRONG.values():
        assert any(f"[{code}]" in line for line in lines), (code, found.stdout)
    assert len(lines) == len(WRONG), found.stdout
