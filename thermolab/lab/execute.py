"""The child process of a run: execute one notebook by papermill, in its own kernel.

Started by the runner as `python -m thermolab.lab.execute`. The first line on stdin is the job, as JSON
{source, target, parameters}. Each line on stdout is JSON: {"cell": n} when cell n starts, {"error": text} when
the notebook fails. When stdin closes, the runner is gone: kill the kernel and everything it started.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

import papermill
import psutil
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillExecutionError
from traitlets.config import Config


def main() -> int:
    """Run the job on stdin; 0 if every cell passed, else 1."""
    report = _reporter()
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_die_with_the_runner, daemon=True).start()
    papermill_engines.register("reporting", _reporting(report))
    try:
        _execute(Path(job["source"]), job["target"], job["parameters"])
    except PapermillExecutionError as error:
        last = f"{error.ename}: {error.evalue}".strip().splitlines()[0]
        report(error=f"cell {error.cell_index}: {last}")
        return 1
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        report(error=f"{type(error).__name__}: {lines[-1]}")
        return 1
    return 0


def _execute(source: Path, target: str, parameters: dict) -> None:
    papermill.execute_notebook(
        source,
        target,
        parameters,
        engine_name="reporting",
        kernel_name="python3",
        cwd=source.parent,
        progress_bar=False,
        # all is written by then; a kernel that has workers waits in vain for multiprocessing's tracker, which no signal ends
        config=Config({"KernelManager": {"shutdown_wait_time": 0.2}}),
    )


def _reporter():
    """A function that sends a line to the runner. Whatever else is printed, by the kernel too, goes to stderr."""
    stream = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)
    return lambda **message: print(json.dumps(message), file=stream)


def _reporting(report):
    """papermill's engine that also reports the start of each cell."""

    class Engine(NBClientEngine):
        @classmethod
        def execute_managed_notebook(cls, nb_man, kernel_name, **kwargs):
            start = nb_man.cell_start

            def cell_start(cell, cell_index=None, **more):
                report(cell=cell_index)
                return start(cell, cell_index, **more)

            nb_man.cell_start = cell_start
            return super().execute_managed_notebook(nb_man, kernel_name, **kwargs)

    return Engine


def _die_with_the_runner() -> None:
    sys.stdin.read()
    for process in psutil.Process().children(recursive=True):
        process.kill()
    os._exit(130)


if __name__ == "__main__":
    sys.exit(main())
