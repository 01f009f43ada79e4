"""Three models learn synthetic images: the energy U and three readings of the entropy S, epoch by epoch.

U is the loss; S is the mean log-variance over parameters of document 0, section 3, in the three readings of `instruments.spread`.
The free energy takes the sum over the D parameters, S = D/2 · S_path, and the temperature of the gas on a flat space,

    F = U − T S,    T = η Tr Σ/(2D),

at which the noise of a step, η² Tr Σ/D in each direction, is the 2ηT of a Langevin equation in the time η · steps
(arXiv:2505.23489). Limit of validity: Σ is neither isotropic nor constant, so T is a mean over directions, and S stands up to a
constant (the unit of the weights), which drops out of changes of F at a fixed T alone.

The claims take the runs of three models and of three controls, the perceptron at "rest", at an η at which it does not move, one
that "waits" at rest and then learns, and one from a tiny start, the "plateau"; at λ = 0 where a claim names no weight decay: with
it, the loss alone is not what is descended. `curves` says what falls and what has settled. A curve is late and abrupt if it goes
from a quarter to three quarters of its way in less time than it took to reach the half; a rise at constant speed from the start
needs just as long, one that slows down needs longer. The representation is read by its CKA with that of the end
(`instruments.alignment`), which rises to 1. Signs of a change and of a lead have no tolerance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
import torch
import xarray as xr

from thermolab.claims import Decision, Estimate, decides, few_seeds, pick, with_control
from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, Positive, Rule, integer, not_negative, number, refuse, several
from thermolab.instruments import curvature, noise, spread
from thermolab.instruments.alignment import cka
from thermolab.phenomena.cooling import classifiers
from thermolab.phenomena.cooling.classifiers import MODELS, BatchSize, Difficulty, Model, Share
from thermolab.phenomena.cooling.curves import FALLING, abruptness, all_fall, arm, free_energy, late, path_fall, settled, weakest
from thermolab.systems.network import NetworkOnData

REST = 1e-9  # η at which weights in float32 stay where they are
SNAPSHOTS = 16  # of the weights in a window of one epoch, from which S_path comes
MOMENTS = 8  # of the first epoch at which the accuracy is taken as well
PROBES = 8  # fresh batches an epoch that measure the noise of the gradient
CURVED = 128  # images that measure the Fisher diagonal
SEEN = 128  # images held out whose representations are compared
COLUMNS = ("U", "U_val", "accuracy", "S_path", "S_entries", "S_laplace", "trace", "T", "cka")
READS = ("lams", "epochs")  # what a check of these claims may turn in all runs at once

Runs = Mapping[str, xr.Dataset]


def _each_once(values) -> tuple[float, ...]:
    values = several(not_negative()).convert(values)
    return values if len(set(values)) == len(values) else refuse("names one of them twice")


@recipe("training the {model}", dims=("lam", "time", "moment", "seed"), over={"lams": "lam"})
def training(
    model: Model = "mlp",
    *,
    lams: Annotated[Sequence[float], Rule("one or more weight decays, each once", _each_once)] = (0.0, 1e-2),
    eta: Positive = 0.1,
    batch_size: BatchSize = 32,
    difficulty: Difficulty = "mid",
    label_noise: Share = 0.0,
    scale: Annotated[float, number(1e-6, 10)] = 1.0,
    wait: Annotated[int, integer(0)] = 0,
    epochs: Count = 32,
    fisher_every: Count = 8,
    seeds: Sequence[int],
    device: str = "cpu",
) -> xr.Dataset:
    """A model from its random start, for `epochs` epochs of 1024 examples, with and without weight decay.

    model, difficulty, label_noise: as for `classifiers.system`; lams: λ; scale: factor on the weights at the start; wait: epochs
    at rest, which count, before the training; fisher_every: epochs between two measurements of S_laplace. The arms share starts
    and batches; the seeds of an arm are one batch of replicas.

    Returns a Dataset, dims (lam, time, seed), time in epochs from 0: U, mean loss of the epoch's batches in nats; U_val and
    accuracy on the validation images; S_path, log-variance along the epoch's path; S_entries, that of the entries of a weight
    tensor; S_laplace, all in nats per parameter; trace Tr Σ of the gradients of fresh batches; T = η Tr Σ/(2D); cka, of what
    the last layer reads with what it reads at the end. U and S_path are NaN at 0, S_laplace where it was not measured. Dims
    (lam, moment, seed), moment in epochs below 1: early and early_cka, accuracy and cka. Attributes: dim D, eta, batch_size,
    model.
    Raises ValueError for settings that are out of range. Source: document 0, section 3.
    """
    net = classifiers.system(model, difficulty=difficulty, label_noise=label_noise)
    held_out = classifiers.images(difficulty, label_noise)[1].to(device)
    weights = scale * net.start(torch.arange(len(seeds)), seeds[0])
    run = Experiment(net, eta=eta, lam=lams[0], batch_size=batch_size, seed=seeds[0], weights=weights, device=device)

    def known() -> dict:
        return {"accuracy": classifiers.evaluate(net.replicas, run.state.weights, held_out)[1], "seen": seen()}

    def seen() -> torch.Tensor:
        return classifiers.representations(net.replicas, run.state.weights, held_out.x[:SEEN])

    unknown = np.full(len(seeds), np.nan)
    rows, early = [{"U": unknown, "S_path": unknown, "seen": seen()}], [known()]
    _look(rows[0], run, held_out, curved=True)
    for epoch in range(1, epochs + 1):
        run.set(eta=eta if epoch > wait else REST)
        path = []
        for k in range(1, SNAPSHOTS + 1):
            run.advance(steps_between(batch_size))
            path.append(run.state.weights)
            if epoch == 1 and k < SNAPSHOTS and k % (SNAPSHOTS // MOMENTS) == 0:
                early.append(known())
        entropy = np.asarray(spread.along_path(torch.stack(path)).value)
        rows.append({"U": run.frame().observables["U"], "S_path": entropy, "seen": seen()})
        _look(rows[-1], run, held_out, curved=epoch % fisher_every == 0)
    end = rows[-1]["seen"]
    for row in (*rows, *early):
        row["cka"] = cka(row.pop("seen"), end, samples=-2)
    found = {k: (("lam", "time", "seed"), [[row[k] for row in rows]]) for k in COLUMNS}
    moments = {"early": "accuracy", "early_cka": "cka"}
    found |= {k: (("lam", "moment", "seed"), [[row[name] for row in early]]) for k, name in moments.items()}
    coords = {"lam": list(lams), "time": np.arange(epochs + 1), "moment": np.arange(MOMENTS) / MOMENTS, "seed": seeds}
    return xr.Dataset(found, coords, {"dim": net.n_parameters, "eta": eta, "batch_size": batch_size, "model": model})


def steps_between(batch_size: int) -> int:
    """Steps between two of the 16 snapshots of an epoch."""
    return classifiers.N_TRAIN // (SNAPSHOTS * batch_size)


def _look(row: dict, run: Experiment, held_out, curved: bool) -> None:
    """Adds to a row what the weights of this moment tell, [R] each."""
    net, weights = run.system, run.state.weights
    row["U_val"], row["accuracy"] = classifiers.evaluate(net.replicas, weights, held_out)
    row["S_entries"] = spread.entries(weights, net.replicas.views)
    row["S_laplace"] = laplace(net, weights) if curved else np.full(len(weights), np.nan)
    # another seed for each moment, none of which the training draws from
    fresh = net.gradients(weights, PROBES, run.knobs["batch_size"], run.seed + 2**32 * (1 + run.state.step), run.streams)
    found = noise.gradient_noise(torch.nan_to_num(fresh), spectrum=False)
    row["trace"] = np.asarray(found.trace)
    row["T"] = run.knobs["eta"].cpu().numpy() * row["trace"] / (2 * net.n_parameters)


def laplace(net: NetworkOnData, weights: torch.Tensor, samples: int = CURVED) -> np.ndarray:
    """Laplace entropy [R] in nats per parameter, from the Fisher diagonal over the first images; NaN where a replica diverged."""
    alive = [bool(w.isfinite().all()) for w in weights]
    return np.array([
        spread.laplace(curvature.fisher_diagonal(net, w, net.data.x[:samples]).value) if ok else np.nan
        for w, ok in zip(weights, alive, strict=True)
    ])  # fmt: skip


# --- claims -------------------------------------------------------------------------------------------------------------
@decides("cooling.energy-falls", reads=READS)
def energy_falls(runs: Runs) -> Decision:
    """Share of pairs of epochs in which U falls, in the weakest model; control: the perceptron at rest."""
    learnt = all_fall(arm(runs[m])["U"].values[1:] for m in MODELS)
    still = all_fall([arm(runs["rest"])["U"].values[1:]])
    return with_control(learnt, still, FALLING, "the same at an η too small to move", predicted=1.0, relation="above")


@decides("cooling.delayed-transformer", reads=READS)
def delayed_transformer(runs: Runs) -> Decision:
    """Log of the time from a quarter to three quarters of the rise of the accuracy over the time to the half."""
    right, wrong = (few_seeds(abruptness(runs[m])) for m in ("transformer", "plateau"))
    return with_control(right, wrong, 0.0, "a perceptron that starts on a plateau", relation="below")


@decides("cooling.representation-shift", reads=READS)
def representation_shift(runs: Runs) -> Decision:
    """Log of the time to half the rise of the CKA with the end, over that of its middle half; the least abrupt model."""
    least = weakest((-abruptness(runs[m], "cka") for m in MODELS), 0.0)
    wrong = few_seeds(-abruptness(runs["waits"], "cka"))
    return with_control(least, wrong, 0.0, "a perceptron that rests for its first epochs", relation="above")


@decides("cooling.cnn-clearest", reads=READS)
def cnn_clearest(runs: Runs) -> Decision:
    """By how much S_path of the CNN falls further than that of any other model, mean over the weight decays."""
    falls = {m: (path_fall(arm(runs[m])) + path_fall(arm(runs[m], decays=True))) / 2 for m in MODELS}
    return with_control(lead(falls, "cnn"), lead(falls, "mlp"), 0.0, "the same for the perceptron", relation="above")


@decides("cooling.cnn-gains", reads=READS)
def cnn_gains(runs: Runs) -> Decision:
    """By how much the validation accuracy of the CNN, mean of the late epochs, exceeds that of any other model.

    All of them gain it from the level of chance, about which their starts scatter.
    """
    gains = {m: late(arm(runs[m])["accuracy"].values).mean(0) for m in MODELS}
    return with_control(lead(gains, "cnn"), lead(gains, "mlp"), 0.0, "the same for the perceptron", relation="above")


def lead(values: Mapping[str, np.ndarray], model: str) -> Estimate:
    """By how much numbers [seed] of a model exceed those of the best of the others, with which it shares no random number."""
    one, best = few_seeds(values[model]), pick(max, (few_seeds(v) for m, v in values.items() if m != model))
    return Estimate(one.value - best.value, math.hypot(one.error, best.error), min(one.n, best.n))


@decides("cooling.entropy-falls.entries", reads=READS)
def entries_fall(runs: Runs) -> Decision:
    """Fall of S_entries over the training in the weakest model; control: with weight decay."""

    def fall(decays: bool):
        arms = (arm(runs[m], decays)["S_entries"].values for m in MODELS)
        return weakest((s[0] - s[-1] for s in arms), 0.0)

    return with_control(fall(False), fall(True), 0.0, "λ = 1e-2 or more", relation="above")


@decides("cooling.entropy-falls.trajectory.mlp", reads=READS)
def levels_off(runs: Runs) -> Decision:
    """How settled S_path and the accuracy are at half-time (`settled`), mean over MLP and CNN; the weaker of the two."""

    def least(decays: bool):
        return weakest(sum(settled(arm(runs[m], decays)) for m in ("mlp", "cnn")) / 2, 0.0)

    return with_control(least(True), least(False), 0.0, "λ = 0", relation="above")


@decides("cooling.entropy-falls.trajectory.transformer", reads=READS)
def transformer_path(runs: Runs) -> Decision:
    """Share of pairs of epochs in which S_path falls; control: the perceptron."""
    found = (all_fall([arm(runs[m])["S_path"].values[1:]]) for m in ("transformer", "mlp"))
    return with_control(*found, FALLING, "the perceptron", predicted=1.0, relation="above")


@decides("cooling.free-energy-falls", reads=READS)
def free_energy_falls(runs: Runs) -> Decision:
    """Share of pairs of epochs in which F at fixed T falls, in the weakest model."""

    def share(fixed: bool):
        return all_fall(free_energy(runs[m], fixed=fixed) for m in MODELS)

    return with_control(share(True), share(False), FALLING, "T read anew in each epoch", predicted=1.0, relation="above")
