"""Single claims, decided alone: `thermolab check`.

Only the recipes behind a claim run, with the settings that its notebook would give them, so the numbers are the notebook's.
The record lies beside those of whole runs, OUT/<notebook>/check-<key>/, with claims.json, results.nc and run.json.
"""

from __future__ import annotations

import asyncio
import difflib
import functools
import inspect
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import xarray as xr

from thermolab import claims
from thermolab.engine import recipe, traces
from thermolab.engine.experiment import DivergenceError
from thermolab.lab import declared, job, params, results, runner, tables
from thermolab.lab.params import UserError

SIZE = ("preset", "seed", "device")  # parameters that bear on every claim; of all others it is asked whether they do


def check(
    ids: Sequence[str],
    package: Callable[[str], ModuleType],
    *,
    preset: str | None = None,
    parameters: Iterable[tuple[str, str]] = (),
    seed: int | None = None,
    device: str | None = None,
    out: str | None = None,
    force: bool = False,
) -> list[dict]:
    """Decide some claims, those of a notebook together, and return their rows of the scorecard.

    package(notebook): the package of a notebook's phenomenon, whose `presets.datasets(setup)` says what is measured.
    parameters: (name, text) pairs, parameters of the notebook or settings that all these claims read. A record that is there,
    of this code and these settings, is read again unless `force`.
    Raises UserError, one line, for a mistake, and Failure where a run diverges.
    """
    known = claims.register()
    for name in ids:
        if why := claims.retired().get(name):
            raise UserError(f"{name} is decided no more: {why}")
        if name not in known:
            near = difflib.get_close_matches(name, known, 3, 0.4)
            raise UserError(f"there is no claim {name!r}; nearest: {', '.join(near) or 'none'}; all: data/claims.toml")
    given = [(k, str(v)) for k, v in {"preset": preset, "seed": seed, "device": device}.items() if v is not None]
    given += list(parameters)
    if twice := [name for name, _ in given if sum(name == other for other, _ in given) > 1]:
        raise params.ParameterError(f"{twice[0]} is given twice; a check takes one value")
    folder = Path(out or params.default_out()).absolute()
    by_notebook: dict[str, list[str]] = {}
    for name in dict.fromkeys(ids):
        by_notebook.setdefault(known[name].notebook, []).append(name)
    try:
        planned = [_plan(notebook, names, package(notebook), given, folder) for notebook, names in by_notebook.items()]
    except LookupError as error:  # a fault of the register, or of what decides its claims
        raise UserError(error.args[0]) from error
    runner.check_writable(folder)
    return [row for part in planned for row in _decided(*part, force)]


def _plan(notebook: str, names: list[str], package: ModuleType, given, out: Path) -> tuple[job.Run, dict, list[str], Mapping]:
    """The run of a notebook's claims, its settings, which they are, and what it measures: {dataset: recipe, not yet called}."""
    path, who = runner.notebooks_folder() / f"{notebook}.ipynb", ", ".join(names)
    declaration, deciders = declared.read(path), [claims.decider(name) for name in names]
    reads = set.intersection(*(set(by.reads) for by in deciders))
    own = [(name, text) for name, text in given if name in declaration.defaults and name not in reads]
    values, *more = declared.combinations(declaration, own)
    if more:
        raise UserError(f"{who}: a check takes one value of each parameter; for a sweep: thermolab run")

    def measured(values: dict) -> dict:
        plan = package.presets.datasets(declaration.setup(values))
        return recipe.needed(plan, *(dataset for by in deciders for dataset in by.datasets.values()))

    plan, physical, defaults = measured(values), {}, declaration.checked({})
    turned = [name for name, _ in own if name not in SIZE and values[name] != defaults[name]]
    idle = [name for name in turned if _plain(measured(values | {name: defaults[name]})) == _plain(plan)]
    idle += [name for name, _ in given if name not in {*reads, *defaults}]
    if idle:
        alone = [name for name, by in zip(names, deciders, strict=True) if idle[0] in by.reads]
        known = ", ".join([*sorted(reads), *(name for name in defaults if name not in {*reads, *idle, "live"})])
        remedy = f"check alone what does: {', '.join(alone)}" if alone else f"what may be set: {known}"
        raise params.ParameterError(f"{idle[0]} changes nothing that all of {who} read; {remedy}")
    for name, text in given:
        if name in reads:
            plan, physical[name] = _turned(plan, name, text)
            if physical[name] is None:
                raise LookupError(f"no recipe behind {who} takes {name}, which @decides says that they read")
    changed = {name for name, value in values.items() if value != defaults[name]} | set(physical)
    facts = {**values, **physical}
    which = names[0] if len(names) == 1 else f"{names[0]}+{len(names) - 1}"
    key = runner.key(facts | {"claims": sorted(names)}, changed | {"preset"})
    source = declaration.source + declared.files(values)
    run = job.Run(path, facts, out / notebook / f"check-{which},{key}", changed <= set(runner.HOW), source)
    return run, declaration.setup(values).as_dict() | physical, names, plan


def _plain(plan: Mapping) -> dict:
    """A plan as what can be compared: recipes and their settings."""
    return {k: _plain(v) if isinstance(v, Mapping) else (v.func, v.args, v.keywords) for k, v in plan.items()}


def _turned(plan: Mapping, name: str, text: str) -> tuple[dict, object]:
    """The plan with a setting of its recipes at another value, where they take it; and the value."""
    turned, value = {}, None
    for dataset, part in plan.items():
        if isinstance(part, Mapping):
            turned[dataset], found = _turned(part, name, text)
            value = found if found is not None else value
        elif name in getattr(part.func, "settings", {}):  # one of several rounds of jobs has none to turn
            given = inspect.signature(part.func).bind_partial(*part.args, **part.keywords).arguments
            value, *more = declared.parse(text, given.get(name, part.func.settings[name]))
            if more:
                raise params.ParameterError(f"{name}={text} is more than one value; write a list as JSON: [0.1, 0.3]")
            turned[dataset] = functools.partial(part.func, **given | {name: value})
            try:
                part.func.checked(**turned[dataset].keywords)
            except ValueError as error:
                raise params.ParameterError(str(error)) from None
        else:
            turned[dataset] = part
    return turned, value


def _measured(names: list[str], plan: Mapping) -> dict:
    try:
        return asyncio.run(recipe.together(plan))
    except ValueError as error:  # settings that do not go together, which a recipe finds when it begins
        raise UserError(f"{', '.join(names)}: {error}") from error
    except DivergenceError as error:
        raise job.Failure(f"{', '.join(names)}: {error}") from error


def _decided(run: job.Run, settings: dict, names: list[str], plan: Mapping, force: bool) -> list[dict]:
    if force or not run.finished:
        recipe.warm_up()
        started, clock = datetime.now(UTC), time.perf_counter()
        with job.filled(run.folder) as partial:
            found = _measured(names, plan)
            seconds = time.perf_counter() - clock
            decided = [claims.decide(n, found, settings=settings, seconds=seconds / len(names)) for n in names]
            kept = traces.prefixed({k: d.reset_coords() for k, d in traces.flattened(found).items()})
            results.save(xr.Dataset(kept), decided, partial)
            record = job.record(run, started, round(time.perf_counter() - clock, 2), 1, results.kernel())
            results.write_json(partial / "run.json", record)
    return tables.measured([run.folder])
