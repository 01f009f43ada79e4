"""The claims of notebook 03, decided from the datasets of its recipes, each with its control.

Tolerances are the accuracy that the theory or the paper states; they stand in this file once and do not move with the data:
1.5 % for radii and 3 % for pressures of the isotropic model (order η of the finite-step forms), 4 % for energies and
for a network's radius and pressure (order η), 0.05 nats a coordinate for entropies (5 % in T), 0.02 a coordinate for
slopes, 5 % for relaxation and for the share of cells that are their own minimum, 10 % for the Maxwell relation (published:
below 10 % in most set-ups), for a network's slope of S and for its effective dimension over D - 1.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from thermolab.claims import Result, decided, extreme, few_seeds, with_control
from thermolab.phenomena.ideal_gas import theory
from thermolab.phenomena.ideal_gas.compare import (
    entropy_slope,
    idle_exponent,
    maxwell,
    nonsense_entropy,
    own_minima,
    plane,
    seeds_first,
)
from thermolab.phenomena.ideal_gas.network import SLOW, settled

RADIUS, PRESSURE, ENERGY, NETWORK, RELAXATION, SHARE, MAXWELL = 0.015, 0.03, 0.04, 0.04, 0.05, 0.05, 0.1
ENTROPY_PER_COORDINATE, SLOPE_PER_COORDINATE = 0.05, 0.02
ENTROPY_SLOPE = SPECTRUM = 0.1
EXPONENT = 0.05  # of σ² along an idle variable: 12 % over a decade
STATIONARY_DRIFT = 0.02  # change of log U between the halves of the window below which a run counts as stationary


# --- the isotropic model ------------------------------------------------------------------------------------------
Grids = Mapping[str, xr.Dataset]


def iso_energy(iso: Grids):
    other = {"elr": "lr", "lr": "sphere", "sphere": "lr"}

    def off(swap: bool):
        temperatures = {k: iso[other[k] if swap else k]["T_step"] for k in iso}
        predicted = {k: _vmf(theory.energy_vmf, t, iso[k].attrs["dim"]) for k, t in temperatures.items()}
        return extreme(seeds_first(*((d["U"] / predicted[k] - 1).mean("lam") for k, d in iso.items())))

    return with_control(off(False), off(True), ENERGY, "temperature of another protocol")


def iso_entropy(iso: Grids):
    dim = next(iter(iso.values())).attrs["dim"]

    def off(factor: float):
        gaps = ((d["S"] - _vmf(theory.entropy_vmf, factor * d["T_step"], dim)).mean("lam") for d in iso.values())
        return extreme(seeds_first(*gaps))

    return with_control(off(1), off(2), ENTROPY_PER_COORDINATE * (dim - 1), "temperature doubled")


def _vmf(form, temperature: xr.DataArray, dim: int) -> xr.DataArray:
    return temperature.copy(data=form(temperature.values, dim))


def iso_radius(iso: Grids):
    free = [iso["elr"], iso["lr"]]
    right = extreme(seeds_first(*((d["r"] / d["r_pred"] - 1).where(d["relaxed"]) for d in free)))
    doubled = [_state(d, 2.0)["r"] for d in free]
    wrong = extreme(seeds_first(*(d["r"] / r[..., None] - 1 for d, r in zip(free, doubled, strict=True))))
    return with_control(right, wrong, RADIUS, "weight decay doubled in the prediction")


def _state(data: xr.Dataset, factor: float) -> dict:
    a = data.attrs
    return theory.isotropic_state(a["protocol"], data["eta"].values[:, None], factor * data["lam"].values, a["dim"], a["sigma"])


def iso_pressure(iso: Grids):
    d = iso["sphere"]
    dim = d.attrs["dim"]
    ratio = d["p"] / d["p_pred"]
    return with_control(
        extreme(seeds_first(ratio - 1)),
        extreme(seeds_first(ratio * (dim - 1) / dim - 1)),
        PRESSURE,
        "D instead of D - 1",
    )


def iso_slopes(iso: Grids):
    dim = iso["elr"].attrs["dim"]

    def off(swap: bool):
        rows = []
        for protocol, other in (("elr", "lr"), ("lr", "elr")):
            expected = theory.slopes(other if swap else protocol, dim)
            rows.append(plane(iso[protocol]) - [expected["eta"], expected["lam"]])
        return extreme(np.concatenate(rows, 1))

    return with_control(off(False), off(True), SLOPE_PER_COORDINATE * (dim - 1), "slopes of the other protocol")


def iso_gibbs(iso: Grids):
    def share(swap: bool):
        return few_seeds(np.mean([own_minima(iso[k], "T_step", swap) for k in ("elr", "lr")], 0))

    return with_control(share(False), share(True), SHARE, "temperature of another cell", predicted=1.0)


def iso_vmf(hot: xr.Dataset):
    def off(name: str):
        return extreme(seeds_first(hot["U"] / hot[name] - 1))

    return with_control(off("U_vmf"), off("U_small"), PRESSURE, "small-temperature form")


def iso_relaxation(relax: Grids):
    def off(name: str):
        return extreme(seeds_first(*(d["r"] / d[name] - 1 for d in relax.values())))

    return with_control(off("r_pred"), off("r_other"), RELAXATION, "law of the other protocol")


def iso_anisotropic(aniso: xr.Dataset):
    """Worst of U, r, slopes and S, each in units of its tolerance."""
    dim = aniso.attrs["dim"]
    shift = theory.anisotropic_entropy_shift(aniso["spectrum"].values)
    expected = theory.slopes(aniso.attrs["protocol"], dim)

    def off(shift: float):
        energy = (aniso["U"] / aniso["U_pred"] - 1).mean("lam") / ENERGY
        radius = (aniso["r"] / aniso["r_pred"] - 1).mean("lam") / RADIUS
        slope = (plane(aniso) - [expected["eta"], expected["lam"]]) / (SLOPE_PER_COORDINATE * (dim - 1))
        entropy = (aniso["S"] - aniso["S_pred"] - shift).mean("lam") / (ENTROPY_PER_COORDINATE * (dim - 1))
        return extreme(np.concatenate([seeds_first(energy, radius, entropy), slope], 1))

    return with_control(off(shift), off(0.0), 1.0, "entropy without the shift")


# --- the network --------------------------------------------------------------------------------------------------
def net_radius(net: Grids):
    def off(name: str):
        return extreme(seeds_first(*((d["r"] / d[name] - 1).where(d["relaxed"]).mean("lam") for d in net.values())))

    return with_control(off("r_pred"), off("r_pred_without"), NETWORK, "prediction without |∇L|²")


def net_pressure(reference: xr.Dataset):
    """Over three bands of rates, since a single rate's |g|², which has heavy tails, is known to 3 % only."""
    d = settled(reference)

    def off(moment):
        ratio = d["p"] / theory.finite_step_pressure(d["eta"], 1.0, moment) - 1
        bands = np.array_split(ratio.transpose("seed", "eta").values, min(3, d.sizes["eta"]), axis=1)
        return extreme(np.stack([band.mean(1) for band in bands], 1))

    return with_control(off(d["trace"] + d["gradient_squared"]), off(d["trace"]), NETWORK, "prediction without |∇L|²")


