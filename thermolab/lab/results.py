"""What a notebook's run leaves behind: claims.json and results.nc, each written whole or not at all."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xarray

    from thermolab.claims import Result


def save(dataset: xarray.Dataset | None = None, claims: Iterable[Result] | None = None, folder=None) -> Path | None:
    """Write results.nc (labelled traces) and claims.json (decided claims) and return their folder.

    The folder is the one given, else the run's own (THERMOLAB_RESULTS, set by `thermolab run`), else
    `interactive` under THERMOLAB_OUT. Without any of these nothing is written, and one line says so.
    """
    claims = None if claims is None else list(claims)
    folder = folder or os.environ.get("THERMOLAB_RESULTS") or _interactive(claims)
    if folder is None:
        print("nothing saved: set THERMOLAB_OUT or use `thermolab run`")
        return None
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if dataset is not None:
        write(folder / "results.nc", lambda path: dataset.to_netcdf(path, engine="h5netcdf"))
    if claims is not None:
        write_json(folder / "claims.json", [result.as_dict() for result in claims])
    if "THERMOLAB_RESULTS" in os.environ:
        write_json(folder / "kernel.json", kernel())
    return folder


def write(path: Path, writer: Callable[[Path], object]) -> None:
    """Let `writer` fill a temporary file beside `path` and move it there: a reader sees all of it or nothing."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        writer(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value) -> None:
    """Write `value` as JSON, whole or not at all. NumPy scalars become numbers, what JSON lacks becomes text."""
    text = json.dumps(value, indent=1, ensure_ascii=False, default=_plain)
    write(path, lambda temporary: temporary.write_text(text + "\n", encoding="utf-8"))


def _plain(x):
    return x.tolist() if hasattr(x, "tolist") else str(x)


def _interactive(claims) -> Path | None:
    out = os.environ.get("THERMOLAB_OUT")
    return Path(out, claims[0].claim.notebook if claims else "notebook", "interactive") if out else None


def kernel() -> dict:
    """What only the process that computes knows of itself; the runner moves it into run.json."""
    torch = sys.modules.get("torch")
    if torch is None:
        return {}
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    store = sys.modules.get("thermolab.engine.store")
    jobs = {f"jobs_{how}": n for how, n in store.counted.items()} if store and store.folder() else {}
    return {"torch_threads": torch.get_num_threads(), "gpu": gpu, **jobs}
