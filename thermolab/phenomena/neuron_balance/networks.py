"""Networks of two layers on their way to balance, with ReLU, tanh or nothing between them.

All runs are SGD on `teacher_student.student`. A network starts where it computes what its teacher does, each neuron rescaled by a
factor of its own: L is at its least from the first step on, and what moves is balance alone. Source: documents 2 and 4.
"""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr

from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import Jobs, Recipe, seeds
from thermolab.instruments import neurons
from thermolab.phenomena.common import validate
from thermolab.systems import teacher_student

ARMS = ((0.02, 8), (0.02, 16), (0.01, 4), (0.01, 8))  # (η, B)


@Recipe
def relu(
    arms=ARMS,
    *,
    activation: str = "relu",
    d_x: int = 5,
    width: int = 4,
    d_y: int = 4,
    sigma: float = 1.0,
    strength: float = 2.0,
    spread: float = 0.7,
    span: float = 1.0,
    logs: int = 20,
    moments: int = 5,
    batches: int = 8,
    copies: int = 4,
    lams=(0.0,),
    seed: int = 0,
    n_seeds: int = 5,
    device: str = "cpu",
):
    """A two-layer network that starts at its teacher's function with every neuron out of balance by a factor of its own.

    arms: pairs (η, B); activation: "relu", "tanh" or "linear"; sigma: noise of the answers; strength: |u| |w| of a neuron;
    spread: u is divided by e^s and w multiplied, s = ±spread with a random sign; span: η² t/B at the end; logs: intervals of
    equal length, within each of which gradients are probed at `moments` moments with `batches` fresh minibatches; copies:
    starts of each seed; lams: weight decays, each with all arms.

    Returns a Dataset, dims (arm, time, seed, copy, neuron), arm counting (η, B, λ) with coordinates eta, batch_size and lam:
    g2_in = E|g_u|², g2_out = E|g_w|² of minibatches, in2 = |u|², out2 = |w|², means over the interval that ends at `time`,
    which is η² t/B; the first, at 0, is the start. Gradients of a neuron that never fires are 0.
    Raises ValueError for settings that are out of range. Source: document 4, part 2.
    """
    arms = [(float(eta), int(b), float(lam)) for lam in lams for eta, b in arms]
    validate.counts(d_x=d_x, width=width, d_y=d_y, logs=logs, moments=moments, batches=batches, copies=copies, n_seeds=n_seeds)
    validate.positive(span=span, strength=strength, eta=min(a[0] for a in arms), batch_size=min(a[1] for a in arms))
    if activation not in teacher_student.ACTIVATIONS:
        raise ValueError(f"activation={activation!r} is unknown; allowed: {', '.join(teacher_student.ACTIVATIONS)}")
    if min(lams) < 0 or sigma < 0 or spread < 0:
        raise ValueError(f"lams={lams}, sigma={sigma}, spread={spread} must not be negative")
    common = {"arms": arms, "activation": activation, "sizes": (d_x, width, d_y), "sigma": sigma, "strength": strength,
              "spread": spread, "span": span, "logs": logs, "moments": moments, "batches": batches, "copies": copies,
              "device": str(device)}  # fmt: skip
    numbers = seeds(seed, n_seeds)
    parts = yield Jobs(_trajectories, [common | {"seed": s} for s in numbers], f"{activation} networks on their way to balance")
    dims = ("arm", "time", "seed", "copy", "neuron")
    values = {k: (dims, np.stack([p[k] for p in parts], 2)) for k in parts[0]}
    eta, batch_size, lam = (("arm", [a[k] for a in arms]) for k in range(3))
    return xr.Dataset(
        values,
        coords={"time": np.linspace(0, span, logs + 1), "seed": numbers, "eta": eta, "batch_size": batch_size, "lam": lam},
    )


def _trajectories(
    *, arms, activation, sizes, sigma, strength, spread, span, logs, moments, batches, copies, seed, device
) -> dict[str, np.ndarray]:
    """Values [arm, time, copy, neuron]."""
    net, start = off_balance(sizes, activation, sigma=sigma, strength=strength, spread=spread, copies=copies, seed=seed)
    rows = []
    for eta, batch_size, lam in arms:
        run = Experiment(net, eta=eta, lam=lam, batch_size=batch_size, weights=start, seed=seed, device=device)
        row, every = [_look(run, batches)], max(1, round(span * batch_size / eta**2 / logs / moments))
        for _ in range(logs):
            seen = []
            for _ in range(moments):
                run.advance(every)
                seen.append(_look(run, batches))
            run.frame()  # tells of divergence
            row.append(np.mean(seen, 0))
        rows.append(row)
    return dict(zip(("g2_in", "g2_out", "in2", "out2"), np.moveaxis(np.array(rows), 2, 0), strict=True))


def _look(run: Experiment, batches: int) -> np.ndarray:
    """E|g_u|², E|g_w|², |u|², |w|² of each neuron, [4, R, h]."""
    g = neurons.neurons(*neurons.probe(run, batches))
    return np.stack([*(m.mean(0) for m in g), *neurons.neurons(*teacher_student.weight_matrices(run.system, run.state.weights))])


def off_balance(
    sizes, activation: str, *, sigma: float, strength: float, spread: float, copies: int, seed: int, tilt: float = 1.0
):
    """The student of a random teacher, and weights [copies, P] that compute the same (if ReLU), each neuron rescaled.

    |w| is multiplied by tilt e^s and |u| divided by it, s = ±spread, with a random sign for each neuron.
    """
    d_x, width, d_y = sizes
    master = teacher_student.teacher(d_x, width, d_y, activation, strength=strength, seed=seed)

    def answer(x):
        with torch.no_grad():
            return master(torch.tensor(x, dtype=torch.float32)).double().numpy()

    net = teacher_student.student(sizes, answer, activation, [sigma] * d_y, seed=seed)
    weights = torch.cat([p.detach().flatten() for p in master.parameters()]).repeat(copies, 1)
    by = tilt * np.exp(np.random.default_rng([seed, 7]).choice([-spread, spread], (copies, width)))
    by = torch.tensor(by, dtype=torch.float32)
    for name, view in net.replicas.views(weights).items():
        if view.shape[1] == width and name.startswith("0"):
            view.div_(by[..., None] if view.dim() == 3 else by)
        else:
            view.mul_(by[:, None])
    return net, weights


def log_ratio(data: xr.Dataset) -> xr.DataArray:
    """log E|g_w|²/E|g_u|² of each neuron, the moments averaged first over what was averaged in `data`."""
    return np.log(data["g2_out"] / data["g2_in"])


def by_activation(arms=ARMS, **settings) -> dict:
    """`relu`, and the same with tanh at the first of the arms, to be awaited `together`."""
    return {"relu": relu(arms, **settings), "tanh": relu(arms[:1], activation="tanh", **settings)}


def decayed(lams=(0.0, 0.02, 0.06), *, eta: float = 0.04, batch_size: int = 8, **settings):
    """`relu` under weight decay, with more inputs than outputs, so that |u| and |w| differ in balance."""
    wide = {"d_x": 8, "width": 3, "d_y": 3, "span": 4.0, "moments": 12, "copies": 8}
    return relu(((eta, batch_size),), lams=lams, **(wide | settings))
