"""How fast networks align: at equal numbers of steps the larger η is ahead, on the clock η²t all are level.

Every run has its own warm-up and final decay, so that all end at the same loss. Source: document 2, ablations.
GROWS, the tolerance, is 0.1 of CKA, ten times what an aligned pair may lack (`linear.ALIGNED`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import xarray as xr

from thermolab.claims import Decision, decides, few_seeds, with_control
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, Positive, integer, several
from thermolab.instruments import alignment
from thermolab.phenomena.platonic_alignment import networks
from thermolab.phenomena.platonic_alignment.linear import PROBES
from thermolab.phenomena.platonic_alignment.tables import between
from thermolab.systems import embedded_linear

GROWS = 0.1


@recipe("pace of alignment", shared=["steps"], dims=("clock", "eta", "seed", "layer", "other", "net"))
def pace(
    shapes: networks.Shapes,
    task: networks.Task,
    *,
    eta: Positive = None,
    divisors: Annotated[Sequence[int], several(integer(1), 2)] = (1, 2, 4),
    batch_size: Count = 16,
    steps: Count = 3000,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """Alignment after training at η/divisor, warm-up and final decay included, for equally many steps and for equal η² × steps.

    eta: default as in `linear.linear`; divisors: two or more that rise; steps: at η itself; the rest as there.

    Returns a Dataset: (clock, eta, seed): cka (…, layer, other), at the end, and excess (…, net); steps (clock, eta); clock:
    "steps", the same number for all η, or "eta2t", divisor² as many.
    Raises ValueError for settings that are out of range. Source: document 2, ablations.
    """
    if list(divisors) != sorted(set(divisors)):
        raise ValueError(f"divisors={list(divisors)} do not rise; allowed: two or more that rise")
    eta, steps = task.pace((shapes.depth_a, shapes.depth_b), batch_size, eta, steps)
    rates, lengths = eta / np.array(divisors), np.array([[steps] * len(divisors), [steps * d * d for d in divisors]])
    v, both = networks.pair(shapes, task, seed)
    x, tables, losses = embedded_linear.probe(task.scale, PROBES, seed=seed), {}, {}
    for number in np.unique(lengths):  # arms of the same length run side by side
        arms = np.unique(np.nonzero(lengths == number)[1])
        how = {"batch_size": batch_size, "steps": int(number), "frames": 1, "device": device}
        runs = [networks.train(one, rates[arms], 0.0 * rates[arms], **how)[-1:] for one in both]
        found = [networks.features(one, w, x) for one, w in zip(both, runs, strict=True)]
        layers = [h[0] for one in found for h in one]
        excess = [networks.excess(one.view, h[-1][0], x, v) for one, h in zip(both, found, strict=True)]
        for arm, table, lost in zip(arms, alignment.layer_cka(layers, layers, samples=-2), np.transpose(excess), strict=True):
            tables[number, arm], losses[number, arm] = table, lost
    at = [[(number, arm) for arm, number in enumerate(row)] for row in lengths]
    cka, excess = (np.array([[d[key] for key in row] for row in at]) for d in (tables, losses))
    return xr.Dataset(
        {
            "cka": (("clock", "eta", "layer", "other"), cka),
            "excess": (("clock", "eta", "net"), excess),
            "steps": (("clock", "eta"), lengths),
        },
        coords={"clock": ["steps", "eta2t"], "eta": rates, "net": ["A", "B"], **networks.layers(shapes.depth_a, shapes.depth_b)},
    )


@decides("platonic.eta", reads=["divisors", "steps", "spectrum", "noise", "inputs", "stretch", "start"], data="pace")
def larger_rates_are_ahead(data: xr.Dataset) -> Decision:
    """CKA of the worst pair at the largest η less that at the smallest, in equally many steps, against equal η² × steps."""
    worst = between(data["cka"])
    gains = (worst.isel(eta=0) - worst.isel(eta=-1)).sel(clock=["steps", "eta2t"])
    return with_control(*map(few_seeds, gains), 0.0, "the same for equal η²t, where the curves coincide", GROWS, "above")
