"""The figures of notebook 04, each from datasets to what its cell shows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from thermolab import plots
from thermolab.instruments import symmetry
from thermolab.phenomena.neuron_balance import ablation, architectures, deep, networks

LOOKS = {  # of the rows of an architecture, by what stands in the reason why a row is no pair
    "": "a pair",
    "missing bias": "bias left out",
    "skip": "part of a stream",
    "activation": "tanh between",
    "side": "side by side",
}
SHORT = {" (no bias)": "", "attention.": "", "perceptron.": "perceptron ", "norm": "norm ", ".inner.": ".", "->": "→"}


def on_the_way(relu: xr.Dataset, decayed: xr.Dataset, here: xr.Dataset):
    """What remains of the imbalance over steps and over η² t/B; the shift by weight decay against its prediction."""
    figure, (left, middle, right) = plots.panels(3, columns=3, width=4.2)
    curves, point = (networks.remaining(data).transpose("arm", ...) for data in (relu, here))
    arms = {f"η = {arm.eta:g}, B = {arm.batch_size:d}": arm for arm in curves}
    steps = {name: (arm["time"] * arm.batch_size / arm.eta**2, arm) for name, arm in arms.items()}
    plots.panel(left, steps, x="step", y="imbalance that remains")
    mean, end = curves.mean(("arm", "seed")), point.isel(arm=0, time=slice(-1, None))
    clock = {name: (arm["time"], arm) for name, arm in arms.items()} | {"working point": (end["time"], end)}
    plots.panel(middle, clock, {"mean of the four": (mean["time"], mean)}, x="η² t/B", y="imbalance that remains")
    ends, over = {"three λ": networks.late(decayed), "working point": networks.late(here)}, ("copy", "neuron")
    known = {name: networks.predicted(data)["gap"].mean((*over, "seed")) for name, data in ends.items()}
    gaps = {name: (data["g2_in"] - data["g2_out"]).mean(over).transpose("arm", "seed") for name, data in ends.items()}
    plots.panel(
        right,
        {name: (known[name], gap) for name, gap in gaps.items()},
        {"measured = predicted": (known["three λ"], known["three λ"])},
        x="(2λ/η) (|u|² − |w|²)",
        y="E|g_u|² − E|g_w|²",
    )
    alt = "(a) small η or large B needs more steps. (b) over η²t/B there is one curve. (c) weight decay."
    return plots.show(figure, alt)


def rows(data: xr.Dataset, arm: str = "") -> dict[str, dict[str, xr.DataArray]]:
    """{label: {reason: log ratio at the end (seed)}} of an architecture, labels for people.

    The reason of a pair is "". A pair without its bias shares the label of the pair.
    """
    out: dict[str, dict[str, xr.DataArray]] = {}
    for row in architectures.log_ratios(data):
        name = str(row["pair"].values)
        for long, short in SHORT.items():
            name = name.replace(long, short)
        out.setdefault(f"{arm} {name}".strip(), {})[str(row["reason"].values)] = row
    return out


def pairs_and_neighbours(*columns: Mapping[str, xr.Dataset]):
    """Log ratios at the end of pairs and neighbours, a panel for each group of architectures {label: dataset}.

    Left out are neighbours with a norm between, of which a transformer has too many.
    """
    figure, axes = plots.panels(len(columns), width=6.6, height=5.4)
    for ax, group in zip(axes, columns, strict=True):
        kept = {arm: architectures.chosen(data, lambda _, reason: symmetry.NORM not in reason) for arm, data in group.items()}
        lines = {label: row for arm, data in kept.items() for label, row in rows(data, arm).items()}
        for i, (key, text) in enumerate(LOOKS.items()):
            own = [
                (y, ratio)
                for y, row in enumerate(lines.values())
                for reason, ratio in row.items()
                if key in reason and bool(key) == bool(reason)
            ]
            if own:
                x, error = np.array([np.ravel(plots.mean_and_error(ratio)) for _, ratio in own]).T
                look = {"fmt": plots.MARKERS[i], "color": plots.COLOURS[i], "capsize": 2}
                ax.errorbar(x, [y for y, _ in own], xerr=error, label=text, **look)
        ax.axvspan(-architectures.BALANCE, architectures.BALANCE, color="0.9", zorder=0)
        ax.set(xlabel="log(E|g_w|²/E|g_u|²) at the end", yticks=range(len(lines)))
        ax.set_yticklabels(lines, fontsize="small")
        ax.invert_yaxis()
        ax.legend(fontsize="small")
    return plots.show(figure, "Log ratios of pairs lie at 0, those of neighbours that are no pairs lie elsewhere.")


SLOW = {  # what the second panel of `on_the_clock` shows: dataset, end of the pair's name
    "MLP, four directions": ("mlp_even", "-> 2"),
    "MLP, digits": ("mlp_digits", "-> 2"),
    "CNN, last pair": ("cnn", "-> 8"),
    "residual stream": ("resnet", "+7"),
    "value and output": ("transformer", "3.attention.out"),
    "perceptron of a block": ("transformer", "3.perceptron.2"),
}


def on_the_clock(rates: Mapping[str, xr.Dataset], found: Mapping[str, xr.Dataset]):
    """Strength of balance after as many steps at three η; log ratios of pairs on their way, some of which do not come to 0."""
    figure, (left, right) = plots.panels(2)
    eta = np.array(ablation.RATES)
    strength = xr.DataArray(ablation.table(rates).T, dims=("eta", "seed"))
    fine = np.geomspace(eta.min() / 2, eta.max() * 2)
    known = {"linear theory": (fine, ablation.known(fine, ablation.STEPS))}
    plots.panel(left, {"measured": (eta, strength)}, known, x="η", y="share of imbalance gone", log="x")
    for rate, grade in zip(ablation.RATES, ablation.PRINTED, strict=True):
        left.annotate(grade, (rate, 0.25), ha="center", fontsize="small")
    lines = {}
    for label, (name, end) in SLOW.items():
        ratio = architectures.read_by(found[name], end)["log_ratio"].isel(pair=0)
        lines[label] = (ratio["time"], ratio)
    time = np.array([0, max(float(t[-1]) for t, _ in lines.values())])
    plots.panel(right, lines, {"balance": (time, 0 * time)}, x="step", y="log(E|g_w|²/E|g_u|²)")
    alt = "(a) strength of balance over η in as many steps, as linear theory has it. (b) some pairs come to 0, some stay off."
    return plots.show(figure, alt)


def one_curve(found: Mapping[str, xr.Dataset]):
    """The log ratio of a pair that starts off balance, under SGD, momentum and gradient flow, over η²t/B and over ηt."""
    figure, (left, right) = plots.panels(2)
    names = {"skewed": "SGD", "skewed_slow": "SGD, smaller η", "skewed_momentum": "momentum", "skewed_flow": "gradient flow"}

    def over(clock):
        lines = {}
        for name, label in names.items():
            data = found[name].isel(pair=0)
            read = 1.0 if name == "skewed_flow" else 0.5  # SGD throughout a window, flow at its end
            lines[label] = (data[clock] - (1 - read) * data[clock][0], data["log_ratio"])
        return lines

    clocks, times = over("clock"), over("flow_time")
    del clocks["gradient flow"]  # all of it lies at 0
    for ax, lines, x in ((left, clocks, "η² t/B"), (right, times, "η t")):
        end = max(float(t[-1]) for t, _ in lines.values())
        plots.panel(ax, lines, {"balance": (np.array([0, end]), np.zeros(2))}, x=x, y="log(E|g_w|²/E|g_u|²)")
    alt = "(a) over η²t/B SGD at two η and momentum fall on one curve. (b) over ηt they do not, and gradient flow stays off."
    return plots.show(figure, alt)


def neurons_alike(alike: xr.Dataset):
    """How a small difference between two neurons grows in three ways of training, and what becomes of one of a hundredth."""
    figure, (left, right) = plots.panels(2)
    names = {"flow": "all data", "sgd": "SGD", "own batches": "a batch for each neuron"}
    plots.panel(
        left, {label: (alike["time"], alike["growth"].sel(arm=arm)) for arm, label in names.items()}, x="step", y="log growth"
    )
    names = {"near": "1 % apart at the start", "same": "exactly alike"}
    lines = {label: (alike["time"], alike["distance"].sel(arm=arm)) for arm, label in names.items()}
    plots.panel(right, lines, x="step", y="distance / size of a neuron")
    alt = "(a) SGD pulls two neurons apart no faster than descent on all data; own batches do at once. (b) near ones part."
    return plots.show(figure, alt)


def norms_and_threshold(linear: Mapping[str, xr.Dataset], thresholded: xr.Dataset):
    """Norms of both layers for each noise, and what singular values have lost, with their closed forms."""
    figure, (left, right) = plots.panels(2)
    where = np.arange(len(linear))
    for i in (1, 2):
        norm = xr.concat([data[f"norm_{i}"] for data in linear.values()], "profile")
        plots.points(left, where, norm, index=i - 1, label=f"|W{'₁₂'[i - 1]}|²")
        known = [float(data[f"norm_{i}_theory"]) for data in linear.values()]
        left.hlines(known, where - 0.3, where + 0.3, color="0.15", linewidth=1.3)
    left.set_xticks(where, linear)
    plots.label(left, "noise of the five outputs", "squared norm (line: closed form)")
    s, tau = thresholded["target"], float(thresholded["tau"])
    fine = np.geomspace(s.min(), s.max())
    forms = {"soft threshold": (fine, np.minimum(fine / tau, 1)), "τ = 0": (fine, 0 * fine)}
    lost = ((s - thresholded["singular"]) / tau).transpose("i", "seed")
    plots.panel(right, {"measured": (s, lost)}, forms, x="singular value of the target", y="(target − learnt) / τ", log="x")
    alt = "(a) norms of both layers lie on the closed form. (b) singular values lack τ, or all they have."
    return plots.show(figure, alt)


def matrices_and_flatness(matrix: xr.Dataset, linear: Mapping[str, xr.Dataset]):
    """The distance of the two sides of the matrix equation, and λ_max over the least on the orbit."""
    figure, (left, right) = plots.panels(2)
    distance = deep.residual(matrix).mean("pair")
    curves = {f"η = {eta:g}": (distance["time"], distance.sel(eta=eta)) for eta in distance["eta"].values}
    plots.panel(left, curves, x="step", y="relative distance of the two sides")
    where = np.arange(len(linear))
    runs, flat = xr.concat(linear.values(), "profile"), {"flattest": (where, 1 + 0 * where)}
    above = {
        name: (where, runs[f"{moment}lambda_max"] / runs["flattest_lambda_max"])
        for name, moment in {"start": "start_", "end": ""}.items()
    }
    plots.panel(right, above, flat, x="noise of the five outputs", y="λ_max over the least on the orbit", legend="upper right")
    right.set_xticks(where, linear)
    right.set_xlim(-0.5, 3.2)
    return plots.show(figure, "(a) matrices balance at a large η, not yet at a small one. (b) balanced noise ends flattest.")


def controls(relu: xr.Dataset, tanh: xr.Dataset, mlp: xr.Dataset, twins: xr.Dataset):
    """Neurons in the plane of their gradients, the pairs of a perceptron with and without a bias, and twin paths."""
    figure, (left, middle, right) = plots.panels(3, columns=3, width=4.2)
    ends = {"relu": networks.late(relu).isel(arm=0), "tanh": networks.late(tanh).isel(arm=0)}
    dots = {name: (data["g2_in"], data["g2_out"].values) for name, data in ends.items()}
    diagonal = np.array([min(d["g2_in"].min() for d in ends.values()), max(d["g2_in"].max() for d in ends.values())])
    plots.panel(left, dots, {"balance": (diagonal, diagonal)}, x="E|g_u|², into a neuron", y="E|g_w|², out of it")
    time = mlp["time"]
    lines = {name: (time, mlp["log_ratio"].sel(pair=name)) for name in mlp["pair"].values}
    zero = {"balance": (time, 0 * time)}
    plots.panel(middle, lines, zero, x="step", y="log ratio in the perceptron", legend="upper right")
    low, high = middle.get_ylim()
    middle.set_ylim(low, high + 0.6 * (high - low))  # room for the legend
    paths = {arm: (twins["time"], twins["apart"].sel(arm=arm)) for arm in twins["arm"].values}
    plots.panel(right, paths, x="step", y="distance from the twin (relative)", log="y")
    alt = "(a) ReLU neurons balance, tanh neurons do not. (b) a pair without bias is off. (c) twin paths."
    return plots.show(figure, alt)
