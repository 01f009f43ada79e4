"""Instruments beside a training loop of your own: `watch.step()` after `optimizer.step()`.

From time to time, so seldom that all readings take a tenth of the loop's time at most, it draws fresh batches of its own from the
data, takes their gradients at the present weights and reads the gauges. Model, gradients, buffers, optimiser, loader and random
numbers are left as they were: the trained weights are the same to the bit with and without it.
Limits: batches are drawn alike and with replacement, whatever the loader's order; the gradient is that of the model's present
mode, with its dropout, in its own precision, before clipping; an autocast of the loop is not repeated. A step is taken to see one
batch: of a loop whose steps take the mean of k batches T is k times, and snr 1/√k of, that of its steps.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import xarray as xr
from torch import nn
from torch.utils.data import DataLoader

from thermolab.instruments import gauges, mobility, observables
from thermolab.instruments.hessian import kernels
from thermolab.instruments.noticed import Noticed
from thermolab.instruments.undisturbed import ModuleHessian, flat, slopes, to, undisturbed, without_dropout
from thermolab.systems.loading import map_style
from thermolab.systems.losses import mean_loss

SAVE_AFTER = 30.0  # seconds between two writings of the file
LONGEST = 10.0  # mean times between two steps: a longer pause is none of the loop's
FIRST_LOOK = 4.0  # steps that a batch of the first reading is expected to cost, which warms up


class Watch:
    """Reads a model while a loop trains it.

    model, optimizer: those of the loop. loss_fn: (outputs, targets) -> mean loss of a batch (inputs, targets), or a name of
    `systems.losses`; with batches that are mappings model(**batch) is called and loss_fn gets (its outputs, the batch); None
    takes the outputs' own `loss`. loader: a DataLoader, of which dataset, collate_fn and batch_size count, or a list of batches.
    observe: names of gauges (`instruments.gauges`). budget: share of the loop's time that the readings may take. every: steps
    between readings, in place of the budget. batches: fresh ones for a reading. out: a folder for results.nc, or None; written by
    `save`, at the end of a `with` block, and every half minute meanwhile.
    Raises ValueError, one line, for what cannot be read. Attributes: steps, notes (what it noticed), share (of the loop's time).

    >>> import torch, thermolab as tl
    >>> model = torch.nn.Linear(3, 1)
    >>> optimizer, loss_fn = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), torch.nn.MSELoss()
    >>> samples = torch.utils.data.TensorDataset(torch.randn(64, 3), torch.randn(64, 1))
    >>> loader = torch.utils.data.DataLoader(samples, batch_size=8, shuffle=True)
    >>> watch = tl.Watch(model, optimizer, loss_fn, loader, every=4)
    >>> for x, y in loader:
    ...     optimizer.zero_grad()
    ...     loss_fn(model(x), y).backward()
    ...     optimizer.step()
    ...     watch.step()
    >>> sorted(watch.record().data_vars), watch.notes
    (['T', 'U', 'eta', 'lam', 'r', 'snr'], ['SGD with momentum 0.9 (η 0.1, λ 0)'])
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss_fn: Callable | str | None,
        loader: DataLoader | Sequence,
        *,
        observe: Iterable[str] = ("U", "r", "T", "snr"),
        budget: float = 0.1,
        every: int | None = None,
        batches: int = 6,
        out: str | os.PathLike | None = None,
        seed: int = 0,
    ):
        if not 0 < budget <= 1:
            raise ValueError(f"budget={budget} is no share of the loop's time; allowed: above 0, up to 1")
        if batches < 2 or (every is not None and every < 1):
            raise ValueError(f"batches={batches}, every={every}; allowed: at least 2 batches and 1 step")
        self.model, self.optimizer, self.loss_fn = model, optimizer, loss_fn
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        moved = {id(p) for group in optimizer.param_groups for p in group["params"]}
        if not any(id(p) in moved for p in self.parameters):
            raise ValueError("the optimizer moves no parameter of the model; make it with model.parameters()")
        self.draw = _Draw(loader, seed)
        self.names = gauges.check(observe, {"accuracy": "a Watch knows no classes"} | gauges.refusal_of_pairs(model))
        self.budget, self.every, self.batches, self.out = budget, every, batches, out
        self.steps, self.loop_seconds, self.own_seconds = 0, 0.0, 0.0
        self.rows: list[dict] = []
        self._noticed, self._stopped = Noticed(optimizer), False
        self._memory: dict = {}
        self._cost: float | None = None  # of the last reading, in seconds
        self._left: float | None = None  # when `step` was left
        self._saved = time.perf_counter()

    @property
    def notes(self) -> list[str]:
        """What was noticed of the loop: optimiser, schedules, clipping, dropout."""
        return self._noticed.notes

    def add_note(self, note: str) -> None:
        """Something about the loop that whoever drives it knows, and a Watch cannot see."""
        self._noticed.add(note)

    @property
    def share(self) -> float:
        """Time of the readings over time of the loop so far."""
        return self.own_seconds / self.loop_seconds if self.loop_seconds else 0.0

    def step(self) -> None:
        """Count a step of the loop, and read the gauges if it is time. To be called after `optimizer.step()`."""
        began = time.perf_counter()
        if self._left is not None:
            passed, mean = began - self._left, self.loop_seconds / max(1, self.steps - 1)
            self.loop_seconds += min(passed, LONGEST * mean) if self.steps > 20 else passed
        self.steps += 1
        if not self._stopped:
            self._noticed.see(self.parameters, self.steps)
            if self._due():
                self._look()
        self._left = time.perf_counter()
        self.own_seconds += self._left - began

    def _due(self) -> bool:
        if self.every is not None:
            return self.steps % self.every == 0
        expected = self._cost
        if expected is None:
            expected = FIRST_LOOK * self.batches * self.loop_seconds / max(1, self.steps - 1)
        return self.steps > 1 and self.own_seconds + expected <= self.budget * self.loop_seconds

    def _look(self) -> None:
        began = time.perf_counter()
        try:
            with undisturbed(self.model), torch.enable_grad():
                probe = _ModelProbe(self)
                found = {k: float(np.ravel(np.asarray(v, float))[0]) for k, v in gauges.read(probe, self.names).items()}
            self._noticed.look(self.model)
            self._noticed.compare(probe.lengths)
        except Exception as error:  # the loop is more important than what watches it
            self._stopped, line = True, _line(error)
            self._noticed.add(f"stopped reading at step {self.steps}: {line}")
            warnings.warn(f"the Watch stopped at step {self.steps}, training goes on: {line}", RuntimeWarning, stacklevel=3)
            return
        rates = mobility.rates(self.optimizer)
        self.rows.append({"step": self.steps, "eta": rates.eta, "lam": rates.lam, **found})
        self._cost = time.perf_counter() - began
        if self.out is not None and time.perf_counter() - self._saved > SAVE_AFTER:
            try:
                self.save()
            except Exception as error:  # a full disk, say: the next reading tries again
                self._saved, note = time.perf_counter(), f"results.nc could not be written: {_line(error)}"
                if note not in self.notes:
                    self._noticed.add(note)
                    warnings.warn(f"{note}; training goes on", RuntimeWarning, stacklevel=3)

    def record(self) -> xr.Dataset:
        """The readings so far: variables with dims (time, replica), one replica, and eta and lam of each group (time, group)."""
        if not self.rows:
            raise ValueError(f"there are no readings after {self.steps} steps; train longer, or set every=")
        variables = [k for k in self.rows[-1] if k not in ("step", "eta", "lam")]
        data: dict = {k: (("time", "replica"), [[row.get(k, np.nan)] for row in self.rows]) for k in variables}
        most = max(len(row["eta"]) for row in self.rows)  # a loop may add groups
        for k in ("eta", "lam"):
            data[k] = ("time", "group"), np.array([row[k] + [np.nan] * (most - len(row[k])) for row in self.rows], float)
        attrs = {"notes": "; ".join(self.notes), "share": self.share, "batch_size": self.draw.batch_size}
        return xr.Dataset(data, {"time": [row["step"] for row in self.rows]}, attrs)

    def save(self) -> Path:
        """Write results.nc into the folder `out`, whole or not at all; returns its path. Raises ValueError without a folder."""
        if self.out is None:
            raise ValueError("this Watch has no folder; make it with out='results'")
        path = Path(self.out, "results.nc")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".results.{os.getpid()}.nc")
        try:
            self.record().to_netcdf(temporary, engine="h5netcdf")
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        self._saved = time.perf_counter()
        return path

    def state_dict(self) -> dict:
        """What goes into a checkpoint beside the model and the optimiser: plain values and a tensor."""
        seconds = {"loop": self.loop_seconds, "own": self.own_seconds, "cost": self._cost}
        return {
            "steps": self.steps,
            "seconds": seconds,
            "rows": [dict(row) for row in self.rows],
            "notes": list(self.notes),
            "generator": self.draw.generator.get_state(),
        }

    def load_state_dict(self, state: Mapping) -> None:
        """Go on where a `state_dict` was taken; the window of S and the vector of the sharpness begin anew."""
        self.steps, self.rows = int(state["steps"]), [dict(row) for row in state["rows"]]
        seconds = state["seconds"]
        self.loop_seconds, self.own_seconds, self._cost = seconds["loop"], seconds["own"], seconds["cost"]
        for note in state["notes"]:
            self._noticed.add(note)
        self.draw.generator.set_state(state["generator"])
        self._left, self._memory = None, {}

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *error) -> None:
        """Write the file, if there is a folder and something to write."""
        if self.out is not None and self.rows:
            self.save()

    def loss(self, batch) -> torch.Tensor:
        """Mean loss of a batch at the model's present weights, on its device. Raises ValueError for what has no loss."""
        batch = to(batch, self.parameters[0].device)
        if isinstance(batch, Mapping):
            outputs, targets = self.model(**batch), batch
        elif isinstance(batch, tuple | list) and len(batch) == 2:
            outputs, targets = self.model(batch[0]), batch[1]
        else:
            raise ValueError(f"a batch is a {type(batch).__name__}; allowed: (inputs, targets), or a mapping for model(**batch)")
        if self.loss_fn is not None:
            return mean_loss(self.loss_fn, outputs, targets)
        found = outputs.get("loss") if isinstance(outputs, Mapping) else getattr(outputs, "loss", None)
        if found is None:
            raise ValueError("the outputs have no loss of their own; allowed: a loss_fn (outputs, targets) -> mean loss")
        return found


