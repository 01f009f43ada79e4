"""Runs of equal energy: does the one with the lowest entropy generalise best?

Perceptrons with every η, λ and B are stopped as soon as the loss of their training images comes down to the same U, and differ
from there on in S and in the generalisation gap. S orders the gaps if the rank correlation is at least 0.5, by convention a
strong one (Cohen 1988). Limit of validity: λ changes S of the entries and the gap at once, so an order need not come from S.
Source: document 0, abstract ("minimal entropy").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
import xarray as xr
from scipy import stats

from thermolab.claims import Decision, decides, few_seeds, with_control
from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, Positive, Positives, not_negative, power_of_two, several
from thermolab.instruments import spread
from thermolab.phenomena.cooling import classifiers
from thermolab.phenomena.cooling.classifiers import Difficulty, Share
from thermolab.phenomena.cooling.training import SNAPSHOTS, laplace, steps_between

LOOKS = 8  # an epoch: how often the loss of all training images is compared with the energy wanted
STRONG = 0.5


@recipe("runs of equal energy", dims=("run", "seed"), over={"sizes": "run"}, n_seeds=8)
def matched(
    rates: Positives = (0.05, 0.1, 0.2),
    lams: Annotated[Sequence[float], several(not_negative())] = (0.0, 5e-3, 1.5e-2),
    sizes: Annotated[Sequence[int], several(power_of_two(1, 64))] = (16, 64),
    *,
    energy: Positive = 0.5,
    label_noise: Share = 0.2,
    difficulty: Difficulty = "mid",
    epochs: Count = 24,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """Runs of the perceptron at every η, λ and B, each at the moment when its training loss first reaches `energy`.

    rates: η; lams: λ; sizes: B. energy: in nats, on all training images with their redrawn labels. All runs of a seed share
    their start, and those of one B their batches.

    Returns a Dataset, dims (run, seed), coordinates eta, lam and batch_size of each run: U; gap = U_val − U, the validation
    labels being the right ones; S_path over the last epoch, S_entries and S_laplace in nats per parameter; epoch. NaN for a run
    that does not get there within `epochs`, or within the first of them. Attribute energy.
    Raises ValueError for settings that are out of range. Source: document 0, abstract.
    """
    net = classifiers.system("mlp", difficulty=difficulty, label_noise=label_noise)
    train, held_out = (d.to(device) for d in classifiers.images(difficulty, label_noise))
    size, eta, lam = (v.ravel() for v in np.meshgrid(sizes, rates, lams, indexing="ij"))
    n, settings = len(eta), {"eta": eta, "lam": lam, "batch_size": sizes[0], "seed": seed, "device": device}
    run = Experiment(net, weights=net.start(torch.zeros(n, dtype=torch.int64), seed), streams=np.zeros(n), **settings)
    found = {k: np.full(n, np.nan) for k in ("U", "gap", "S_path", "S_entries", "S_laplace", "epoch")}
    path, waiting = [run.state.weights], np.arange(n)
    for k in range(1, SNAPSHOTS * epochs + 1):
        run.advance(steps_between(sizes[0]))
        path = [*path[1 - SNAPSHOTS :], run.state.weights]
        if k % (SNAPSHOTS // LOOKS):
            continue
        u = classifiers.evaluate(net.replicas, run.state.weights[waiting], train)[0]
        (here, reached), waiting = (waiting[u <= energy], u[u <= energy]), waiting[~(u <= energy)]
        if len(here) and k >= SNAPSHOTS:  # in the first epoch a window would hold the start
            w = run.state.weights[here]
            now = {"U": reached, "gap": classifiers.evaluate(net.replicas, w, held_out)[0] - reached, "epoch": k / SNAPSHOTS,
                   "S_path": spread.along_path(torch.stack(path)[:, here]).value, "S_laplace": laplace(net, w),
                   "S_entries": spread.entries(w, net.replicas.views)}  # fmt: skip
            for name, value in now.items():
                found[name][here] = value
        if not len(waiting):
            break
    coords = {"eta": ("run", eta), "lam": ("run", lam), "batch_size": ("run", size)}
    return xr.Dataset({k: ("run", v) for k, v in found.items()}, coords, {"energy": energy})


@decides("cooling.minimal-entropy-generalises", reads=["rates", "lams", "sizes", "energy", "label_noise", "epochs"])
def minimal_entropy(matched: xr.Dataset) -> Decision:
    """Rank correlation of S_path with the generalisation gap across runs of equal U, 1 if lower S means a smaller gap."""
    path, entries = (few_seeds(gap_order(matched, k)) for k in ("S_path", "S_entries"))
    return with_control(path, entries, STRONG, "S of the entries of a weight tensor", predicted=1.0, relation="above")


def gap_order(matched: xr.Dataset, name: str) -> np.ndarray:
    """Rank correlation [seed] of a reading of S with the gap, over the runs that reached the energy; NaN below 5 of them."""
    rows = zip(*(matched[k].transpose("seed", "run").values for k in (name, "gap")), strict=True)
    kept = [(s[ok := np.isfinite(s) & np.isfinite(gap)], gap[ok]) for s, gap in rows]
    return np.array([stats.spearmanr(s, gap)[0] if len(s) >= 5 else np.nan for s, gap in kept])
