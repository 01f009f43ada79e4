"""Measure a run: traces of what it is asked for, and of each its mean, standard error and autocorrelation time."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
import xarray as xr

from thermolab.engine.experiment import Experiment
from thermolab.instruments import gauges
from thermolab.instruments.autocorrelation import sample_mean

FRAMES = 200  # readings of a measurement
STRAYED = 3.0  # standard errors between its halves, from which on a trace counts as drifting


def measure(
    run: Experiment,
    steps: int,
    *,
    observe: Iterable[str] = ("U", "r", "T", "snr"),
    burn_in: int = 0,
    every: int | None = None,
) -> xr.Dataset:
    """Let a run go on for `burn_in` and then `steps` steps, and read it every `every` steps (default: 200 readings).

    observe: names of gauges (`instruments.gauges`) or of observables of the run's system.
    Returns traces with dims (time, replica), time in steps, and of each trace NAME by replica: NAME_mean, NAME_error (standard
    error, widened by √τ), NAME_tau (integrated autocorrelation time in steps, at least `every`), NAME_n (readings that count) and
    NAME_drift, by how many standard errors the second half lies above the first. What drifts by more than three, or is shorter
    than fifty τ, is named in attrs["notes"]: its mean is none of a stationary state.
    Raises ValueError, one line, for names or numbers that are not allowed, DivergenceError where nothing is left.

    >>> import torch, thermolab as tl
    >>> net = tl.Network(torch.nn.Linear(4, 1), (torch.randn(64, 4), torch.randn(64, 1)), loss="squared")
    >>> data = tl.measure(tl.Experiment(net, eta=0.05, batch_size=8, replicas=2), 400, every=20, observe=["U", "T"])
    >>> dict(data["T"].sizes), data["T_error"].shape
    ({'time': 20, 'replica': 2}, (2,))
    """
    for name, value, least in (("steps", steps, 4), ("burn_in", burn_in, 0), ("every", every, 1)):
        if value is not None and (not float(value).is_integer() or value < least):
            raise ValueError(f"{name}={value} is not allowed; allowed: a whole number from {least} on")
    every = max(1, int(steps) // FRAMES) if every is None else int(every)
    if steps < 4 * every:
        raise ValueError(
            f"every={every} leaves {int(steps) // every} readings in {steps} steps; allowed: at most {int(steps) // 4}"
        )
    names = gauges.for_run(run.system, observe)
    before = run.observables
    run.observables = {**before, "gauges": gauges.Reader(run.system, names)}
    try:
        if burn_in:
            run.advance(int(burn_in))
        run.frame()  # what was summed before does not count
        frames = list(run.frames(every, until=run.state.step + int(steps) // every * every))
    finally:
        run.observables = before
    time = [frame.step for frame in frames]
    traces = {gauges.variable(n): np.stack([_by_replica(run, f, gauges.variable(n)) for f in frames]) for n in names}
    data: dict = {}
    notes: list[str] = []
    for name, variable in ((n, gauges.variable(n)) for n in names):
        label = gauges.observable(name).label
        data[variable] = (("time", "replica"), traces[variable], {"long_name": label})
        found = statistics(traces[variable], every)
        data |= {f"{variable}_{k}": ("replica", v) for k, v in found.items()}
        notes += _notes(variable, found, every)
    return xr.Dataset(data, {"time": time}, _attrs(run, every, notes))


def _by_replica(run: Experiment, frame, variable: str) -> np.ndarray:
    return np.broadcast_to(frame.observables[variable], (run.n_replicas,)).astype(float)


def _attrs(run: Experiment, every: int, notes: list[str]) -> dict:
    knobs = {k: str(v if isinstance(v, str) else torch.as_tensor(v).unique().tolist()) for k, v in run.knobs.items()}
    said = "; ".join(notes) or "nothing drifts, all last fifty τ or more"
    return {"seed": str(run.seed), "every": every, **knobs, "notes": said}


def statistics(trace: np.ndarray, every: int = 1) -> dict[str, np.ndarray]:
    """mean, error, tau (in steps), n and drift [R] of traces [T, R], readings that are not finite left out."""
    rows = [_of_one(series[np.isfinite(series)], every) for series in np.asarray(trace, float).T]
    return {name: np.array([row[name] for row in rows]) for name in ("mean", "error", "tau", "n", "drift")}


def _of_one(series: np.ndarray, every: int) -> dict:
    if len(series) < 4:
        return {"mean": np.nan, "error": np.nan, "tau": np.nan, "n": float(len(series)), "drift": np.nan}
    found = sample_mean(series, time_ordered=True)
    halves = [sample_mean(half, time_ordered=True) for half in np.array_split(series, 2)]
    spread = float(np.hypot(halves[0].standard_error, halves[1].standard_error))
    apart = halves[1].value - halves[0].value
    drift = apart / spread if spread else np.copysign(np.inf, apart) if apart else 0.0
    tau = 1.0 if np.isnan(found.autocorrelation_time) else float(found.autocorrelation_time)
    return {"mean": found.value, "error": found.standard_error, "tau": tau * every, "n": float(found.n), "drift": float(drift)}


def _notes(variable: str, found: dict[str, np.ndarray], every: int) -> list[str]:
    """What is to be said of a trace."""
    notes, drift = [], found["drift"]
    if np.isnan(found["mean"]).any():
        notes.append(f"{variable} has fewer than four readings in {int(np.isnan(found['mean']).sum())} replicas")
    if (np.abs(drift) > STRAYED).any():
        worst = drift[np.nanargmax(np.abs(drift))]
        notes.append(f"{variable} drifts, by {worst:+.1f} standard errors: not stationary; measure later (burn_in) or longer")
    elif (found["n"] * every < 50 * found["tau"]).any():
        longest = np.nanmax(found["tau"])
        notes.append(f"{variable} lasts fewer than fifty autocorrelation times ({longest:.0f} steps): not known to be stationary")
    return notes
