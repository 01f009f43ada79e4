"""What a person keeps in a file of their own and names on the command line, as "FILE.py:NAME"."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path


def named(place: str) -> object:
    """The object NAME of "FILE.py:NAME"; the file is run, and may import its neighbours.

    Raises ValueError, one line, where there is no such file, it stops with an error, or it has no such name.
    """
    file, _, name = place.rpartition(":")
    path = Path(file)
    if not file.endswith(".py") or not name:
        raise ValueError(f"{place!r} names no object of a file; allowed: FILE.py:NAME")
    if not path.is_file():
        raise ValueError(f"{place!r}: there is no file {file}")
    spec = importlib.util.spec_from_file_location(f"thermolab_own_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.absolute().parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(f"{place!r}: {path.name} stops with {one_line(error)}") from error
    finally:
        sys.path.pop(0)
    if not hasattr(module, name):
        known = [k for k, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__]
        raise ValueError(f"{place!r}: {path.name} has no {name}; it defines: {', '.join(known) or 'nothing'}")
    return getattr(module, name)


def one_line(error: BaseException) -> str:
    """The type of an error and the first line of what it says."""
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}".removesuffix(": ")