class _Draw:
    """Fresh batches from the data of a loader, without the loader: by numbers from a generator of its own."""

    def __init__(self, loader, seed: int):
        self.generator = torch.Generator().manual_seed(seed)
        self.dataset, self.collate, self.batch_size, self.batched = None, None, 1, False  # batched: its samples are batches
        if isinstance(loader, DataLoader):
            self.dataset, self.batch_size = map_style(loader), loader.batch_size or getattr(loader.batch_sampler, "batch_size", 1)
            self.collate, self.batched = loader.collate_fn, loader.batch_sampler is None
            if self.dataset is None:
                raise ValueError(
                    "a stream would be read away from the loop; allowed: a dataset with a length, or a list of batches"
                )
            self.n = len(self.dataset)
        elif isinstance(loader, Sequence) and not isinstance(loader, str):
            self.list, self.n = loader, len(loader)
        else:
            raise ValueError(f"loader is a {type(loader).__name__}; allowed: a DataLoader, or a list of batches")
        if not self.n:
            raise ValueError("the loader is empty; allowed: at least one sample")

    def __call__(self):
        """One batch, drawn with replacement."""
        if self.dataset is None:
            return self.list[int(torch.randint(self.n, (1,), generator=self.generator))]
        size = 1 if self.batched else self.batch_size
        return self._take(torch.randint(self.n, (size,), generator=self.generator).tolist())

    def first(self, samples: int) -> list:
        """The first samples in blocks of a batch, always the same: the first batches of a list."""
        if self.dataset is None:
            return list(self.list[:4])
        if self.batched:
            return [self._take([i]) for i in range(min(4, self.n))]
        n = min(samples, self.n)
        return [self._take(range(i, min(n, i + self.batch_size))) for i in range(0, n, self.batch_size)]

    def _take(self, numbers):
        samples = [self.dataset[i] for i in numbers]
        return self.collate(samples[0] if self.batched else samples)


