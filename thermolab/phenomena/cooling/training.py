"""Three models learn synthetic images: the energy U and three readings of the entropy S, epoch by epoch.

U is the loss; S is the mean log-variance over parameters of document 0, section 3, in the three readings of `instruments.spread`.
The free energy takes the sum over the D parameters, S = D/2 · S_path, and the temperature of the gas on a flat space,

    F = U − T S,    T = η Tr Σ/(2D),

at which the noise of a step, η² Tr Σ/D in each direction, is the 2ηT of a Langevin equation in the time η · steps
(arXiv:2505.23489). Limit of validity: Σ is neither isotropic nor constant, so T is a mean over directions, and S stands up to a
constant (the unit of the weights), which drops out of changes of F at a fixed T alone.
"""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr

from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import Jobs, Recipe, seeds
from thermolab.instruments import curvature, noise, spread
from thermolab.phenomena.common import validate
from thermolab.phenomena.cooling import setting
from thermolab.phenomena.cooling.plateau import TINY
from thermolab.systems.network import NetworkOnData

SNAPSHOTS = 16  # of the weights in a window of one epoch, from which S_path comes
MOMENTS = 8  # of the first epoch at which the accuracy is taken as well
PROBES = 8  # fresh batches an epoch that measure the noise of the gradient
CURVED = 128  # images that measure the Fisher diagonal
COLUMNS = ("U", "U_val", "accuracy", "S_path", "S_entries", "S_laplace", "trace", "T")


@Recipe
def training(
    model: str = "mlp",
    *,
    lams=(0.0, 1e-2),
    eta: float = 0.1,
    batch_size: int = 32,
    difficulty: str = "mid",
    label_noise: float = 0.0,
    scale: float = 1.0,
    epochs: int = 32,
    fisher_every: int = 8,
    seed: int = 0,
    n_seeds: int = 5,
    device: str = "cpu",
):
    """A model from its random start, for `epochs` epochs of 1024 examples, with and without weight decay.

    model, difficulty, label_noise: as for `setting.system`; lams: λ; scale: factor on the weights at the start; fisher_every:
    epochs between two measurements of S_laplace. The arms share starts and batches; the seeds of an arm are one batch of
    replicas.

    Returns a Dataset, dims (lam, time, seed), time in epochs from 0: U, mean loss of the epoch's batches in nats; U_val and
    accuracy on the validation images; S_path, log-variance along the epoch's path; S_entries, that of the entries of a weight
    tensor; S_laplace, all in nats per parameter; trace Tr Σ of the gradients of fresh batches; T = η Tr Σ/(2D). U and
    S_path are NaN at 0, S_laplace where it was not measured. Dims (lam, moment, seed), moment in epochs below 1: early, the
    accuracy. Attributes: dim D, eta, batch_size, model.
    Raises ValueError for settings that are out of range. Source: document 0, section 3.
    """
    lams = np.asarray(lams, float)
    if lams.ndim != 1 or not len(lams) or len(set(lams)) < len(lams):
        raise ValueError(f"lams={lams.tolist()}; allowed: one or more weight decays, each once")
    validate.counts(epochs=epochs, fisher_every=fisher_every, n_seeds=n_seeds)
    _steps(batch_size)
    if not 0 < scale <= 10:
        raise ValueError(f"scale={scale}; allowed: above 0, up to 10")
    settings = {"model": model, "eta": eta, "batch_size": batch_size, "difficulty": difficulty, "label_noise": label_noise,
                "scale": scale, "epochs": epochs, "fisher_every": fisher_every, "seed": seeds(seed, n_seeds)[0],
                "n_seeds": n_seeds, "device": str(device)}  # fmt: skip
    dim = setting.system(model, difficulty=difficulty, label_noise=label_noise).n_parameters
    parts = yield Jobs(_train, [settings | {"lam": lam} for lam in lams], f"training the {model}")
    dims = {name: ("lam", "moment" if name == "early" else "time", "seed") for name in parts[0]}
    coords = {"lam": lams, "time": np.arange(epochs + 1), "moment": np.arange(MOMENTS) / MOMENTS, "seed": seeds(seed, n_seeds)}
    out = xr.Dataset({k: (dims[k], np.stack([p[k] for p in parts])) for k in parts[0]}, coords)
    return out.assign_attrs(dim=dim, eta=eta, batch_size=batch_size, model=model)


