"""Networks that minimise F_η = L + (η/4) E|g|² directly, without SGD: the theory of alignment, apart from dynamics.

L and E|g|² are exact (`theory.free_energy`), the minimum is found by L-BFGS in float64 from random weights. It shifts off
the minimum of L, by a different amount for each view, so alignment is complete up to 1 - CKA = O(η²).
Source: document 4, part 3. Limit: a minimum that L-BFGS finds need not be the lowest; for linear networks the others are saddles.

ORDER, the tolerance: the exponent of 1 - CKA = O(η²) over a decade of η is 2 within 0.3, for terms of relative order η tr H are
left out.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Annotated

import numpy as np
import xarray as xr
from scipy.optimize import minimize

from thermolab.claims import Decision, decides, few_seeds, with_control
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, integer, positive, several
from thermolab.instruments import alignment
from thermolab.phenomena.common import linear_theory
from thermolab.phenomena.platonic_alignment import descent, networks, theory
from thermolab.phenomena.platonic_alignment.linear import PROBES
from thermolab.systems import embedded_linear

ORDER = 0.3
SHAPES = ((2, 6), (3, 8), (3, 6), (4, 8), (4, 6), (5, 8))  # depth and width of each network
STOP = 1e-8  # gradient at which L-BFGS stops; flat directions of F have a curvature of order η


@recipe("minima of F", dims=("eta", "seed", "layer", "other", "net"))
def minima(
    etas: Annotated[Sequence[float], several(positive(), 2)] = (0.003, 0.0003),
    *,
    task: networks.Task,
    shapes: Annotated[Sequence[tuple[int, int]], several(several(integer(1), 2, 2))] = SHAPES,
    batch_size: Count = 1,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """Alignment of several networks at the minimum of F for each η, and at the minimum of L, from the same random weights.

    etas: falling, each from the minimum for the one before; shapes: (depth, width) of each network; batch_size: B in E|g|², 1 for
    the noise of one example; device: all is done on the CPU.

    Returns a Dataset: (eta, seed, layer, other): cka of all hidden layers, eta 0 for the minimum of L; to_kernel (eta, seed,
    layer); excess (eta, seed, net), loss less that of V; ratio (eta, seed, net): E|g|² over its least, 4 L q/B.
    Raises ValueError for settings that are out of range. Source: document 4, part 3.
    """
    if list(etas) != sorted(set(etas), reverse=True):
        raise ValueError(f"etas={list(etas)} do not fall; allowed: two or more that fall")
    for depth, width in shapes:
        task.fits(width=width)
        if depth < 2:
            raise ValueError(f"depth={depth} is too small; allowed: 2 or more, for one hidden layer")
    v, noise, scale = task.target(seed), task.noise, task.scale
    x = embedded_linear.probe(scale, PROBES, seed=seed).numpy()
    rooted = x @ linear_theory.root(theory.kernel(v, noise, scale))
    d_y, d_x = v.shape
    own = [len(shapes) * seed + i for i in range(len(shapes))]
    views = [task.view(s) for s in own]
    begin = [embedded_linear.gaussian((d_x, *[width] * (depth - 1), d_y), task.start, s)
             for s, (depth, width) in zip(own, shapes, strict=True)]  # fmt: skip
    lowest = [4 * depth / batch_size * theory.minimum(view, v, noise, depth, scale)[1]
              for view, (depth, _) in zip(views, shapes, strict=True)]  # fmt: skip
    tables, now = {k: [] for k in ("cka", "to_kernel", "excess", "ratio")}, begin
    for eta in (*etas, 0.0):
        starts = zip(views, now if eta else begin, strict=True)
        ends = [least(view, w, v, noise, eta, inputs=scale, batch_size=batch_size) for view, w in starts]
        now = [w for w, _, _ in ends]
        layers = [h for view, w in zip(views, now, strict=True) for h in descent.features(view, w, x)[1:-1]]
        tables["cka"].append(alignment.layer_cka(layers, layers))
        tables["to_kernel"].append(alignment.layer_cka(layers, [rooted])[:, 0])
        tables["excess"].append([loss - np.square(noise).sum() for _, loss, _ in ends])
        tables["ratio"].append([g2 / low for (_, _, g2), low in zip(ends, lowest, strict=True)])
    dims = {"cka": ("layer", "other"), "to_kernel": ("layer",), "excess": ("net",), "ratio": ("net",)}
    of = [i for i, (depth, _) in enumerate(shapes) for _ in range(depth - 1)]
    values = {k: (("eta", *dims[k]), np.array(rows)) for k, rows in tables.items()}
    return xr.Dataset(values, coords={"eta": [*etas, 0.0], "of": ("layer", of)})


def least(view, begin, v, noise, eta: float, *, inputs=None, batch_size: int = 1) -> tuple[list[np.ndarray], float, float]:
    """W_1 … W_L of the least F_η that L-BFGS finds from `begin`, with L and E|g|² there; η = 0 minimises L."""
    shapes = [m.shape for m in begin]
    ends = np.cumsum([0, *map(np.prod, shapes)])

    def split(flat):
        return [flat[a:b].reshape(shape) for (a, b), shape in zip(itertools.pairwise(ends), shapes, strict=True)]

    def value_and_slope(flat):
        loss, g2, slopes = theory.free_energy(view, split(flat), v, noise, eta, inputs, batch_size)
        return loss + eta / 4 * g2, np.concatenate([np.ravel(s) for s in slopes])

    options = {"maxiter": 20_000, "maxfun": 40_000, "maxcor": 50, "ftol": 0.0, "gtol": STOP}
    flat = minimize(value_and_slope, np.concatenate([np.ravel(m) for m in begin]), jac=True, method="L-BFGS-B", options=options).x
    loss, g2, _ = theory.free_energy(view, split(flat), v, noise, eta, inputs, batch_size)
    return split(flat), loss, g2


def exponent(worst: xr.DataArray) -> xr.DataArray:
    """Of η in 1 - CKA, from the largest η to the smallest."""
    rates = worst["eta"].values
    return np.log((1 - worst.isel(eta=0)) / (1 - worst.isel(eta=-1))) / math.log(rates[0] / rates[-1])


@decides("platonic.minimum-of-F", reads=["etas", "shapes", "spectrum", "noise", "inputs", "stretch", "start"], data="minima")
def minimum_of_f(data: xr.Dataset) -> Decision:
    """Exponent of η in 1 - CKA of the worst pair of all networks, at minima of F.

    Control: with the minima of L in place of those of F at the smallest η.
    """
    worst = data["cka"].min(("layer", "other"), skipna=False)
    of_f = worst.sel(eta=data["eta"] > 0)
    of_l = xr.concat([of_f.isel(eta=0, drop=True), worst.sel(eta=0.0, drop=True)], "eta")
    of_l = of_l.assign_coords(eta=of_f["eta"].values[[0, -1]])
    return with_control(*(few_seeds(exponent(w)) for w in (of_f, of_l)), ORDER, "networks that minimise L directly", 2.0)
