"""The figures of notebook 07: each from its datasets to what the cell shows."""

from __future__ import annotations

import numpy as np
import xarray as xr

from thermolab import plots
from thermolab.phenomena.your_network import theory, trained

RATE = "learning rate η"


def laws(found: xr.Dataset):
    """Laws of the stationary state over η: radius of every group, thermometer of the free weights, balance of every pair."""
    figure, (left, middle, right) = plots.panels(3, columns=3, width=4.4)
    lam, eta = found.attrs["lam"], found["eta"]
    one = {"law": (eta, 1 + 0 * eta)}
    if lam:
        ratio = theory.radius_ratio(eta, lam, found["g2"], found["w2"])
        kind = {True: "scale-invariant", False: "not"}
        groups = zip(found["group"].values, found["invariant"].values, strict=True)
        rows = {f"{name}: {kind[bool(yes)]}": (eta, ratio.isel(group=i)) for i, (name, yes) in enumerate(groups)}
        plots.panel(left, rows, one, x=RATE, y="η⟨|g|²⟩ / (2λ − ηλ²)⟨|w|²⟩", log="xy", legend="" if len(rows) > 7 else "best")
    thermometer = {"all free weights": (eta, found["pull"] / found["drive"])}
    plots.panel(middle, thermometer, {"stationary": one["law"]}, x=RATE, y="2⟨w·(∇L + λw)⟩ / η⟨|g + λw|²⟩", log="x")
    pairs = trained.rescalable(found)
    rows = {name: (eta, trained.balance(pairs.isel(pair=[i]), "").isel(pair=0)) for i, name in enumerate(pairs["pair"].values)}
    plots.panel(right, rows, {"balance": (eta, 0 * eta)}, x=RATE, y="log ratio of squared gradients", log="x")
    return plots.show(
        figure,
        "(a) Radius over its law: scale-invariant groups lie at 1, others need not. (b) The thermometer is 1 in a stationary "
        "state. (c) Pairs that are balanced lie at 0.",
    )


def sweep(found: xr.Dataset, double: xr.Dataset):
    """Energy, signal-to-noise ratio and batch sharpness over η, and the entropy over the temperature."""
    figure, (one, two, three, four) = plots.panels(4, columns=2, width=5.2)
    eta, size = found["eta"], found.attrs["batch_size"]
    energies = {f"B = {size}": (eta, found["U"]), f"B = {2 * size}, at η/2": (double["eta"] / 2, double["U"])}
    plots.panel(one, energies, x=RATE, y="energy U (loss)", log="x")
    ratios = {"network": (eta, found["snr"])}
    known = float(found["snr"].mean("seed")[-1]) * (eta / eta[-1]) ** theory.UNDER
    plots.panel(two, ratios, {"∝ √η (UP)": (eta, known)}, x=RATE, y="|∇L + λw| / √Tr Σ", log="xy")
    edges = {name: (eta, eta * found[f"sharpness{when}"] / theory.EDGE) for name, when in (("end", ""), ("start", "_start"))}
    plots.panel(three, edges, {"edge, 2/η": (eta, 1 + 0 * eta)}, x=RATE, y="batch sharpness · η/2", log="x")
    t = theory.temperature(eta, found["trace"], found.attrs["dim"])
    mean, s = t.mean("seed"), (found["S"] - found["S"].isel(eta=0)) / found.attrs["dim"]
    gas = theory.PERFECT_GAS * np.log(mean / mean[0])
    plots.panel(
        four, {"network": (mean, s)}, {"perfect gas": (mean, gas)}, x="temperature η Tr Σ/2D (loss)", y="ΔS/D (nats)", log="x"
    )
    return plots.show(
        figure, "(a) Energy, (b) signal-to-noise ratio, (c) sharpness over the learning rate. (d) Entropy against a perfect gas."
    )


def alignment(found: xr.Dataset, knocked: xr.Dataset):
    """CKA between seeds: at the start, at the end, and of networks from whose training one thing was taken."""
    here = trained.point(found)
    values = {"start": here["cka_start"], "end": here["cka"]}
    values |= {str(arm): knocked["cka"].sel(arm=arm) for arm in knocked["arm"].values}
    figure, (ax,) = plots.panels(1, width=6.5)
    plots.categories(ax, {"": values}, y="CKA between two seeds")
    return plots.show(figure, "How alike two seeds are: before training, after it, and with one thing knocked out.")
