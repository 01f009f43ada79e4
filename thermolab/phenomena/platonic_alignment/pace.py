"""How fast networks align: at equal numbers of steps the larger η is ahead, on the clock η²t all are level.

Every run has its own warm-up and final decay, so that all end at the same loss. Source: document 2, ablations.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from thermolab.engine.recipe import Jobs, Recipe, seeds
from thermolab.instruments import alignment
from thermolab.phenomena.common import validate
from thermolab.phenomena.platonic_alignment import networks
from thermolab.phenomena.platonic_alignment.linear import PROBES
from thermolab.systems import embedded_linear


@Recipe
def pace(
    depth_a: int = 3,
    depth_b: int = 4,
    width_a: int = 8,
    width_b: int = 12,
    *,
    eta: float | None = None,
    divisors=(1, 2, 4),
    batch_size: int = 16,
    steps: int = 3000,
    spectrum=embedded_linear.SPECTRUM,
    noise=embedded_linear.NOISE,
    inputs=None,
    stretch=embedded_linear.STRETCH,
    start: float = networks.START,
    seed: int = 0,
    n_seeds: int = 5,
    device: str = "cpu",
):
    """Alignment after training at η/divisor, warm-up and final decay included, for equally many steps and for equal η² × steps.

    steps: at η itself; the rest as in `linear`. Returns a Dataset: (clock, eta, seed): cka (…, layer, other), at the end, and
    excess (…, net); steps (clock, eta); clock: "steps", the same number for all η, or "eta2t", divisor² as many.
    Raises ValueError for settings that are out of range. Source: document 2, ablations.
    """
    common = networks.checked(
        depth_a, depth_b, width_a, width_b, eta, batch_size, steps, spectrum, noise, inputs, stretch, start, n_seeds
    )
    validate.counts(**{f"divisors[{i}]": d for i, d in enumerate(divisors)})
    if len(divisors) < 2 or (np.diff(divisors) <= 0).any():
        raise ValueError(f"divisors={tuple(divisors)} are not allowed; allowed: two or more that rise")
    rates, numbers = common.pop("eta") / np.array(divisors), seeds(seed, n_seeds)
    lengths = np.array([[steps] * len(divisors), [steps * d * d for d in divisors]])
    settings = common | {"rates": rates, "lengths": lengths, "device": str(device)}
    del settings["steps"]
    parts = yield Jobs(_pace, [settings | {"seed": s} for s in numbers], "pace of alignment")
    values = {"cka": (("clock", "eta", "seed", "layer", "other"), np.stack([p["cka"] for p in parts], 2)),
              "excess": (("clock", "eta", "seed", "net"), np.stack([p["excess"] for p in parts], 2)),
              "steps": (("clock", "eta"), lengths)}  # fmt: skip
    where = {"clock": ["steps", "eta2t"], "eta": rates, "net": ["A", "B"], "seed": numbers}
    return xr.Dataset(values, coords=where | networks.layers(depth_a, depth_b))


def _pace(*, rates, lengths, shapes, batch_size, spectrum, noise, inputs, stretch, start, seed, device) -> dict:
    """cka [clock, eta, layer, other] and excess [clock, eta, net] at the end."""
    v, both = networks.pair(shapes, spectrum, noise, inputs, stretch, start, seed)
    x, tables, losses = embedded_linear.probe(inputs, PROBES, seed=seed), {}, {}
    for steps in np.unique(lengths):
        arms = np.unique(np.nonzero(lengths == steps)[1])
        how = {"batch_size": batch_size, "steps": int(steps), "frames": 1, "device": device}
        runs = [networks.train(one, rates[arms], 0.0 * rates[arms], **how)[-1:] for one in both]
        found = [networks.features(one, w, x) for one, w in zip(both, runs, strict=True)]
        layers = [h[0] for one in found for h in one]
        excess = [networks.excess(one, h[-1][0], x, v) for one, h in zip(both, found, strict=True)]
        for arm, table, lost in zip(arms, alignment.layer_cka(layers, layers), np.transpose(excess), strict=True):
            tables[steps, arm], losses[steps, arm] = table, lost
    at = [[(steps, arm) for arm, steps in enumerate(row)] for row in lengths]
    return {k: np.array([[d[key] for key in row] for row in at]) for k, d in (("cka", tables), ("excess", losses))}
