"""The claims of notebook 01 on training as such, decided from the datasets of `training.by_model` and `training.matched`.

Tolerances stand here once and do not move with the data:

* A quantity "falls" if it is lower at the later of two epochs in three pairs of four, halfway between always and chance.
* A curve is late and abrupt if it goes from a quarter to three quarters of its way in less time than it took to reach the half;
  a rise at constant speed from the start needs just as long, one that slows down needs longer.
* S has levelled off if less of its fall comes late than of a fall linear in log(epoch), which has no floor; near the peak of the
  validation accuracy is within 0.02 of it.
* S orders the gaps if the rank correlation is at least 0.5, by convention a strong one (Cohen 1988).
* Signs of a change and of a lead have no tolerance.

At λ = 0 where a claim names no weight decay: with it, the loss alone is not what is descended. F is taken at a fixed T, the mean
over the run, for the source identifies T with the learning rate (document 0, section 2), which is constant here; a shift
of S by a constant then changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import xarray as xr
from scipy import stats

from thermolab.claims import Pair, few_seeds, with_control
from thermolab.phenomena.cooling.training import MOMENTS

FALLING, PEAK, STRONG = 0.25, 0.02, 0.5
MODELS = ("mlp", "cnn", "transformer")

Runs = Mapping[str, xr.Dataset]


def arm(data: xr.Dataset, decays: bool = False) -> xr.Dataset:
    """The arm without weight decay, or the mean over those with λ of 1e-2 or more; dims (time, seed), (moment, seed)."""
    chosen = data.sel(lam=data["lam"] >= 1e-2) if decays else data.sel(lam=data["lam"] == 0)
    if not chosen.sizes["lam"]:
        raise ValueError(f"lams={data['lam'].values.tolist()}; needed: 0 and one of 1e-2 or more")
    return chosen.mean("lam").transpose("time", "moment", "seed")


def falling(series: np.ndarray) -> np.ndarray:
    """Share [seed] of the pairs of epochs of a series [epoch, seed] at the later of which it is lower.

    >>> falling(np.array([[3.0], [2.0], [2.5]]))
    array([0.66666667])
    """
    i, j = np.triu_indices(len(series), 1)
    return (series[j] < series[i]).mean(0)


def weakest(parts: Iterable[np.ndarray], least: float) -> tuple[float, float]:
    """Of numbers [seed] that shall all exceed `least`, mean and error of the one that does so by the fewest errors.

    All of them hold if this one does, and it fails if any does.
    """
    return min(map(few_seeds, parts), key=lambda found: (found[0] - least) / max(found[1], 1e-12))


def _all_fall(series: Iterable[np.ndarray]) -> tuple[float, float]:
    """Share of pairs in which it falls, of the model in which that is least sure to suffice."""
    return weakest(map(falling, series), 1 - FALLING)


def energy_falls(runs: Runs) -> Pair:
    """Share of pairs of epochs in which U falls, in the weakest model; control: U_val on labels drawn anew."""
    learnt = _all_fall(arm(runs[m])["U"].values[1:] for m in MODELS)
    redrawn = _all_fall([arm(runs["redrawn"])["U_val"].values[1:]])
    return with_control(learnt, redrawn, FALLING, "labels drawn anew, U on held-out images", predicted=1.0, relation="above")


def rise(data: xr.Dataset, shares=(0.25, 0.5, 0.75)) -> np.ndarray:
    """Epochs [share, seed] at which the validation accuracy without weight decay first has made these shares of its way.

    The way is from the start to the mean over the last quarter of the epochs; linear in between, NaN where never.
    """
    data = arm(data)
    t = np.concatenate([np.arange(MOMENTS) / MOMENTS, data["time"].values[1:]])
    curves = np.concatenate([data["early"].values, data["accuracy"].values[1:]])
    end = late(data["accuracy"].values[1:]).mean(0)
    out = np.full((len(shares), curves.shape[1]), np.nan)
    for s, curve in enumerate(curves.T):
        for k, share in enumerate(shares):
            level = curve[0] + share * (end[s] - curve[0])
            j = int(np.argmax(curve >= level))
            if j:
                out[k, s] = np.interp(level, curve[j - 1 : j + 1], t[j - 1 : j + 1])
    return out


def delayed_transformer(runs: Runs) -> Pair:
    """Log of the time from a quarter to three quarters of the rise of the accuracy over the time to the half."""

    def abruptness(data):
        quarter, half, three_quarters = rise(data)
        return few_seeds(np.log((three_quarters - quarter) / half))

    return with_control(
        abruptness(runs["transformer"]),
        abruptness(runs["plateau"]),
        0.0,
        "a perceptron that starts on a plateau",
        relation="below",
    )


def path_fall(data: xr.Dataset) -> np.ndarray:
    """Fall [seed] of S_path from the mean of the first eighth of the epochs to the median of the last quarter; data: an `arm`.

    In nats per parameter. A single window scatters by half a nat, and now and then a network jumps.
    """
    s = data["S_path"].values[1:]
    return s[: max(1, len(s) // 8)].mean(0) - np.median(late(s), 0)


def late(series: np.ndarray) -> np.ndarray:
    """The last quarter of a series [epoch, ...]."""
    return series[-max(1, len(series) // 4) :]


def cnn_clearest(runs: Runs) -> Pair:
    """By how much S_path of the CNN falls further than that of any other model, mean over the weight decays."""
    falls = {m: (path_fall(arm(runs[m])) + path_fall(arm(runs[m], decays=True))) / 2 for m in MODELS}

    def lead(model: str):
        others = [m for m in MODELS if m != model]
        return few_seeds(falls[model] - falls[max(others, key=lambda m: falls[m].mean())])

    return with_control(lead("cnn"), lead("mlp"), 0.0, "the same for the perceptron", relation="above")


def entries_fall(runs: Runs) -> Pair:
    """Fall of S_entries over the training in the weakest model; control: with weight decay."""

    def fall(decays: bool):
        arms = (arm(runs[m], decays)["S_entries"].values for m in MODELS)
        return weakest((s[0] - s[-1] for s in arms), 0.0)

    return with_control(fall(False), fall(True), 0.0, "λ = 1e-2 or more", relation="above")


def levels_off(runs: Runs) -> Pair:
    """How settled S_path and the accuracy are at half-time (`settled`), mean over MLP and CNN; the weaker of the two."""

    def least(decays: bool):
        return weakest(sum(settled(arm(runs[m], decays)) for m in ("mlp", "cnn")) / 2, 0.0)

    return with_control(least(True), least(False), 0.0, "λ = 0", relation="above")


def settled(data: xr.Dataset) -> np.ndarray:
    """Two numbers [2, seed], above 0 where an `arm` has settled by half-time, at most 1 where nothing changes any more.

    One minus the part of the fall of S_path that comes between the middle and the last quarter of the epochs (NaN where it does
    not fall), in units of that of a fall linear in log(epoch); medians, for now and then a network jumps. One minus the distance
    of the accuracy at half-time from its peak in units of PEAK, both averaged over a quarter of the epochs.
    """
    epochs = data["time"].values[1:]
    s, accuracy = (data[k].values[1:] for k in ("S_path", "accuracy"))

    def share(series):
        first, middle, last = series[0], np.median(series[len(s) * 3 // 8 : len(s) * 5 // 8], 0), np.median(late(series), 0)
        return (middle - last) / np.where(first > last, first - last, np.nan)

    window = max(1, len(s) // 4)
    smooth = np.stack([accuracy[k : k + window].mean(0) for k in range(len(s) - window + 1)])
    distance = smooth.max(0) - smooth[len(s) * 3 // 8]
    return 1 - np.stack([share(s) / share(-np.log(epochs)), distance / PEAK])


def transformer_path(runs: Runs) -> Pair:
    """Share of pairs of epochs in which S_path falls; control: the perceptron."""
    found = (_all_fall([arm(runs[m])["S_path"].values[1:]]) for m in ("transformer", "mlp"))
    return with_control(*found, FALLING, "the perceptron", predicted=1.0, relation="above")


def free_energy(data: xr.Dataset, *, fixed: bool = True) -> np.ndarray:
    """F = U − T S [epoch, seed] at λ = 0 from epoch 1 on, S = D/2 (S_path + log 2πe); T of the whole run, or of the epoch."""
    u, s, t = (arm(data)[k].values[1:] for k in ("U", "S_path", "T"))
    entropy = data.attrs["dim"] / 2 * (s + math.log(2 * math.pi * math.e))
    return u - (t.mean(0) if fixed else t) * entropy


def free_energy_falls(runs: Runs) -> Pair:
    """Share of pairs of epochs in which F at fixed T falls, in the weakest model."""

    def share(fixed: bool):
        return _all_fall(free_energy(runs[m], fixed=fixed) for m in MODELS)

    return with_control(share(True), share(False), FALLING, "T read anew in each epoch", predicted=1.0, relation="above")


def minimal_entropy(matched: xr.Dataset) -> Pair:
    """Rank correlation of S_path with the generalisation gap across runs of equal U, 1 if lower S means a smaller gap."""
    path, entries = (few_seeds(gap_order(matched, k)) for k in ("S_path", "S_entries"))
    return with_control(path, entries, STRONG, "S of the entries of a weight tensor", predicted=1.0, relation="above")


def gap_order(matched: xr.Dataset, name: str) -> np.ndarray:
    """Rank correlation [seed] of a reading of S with the gap, over the runs that reached the energy; NaN below 5 of them."""
    rows = zip(*(matched[k].transpose("seed", "run").values for k in (name, "gap")), strict=True)
    kept = [(s[ok := np.isfinite(s) & np.isfinite(gap)], gap[ok]) for s, gap in rows]
    return np.array([stats.spearmanr(s, gap)[0] if len(s) >= 5 else np.nan for s, gap in kept])


def checks(runs: Runs, matched: xr.Dataset) -> dict[str, Callable[[], Pair]]:
    """What decides each of the eight claims, by id; called, it returns check, name of the control, control.

    runs: datasets of `training.by_model`, matched: of `training.matched`, two seeds or more.
    """
    return {
        "cooling.energy-falls": lambda: energy_falls(runs),
        "cooling.delayed-transformer": lambda: delayed_transformer(runs),
        "cooling.cnn-clearest": lambda: cnn_clearest(runs),
        "cooling.entropy-falls.entries": lambda: entries_fall(runs),
        "cooling.entropy-falls.trajectory.mlp": lambda: levels_off(runs),
        "cooling.entropy-falls.trajectory.transformer": lambda: transformer_path(runs),
        "cooling.free-energy-falls": lambda: free_energy_falls(runs),
        "cooling.minimal-entropy-generalises": lambda: minimal_entropy(matched),
    }
