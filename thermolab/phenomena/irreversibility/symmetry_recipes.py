"""The symmetries of the table, measured: what they do to L and F, to the path of SGD, and what weight decay makes of them.

Recipes on rows of `symmetries.TABLE`, or, with `.run(...)`, on your own. Noether: with l(e^{sA}θ) = l(θ) and A symmetric,
θᵀA∇l = 0 everywhere, so each step of SGD changes θᵀAθ by η² gᵀAg, with no expansion in η. Orbit:
S(e^{sA}θ) = E ∇lᵀe^{-2sA}∇l is a sum of exponentials, hence convex in s, with a minimum if A has eigenvalues of both signs and a
slope to infinity if not.
Limit of validity: float64; one small problem of 64 samples per seed. Source: document 4, part 2, table 1 and backup slides.

The tolerances stand here once and do not move with the data. What is exact is so up to rounding, compared as decimal logarithms
because rounding varies by orders of magnitude: ROUNDING, 1e-12, for values of L and S; for θᵀAθ, whose error in units of η²|g|²
is 1e-16 |θ|/(η|g|), STEP_ROUNDING, 1e-9. A symmetry of F is BROKEN if S changes by 5 % under a group element of factor 2 or 1/2;
what theory predicts for one that is broken is of order 1. Weight decay has pulled the weights into a symmetric state if no more
than LEFT, 5 %, of the distance that they have from it without decay is left, by any λ at which LEARNED, half of what can be
learned, still is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Annotated

import numpy as np
import torch
import xarray as xr
from torch.func import grad, vmap

from thermolab.claims import Decision, Estimate, decides, few_seeds, pick, with_control
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, Positive, Rule, integer, not_negative, refuse, several
from thermolab.phenomena.irreversibility.symmetries import EXPONENTIAL, FACTOR, ROWS, STATES, Symmetry, normals

ROUNDING, STEP_ROUNDING, BROKEN, LEFT, LEARNED = 1e-12, 1e-9, 0.05, 0.05, 0.5
KEPT = ["rotation", "permutation", "sign flip", "double rotation, orthogonal"]
LOST = ["scaling", "rescaling", "double rotation, positive", "attention, GL"]
CONTINUOUS = ["rescaling", "rotation", "double rotation, orthogonal"]  # with a symmetric state
FLAT = 1e-9  # what counts as a change along an orbit, in units of the value there


def _rows(kind: str = "", fits: Callable[[Symmetry], bool] = lambda row: True) -> Rule:
    """The rule of a table's rows, which have different names and each do what a row should. kind, fits: what else is asked."""

    def convert(rows):
        names = [row.name for row in rows if isinstance(row, Symmetry)]
        if not names or len(set(names)) < len(rows):
            raise ValueError("is no table")
        for row in rows:
            row.validate()
        return tuple(rows) if all(map(fits, rows)) else refuse("has a row of another kind")

    allowed = " ".join(["one Symmetry or more", *[kind] * bool(kind)])
    return Rule(f"{allowed}, each with a name of its own, the loss of one sample and an action on its weights", convert)


def _exponential(row: Symmetry) -> bool:
    return row.is_exponential(row.start(torch.Generator().manual_seed(0)))


Rows = Annotated[Sequence[Symmetry], _rows()]
ExponentialRows = Annotated[Sequence[Symmetry], _rows("of the form e^(sA) with a symmetric A", _exponential)]


@recipe("symmetries", over={"rows": "row"}, shared=["exponential", "compact", "has_state"], dims=("row", "seed", "s"))
def table(rows: Rows = ROWS, *, seed: int = 0, device: str = "cpu") -> xr.Dataset:
    """What each symmetry does to L and to S = E|∇l|², at random weights and data.

    rows: also your own, `table.run([Symmetry(...)])`.

    Returns a Dataset, dims (row, seed, s), s = log 2 and -log 2: L_error, largest change of the loss of a sample in units of
    the mean |l|; S_ratio, S(gθ)/S(θ), 1 where F_η is invariant, whatever η; norm_ratio, |gθ|/|θ|. (row, seed): random_L_error
    and random_S_ratio, the same for a random linear map of all weights. (row): exponential, e^{sA} with A symmetric; compact;
    has_state, whether the row names a symmetric state. Raises ValueError for rows that are not allowed.
    Source: document 4, table 1.
    """
    (row,) = rows
    theta, x, y, generator = _drawn(row, seed, device)
    size = len(theta)
    mixed = torch.linalg.matrix_exp(FACTOR * normals(generator, size, size).to(device) / math.sqrt(size)) @ theta
    there, back, random = (
        _compared(row, theta, moved, x, y) for moved in (row.moved(theta, FACTOR), row.moved(theta, -FACTOR), mixed)
    )
    found = {name: ("s", [*pair]) for name, pair in zip(("L_error", "S_ratio"), zip(there, back, strict=True), strict=True)}
    found["norm_ratio"] = "s", [float(row.moved(theta, s).norm() / theta.norm()) for s in (FACTOR, -FACTOR)]
    found |= {"random_L_error": random[0], "random_S_ratio": random[1]}
    found |= {"exponential": row.is_exponential(theta), "compact": row.is_compact(theta), "has_state": row.asymmetry is not None}
    return xr.Dataset(found, {"s": [FACTOR, -FACTOR]}).expand_dims(row=[row.name])


