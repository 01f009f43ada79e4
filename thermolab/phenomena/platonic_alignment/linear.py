"""Two embedded deep linear networks, A and B, trained on the same data: do their hidden layers come to share one kernel?

The training is that of `networks`. What needs no training, or no noise, stands beside it (`descent`): descent on the loss, an
invertible matrix between two layers, and a setting without views, in which alignment proves nothing. Source: document 4, part 3.

Tolerances stand here once and do not move with the data. ALIGNED: a CKA of 0.99 of the worst pair, which the register asks for.
BROKEN: 0.9, above which document 2 calls representations aligned. SAME: the distance |K - K'|/√(|K||K'|) that a CKA of 0.99
leaves between kernels of equal size, √(2 · 0.01) = 0.14. LOSS: an invertible matrix and its inverse change the loss by rounding
alone, 1e-6; else there is no number.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
import xarray as xr

from thermolab.claims import Decision, Estimate, decides, few_seeds, with_control
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, Positive, Positives, not_negative, several
from thermolab.instruments import alignment
from thermolab.phenomena.common import linear_theory
from thermolab.phenomena.platonic_alignment import descent, networks, theory
from thermolab.phenomena.platonic_alignment.tables import between, final, inside
from thermolab.systems import embedded_linear

ALIGNED, BROKEN, SAME, LOSS = 0.99, 0.9, math.sqrt(2 * 0.01), 1e-6
MEDIAN = math.sqrt(math.pi / 2)  # the error of a median of normal numbers in units of that of their mean
PROBES = 64  # inputs; they have the exact moments, so that CKA is that of infinitely many
SAMPLES, SHUFFLES = 400, 5  # independent inputs for the debiased CKA, and shuffled pairs for the null


@recipe("linear networks", dims=("arm", "time", "kind", "view", "seed", "shuffle", "layer", "other", "net"))
def linear(
    shapes: networks.Shapes,
    task: networks.Task,
    *,
    eta: Positive = None,
    factors: Positives = (1.0, 0.1, 0.01),
    lams: Annotated[Sequence[float], several(not_negative(), 0)] = (),
    batch_size: Count = 16,
    steps: Count = None,
    frames: Count = 16,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """Alignment of all layers of A and B during training, for several η, for weight decay, and for what does without noise.

    eta, steps: default `theory.recommended`; factors: of η, an arm each at λ = 0; lams: λ of further arms, at the first of
    the η; frames: CKA so often, evenly spaced, and at the start.

    Returns a Dataset. arm: with coordinates eta, lam. layer, other: input view, hidden layers and output of W_L, of A then B,
    with coordinates of, the network, and hidden; time in steps. (arm, time, seed): cka (…, layer, other), to_kernel (…, layer),
    the CKA with G, excess (…, net), loss less that of V itself. At the end: cka_debiased (arm, seed, layer, other); null,
    null_debiased (seed, shuffle, layer, other); to_inputs (arm, seed, layer), the CKA with the data xxᵀ; size (arm, seed, layer),
    |K| of the kernel, and trace, the mean |h|². Beside them: gd (arm, seed, layer, other), gd_excess (arm, seed, net), gd_size
    and gd_trace (arm, seed, layer), descent from the same weights, where it comes to the loss of each arm; inserted (kind, seed,
    layer, other) and inserted_excess (kind, seed, net), arm 0 with an R of kind "orthogonal" or "invertible" and its inverse
    between its layers; trap (view, seed, layer, other), descent from a small start, "none": no views, "frozen": ill-conditioned;
    small_trace (seed, layer), that of the latter with the views of A and B.
    Raises ValueError for settings that are out of range. Source: document 4, part 3.
    """
    eta, steps = task.pace((shapes.depth_a, shapes.depth_b), batch_size, eta, steps)
    if steps < frames:
        raise ValueError(f"steps={steps} are too few; allowed: frames={frames} or more")
    rates, decays = eta * np.array([*factors, *[factors[0]] * len(lams)]), np.array([*[0.0] * len(factors), *lams])
    v, both = networks.pair(shapes, task, seed)
    how = {"batch_size": batch_size, "steps": steps, "frames": frames, "device": device}
    weights = [networks.train(one, rates, decays, **how) for one in both]
    x = embedded_linear.probe(task.scale, PROBES, seed=seed)
    found = [networks.features(one, w, x) for one, w in zip(both, weights, strict=True)]
    excess = np.stack([networks.excess(one.view, h[-1], x, v) for one, h in zip(both, found, strict=True)], -1)
    seen = [h.transpose(0, 1) for h in (*found[0], *found[1])]  # [arm, time, n, width]
    last = [h[:, -1] for h in seen]
    size, trace = zip(*(descent.sizes([h[arm] for h in last]) for arm in range(len(rates))), strict=True)
    known = x @ torch.from_numpy(linear_theory.root(theory.kernel(v, task.noise, task.scale)))
    fresh = torch.randn(SAMPLES, len(task.scale), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    fresh = fresh * torch.from_numpy(task.scale)
    samples = [h[0] for one, w in zip(both, weights, strict=True) for h in networks.features(one, w[-1:], fresh)]
    values = {
        "cka": (("arm", "time", "layer", "other"), alignment.layer_cka(seen, seen, samples=-2)),
        "to_kernel": (("arm", "time", "layer"), alignment.layer_cka(seen, [known], samples=-2)[..., 0]),
        "excess": (("time", "arm", "net"), excess),
        "cka_debiased": (("arm", "layer", "other"), alignment.layer_cka(samples, samples, debiased=True, samples=-2)),
        "null": (("shuffle", "layer", "other"), _null([h[0] for h in samples], seed, debiased=False)),
        "null_debiased": (("shuffle", "layer", "other"), _null([h[0] for h in samples], seed, debiased=True)),
        "to_inputs": (("arm", "layer"), alignment.layer_cka(last, [x], samples=-2)[..., 0]),
        "size": (("arm", "layer"), np.stack(size)),
        "trace": (("arm", "layer"), np.stack(trace)),
        **descent.without_noise(v, both, excess[-1], task.scale, x.numpy()),
        **descent.with_inserts(v, both, [w[-1, :1] for w in weights], x.numpy(), seed),
        **descent.trap(v, shapes, task, x.numpy(), seed),
    }
    where = {"eta": ("arm", rates), "lam": ("arm", decays), "kind": ["orthogonal", "invertible"], "view": ["none", "frozen"]}
    where |= networks.layers(shapes.depth_a, shapes.depth_b) | {"net": ["A", "B"]}
    return xr.Dataset(values, coords=where | {"time": np.cumsum([0, *networks.stages(steps, frames).sum(1)])})


def _null(layers: list, seed: int, *, debiased: bool) -> np.ndarray:
    """[shuffle, layer, other]: CKA with the samples of `other` shuffled."""
    return np.stack([np.stack([alignment.null(a, b, SHUFFLES, seed, debiased=debiased) for b in layers], -1) for a in layers], -2)


# --- the claims ---------------------------------------------------------------------------------------------------------
_decides = functools.partial(
    decides, reads=["factors", "steps", "spectrum", "noise", "inputs", "stretch", "start"], data="linear"
)


def median(values) -> Estimate:
    """Median over a few seeds and its standard error."""
    _, error, n = few_seeds(values)
    return Estimate(float(np.median(values)), error * MEDIAN, n)


def same_loss(data: xr.Dataset) -> xr.DataArray:
    """Whether descent came to the loss of each arm (arm, seed)."""
    return (data["gd_excess"] <= data["excess"].isel(time=-1)).all("net")


def descended(data: xr.Dataset) -> xr.DataArray:
    """CKA of descent without noise where it is at the loss of each arm, NaN where it did not get there."""
    return data["gd"].where(same_loss(data))


@_decides("platonic.edln")
def edln(data: xr.Dataset) -> Decision:
    """CKA of the worst pair of A and B after training, against that after descent to the same loss; medians over seeds."""
    pairs = median(between(final(data))), median(between(descended(data).isel(arm=0)))
    return with_control(*pairs, 0.0, "gradient descent without noise, to the same loss", ALIGNED, "above")


@_decides("platonic.within")
def within(data: xr.Dataset) -> Decision:
    """CKA of the worst pair of hidden layers of one network after training, against that at initialisation."""
    begin = data["cka"].isel(arm=0, time=0)
    pairs = few_seeds(inside(final(data))), few_seeds(inside(begin))
    return with_control(*pairs, 0.0, "the same networks at initialisation", ALIGNED, "above")


@_decides("platonic.kernel")
def kernel(data: xr.Dataset) -> Decision:
    """Least CKA of a hidden layer with G, against that with the kernel xxᵀ of the data."""
    hidden = data["hidden"].values
    found = [k.isel(arm=0, layer=hidden).min("layer", skipna=False) for k in (data["to_kernel"].isel(time=-1), data["to_inputs"])]
    return with_control(*map(few_seeds, found), 0.0, "the kernel of the raw data", ALIGNED, "above")


@_decides("platonic.most-are-not")
def most_are_not(data: xr.Dataset) -> Decision:
    """CKA of the worst pair after a matrix and its inverse came between trained layers, invertible, against orthogonal ones."""
    before, after = data["excess"].isel(arm=0, time=-1), data["inserted_excess"]
    unchanged = (abs(after - before) <= LOSS).all("net")
    worst = between(data["inserted"]).where(unchanged)
    pairs = (few_seeds(worst.sel(kind=kind)) for kind in ("invertible", "orthogonal"))
    return with_control(*pairs, 0.0, "an orthogonal matrix", BROKEN, "below")


@_decides("platonic.needs-views")
def needs_views(data: xr.Dataset) -> Decision:
    """CKA of the worst pair after descent from a small start, without views, against frozen ill-conditioned ones."""
    worst = between(data["trap"])
    pairs = (few_seeds(worst.sel(view=view)) for view in ("none", "frozen"))
    return with_control(*pairs, 0.0, "frozen ill-conditioned M and Z", BROKEN, "above")


@_decides("platonic.all-layers")
def all_layers(data: xr.Dataset) -> Decision:
    """CKA of the worst pair of all layers of A and B, against that of the hidden ones."""
    pairs = (few_seeds(between(final(data), ends=ends)) for ends in (True, False))
    return with_control(*pairs, 0.0, "the hidden layers alone", ALIGNED, "above")


def distance(data: xr.Dataset, *, scaled: bool) -> xr.DataArray:
    """Largest |K - K'|/√(|K||K'|) of two hidden kernels of A and B; `scaled`: after one scalar for each has been divided out."""
    size = data["size"].isel(arm=0)
    if scaled:
        size = size / size
    ratio = size / size.rename(layer="other")
    found = np.sqrt(np.maximum(ratio + 1 / ratio - 2 * final(data), 0))
    hidden = data["hidden"].values
    return found.isel(layer=hidden, other=hidden).max(("layer", "other"), skipna=False)


@_decides("platonic.perfect")
def perfect(data: xr.Dataset) -> Decision:
    """Largest relative distance of hidden kernels as they stand, against that after dividing out one scalar per layer."""
    pairs = (few_seeds(distance(data, scaled=scaled)) for scaled in (False, True))
    return with_control(*pairs, SAME, "equality after dividing out one scalar per layer")
