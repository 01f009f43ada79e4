"""The cache of compiled loops: it is used, it sees edits in other files, and it may be missing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from numba.core import caching

import thermolab
from thermolab.systems import compiled_mlp, jit, sphere_quadric

HELPER = """
import numba
FACTOR = 3

@numba.njit(inline="always")
def scale(x):
    return 2 * x
"""
LOOP = """
from thermolab.systems.helper import FACTOR, scale
from thermolab.systems.jit import cached_njit

@cached_njit()
def loop(x):
    return scale(x) * FACTOR

print(loop(7), sum(loop.stats.cache_hits.values()))
"""


@pytest.fixture
def package(tmp_path):
    """A package of that name with a loop in one file and what it calls in another; runs the loop in a fresh process."""
    folder = tmp_path / "thermolab" / "systems"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").touch()
    for name, text in {"jit": Path(jit.__file__).read_text(), "helper": HELPER, "loop": LOOP}.items():
        (folder / f"{name}.py").write_text(text)

    def run(**edit) -> tuple[int, int]:
        """The value of the loop and how often it came from the cache, after edits {old: new} of the helper."""
        text = (folder / "helper.py").read_text()
        for old, new in edit.values():
            assert old in text
            text = text.replace(old, new)
        (folder / "helper.py").write_text(text)
        command = [sys.executable, "-B", "-m", "thermolab.systems.loop"]
        found = subprocess.run(command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": ""}, capture_output=True, text=True)
        assert found.returncode == 0, found.stderr
        return tuple(map(int, found.stdout.split()))

    return run


def test_a_fresh_process_runs_what_the_files_say_now(package):
    """An edit of an inlined function or of a constant in another file, with no file deleted by hand."""
    assert package() == (42, 0)
    assert package() == (42, 1)
    assert package(function=("2 * x", "5 * x")) == (105, 0)
    assert package(constant=("FACTOR = 3", "FACTOR = 4")) == (140, 0)


@pytest.mark.parametrize(
    ("module", "needs"),
    [
        (compiled_mlp, {"compiled_mlp", "kernels", "codes", "jit"}),
        (sphere_quadric, {"sphere_quadric", "random", "updates", "kernels"}),
    ],
)
def test_a_stamp_is_of_all_that_a_module_imports_from_the_package(module, needs):
    found = jit.sources(Path(module.__file__))
    assert needs <= {path.stem for path in found}
    assert all(Path(thermolab.__file__).parent in path.parents for path in found)


def no_folder(monkeypatch):
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])


def full_disk(monkeypatch):
    def save(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(caching.IndexDataCacheFile, "save", save)


@pytest.mark.parametrize("trouble", [no_folder, full_disk])
def test_without_a_place_to_write_to_it_compiles_and_says_nothing(trouble, monkeypatch, capfd):
    trouble(monkeypatch)

    @jit.cached_njit()
    def double(x):
        return 2 * x

    assert double(21) == 42
    assert capfd.readouterr() == ("", "")
