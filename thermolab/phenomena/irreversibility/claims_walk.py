"""The claims of notebook 00 on what SGD does along a symmetry and on continual training, decided from four recipes' datasets.

Tolerances stand here once and do not move with the data. The law of |w|⁴ neglects an excess of (d + 1) η/|w|², 2 % over the
second half of the default walk: 5 %; that each step adds η²|g|² is exact but for rounding, which grows with the root of the
number of steps: 1e-10. A Gibbs distribution with T of order η knows no more of the points of one orbit than that its own
corrections are of order η, at most 6 % here: unequal are occupations that differ by a tenth at least. No theory says how much
smaller a gradient norm, how much larger an effect or how great a loss of plasticity is: a twentieth of the gradient norm, one
neuron and one image in twenty, and half as much again of the effect count.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import xarray as xr

from thermolab.claims import Pair, extreme, few_seeds, with_control

GROWTH, IDENTITY = 0.05, 1e-10
UNEQUAL = math.log(1.1)
SMALLER = math.log(0.95)
EQUAL = 0.01  # relative difference of losses that count as equal: S is nearly proportional to the loss, and 0.05 is asked for
LARGER = math.log(1.5)
LOST = 0.05
FIRST_STEPS = 10  # a push before step 10 or earlier comes within the first steps


def scale_growth(growth: xr.Dataset) -> Pair:
    """Worst deviation, in units of its tolerance, of the growth of |w|⁴ from the law and of |w|² from the sum of η²|g|².

    growth: the dataset of `walk.growth`. Returns check, name of the control, control.
    """
    seeds_first = growth[["slope", "identity"]].transpose("seed", "dim", "eta")
    walk = np.stack([(seeds_first["slope"] - 1) / GROWTH, seeds_first["identity"] / IDENTITY], -1)
    # the flow has no noise: each seed would give the same
    flow = (growth["flow_slope"].values[None] - 1) / GROWTH * np.ones((growth.sizes["seed"], 1, 1))
    return with_control(extreme(walk), extreme(flow), 1.0, "gradient flow, which conserves |w|")


def no_gibbs(occupation: xr.Dataset) -> Pair:
    """Log ratio of the occupation of two parts of one orbit, equally long and at equal loss, mean over the learning rates.

    occupation: the dataset of `valley.occupation`. Returns check, name of the control, control.
    """
    valley, sphere = (few_seeds(occupation[name].mean("eta")) for name in ("log_ratio", "sphere_log_ratio"))
    name = "isotropic noise on the sphere, whose stationary distribution is von Mises-Fisher"
    return with_control(valley, sphere, 0.0, name, predicted=UNEQUAL, relation="above")


def large_rate_regularises(equal_loss: xr.Dataset) -> Pair:
    """Logarithm of S = E|∇l|² at the end of the largest η over that of the smallest, undecided unless their losses are equal.

    equal_loss: the dataset of `continual.equal_loss`. Returns check, name of the control, control.
    """
    large, small = (equal_loss.sel(eta=pick(equal_loss["eta"])) for pick in (max, min))
    flow = equal_loss[["flow_U", "flow_S"]].rename(flow_U="U", flow_S="S")
    measured, control = (
        few_seeds(np.log(a["S"] / small["S"]).where(abs(a["U"] / small["U"] - 1) < EQUAL)) for a in (large, flow)
    )
    name = "gradient flow at the same losses, in place of the large rate"
    return with_control(measured, control, 0.0, name, predicted=SMALLER, relation="below")


def chaos_transient(perturbed: xr.Dataset) -> Pair:
    """Logarithm of the effect of a push within the first steps over that of an equal push halfway through training.

    The control takes the last push of all in place of the first ones. perturbed: the dataset of `continual.perturbed`, with
    pushes before and at half of its steps. Returns check, name of the control, control.
    """
    log = np.log(perturbed["changed"])
    half = log.sel(push=perturbed.attrs["steps"] // 2)
    early, late = log.sel(push=slice(None, FIRST_STEPS)).mean("push"), log.isel(push=-1)
    measured, control = few_seeds(early - half), few_seeds(late - half)
    return with_control(measured, control, 0.0, "the push applied late in training", predicted=LARGER, relation="above")


def dead_neurons(tasks: xr.Dataset) -> Pair:
    """The smaller of the share of neurons that died and of the accuracy that was lost, of the last task against the first.

    The control is the same of a new network on the last task. tasks: the dataset of `continual.tasks`.
    Returns check, name of the control, control.
    """
    first, last = tasks.isel(task=0), tasks.isel(task=-1)

    def lost(dead: xr.DataArray, accuracy: xr.DataArray) -> tuple[float, float]:
        return min(few_seeds(dead - first["dead"]), few_seeds(first["accuracy"] - accuracy))

    old, new = lost(last["dead"], last["accuracy"]), lost(tasks["fresh_dead"], tasks["fresh_accuracy"])
    name = "a newly initialised network that sees the last task only"
    return with_control(old, new, 0.0, name, predicted=LOST, relation="above")


def checks(
    growth: xr.Dataset, occupation: xr.Dataset, equal_loss: xr.Dataset, perturbed: xr.Dataset, tasks: xr.Dataset
) -> Mapping[str, Callable[[], Pair]]:
    """What decides each of the five claims, by id; called, it returns check, name of the control, control.

    growth: of `walk`, occupation: of `valley`, equal_loss, perturbed and tasks: of `continual`; two seeds or more.
    """
    return {
        "irreversibility.scale-growth": lambda: scale_growth(growth),
        "irreversibility.no-gibbs": lambda: no_gibbs(occupation),
        "irreversibility.large-rate-regularises": lambda: large_rate_regularises(equal_loss),
        "irreversibility.chaos-transient": lambda: chaos_transient(perturbed),
        "irreversibility.dead-neurons": lambda: dead_neurons(tasks),
    }
