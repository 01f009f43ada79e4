"""Numba with a cache on disk that sees every edit of what a loop is made from.

Numba's own cache looks at the file that holds a loop, but not at those of the functions and constants that it takes from other
files. This one is valid for the sources of the loop's module and of all that it imports from the package, and they in turn,
by "from thermolab.… import …". Without a folder to write to it holds nothing, and each process compiles.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import re
from pathlib import Path

import numba
from numba.core.caching import FunctionCache

ROOT = Path(__file__).resolve().parents[2]
IMPORT = re.compile(r"^\s*from (thermolab[\w.]*) import (\([^)]*|.*)", re.M)


def cached_njit(**options):
    """numba.njit(cache=True, **options), with the cache of this module."""

    def decorate(function):
        compiled = numba.njit(**options)(function)
        with contextlib.suppress(RuntimeError):  # there is no folder to write to
            compiled._cache = _Cache(function)
        return compiled

    return decorate


class _Cache(FunctionCache):
    def __init__(self, function):
        super().__init__(function)
        self._cache_file._source_stamp = stamp(inspect.getfile(function))

    def save_overload(self, signature, compiled):
        with contextlib.suppress(OSError):  # a folder that has become read-only, or a full disk
            super().save_overload(signature, compiled)


@functools.cache
def stamp(file: str) -> str:
    """SHA-256 of the `sources` of a file, as they are when it is first asked for: at import."""
    found = sources(Path(file).resolve())
    return hashlib.sha256(b"\0".join(f"{path.name}\0{found[path]}".encode() for path in sorted(found))).hexdigest()


def sources(file: Path) -> dict[Path, str]:
    """{path: text} of a file of the package and of all that it imports from the package, directly or not."""
    found, todo = {}, [file]
    while todo:
        path = todo.pop()
        if path not in found and path.is_file():
            found[path], imported = _read(path)
            todo += imported
    return found


@functools.cache
def _read(path: Path) -> tuple[str, list[Path]]:
    """The text of a file, and which files it might import from the package."""
    text, imported = path.read_text(encoding="utf-8"), []
    for module, names in IMPORT.findall(text):
        place = ROOT.joinpath(*module.split("."))
        imported += [place.with_suffix(".py"), *(place / f"{name}.py" for name in re.findall(r"\w+", names))]
    return text, imported
