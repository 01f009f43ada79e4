"""SGD gathers at one place of a valley of equal loss, which no Gibbs distribution does.

f = u (v·x) with u, v in R² learns targets A x + σξ, A = e₁e₁ᵀ. Rescaling u → e^s u, v → e^{−s} v leaves every loss as it is, and
the volume of the four weights too: whatever density is a function of the loss gives intervals of equal length on
s = ½ log(|u|/|v|) the same probability. SGD holds s with a standard deviation of ησ/2, to first order in η for Gaussian ξ and
the inputs of `valley_data`. On the sphere isotropic noise leads to von Mises-Fisher, which is a function of the loss.
Source: document 4, part 2. Limit: f is linear in x, and the rows of the data are drawn with replacement, one at a time.

UNEQUAL, the tolerance, stands here once and does not move with the data. A Gibbs distribution with T of order η knows no more
of the points of one orbit than that its own corrections are of order η, at most 6 % here: unequal are occupations that differ
by a tenth at least.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from scipy import stats
from torch import nn

from thermolab.claims import Decision, decides, few_seeds, with_control
from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, Positive, Positives
from thermolab.systems.data import Dataset
from thermolab.systems.isotropic import IsotropicNoise
from thermolab.systems.network import NetworkOnData

UNEQUAL = math.log(1.1)
LEVELS = 32  # values of each component of ξ
PLACES, ANGLES = np.linspace(-3.5, 3.5, 15), np.linspace(-np.pi, np.pi, 13)


def valley_data() -> Dataset:
    """Inputs x ∈ {±1}² each with all pairs of quantiles of ξ, of mean 0 and variance 1: inputs [4096, 2], noise [4096, 2]."""
    xi = stats.norm.ppf((np.arange(LEVELS) + 0.5) / LEVELS)
    rows = [[*x, *e] for x in itertools.product((-1.0, 1.0), repeat=2) for e in itertools.product(xi / xi.std(), repeat=2)]
    x, noise = torch.tensor(rows, dtype=torch.float32).split(2, 1)
    return Dataset(x, noise, 1)


def valley(sigma: float) -> NetworkOnData:
    """The network u (v·x) on inputs x with targets x₁e₁ + σξ; weights (v, u) [R, 4]."""
    data = valley_data()
    target = torch.stack([data.x[:, 0], torch.zeros(len(data))], 1) + sigma * data.y
    module = nn.Sequential(nn.Linear(2, 1, bias=False), nn.Linear(1, 2, bias=False))
    return NetworkOnData(module, Dataset(data.x, target, 1), "lr", loss="squared")


@recipe("valleys of equal loss", over={"rates": "eta"}, dims=("eta", "seed", "s", "phi"))
def occupation(
    rates: Positives = (0.03, 0.06),
    *,
    sigma: Positive = 1.0,
    temperature: Positive = 0.2,
    replicas: Count = 48,
    relaxations: Count = 40,
    spectrum: Sequence[float] = (1.0, 1.0),
    seeds: Sequence[int],
    device: str = "cpu",
) -> xr.Dataset:
    """How often SGD is at points of a valley of equal loss, and isotropic noise at those of circles of equal loss on the sphere.

    rates: η, of SGD in the valley at B = 1 and of the sphere; sigma: σ of the valley; temperature: T of the sphere; replicas: per
    rate and seed; relaxations: times 1/(8η²σ²) in the valley, and ten times as many 1/η on the sphere, that are sampled,
    after ten of burn-in; spectrum: variances of the noise on the sphere across μ, (1, 1) for isotropic noise.

    Returns a Dataset; s counts in units ησ/2 from its median over a seed's samples. Dims (eta, seed), both of moments at which
    the loss is in the middle half of its values: log_ratio, the logarithm of the occupation of |s| < ½ over that of
    3/2 < |s| < 5/2, halved as these are twice as long; sphere_log_ratio, of the quarters of the circle about the first axis
    across μ over those about the second. Dims (eta, seed, s): density of s; energy, mean excess loss at s over its mean over
    all (NaN where nothing is). Dims (eta, seed, phi): sphere_density of the angle φ about μ, times 2π.
    All seeds of a rate are one batch of replicas, but none changes another.
    Raises ValueError for settings that are out of range. Source: document 4, part 2.
    """
    sphere = IsotropicNoise(3, "sphere", spectrum=spectrum)  # complains of a bad one
    forms = {"log_ratio": (), "sphere_log_ratio": (), "density": ("s",), "energy": ("s",), "sphere_density": ("phi",)}
    (eta,), seed, n, found = rates, seeds[0] // 1000, replicas * len(seeds), {name: [] for name in forms}
    start = torch.tensor([[1.0, 0.0, 1.0, 0.0]]).repeat(n, 1)
    run = Experiment(valley(sigma), eta=eta, batch_size=1, seed=seed, weights=start, device=device)
    for path in _samples(run, 1 / (8 * (eta * sigma) ** 2), relaxations, len(seeds)):
        s, excess = place(path, eta * sigma / 2)
        found["log_ratio"].append(gathering(s, excess))
        found["density"].append(np.histogram(s, PLACES)[0] / len(s) / np.diff(PLACES))
        found["energy"].append(stats.binned_statistic(s, excess / excess.mean(), "mean", PLACES).statistic)
    run = Experiment(sphere, eta=eta, sigma=np.sqrt(2 * temperature / eta), seed=seed, replicas=n, device=device)
    for w in _samples(run, 1 / eta, 10 * relaxations, len(seeds)):
        equal = w[_middle_half(w[:, 0])]
        first = abs(equal[:, 1]) > abs(equal[:, 2])
        found["sphere_log_ratio"].append(_log_ratio(first, ~first))
        angle = np.arctan2(w[:, 2], w[:, 1])
        found["sphere_density"].append(np.histogram(angle, ANGLES)[0] / len(angle) * (len(ANGLES) - 1))
    coords = {"seed": seeds, "s": (PLACES[1:] + PLACES[:-1]) / 2, "phi": (ANGLES[1:] + ANGLES[:-1]) / 2}
    return xr.Dataset({k: (("seed", *form), np.array(found[k])) for k, form in forms.items()}, coords).expand_dims(eta=[eta])


def place(weights: np.ndarray, unit: float) -> tuple[np.ndarray, np.ndarray]:
    """Where weights (v, u) [n, 4] are in the valley, s [n] in a unit and from its median, and their excess loss [n].

    >>> place(np.array([[1.0, 0, 1, 0], [np.exp(-0.1), 0, np.exp(0.1), 0], [np.exp(0.1), 0, np.exp(-0.1), 0]]), 0.05)[0].round(9)
    array([ 0.,  2., -2.])
    """
    v, u = weights[:, :2], weights[:, 2:]
    s = np.log((u**2).sum(1) / (v**2).sum(1)) / 4 / unit
    return s - np.median(s), ((u[:, :, None] * v[:, None] - [[1, 0], [0, 0]]) ** 2).sum((1, 2))


def gathering(s: np.ndarray, excess: np.ndarray) -> float:
    """Log ratio of the occupation of |s| < ½ to that of 3/2 < |s| < 5/2, at equal length, of the points of middle loss alone."""
    equal = abs(s[_middle_half(excess)])
    return _log_ratio(equal < 0.5, (equal > 1.5) & (equal < 2.5)) + np.log(2)


def _log_ratio(there: np.ndarray, elsewhere: np.ndarray) -> float:
    """Logarithm of the ratio of two counts; the half keeps it finite where nothing was counted."""
    return float(np.log((there.sum() + 0.5) / (elsewhere.sum() + 0.5)))


def _samples(run: Experiment, relaxation: float, n: int, n_seeds: int) -> np.ndarray:
    """Weights [seed, sample, P] after ten relaxation times, one relaxation time apart."""
    every, path = max(1, round(relaxation)), []
    run.advance(10 * every)
    for _ in range(n):
        run.advance(every)
        path.append(run.state.weights.double().cpu().numpy().reshape(n_seeds, -1, run.state.weights.shape[1]))
    run.raise_if_diverged()
    return np.concatenate(path, 1)


def _middle_half(values: np.ndarray) -> np.ndarray:
    low, high = np.quantile(values, [0.25, 0.75])
    return (values >= low) & (values <= high)


@decides("irreversibility.no-gibbs", reads=["rates", "sigma", "temperature", "spectrum"])
def no_gibbs(occupation: xr.Dataset) -> Decision:
    """Size of the log ratio of the occupation of two parts of one orbit, equally long and at equal loss, mean over the rates.

    More often here or there: either is not Gibbs.
    """
    means = (few_seeds(occupation[name].mean("eta")) for name in ("log_ratio", "sphere_log_ratio"))
    valley, sphere = (mean._replace(value=abs(mean.value)) for mean in means)
    name = "isotropic noise on the sphere, whose stationary distribution is von Mises-Fisher"
    return with_control(valley, sphere, 0.0, name, predicted=UNEQUAL, relation="above")