def net_sigma(net: Grids):
    right = [idle_exponent(net["elr"], "lam"), idle_exponent(net["lr"], "ratio")]
    wrong = [idle_exponent(net[k], "eta") for k in ("elr", "lr")]
    return with_control(extreme(np.stack(right, 1)), extreme(np.stack(wrong, 1)), EXPONENT, "σ² as a function of λ alone")


def net_spectrum(reference: xr.Dataset):
    d = settled(reference)
    size = d.attrs["dim"] - 1

    def ratio(name: str):
        return few_seeds((d[name] / size).mean("eta"))

    right, control = ratio("effective_dimension"), ratio("effective_dimension_isotropic")
    return with_control(right, control, SPECTRUM, "isotropic noise, same estimator", predicted=1.0)


def net_maxwell(net: Grids):
    d = net["lr"]
    direction, log_r = seeds_first(d["S"]), np.log(seeds_first(d["r"]))
    shuffled = log_r[:, np.random.default_rng(0).permutation(log_r.shape[1])]
    return with_control(
        extreme(maxwell(d, direction, log_r)[0]),
        extreme(maxwell(d, direction, shuffled)[0]),
        MAXWELL,
        "radii shuffled over the grid",
    )


def net_tautology(net: Grids):
    d = net["lr"]
    log_r = np.log(seeds_first(d["r"]))
    nonsense = nonsense_entropy(d) + 0 * log_r
    return with_control(
        extreme(maxwell(d, nonsense, log_r)[0]), extreme(maxwell(d, nonsense, -log_r)[0]), MAXWELL, "a nonsense radius 1/r"
    )


