"""Networks that minimise F_η = L + (η/4) E|g|² directly, without SGD: the theory of alignment, apart from dynamics.

L and E|g|² are exact (`theory.free_energy`), the minimum is found by L-BFGS in float64 from random weights. It shifts off
the minimum of L, by a different amount for each view, so alignment is complete up to 1 - CKA = O(η²).
Source: document 4, part 3. Limit: a minimum that L-BFGS finds need not be the lowest; for linear networks the others are saddles.
"""

from __future__ import annotations

import itertools

import numpy as np
import xarray as xr
from scipy.optimize import minimize

from thermolab.engine.recipe import Jobs, Recipe, seeds
from thermolab.instruments import alignment
from thermolab.phenomena.common import linear_theory, validate
from thermolab.phenomena.platonic_alignment import descent, networks, theory
from thermolab.phenomena.platonic_alignment.linear import PROBES
from thermolab.systems import embedded_linear

SHAPES = ((2, 6), (3, 8), (3, 6), (4, 8), (4, 6), (5, 8))  # depth and width of each network
STOP = 1e-8  # gradient at which L-BFGS stops; flat directions of F have a curvature of order η


@Recipe
def minima(
    etas=(0.003, 0.0003),
    *,
    shapes=SHAPES,
    batch_size: int = 1,
    spectrum=embedded_linear.SPECTRUM,
    noise=embedded_linear.NOISE,
    inputs=None,
    stretch=embedded_linear.STRETCH,
    start: float = networks.START,
    seed: int = 0,
    n_seeds: int = 5,
    device: str = "cpu",
):
    """Alignment of several networks at the minimum of F for each η, and at the minimum of L, from the same random weights.

    etas: positive, falling, each from the minimum for the one before; shapes: (depth, width) of each network; batch_size: B in
    E|g|², 1 for the noise of one example; the rest as in `linear.linear`; device: all is done on the CPU.

    Returns a Dataset: (eta, seed, layer, other): cka of all hidden layers, eta 0 for the minimum of L; to_kernel (eta, seed,
    layer); excess (eta, seed, net), loss less that of V; ratio (eta, seed, net): E|g|² over its least, 4 L q/B.
    Raises ValueError for settings that are out of range. Source: document 4, part 3.
    """
    if len(validate.all_positive("etas", etas)) < 2 or (np.diff(etas) >= 0).any():
        raise ValueError(f"etas={tuple(etas)} are not allowed; allowed: two or more that fall")
    if not shapes:
        raise ValueError("shapes=() is not allowed; allowed: one (depth, width) or more")
    for depth, width in shapes:
        common = networks.checked(
            depth, depth, width, width, 1.0, batch_size, 1, spectrum, noise, inputs, stretch, start, n_seeds
        )
    settings = {"etas": (*etas, 0.0), "shapes": tuple(shapes)} | {k: common[k] for k in KEPT}
    numbers = seeds(seed, n_seeds)
    parts = yield Jobs(_minima, [settings | {"seed": s} for s in numbers], "minima of F")
    dims = {"cka": ("layer", "other"), "to_kernel": ("layer",), "excess": ("net",), "ratio": ("net",)}
    values = {k: (("eta", "seed", *axes), np.stack([p[k] for p in parts], 1)) for k, axes in dims.items()}
    of = [i for i, (depth, _) in enumerate(shapes) for _ in range(depth - 1)]
    return xr.Dataset(values, coords={"eta": [*etas, 0.0], "seed": numbers, "of": ("layer", of)})


KEPT = ("batch_size", "spectrum", "noise", "inputs", "stretch", "start")


def _minima(*, etas, shapes, batch_size, spectrum, noise, inputs, stretch, start, seed) -> dict[str, np.ndarray]:
    v = embedded_linear.target(spectrum, len(inputs), seed=seed)
    x = embedded_linear.probe(inputs, PROBES, seed=seed).numpy()
    rooted = x @ linear_theory.root(theory.kernel(v, noise, inputs))
    tables = {k: [] for k in ("cka", "to_kernel", "excess", "ratio")}
    d_y, d_x = v.shape
    views = [embedded_linear.view(d_x, d_y, stretch=stretch, seed=len(shapes) * seed + i) for i in range(len(shapes))]
    begin = [embedded_linear.gaussian((d_x, *[width] * (depth - 1), d_y), start, len(shapes) * seed + i)
             for i, (depth, width) in enumerate(shapes)]  # fmt: skip
    lowest = [4 * depth / batch_size * theory.minimum(view, v, noise, depth, inputs)[1]
              for view, (depth, _) in zip(views, shapes, strict=True)]  # fmt: skip
    now = begin
    for eta in etas:
        starts = zip(views, now if eta else begin, strict=True)
        ends = [least(view, w, v, noise, eta, inputs=inputs, batch_size=batch_size) for view, w in starts]
        now = [w for w, _, _ in ends]
        layers = [h for view, w in zip(views, now, strict=True) for h in descent.features(view, w, x)[1:-1]]
        tables["cka"].append(alignment.layer_cka(layers, layers))
        tables["to_kernel"].append(alignment.layer_cka(layers, [rooted])[:, 0])
        tables["excess"].append([loss - np.square(noise).sum() for _, loss, _ in ends])
        tables["ratio"].append([g2 / low for (_, _, g2), low in zip(ends, lowest, strict=True)])
    return {k: np.array(rows) for k, rows in tables.items()}


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
