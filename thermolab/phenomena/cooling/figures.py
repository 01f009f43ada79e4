"""The figures of notebook 01: each takes datasets of `presets.datasets` and is the picture with its alt text."""

from __future__ import annotations

from collections.abc import Mapping

import xarray as xr

from thermolab import plots
from thermolab.phenomena.cooling import transitions as detectors
from thermolab.phenomena.cooling.classifiers import MODELS
from thermolab.phenomena.cooling.plateau import away


def by_epoch(values: Mapping[str, xr.DataArray]) -> dict:
    """Curves over time, as `plots.panel` takes them."""
    return {name: (v["time"], v) for name, v in values.items()}


def models(runs: Mapping[str, xr.Dataset], here: xr.Dataset):
    """U, accuracy and two readings of S of the three models, of the perceptron with weight decay, and at the working point."""
    figure, axes = plots.panels(4, columns=2)
    texts = {"U": "energy U (loss)", "accuracy": "validation accuracy", "S_path": "S_path (nats/weight)",
             "S_entries": "S_entries (nats/tensor)"}  # fmt: skip
    for ax, (name, text) in zip(axes, texts.items(), strict=True):
        curves = {f"{m}, λ = 0": runs[m][name].sel(lam=0)[1:] for m in MODELS}
        curves |= {"mlp, λ = 0.01": runs["mlp"][name].sel(lam=0.01)[1:], "working point": here[name][0, -1:]}
        look = {"log": "y" * (name == "U"), "legend": "lower right" if name == "accuracy" else ""}
        plots.panel(ax, by_epoch(curves), x="epoch", y=text, **look)
    return plots.show(
        figure, "Energy falls in all models. S along the path falls in MLP and CNN; S of the entries rises without decay."
    )


def entropies(runs: Mapping[str, xr.Dataset], matched: xr.Dataset):
    """The third reading of S and the representation by epoch; and the generalisation gap over S of runs of equal U."""
    figure, (left, middle, right) = plots.panels(3, columns=3)
    wide = {m: runs[m]["S_laplace"].sel(lam=0).dropna("time") for m in MODELS}
    plots.panel(left, by_epoch(wide), x="epoch", y="S_Laplace (nats/weight)")
    turned = {m: runs[m]["cka"].sel(lam=0) for m in (*MODELS, "waits", "plateau")}
    plots.panel(middle, by_epoch(turned), x="epoch", y="CKA with the end")
    same = matched.stack(each=("run", "seed"))
    points = {"runs of equal U": (same["S_path"], same["gap"].values)}
    plots.panel(right, points, x="S_path (nats/weight)", y="gap U_val − U (nats)")
    return plots.show(
        figure, "Laplace entropy by epoch; CKA with the end, which rises fastest at first; gap against S of runs of the same U."
    )


def schedules(logarithms: xr.Dataset, endings: xr.Dataset, schedules: xr.Dataset, ratio: xr.Dataset):
    """Where schedules end, S under decay of η and growth of B, and U at equal η/B."""
    figure, (left, middle, right) = plots.panels(3, columns=3)
    ends, others, alpha = logarithms["U_val"], endings["U_val"], logarithms["alpha"]
    plots.panel(
        left,
        {f"log in {k}": (alpha, ends.sel(reading=k)) for k in ends["reading"].values},
        {k: (alpha, 0 * alpha + others.sel(arm=k).mean()) for k in ("constant", "cosine")},
        x="α of the logarithm",
        y="validation loss at the end",
        log="x",
    )
    paths = {k: schedules["S"].sel(arm=k) for k in ("constant", "decay", "growth")}
    plots.panel(middle, by_epoch(paths), x="epoch", y="S_path (nats/weight)")
    cells = {f"η/B = 1/{1 / r:.0f}": ratio.sel(ratio=r) for r in ratio["ratio"].values}
    points = {k: (c["eta"], c["U"]) for k, c in cells.items()}
    plots.panel(right, points, x="learning rate η", y="energy U (loss)", log="xy")
    return plots.show(figure, "(a) cosine ends lower than any logarithm. (b) decay and growth coincide. (c) U at equal η/B.")


def flatness(flatness: xr.Dataset):
    """λ_max, trace and validation loss over U in four arms; |w|² by epoch, with what the printed update does to it alone."""
    figure, axes = plots.panels(4, columns=2)
    names = {"sgd": "SGD", "decay": "weight decay", "sam": "SAM", "eef": "+λ_S, as printed"}
    seen = flatness.where(flatness["U"] > 1e-3)  # the printed update goes on down to 1e-12
    states = {text: seen.sel(arm=k).stack(each=("time", "seed")) for k, text in names.items()}
    texts = {"lambda_max": "sharpness λ_max", "trace": "trace of the Hessian", "U_validation": "validation loss"}
    for ax, (name, text) in zip(axes[:3], texts.items(), strict=True):
        plots.panel(ax, {k: (s["U"], s[name].values) for k, s in states.items()}, x="energy U (loss)", y=text, log="xy")
    r2 = {text: flatness["r2"].sel(arm=k) for k, text in names.items()}
    since = flatness["time"] - flatness["time"][0]
    grown = r2["+λ_S, as printed"].isel(time=0).mean() * flatness.attrs["growth"] ** since
    plots.panel(axes[3], by_epoch(r2), by_epoch({"(1 + ηλ_S)^2k": grown}), x="epoch", y="|w|²", log="y")
    return plots.show(
        figure,
        "At equal U only SAM is flatter; the printed sign has a higher validation loss and weights that grow exponentially.",
    )


def transitions(detection: xr.Dataset, plateau: xr.Dataset, adaptive: xr.Dataset):
    """The power of two detectors at a drop of η, U, its logarithm and S on a plateau, and where three schedules end."""
    figure, (left, middle, right) = plots.panels(3, columns=3)
    ratios = [float(r) for r in detection["ratio"].values if r != 1]
    statistics = {"second difference": detectors.accelerations, "CUSUM": detectors.sums}
    for i, (name, statistic) in enumerate(statistics.items()):
        found = [detectors.performance(detection, statistic, r).power for r in ratios]
        look = {"fmt": plots.MARKERS[i], "color": plots.COLOURS[i], "label": name, "capsize": 2}
        left.errorbar(ratios, [f.value for f in found], [2 * f.standard_error for f in found], **look)
    plots.label(left, "η after the drop / η before", "power at 5 % false alarms")
    escape = plateau[["U", "S"]].assign({"log(log K − U)": away(plateau)}).sel(arm="escape").mean("replica")
    low, high = escape.min("window"), escape.max("window")
    scaled = {k: (v["window"], v) for k, v in ((escape - low) / (high - low)).items()}
    plots.panel(middle, scaled, x="window of 16 steps", y="share of its range")
    ends = adaptive["U_validation"].mean("replica")
    for i, task in enumerate(ends["task"].values):
        plots.points(right, [0, 1, 2], ends.sel(task=task), index=i, label=task)
    right.set_xticks([0, 1, 2], ends["schedule"].values)
    plots.label(right, "schedule", "validation loss at the end")
    return plots.show(
        figure,
        "(a) CUSUM finds drops of η. (b) S and log(log K − U) move together, U last. (c) losses at the end.",
    )
