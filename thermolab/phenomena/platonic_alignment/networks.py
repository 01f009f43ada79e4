"""Networks A and B of the recipes: their settings, their data and views, and their training.

SGD at constant η after a warm-up, in which a deep network finds the weakest singular value of V (at the full η at once it may
never), then a final decay of η to 0, which takes away what fluctuates and leaves the alignment that was reached: that one moves
as η². All arms of a network, its learning rates and weight decays, start from the same weights and see the same batches.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from thermolab.engine.experiment import Experiment
from thermolab.phenomena.common import validate
from thermolab.phenomena.platonic_alignment import theory
from thermolab.systems import embedded_linear
from thermolab.systems.network import NetworkOnData

WARM_UP, DECAY = 0.1, 0.25  # shares of the steps in which η rises, and in which it falls, linearly
START = 0.5  # of the usual Gaussian start: at 0.7 one in ten deep networks diverges at once
STAGES = 200  # in which η is changed


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


def pair(shapes, spectrum, noise, inputs, stretch, start, seed) -> tuple[np.ndarray, list[Embedded]]:
    """V, and networks A and B of these (depth, width) on the same data, each with a view and a start of its own."""
    v = embedded_linear.target(spectrum, len(inputs), seed=seed)
    data = embedded_linear.answers(v, noise, inputs=inputs, seed=seed)
    found = []
    for i, (depth, width) in enumerate(shapes):
        own = 2 * seed + i
        view = embedded_linear.view(len(inputs), len(spectrum), stretch=stretch, seed=own)
        net = embedded_linear.network(view, depth, width, data)
        found.append(Embedded(net, view, embedded_linear.start(net, [0], own, scale=start), own))
    return v, found


def checked(depth_a, depth_b, width_a, width_b, eta, batch_size, steps, spectrum, noise, inputs, stretch, start, n_seeds) -> dict:
    """The settings that all runs share, or a ValueError."""
    validate.counts(depth_a=depth_a, depth_b=depth_b, width_a=width_a, width_b=width_b, batch_size=batch_size, n_seeds=n_seeds)
    validate.counts(**({} if steps is None else {"steps": steps}))
    validate.positive(start=start, stretch=min(stretch), noise=min(noise), **({} if eta is None else {"eta": eta}))
    inputs = np.ones(len(spectrum) + 1) if inputs is None else np.asarray(inputs, float)
    validate.positive(inputs=inputs.min())
    if min(depth_a, depth_b) < 2:
        raise ValueError(f"depths {depth_a} and {depth_b} are not allowed; allowed: 2 or more, for one hidden layer")
    if min(spectrum) < 0 or max(spectrum) <= 0 or not np.isfinite(spectrum).all():
        raise ValueError(f"spectrum={tuple(spectrum)} is not allowed; allowed: numbers of 0 or more, not all 0")
    if len(noise) != len(spectrum) or len(inputs) < len(spectrum):
        raise ValueError(f"{len(noise)} noises, {len(spectrum)} singular values, {len(inputs)} inputs; allowed: n, n, n or more")
    rank = int(np.count_nonzero(spectrum))
    if min(width_a, width_b) < rank:
        raise ValueError(f"widths {width_a} and {width_b} are too small; allowed: {rank} or more, the rank of V")
    known = {"inputs": inputs, "stretch": stretch, "batch_size": batch_size, "eta": eta}
    eta, enough = theory.recommended((depth_a, depth_b), spectrum, noise, **known)
    steps = enough if steps is None else steps
    return {"shapes": ((depth_a, width_a), (depth_b, width_b)), "eta": eta, "batch_size": batch_size, "steps": steps,
            "spectrum": tuple(spectrum), "noise": tuple(noise), "inputs": inputs, "stretch": tuple(stretch),
            "start": start}  # fmt: skip


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


def train(one: Embedded, rates, lams, *, batch_size, steps, frames, device) -> torch.Tensor:
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
    run.frame()  # tells of divergence
    return torch.stack(found)


def features(one: Embedded, weights: torch.Tensor, x: torch.Tensor) -> list[torch.Tensor]:
    """Features [frames, R, n, width] of input view, hidden layers and output of W_L, for weights [frames, R, P]."""
    found = embedded_linear.hidden(one.net, weights.flatten(0, 1), x, ends=True)
    return [h.unflatten(0, weights.shape[:2]) for h in found]


def excess(one: Embedded, output: torch.Tensor, x: torch.Tensor, v: np.ndarray) -> np.ndarray:
    """Mean of |f - Vx|² over x, for the output of W_L [..., n, d_y]: the loss less that of V itself, if x has exact moments."""
    miss = output @ torch.from_numpy(one.view.answers.T) - x @ torch.from_numpy(v.T)
    return miss.square().sum(-1).mean(-1).numpy()
