"""The figures of notebook 05, from its datasets."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from thermolab import plots
from thermolab.phenomena.platonic_alignment import breaking, rates
from thermolab.phenomena.platonic_alignment.digits import at_end, last
from thermolab.phenomena.platonic_alignment.tables import between, final


def maps(linear: xr.Dataset):
    """CKA of all hidden layers at the start, after descent without noise, after SGD; means over seeds."""
    figure, axes = plots.panels(3, columns=3)
    inner, cka = linear["hidden"].values, linear["cka"].isel(arm=0)
    names = linear["layer"].values[inner]
    tables = {"start": cka.isel(time=0), "descent without noise": linear["gd"].isel(arm=0), "SGD": cka.isel(time=-1)}
    for ax, (title, table) in zip(axes, tables.items(), strict=True):
        table = table.isel(layer=inner, other=inner).mean("seed")
        plots.heat_map(ax, table, names, names, label="CKA", limits=(0.4, 1), title=title)
    return plots.show(figure, "CKA of all hidden layers: still different after descent without noise, all alike after SGD.")


def clocks(linear: xr.Dataset, pace: xr.Dataset, minima: xr.Dataset):
    """Worst CKA in time for each η, at the end of runs of equal steps and of equal η²t, and at minima of F."""
    figure, (left, middle, right) = plots.panels(3, columns=3)
    null = 0 * linear["time"] + linear["null"].mean().item()
    curves = {f"η = {linear['eta'].values[k]:.2g}": between(linear["cka"].isel(arm=k)) for k in rates.free(linear)}
    plots.panel(left, {k: (v["time"], v) for k, v in curves.items()}, {"null": (linear["time"], null)},
                x="step", y="worst CKA of A with B")  # fmt: skip
    worst, clocks = between(pace["cka"]), {"equal steps": "steps", "equal η²t": "eta2t"}
    plots.panel(middle, {k: (worst["eta"], worst.sel(clock=c).transpose("eta", "seed")) for k, c in clocks.items()},
                x="learning rate η", y="worst CKA at the end", log="x")  # fmt: skip
    low = 1 - minima["cka"].sel(eta=minima["eta"] > 0).min(("layer", "other"))
    square = low[0].mean().item() * (low["eta"] / low["eta"][0]) ** 2
    nets = len(np.unique(minima["of"]))
    plots.panel(right, {"minima of F": (low["eta"], low)}, {"η²": (low["eta"], square)},
                x="learning rate η", y=f"1 − worst CKA of {nets} nets", log="xy")  # fmt: skip
    return plots.show(figure, "(a) alignment takes time, less at large η. (b) the clock is η²t. (c) minima of F align up to η².")


WORDS = ("high", "moderate", "low", "random")  # of the table of document 2


def table(linear: xr.Dataset):
    """The worst CKA for each rung of the table of document 2, and features of SGD over those of descent at equal loss."""
    figure, (left, right) = plots.panels(2)
    rungs = rates.ladder(linear)
    words = WORDS if len(rungs) == len(WORDS) else [""] * len(rungs)
    names = [f"η = {eta:.2g}" if eta else "η → 0" for eta in rungs["rung"].values]
    names = [f"{name}\n{word}" for name, word in zip(names, words, strict=True)]
    plots.categories(left, {"": dict(zip(names, rungs.transpose("rung", "seed"), strict=True))}, y="worst CKA of A with B")
    measured = {"|h|²": rates.simpler(linear, "size"), "directions": rates.simpler(linear, "directions")}
    ratios = {text: (linear["eta"], np.exp(log)) for text, log in measured.items()}
    ratios["|h|², small start"] = linear["eta"][:1], np.exp(rates.against_small_start(linear)).expand_dims("eta")
    plots.panel(right, ratios, {"equal": (linear["eta"], 0 * linear["eta"] + 1)},
                x="learning rate η", y="ratio of SGD to descent", log="x")  # fmt: skip
    return plots.show(
        figure,
        "(a) CKA falls with η for two decades, then no more. (b) at large η features are smaller, in more directions.",
    )


def arms(linear: xr.Dataset, here: xr.Dataset) -> dict[str, xr.DataArray]:
    """Worst CKA of A and B (seed) at the end: of SGD, without noise, with an R between layers, and what else is of interest.

    here: the working point, of which the last arm counts.
    """
    found = {"SGD": between(final(linear)), "no noise": between(linear["gd"].isel(arm=0))}
    found |= {f"{kind} R": between(linear["inserted"].sel(kind=kind)) for kind in linear["kind"].values}
    return found | {"all layers": between(final(linear), ends=True), "working point": between(final(here, -1))}


def destroyed(linear: xr.Dataset, here: xr.Dataset):
    """The worst CKA of all `arms`, and how the traces of the hidden kernels differ."""
    figure, (left, right) = plots.panels(2)
    plots.categories(left, {"": arms(linear, here)}, y="worst CKA of A with B")
    inner = linear["hidden"].values
    trace = linear["trace"].isel(arm=0, layer=inner).transpose("layer", "seed")
    plots.categories(right, {"": dict(zip(linear["layer"].values[inner], trace, strict=True))}, y="trace of the hidden kernel")
    return plots.show(
        figure, "(a) what lowers the worst CKA. (b) kernels are alike up to a scalar, which differs from layer to layer."
    )


def off_the_minimum(resting: xr.Dataset):
    """Worst CKA of A and B as measured against that of the slow motion, a point a seed."""
    worst = resting["cka"].where(resting["of"] != resting["of"].rename(layer="other"))
    worst = worst.min(("layer", "other")).rename(seed="pair")
    slow = worst.sel(law="predicted")
    measured = {"SGD": worst.sel(law="independent"), "noise in pairs ±": worst.sel(law="opposite")}
    figure = plots.panel(None, {k: (slow, v) for k, v in measured.items()}, {"slow motion": (slow, slow)},
                         x="worst CKA of A with B, predicted", y="worst CKA of A with B, measured")  # fmt: skip
    figure.axes[0].locator_params("x", nbins=5)
    return plots.show(
        figure, "SGD that starts at the minimum of F leaves it as predicted; with noise in pairs of opposite sign it stays."
    )


ACCURACY = "accuracy"


def last_layers(relu: xr.Dataset, tanh: xr.Dataset) -> dict[str, dict]:
    """{arm: {what: (seed)}} at the end, for each noise: CKA of the last layers, accuracy on new images."""
    found = {}
    for name, data in (("relu", relu), ("tanh", tanh)):
        for noise in data["noise"].values:
            arm = data.sel(noise=noise)
            found[f"{name}, {'noisy labels' if noise else 'no noise'}"] = {
                "A and A": last(at_end(arm)["same"]),
                "A and B": last(at_end(arm)["cross"]),
                ACCURACY: arm["accuracy"].isel(time=-1).sel(images="new").mean("net"),
            }
    return found


def digits(relu: xr.Dataset, tanh: xr.Dataset, starts: Mapping[float, xr.Dataset]):
    """CKA of all layers of ReLU networks A and B, that of the last ones of A and A for each start, and all arms."""
    figure, (left, middle, right, learnt) = plots.panels(4, columns=2)
    cross = at_end(relu)["cross"].isel(noise=-1).mean("seed")
    rows, columns = ([f"{net}{i}" for i in cross[f"layer_{net.lower()}"].values] for net in "AB")
    plots.heat_map(left, cross, rows, columns, label="CKA", limits=(0.4, 1), title="noisy labels, end")
    same = xr.concat([last(at_end(data)["same"]) for data in starts.values()], "start")
    curves = {("noisy labels" if s else "no noise"): (list(starts), same.sel(noise=s)) for s in same["noise"].values}
    plots.panel(middle, curves, x="start, in units of √(2/fan-in)", y="CKA of the last layers, A and A", log="x")
    ends = last_layers(relu, tanh)
    plots.categories(right, {k: {w: v for w, v in arm.items() if w != ACCURACY} for k, arm in ends.items()},
                     y="CKA of the last layers", legend="lower left")  # fmt: skip
    right.set_ylim(0.3, 1.03)  # room for the legend
    plots.categories(learnt, {"": {k: arm[ACCURACY] for k, arm in ends.items()}}, y="accuracy on new images")
    return plots.show(
        figure,
        "(a) only the last layers align. (b) without label noise, less the larger the start. (c) at equal accuracy, (d).",
    )


def doses(pairs: xr.Dataset):
    """Mean CKA of A and B for each way to break it against its dose, 1 the one that decides."""
    figure, axes = plots.panels(2)
    ways = list(breaking.DOSES)
    for ax, names in zip(axes, (ways[:3], ways[3:]), strict=True):
        found = {way: breaking.response(pairs, way) for way in names}
        plots.panel(ax, {way: (cka["dose"], cka) for way, cka in found.items()},
                    x="dose (1: the one that decides)", y="mean CKA of A with B", legend="lower left")  # fmt: skip
        ax.set_ylim(0.3, 1.03)  # room for the legend
    return plots.show(figure, "CKA falls with the dose of each of the six ways, from near 1 where there is none.")


def broken(pairs: xr.Dataset, classes: xr.Dataset):
    """Mean CKA of A and B for each way to break it, with and without noise at several sizes; that with the labels of classes."""
    figure, (left, middle, right) = plots.panels(3, columns=3)
    cka = breaking.mean_pair(pairs)
    plots.categories(left, {"": {k: cka.sel(case=k) for k in (breaking.BASE, *breaking.WAYS)}}, y="mean CKA of A with B")
    sizes = {
        text: {name: cka.sel(case=case.format(name)) for name in breaking.PLAIN}
        for text, case in {"with noise": "{}", "without": breaking.QUIET}.items()
    }
    plots.categories(middle, sizes, y="mean CKA of A with B", legend=(0.35, 0.66))
    labels = classes["labels"].mean("layer")
    drawn = {
        target: {f"{share:.0%} redrawn": labels.sel(target=target, share=share) for share in labels["share"].values}
        for target in labels["target"].values
    }
    plots.categories(right, drawn, y="CKA with the labels", legend=(0.35, 0.66))
    return plots.show(figure, "(a) six ways break alignment. (b) noise does it at any size. (c) class labels: neural collapse.")
