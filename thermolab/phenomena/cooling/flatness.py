"""How sharp a network is at equal loss (document 0, sections 3 and 5).

With H the Hessian of U, the loss of all training images: the sharpness λ_max and the trace Tr H. Under cross-entropy both
vanish with U, so a run that stops later looks flatter whatever it found: states compare at equal U only. Two ways to train
pass the same U. Two moments of one run do not; but a later state is brought back to the U of an earlier one, and classifies
as before, with its logits times some f < 1 (`brought_to`). How the layers share f changes H and not the function, so the
curvature of such a state is taken over relative changes of its tensors (`RelativeProducts`), which no sharing changes.

The energy-entropy update (eq. 4) is w <- w - η (g - λ_S w). With the printed sign it multiplies the weights by 1 + ηλ_S a step:
that is growth, and the descent of F for an S that rises with the log-variance of the weights, whose gradient points along them as
long as their mean is small; with the other sign it is weight decay. Whether it finds what generalises, or flat minima, is
asked at equal U as well.

Limit of validity: with H as it is the answer depends on the sharing (arXiv:1703.04933): in equal shares, which keep the
layers balanced as gradient flow does, the end comes out flatter as well; with all of f in the last layer it is sharper.

The valley in which a run ends is read along the vector of λ_max, at the length at which a parabola of that curvature rises by
0.1 nats: a parabola rises alike on both sides.

Tolerances stand here once and do not move with the data. No theory says how much flatter a flat state is. "Flatter" means λ_max
and the trace both lower by a quarter at least: λ_max of a run changes by about a fifth from moment to moment, and a difference
within that says nothing. U is matched at 0.1 nats, by which every arm classifies 95 % of the images or more, and which weight
decay does not keep a run from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Annotated

import numpy as np
import torch
import xarray as xr
from scipy import optimize
from torch.func import functional_call

from thermolab.claims import Decision, Estimate, decides, few_seeds, pick, with_control
from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, NotNegative, Positive, choice, integer, number, several
from thermolab.instruments import curvature
from thermolab.phenomena.cooling.classifiers import Difficulty, Share, Width, evaluate, images, system
from thermolab.systems.losses import cross_entropy
from thermolab.systems.network import NetworkOnData
from thermolab.systems.replicas import Replicas

CURVATURES = ("lambda_max", "trace")
ARMS = {"sgd": "sgd", "decay": "sgd", "sam": "sam", "eef": "eef"}  # and their optimisers; only the first is compared with itself
FIRST = 0.5  # epochs until curvature is measured first
MOST = 100  # products of a search for λ_max
SAME = 1e-9  # difference of U, of rounding only

FLATTER, MATCHED_U = 0.75, 0.1
BAND = 3.0  # the line through a run takes the moments of U within this factor of MATCHED_U; neighbours are about 2 apart
LOPSIDED = 2.0  # ratio of the rises on both sides from which a valley counts as asymmetric: a convention
PLACES = {"bottom": 0.0, "beside": 1 / 3}  # where a valley is read, in lengths across
LATE = 1 / 3  # share of the training time after which curvature only follows U


@recipe("runs and their curvature", dims=("arm", "time", "seed"), over={"arms": "arm"})
def flatness(
    *,
    arms: Annotated[Sequence[str], several(choice(*ARMS))] = tuple(ARMS),
    eta: Positive = 0.1,
    batch_size: Count = 32,
    lam: NotNegative = 0.01,
    rho: NotNegative = 0.3,
    epochs: Annotated[float, number(1, 1000)] = 30,
    moments: Annotated[int, integer(2)] = 16,
    probes: Annotated[int, integer(2)] = 10,
    width: Width = 32,
    difficulty: Difficulty = "mid",
    label_noise: Share = 0.0,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """Curvature along the training of a perceptron with plain SGD, weight decay, SAM and the energy-entropy update.

    lam: weight decay of the arm "decay", and λ_S of "eef", w <- w - η (g - λ_S w): the same update with the other sign;
    rho: ρ of "sam", an absolute length; moments: at which curvature is measured,
    equally spaced in the logarithm of time; probes: products for a trace; width: h of 256-h-h-10.

    Returns a Dataset, dims (arm, time, seed), time in epochs: U and accuracy on the training images, U_validation and
    accuracy_validation, lambda_max and trace of the Hessian of U, r2 = |w|²; of plain SGD, NaN in the other arms:
    matched_lambda_max and matched_trace, over relative changes, of the moments brought to the U of the one with the largest
    lambda_max; NaN before that one, and where U is larger still. Dims (arm, place, seed): asymmetry, of the valley in which an
    arm ends (`asymmetry`), at the "bottom" and "beside" it, a third of the length up one of its sides. Attribute growth, of
    |w|² in an epoch of "eef" without a gradient.
    Raises ValueError for settings that are out of range. Source: document 0, sections 3 and 5; SAM: arXiv:2010.01412.
    """
    arm, (train, validation) = arms[0], images(difficulty, label_noise)
    knobs = {"sgd": {}, "decay": {"lam": lam}, "sam": {"rho": rho}, "eef": {"lam_entropy": lam}}[arm]
    net = system(width=width, difficulty=difficulty, label_noise=label_noise, optimiser=ARMS[arm])
    run = Experiment(net, eta=eta, batch_size=batch_size, seed=seed, device=device, **knobs)
    steps, path, rows = looks(len(train) / batch_size, epochs, moments), [], []
    for step in steps:
        run.advance(int(step) - run.state.step)
        run.raise_if_diverged()
        path.append(run.state.weights[0])
        hessian = curvature.HessianProducts(net, path[-1], net.data.x, net.data.y)
        row, top = _curvature(hessian, probes, seed + len(rows))
        for suffix, data in (("", train), ("_validation", validation)):
            row["U" + suffix], row["accuracy" + suffix] = (v[0] for v in evaluate(net.replicas, run.state.weights, data))
        row["r2"] = float(path[-1].double().square().sum())
        rows.append(row)
    sharpest = int(np.argmax([row["lambda_max"] for row in rows])) if arm == "sgd" else moments  # no moment: nothing is matched
    for k, (row, weights) in enumerate(zip(rows, path, strict=True)):
        moved = brought_to(net, weights, rows[sharpest]["U"]) if k >= sharpest else None
        relative = None if moved is None else RelativeProducts(net, moved, net.data.x, net.data.y)
        found = {} if relative is None else _curvature(relative, probes, seed + k)[0]
        row |= {f"matched_{name}": found.get(name, math.nan) for name in CURVATURES}
    values = {name: (("arm", "time"), [[row[name] for row in rows]]) for name in rows[0]}
    across = math.sqrt(2 * MATCHED_U / top.value) * top.vector if top.value > 0 else math.nan * top.vector
    values["asymmetry"] = (("arm", "place"), [[asymmetry(net, path[-1] + share * across, across) for share in PLACES.values()]])
    coords = {"arm": [arm], "place": [*PLACES], "time": steps * batch_size / len(train)}
    return xr.Dataset(values, coords, {"growth": (1 + eta * lam) ** (2 * len(train) / batch_size)})


def looks(epoch: float, epochs: float, moments: int) -> np.ndarray:
    """The steps [moments] of the measurements; epoch: in steps."""
    return np.geomspace(FIRST * epoch, epochs * epoch, moments).round().clip(1).astype(int)


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


def _curvature(hessian: curvature.HessianProducts, probes: int, seed: int) -> tuple[dict, curvature.LargestEigenvalue]:
    """λ_max and trace of a Hessian, and λ_max with its vector."""
    top = curvature.largest_eigenvalue(hessian, most=MOST, seed=seed)
    return dict(zip(CURVATURES, (top.value, curvature.trace(hessian, probes=probes, seed=seed).value), strict=True)), top


def asymmetry(net: NetworkOnData, weights: torch.Tensor, across: torch.Tensor) -> float:
    """Rise of U from weights [P] to the steeper side of a valley over that to the other side, at ±across [P] from there.

    1 for a parabola read at its bottom, 5 a third of `across` beside it. NaN if a side does not rise.
    """
    here, right, left = evaluate(net.replicas, torch.stack([weights, weights + across, weights - across]), net.data)[0]
    low, high = sorted((right - here, left - here))
    return float(high / low) if low > 0 else math.nan


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


# --- claims -------------------------------------------------------------------------------------------------------------
@decides("cooling.sam-flatter", reads=["rho", "epochs", "moments", "width", "label_noise"])
def sam_flatter(flatness: xr.Dataset) -> Decision:
    """λ_max and trace of SAM over those of SGD at U = 0.1, the larger of the two ratios."""
    name = "SGD with weight decay in place of SAM, which is no flatter"
    sam, decay = (larger(*over_sgd(flatness, arm, CURVATURES)) for arm in ("sam", "decay"))
    return with_control(sam, decay, 0.0, name, predicted=FLATTER, relation="below")


@decides("cooling.eef-flatter", reads=["lam", "rho", "epochs", "moments", "width", "label_noise"])
def eef_flatter(flatness: xr.Dataset) -> Decision:
    """λ_max and trace of the energy-entropy update over those of SGD at U = 0.1, the larger ratio; control: of SAM."""
    eef, sam = (larger(*over_sgd(flatness, arm, CURVATURES)) for arm in ("eef", "sam"))
    return with_control(eef, sam, 0.0, "SAM in its place", predicted=FLATTER, relation="below")


@decides("cooling.eef-generalises", reads=["lam", "epochs", "moments", "width", "label_noise"])
def eef_generalises(flatness: xr.Dataset) -> Decision:
    """Log of the validation loss of the energy-entropy update over that of SGD at U = 0.1; control: with the other sign."""
    eef, decay = (few_seeds(np.log(*over_sgd(flatness, arm, ["U_validation"]))) for arm in ("eef", "decay"))
    return with_control(eef, decay, 0.0, "the other sign, weight decay", relation="below")


def over_sgd(flatness: xr.Dataset, arm: str, names: Sequence[str]) -> list[np.ndarray]:
    """Readings of an arm at U = 0.1 over those of SGD, [seed] each."""
    return [at_loss(flatness.sel(arm=arm), name) / at_loss(flatness.sel(arm="sgd"), name) for name in names]


@decides("cooling.terminal-flatness", reads=["epochs", "moments", "width", "label_noise"])
def terminal_flatness(flatness: xr.Dataset) -> Decision:
    """λ_max and trace, over relative changes, of the end of plain SGD at the U of its sharpest moment, over those of that moment.

    The larger of the two ratios. The control compares the end with the state at a third of the time, at the same U.
    """
    late = np.searchsorted(flatness["time"].values, LATE * float(flatness["time"][-1]))

    def ratio(since: Callable[[np.ndarray], np.ndarray]):
        plain = flatness.sel(arm="sgd")
        found = (plain["matched_" + name].transpose("seed", "time").values for name in CURVATURES)
        return larger(*(values[:, -1] / since(values) for values in found))

    whole, end = ratio(_first), ratio(lambda values: values[:, late])
    name = "the last two thirds of training, over which curvature merely follows the loss"
    return with_control(whole, end, 0.0, name, predicted=FLATTER, relation="below")


@decides("cooling.valley-asymmetric", reads=["epochs", "moments", "width", "label_noise"])
def valley_asymmetric(flatness: xr.Dataset) -> Decision:
    """Log of the asymmetry of the valley in which plain SGD ends, in its steepest direction; control: beside its bottom."""
    log = np.log(flatness["asymmetry"].sel(arm="sgd"))
    bottom, beside = (few_seeds(log.sel(place=place)) for place in PLACES)
    name = "the same valley read beside its bottom"
    return with_control(bottom, beside, 0.0, name, predicted=math.log(LOPSIDED), relation="above")


def _first(values: np.ndarray) -> np.ndarray:
    """The first finite number of each row [seed, time]: the sharpest moment, at its own U."""
    return values[np.arange(len(values)), np.isfinite(values).argmax(1)]


def at_loss(runs: xr.Dataset, name: str) -> np.ndarray:
    """A reading [seed], such as a curvature, at U = MATCHED_U.

    By a straight line of its logarithm over log U, through the moments of like U and the two between which U first passes it.
    runs: of one arm. NaN for a run that does not pass it.
    """
    found = []
    for energy, values in zip(*(runs[k].transpose("seed", "time").values for k in ("U", name)), strict=True):
        x = np.log(energy / MATCHED_U)
        first, near = int(np.argmax(x < 0)), abs(x) <= math.log(BAND)
        near[first - 1 : first + 1] = True
        found.append(math.exp(np.polyfit(x[near], np.log(values[near]), 1)[1]) if first else math.nan)
    return np.array(found)


def larger(*ratios: np.ndarray) -> Estimate:
    """Of ratios [seed] the estimate of the one whose mean is the largest: flatter means flatter in both."""
    return pick(max, map(few_seeds, ratios))
