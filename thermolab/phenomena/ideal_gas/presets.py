"""What each preset of notebook 03 measures, by name, and what of it results.nc keeps."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import xarray as xr

from thermolab.engine.recipe import From
from thermolab.phenomena.common import presets
from thermolab.phenomena.ideal_gas import epochs, isotropic, network, reference, theory, transients, twin

# settings that are not the recipes' own defaults
SIZES: dict[str, dict[str, dict]] = {
    "lab": {"anisotropic": {"eta": (10**-2.5, 0.03, 5), "lam": (1e-3, 0.1, 5)}},
    "smoke": {
        "stationary": {"replicas": 24, "snapshots": 16, "relaxations": 3.0},
        "anisotropic": {"eta": (0.01, 0.03, 3), "lam": (0.01, 0.1, 3), "replicas": 32, "snapshots": 24},
        "relaxation": {"replicas": 32, "points": 30},
        "hot": {"replicas": 32, "steps": 6_000},
        "reference": {
            "rates": (1e-4, 3e-4, 1e-3, 5e-3, 0.01, 0.02, 0.05),
            "burn_in": 300,
            "window": 1024,
            "samples": 40,
            "moments": 16,
        },
        "elr": {"eta": (0.02, 0.05, 3), "lam": (0.01, 0.1, 3), "burn_in": 300, "window": 900},
        "lr": {"eta": (0.2, 0.6, 3), "lam": (0.03, 0.1, 3), "burn_in": 300, "window": 900},
        "perfect": {"eta": (0.02, 0.05, 3), "lam": (0.01, 0.1, 3), "burn_in": 300, "window": 900, "samples": 40},
        "epochs": {"curvatures": (0.5, 3.2), "length": 25, "window": 25},
    },
}


def datasets(setup) -> dict:
    """{name: recipe, not yet called}: what the notebook measures at its checked parameters.

    iso, relaxation and net hold a dataset for each protocol; here is the working point of the isotropic model, anisotropic the
    gas under noise of variances 1/i, hot its hot end; reference is the network on the sphere, perfect the gas beside it; epochs
    is least squares on batches with and without replacement.
    """
    common = presets.common(setup, smoke=3)
    size = {name: SIZES[setup.preset].get(name, {}) | common for name in SIZES["smoke"]}
    model = {"dim": setup.dim, "sigma": setup.sigma}
    grids = {"eta": setup.eta_range, "lam": setup.lam_range}
    point = {"eta": (setup.eta, setup.eta, 1), "lam": (setup.lam, setup.lam, 1)}
    gas = partial(isotropic.stationary, **model, **size["stationary"])
    batch, known = {"batch_size": setup.batch_size}, {"reference": From("reference")}
    # of 5 seeds the pressure of the reference and the Maxwell relations are decided by luck
    seeds = {"reference": -(-8 * setup.n_seeds // 5), "net": 2 * setup.n_seeds}
    many = {name: {} if setup.preset == "smoke" else {"n_seeds": n} for name, n in seeds.items()}
    return {
        "iso": {protocol: partial(gas, protocol, **grids) for protocol in theory.PROTOCOLS},
        "here": partial(gas, setup.protocol, **point),
        "relaxation": {p: partial(transients.relaxation, p, **size["relaxation"]) for p in ("elr", "lr")},
        "hot": partial(isotropic.hot_sphere, **size["hot"]),
        "anisotropic": partial(
            isotropic.stationary, "elr", dim=10, spectrum=theory.power_spectrum(10, 1.0), **size["anisotropic"]
        ),
        "reference": partial(reference.sphere, **batch, **size["reference"] | many["reference"]),
        "net": {p: partial(network.stationary, p, **known, **batch, **size[p] | many["net"]) for p in ("elr", "lr")},
        "perfect": partial(twin.gas, **known, **size["perfect"]),
        "epochs": partial(epochs.epochs, **size["epochs"]),
    }


def traces(found: Mapping) -> xr.Dataset:
    """What results.nc keeps of the datasets: all grids, whose names carry their source, and the working point."""
    point = found["here"]
    parts = {f"{group}_{k}": d for group in ("iso", "net") for k, d in found[group].items()} | {"sphere": found["reference"]}
    observables = ["U", "S", "T", "r", "p", "U_pred", "S_pred", "r_pred", "p_pred"]
    out = point[observables].squeeze(("eta", "lam"), drop=True).reset_coords(drop=True).rename(seed="point_seed")
    for name, d in parts.items():
        out = out.merge(d.rename({k: f"{name}_{k}" for k in (*d.data_vars, *d.dims)}).drop_attrs(), join="exact")
    return out.assign_attrs({f"point_{k}": point[k].item() for k in ("eta", "lam")} | dict(point.attrs))