class _ModelProbe:
    """A `gauges.Probe` of a plain module in the middle of its training: one replica."""

    def __init__(self, watch: Watch):
        self.watch, self.parameters = watch, watch.parameters
        self.lengths: list[tuple[float, float]] = []  # |g| and max|g_i| of the fresh batches

    @cached_property
    def _read(self):
        moments, losses = gauges.Moments(), []
        for _ in range(self.watch.batches):
            loss = self.watch.loss(self.watch.draw())
            gradient = flat(slopes(loss, self.parameters))
            moments.add(gradient[None])
            losses.append(loss.detach())
            self.lengths.append((float(torch.linalg.vector_norm(gradient)), float(gradient.abs().max())))
        return moments, float(torch.stack(losses).double().mean())

    @property
    def moments(self) -> gauges.Moments:
        return self._read[0]

    def energy(self) -> dict:
        return {"U": self._read[1]}

    @cached_property
    def mobility(self) -> torch.Tensor:
        return mobility.of_optimizer(self.watch.optimizer, self.parameters)[None]

    @property
    def dimension(self) -> int:
        return max(1, int((self.mobility != 0).sum()))

    @property
    def radius(self) -> np.ndarray:
        return np.array([float(torch.linalg.vector_norm(flat(self.parameters).double()))])

    @property
    def module(self) -> nn.Module:
        return self.watch.model

    def kept(self, name: str, make: Callable):
        if name not in self.watch._memory:
            self.watch._memory[name] = make()
        return self.watch._memory[name]

    def entropy(self):
        weights = flat(self.parameters)[None]
        eta = torch.tensor([max(mobility.rates(self.watch.optimizer).eta)])
        found = self.kept("S", lambda: observables.PathEntropy(of="direction"))
        return found(None, SimpleNamespace(weights=weights, step=self.watch.steps), {"eta": eta})["S"]

    def sharpness(self) -> dict:
        blocks = self.kept("blocks", lambda: self.watch.draw.first(gauges.SAMPLES))
        with self._curved(blocks) as hessian:
            found = gauges.follow(hessian, self.kept("vectors", dict), 0, self.watch.steps)
        return dict(zip(("lambda_max", "lambda_max_error"), found, strict=True))

    def accuracy(self) -> float:
        raise NotImplementedError("a Watch knows no classes: its names are checked before")

    def batch_sharpness(self) -> float:
        found = []
        for _ in range(self.watch.batches):
            with self._curved([self.watch.draw()]) as hessian:
                g = hessian.gradient / torch.linalg.vector_norm(hessian.gradient)
                found.append(float(g @ hessian(g)))
        return float(np.mean(found))

    @contextmanager
    def _curved(self, blocks: list) -> Iterator[ModuleHessian]:
        """The Hessian of the loss of these blocks, without dropout, and exact where the model has a second derivative."""
        model = self.watch.model
        with without_dropout(model), kernels(model, self.parameters[0].is_cuda):
            hessian = ModuleHessian(self.parameters, lambda block: (self.watch.loss(block), _size(block)), blocks)
            hessian.exact = self.kept("exact", hessian.is_symmetric)
            yield hessian


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _size(batch) -> int:
    first = next(iter(batch.values())) if isinstance(batch, Mapping) else batch[0]
    return len(first)
