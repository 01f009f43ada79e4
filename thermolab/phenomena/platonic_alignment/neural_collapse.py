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

The tolerance is that of `breaking`, APART: less is the kernel of the labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
import xarray as xr

from thermolab.claims import Decision, decides, few_seeds, with_control
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, choice, integer, number, several
from thermolab.instruments import alignment
from thermolab.phenomena.platonic_alignment import networks
from thermolab.phenomena.platonic_alignment.breaking import APART
from thermolab.systems import embedded_linear
from thermolab.systems.regression import N_DATA, Answers

TARGETS = ("labels", "regression")
SPREAD = (0.4, 1.6)  # singular values of the matrix that makes targets in general position of labels
PROBES = 200  # images of each class


@recipe("classes and regression", dims=("target", "share", "seed", "layer"), over={"targets": "target", "shares": "share"})
def neural_collapse(
    shares: Annotated[Sequence[float], several(number(0, 0.99))] = (0.3, 0.0),
    *,
    shapes: networks.Shapes,
    training: networks.Training,
    targets: Annotated[Sequence[str], several(choice(*TARGETS))] = TARGETS,
    classes: Annotated[int, integer(2)] = 5,
    scatter: Count = 2,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """Two embedded deep linear networks learn classes, or targets in general position in place of the labels.

    shares: of the labels that are drawn anew, uniformly over the classes; scatter: directions in which the images of a class
    differ, with the variance that the class means have in each of theirs; the rest as in `breaking.pairs`.

    Returns a Dataset, dims (target, share, seed, layer), layer "A1" … of all hidden layers: labels, CKA with the one-hot
    labels; nc1, the variance of features within classes over that between; nc2, the distance of the class means' Gram matrix
    from that of a simplex, both divided by their norm. Raises ValueError for settings that are out of range.
    """
    for name, width in (("width_a", shapes.width_a), ("width_b", shapes.width_b)):
        if width < classes - 1:
            raise ValueError(f"{name}={width} is too small; allowed: classes - 1 = {classes - 1} or more")
    (target,), (share,) = targets, shares
    learnt, truth = task(target, share, classes=classes, scatter=scatter, seed=seed)
    rows = []
    for which, shape in enumerate(shapes.each):
        net = embedded_linear.network(embedded_linear.view(learnt.x.shape[1], classes, seed=2 * seed + which), *shape, learnt)
        begin = embedded_linear.start(net, [which], seed, scale=training.start)
        weights = training.ended(net, begin, which, seed=seed, device=device)
        layers = embedded_linear.hidden(net, weights, net.data.x[: PROBES * classes])
        rows += [collapsed(h[0].cpu().numpy(), truth[: PROBES * classes]) for h in layers]
    names = [f"{net}{i}" for net, (depth, _) in zip("AB", shapes.each, strict=True) for i in range(1, depth)]
    found = {k: ("layer", list(column)) for k, column in zip(("labels", "nc1", "nc2"), zip(*rows, strict=True), strict=True)}
    return xr.Dataset(found, coords={"layer": names}).expand_dims(target=[target], share=[share])


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


def collapsed(features: np.ndarray, truth: np.ndarray) -> tuple[float, float, float]:
    """CKA of features [n, width] with the one-hot labels of truth [n]; NC1; NC2. Classes of equal size."""
    classes = truth.max() + 1
    means = np.stack([features[truth == k].mean(0) for k in range(classes)])
    within = ((features - means[truth]) ** 2).sum() / len(features)
    centred = means - means.mean(0)
    gram, simplex = centred @ centred.T, np.eye(classes) - 1 / classes
    apart = np.linalg.norm(gram / np.linalg.norm(gram) - simplex / np.linalg.norm(simplex))
    return alignment.cka(features, np.eye(classes)[truth]), within / (np.trace(gram) / classes), apart


@decides("platonic.neural-collapse", reads=["shares", "classes", "scatter", "steps", "start"], data="classes")
def kernel_of_the_labels(data: xr.Dataset) -> Decision:
    """CKA of the hidden layers with the labels, mean over layers; control: with targets in general position.

    So they have the kernel of the labels: nothing but the class, and all classes equally far from one another."""
    cka = data["labels"].sel(share=float(np.max(data["share"]))).mean("layer", skipna=False)
    measured, control = (few_seeds(cka.sel(target=name)) for name in ("labels", "regression"))
    return with_control(measured, control, APART, "regression with targets in general position", 1.0, "above")
