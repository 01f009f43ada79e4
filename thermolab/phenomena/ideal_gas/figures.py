"""The figures of notebook 03: from its datasets to what a cell shows, with its alt text."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from thermolab import plots
from thermolab.phenomena.ideal_gas import compare, theory
from thermolab.phenomena.ideal_gas.reference import settled

NAMES = {"elr": "fixed ELR", "lr": "fixed LR", "sphere": "fixed sphere"}
TEMPERATURE = "temperature T (loss)"
LABELS = {"U": "energy U (loss)", "S": "entropy of the direction S (nats)"}

Grids = Mapping[str, xr.Dataset]  # by protocol


def shown(data: xr.Dataset) -> str:
    """The grid behind a dataset, in a line."""
    eta, lam = (f"{d[0]:.3g} … {d[-1]:.3g} ({d.size})" for d in (data["eta"].values, data["lam"].values))
    return f"{NAMES[data.attrs['protocol']]}: η = {eta}, λ = {lam}"


def energy_and_entropy(iso: Grids):
    """U and S of the direction against temperature, all cells of the three protocols, and the von Mises-Fisher lines."""
    t, dim = np.geomspace(iso["lr"]["T_step"].min(), iso["elr"]["T_step"].max()), iso["elr"].attrs["dim"]
    figure, axes = plots.panels(2)
    for ax, name, form in zip(axes, LABELS, (theory.energy_vmf, theory.entropy_vmf), strict=True):
        measured = {NAMES[k]: (d["T_step"], d[name]) for k, d in iso.items()}
        line, log = {"von Mises–Fisher": (t, form(t, dim))}, "xy" if name == "U" else "x"
        plots.panel(ax, measured, line, x=TEMPERATURE, y=LABELS[name], log=log)
    return plots.show(figure, "Energy and entropy of the direction against temperature: all three protocols lie on one line.")


def radius_and_pressure(iso: Grids, here: xr.Dataset):
    """(a) r against λ at the ends of the grid, and the working point; (b) p on the sphere against the λ that it holds."""
    ends = {f"{NAMES[k]}, η = {e:.2g}": iso[k].sel(eta=e) for k in ("elr", "lr") for e in iso[k]["eta"].values[[0, -1]]}
    ends["your working point"] = here.isel(eta=0)
    d = iso["sphere"].transpose("eta", "lam", "seed")
    held = (d["lam"] + 0 * d["p_pred"]).transpose("eta", "lam")
    figure, (left, right) = plots.panels(2)
    lines = {k: (e["lam"], e["r_pred"]) for k, e in ends.items()}
    measured = {k: (e["lam"], e["r"]) for k, e in ends.items()}
    plots.panel(left, measured, lines, x="weight decay λ", y="radius r = |w|", log="xy", legend="lower left")
    left.set_ylim(bottom=0.02)  # room for the legend
    diagonal = {"p = λ": (d["lam"], d["lam"])}
    held_by = "λ that would hold this radius"
    plots.panel(right, {"all η": (held, d["p"])}, diagonal, x=held_by, y="pressure p on the sphere", log="xy")
    return plots.show(figure, "(a) the radius falls with weight decay along the lines. (b) pressures lie on the diagonal p = λ.")


def relaxation_and_hot_end(relaxation: Grids, hot: xr.Dataset):
    """(a) r/r* in time at the highest rate, from each start; (b) U against T on the hot sphere."""
    runs = {f"{NAMES[k]}, from {s:g} r*": d.isel(eta=-1).sel(start=s) for k, d in relaxation.items() for s in d["start"].values}
    t, dim = np.geomspace(hot["temperature"].min(), hot["temperature"].max()), hot.attrs["dim"]
    forms = {"von Mises–Fisher": (t, theory.energy_vmf(t, dim)), "(D − 1) T/2": (t, theory.energy_small_t(t, dim))}
    figure, (left, right) = plots.panels(2)
    few = np.unique(np.geomspace(1, next(iter(runs.values())).sizes["time"], 16).astype(int)) - 1  # even on a logarithmic axis
    measured = {k: (d["time"][few], (d["r"] / d["r_star"])[few]) for k, d in runs.items()}
    lines = {k: (d["time"], d["r_pred"] / d["r_star"]) for k, d in runs.items()}
    plots.panel(left, measured, lines, x="step", y="radius r/r*", log="x")
    plots.panel(right, {f"D = {dim}": (hot["temperature"], hot["U"])}, forms, x=TEMPERATURE, y=LABELS["U"], log="xy")
    return plots.show(
        figure, "(a) radii relax to r* along the predicted curves. (b) the energy bends away from the small-T line."
    )


def shift_of_entropy(anisotropic: xr.Dataset):
    """S of the direction against temperature under uneven noise, with the isotropic line and the shifted one."""
    d, shift = anisotropic.mean("lam"), theory.anisotropic_entropy_shift(anisotropic["spectrum"].values)
    lines = {"isotropic theory": (d["T_step"], d["S_pred"]), "with the shift": (d["T_step"], d["S_pred"] + shift)}
    figure = plots.panel(None, {"variances ~ 1/i": (d["T_step"], d["S"])}, lines, x=TEMPERATURE, y=LABELS["S"], log="x")
    return plots.show(figure, "Entropy under anisotropic noise runs parallel to the isotropic line, shifted down as predicted.")


def radius_of_the_network(net: Grids):
    """Measured over predicted radius, with and without the squared gradient, a mean over the knob that does not matter."""
    figure, axes = plots.panels(2)
    axis_of = {"elr": ("lam", "eta", "learning rate η"), "lr": ("eta", "lam", "weight decay λ")}
    for ax, (name, (idle, knob, text)) in zip(axes, axis_of.items(), strict=True):
        d, x = net[name], net[name][knob]
        forms = {"with |∇L|²": d["r_pred"], "Tr Σ alone": d["r_pred_without"]}
        ratios = {k: (x, (d["r"] / form).mean(idle)) for k, form in forms.items()}
        plots.panel(ax, ratios, {"theory": (x, 1 + 0 * x)}, x=text, y="radius, measured/predicted", log="x", title=NAMES[name])
    return plots.show(
        figure, "Measured over predicted radius is one with the squared gradient, and off by 5 to 14 percent without it."
    )


def maxwell_relation(net: Grids):
    """The relation in each cell of the grid at fixed LR: measured, with a nonsense entropy, with a nonsense radius."""
    d = net["lr"]
    directions, log_r = compare.seeds_first(d["S"]), np.log(compare.seeds_first(d["r"]))
    nonsense, cells = compare.nonsense_entropy(d) + 0 * log_r, np.arange(log_r.shape[1])
    arms = {"measured entropy": (directions, log_r), "nonsense entropy": (nonsense, log_r)}
    arms["nonsense radius 1/r"] = nonsense, -log_r
    relation = {k: (cells, xr.DataArray(1 + compare.maxwell(d, *arm)[0], dims=("seed", "cell"))) for k, arm in arms.items()}
    line = {"theory": (cells, 1 + 0 * cells)}
    figure = plots.panel(None, relation, line, x="cell of the (η, λ) grid", y="Maxwell relation / ((D − 1)/2)")
    return plots.show(figure, "The relation is met in every cell with measured and nonsense entropy, not with a nonsense radius.")


def entropy_and_noise(reference: xr.Dataset, perfect: xr.Dataset):
    """(a) rise of S with T of network and perfect gas; (b) effective dimension of the noise against the rate."""
    d = settled(reference)
    dim = d.attrs["dim"]
    t, rise = compare.entropy_rise(d["eta"] * d["trace"].mean("seed") / (2 * (dim - 1)), d["S"])
    rate, gas_rise = compare.entropy_rise(perfect["rate"], perfect["sphere_S"])
    rises = {"network": (t, rise), "perfect gas": (t[0].item() * rate / rate[0], gas_rise)}
    law = {"slope (D − 1)/2": (t, (dim - 1) / 2 * np.log(t / t[0]))}
    names = {"network": "effective_dimension", "isotropic noise": "effective_dimension_isotropic"}
    noise = {label: (d["eta"], d[name]) for label, name in names.items()}
    figure, (left, right) = plots.panels(2)
    plots.panel(left, rises, law, x=TEMPERATURE, y="rise of the entropy S (nats)", log="x")
    line = {"D": (d["eta"], dim + 0 * d["eta"])}
    plots.panel(right, noise, line, x="effective learning rate η", y="effective dimension of the noise", log="xy")
    return plots.show(
        figure, "(a) the network's entropy rises more steeply than the gas. (b) its noise fills few of 576 directions."
    )


def stationarity(lr: xr.Dataset, reference: xr.Dataset, epochs: xr.Dataset):
    """The thermometer: (a) its ratio at fixed LR, early and over the window; (b) its two sides on the sphere; (c) epochs."""
    rate = (lr["eta"] * lr["lam"]).transpose("eta", "lam").values.ravel()
    names = {"first 24 steps": "balance_early", "window": "balance"}
    ratios = {k: (rate, xr.DataArray(compare.seeds_first(lr[v]), dims=("seed", "cell"))) for k, v in names.items()}
    eta = reference["eta"]
    sides = {"pull of the loss": (eta, reference["pull"]), "what noise takes": (eta, eta / 2 * reference["push"])}
    figure, (left, middle, right) = plots.panels(3, columns=3)
    line = {"stationary": (rate, 1 + 0 * rate)}
    plots.panel(left, ratios, line, x="η λ of a cell, fixed LR", y="pull / push on |w|²", log="x")
    plots.panel(middle, sides, x="effective learning rate η, fixed sphere", y="along the mean direction (loss)", log="x")
    epoch, step = epochs.sel(batches="without"), epochs.attrs["eta"] * epochs.attrs["length"]
    measured, known = (
        {f"ηhM = {step * h:.2g}": (epoch["position"], epoch[name].sel(curvature=h)) for h in epoch["curvature"].values}
        for name in ("variance", "predicted")
    )
    plots.panel(right, measured, known, x="step in the epoch", y="variance / with replacement", log="y")
    return plots.show(
        figure,
        "(a) ratios are off in the first steps and one over the window. (b) the sides agree but at the lowest rates. "
        "(c) without replacement the variance is far below that of independent batches, least at the ends of an epoch.",
    )
