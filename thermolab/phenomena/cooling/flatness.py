"""How sharp a network is at equal loss, and what the energy-entropy update does to its weights (document 0, sections 3 and 5).

With H the Hessian of U, the loss of all training images: the sharpness λ_max and the trace Tr H. Under cross-entropy both
vanish with U, so a run that stops later looks flatter whatever it found: states compare at equal U only. Two ways to train
pass the same U. Two moments of one run do not; but a later state is brought back to the U of an earlier one, and classifies
as before, with its logits times some f < 1 (`brought_to`). How the layers share f changes H and not the function, so the
curvature of such a state is taken over relative changes of its tensors (`RelativeProducts`), which no sharing changes.

Limit of validity: with H as it is the answer depends on the sharing (arXiv:1703.04933): in equal shares, which keep the
layers balanced as gradient flow does, the end comes out flatter as well; with all of f in the last layer it is sharper.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import xarray as xr
from scipy import optimize
from torch.func import functional_call

from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import Jobs, Recipe, seeds
from thermolab.instruments import curvature, spread
from thermolab.phenomena.cooling.setting import evaluate, images, system
from thermolab.systems.network import NetworkOnData
from thermolab.systems.replicas import Replicas, cross_entropy

CURVATURES = ("lambda_max", "trace")
ARMS = ("sgd", "decay", "sam")  # only the first one is compared with itself
SIGNS = (1, 0, -1)  # of λ_S: as printed, none, weight decay
FIRST = 0.5  # epochs until curvature is measured first
MOST = 100  # products of a search for λ_max
SAME = 1e-9  # difference of U, of rounding only


@Recipe
def flatness(
    *,
    eta: float = 0.1,
    batch_size: int = 32,
    lam: float = 0.01,
    rho: float = 0.3,
    epochs: float = 30,
    moments: int = 32,
    probes: int = 10,
    width: int = 32,
    difficulty: str = "mid",
    label_noise: float = 0.0,
    seed: int = 0,
    n_seeds: int = 5,
    device: str = "cpu",
):
    """Curvature along the training of a perceptron with plain SGD, with weight decay and with SAM.

    lam: weight decay of the arm "decay"; rho: ρ of "sam", an absolute length; moments: at which curvature is measured,
    equally spaced in the logarithm of time; probes: products for a trace; width: h of 256-h-h-10.

    Returns a Dataset, dims (arm, time, seed), time in epochs: U and accuracy on the training images, U_validation and
    accuracy_validation, lambda_max and trace of the Hessian of U; of plain SGD alone (time, seed): matched_lambda_max and
    matched_trace, over relative changes, of the moments brought to the U of the one with the largest lambda_max; NaN before
    that one, and where U is larger still.
    Raises ValueError for settings that are out of range. Source: document 0, sections 3 and 5; SAM: arXiv:2010.01412.
    """
    _check(batch_size=(batch_size, 1), epochs=(epochs, 1), moments=(moments, 2), probes=(probes, 2), n_seeds=(n_seeds, 1))
    common = {"eta": eta, "batch_size": batch_size, "lam": lam, "rho": rho, "epochs": epochs, "moments": moments,
              "probes": probes, "width": width, "difficulty": difficulty, "label_noise": label_noise,
              "device": str(device)}  # fmt: skip
    net, numbers = system(width=width, difficulty=difficulty, label_noise=label_noise), seeds(seed, n_seeds)
    jobs = [common | {"arm": arm, "seed": s} for arm in ARMS for s in numbers]
    parts = yield Jobs(_run, jobs, "runs and their curvature")
    coords = {"arm": [*ARMS], "time": _steps(net, batch_size, epochs, moments) * batch_size / len(net.data), "seed": numbers}
    values = {k: np.stack([p[k] for p in parts]).reshape(len(ARMS), n_seeds, -1).swapaxes(1, 2) for k in parts[-1]}
    data = {k: (("arm", "time", "seed"), v) for k, v in values.items()}
    matched = {k: (("time", "seed"), np.stack([p[k] for p in parts[:n_seeds]], -1)) for k in parts[0] if k not in values}
    return xr.Dataset(data | matched, coords=coords)


def _check(**counts: tuple[float, float]) -> None:
    """Raises ValueError, one line, for a number below its least."""
    for name, (value, least) in counts.items():
        if not least <= value < math.inf:
            raise ValueError(f"{name}={value} is not allowed; allowed: {least} or more")


def _steps(net: NetworkOnData, batch_size: int, epochs: float, moments: int) -> np.ndarray:
    """The steps [moments] of the measurements."""
    epoch = len(net.data) / batch_size
    return np.geomspace(FIRST * epoch, epochs * epoch, moments).round().clip(1).astype(int)


def _run(*, arm, eta, batch_size, lam, rho, epochs, moments, probes, width, difficulty, label_noise, seed, device):
    """Values [time] of one run; with the matched ones where the arm is plain SGD."""
    knobs = {"sgd": {}, "decay": {"lam": lam}, "sam": {"rho": rho}}[arm]
    optimiser = "sam" if arm == "sam" else "sgd"
    net = system(width=width, difficulty=difficulty, label_noise=label_noise, optimiser=optimiser)
    run = Experiment(net, eta=eta, batch_size=batch_size, seed=seed, device=device, **knobs)
    validation, path, rows = images(difficulty, label_noise)[1], [], []
    for step in _steps(net, batch_size, epochs, moments):
        run.advance(int(step) - run.state.step)
        run.frame()  # raises if the run has diverged
        path.append(run.state.weights[0])
        row = _curvature(curvature.HessianProducts, net, path[-1], probes, seed + len(rows))
        for suffix, data in (("", net.data), ("_validation", validation)):
            row["U" + suffix], row["accuracy" + suffix] = (v[0] for v in evaluate(net.replicas, run.state.weights, data))
        rows.append(row)
    if arm == ARMS[0]:
        sharpest = int(np.argmax([row["lambda_max"] for row in rows]))
        for k, (row, weights) in enumerate(zip(rows, path, strict=True)):
            moved = brought_to(net, weights, rows[sharpest]["U"]) if k >= sharpest else None
            found = {} if moved is None else _curvature(RelativeProducts, net, moved, probes, seed + k)
            row |= {f"matched_{name}": found.get(name, math.nan) for name in CURVATURES}
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


class RelativeProducts(curvature.HessianProducts):
    """Products with D H D, D the length |w| of the tensor to which a parameter belongs: H over relative changes of the tensors.

    Layers of ReLU may hand factors to each other without changing D H D, nor its eigenvalues, as in normalised flatness
    (Tsuzuku, Sato & Sugiyama, arXiv:1901.04653, which document 0 refers to).
    """

    def __init__(self, system, weights: torch.Tensor, x: torch.Tensor, y: torch.Tensor):
        super().__init__(system, weights, x, y)
        views = self.replicas.views(self.weights[None]).values()
        self.lengths = torch.cat([torch.linalg.vector_norm(view).expand(view.numel()) for view in views])
        self.gradient = self.lengths * self.gradient

    def __call__(self, v: torch.Tensor) -> torch.Tensor:
        """D H D v [P] of a vector [P]; counts as one product."""
        return self.lengths * super().__call__(self.lengths * v)


def _curvature(kind: type, net: NetworkOnData, weights: torch.Tensor, probes: int, seed: int) -> dict[str, float]:
    """λ_max and trace at weights [P], over all training images, of the Hessian or what `kind` makes of it."""
    hessian = kind(net, weights, net.data.x, net.data.y)
    top = curvature.largest_eigenvalue(hessian, most=MOST, seed=seed)
    return dict(zip(CURVATURES, (top.value, curvature.trace(hessian, probes=probes, seed=seed).value), strict=True))


def scaled(replicas: Replicas, weights: torch.Tensor, factor: float) -> torch.Tensor:
    """Weights [P] of the same chain of linear layers and ReLU with its outputs times `factor`, an equal share for each layer."""
    moved = weights.clone()
    views = replicas.views(moved[None])
    depth, layer = sum(view.dim() > 2 for view in views.values()), 0
    for view in views.values():  # in order: a layer's weight, then its bias
        layer += view.dim() > 2
        view.mul_(factor ** ((1 if view.dim() > 2 else layer) / depth))
    return moved


def brought_to(net: NetworkOnData, weights: torch.Tensor, energy: float) -> torch.Tensor | None:
    """Weights [P] with their outputs times that f in 0 … 1 at which U = energy on all training images.

    U is convex in f and log K at f = 0, so that a U below `energy` < log K leaves one such f. None if U is above, or no f is.
    """
    with torch.no_grad():
        parameters = {name: view[0] for name, view in net.replicas.views(weights[None]).items()}
        logits = functional_call(net.replicas.module, parameters, (net.data.x,)).double()

    def gap(factor):
        return float(cross_entropy(factor * logits, net.data.y)) - energy

    if abs(gap(1.0)) < SAME:
        return weights
    return scaled(net.replicas, weights, optimize.brentq(gap, 0.0, 1.0)) if gap(1.0) < 0 < gap(0.0) else None


@Recipe
def entropic(
    *,
    eta: float = 0.1,
    batch_size: int = 32,
    lam_entropy: float = 0.03,
    epochs: int = 30,
    width: int = 32,
    difficulty: str = "mid",
    label_noise: float = 0.0,
    seed: int = 0,
    n_seeds: int = 5,
    device: str = "cpu",
):
    """The energy-entropy update w <- w - η (g - λ_S w) with λ_S of either sign and with none, from one start on equal batches.

    lam_entropy: |λ_S|; epochs: a measurement after each.

    Returns a Dataset, dims (sign, time, seed), sign +1 as printed, 0, -1 weight decay; time in epochs from 0 on: r2 = |w|²,
    U and accuracy on the training images, S: mean log-variance of the entries of a weight tensor, cosine: of ∇S with the
    weights of a tensor, the least of all tensors; rate: by which the term alone changes log |w| in one step, in units of
    η |λ_S| (0 for sign 0); (sign, time): growth (1 + η λ_S)^(2k) of r2 without a gradient.
    Raises ValueError for settings that are out of range. Source: document 0, eq. 4.
    """
    _check(batch_size=(batch_size, 1), epochs=(epochs, 1), n_seeds=(n_seeds, 1))
    if not 0 < lam_entropy < math.inf:
        raise ValueError(f"lam_entropy={lam_entropy} is not allowed; allowed: a positive number, whose sign is varied")
    common = {"eta": eta, "batch_size": batch_size, "lam_entropy": lam_entropy, "epochs": epochs, "width": width,
              "difficulty": difficulty, "label_noise": label_noise, "device": str(device)}  # fmt: skip
    numbers = seeds(seed, n_seeds)
    parts = yield Jobs(_signs, [common | {"seed": s} for s in numbers], "entropic updates")
    time = np.arange(epochs + 1)
    steps = time * (len(system(width=width, difficulty=difficulty, label_noise=label_noise).data) // batch_size)
    growth = (1 + eta * lam_entropy * np.array(SIGNS))[:, None] ** (2 * steps)
    data = {k: (("sign", "time", "seed"), np.stack([p[k] for p in parts], -1)) for k in parts[0]}
    return xr.Dataset(data | {"growth": (("sign", "time"), growth)}, coords={"sign": [*SIGNS], "time": time, "seed": numbers})


def _signs(*, eta, batch_size, lam_entropy, epochs, width, difficulty, label_noise, seed, device) -> dict[str, np.ndarray]:
    """Values [sign, time]."""
    net = system(width=width, difficulty=difficulty, label_noise=label_noise, optimiser="eef")
    knobs = {"eta": eta, "batch_size": batch_size, "seed": seed, "device": device}
    strengths, streams, rows = lam_entropy * np.array(SIGNS), [0] * len(SIGNS), []
    run = Experiment(net, lam_entropy=strengths, streams=streams, **knobs)
    for _ in range(epochs + 1):
        weights = run.state.weights
        with_term, without = (_step(net, weights, s, streams, knobs) for s in (strengths, 0.0))
        push = ((with_term - without) * weights).double().sum(1) / weights.double().square().sum(1)
        energy, right = evaluate(net.replicas, weights, net.data)
        rows.append({
            "r2": weights.double().square().sum(1).cpu().numpy(), "U": energy, "accuracy": right,
            "S": spread.entries(weights, net.replicas.views), "cosine": entropy_cosine(net.replicas, weights),
            "rate": push.cpu().numpy() / (eta * lam_entropy),
        })  # fmt: skip
        run.advance(len(net.data) // batch_size)
        run.frame()
    return {name: np.stack([row[name] for row in rows], -1) for name in rows[0]}


def _step(net: NetworkOnData, weights: torch.Tensor, strength, streams, knobs) -> torch.Tensor:
    """Weights after one step from these, on the same batch whatever λ_S is."""
    once = Experiment(net, weights=weights, lam_entropy=strength, streams=streams, **knobs)
    once.advance(1)
    return once.state.weights


def entropy_cosine(replicas: Replicas, weights: torch.Tensor) -> np.ndarray:
    """Cosine [R] of ∇S with the weights of each tensor, the least of all; S: mean log-variance of the entries of a tensor."""
    with torch.enable_grad():
        tensors = [v.detach().double().requires_grad_() for v in replicas.views(weights).values() if v.dim() > 2]
        s = torch.stack([t.flatten(1).var(1, correction=0).log() for t in tensors]).mean(0)
        slopes = torch.autograd.grad(s.sum(), tensors)
    pairs = zip(slopes, tensors, strict=True)
    cosines = [torch.cosine_similarity(g.flatten(1), t.detach().flatten(1), dim=1) for g, t in pairs]
    return torch.stack(cosines).amin(0).cpu().numpy()
