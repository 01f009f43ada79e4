"""One run of a notebook: its child process, and the folder that it fills.

The child works in `.<key>.partial-<pid>`, which becomes `<key>` at the end. What a killed runner left behind is
removed by the next run of the same key; what failed is kept as `<key>.failed/notebook.failed.ipynb`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from thermolab.lab import provenance, results


class Failure(Exception):
    """A run that ended early; the message is one line."""


@dataclass(frozen=True)
class Run:
    """One notebook with one set of checked parameters, and where its results belong."""

    notebook: Path
    parameters: dict[str, object]
    folder: Path
    default_settings: bool
    source: str  # hash of the notebook and of the package

    @property
    def name(self) -> str:
        return f"{self.notebook.stem}/{self.folder.name}"

    @property
    def finished(self) -> bool:
        """Whether its folder is there, written by notebook and package as they are now."""
        record = self.folder / "run.json"
        return record.is_file() and json.loads(record.read_text(encoding="utf-8")).get("source") == self.source


class Job:
    """A run being executed, as one of `jobs` at a time. `execute` blocks, `stop` may come from another thread."""

    def __init__(self, run: Run, jobs: int = 1):
        self.run = run
        self._jobs = jobs
        self._process: subprocess.Popen | None = None
        self._stopped = False

    def execute(self, on_cell: Callable[[], object] = lambda: None) -> float:
        """Run the notebook and publish its folder; the seconds it took. Raises Failure and OSError."""
        started, clock = datetime.now(UTC), time.perf_counter()
        with filled(self.run.folder) as self._partial:
            self._watch(on_cell)
            seconds = round(time.perf_counter() - clock, 2)
            results.write_json(self._partial / "run.json", record(self.run, started, seconds, self._jobs, self._kernel()))
        shutil.rmtree(_failed(self.run.folder), ignore_errors=True)
        return seconds

    def stop(self) -> None:
        """End the child: it kills its kernel when its stdin closes."""
        self._stopped = True
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    def _watch(self, on_cell) -> None:
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as stderr:
            error = ""
            with self._start(stderr) as self._process:
                if self._stopped:
                    self.stop()
                for line in self._process.stdout:
                    message = json.loads(line)
                    on_cell()
                    error = message.get("error", error)
            code = self._process.returncode
            if code:
                stderr.seek(0)
                raise Failure(self._keep(error or _last_line(stderr.read()) or f"ended with code {code}"))

    def _start(self, stderr) -> subprocess.Popen:
        command = [sys.executable, "-m", "thermolab.lab.execute"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": stderr, "encoding": "utf-8"}
        env = environment(self._jobs, self._partial)
        process = subprocess.Popen(command, env=env, start_new_session=True, **pipes)
        target = str(self._partial / "notebook.ipynb")
        job = {"source": str(self.run.notebook), "target": target, "parameters": self.run.parameters}
        process.stdin.write(json.dumps(job) + "\n")
        process.stdin.flush()
        return process

    def _keep(self, error: str) -> str:
        """Keep the notebook of a failed run; the error, with the place of the notebook."""
        failed = self._partial / "notebook.ipynb"
        if self._stopped or not failed.is_file():
            return error
        kept = _failed(self.run.folder) / "notebook.failed.ipynb"
        kept.parent.mkdir(exist_ok=True)
        os.replace(failed, kept)
        return f"{error} (see {kept})"

    def _kernel(self) -> dict:
        """What only the kernel knew of itself."""
        kernel = self._partial / "kernel.json"
        facts = json.loads(kernel.read_text(encoding="utf-8")) if kernel.is_file() else {}
        kernel.unlink(missing_ok=True)
        return facts


def record(run: Run, started: datetime, seconds: float, jobs: int, kernel: dict) -> dict:
    """What run.json says of a finished run. kernel: `results.kernel` of the process that computed."""
    device = run.parameters.get("device", "auto")
    if device == "auto":
        device = "cuda" if kernel.get("gpu") else "cpu"
    return {
        "status": "finished",
        "notebook": run.notebook.stem,
        "source": run.source,
        "parameters": run.parameters,
        "default_settings": run.default_settings,
        "preset": run.parameters.get("preset"),
        "seed": run.parameters.get("seed"),
        "device": device,
        **kernel,
        "jobs": jobs,
        "workers": workers(jobs),
        "cpu_count": cpus(),
        "started": started.isoformat(timespec="seconds"),
        "seconds": seconds,
        "git_revision": provenance.git_revision(),
        "versions": provenance.versions(),
    }


@contextmanager
def filled(folder: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `folder` when the block ends without an error; else it goes, with its parent if empty."""
    _clean(folder)
    partial = _beside(folder, f"partial-{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        yield partial
        _replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        with suppress(OSError):  # there is more in it
            folder.parent.rmdir()


def cpus() -> int:
    """The processors this process may use."""
    return len(psutil.Process().cpu_affinity()) if hasattr(psutil.Process, "cpu_affinity") else os.cpu_count() or 1


def workers(jobs: int) -> int:
    """How many processes each of `jobs` notebooks may start."""
    return max(1, cpus() // jobs)


def environment(jobs: int, folder: Path) -> dict[str, str]:
    """The variables of a child: where its results go and its share of the machine."""
    package = str(Path(__file__).parents[2])
    paths = [package, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    # JupyterLab and Voilà set these where a person looks on, and a live panel would show
    env = {name: text for name, text in os.environ.items() if name != "JPY_SESSION_NAME" and not name.startswith("VOILA_")}
    env |= {"THERMOLAB_RESULTS": str(folder), "THERMOLAB_WORKERS": str(workers(jobs))}
    env.setdefault("THERMOLAB_SOLUTIONS", "1")
    env["PYTHONPATH"] = os.pathsep.join(os.path.abspath(path) for path in paths)
    if jobs > 1:
        env["OMP_NUM_THREADS"] = "1"
    return env


def _beside(folder: Path, suffix: str) -> Path:
    return folder.with_name(f".{folder.name}.{suffix}")


def _failed(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.failed")


def _clean(folder: Path) -> None:
    """Remove what runners that are gone have left of this run, and put back a finished run caught in between two names."""
    for left in folder.parent.glob(f".{folder.name}.*-*"):
        owner = int(left.name.rpartition("-")[2])
        if owner != os.getpid() and psutil.pid_exists(owner):  # in a new container an old runner may have had our number
            continue
        if left.name.startswith(f".{folder.name}.old-") and not folder.exists():
            os.replace(left, folder)
        else:
            shutil.rmtree(left, ignore_errors=True)


def _replace(partial: Path, folder: Path) -> None:
    """Move a complete folder to its name; an older one makes room."""
    old = _beside(folder, f"old-{os.getpid()}")
    if folder.exists():
        os.replace(folder, old)
    os.replace(partial, folder)
    shutil.rmtree(old, ignore_errors=True)


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
