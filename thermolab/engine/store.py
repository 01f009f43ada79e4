"""What jobs of recipes have measured, kept as each ends: a killed run goes on from there, others that need the same find it.

A result is kept under a hash of all that it follows from: the source of the whole package (and of the job's own file, if that
lies elsewhere and imports none of its neighbours), the job and its settings, the seed among them, the processor and the versions
of `LIBRARIES`. So a changed package never finds an old result, and what one measured that was changed meanwhile is not kept.
Limit: the files of data that a job of one's own may read are not looked at. The store is used by `thermolab run`, `check` and
`book`, which name its folder in THERMOLAB_STORE; where that is empty nothing is looked up and nothing is kept. One file a result,
written whole or not at all; two that measure the same at once both write it, and the later one stays. Nothing is pickled: what
is no Dataset of plain arrays is not kept.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import importlib.util
import inspect
import json
import os
import platform
import sys
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import numpy as np
import platformdirs
import xarray as xr

VARIABLE = "THERMOLAB_STORE"
LIMIT = 2 * 2**30  # bytes kept in all, unless THERMOLAB_STORE_BYTES says otherwise; the longest unused go first
LIBRARIES = ("torch", "numpy", "scipy", "numba", "scikit-learn", "xarray")
FORMAT = 1
counted = {"found": 0, "measured": 0}  # jobs of this process's recipes since it began


def folder() -> Path | None:
    """Where results are kept, None for nowhere."""
    named = os.environ.get(VARIABLE, "")
    return Path(named) if named else None


def use(default: bool = True) -> None:
    """Keep results from now on, here and in child processes, or keep none; where: THERMOLAB_STORE, else the user's cache.

    Raises ValueError, one line, for a limit that is none.
    """
    limit()
    if default:
        os.environ.setdefault(VARIABLE, str(platformdirs.user_cache_path("thermolab") / "results"))
    else:
        os.environ[VARIABLE] = ""


def limit() -> int:
    """How many bytes are kept. Raises ValueError, one line."""
    text = os.environ.get("THERMOLAB_STORE_BYTES", "")
    if text and not text.isdecimal():
        raise ValueError(f"THERMOLAB_STORE_BYTES={text!r}; allowed: a whole number of bytes, 0 to keep nothing")
    return int(text) if text else LIMIT


def kept(function: Callable, settings: Mapping, measure: Callable[[], object]) -> tuple[object, bool]:
    """The result of a job, and whether it was found: else `measure` makes it, and it is kept if it can be."""
    where = folder()
    name = None if where is None else key(function, settings)
    if name is None:
        return measure(), False
    path = where / name[:2] / f"{name}.npz"
    found = _read(path)
    if found is not None:
        return found, True
    result = measure()
    if isinstance(result, xr.Dataset):
        with suppress(OSError):  # a full disk, or one that is not to be written to: the result is there all the same
            if package() == _package_now():
                _write(path, result)
                _shrink(where)
    return result, False


def key(function: Callable, settings: Mapping) -> str | None:
    """A hash of all that a job's result follows from; None where that cannot be told."""
    digest = hashlib.sha256()
    try:
        _feed(digest, [FORMAT, package(), _machine(), function, dict(settings)])
    except (TypeError, OSError):
        return None
    return digest.hexdigest()


@functools.cache
def package() -> str:
    """A hash of the source of the whole package, as it was when this process loaded it."""
    return _package_now()


def _package_now() -> str:
    root = Path(__file__).parents[1]
    states = [(path, path.stat()) for path in sorted(root.rglob("*.py"))]
    return _hash_of(root, tuple((path, state.st_mtime_ns, state.st_size) for path, state in states))


