"""Logs of live runs: saved by a panel, checked, and replayed without one.

A log holds plain values only, JSON {thermolab, recipe, settings, seed, backend, device, threads, events, frames, steps, …}.
Its recipe is looked up in a table of scenarios, or in the file that a person names beside it (`own`); nothing that it says
itself is imported or evaluated.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import re
import time
from collections.abc import Mapping
from pathlib import Path

import jsonschema
import torch
from tqdm import tqdm

from thermolab.engine import files
from thermolab.engine.experiment import LAST_STEP, DivergenceError, Experiment
from thermolab.engine.scenario import Scenario
from thermolab.lab import params, results
from thermolab.lab.params import UserError

LARGEST = 2**26  # bytes of a log that are read: a week of turning knobs stays below
WHOLE = {"type": "integer", "minimum": 0, "maximum": LAST_STEP}
COUNT = {**WHOLE, "minimum": 1}
ROW = {"type": "array", "prefixItems": [COUNT, COUNT, COUNT], "minItems": 3, "maxItems": 3}
EVENT = {"type": "array", "prefixItems": [WHOLE, {"type": "object"}], "minItems": 2, "maxItems": 2}
DEVICES = ("cpu", "cuda", *(f"cuda:{i}" for i in range(16)))
SCHEMA = {
    "type": "object",
    "required": ["thermolab", "recipe", "settings", "seed", "backend", "device", "threads", "steps", "events", "frames"],
    "properties": {
        "thermolab": {"type": "string"},
        "recipe": {"type": "string"},
        "settings": {"type": "object"},
        "seed": {"type": "integer", "minimum": 0, "maximum": 2**64 - 1},
        "backend": {"type": "string"},
        "processor": {"type": "string"},
        "device": {"enum": DEVICES},
        "threads": {"type": "integer", "minimum": 1, "maximum": 1024},
        "steps": WHOLE,
        "events": {"type": "array", "items": EVENT},
        "frames": {"type": "array", "items": ROW},
        "weights": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
        "gauges": {"type": "object", "additionalProperties": {"type": "array", "items": {"type": ["number", "null"]}}},
    },
}
SAME = ("thermolab", "backend", "device", "threads", "processor")  # where these agree a replay is exact


def save(log: Mapping, label: str = "") -> Path:
    """Write a log to OUT/live (OUT: THERMOLAB_OUT, else results) and return its absolute path. Raises OSError."""
    folder = Path(params.default_out()).absolute() / "live"
    folder.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^\w.-]+", "-", f"{log['recipe']}-{label}-{time.strftime('%Y%m%d-%H%M%S')}").strip("-")
    for taken in itertools.count(1):
        path = folder / f"{name}{f'-{taken}' if taken > 1 else ''}.json"
        with contextlib.suppress(FileExistsError):
            path.touch(exist_ok=False)  # ours from now on
            break
    try:
        results.write_json(path, log)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


def own(place: str) -> dict[str, Scenario]:
    """The table with the one scenario that "FILE.py:NAME" names; the file is run. Raises UserError, one line."""
    try:
        found = files.named(place)
    except ValueError as error:
        raise UserError(f"--scenario {error}") from None
    if not isinstance(found, Scenario):
        raise UserError(f"--scenario {place} is a {type(found).__name__}; allowed: a thermolab.engine.scenario.Scenario")
    return {found.name: found}


def load(path, scenarios: Mapping[str, Scenario]) -> dict:
    """The log at `path`, checked against the table of scenarios. Raises UserError, one line that says what is wrong."""
    try:
        if Path(path).stat().st_size > LARGEST:
            raise ValueError(f"it has more than {LARGEST} bytes")
        log = json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=_no_constant)
        wrong = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(SCHEMA).iter_errors(log))
        if wrong is not None:
            raise ValueError(f"{wrong.json_path}: {wrong.message[:200]}")
        log = _whole(log)
        _check(log, scenarios)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}; save one with the panel's button Save log") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no log of a live run: {error}; save one with the panel's button Save log") from None
    return log


def _whole(log: dict) -> dict:
    """The log with all its counts as int: JSON knows no difference between 5 and 5.0."""
    counts = {name: int(log[name]) for name in ("seed", "threads", "steps")}
    events = [[int(step), change] for step, change in log["events"]]
    return {**log, **counts, "events": events, "frames": [[int(n) for n in row] for row in log["frames"]]}


def _no_constant(name: str):
    raise ValueError(f"{name} is no number")


def _check(log: dict, scenarios: Mapping[str, Scenario]) -> None:
    """What a schema cannot say: names in the table, values in their ranges, steps in order."""
    scenario = scenarios.get(log["recipe"])
    if scenario is None:
        raise ValueError(f"recipe {log['recipe'][:80]!r} is unknown; known: {', '.join(scenarios)}")
    if set(log["settings"]) != set(scenario.settings):
        raise ValueError(f"settings are {', '.join(log['settings'])}; expected: {', '.join(scenario.settings)}")
    scenario.checked(log["settings"])
    last = 0
    knobs = set(log["events"][0][1]) if log["events"] else set()  # the first event sets them all
    for step, change in log["events"]:
        if not last <= step <= log["steps"]:
            raise ValueError(f"an event at step {step} does not lie between {last} and {log['steps']}")
        last = step
        for name, value in change.items():
            if name == "device" and value not in DEVICES:
                raise ValueError(f"device={value!r} at step {step}; allowed: cpu, cuda")
            if name == "data":
                raise ValueError(f"from step {step} on the run learnt other data, of which a log holds the hash alone")
            if name == "weights" and not isinstance(value, str):
                raise ValueError(f"weights at step {step} are no text of bytes in base64")
            if name in ("device", "weights"):
                continue
            offered = name in scenario.settings  # what is not stays as the experiment has it, see `_drive`
            if name not in knobs or (step > 0 and not offered):
                raise ValueError(f"{name} at step {step} is no knob of {scenario.name}")
            if offered:
                scenario.settings[name].check(f"at step {step} {name}", value)
    last = 0
    for first, stride, count in log["frames"]:
        if not last < first or first + stride * (count - 1) > log["steps"]:
            raise ValueError(f"frames from step {first} on do not lie between {last} and {log['steps']}")
        last = first + stride * (count - 1)


def replay(path, scenarios: Mapping[str, Scenario], *, device: str | None = None, out=None) -> bool:
    """Replay a log and print how it went; whether it ended where the log did, or where that was not to be expected.

    device: another one than the log's. out: a file for the frames (netCDF). Raises UserError, one line.
    """
    log = load(path, scenarios)
    here = {**log, "device": device or log["device"]}
    devices = {here["device"], *(change["device"] for _, change in log["events"] if "device" in change)}
    if any(d.startswith("cuda") for d in devices) and not torch.cuda.is_available():
        if device != "cpu":
            raise UserError(f"{path} ran on cuda and PyTorch sees no GPU here; --device cpu replays it, equal in its averages")
        here["events"] = [[s, {k: v for k, v in change.items() if k != "device"}] for s, change in log["events"]]
    scenario = scenarios[log["recipe"]]
    try:
        run, again = _drive(scenario, here)
    except (ValueError, DivergenceError) as error:
        raise UserError(f"{path} cannot be replayed to its end: {error}") from None
    print(f"{scenario.name}: {log['steps']} steps, knobs turned at {max(0, len(log['events']) - 1)} of them")
    for name, values in again["gauges"].items():
        print(f"{name:<18} replayed {_mean(values)}   log {_mean(log.get('gauges', {}).get(name))}")
    if out is not None:
        results.write(Path(out), lambda temporary: run.record().to_netcdf(temporary, engine="h5netcdf"))
    return _compare(log, again)


def _drive(scenario: Scenario, log: Mapping) -> tuple[Experiment, dict]:
    """The replayed run, and its own log."""
    before = torch.get_num_threads()
    torch.set_num_threads(log["threads"])
    try:
        run, frames = scenario.replay(log)
        own = run.events[0][1]
        for name, value in log["events"][0][1].items() if log["events"] else ():
            if name not in scenario.settings and own.get(name) != value:
                raise ValueError(f"{name} at step 0 is {own.get(name, 'no knob')}, and nothing else")
        with tqdm(total=log["steps"], desc=scenario.name, unit=" steps", unit_scale=True, leave=False, disable=None) as bar:
            for frame in frames:
                bar.update(frame.step - bar.n)
        return run, scenario.log(run, log["settings"])
    finally:
        torch.set_num_threads(before)


def _compare(log: Mapping, again: Mapping) -> bool:
    other = [f"{k} {log.get(k, 'unknown')} there, {again[k]} here" for k in SAME if log.get(k) != again[k]]
    if "weights" not in log:
        print("the log has no weights to compare with")
    elif log["weights"] == again["weights"]:
        print("weights: equal to the last bit")
    elif other:
        print(f"weights: not equal bit for bit, and need not be ({'; '.join(other)}); averages agree within their errors")
    else:
        print("weights: NOT those of the log, on the same backend, device and threads")
        return False
    return True


def _mean(values) -> str:
    known = [v for v in values or [] if v is not None and math.isfinite(v)]
    return f"{sum(known) / len(known):.6g}" if known else "none"
