"""The figures of notebook 02: each from its datasets to what the cell shows."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import xarray as xr

from thermolab import plots
from thermolab.phenomena.temperature_collapse import curves, training
from thermolab.phenomena.temperature_collapse.plateau import plateau_loss

RATE, ENERGY, GAS = "learning rate η", "energy U (loss)", "temperature T_gas (loss)"


def toys(toy: xr.Dataset, two: xr.Dataset):
    """Energy and signal-to-noise ratio of three points and of two, over η."""
    edge, floor = 2 * [two["critical"].item()], 1e-30  # far lower values are drawn at the floor
    excess = {"three points: U − U_min": (toy["eta"], toy["U"] - toy["U_min"]),
              "two points: U, 1e-30 or less": (two["eta"], np.maximum(two["U_final"], floor))}  # fmt: skip
    lines = {"three points: U − U_min": (toy["eta"], toy["U_pred"] - toy["U_min"])}
    lines["critical η of two points"] = edge, [floor, 1]
    figure, (left, right) = plots.panels(2)
    plots.panel(left, excess, lines, x=RATE, y="energy (loss)", log="xy")
    ratios = {"three points (UP)": (toy["eta"], toy["snr"]), "two points (OP)": (two["eta"], two["snr"])}
    plots.panel(right, ratios, {"three points (UP)": (toy["eta"], toy["snr_pred"])}, x=RATE, y="SNR", log="xy")
    return plots.show(figure, "(a) three points follow their line; two points lose all energy below the critical rate. (b) SNR.")


def ends(up_run: xr.Dataset, op_run: xr.Dataset, here: xr.Dataset):
    """Temperature, accuracy and signal-to-noise ratio at the end of training, over η."""
    shown = {"narrow (UP)": curves.end_of(up_run), "wide (OP)": curves.end_of(op_run), "working point": here}
    figure, axes = plots.panels(3, columns=3)
    texts = {"T_gas": GAS, "accuracy": "training accuracy", "snr": "SNR"}
    for ax, (name, text) in zip(axes, texts.items(), strict=True):
        measured = {k: (d["eta"], d[name]) for k, d in shown.items()}
        plots.panel(ax, measured, x=RATE, y=text, log="x" if name == "accuracy" else "xy")
    return plots.show(figure, "Temperature, accuracy and SNR against η: the temperature of the wide net falls by four decades.")


def free_energies(up: xr.Dataset):
    """F of each state at the temperature of each, and two thermometers over η."""
    up = curves.stationary_only(up)
    eta, t = up["eta"], curves.leave_one_out(curves.temperature, up)
    known = np.flatnonzero(np.isfinite(t).all("seed"))
    own = {f"T of η = {eta[k]:.2g}": (eta, curves.leave_one_out(partial(_above_minimum, k), up)) for k in known}
    figure, (left, right) = plots.panels(2)
    plots.panel(left, own, x="learning rate η of the state", y="F − its minimum (loss)", log="x")
    thermometers = {"dU/dS": (eta[known], t[:, known]), "T_gas": (eta, up["T_gas"])}
    plots.panel(right, thermometers, x=RATE, y="temperature T (loss)", log="xy")
    return plots.show(figure, "(a) each free energy is least at its own learning rate. (b) two thermometers rise together.")


def _above_minimum(k: int, mean: xr.Dataset) -> np.ndarray:
    """F of each state at the temperature of state k, above its least."""
    free = curves.free_energy(mean)[:, k]
    return free - free.min()


def along_training(up_run: xr.Dataset, op_run: xr.Dataset):
    """dU/dS in time of both networks at the lowest η, and the minibatch gradient over the full one of the wide network."""
    lowest = {"narrow (UP)": up_run.isel(eta=0), "wide (OP)": op_run.isel(eta=0)}
    measured = {k: (d["time"][4:], curves.leave_one_out(_running_temperature, d)) for k, d in lowest.items()}
    figure, (left, right) = plots.panels(2)
    plots.panel(left, measured, x="step", y="T = dU/dS of the last 5 logs (loss)", log="xy")
    slow = {f"η = {e:.2g}": op_run.sel(eta=e) for e in op_run["eta"].values[:3]}
    norms = {k: (np.sqrt(d["gradient_squared"].mean("seed")), np.sqrt(d["g2"])) for k, d in slow.items()}
    g = np.sqrt(op_run["gradient_squared"].mean("seed").isel(eta=0))
    plots.panel(right, norms, {"exponent 1": (g, 2 * g)}, x="|∇L|", y="√E|g|² of a minibatch", log="xy")
    return plots.show(
        figure, "(a) dU/dS of the wide net falls in time. (b) minibatch over full gradient, flatter than exponent 1."
    )


def _running_temperature(mean: xr.Dataset) -> np.ndarray:
    return curves.running_temperature(mean["U"], mean["S"])


def batches_and_optimisers(batches: Mapping[int, xr.Dataset], plain: xr.Dataset, momentum: xr.Dataset, adam: xr.Dataset):
    """Energy over η/B, and over η/(1 − μ) of SGD, momentum and Adam."""
    figure, (left, right) = plots.panels(2)
    plots.panel(left, {f"B = {b}": (d["eta"] / b, d["U"]) for b, d in batches.items()}, x="η/B", y=ENERGY, log="x")
    shown = {"plain SGD": (plain["eta"], plain["U"]), "momentum 0.9": (10 * momentum["eta"], momentum["U"]),
             "Adam": (adam["eta"], adam["U"])}  # fmt: skip
    plots.panel(right, shown, x="η/(1 − μ)", y=ENERGY, log="x")
    return plots.show(
        figure, "(a) energies at equal η/B agree at small rates and part at large ones. (b) momentum and plain SGD."
    )


def widths(widths: Mapping[int, xr.Dataset], convnets: xr.Dataset):
    """Temperature over the width, and of ConvNets along training."""
    t, slow = training.over_width(widths, "T_gas"), convnets["T_gas"].isel(eta=0)
    figure, (left, right) = plots.panels(2)
    over = {f"η = {e:g}": (t["width"], t.sel(eta=e)) for e in t["eta"].values}
    plots.panel(left, over, x="width h", y=GAS, log="xy")
    arms = {arm: (slow["time"], slow.sel(arm=arm)) for arm in slow["arm"].values}
    title = f"ConvNets at η = {slow['eta'].item():g}"
    plots.panel(right, arms, x="step", y=GAS, log="y", title=title, legend="lower left")
    return plots.show(figure, "(a) at low η T falls by four decades within an octave of width. (b) a ConvNet does the same.")


def layers(ordinary: xr.Dataset):
    """Temperature of each layer over η, and the stationarity thermometer of the whole network, late and early."""
    eta, figure, (left, right) = ordinary["eta"], *plots.panels(2)
    shown = {f"layer {k + 1}": (eta, ordinary["T_layer"].isel(layer=k)) for k in range(ordinary.sizes["layer"])}
    plots.panel(left, shown, x=RATE, y="temperature of a layer (loss)", log="xy")
    balance = {"over the window": (eta, ordinary["balance"]), "first 1/(ηλ) steps": (eta, ordinary["balance_early"])}
    plots.panel(right, balance, {"stationary": (eta, 0 * eta + 1)}, x=RATE, y="pull over push (no unit)", log="x")
    return plots.show(
        figure,
        "(a) temperatures of both layers rise with η and differ. (b) pull and push about the start balance late.",
    )


def plateaus(plateau: xr.Dataset, metastable: xr.Dataset):
    """Energy of a saddle over η, F of all its weights in time, and how soon saddle and false minimum are left."""
    flat, well, window = plateau, metastable, plateau.attrs["window"]
    figure, axes = plots.panels(3, columns=3)
    excess, line = {"U − U₀": (flat["eta"], flat["U"] - plateau_loss())}, {"3 T": (flat["eta"], 3 * flat["T"])}
    plots.panel(axes[0], excess, line, x=RATE, y="energy of the plateau (loss)", log="xy")
    paths = {"saddle": flat["F_t"].isel(eta=0), "nothing to learn": flat["null_F_t"].isel(eta=0)}
    paths = {k: (window * (v["window"] + 0.5), (v - v.isel(window=0)).mean("replica")) for k, v in paths.items()}
    plots.panel(axes[1], paths, x="time ηn (1/loss)", y="F of all weights − its start (loss)")
    times = {"false minimum": (1 / well["eta"], well["time"]),
             "saddle": (1 / flat["eta"], window * flat["U_exit"].mean("replica"))}  # fmt: skip
    lines = {"false minimum": (1 / well["eta"], well["time_pred"]), "barrier of U over T": (1 / well["eta"], well["time_naive"])}
    plots.panel(axes[2], times, lines, x="1/η", y="mean ηn until the exit (1/loss)", log="y")
    return plots.show(
        figure, "Energy of the plateau on its line; F of all weights falls; exits of a false minimum are Arrhenius."
    )