def _compared(row: Symmetry, theta, moved, x, y) -> tuple[float, float]:
    """Largest change of a sample's loss, relative, and ratio of S."""
    before, after = row.losses(theta, x, y), row.losses(moved, x, y)
    ratio = row.entropy(moved, x, y) / row.entropy(theta, x, y)
    return float((after - before).abs().max() / before.abs().mean()), float(ratio)


@decides("irreversibility.symmetry-table", reads=[])
def symmetry_table(table: xr.Dataset) -> Decision:
    """log10 of the worst entry of the table over its tolerance: error of L, change of S if F is to be kept, lack of it if not."""

    def worst(prefix: str):
        error, change = (table[prefix + k] for k in ("L_error", "S_ratio"))
        if "s" in error.dims:
            error, change = error.max("s"), changed(change)
        else:
            change = abs(np.log(change))
        entries = (error / ROUNDING, change.sel(row=KEPT) / ROUNDING, BROKEN / change.sel(row=LOST))
        return few_seeds(_digits(np.maximum.reduce([entry.max("row").values for entry in entries])))

    name = "a random linear map of the weights"
    return with_control(worst(""), worst("random_"), 0.0, name, relation="below")


def changed(ratio: xr.DataArray) -> xr.DataArray:
    """Larger of the two |log S(gθ)/S(θ)| at s and -s: S is convex along an orbit, so one of them sees that it changes."""
    return abs(np.log(ratio)).max("s")


@decides("irreversibility.norm-preserving", reads=[])
def norm_preserving(table: xr.Dataset) -> Decision:
    """log10 of the largest |log |gθ|/|θ|| among the symmetries of L that S does not see, which are those of F."""

    def most(rows: np.ndarray) -> Estimate:
        return few_seeds(_digits(abs(np.log(table["norm_ratio"])).isel(row=np.flatnonzero(rows)).max(("row", "s"))))

    kept = (changed(table["S_ratio"]).max("seed") < BROKEN).values
    measured, control = most(kept), most(kept & table["compact"].values)
    name = "of these, the compact ones alone"
    return with_control(measured, control, 0.0, name, predicted=np.log10(ROUNDING), relation="below")


@decides("irreversibility.no-noncompact", reads=[])
def no_noncompact(table: xr.Dataset) -> Decision:
    """Least |log S(gθ)/S(θ)| among the symmetries of L that are not compact; F has them where that is 0."""

    def least(rows):
        return few_seeds(changed(table["S_ratio"].isel(row=np.flatnonzero(rows.values))).min("row"))

    open_groups = ~table["compact"]
    name = "of these, the exponential ones alone"
    measured, control = least(open_groups), least(open_groups & table["exponential"])
    return with_control(measured, control, 0.0, name, predicted=BROKEN, relation="above")


