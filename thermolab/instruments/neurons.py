"""What goes into a neuron and what comes out of it: lengths of its weights, and of their gradients over fresh minibatches."""

from __future__ import annotations

import numpy as np
import torch

from thermolab.engine.experiment import Experiment
from thermolab.systems.network import NetworkOnData
from thermolab.systems.teacher_student import weight_matrices

MOMENTS = ("g2_in", "g2_out", "in2", "out2")


def neurons(first: torch.Tensor, second: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Squared lengths [..., h] of what goes into each neuron and of what comes out of it, from [..., h, in] and [..., out, h]."""
    return first.square().sum(-1).cpu().numpy(), second.square().sum(-2).cpu().numpy()


def moments(net: NetworkOnData, weights: torch.Tensor, gradients: list[torch.Tensor]) -> dict[str, np.ndarray]:
    """E|g_u|² and E|g_w|², means over the minibatches of `gradients`, |u|² and |w|² of each neuron [R, h]; see `MOMENTS`."""
    means = [values.mean(0) for values in neurons(*gradients)]
    return dict(zip(MOMENTS, [*means, *neurons(*weight_matrices(net, weights))], strict=True))


def probe(run: Experiment, batches: int) -> list[torch.Tensor]:
    """Gradients [batches, R, out, in] of each layer from fresh minibatches of the run's size at its present weights."""
    batch_size, state = int(run.knobs["batch_size"]), run.state
    return gradients(run.system, state.weights, batches, batch_size, run.seed + 2**33 * (1 + state.step), run.streams)


def gradients(net: NetworkOnData, weights, batches: int, batch_size: int, seed: int, streams) -> list[torch.Tensor]:
    """As `probe`; seed: one that the training does not draw from."""
    g = net.gradients(weights, batches, batch_size, seed, streams)
    return [layer.unflatten(0, g.shape[:2]) for layer in weight_matrices(net, g.flatten(0, 1))]
