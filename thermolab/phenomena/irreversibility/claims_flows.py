"""The claims of notebook 00 on the arrow of time, decided from the datasets of `flows`.

Tolerances, which stand here once and do not move with the data. An exponent is a whole number; the slope of log error over log η
differs from it by about ηλ_max of the next order, at most 0.1 with the rates of `flows`: 0.2, of the distance 1 between orders.
Two vectors that agree to leading order differ by the same share: 0.1. What is exact holds to rounding: 1e-15 of a number for
the four roundings of the parabola, 1e-12 for sums over minibatches and samples. The control of the latter is stricter than
its check: it must fail even with 0.1 of tolerance, for the register asks for a deviation of more than 10 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import xarray as xr

from thermolab.claims import Check, Pair, few_seeds, with_control

ORDER, NEXT_ORDER, ROUNDING, SUMS, FACTORISED = 0.2, 0.1, 1e-15, 1e-12, 0.1
FLOW, UNDO, HALVES = 1 / 4, 1 / 2, 1 / 8  # c of L + c η |∇L|²: of the flow, of the reversal, of two steps of rate η/2


def reversal(steps: xr.Dataset) -> Pair:
    """Order in η of the distance from the start after one step forward and one back on L.

    steps: the dataset of `flows.steps`. Returns check, name of the control, control.
    """
    back = steps["local"].sel(against="undo")
    name = "ascent on L + (η/2)|∇L|² instead of L"
    return with_control(order(back, steps, 0.0), order(back, steps, UNDO), ORDER, name, predicted=2.0)


def quadratic(parabola: xr.Dataset) -> Pair:
    """Largest |miss − η²| of a step forward and back, in units of θ₀; the least such number for the powers 1, 3 and 4.

    parabola: the dataset of `flows.quadratic`. Returns check, name of the control, control.
    """
    off = {power: float(abs(parabola["miss"] - parabola["eta"] ** power).max()) for power in (1, 2, 3, 4)}
    name = "the error predicted with any other power of η, the closest"
    return with_control((off.pop(2), 0.0), (min(off.values()), 0.0), ROUNDING, name)


def modified_flow(steps: xr.Dataset) -> Pair:
    """Order in η of the distance of the flow of L + (η/4)|∇L|² from one step.

    steps: the dataset of `flows.steps`. Returns check, name of the control, control.
    """
    once = steps["local"].sel(against="flow")
    return with_control(order(once, steps, FLOW), order(once, steps, 0.0), ORDER, "gradient flow of L alone", predicted=3.0)


def one_constant(steps: xr.Dataset) -> Pair:
    """|u − v|/|v| of the terms that undoing a step and matching it by a flow want in the force, at the smallest rate.

    steps: the dataset of `flows.steps`. Returns check, name of the control, control.
    """
    least = {"rate": steps["eta"].argmin("rate")}
    whole, shape = (few_seeds(steps[name].isel(least)) for name in ("unlike", "unlike_shape"))
    return with_control(whole, shape, NEXT_ORDER, "both terms with their constants divided out")


def global_error(steps: xr.Dataset) -> Pair:
    """Order in η of the distance of the flow of L + (η/4)|∇L|² from descent after a fixed time.

    steps: the dataset of `flows.steps`. Returns check, name of the control, control.
    """
    end = steps["whole"].sel(against="flow")
    return with_control(order(end, steps, FLOW), order(end, steps, 0.0), ORDER, "gradient flow of L alone", predicted=2.0)


def half_rate(steps: xr.Dataset, constant: float = HALVES) -> Pair:
    """Order in η of the distance, after a fixed time, of descent with η/2 on L + c η |∇L|² from descent with η on L.

    A flow of half the step has an entropy of its own, so that c = 1/8 is what is left of the 1/4 of the flow; with
    constant = 1/4 the distance is of the order it has without the term.
    steps: the dataset of `flows.steps`. Returns check, name of the control, control.
    """
    end = steps["whole"].sel(against="halves")
    name = "rate η/2 on L itself, without the entropic term"
    return with_control(order(end, steps, constant), order(end, steps, 0.0), ORDER, name, predicted=2.0)


def epoch(epochs: xr.Dataset) -> Pair:
    """Order in η of the distance of the mean over all orders of an epoch from the flow of L + (η/4m) Σ_k |∇L_k|².

    epochs: the dataset of `flows.epochs`. Returns check, name of the control, control.
    """
    ours, control = (few_seeds(slope(epochs["error"].sel(term=term), epochs["eta"])) for term in ("batches", "none"))
    return with_control(ours, control, ORDER, "the flow without the minibatch term", predicted=3.0)


def entropy_split(split: xr.Dataset) -> Pair:
    """Largest relative deviation of E|g|² from |∇L|² + Tr cov/B, and of E[|∇_p l|² (|h|² + 1)] from E|g|² of a map.

    The control is the largest deviation, over maps and moments, of the product of the means, averaged over copies and seeds.
    split: the dataset of `flows.split`. Returns check, name of the control, control.
    """
    parts = split["S_GD"] + split["trace"] / split["batch_size"]
    exact = max(float(abs(split["g2"] / parts - 1).max()), float(abs(split["product"] / split["S"] - 1).max()))
    factorised = few_seeds(abs(split["factorised"] / split["S"] - 1).max(("layer", "time")).mean("copy"))
    name = "the layerwise product of means, E|∇_p l|² · E|h|², which must deviate by more than 10 %"
    return Check(exact, 0.0, SUMS), name, Check(factorised[0], 0.0, FACTORISED, factorised[1])


def order(distance: xr.DataArray, steps: xr.Dataset, constant: float) -> tuple[float, float]:
    """Mean and standard error over the seeds of the power of η with which a distance goes, at one constant."""
    return few_seeds(slope(distance.sel(constant=constant), steps["eta"]))


def slope(error: xr.DataArray, eta: xr.DataArray) -> np.ndarray:
    """Slope [seed] of log error over log η, both (rate, seed), by least squares; NaN for a single rate."""
    x, y = (np.log(a.transpose("rate", "seed").values) for a in (eta, error))
    if len(x) < 2:
        return np.full(x.shape[1], math.nan)
    x = x - x.mean(0)
    return (x * y).sum(0) / (x * x).sum(0)


def checks(parabola: xr.Dataset, steps: xr.Dataset, epochs: xr.Dataset, split: xr.Dataset) -> Mapping[str, Callable[[], Pair]]:
    """What decides each claim, by id; called, it returns check, name of the control, control.

    parabola, steps, epochs, split: the datasets of `flows.quadratic`, `.steps`, `.epochs` and `.split`, two seeds or more.
    """
    return {
        "irreversibility.reversal": lambda: reversal(steps),
        "irreversibility.quadratic": lambda: quadratic(parabola),
        "irreversibility.modified-flow": lambda: modified_flow(steps),
        "irreversibility.one-constant": lambda: one_constant(steps),
        "irreversibility.global-error": lambda: global_error(steps),
        "irreversibility.half-rate": lambda: half_rate(steps),
        "irreversibility.epoch": lambda: epoch(epochs),
        "irreversibility.entropy-split": lambda: entropy_split(split),
    }
