"""The figures and the table of notebook 00, each from the datasets that it shows to what its cell displays."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from thermolab import plots
from thermolab.phenomena.irreversibility.flows import SHARES

WAYS = {"undo": "undoing a step", "flow": "flow and step", "halves": "two half steps"}


def arrow_of_time(steps: xr.Dataset, split: xr.Dataset):
    """What each way of agreeing with a step misses by the constant c, the order that c = 1/2 gains, and means against E|g|².

    steps, split: of `flows`.
    """
    figure, (left, middle, right) = plots.panels(3, columns=3)
    missed = (steps["local"] / steps["local"].sel(constant=0)).isel(rate=-1)
    own = {text: (steps["constant"], missed.sel(against=way)) for way, text in WAYS.items()}
    plots.panel(left, own, x="constant c", y="error / error at c = 0")
    error = steps["local"].sel(against="undo") / steps["local"].sel(against="undo", constant=0).isel(rate=0)
    own = {f"c = {c:g}": (SHARES, error.sel(constant=c)) for c in (0, 0.5)}
    plots.panel(middle, own, {"η²": (SHARES, (np.array(SHARES) / SHARES[0]) ** 2)}, x="learning rate η λ_max",
                y="distance from the start (relative)", log="xy")  # fmt: skip
    split = split.mean("copy")
    off, when = split["factorised"] / split["S"] - 1, split["time"] + 1
    plots.panel(right, {f"layer {k}": (when, off.sel(layer=k)) for k in off["layer"].values}, {"exact": (when, 0 * when)},
                x="step + 1", y="product of means / E|g|² − 1", log="x")  # fmt: skip
    return plots.show(
        figure, "(a) each way of agreeing has its own constant. (b) c = 1/2 gains an order. (c) means against E|g|²."
    )


def symmetry_table(table: xr.Dataset) -> pd.DataFrame:
    """What each symmetry does to L and to S, means over the seeds. table: of `symmetry_recipes`."""
    ratio = table["S_ratio"].mean("seed")
    columns = {"L changes by": table["L_error"].max(("seed", "s")), "S at double": ratio.isel(s=0), "S at half": ratio.isel(s=1)}
    rows = {name: values.values.round(12) for name, values in columns.items()}
    rows |= {name: table[name].values for name in ("exponential", "compact")}
    return pd.DataFrame(rows, index=table["row"].values)


def orbits_and_charges(orbit: xr.Dataset, noether: xr.Dataset):
    """F along the orbit of each exponential symmetry, and the charge θᵀAθ along SGD. orbit, noether: of `symmetry_recipes`."""
    figure, (left, right) = plots.panels(2)
    names = orbit["row"].values
    along = {k: (orbit["s"][::8], (orbit["F"] / orbit["F"].min("s")).sel(row=k)[..., ::8].isel(seed=0)) for k in names}
    plots.panel(left, along, x="s along the orbit", y="F / least F on the orbit", log="y")
    charge = noether.isel(seed=0)
    some = np.unique(np.linspace(0, charge.sizes["step"] - 1, 12).astype(int))
    gain = {k: charge[["charge", "predicted"]].sel(row=k) - charge["charge"].sel(row=k)[0] for k in names}
    plots.panel(right, {k: (g["step"][some], g["charge"][some]) for k, g in gain.items()},
                {k: (g["step"], g["predicted"]) for k, g in gain.items()}, x="step", y="gain of θᵀAθ",
                legend="upper left")  # fmt: skip
    right.set_ylim(top=2 * right.get_ylim()[1])  # room for the legend
    return plots.show(figure, "(a) F has one minimum on each orbit, where L is constant. (b) θᵀAθ follows its exact prediction.")


def walkers_and_valley(growth: xr.Dataset, occupation: xr.Dataset):
    """|w|⁴ of the walkers beside its law, and where SGD is in a valley. growth: of `walk`; occupation: of `valley`."""
    figure, (left, right) = plots.panels(2)
    runs = {f"d = {d}, η = {e:g}": growth.sel(dim=d, eta=e) for d in growth["dim"].values for e in growth["eta"].values}
    plots.panel(left, {k: (r["time"][1::5], r["r4"].isel(time=slice(1, None, 5))) for k, r in runs.items()},
                {k: (r["time"], r["law"]) for k, r in runs.items()}, x="step", y="|w|⁴", log="xy")  # fmt: skip
    dense = {f"η = {e:g}": occupation["density"].sel(eta=e) for e in occupation["eta"].values}
    plots.panel(right, {k: (v["s"], v) for k, v in dense.items()}, x="place s in the valley, in ησ/2", y="density")
    return plots.show(figure, "(a) |w|⁴ grows as predicted. (b) points of equal loss are visited unequally often.")


def turning_cloud(cloud: xr.Dataset, minibatches: xr.Dataset):
    """How fast the cloud at rest turns, what entropy that produces, and the area that minibatches sweep; all of `cloud`."""
    figure, (left, middle, right) = plots.panels(3, columns=3)
    angles = {f"noise turned by {a:g}°": cloud.sel(angle=a) for a in cloud["angle"].values}
    for ax, name, y in ((left, "rate", "turn / relaxation time (rad)"), (middle, "produced", "entropy / relaxation time (nats)")):
        own, known = ({k: (c["eta"], c[name + end]) for k, c in angles.items()} for end in ("", "_pred"))
        plots.panel(ax, own, known, x="learning rate η", y=y, legend="best" if ax is left else "")
    arms = {f"contrast {c:g}": minibatches.sel(contrast=c) for c in minibatches["contrast"].values}
    own, known = ({k: (m["eta"], m[name] / m["eta"] ** 2) for k, m in arms.items()} for name in ("swept", "linear"))
    most = [*arms.values()][-1]
    known["with the measured Σ"] = (most["eta"], (most["expected"] / most["eta"] ** 2).mean("seed"))
    plots.panel(right, own, known, x="learning rate η", y="2 · area of a step / η²")
    return plots.show(
        figure, "(a) the cloud turns, as fast at any small η, unless noise and Hessian agree. "
        "(b) so it produces entropy. (c) minibatches turn it too."
    )  # fmt: skip


def training(equal_loss: xr.Dataset, clean_labels: xr.Dataset, perturbed: xr.Dataset, tasks: xr.Dataset):
    """Gradient norms at equal loss with noisy and clean labels, the effect of a push, and one task after another."""
    figure, (left, clean, pushes, course) = plots.panels(4, columns=2)
    time, push = equal_loss["time"], perturbed["push"]
    arms = {f"η = {e:g}": (time, equal_loss["S_t"].sel(eta=e)) for e in equal_loss["eta"].values}
    plots.panel(left, arms | {"gradient flow": (time, equal_loss["flow_S_t"])}, x="time η · steps", y="E|∇l|²")
    means = [values.mean("seed") for _, values in (*arms.values(), (time, equal_loss["flow_S_t"]))]
    left.set_ylim(0.9 * min(m.min() for m in means), 1.05 * max(m.max() for m in means))  # the first bar at a large η is wider
    flow = clean_labels["flow_S"]
    dose = {"SGD, clean labels": (clean_labels["share"], clean_labels["S"] / flow - 1)}
    plots.panel(clean, dose, {"gradient flow": (clean_labels["share"], 0 * clean_labels["share"])}, x="η / (2/λ_max)",
                y="E|∇l|² / that of the flow − 1")  # fmt: skip
    plots.panel(pushes, {"pushed at": (push + 1, perturbed["changed"])}, x="step of the push + 1", y="change of the end", log="x")
    plots.panel(course, {k: (tasks["task"], tasks[k]) for k in ("dead", "accuracy")}, x="task", y="share")
    return plots.show(
        figure, "(a) at equal loss a larger η shrinks gradients faster. (b) on clean labels by a few per cent. "
        "(c) what a push changes. (d) tasks in a row."
    )  # fmt: skip
