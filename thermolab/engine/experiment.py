"""The one loop: a system, R replicas of it, knobs that can be turned at any step, and frames that come out.

Slider, script, papermill and test drive the same `Experiment`: `set` is the only way to turn a knob and logs it
with its step, `advance` takes steps, `frames` and `aframes` yield what the observables read. A log replays to the bit
on the same backend, device and number of threads, because every random number is a function of (seed, stream, step).
"""

from __future__ import annotations

import base64
import copy
import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import torch
import xarray as xr

from thermolab.engine.drivers import frame_steps, lockstep, slices
from thermolab.engine.state import Frame, State
from thermolab.systems.system import System

LAST_STEP = 2**31  # steps have one number each; those above belong to probes that are never trained on


def _bytes(t: torch.Tensor) -> bytes:
    return t.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()  # numpy knows no bfloat16


class DivergenceError(RuntimeError):
    """A run left the range of its numbers: the message names step, value and remedy."""

    def _render_traceback_(self):
        return [f"DivergenceError: {self}"]  # in a notebook: one line instead of a traceback


@contextmanager
def _subnormal_is_zero() -> Iterator[None]:
    """Weight decay drives what gets no gradient (a pixel that is always black) below 1e-38, where a CPU is many times slower.

    Such a number counts as 0 meanwhile. The processor keeps this flag for each thread, and other libraries want it off.
    """
    smallest = np.float64(5e-324)
    was = bool(smallest * 1.0 == 0.0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(was)


class Experiment:
    """R replicas of a system under knobs.

    eta, lam and the system's own knobs: a number or one per replica [R], or a text where the system has `choices`.
    batch_size: one number. streams: [R] integers that name the replicas' random numbers (default 0 … R - 1).
    weights: [R, P] to start from (default: the system's start). observables: {name: function of (system, State, knobs)},
    instruments read at every frame beside the system's own; they return [R] or a number, or a dict of these by name.

    >>> import torch, thermolab as tl
    >>> net = tl.Network(torch.nn.Linear(1, 1), (torch.ones(8, 1), torch.ones(8, 1)), loss="squared")
    >>> run = tl.Experiment(net, eta=[0.05, 0.1], batch_size=4)  # a grid: one replica for each η
    >>> for frame in run.frames(every=50, until=100):
    ...     print(frame.step, frame.observables["U"].shape)
    50 (2,)
    100 (2,)
    >>> run.set(lam=0.1)  # from here on
    >>> run.log["events"][1]
    [100, {'lam': 0.1}]
    """

    def __init__(
        self,
        system: System,
        *,
        eta,
        lam=0.0,
        batch_size: int | None = None,
        replicas: int | None = None,
        seed: int = 0,
        streams=None,
        weights: torch.Tensor | None = None,
        device: str = "cpu",
        observables: Mapping[str, Callable] | None = None,
        **knobs,
    ):
        if system.has_batches and batch_size is None:
            raise ValueError("batch_size is missing: this system learns from batches")
        sizes = {np.size(v) for v in (eta, lam, *knobs.values(), *([] if streams is None else [streams])) if np.ndim(v)}
        sizes |= {len(weights)} if weights is not None else set()
        sizes |= {replicas} if replicas is not None else set()
        if len(sizes) > 1:
            raise ValueError(f"knobs, streams and weights disagree on the number of replicas: {sorted(sizes)}")
        if not 0 <= seed < 2**64:
            raise ValueError(f"seed={seed} is out of range; allowed: 0 to 2^64 - 1")
        self.n_replicas = sizes.pop() if sizes else 1
        self.system, self.seed, self.device, self.observables = system, int(seed), str(device), dict(observables or {})
        system.to(device)
        streams = np.arange(self.n_replicas) if streams is None else np.asarray(streams)
        self.streams = torch.as_tensor(streams, dtype=torch.int64, device=device)
        if weights is None:
            weights = system.start(self.streams, self.seed)
        weights = torch.as_tensor(weights, device=device).detach().clone()
        nobody = torch.full((self.n_replicas,), -1, dtype=torch.int64, device=device)
        memory = system.start_memory(weights)
        self.state = State(weights, 0, nobody, torch.linalg.vector_norm(weights, dim=1), MappingProxyType(memory))
        self.start, self.first_device = self.state, self.device
        self.events: list[list] = []
        self.history: list[Frame] = []
        self.cadence: list[list[int]] = []  # the steps of all frames, as rows (first step, stride, how many)
        self.seconds_per_step: float | None = None  # of the last slice
        self._sums: dict[str, torch.Tensor] = {}
        self.steps_summed = 0  # since the last frame
        self._data_key = ""  # as the log has it
        self.knobs: dict = {}
        batch = {"batch_size": batch_size} if system.has_batches else {}
        self.set(**{"eta": eta, "lam": lam, **batch, **system.knobs, **knobs})

    def set(self, **knobs) -> None:
        """Turn knobs. Takes effect from the next step on, and goes into the log with the present step.

        A new protocol finds the present radius: "sphere" holds the weights at the |w| that they have.
        """
        knobs = {name: self._checked(name, value) for name, value in knobs.items()}
        self._note({k: v if isinstance(v, str) else int(v) if k == "batch_size" else v.tolist() for k, v in knobs.items()})
        for name, value in knobs.items():
            if name == "batch_size" or isinstance(value, str):
                self.knobs[name] = value if isinstance(value, str) else int(value)
            else:
                self.knobs[name] = torch.as_tensor(np.broadcast_to(value, (self.n_replicas,)).copy(), device=self.device)
        if "protocol" in knobs and self.state.step:
            self.state = replace(self.state, radius=torch.linalg.vector_norm(self.state.weights, dim=1))

    def put(self, weights: torch.Tensor) -> None:
        """Go on from other weights [R, P]; logged with all their bytes. A frame of the same step comes first in a replay.

        Memory, the radius of the sphere and what is known of divergence stay as they are.
        """
        now = self.state.weights
        weights = torch.as_tensor(weights).detach().to(now, copy=True)
        if weights.shape != now.shape:
            raise ValueError(f"weights have shape {list(weights.shape)}; allowed: {list(now.shape)}")
        written = base64.b64encode(_bytes(weights)).decode()
        self.events.append([self.state.step, {"weights": written}])  # an event of its own: what was turned before acted before
        self.state = replace(self.state, weights=weights)

    def _put_written(self, text: str) -> None:
        """`put` the weights of a log. Raises ValueError for bytes that are not those of weights [R, P]."""
        now = self.state.weights
        read = base64.b64decode(text, validate=True)
        if len(read) != now.nbytes:
            raise ValueError(f"weights at step {self.state.step} have {len(read)} bytes; allowed: {now.nbytes}")
        self.put(torch.frombuffer(bytearray(read), dtype=now.dtype).reshape(now.shape))

    def fork(self) -> Experiment:
        """A run that goes on from here by itself, on the same system: with this one's state, knobs, log and frames so far."""
        other = copy.copy(self)
        other.knobs, other.history, other._sums = dict(self.knobs), list(self.history), dict(self._sums)
        other.events, other.cadence = copy.deepcopy(self.events), copy.deepcopy(self.cadence)
        # some remember what they saw; those that know the system know the same one
        other.observables = copy.deepcopy(self.observables, {id(self.system): self.system})
        return other

    def move(self, device: str) -> None:
        """Go on on another device, with the weights as they are; logged like a knob."""
        self.device = str(device)
        self.system.to(device)
        self.knobs = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in self.knobs.items()}
        self._sums = {k: v.to(device) for k, v in self._sums.items()}
        self.streams = self.streams.to(device)
        now = self.state
        memory = MappingProxyType({k: v.to(device) for k, v in now.memory.items()})
        self.state = State(now.weights.to(device), now.step, now.diverged.to(device), now.radius.to(device), memory)
        self._note({"device": self.device})

    def _note(self, change: dict) -> None:
        """One event a step: of what is turned twice before the next step only the last value ever acted."""
        if self.events and self.events[-1][0] == self.state.step:
            self.events[-1][1].update(change)
        else:
            self.events.append([self.state.step, change])

    def _checked(self, name: str, value) -> np.ndarray | str:
        allowed = {"eta", "lam", *self.system.knobs} | ({"batch_size"} if self.system.has_batches else set())
        if name not in allowed:
            raise ValueError(f"{name} is no knob of this system; allowed: {', '.join(sorted(allowed))}")
        if isinstance(self.system.knobs.get(name), str):
            options = self.system.choices[name]
            if value not in options:
                raise ValueError(f"{name}={value!r} is unknown; allowed: {', '.join(options)}")
            return str(value)
        value = np.asarray(value, float)
        low, high = self.system.limits.get(name, (None, None))
        if low is not None:
            if not (np.isfinite(value) & (low <= value) & (value < high)).all():
                raise ValueError(f"{name}={value} must be finite, at least {low:g} and below {high:g}")
        elif not np.isfinite(value).all() or (value < 0).any() or (name in ("eta", "batch_size") and (value <= 0).any()):
            positive = "positive" if name in ("eta", "batch_size") else "not negative"
            raise ValueError(f"{name}={value} must be finite and {positive}")
        if name == "batch_size" and (value.ndim or value % 1):
            raise ValueError(f"batch_size={value} must be one whole number")
        if value.ndim and value.shape != (self.n_replicas,):
            raise ValueError(f"{name} has shape {value.shape}; allowed: a number or one per replica ({self.n_replicas},)")
        return value

    def advance(self, n: int) -> None:
        """Take n steps, 0 or more. Divergence shows in `state.diverged`, and at the next frame."""
        if n < 0:
            raise ValueError(f"n={n} steps: a run goes forward only")
        if n == 0:
            return
        state = self.state
        if state.step + n > LAST_STEP:
            raise ValueError(f"step {LAST_STEP} is the last one, from there on random numbers would repeat: start a new run")
        if self.system.data_key != self._data_key:  # the system was told to use other data
            self._data_key = self.system.data_key
            self.events.append([state.step, {"data": self._data_key}])
        weights = state.weights.clone()  # a State, once handed out, never changes
        memory = {name: kept.clone() for name, kept in state.memory.items()}
        with _subnormal_is_zero():
            sums, diverged = self.system.advance(
                weights, state.step, n, self.knobs, self.seed, self.streams, state.radius, memory
            )
        for name, mean in sums.items():
            self._sums[name] = self._sums.get(name, 0) + mean * n
        self.steps_summed += n
        diverged = torch.where(state.diverged >= 0, state.diverged, diverged)
        self.state = replace(state, weights=weights, step=state.step + n, diverged=diverged, memory=MappingProxyType(memory))

    def frame(self) -> Frame:
        """What the observables read now; the system's own are means over the steps since the last frame.

        Raises DivergenceError when a run at a single setting, or every replica of a grid, has diverged.
        """
        alive = self._check_divergence()
        observables = {k: (v / max(1, self.steps_summed)).cpu().numpy() for k, v in self._sums.items()}
        for name, observable in self.observables.items():
            found = observable(self.system, self.state, self.knobs)
            named = found if isinstance(found, Mapping) else {name: found}
            observables |= {k: np.asarray(torch.as_tensor(v).cpu(), float) for k, v in named.items()}
        observables = {k: np.where(alive.reshape(-1, *[1] * (v.ndim - 1)), v, np.nan) for k, v in observables.items()}
        knobs = {k: v if isinstance(v, str) else np.asarray(torch.as_tensor(v).cpu()) for k, v in self.knobs.items()}
        frame = Frame(self.state.step, knobs, observables)
        last = self.cadence[-1] if self.cadence else None
        if last and last[0] + last[1] * last[2] == frame.step and last[1] == self.steps_summed:
            last[2] += 1
        else:
            self.cadence.append([frame.step, max(1, self.steps_summed), 1])
        self._sums, self.steps_summed = {}, 0
        self.history.append(frame)
        return frame

    def raise_if_diverged(self) -> None:
        """Raises DivergenceError where `frame` would, without taking one."""
        self._check_divergence()

    def frames(self, every: int, until: int | None = None) -> Iterator[Frame]:
        """A frame each `every` steps up to step `until` (for ever if None). Closing the generator is Stop."""
        for _ in slices([self], every, until):
            if self.steps_summed % every == 0:
                yield self.frame()

    async def aframes(self, every: int, until: int | None = None) -> AsyncIterator[Frame]:
        """The same frames, giving way to the event loop every ~10 ms."""
        async for (frame,) in lockstep([self], every, until):
            yield frame

    def _check_divergence(self) -> np.ndarray:
        """Which replicas are alive [R]; raises if there is nothing left to measure."""
        diverged = self.state.diverged.cpu().numpy()
        if (diverged < 0).all():
            return diverged < 0
        settings = np.stack([v.cpu().numpy() for v in self.knobs.values() if isinstance(v, torch.Tensor)])
        single = len(np.unique(settings, axis=1).T) == 1
        if single or (diverged >= 0).all():
            first = int(np.argmin(np.where(diverged >= 0, diverged, np.iinfo(np.int64).max)))
            eta, lam = (float(self.knobs[k][first]) for k in ("eta", "lam"))
            how = f" ({self.knobs['protocol']})" if "protocol" in self.knobs else ""
            raise DivergenceError(
                f"eta={eta:.3g}, lam={lam:.3g}{how}: |w| grew past 1e12 at step {diverged[first]} in "
                f"{(diverged >= 0).sum()} of {len(diverged)} replicas; try eta={eta / 4:.3g} or {self.system.divergence_hint}"
            )
        return diverged < 0

    @property
    def log(self) -> dict:
        """What drove this run and where it got to, JSON-ready: `replay` needs it and an experiment with the same start.

        frames: the steps at which a frame was taken, as rows (first step, stride, how many), for an observable that is a mean
        since the last frame depends on them. weights: SHA-256 of the weights at the last step, and of the memory, if any.
        """
        from thermolab import __version__

        last = [self.state.weights, *(self.state.memory[name] for name in sorted(self.state.memory))]
        return {
            "thermolab": __version__,
            "system": self.system.name,
            "settings": self.system.settings(),
            "seed": self.seed,
            "streams": self.streams.tolist(),
            "backend": self.system.choose_backend(self.state.weights),
            "device": self.first_device,
            "threads": torch.get_num_threads(),
            "processor": torch.backends.cpu.get_cpu_capability(),
            "steps": self.state.step,
            "events": [[step, dict(change)] for step, change in self.events],
            "frames": [list(row) for row in self.cadence],
            "weights": hashlib.sha256(b"".join(map(_bytes, last))).hexdigest(),
        }

    def follow(self, events, every: int, until: int) -> Iterator[Frame]:
        """Frames each `every` steps up to step `until`, turning knobs at their steps: events [[step, {knob: value}], …]."""
        return self.drive(events, range(self.state.step + every, until + 1, every), until)

    def drive(self, events, frames: Iterable[int], until: int) -> Iterator[Frame]:
        """Up to step `until`, with a frame at each of the steps `frames` (ascending) and knobs turned at theirs.

        Where both fall on one step the frame comes first, as in a live run. "device" moves the run, "weights" is `put`, and
        "data" has the system learn what it learnt under this key. Raises ValueError for data that it never had.
        """
        frames = iter(frames)
        due = next(frames, until + 1)
        for step, change in [*events, [until, {}]]:
            while due <= step:
                self.advance(due - self.state.step)
                yield self.frame()
                due = next(frames, until + 1)
            self.advance(step - self.state.step)
            change = dict(change)
            if "device" in change:
                self.move(change.pop("device"))
            if "weights" in change:
                self._put_written(change.pop("weights"))
            if "data" in change:
                self.system.recall(change.pop("data"))
            if change:
                self.set(**change)

    def replay(self, log: Mapping) -> Experiment:
        """A new experiment from this one's start, with its system and observables, driven by a log to its last step and frame.

        Raises ValueError for the log of another system.
        """
        if log["settings"] != self.system.settings():
            raise ValueError(f"the log is of another system: {log['settings']}; this one is {self.system.settings()}")
        (_, first), *later = log["events"]
        self.system.recall("")
        again = Experiment(
            self.system,
            seed=log["seed"],
            streams=log["streams"],
            weights=self.start.weights,
            device=self.device,
            observables=self.observables,
            **first,
        )
        for _ in again.drive(later, frame_steps(log["frames"]), log["steps"]):
            pass
        return again

    def record(self) -> xr.Dataset:
        """The frames so far: observables with dims (time, replica), time in steps; NaN where one was not read."""
        if not self.history:
            raise ValueError("there are no frames yet: call frames() or frame() first")
        shapes = {k: v.shape for f in self.history for k, v in f.observables.items()}
        found = {k: [f.observables.get(k, np.full(shape, np.nan)) for f in self.history] for k, shape in shapes.items()}
        data = {k: (("time", "replica"), np.stack(values)) for k, values in found.items()}
        return xr.Dataset(data, coords={"time": [f.step for f in self.history]}, attrs={"seed": self.seed})