@recipe("SGD along symmetries", over={"rows": "row"}, dims=("row", "seed", "step"))
def noether(
    rows: ExponentialRows = EXPONENTIAL,
    *,
    eta: Positive = 0.02,
    batch_size: Count = 4,
    steps: Count = 200,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """θᵀAθ along SGD, beside what the gradients alone predict: its start plus the sum of η² gᵀAg.

    rows: exponential ones. A is taken in units of its spectral norm; the control is a random symmetric matrix of norm 1.

    Returns a Dataset, dims (row, seed, step), step from 0 on: charge θᵀAθ, predicted; error, |increase - η² gᵀAg| of the
    step that ends here in units of η²|g|² (0 at step 0); the same with the prefix random_ for the control. Seeds are independent
    runs. Raises ValueError for settings or rows that are not allowed. Source: document 4, part 2.
    """
    (row,), found = rows, {}
    theta, x, y, generator = _drawn(row, seed, device)
    slope, path, gradients = grad(row.energy), [theta], []
    for batch in torch.randint(len(x), (steps, batch_size), generator=generator).to(device):
        gradients.append(slope(path[-1], x[batch], y[batch]))
        path.append(path[-1] - eta * gradients[-1])
    random = normals(generator, len(theta), len(theta)).to(device)
    for prefix, a in (("", row.generator(theta)), ("random_", random + random.T)):
        values = _charges(torch.stack(path), torch.stack(gradients), a / torch.linalg.matrix_norm(a, 2), eta)
        for name, value in zip(("charge", "predicted", "error"), values, strict=True):
            found[prefix + name] = "step", value.cpu().numpy()
    return xr.Dataset(found, {"step": np.arange(steps + 1)}).expand_dims(row=[row.name])


def _charges(path, g, a, eta) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """θᵀAθ [T + 1], its prediction and the error of each step; path [T + 1, P], g [T, P]."""
    charge = torch.einsum("tp,pq,tq->t", path, a, path)
    gain = eta**2 * torch.einsum("tp,pq,tq->t", g, a, g)
    # (θ' - θ)ᵀA(θ' + θ) for the step -ηg itself: a difference of charges would drown in the rounding of θ'
    increase = torch.einsum("tp,pq,tq->t", -eta * g, a, 2 * path[:-1] - eta * g)
    error = (increase - gain).abs() / (eta**2 * g.square().sum(1)).clamp(min=1e-300)
    zero = charge.new_zeros(1)
    return charge, charge[0] + torch.cat([zero, gain.cumsum(0)]), torch.cat([zero, error])


@decides("irreversibility.noether", reads=["eta", "batch_size", "steps"])
def noether_identity(noether: xr.Dataset) -> Decision:
    """log10 of the largest error of η² gᵀAg for the increase of θᵀAθ in a step, in units of η²|g|², over all rows and steps."""
    right, wrong = (few_seeds(_digits(noether[name].max(("row", "step")))) for name in ("error", "random_error"))
    name = "a random symmetric matrix, which generates no symmetry"
    return with_control(right, wrong, 0.0, name, predicted=np.log10(STEP_ROUNDING), relation="below")


@recipe("orbits", over={"rows": "row"}, shared=["both_signs"], dims=("row", "seed", "s"))
def orbit(
    rows: ExponentialRows = EXPONENTIAL,
    *,
    eta: Positive = 0.1,
    extent: Positive = 4.0,
    points: Annotated[int, integer(3)] = 161,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """L and F along the orbit e^{sA}θ of random weights.

    rows: exponential ones; extent: s from -extent to extent; points: of s, 3 or more.

    Returns a Dataset, dims (row, seed, s): L; F = L + (η/4) S, S = E|∇l|² from the gradients at e^{sA}θ; F_predicted
    = L(θ) + (η/4) E ∇lᵀe^{-2sA}∇l, from those at θ alone. (row): both_signs, whether A has eigenvalues of both signs.
    Raises ValueError for settings or rows that are not allowed. Source: document 4, backup slides.
    """
    (row,) = rows
    theta, x, y, _ = _drawn(row, seed, device)
    s = np.linspace(-extent, extent, points)
    here = torch.as_tensor(s, device=device)
    moved = vmap(row.moved, (None, 0))(theta, here)
    energy, entropy = (vmap(f, (0, None, None))(moved, x, y) for f in (row.energy, row.entropy))
    rates, modes = torch.linalg.eigh(row.generator(theta))
    weight = (row.gradients(theta, x, y) @ modes).square().mean(0)
    predicted = row.energy(theta, x, y) + eta / 4 * (torch.exp(-2 * here[:, None] * rates) @ weight)
    lines = {"L": energy, "F": energy + eta / 4 * entropy, "F_predicted": predicted}
    found = {name: ("s", values.cpu().numpy()) for name, values in lines.items()}
    found["both_signs"] = bool(rates.min() < -1e-9 and rates.max() > 1e-9)
    return xr.Dataset(found, {"s": s}).expand_dims(row=[row.name])


@decides("irreversibility.unique-orbit-minimum", reads=["eta", "extent"])
def unique_orbit_minimum(orbit: xr.Dataset) -> Decision:
    """Largest |number of minima of F - 1| along an orbit, among the rows whose A has eigenvalues of both signs."""
    off, both = abs(minima(orbit["F"]) - 1), orbit["both_signs"].values
    measured, control = (few_seeds(off.isel(row=np.flatnonzero(part)).max("row")) for part in (both, ~both))
    return with_control(measured, control, 0.0, "scaling, A = 1, along whose orbit F only falls")


@decides("irreversibility.unique-orbit-minimum.every", reads=["eta", "extent"])
def every_orbit_has_one_minimum(orbit: xr.Dataset) -> Decision:
    """Largest |number of minima of F - 1| along an orbit, among all exponential rows; the control leaves scaling out."""
    off = abs(minima(orbit["F"]) - 1)
    measured, control = (few_seeds(part.max("row")) for part in (off, off.isel(row=np.flatnonzero(orbit["both_signs"].values))))
    return with_control(measured, control, 0.0, "the symmetries whose A has eigenvalues of both signs alone")


def minima(values: xr.DataArray) -> xr.DataArray:
    """How many minima there are along s, the ends left out: a fall with a rise right after it."""

    def count(line: np.ndarray) -> int:
        step = np.diff(line)
        sign = np.sign(step[abs(step) > FLAT * abs(line[1:])])
        return int(((sign[:-1] < 0) & (sign[1:] > 0)).sum())

    return xr.apply_ufunc(count, values, input_core_dims=[["s"]], vectorize=True)


@recipe("weight decay", over={"rows": "row"}, dims=("row", "seed", "lam"))
def decayed(
    rows: Annotated[Sequence[Symmetry], _rows("with an asymmetry", lambda row: row.asymmetry is not None)] = STATES,
    lams: Annotated[Sequence[float], several(not_negative())] = (0.0, 0.1, 0.3, 1.0, 2.0),
    *,
    eta: Positive = 0.03,
    steps: Count = 1000,
    seeds: Sequence[int],
    device: str = "cpu",
) -> xr.Dataset:
    """Gradient descent with weight decay λ, θ <- θ - η(∇L + λθ), and how far from the symmetric state of the table it ends.

    rows: with an `asymmetry`; lams: λ, the first of them 0. The seeds and λ of a row are one batch.

    Returns a Dataset, dims (row, seed, lam): asymmetry, the row's own distance from its symmetric state at the end; L; learned,
    (L(0) - L)/(L(0) - L at λ = 0), the share of the loss that is still learned, L(0) that of all weights at zero. NaN where
    a run diverged. Raises ValueError for settings or rows that are not allowed. Source: document 4, table 1.
    """
    if lams[0] or not all(lams[1:]):
        raise ValueError(f"lams={[*lams]} is no such list; allowed: 0, then positive numbers")
    (row,) = rows
    theta, x, y = map(torch.stack, zip(*(_drawn(row, seed, device)[:3] for seed in seeds for _ in lams), strict=True))
    lam = torch.tensor(lams, dtype=theta.dtype, device=device).repeat(len(seeds))[:, None]
    slope = vmap(grad(row.energy))
    for _ in range(steps):
        theta = theta - eta * (slope(theta, x, y) + lam * theta)
    energies, nothing = (vmap(row.energy)(t, x, y).reshape(len(seeds), -1) for t in (theta, torch.zeros_like(theta)))
    learned = (nothing - energies) / (nothing - energies[:, :1])
    far = torch.stack([row.asymmetry(row.named(t)) if t.isfinite().all() else t.sum() for t in theta])
    values = {"asymmetry": far.reshape(energies.shape), "L": energies, "learned": learned}
    found = {name: (("seed", "lam"), v.cpu().numpy()) for name, v in values.items()}
    return xr.Dataset(found, {"seed": seeds, "lam": [*lams]}).expand_dims(row=[row.name])


@decides("irreversibility.symmetric-state", reads=["lams", "eta", "steps"])
def symmetric_state(decayed: xr.Dataset) -> Decision:
    """Share of the distance from the symmetric state at λ = 0 that is left, by the best λ with which a row learns; worst row."""
    shares = {row: left(decayed.sel(row=row)) for row in decayed["row"].values}
    continuous = pick(max, (shares[row] for row in CONTINUOUS))
    return with_control(pick(max, shares.values()), continuous, LEFT, "the continuous symmetries alone", relation="below")


def left(row: xr.Dataset) -> Estimate:
    """Of one row of `decayed`: least share over λ > 0 of the distance that is left, and its standard error."""
    share = row["asymmetry"] / row["asymmetry"].sel(lam=0).mean("seed")
    kept = row["lam"].values[(row["learned"].mean("seed") >= LEARNED).values & (row["lam"].values > 0)]
    return pick(min, (few_seeds(share.sel(lam=lam)) for lam in kept))


def _drawn(row: Symmetry, seed: int, device: str):
    """Weights, inputs and targets of a seed, and the generator that drew them."""
    generator = torch.Generator().manual_seed(seed)
    x, y = row.data(generator)
    return row.start(generator).to(device), x.to(device), y.to(device), generator


def _digits(values) -> np.ndarray:
    """log10, of 0 that of the least rounding error."""
    return np.log10(np.maximum(values, 1e-17))
