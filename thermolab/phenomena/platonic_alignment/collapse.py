"""Class labels as a special case: where all hidden layers align, they align with the labels, which is neural collapse.

The images of C classes are C points with Gaussian scatter in directions that no label depends on; networks A and B see them
through views of their own, in which classes and scatter are mixed. A share of the labels is drawn anew. Then V x is the mean
label of x's class, Σ_x^½ Vᵀ Σ_ε V Σ_x^½ is the same in all C - 1 directions of the classes and 0 in those of the scatter, and

    G ∝ VᵀV,    hᵀh' ∝ y(x)ᵀy(x')    with centred one-hot labels y:

the features have no scatter within a class (NC1) and class means at the corners of a simplex (NC2) in all hidden layers
(Papyan, Han & Donoho, arXiv:2008.08186, who find it in the last one). For regression on the same points, with targets in
general position, the same theory gives another G: no scatter, but no simplex either. The CKA of a layer with the labels is 1
for NC1 and NC2 together.
Source: document 4, part 3, "NC is a special case". Limit: linear networks, classes that a linear network tells apart.
"""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr

from thermolab.engine import schedules
from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import Jobs, Recipe, seeds
from thermolab.instruments import alignment
from thermolab.phenomena.common import validate
from thermolab.phenomena.platonic_alignment import networks
from thermolab.systems import embedded_linear
from thermolab.systems.regression import N_DATA, Answers

TARGETS = ("labels", "regression")
SPREAD = (0.4, 1.6)  # singular values of the matrix that makes targets in general position of labels
PROBES = 200  # images of each class


@Recipe
def collapse(
    shares=(0.3, 0.0),
    *,
    classes: int = 5,
    scatter: int = 2,
    depth_a: int = 3,
    width_a: int = 8,
    depth_b: int = 4,
    width_b: int = 12,
    eta: float = 0.02,
    batch_size: int = 8,
    steps: int = 12_000,
    start: float = networks.START,
    seed: int = 0,
    n_seeds: int = 5,
    device: str = "cpu",
):
    """Two embedded deep linear networks learn classes, or targets in general position in place of the labels.

    shares: of the labels that are drawn anew, uniformly over the classes; scatter: directions in which the images of a class
    differ, with the variance that the class means have in each of theirs; depth, width, steps, start: as for `breaking.pairs`.

    Returns a Dataset, dims (target, share, seed, layer), layer "A1" … of all hidden layers: labels, CKA with the one-hot
    labels; nc1, the variance of features within classes over that between; nc2, the distance of the class means' Gram matrix
    from that of a simplex, both divided by their norm. Raises ValueError for settings that are out of range.
    """
    validate.counts(scatter=scatter, depth=min(depth_a, depth_b) - 1, batch_size=batch_size, steps=steps, n_seeds=n_seeds)
    validate.positive(eta=eta, start=start)
    if classes < 2 or min(width_a, width_b) < classes - 1:
        raise ValueError(
            f"classes={classes}, widths {width_a}, {width_b}; allowed: 2 classes or more, width of classes - 1 or more"
        )
    if not 0 <= min(shares) <= max(shares) < 1:
        raise ValueError(f"shares={tuple(shares)}; allowed: 0 to below 1")
    shapes = ((depth_a, width_a), (depth_b, width_b))
    common = {"shapes": shapes, "classes": classes, "scatter": scatter, "eta": eta, "batch_size": batch_size, "steps": steps,
              "start": start, "device": str(device)}  # fmt: skip
    numbers = seeds(seed, n_seeds)
    arms = [(target, share) for target in TARGETS for share in shares]
    jobs = [common | {"target": target, "share": share, "seed": s} for target, share in arms for s in numbers]
    parts = yield Jobs(_train, jobs, "classes and regression")
    found = np.reshape(parts, (len(TARGETS), len(shares), n_seeds, -1, 3))
    layers = [f"{net}{i}" for net, (depth, _) in zip("AB", shapes, strict=True) for i in range(1, depth)]
    coords = {"target": list(TARGETS), "share": list(shares), "seed": numbers, "layer": layers}
    return xr.Dataset({k: (tuple(coords), found[..., i]) for i, k in enumerate(("labels", "nc1", "nc2"))}, coords=coords)


def task(
    target: str, share: float, *, classes: int = 5, scatter: int = 2, n_data: int = N_DATA, seed: int = 0
) -> tuple[Answers, np.ndarray]:
    """Inputs x [N, classes - 1 + scatter] of covariance near 1 and answers y [N, classes], and the classes [N] of the images.

    The answers are centred one-hot labels, times √classes, or the same times a random matrix; a share of them is drawn anew.
    """
    rng = np.random.default_rng([seed, 8])
    truth = np.arange(n_data - n_data % classes) % classes
    corners = np.sqrt(classes) * (np.eye(classes) - 1 / classes)
    axes = np.linalg.svd(corners)[0][:, : classes - 1]
    spread = rng.standard_normal((len(truth), scatter))
    x = np.concatenate([np.sqrt(classes) * axes[truth], spread - spread.mean(0)], 1)
    said = np.where(rng.random(len(truth)) < share, rng.integers(classes, size=len(truth)), truth)
    if target == "regression":
        corners = corners @ embedded_linear.view(classes, classes, stretch=SPREAD, seed=seed + 2**33).answers.T
    return Answers(*(torch.tensor(a, dtype=torch.float32) for a in (x, corners[said]))), truth


def _train(*, target, share, shapes, classes, scatter, eta, batch_size, steps, start, seed, device) -> list[tuple]:
    """(labels, nc1, nc2) of each hidden layer of A, then of B."""
    learnt, truth = task(target, share, classes=classes, scatter=scatter, seed=seed)
    rows = []
    for which, shape in enumerate(shapes):
        net = embedded_linear.network(embedded_linear.view(learnt.x.shape[1], classes, seed=2 * seed + which), *shape, learnt)
        weights = embedded_linear.start(net, [which], seed, scale=start)
        run = Experiment(net, eta=eta, batch_size=batch_size, streams=[which], weights=weights, seed=seed, device=device)
        for _ in run.drive(schedules.linear_decay(eta, steps), [steps], steps):
            pass
        layers = embedded_linear.hidden(net, run.state.weights, net.data.x[: PROBES * classes])
        rows += [collapsed(h[0].cpu().numpy(), truth[: PROBES * classes]) for h in layers]
    return rows


def collapsed(features: np.ndarray, truth: np.ndarray) -> tuple[float, float, float]:
    """CKA of features [n, width] with the one-hot labels of truth [n]; NC1; NC2. Classes of equal size."""
    classes = truth.max() + 1
    means = np.stack([features[truth == k].mean(0) for k in range(classes)])
    within = ((features - means[truth]) ** 2).sum() / len(features)
    centred = means - means.mean(0)
    gram, simplex = centred @ centred.T, np.eye(classes) - 1 / classes
    apart = np.linalg.norm(gram / np.linalg.norm(gram) - simplex / np.linalg.norm(simplex))
    return alignment.cka(features, np.eye(classes)[truth]), within / (np.trace(gram) / classes), apart
