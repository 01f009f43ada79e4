"""Linear networks of two layers: the norms of the layers, the soft threshold, the shape of the minimum.

All runs are SGD on `teacher_student.student`. A final decay of η takes away what is of first order in η, and the fluctuations,
but leaves the balance that was reached: that moves as η². Source: documents 2 and 4.

Tolerances stand here once and do not move with the data. NORMS: 3 %, well below the 8 to 11 % by which equal norms miss.
THRESHOLD: a fifth of τ, what is left out being of the second order in η. FLAT: λ_max within 5 % of the least on the orbit; the
starts lie at 100 % and more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
import xarray as xr

from thermolab.claims import Decision, Estimate, decides, extreme, few_seeds, with_control
from thermolab.engine import schedules
from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, Positive, Positives
from thermolab.phenomena.common import linear_theory
from thermolab.phenomena.neuron_balance import theory
from thermolab.systems import teacher_student

# standard deviations of the noise of each output
PROFILES = {"balanced": (1.0,) * 5, "graded": (1.4, 1.2, 1.0, 0.8, 0.6), "one quiet": (1.0, 1.0, 1.0, 1.0, 0.4)}
SPECTRUM = (1.0, 0.5, 0.2, 0.1, 0.03)  # singular values of a target
NORMS, THRESHOLD, FLAT = 0.03, 0.2, 0.05

SHARED = ("sigma", "norm_1_theory", "norm_2_theory", "target", "tau")


@recipe("linear networks", shared=SHARED, dims=("seed", "i"))
def linear(
    profile: Positives = PROFILES["balanced"],
    *,
    target=1.0,
    inputs: Positives = None,
    width: Count = 8,
    eta: Positive = 0.02,
    batch_size: Count = 16,
    burn_in: Count = 100_000,
    window: Count = 10_000,
    decay: Count = 10_000,
    tilt: Positive = 2.0,
    copies: Count = 1,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """A two-layer linear network W₂W₁: its product while η is constant, and its layers once η has been lowered at the end.

    profile: σ_i, standard deviation of the noise of each output; target: V [d_y, d_x], or its diagonal, or one number for all
    of that, square then; inputs: standard deviation of each input (default 1); width: h; burn_in, window: steps at constant
    η, the product averaged over the second; decay: steps of the final decay, in 8 stages, each at 0.6 of the rate before;
    tilt: W₁ starts larger by this factor, W₂ smaller, both from half the usual length; copies: replicas of each seed.
    Norms and curvatures are means over them, the product one over replicas and window.

    Returns a Dataset: (seed): norm_1 = |W₁|², norm_2 = |W₂|², lambda_max and trace of the Hessian (for Σ_x = 1) at the end,
    flattest_lambda_max and flattest_trace on the orbit of the same product, start_* of these four at the start; (seed, i):
    singular values of the mean of V̂ Σ_x^½, V̂ = W₂W₁, over the window; predicted: norm_1_theory, norm_2_theory, (i): target,
    tau; and (output): sigma, the profile.
    Raises ValueError for settings that are out of range. Source: document 4, part 2 and backup slides.
    """
    sigma, target = np.asarray(profile), np.asarray(target, float)
    inputs = np.asarray(inputs) if inputs else np.ones(target.shape[1] if target.ndim == 2 else len(sigma))
    if target.ndim < 2 and target.size in (1, len(sigma)):
        target = np.diag(np.broadcast_to(target, len(sigma)))
    if target.shape != (fits := (len(sigma), len(inputs))):
        raise ValueError(f"target={target.tolist()} is of shape {target.shape}; allowed: {fits}, outputs by inputs")
    if width < (rank := np.linalg.matrix_rank(target)):
        raise ValueError(f"width={width} is too small; allowed: {rank} or more, the rank of the target")
    net, start = started(target, sigma, inputs, width, tilt, copies, seed)
    run = Experiment(net, eta=eta, batch_size=batch_size, weights=start, seed=seed, device=device)

    def now() -> list[np.ndarray]:
        return [m.cpu().numpy() for m in teacher_student.weight_matrices(net, run.state.weights)]

    begin = now()
    run.advance(burn_in)
    products = []
    for _ in range(max(1, window // 10)):
        run.advance(10)
        first, second = now()
        products.append((second @ first).mean(0) * inputs)
    schedules.cool(run, decay)
    run.raise_if_diverged()
    first, second = now()
    known = linear_theory.norms(target, np.diag(sigma**2), np.diag(inputs**2))
    return xr.Dataset(
        {
            "norm_1": (first**2).sum() / copies,
            "norm_2": (second**2).sum() / copies,
            "norm_1_theory": known[0],
            "norm_2_theory": known[1],
            "sigma": ("output", sigma),
            "singular": ("i", np.linalg.svd(np.mean(products, 0), compute_uv=False)),
            "target": ("i", np.linalg.svd(target * inputs, compute_uv=False)),
            "tau": theory.threshold(eta, batch_size, math.sqrt((sigma**2).mean()), len(sigma), float((inputs**2).sum())),
        }
        | _shape("", first, second)
        | _shape("start_", *begin)
    )


def started(target, sigma, inputs, width: int, tilt: float, copies: int, seed: int):
    """The network of `linear` and its start: half the usual weights [copies, P], W₁ times tilt, W₂ divided by it."""
    widths = (len(inputs), width, len(sigma))
    net = teacher_student.student(widths, lambda x: x @ target.T, "linear", sigma, inputs=inputs, seed=seed)
    weights = net.start(torch.arange(copies), seed)
    for view, factor in zip(net.replicas.views(weights).values(), (tilt, 1 / tilt), strict=True):
        view.mul_(factor / 2)
    return net, weights


def _shape(prefix: str, first, second) -> dict[str, float]:
    """Curvature and the least of it, means over the copies [copies, ...]."""
    pairs = zip(first, second, strict=True)
    rows = [[*linear_theory.hessian_top_and_trace(a, b), *linear_theory.flattest(b @ a)] for a, b in pairs]
    names = ("lambda_max", "trace", "flattest_lambda_max", "flattest_trace")
    return {prefix + k: v for k, v in zip(names, np.mean(rows, 0), strict=True)}


SETTINGS = ("profile", "target", "inputs", "width", "burn_in", "window", "decay", "tilt")


def even(runs: Mapping[str, xr.Dataset], same: bool = True) -> list[xr.Dataset]:
    """Those of some datasets with the same noise in each output, or those with other noise."""
    return [data for data in runs.values() if (np.ptp(data["sigma"].values) == 0) == same]


def norms_off(data: xr.Dataset, *, equal: bool = False) -> np.ndarray:
    """Relative deviation of |W₁|² and |W₂|² [seed, layer] from the closed form; equal: from the geometric mean of both forms."""
    forms = [float(data[f"norm_{k}_theory"]) for k in (1, 2)]
    guess = [np.sqrt(forms[0] * forms[1])] * 2 if equal else forms
    return np.stack([data[f"norm_{k}"].values / guess[k - 1] - 1 for k in (1, 2)], 1)


@decides("balance.linear.norms", reads=SETTINGS)
def norms_agree(linear: Mapping[str, xr.Dataset]) -> Decision:
    """Squared norm over its closed form, less 1, the furthest off of both layers and all noises; control: from equal norms."""
    uneven = even(linear, same=False)
    measured, control = (extreme(np.stack([norms_off(data, equal=equal) for data in uneven], 1)) for equal in (False, True))
    return with_control(measured, control, NORMS, "both layers of equal norm")


def threshold_off(data: xr.Dataset, *, tau: float | None = None) -> np.ndarray:
    """Deviation of the learnt singular values [seed, i] from soft-thresholded ones, in units of the true τ; tau: another one."""
    tau, unit = float(data["tau"]) if tau is None else tau, float(data["tau"])
    return (data["singular"].values - theory.soft_threshold(data["target"].values, tau)) / unit


@decides("balance.linear.soft-threshold", reads=SETTINGS)
def soft_threshold(thresholded: xr.Dataset) -> Decision:
    """Largest deviation of a singular value from the soft threshold, in units of τ; control: from no threshold."""
    measured, control = extreme(threshold_off(thresholded)), extreme(threshold_off(thresholded, tau=0.0))
    return with_control(measured, control, THRESHOLD, "τ = 0")


def sharpness_above_least(data: xr.Dataset) -> np.ndarray:
    """λ_max over the least of all networks that compute the same, less 1, [seed]."""
    return (data["lambda_max"] / data["flattest_lambda_max"]).values - 1


def above_least(runs: Mapping[str, xr.Dataset], same: bool) -> Estimate:
    """How far λ_max ends above the least on the orbit, mean over the datasets with even noise (same), or with uneven."""
    return few_seeds(np.mean([sharpness_above_least(data) for data in even(runs, same)], 0))


@decides("balance.sharp-flat", reads=SETTINGS)
def balanced_noise_flattens(linear: Mapping[str, xr.Dataset]) -> Decision:
    """λ_max over the least on the orbit, less 1, with even noise; control: with uneven noise."""
    return with_control(above_least(linear, True), above_least(linear, False), FLAT, "imbalanced noise")


@decides("balance.sharp-flat.any-noise", reads=SETTINGS)
def any_noise_flattens(linear: Mapping[str, xr.Dataset]) -> Decision:
    """λ_max over the least on the orbit, less 1, with uneven noise; control: with even noise."""
    return with_control(above_least(linear, False), above_least(linear, True), FLAT, "balanced noise")