def _steps(batch_size: int) -> int:
    """Steps between two snapshots. Raises ValueError where an epoch has no whole number of them."""
    steps, rest = divmod(setting.N_TRAIN, SNAPSHOTS * batch_size) if batch_size > 0 else (0, 1)
    if rest or not steps:
        raise ValueError(f"batch_size={batch_size}; allowed: divisors of {setting.N_TRAIN // SNAPSHOTS}")
    return steps


def _train(
    *, model, lam, eta, batch_size, difficulty, label_noise, scale, epochs, fisher_every, seed, n_seeds, device
) -> dict[str, np.ndarray]:
    """The variables of `training` [time, seed] at one λ."""
    net, steps = setting.system(model, difficulty=difficulty, label_noise=label_noise), _steps(batch_size)
    held_out = setting.images(difficulty, label_noise)[1].to(device)
    weights = scale * net.start(torch.arange(n_seeds), seed)
    run = Experiment(net, eta=eta, lam=lam, batch_size=batch_size, seed=seed, weights=weights, device=device)

    def known() -> np.ndarray:
        return setting.evaluate(net.replicas, run.state.weights, held_out)[1]

    unknown = np.full(n_seeds, np.nan)
    rows, early = [{"U": unknown, "S_path": unknown}], [known()]
    _look(rows[0], run, held_out, curved=True)
    for epoch in range(1, epochs + 1):
        path = []
        for k in range(1, SNAPSHOTS + 1):
            run.advance(steps)
            path.append(run.state.weights)
            if epoch == 1 and k < SNAPSHOTS and k % (SNAPSHOTS // MOMENTS) == 0:
                early.append(known())
        rows.append({"U": run.frame().gauges["U"], "S_path": np.asarray(spread.along_path(torch.stack(path)).value)})
        _look(rows[-1], run, held_out, curved=epoch % fisher_every == 0)
    return {k: np.stack([row[k] for row in rows]) for k in COLUMNS} | {"early": np.stack(early)}


def _look(row: dict, run: Experiment, held_out, curved: bool) -> None:
    """Adds to a row what the weights of this moment tell, [R] each."""
    net, weights = run.system, run.state.weights
    row["U_val"], row["accuracy"] = setting.evaluate(net.replicas, weights, held_out)
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


def by_model(difficulty: str = "mid", **settings) -> dict:
    """`training` of each model and of two controls, to be awaited `together`.

    The transformer gets the images of `setting.EASIER`. "redrawn": the perceptron on labels drawn anew, which mean nothing;
    "plateau": the perceptron from weights of TINY times their usual size.
    """
    if difficulty not in setting.EASIER:
        raise ValueError(f"difficulty={difficulty!r} is unknown; allowed: {', '.join(setting.EASIER)}")
    plain = settings | {"lams": (0.0,)}
    return {
        "transformer": training("transformer", difficulty=setting.EASIER[difficulty], **settings),
        "cnn": training("cnn", difficulty=difficulty, **settings),
        "mlp": training("mlp", difficulty=difficulty, **settings),
        "redrawn": training("mlp", difficulty=difficulty, label_noise=1.0, **plain),
        "plateau": training("mlp", difficulty=difficulty, scale=TINY, **plain),
    }


# --- runs of equal energy -----------------------------------------------------------------------------------------------
LOOKS = 8  # an epoch: how often the loss of all training images is compared with the energy wanted


@Recipe
def matched(
    rates=(0.05, 0.1, 0.2),
    lams=(0.0, 5e-3, 1.5e-2),
    sizes=(16, 64),
    *,
    energy: float = 0.5,
    label_noise: float = 0.2,
    difficulty: str = "mid",
    epochs: int = 24,
    seed: int = 0,
    n_seeds: int = 8,
    device: str = "cpu",
):
    """Runs of the perceptron at every η, λ and B, each at the moment when its training loss first reaches `energy`.

    rates: η; lams: λ; sizes: B. energy: in nats, on all training images with their redrawn labels. All runs of a seed share
    their start, and those of one B their batches.

    Returns a Dataset, dims (run, seed), coordinates eta, lam and batch_size of each run: U; gap = U_val − U, the validation
    labels being the right ones; S_path over the last epoch, S_entries and S_laplace in nats per parameter; epoch. NaN for a run
    that does not get there within `epochs`, or within the first of them.
    Raises ValueError for settings that are out of range. Source: document 0, abstract.
    """
    for name, values in {"rates": rates, "lams": lams, "sizes": sizes}.items():
        if np.ndim(values) != 1 or not len(values):
            raise ValueError(f"{name}={values}; allowed: one or more numbers in a row")
    if not energy > 0 or epochs < 1 or n_seeds < 1:
        raise ValueError(f"energy={energy}, epochs={epochs}, n_seeds={n_seeds}; allowed: above 0, 1 or more, 1 or more")
    for size in sizes:
        _steps(size)
    common = {"rates": rates, "lams": lams, "energy": energy, "label_noise": label_noise, "difficulty": difficulty,
              "epochs": epochs, "device": str(device)}  # fmt: skip
    jobs = [common | {"batch_size": b, "seed": s} for b in sorted(sizes) for s in seeds(seed, n_seeds)]
    parts = yield Jobs(_until, jobs, "runs of equal energy")
    by_size = [parts[i : i + n_seeds] for i in range(0, len(parts), n_seeds)]
    values = {k: np.concatenate([np.stack([p[k] for p in group], 1) for group in by_size]) for k in parts[0]}
    size, eta, lam = (v.ravel() for v in np.meshgrid(sorted(sizes), rates, lams, indexing="ij"))
    coords = {"eta": ("run", eta), "lam": ("run", lam), "batch_size": ("run", size), "seed": seeds(seed, n_seeds)}
    return xr.Dataset({k: (("run", "seed"), v) for k, v in values.items()}, coords).assign_attrs(energy=energy)


def _until(*, rates, lams, energy, label_noise, difficulty, epochs, batch_size, seed, device) -> dict[str, np.ndarray]:
    """The variables of `matched` [R], the runs of one batch size and seed."""
    net, steps = setting.system("mlp", difficulty=difficulty, label_noise=label_noise), _steps(batch_size)
    train, held_out = (d.to(device) for d in setting.images(difficulty, label_noise))
    eta, lam = (v.ravel() for v in np.meshgrid(rates, lams, indexing="ij"))
    weights = net.start(torch.zeros(len(eta), dtype=torch.int64), seed)
    run = Experiment(
        net, eta=eta, lam=lam, batch_size=batch_size, seed=seed, weights=weights, streams=np.zeros(len(eta)), device=device
    )
    found = {k: np.full(len(eta), np.nan) for k in ("U", "gap", "S_path", "S_entries", "S_laplace", "epoch")}
    path, waiting = [run.state.weights], np.arange(len(eta))
    for k in range(1, SNAPSHOTS * epochs + 1):
        run.advance(steps)
        path = [*path[1 - SNAPSHOTS :], run.state.weights]
        if k % (SNAPSHOTS // LOOKS):
            continue
        u = setting.evaluate(net.replicas, run.state.weights[waiting], train)[0]
        (here, reached), waiting = (waiting[u <= energy], u[u <= energy]), waiting[~(u <= energy)]
        if len(here) and k >= SNAPSHOTS:  # in the first epoch a window would hold the start
            w = run.state.weights[here]
            now = {"U": reached, "gap": setting.evaluate(net.replicas, w, held_out)[0] - reached, "epoch": k / SNAPSHOTS,
                   "S_path": spread.along_path(torch.stack(path)[:, here]).value, "S_laplace": laplace(net, w),
                   "S_entries": spread.entries(w, net.replicas.views)}  # fmt: skip
            for name, value in now.items():
                found[name][here] = value
        if not len(waiting):
            break
    return found