def net_entropy(reference: xr.Dataset, gas: xr.Dataset):
    d = settled(reference)
    t = (d["eta"] * d["trace"]).transpose("seed", "eta").values
    network = [entropy_slope(*row) for row in zip(t, d["S"].transpose("seed", "eta").values, strict=True)]
    perfect = [entropy_slope(gas["rate"].values, row) for row in gas["sphere_S"].transpose("seed", "rate").values]
    half = (d.attrs["dim"] - 1) / 2
    return with_control(few_seeds(np.array(network) / half), few_seeds(np.array(perfect) / half), ENTROPY_SLOPE,
                 "isotropic gas in the same D, same estimator", predicted=1.0)  # fmt: skip


def net_gibbs(net: Grids, gas: xr.Dataset):
    """At fixed ELR; at fixed LR even a perfect gas misses a quarter of its cells with entropies of one path a cell."""
    network, perfect = few_seeds(own_minima(net["elr"], "T")), few_seeds(own_minima(gas, "T"))
    return with_control(network, perfect, SHARE, "isotropic gas in the same D, same estimator", predicted=1.0)


def net_stationarity(reference: xr.Dataset):
    slow, fast = reference["drift"].sel(eta=list(SLOW)), reference["drift"].sel(eta=reference["eta"] >= 0.01)
    drifts = (few_seeds(np.abs(x).mean("eta")) for x in (slow, fast))
    return with_control(*drifts, 0.0, "rates of 0.01 and more", predicted=STATIONARY_DRIFT, relation="above")


def traces(iso: Grids, point: xr.Dataset, reference: xr.Dataset, net: Grids) -> xr.Dataset:
    """All measured grids as one dataset for results.nc: names carry their source, `point` is the working point."""
    gauges = ["U", "S", "T", "r", "p", "U_pred", "S_pred", "r_pred", "p_pred"]
    parts = {f"iso_{k}": d for k, d in iso.items()} | {f"net_{k}": d for k, d in net.items()} | {"sphere": reference}
    out = point[gauges].squeeze(("eta", "lam"), drop=True).reset_coords(drop=True).rename(seed="point_seed")
    for name, d in parts.items():
        out = out.merge(d.rename({k: f"{name}_{k}" for k in (*d.data_vars, *d.dims)}).drop_attrs(), join="exact")
    return out.assign_attrs({f"point_{k}": point[k].item() for k in ("eta", "lam")} | dict(point.attrs))


# --- verdicts -----------------------------------------------------------------------------------------------------
def decide(
    iso: Grids, relax: Grids, hot, aniso, reference, net: Grids, twin, *, settings=None, seconds: float = 0.0
) -> list[Result]:
    """All claims of the notebook, in the register's order.

    iso: datasets of `isotropic.stationary` by protocol; relax: of `transients.relaxation` by protocol; hot: of
    `isotropic.hot_sphere`; aniso: of `isotropic.stationary` with a spectrum; reference: of `network.sphere`;
    net: of `network.stationary` by protocol; twin: of `network.gas`. seconds: what the measurements took, shared out evenly.
    """
    gas = "ideal-gas."
    checks = {
        gas + "iso.energy": lambda: iso_energy(iso),
        gas + "iso.entropy": lambda: iso_entropy(iso),
        gas + "iso.radius": lambda: iso_radius(iso),
        gas + "iso.pressure": lambda: iso_pressure(iso),
        gas + "iso.slopes": lambda: iso_slopes(iso),
        gas + "iso.gibbs": lambda: iso_gibbs(iso),
        gas + "iso.vmf": lambda: iso_vmf(hot),
        gas + "iso.relaxation": lambda: iso_relaxation(relax),
        gas + "iso.anisotropic": lambda: iso_anisotropic(aniso),
        gas + "net.radius": lambda: net_radius(net),
        gas + "net.pressure": lambda: net_pressure(reference),
        gas + "net.sigma": lambda: net_sigma(net),
        gas + "net.spectrum": lambda: net_spectrum(reference),
        gas + "net.maxwell": lambda: net_maxwell(net),
        gas + "net.maxwell-is-tautology": lambda: net_tautology(net),
        gas + "net.entropy": lambda: net_entropy(reference, twin),
        gas + "net.gibbs": lambda: net_gibbs(net, twin),
        gas + "net.stationarity": lambda: net_stationarity(reference),
    }

    def n_seeds(name: str) -> int:
        on_sphere = name.removeprefix(gas) in ("net.pressure", "net.spectrum", "net.entropy", "net.stationarity")
        return (reference if on_sphere else net["lr"] if ".net." in name else iso["elr"]).sizes["seed"]

    return decided("03_ideal_gas", checks, n_seeds, settings=settings, seconds=seconds)
