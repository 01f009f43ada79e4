"""A perfect gas beside the network: the isotropic model in as many dimensions under the same estimators; and what both decide.

What the network misses and this gas meets is no artefact of the estimators. Tolerances: 10 % for the slope of S, 5 % for the
share of cells that are their own minimum. Source: arXiv:2511.07308, Sec. 6.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from thermolab.claims import Decision, decides, few_seeds, with_control
from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count
from thermolab.instruments.windows import slow_windows
from thermolab.phenomena.ideal_gas import compare, theory
from thermolab.phenomena.ideal_gas.isotropic import grid
from thermolab.phenomena.ideal_gas.network import GRIDS, ON_GRID, SHARE, Grids, OwnAxis, Window, fixed_stride_window, spread_start
from thermolab.phenomena.ideal_gas.reference import DIM, ON_SPHERE, Steps, settled
from thermolab.systems.isotropic import IsotropicNoise

ENTROPY_SLOPE = 0.1
GAS = "isotropic gas in the same D, same estimator"


@recipe("isotropic gas, D = 576", shared=["T", "p"], dims=("eta", "lam", "rate", "seed"))
def gas(
    reference: xr.Dataset,
    *,
    eta: OwnAxis = None,
    lam: OwnAxis = None,
    burn_in: Steps = 4_000,
    window: Window = 12_000,
    samples: Count = 200,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """A perfect gas measured as the network is: the isotropic model in the same D = 576, one path a cell, same estimators.

    reference: the network on the sphere, whose rates, window and mean Tr Σ the gas takes over. eta, lam: as in `stationary`,
    protocol "elr". What the network misses and this gas meets is no artefact of the estimators.

    Returns a Dataset: sphere_S (rate, seed), entropy of the direction on the sphere at noise so low that its slope in
    log T is (D - 1)/2; U, r, g2, S, S_full, diverged (eta, lam, seed) and T, p (eta, lam) of the free gas.
    """
    eta, lam = grid(eta or GRIDS["elr"]["eta"], lam or GRIDS["elr"]["lam"])
    h, ld = np.meshgrid(eta, lam, indexing="ij")
    known = settled(reference)
    sigma = float(np.sqrt(known["trace"].mean() / (DIM - 1)))
    state = theory.isotropic_state("elr", h, ld, DIM, sigma)
    free = IsotropicNoise(DIM, "elr")
    run = spread_start(free, h.ravel(), ld.ravel(), state["r"].ravel(), seed, device, sigma=sigma)
    found = fixed_stride_window(run, burn_in, window)
    rates = known["eta"].values
    bound = Experiment(IsotropicNoise(DIM, "sphere"), eta=rates, sigma=1 / np.sqrt(DIM - 1), seed=seed, device=device)
    entropies = slow_windows(bound, rates, reference.attrs["burn_in"], reference.attrs["window"], samples)["S"]
    dims = ("eta", "lam")
    out = xr.Dataset(
        {k: (dims, v.reshape(h.shape)) for k, v in found.items()}
        | {"T": (dims, state["T"]), "p": (dims, ld), "sphere_S": ("rate", entropies)},
        coords={"eta": eta, "lam": lam, "rate": rates},
        attrs={"protocol": "elr", "dim": DIM, "sigma": sigma},
    )
    out["S_full"] = theory.full_entropy(out["S"], out["r"], DIM)
    return out


@decides("ideal-gas.net.entropy", reads=ON_SPHERE)
def entropy_growth(reference: xr.Dataset, perfect: xr.Dataset) -> Decision:
    """Slope of S in log T over (D - 1)/2."""
    d = settled(reference)
    t = (d["eta"] * d["trace"]).transpose("seed", "eta").values
    network = [compare.entropy_slope(*row) for row in zip(t, d["S"].transpose("seed", "eta").values, strict=True)]
    twin = [compare.entropy_slope(perfect["rate"].values, row) for row in perfect["sphere_S"].transpose("seed", "rate").values]
    measured, control = (few_seeds(np.array(slopes) / ((d.attrs["dim"] - 1) / 2)) for slopes in (network, twin))
    return with_control(measured, control, ENTROPY_SLOPE, GAS, predicted=1.0)


@decides("ideal-gas.net.gibbs-exact", reads=ON_GRID)
def minima(net: Grids, perfect: xr.Dataset) -> Decision:
    """Share of cells at fixed ELR whose G is least in them.

    At fixed LR even a perfect gas misses a quarter of its cells with entropies of one path a cell."""
    network, control = (few_seeds(compare.own_minima(d, "T")) for d in (net["elr"], perfect))
    return with_control(network, control, SHARE, GAS, predicted=1.0)
