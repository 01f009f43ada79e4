"""The project's files fit together: pins, environment, versions, citation."""

import re
import tomllib
from pathlib import Path

import importlinter.cli
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import thermolab

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
LINES = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
PINS = {canonicalize_name(line.partition("==")[0]): line.partition("==")[2] for line in LINES}


@pytest.mark.parametrize("line", [*PROJECT["dependencies"], *(line for extra in EXTRAS.values() for line in extra)])
def test_every_dependency_has_a_pin_that_it_allows(line):
    requirement = Requirement(line)
    assert requirement.specifier.contains(PINS[canonicalize_name(requirement.name)])


def test_pins_are_exact_and_fit_every_machine():
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in LINES)  # no local versions such as +cpu
    assert not [name for name in PINS if name.startswith("nvidia") or name in ("triton", "torchvision", "torchaudio")]


def test_the_conda_environment_has_nothing_of_its_own():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["dependencies"] == ["python=3.11", "pip", {"pip": ["-c constraints.txt", "-e .[lab]"]}]


def test_versions_agree():
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == thermolab.__version__


def test_the_makefile_helps_with_every_target():
    text = (ROOT / "Makefile").read_text()
    targets = set(re.search(r"^\.PHONY: (.+)$", text, flags=re.MULTILINE)[1].split())
    assert targets == set(re.findall(r"^([a-z]+):.*## ", text, flags=re.MULTILINE))


def test_imports_go_one_way():
    """The contracts stand in pyproject.toml: layers, and no phenomenon that imports another."""
    assert importlinter.cli.lint_imports(str(ROOT / "pyproject.toml"), no_cache=True) == importlinter.cli.EXIT_STATUS_SUCCESS
