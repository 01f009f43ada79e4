"""Networks A and B of the recipes: the settings that several recipes share, their data and views, and their training.

`train`, for the recipes that compare arms: SGD at constant η after a warm-up, in which a deep network finds the weakest singular
value of V (at the full η at once it may never), then a final decay of η to 0, which takes away what fluctuates and leaves the
alignment that was reached: that one moves as η². All arms of a network, its learning rates and weight decays, start from the
same weights and see the same batches. `Training`, for the others, has the final decay alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch

from thermolab.engine import schedules
from thermolab.engine.experiment import Experiment
from thermolab.engine.rules import Count, Positive, Positives, integer, not_negative, positive, several
from thermolab.phenomena.platonic_alignment import theory
from thermolab.systems import embedded_linear
from thermolab.systems.network import NetworkOnData

WARM_UP, DECAY = 0.1, 0.25  # shares of the steps in which η rises, and in which it falls, linearly
START = 0.5  # of the usual Gaussian start: at 0.7 one in ten deep networks diverges at once
STAGES = 200  # in which η is changed

Depth = Annotated[int, integer(2)]  # with one hidden layer or more
Stretch = Annotated[Sequence[float], several(positive(), 2, 2)]


@dataclass(frozen=True)
class Shapes:
    """Trainable matrices, and neurons of each hidden layer, of networks A and B."""

    depth_a: Depth = 3
    depth_b: Depth = 4
    width_a: Count = 8
    width_b: Count = 12

    @property
    def each(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """(depth, width) of A and of B."""
        return (self.depth_a, self.width_a), (self.depth_b, self.width_b)


@dataclass(frozen=True)
class Task:
    """What A and B learn, what each sees of it, and how they start.

    spectrum: singular values of V, not all 0; noise: σ of each answer; inputs: σ of each input (default 1, one input more than
    answers); stretch: singular values of each frozen matrix, from … to; start: of the usual Gaussian start.
    Raises ValueError, one line, where these do not fit each other.
    """

    spectrum: Annotated[Sequence[float], several(not_negative())] = embedded_linear.SPECTRUM
    noise: Positives = embedded_linear.NOISE
    inputs: Positives = None
    stretch: Stretch = embedded_linear.STRETCH
    start: Positive = START

    def __post_init__(self):
        if not any(self.spectrum):
            raise ValueError(f"spectrum={list(self.spectrum)} is 0; allowed: one number above 0 or more")
        if len(self.noise) != len(self.spectrum):
            raise ValueError(
                f"noise={list(self.noise)} has another length; allowed: {len(self.spectrum)} numbers, as spectrum has"
            )
        if len(self.scale) < len(self.spectrum):
            raise ValueError(f"inputs={list(self.inputs)} are too few; allowed: {len(self.spectrum)} or more, as spectrum has")

    @property
    def scale(self) -> np.ndarray:
        """σ [d_x] of each input."""
        return np.ones(len(self.spectrum) + 1) if self.inputs is None else np.asarray(self.inputs, float)

    def target(self, seed: int) -> np.ndarray:
        """V [d_y, d_x]."""
        return embedded_linear.target(self.spectrum, len(self.scale), seed=seed)

    def view(self, seed: int) -> embedded_linear.View:
        """The view of a network."""
        return embedded_linear.view(len(self.scale), len(self.spectrum), stretch=self.stretch, seed=seed)

    def fits(self, **widths: int) -> None:
        """Raises ValueError, one line, for a width that is less than the rank of V."""
        rank = int(np.count_nonzero(self.spectrum))
        for name, width in widths.items():
            if width < rank:
                raise ValueError(f"{name}={width} is too small; allowed: {rank} or more, the rank of V")

    def pace(self, depths: Sequence[int], batch_size: int, eta: float | None, steps: int | None) -> tuple[float, int]:
        """η and steps: those given, else those of `theory.recommended`."""
        known = {"inputs": self.scale, "stretch": self.stretch, "batch_size": batch_size, "eta": eta}
        eta, enough = theory.recommended(depths, self.spectrum, self.noise, **known)
        return eta, enough if steps is None else steps


@dataclass(frozen=True)
class Embedded:
    """A network with its view, the target, what it starts from [1, P], and the seed of its batches."""

    net: NetworkOnData
    view: embedded_linear.View
    weights: torch.Tensor
    seed: int

    @property
    def begin(self) -> list[np.ndarray]:
        """W_1 … W_L at the start."""
        return [m[0].numpy() for m in embedded_linear.matrices(self.net, self.weights)]


def pair(shapes: Shapes, task: Task, seed: int) -> tuple[np.ndarray, list[Embedded]]:
    """V, and networks A and B on the same data, each with a view and a start of its own.

    Raises ValueError, one line, for a width that is too small for V.
    """
    task.fits(width_a=shapes.width_a, width_b=shapes.width_b)
    v, found = task.target(seed), []
    data = embedded_linear.answers(v, task.noise, inputs=task.scale, seed=seed)
    for i, shape in enumerate(shapes.each):
        own = 2 * seed + i
        view = task.view(own)
        net = embedded_linear.network(view, *shape, data)
        found.append(Embedded(net, view, embedded_linear.start(net, [0], own, scale=task.start), own))
    return v, found


def layers(depth_a: int, depth_b: int) -> dict:
    """Coordinates of layer and other: names, the network, and whether the layer is hidden."""
    names = [f"{net}{i}" for net, depth in (("A", depth_a), ("B", depth_b)) for i in range(depth + 1)]
    hidden = [0 < i < depth for depth in (depth_a, depth_b) for i in range(depth + 1)]
    return {"layer": names, "other": names, "of": ("layer", [n[0] for n in names]), "hidden": ("layer", hidden)}


def stages(steps: int, frames: int) -> np.ndarray:
    """Lengths [frames, stages of a frame] of the stages of constant η, together `steps`; no frame is without a step."""
    per_frame = max(1, min(-(-STAGES // frames), steps // frames))
    ends = np.linspace(0, steps, frames * per_frame + 1).round().astype(int)
    return np.diff(ends).reshape(frames, per_frame)


def train(one: Embedded, rates, lams, *, batch_size: int, steps: int, frames: int, device: str) -> torch.Tensor:
    """Weights [frames + 1, R, P] of the arms."""
    arms = len(rates)
    run = Experiment(one.net, eta=rates, lam=lams, batch_size=batch_size, weights=one.weights.repeat(arms, 1),
                     streams=[0] * arms, seed=one.seed, device=device)  # fmt: skip
    found = [run.state.weights.cpu()]
    for lengths in stages(steps, frames):
        for length in lengths.tolist():
            done = (run.state.step + length / 2) / steps
            run.set(eta=rates * min(1, done / WARM_UP, (1 - done) / DECAY))
            run.advance(length)
        found.append(run.state.weights.cpu())
    run.raise_if_diverged()
    return torch.stack(found)


@dataclass(frozen=True)
class Training:
    """SGD whose last quarter of the steps lowers η to 0. start: of the weights, in units of the usual Gaussian start."""

    eta: Positive = 0.02
    batch_size: Count = 8
    steps: Count = 12_000
    start: Positive = START

    def ended(
        self,
        net: NetworkOnData,
        weights: torch.Tensor,
        stream: int,
        *,
        seed: int,
        device: str,
        lam: float = 0.0,
        time: float = 1.0,
    ) -> torch.Tensor:
        """Weights [1, P] in the end, from `weights`. stream: of the batches; time: a factor on the steps."""
        knobs = {"eta": self.eta, "lam": lam, "batch_size": self.batch_size}
        run = Experiment(net, **knobs, streams=[stream], weights=weights, seed=seed, device=device)
        end = max(1, round(time * self.steps))
        for _ in run.drive(schedules.linear_decay(self.eta, end), [end], end):  # the frame tells of divergence
            pass
        return run.state.weights


def features(one: Embedded, weights: torch.Tensor, x: torch.Tensor) -> list[torch.Tensor]:
    """Features [frames, R, n, width] of input view, hidden layers and output of W_L, for weights [frames, R, P]."""
    found = embedded_linear.hidden(one.net, weights.flatten(0, 1), x, ends=True)
    return [h.unflatten(0, weights.shape[:2]) for h in found]


def excess(view: embedded_linear.View, output: torch.Tensor, x: torch.Tensor, v: np.ndarray) -> np.ndarray:
    """Mean of |f - Vx|² over x, for the output of W_L [..., n, d_y]: the loss less that of V itself, if x has exact moments."""
    miss = output @ torch.from_numpy(view.answers.T) - x @ torch.from_numpy(v.T)
    return miss.square().sum(-1).mean(-1).numpy()
