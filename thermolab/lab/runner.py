"""Notebooks as batch jobs: `thermolab run`.

Every run has a folder OUT/<notebook>/<key>/, with a key made of its parameters. It is filled under another name
and moved there when the run has finished, so that a folder with that name is complete and needs no second run.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from thermolab.lab import declared, params
from thermolab.lab.job import Failure, Job, Run
from thermolab.lab.params import UserError

# Parameters that say how, not what, a notebook measures: any value of theirs counts as default settings.
HOW = ("preset", "seed", "device", "live")


@dataclass(frozen=True)
class Outcome:
    """How a run ended: "finished", "skipped" (was finished before) or "failed", with the reason."""

    run: Run
    state: str
    message: str

    def __str__(self) -> str:
        return f"{self.state:<8}  {self.run.name}: {self.message}"


def run(
    notebooks: Sequence[str],
    preset: str | None = None,
    parameters: Iterable[tuple[str, str]] = (),
    seed: int | None = None,
    device: str | None = None,
    out: str | None = None,
    jobs: int = 1,
    force: bool = False,
) -> list[Outcome]:
    """Execute notebooks, each with every combination of the parameters, and say how each run ended.

    notebooks: stems, paths or "all". parameters: (name, text) pairs as on the command line. jobs: how many at
    once. A run that has finished is skipped unless `force`, or its notebook's code has changed. Everything is
    checked before anything runs or is written; raises UserError for a mistake and KeyboardInterrupt once every
    child is gone.
    """
    if jobs < 1:
        raise UserError(f"--jobs {jobs} is too few; allowed: a whole number from 1")
    options = {"preset": preset, "seed": seed, "device": device}
    given = [*parameters, *((name, str(value)) for name, value in options.items() if value is not None)]
    out = Path(out or params.default_out()).absolute()
    runs = plan(find(notebooks), given, out)
    check_writable(out)
    return _execute(runs, jobs, force)


def notebooks_folder() -> Path:
    """The folder of the notebooks: in the checkout, else in the current folder."""
    checkout = Path(__file__).parents[2] / "notebooks"
    return checkout if checkout.is_dir() else Path("notebooks").absolute()


def find(names: Sequence[str]) -> list[Path]:
    """The notebooks meant by stems, paths or "all". Raises UserError for an unknown one."""
    known = {path.stem: path for path in sorted(notebooks_folder().glob("[0-9]*.ipynb"))}
    allowed = f"allowed: a path, all, {', '.join(known) or 'none yet'}"
    found: dict[str, Path] = {}
    for name in names:
        paths = list(known.values()) if name == "all" else [known.get(name, Path(name).absolute())]
        for path in paths:
            if path.suffix != ".ipynb" or not path.is_file():
                raise UserError(f"there is no notebook {name!r}; {allowed}")
            if found.setdefault(path.stem, path) != path:
                raise UserError(f"{found[path.stem]} and {path} would share a results folder; run them with two --out")
    if not found:
        raise UserError(f"no notebook to run; {allowed}")
    return list(found.values())


def plan(notebooks: Iterable[Path], given: Iterable[tuple[str, str]], out: Path) -> list[Run]:
    """All runs with their checked parameters, in order, without doubles. Raises ParameterError."""
    given, runs = list(given), {}
    for path in notebooks:
        declaration = declared.read(path)
        defaults = declaration.checked({})
        for values in declared.combinations(declaration, given):
            changed = {name for name, value in values.items() if value != defaults[name]}
            shown = {name for name in values if name in changed or name == "preset"}
            folder = out / path.stem / key(values, shown)
            runs[folder] = Run(path, values, folder, changed <= set(HOW), declaration.source + declared.files(values))
    return list(runs.values())


def key(parameters: dict[str, object], shown: Iterable[str] = ()) -> str:
    """A file name for a set of parameters: the ones to show, and a hash of them all.

    >>> key({"eta": 0.01, "preset": "smoke"}, ["preset", "eta"])
    'eta=0.01,preset=smoke-d53a5bbf'
    """
    text = json.dumps(parameters, sort_keys=True)
    prefix = ",".join(f"{name}={parameters[name]}" for name in sorted(shown))
    prefix = re.sub(r"[^A-Za-z0-9.,=+-]+", "_", prefix)[:80]
    return f"{prefix}-{hashlib.sha256(text.encode()).hexdigest()[:8]}".lstrip("-.")


def check_writable(out: Path) -> None:
    """Make the folder of the results. Raises UserError, one line, where nothing can be written there."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out).close()
    except OSError as error:
        raise UserError(f"cannot write to --out {out}: {error.strerror}; allowed: a folder you may write to") from None


def _execute(runs: list[Run], jobs: int, force: bool) -> list[Outcome]:
    """All runs that are not finished yet, `jobs` at a time, under one bar that counts cells."""
    from tqdm import tqdm

    skipped = [run for run in runs if run.finished and not force]
    outcomes = [Outcome(run, "skipped", "finished before; --force repeats it") for run in skipped]
    left = [run for run in runs if run not in skipped]
    jobs = max(1, min(jobs, len(left)))  # few runs share all the cores among them
    todo = [Job(run, jobs) for run in left]
    total = sum(_cells(job.run) for job in todo)
    with tqdm(total=total, unit="cell", disable=None, leave=False) as bar, ThreadPoolExecutor(jobs) as pool:
        for outcome in outcomes:
            bar.write(str(outcome))
        futures = {pool.submit(job.execute, bar.update): job.run for job in todo}
        try:
            for n, future in enumerate(as_completed(futures), 1):
                outcomes.append(_outcome(futures[future], future))
                bar.set_postfix_str(f"{n} of {len(todo)} runs")
                bar.write(str(outcomes[-1]))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for job in todo:
                job.stop()
            raise
    return outcomes


def _outcome(run: Run, future: Future) -> Outcome:
    try:
        return Outcome(run, "finished", f"{future.result():.0f} s")
    except (Failure, OSError) as error:
        return Outcome(run, "failed", str(error))


def _cells(run: Run) -> int:
    return len(json.loads(run.notebook.read_text(encoding="utf-8"))["cells"]) + 1  # papermill adds one
