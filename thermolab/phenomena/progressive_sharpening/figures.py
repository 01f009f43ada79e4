"""The figures of notebook 06, from what it measured, by name (`presets.datasets`)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from thermolab import plots
from thermolab.phenomena.progressive_sharpening.adam_edge import EDGE
from thermolab.phenomena.progressive_sharpening.cause import PHASES
from thermolab.phenomena.progressive_sharpening.settled import PROFILES, RATIOS


def switches(found: Mapping):
    """λ_max against its closed form, and the noise switched: a linear network, then tanh and ReLU."""
    figure, (left, middle, right) = plots.panels(3, columns=3)
    runs = {f"σ_max/σ_min = {max(PROFILES[k]) / min(PROFILES[k]):.2g}": d for k, d in found["profiles"].items()}
    runs["working point"] = found["here"]
    two = xr.concat([found["imbalances"][f"imbalanced {ratio}"] for ratio in RATIOS], "ratio")
    points = {k: (d["predicted"], d["lambda_max"]) for k, d in runs.items()}
    points[f"two answers, {', '.join(map(str, RATIOS))}"] = two["predicted"], two["lambda_max"]
    plots.panel(left, points, {"closed form": ([4, 12], [4, 12])},
                x="2s (m/σ_min + σ_max/m)", y="λ_max after the decay")  # fmt: skip
    line = found["switch_linear"]
    known = line["predicted"].sel(arm="imbalanced").values.repeat(line.sizes["time"] // 3)
    plots.panel(middle, _curves(line["lambda_max"], "arm"), {"closed form": (line["time"], known)}, x="step",
                y="λ_max, linear network", legend=(0.01, 0.52))  # fmt: skip
    others = {k: found[f"switch_{k}"]["lambda_max"].sel(arm="imbalanced") for k in ("tanh", "relu")}
    plots.panel(right, {k: (v["time"], v) for k, v in others.items()}, x="step", y="λ_max, imbalanced in the middle")
    return plots.show(figure, "(a) λ_max lies on its closed form. (b), (c) imbalanced noise sharpens, balanced noise flattens.")


def starts(found: Mapping):
    """Under balanced noise and none from a sharp start; tanh networks from random and flat ones; Adam."""
    figure, (left, middle, right) = plots.panels(3, columns=3)
    sharp, tanh = found["sharp_start"]["lambda_max"].sel(start="sharp"), found["from_scratch"]["tanh"]["lambda_max"]
    plots.panel(left, _curves(sharp, "noise", "noise: {}"), {"4s": (sharp["time"], 6 + 0 * sharp["time"])},
                x="step", y="λ_max, linear, sharp start")  # fmt: skip
    arms = {}
    for start in ("random", "flat"):
        arms |= _curves(tanh.sel(start=start, noise=["imbalanced", "balanced"]), "noise", start + " start, {}")
    plots.panel(middle, arms, x="step", y="λ_max, tanh", log="y")
    plots.panel(right, _curves(found["adam"]["lambda_max"].sel(start="flat"), "noise"), x="step", y="λ_max, Adam, flat start")
    return plots.show(
        figure, "(a) noise flattens, no noise does not. (b) random starts flatten under both. (c) Adam sharpens too."
    )


def cause(found: Mapping):
    """λ_max along orbits and its parts while a network learns; kernel and λ_max when noise is switched, with those of theory."""
    figure, (left, parts, middle, right) = plots.panels(4, columns=2)
    orbits, pair = found["orbits"]["lambda_max"].mean("copy"), found["pair"]
    plots.panel(left, _curves(orbits, "orbit", along="position"), x="position θ on the orbit", y="λ_max", log="y")
    learnt = found["subspaces"].isel(time=slice(1, None))
    apart = _curves(learnt["distance"], "noise", "|W₁W₁ᵀ − W₂ᵀW₂|, noise: {}")
    apart["4s, noise: balanced"] = found["subspaces"]["time"], found["subspaces"]["flattest"].sel(noise="balanced")
    plots.panel(parts, apart, x="step", y="distance along the orbit, and 4s", log="y", legend="lower left")
    parts.set_ylim(bottom=1e-3)  # room for the legend
    pair = pair.isel(time=pair["phase"].values > 0)
    switched = pair.sel(arm="noise")
    near = _curves(1 - switched["aligned"].sel(net="A"), "noise", "A with G of {} noise")
    near["A with B"] = switched["time"], 1 - switched["cka"]
    plots.panel(middle, near, x="step", y="1 − CKA", log="y", legend="lower left")
    middle.set_ylim(bottom=1e-5)  # room for the legend
    known = pair["predicted"].sel(net="A")
    gain = pair["lambda_max"].sel(net="A") / known.sel(noise="balanced")
    arms = {"switched noise": gain.sel(arm="noise"), "no noise": gain.sel(arm="none")}
    known = (known / known.sel(noise="balanced")).mean("seed").sel(noise=[PHASES[k] for k in pair["phase"].values])
    plots.panel(right, {k: (v["time"], v) for k, v in arms.items()}, {"theory": (pair["time"], known)}, x="step",
                y="λ_max of A / balanced λ_max")  # fmt: skip
    right.set_ylim(top=3.4)  # room for the legend
    return plots.show(
        figure,
        "(a) λ_max along orbits of equal function. (b) Balanced noise takes a network to the flattest point, imbalanced away. "
        "(c), (d) One switch moves kernel and sharpness together.",
    )


def edge(found: Mapping):
    """Curvatures in units of their edge: λ_max of descent; of SGD, with the batch sharpness; of other networks; of Adam."""
    figure, (left, middle, others, right) = plots.panels(4, columns=2)
    scaled = found["edge"]["lambda_max"] / found["edge"]["edge"]
    plots.panel(left, _curves(scaled, "eta", "η = {:g}"), _at_one(scaled), x="step", y="η λ_max / 2")
    batch = found["batch"].sel(eta=found["batch"]["eta"].max())
    arms = {}
    for name, label in (("batch_sharpness", "batch sharpness, B = {}"), ("lambda_max", "λ_max, B = {}")):
        arms |= _curves(batch[name] * batch["eta"] / 2, "batch", label)
    plots.panel(middle, arms, _at_one(batch["lambda_max"]), x="step", y="η × curvature / 2, SGD", legend="upper left")
    middle.set_ylim(0, 2)  # room for the legend
    fast = found["architectures"].sel(eta=found["architectures"]["eta"].max())
    arms = {}
    for network in fast["network"].values:
        arms |= _curves((fast["lambda_max"] * fast["eta"] / 2).sel(network=network), "descent", f"{network}, {{}}")
    plots.panel(others, arms, _at_one(fast["lambda_max"]), x="step", y="η λ_max / 2, other networks", legend="upper left")
    others.set_ylim(0, 2.3)  # room for the legend
    after = found["adam_edge"].isel(time=slice(1, None))  # P is not yet a mean at the first step
    adam = after["preconditioned"] * after["eta"] / EDGE
    plots.panel(right, _curves(adam, "eta", "η = {:g}"), _at_one(adam), x="step", y="η λ_max(P⁻¹H) / 38, Adam")
    return plots.show(
        figure,
        "(a) λ_max comes to 2/η. (b) under SGD the batch sharpness does, λ_max is lower. "
        "(c) a convolutional network and a transformer sharpen too, towards 2/η. (d) Adam at 38/η.",
    )


def _at_one(scaled: xr.DataArray) -> dict[str, tuple]:
    return {"edge": (scaled["time"], 1 + 0 * scaled["time"])}


def languages(found: Mapping):
    """λ_max under each loss, with the closed form of the squared loss."""
    figure, axes = plots.panels(2)
    for ax, (title, name) in zip(axes, (("cross-entropy", "cross_entropy"), ("squared", "squared")), strict=True):
        runs, known = found[name], {}
        if "theory" in runs:
            mean, each = runs["theory"].mean(("seed", "language")), runs.sizes["time"] // 3
            known = {arm: (runs["time"], np.repeat(mean.sel(arm=arm).values, each)) for arm in ("language", "noise")}
        plots.panel(ax, _curves(runs["lambda_max"].mean("language"), "arm"), known, x="step", y="λ_max", title=title)
    return plots.show(figure, "(a) under cross-entropy an uneven language flattens. (b) under the squared loss it sharpens.")


def _curves(values: xr.DataArray, over: str, label: str = "{}", along: str = "time") -> dict[str, tuple]:
    """{label of each value of a dim: (where, values there)}, as `plots.panel` takes them."""
    return {label.format(k.item()): (values[along], values.sel({over: k})) for k in values[over]}
