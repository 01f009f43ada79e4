"""Adam on all data at once: λ_max rises, and λ_max of the preconditioned Hessian comes to 38/η.

Adam divides the gradient by P = √ŝ + ε, so what counts for its stability is the Hessian in units of P, whose largest
eigenvalue comes to (2 + 2β₁)/((1 - β₁) η) = 38/η for β₁ = 0.9, while λ_max itself goes on as it likes. Settings as under
the source's figure:
η = 0.005, β₂ = 0.995, ε = 1e-7, with bias correction. Source: document 4, part 4; Cohen et al., arXiv:2207.14484.
What counts as a rise of λ_max is `switch.CHANGE`, and as being at the edge `edge.EDGE`.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
import xarray as xr

from thermolab.claims import Decision, decides, few_seeds, with_control
from thermolab.engine import rules
from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, Counts, Positive, positive, several
from thermolab.instruments.curvature import HessianProducts, largest_eigenvalue
from thermolab.phenomena.progressive_sharpening import edge
from thermolab.phenomena.progressive_sharpening.starts import ADAM
from thermolab.phenomena.progressive_sharpening.switch import CHANGE
from thermolab.systems import models
from thermolab.systems.full_batch import FullBatch

BETA1 = 0.9
EDGE = 2 * (1 + BETA1) / (1 - BETA1)  # η λ_max of the preconditioned Hessian there: 38


class Preconditioned:
    """Products with P^-½ H P^-½, as `largest_eigenvalue` takes them. scale: P^-½ [P]."""

    def __init__(self, hessian: HessianProducts, scale: torch.Tensor):
        self.hessian, self.scale = hessian, scale
        self.weights, self.gradient = hessian.weights, scale * hessian.gradient

    @property
    def products(self) -> int:
        """How many were made so far."""
        return self.hessian.products

    def __call__(self, v: torch.Tensor) -> torch.Tensor:
        """The product [P] with v [P]."""
        return self.scale * self.hessian(self.scale * v)


@recipe("Adam on all data", dims=("eta", "seed", "time"))
def adam_edge(
    etas: Annotated[tuple[float, ...], several(positive(), 2, 2)] = (0.005, 5e-6),
    *,
    n_data: Count = 200,
    widths: Counts = (32, 32),
    scale: Positive = edge.SCALE,
    steps: Count = 600,
    looks: Count = 12,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """Adam on all of n_data digits at two rates, the smaller of which is meant to be too small for the time.

    widths: of the hidden layers; scale: of the start, as in `edge`; steps: of each run; looks: measurements, after step 1.

    Returns a Dataset, dims (eta, seed, time), time in steps: lambda_max of the loss over all data, preconditioned, that of
    P^-½ H P^-½. Raises ValueError for settings that are out of range. Source: document 4, part 4; arXiv:2207.14484.
    """
    rules.multiple(looks, "looks", steps=steps)
    answers = edge.answers(n_data, seed=seed)
    net = FullBatch(models.mlp((64, *widths, 10), activation="tanh"), answers, loss="squared", optimiser="adam")
    start = scale * net.start(torch.arange(1), seed).repeat(len(etas), 1)
    run = Experiment(net, eta=list(etas), weights=start, seed=seed, device=device, beta1=BETA1, **ADAM)

    def look():
        run.raise_if_diverged()
        found = []
        for w, s in zip(run.state.weights, run.state.memory["s"], strict=True):
            hessian = HessianProducts(net, w, net.data.x, net.data.y)
            p = (s.double() / (1 - ADAM["beta2"] ** run.state.step)).sqrt() + ADAM["eps"]
            inner = Preconditioned(hessian, p.rsqrt().to(w))
            found.append([largest_eigenvalue(h, looks=2, most=80).value for h in (hessian, inner)])
        return np.transpose(found)

    run.advance(1)
    rows = [look()]
    for _ in range(looks):
        run.advance(steps // looks)
        rows.append(look())
    values = dict(zip(("lambda_max", "preconditioned"), np.moveaxis(rows, 1, 0), strict=True))
    time = 1 + np.arange(looks + 1) * (steps // looks)
    return xr.Dataset({k: (("time", "eta"), v) for k, v in values.items()}, coords={"eta": list(etas), "time": time})


READS = ("etas", "n_data", "widths", "scale", "steps")


def _rates(data: xr.Dataset) -> tuple[float, float]:
    """The larger and the smaller η."""
    return float(data["eta"].max()), float(data["eta"].min())


@decides("sharpening.adam.digits", reads=READS)
def sharpens_digits(adam_edge: xr.Dataset) -> Decision:
    """log of the mean λ_max over the last third over that after the first step."""
    sharp = np.log(adam_edge["lambda_max"]).transpose("eta", "seed", "time")
    rise = sharp.isel(time=slice(2 * sharp.sizes["time"] // 3, None)).mean("time") - sharp.isel(time=0)
    measured, control = (few_seeds(rise.sel(eta=eta)) for eta in _rates(adam_edge))
    return with_control(measured, control, 0.0, "η too small for the time", CHANGE, "above")


@decides("sharpening.adam.edge", reads=READS)
def comes_to_38(adam_edge: xr.Dataset) -> Decision:
    """η/38 times the preconditioned λ_max, a mean over the last third, less 1."""
    scaled = (adam_edge["preconditioned"] * adam_edge["eta"] / EDGE).transpose("eta", "seed", "time")
    off = scaled.isel(time=slice(2 * scaled.sizes["time"] // 3, None)).mean("time") - 1
    measured, control = (few_seeds(off.sel(eta=eta)) for eta in _rates(adam_edge))
    return with_control(measured, control, edge.EDGE, "η too small for the time")