@functools.lru_cache(maxsize=1)
def _hash_of(root: Path, stamps: tuple[tuple[Path, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for path, *_ in stamps:
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _named(value) -> list[str]:
    """Name and source of a function, a class or a recipe. Raises TypeError where they do not tell what it computes."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not module or not name or getattr(value, "__closure__", None):
        raise TypeError(f"{value!r} has no name, or closes over values")
    named = [module, name, _source(inspect.unwrap(getattr(value, "measure", value)))]
    if "<" not in name:
        return named
    if not inspect.isfunction(value) or value.__defaults__ or value.__kwdefaults__:
        raise TypeError(f"{value!r} may hold values")
    return [*named, repr(list(value.__code__.co_positions()))]  # others have its name: where in that source it stands


def _source(function: Callable) -> str:
    """Of a function outside the package a hash of its file. Raises TypeError where there is none, as in a cell of a notebook."""
    if function.__module__.partition(".")[0] == __name__.partition(".")[0]:
        return ""
    path = Path(inspect.getsourcefile(function) or "")
    if not path.is_file():
        raise TypeError(f"{function!r} has no file")
    return _file(path)


@functools.cache  # as it was loaded, nearly: what changes later is not what runs here
def _file(path: Path) -> str:
    content = path.read_bytes()
    if _is_installed(path):
        return hashlib.sha256(content).hexdigest()
    try:
        nodes = list(ast.walk(ast.parse(content)))
    except (SyntaxError, ValueError):  # compiled
        raise TypeError(f"{path} cannot be read") from None
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += ["." * node.level + (node.module or "") for node in nodes if isinstance(node, ast.ImportFrom)]
    for root in {name.partition(".")[0] for name in names}:
        if not _installed(root):
            raise TypeError(f"{path} imports {root or 'its neighbours'}, which may change")
    return hashlib.sha256(content).hexdigest()


def _installed(root: str) -> bool:
    """Whether a module is Python's own, this package, or one that was installed; not one that somebody is writing."""
    if root in sys.stdlib_module_names or root == __name__.partition(".")[0]:
        return True
    try:
        found = importlib.util.find_spec(root) if root else None
    except (ImportError, ValueError):
        return False
    return _is_installed(Path(getattr(found, "origin", None) or ""))


def _is_installed(path: Path) -> bool:
    return bool({"site-packages", "dist-packages"} & set(path.parts))


@functools.cache
def _machine() -> list[str]:
    """What the last digits of a result depend on beside its settings; a job has one thread always."""
    import torch

    card = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    here = [platform.system(), platform.machine(), torch.backends.cpu.get_cpu_capability(), card]
    return [*here, *(f"{name} {metadata.version(name)}" for name in LIBRARIES)]


def _feed(digest, value) -> None:
    """Add a setting or a result to a hash, type and all. Raises TypeError for what has no plain content."""
    if isinstance(value, xr.Dataset):
        digest.update(b"dataset")
        _feed(digest, value.attrs)
        for name in sorted(value.variables):
            one = value.variables[name]
            _feed(digest, [name, name in value.coords, one.dims, one.attrs, one.values])
    elif isinstance(value, xr.DataArray):
        _feed(digest, ["array", value.name, value.to_dataset(name="values")])
    elif isinstance(value, np.ndarray | np.generic):
        if value.dtype.hasobject:
            raise TypeError("an array of objects")
        digest.update(f"{value.dtype.str}{value.shape}".encode() + np.ascontiguousarray(value).tobytes())
    elif isinstance(value, str) and ".py" in value:
        raise TypeError(f"{value} names a file, which may change, as may what it imports")
    elif isinstance(value, bool | int | float | complex | str | bytes | None):
        text = repr(value).encode()
        digest.update(f"{type(value).__name__}{len(text)}".encode() + text)
    elif isinstance(value, Mapping):
        _feed(digest, ["mapping", *([k, value[k]] for k in sorted(value))])
    elif isinstance(value, list | tuple):
        digest.update(f"{type(value).__name__}{len(value)}".encode())
        for one in value:
            _feed(digest, one)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        _feed(digest, [_named(type(value)), {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}])
    elif callable(value) and hasattr(value, "__qualname__"):
        owner = getattr(value, "__self__", None)  # a recipe, which goes by the name of what it measures
        _feed(digest, [_named(one) for one in ([value] if owner is None else [value, owner])])
    else:
        raise TypeError(f"{type(value).__name__} has no plain content")


def _write(path: Path, result: xr.Dataset) -> None:
    """Keep a result, if it comes back the same to the last bit. Raises OSError."""
    names = list(result.variables)
    head = {
        "attrs": result.attrs,
        "variables": [[n, n in result.coords, list(result[n].dims), result.variables[n].attrs] for n in names],
    }
    arrays = {f"v{i}": result.variables[n].values for i, n in enumerate(names)}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{platform.node()}.{os.getpid()}.npz")
    try:
        with temporary.open("wb") as file:
            np.savez(file, head=np.array(json.dumps(head)), **arrays, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        again, before, after = _read(temporary), hashlib.sha256(), hashlib.sha256()
        _feed(before, result)
        _feed(after, again)
        if before.digest() == after.digest():
            os.replace(temporary, path)
    except (TypeError, ValueError):  # an attribute or an array that a file of plain arrays cannot hold
        pass
    finally:
        temporary.unlink(missing_ok=True)


def _read(path: Path) -> xr.Dataset | None:
    """A result, None where there is none; one that is damaged is removed."""
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            head = json.loads(str(file["head"]))
            found = {}
            for i, (name, is_coordinate, dims, attrs) in enumerate(head["variables"]):
                found[name] = (is_coordinate, xr.Variable(dims, file[f"v{i}"], attrs))
        with suppress(OSError):
            os.utime(path)  # used just now
        data = xr.Dataset({n: v for n, (is_coordinate, v) in found.items() if not is_coordinate}, attrs=head["attrs"])
        return data.assign_coords({n: v for n, (is_coordinate, v) in found.items() if is_coordinate})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile):
        with suppress(OSError):
            path.unlink()
        return None


def files(where: Path) -> list[tuple[float, int, Path]]:
    """All results in a folder as (last use, bytes, path), the longest unused first."""
    found = []
    for path in where.glob("??/*.npz"):
        with suppress(OSError):  # another process has removed it
            state = path.stat()
            found.append((state.st_mtime, state.st_size, path))
    return sorted(found)


def _shrink(where: Path) -> None:
    """Remove the longest unused results until the rest keeps the limit."""
    found = files(where)
    over = sum(size for _, size, _ in found) - limit()
    for _, size, path in found:
        if over <= 0:
            break
        path.unlink(missing_ok=True)
        over -= size


def clear(where: Path) -> tuple[int, int]:
    """Remove all results; how many, and how many bytes."""
    found = files(where)
    for _, _, path in found:
        path.unlink(missing_ok=True)
    for part in where.glob("??"):
        with suppress(OSError):
            part.rmdir()
    return len(found), sum(size for _, size, _ in found)


if folder() is not None:
    package()  # before anybody changes what this process has loaded
