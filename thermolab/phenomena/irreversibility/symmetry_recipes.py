"""The symmetries of the table, measured: what they do to L and F, to the path of SGD, and what weight decay makes of them.

Recipes on rows of `symmetries.TABLE`, or on your own. Noether: with l(e^{sA}θ) = l(θ) and A symmetric, θᵀA∇l = 0 everywhere, so
each step of SGD changes θᵀAθ by η² gᵀAg, with no expansion in η. Orbit: S(e^{sA}θ) = E ∇lᵀe^{-2sA}∇l is a sum of exponentials,
hence convex in s, with a minimum if A has eigenvalues of both signs and a slope to infinity if not.
Limit of validity: float64; one small problem of 64 samples per seed. Source: document 4, part 2, table 1 and backup slides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import xarray as xr
from torch.func import grad, vmap

from thermolab.engine.recipe import Jobs, Recipe, seeds
from thermolab.phenomena.common import validate
from thermolab.phenomena.irreversibility.symmetries import EXPONENTIAL, FACTOR, STATES, TABLE, Symmetry, normals


@Recipe
def table(rows: Sequence[Symmetry] = tuple(TABLE.values()), *, seed: int = 0, n_seeds: int = 5, device: str = "cpu"):
    """What each symmetry does to L and to S = E|∇l|², at random weights and data.

    rows: also your own, `table([Symmetry(...)])`.

    Returns a Dataset, dims (row, seed, s), s = log 2 and -log 2: L_error, largest change of the loss of a sample in units of
    the mean |l|; S_ratio, S(gθ)/S(θ), 1 where F_η is invariant, whatever η. (row, seed): random_L_error and random_S_ratio, the
    same for a random linear map of all weights. (row): exponential, e^{sA} with A symmetric; compact; has_state, whether the
    row names a symmetric state. Raises ValueError for rows or n_seeds that are not allowed. Source: document 4, table 1.
    """
    numbers = _checked(rows, seed, n_seeds)
    parts = yield from _each(_tabled, rows, "symmetries", numbers=numbers, device=str(device))
    return _dataset(parts, rows, {"seed": numbers, "s": [FACTOR, -FACTOR]})


def _tabled(*, row: Symmetry | str, numbers, device) -> dict:
    found = []
    for number in numbers:
        row, theta, x, y, generator = _drawn(row, number, device)
        size = len(theta)
        mixed = torch.linalg.matrix_exp(FACTOR * normals(generator, size, size).to(device) / math.sqrt(size)) @ theta
        (error, ratio), (error_2, ratio_2), random = (
            _compared(row, theta, moved, x, y) for moved in (row.moved(theta, FACTOR), row.moved(theta, -FACTOR), mixed)
        )
        found.append(([error, error_2], [ratio, ratio_2], *random))
    errors, ratios, random_errors, random_ratios = (np.array(v) for v in zip(*found, strict=True))
    return {
        "L_error": (("seed", "s"), errors), "S_ratio": (("seed", "s"), ratios),
        "random_L_error": ("seed", random_errors), "random_S_ratio": ("seed", random_ratios),
        "exponential": ((), row.is_exponential(theta)), "compact": ((), row.is_compact(theta)),
        "has_state": ((), row.asymmetry is not None),
    }  # fmt: skip


def _compared(row: Symmetry, theta, moved, x, y) -> tuple[float, float]:
    """Largest change of a sample's loss, relative, and ratio of S."""
    before, after = row.losses(theta, x, y), row.losses(moved, x, y)
    ratio = row.entropy(moved, x, y) / row.entropy(theta, x, y)
    return float((after - before).abs().max() / before.abs().mean()), float(ratio)


@Recipe
def noether(
    rows: Sequence[Symmetry] = EXPONENTIAL,
    *,
    eta: float = 0.02,
    batch_size: int = 4,
    steps: int = 200,
    seed: int = 0,
    n_seeds: int = 5,
    device: str = "cpu",
):
    """θᵀAθ along SGD, beside what the gradients alone predict: its start plus the sum of η² gᵀAg.

    rows: exponential ones. A is taken in units of its spectral norm; the control is a random symmetric matrix of norm 1.

    Returns a Dataset, dims (row, seed, step), step from 0 on: charge θᵀAθ, predicted; error, |increase - η² gᵀAg| of the
    step that ends here in units of η²|g|² (0 at step 0); the same with the prefix random_ for the control. Seeds are independent
    runs. Raises ValueError for settings or rows that are not allowed. Source: document 4, part 2.
    """
    numbers = _checked(rows, seed, n_seeds, exponential=True)
    validate.positive(eta=eta, batch_size=batch_size, steps=steps)
    settings = {"eta": eta, "batch_size": batch_size, "steps": steps, "numbers": numbers, "device": str(device)}
    parts = yield from _each(_stepped, rows, "SGD along symmetries", **settings)
    return _dataset(parts, rows, {"seed": numbers, "step": np.arange(steps + 1)})


def _stepped(*, row: Symmetry | str, eta, batch_size, steps, numbers, device) -> dict:
    found = {}
    for number in numbers:
        row, theta, x, y, generator = _drawn(row, number, device)
        slope = grad(row.energy)
        path, gradients = [theta], []
        for batch in torch.randint(len(x), (steps, batch_size), generator=generator).to(device):
            gradients.append(slope(path[-1], x[batch], y[batch]))
            path.append(path[-1] - eta * gradients[-1])
        random = normals(generator, len(theta), len(theta)).to(device)
        for prefix, a in (("", row.generator(theta)), ("random_", random + random.T)):
            values = _charges(torch.stack(path), torch.stack(gradients), a / torch.linalg.matrix_norm(a, 2), eta)
            for name, value in zip(("charge", "predicted", "error"), values, strict=True):
                found.setdefault(prefix + name, []).append(value.cpu().numpy())
    return {name: (("seed", "step"), np.stack(values)) for name, values in found.items()}


def _charges(path, g, a, eta) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """θᵀAθ [T + 1], its prediction and the error of each step; path [T + 1, P], g [T, P]."""
    charge = torch.einsum("tp,pq,tq->t", path, a, path)
    gain = eta**2 * torch.einsum("tp,pq,tq->t", g, a, g)
    # (θ' - θ)ᵀA(θ' + θ) for the step -ηg itself: a difference of charges would drown in the rounding of θ'
    increase = torch.einsum("tp,pq,tq->t", -eta * g, a, 2 * path[:-1] - eta * g)
    error = (increase - gain).abs() / (eta**2 * g.square().sum(1)).clamp(min=1e-300)
    zero = charge.new_zeros(1)
    return charge, charge[0] + torch.cat([zero, gain.cumsum(0)]), torch.cat([zero, error])


@Recipe
def orbit(
    rows: Sequence[Symmetry] = EXPONENTIAL,
    *,
    eta: float = 0.1,
    extent: float = 4.0,
    points: int = 161,
    seed: int = 0,
    n_seeds: int = 5,
    device: str = "cpu",
):
    """L and F along the orbit e^{sA}θ of random weights.

    rows: exponential ones; extent: s from -extent to extent; points: of s, 3 or more.

    Returns a Dataset, dims (row, seed, s): L; F = L + (η/4) S, S = E|∇l|² from the gradients at e^{sA}θ; F_predicted
    = L(θ) + (η/4) E ∇lᵀe^{-2sA}∇l, from those at θ alone. (row): both_signs, whether A has eigenvalues of both signs.
    Raises ValueError for settings or rows that are not allowed. Source: document 4, backup slides.
    """
    numbers = _checked(rows, seed, n_seeds, exponential=True)
    validate.positive(eta=eta, extent=extent, points=points - 2)
    s = np.linspace(-extent, extent, points)
    parts = yield from _each(_along, rows, "orbits", eta=eta, s=s, numbers=numbers, device=str(device))
    return _dataset(parts, rows, {"seed": numbers, "s": s})


def _along(*, row: Symmetry | str, eta, s, numbers, device) -> dict:
    found = {"L": [], "F": [], "F_predicted": []}
    for number in numbers:
        row, theta, x, y, _ = _drawn(row, number, device)
        here = torch.as_tensor(s, device=device)
        moved = vmap(row.moved, (None, 0))(theta, here)
        energy, entropy = (vmap(f, (0, None, None))(moved, x, y) for f in (row.energy, row.entropy))
        rates, modes = torch.linalg.eigh(row.generator(theta))
        weight = (row.gradients(theta, x, y) @ modes).square().mean(0)
        predicted = row.energy(theta, x, y) + eta / 4 * (torch.exp(-2 * here[:, None] * rates) @ weight)
        for name, values in zip(found, (energy, energy + eta / 4 * entropy, predicted), strict=True):
            found[name].append(values.cpu().numpy())
    signs = bool(rates.min() < -1e-9 and rates.max() > 1e-9)
    return {name: (("seed", "s"), np.stack(v)) for name, v in found.items()} | {"both_signs": ((), signs)}


@Recipe
def decayed(
    rows: Sequence[Symmetry] = STATES,
    lams: Sequence[float] = (0.0, 0.1, 0.3, 1.0, 2.0),
    *,
    eta: float = 0.03,
    steps: int = 2000,
    seed: int = 0,
    n_seeds: int = 5,
    device: str = "cpu",
):
    """Gradient descent with weight decay λ, θ <- θ - η(∇L + λθ), and how far from the symmetric state of the table it ends.

    rows: with an `asymmetry`; lams: λ, the first of them 0. The seeds and λ of a row are one batch.

    Returns a Dataset, dims (row, seed, lam): asymmetry, the row's own distance from its symmetric state at the end; L; learned,
    (L(0) - L)/(L(0) - L at λ = 0), the share of the loss that is still learned, L(0) that of all weights at zero. NaN where
    a run diverged. Raises ValueError for settings or rows that are not allowed. Source: document 4, table 1.
    """
    numbers = _checked(rows, seed, n_seeds)
    if stateless := [row.name for row in rows if row.asymmetry is None]:
        raise ValueError(f"rows {stateless} name no symmetric state; allowed: rows with an asymmetry")
    lams = [float(lam) for lam in np.atleast_1d(lams)]
    if not lams or lams[0] != 0 or not all(0 < lam < math.inf for lam in lams[1:]):
        raise ValueError(f"lams={lams} are not allowed; allowed: 0, then positive numbers")
    validate.positive(eta=eta, steps=steps)
    settings = {"lams": lams, "eta": eta, "steps": steps, "numbers": numbers, "device": str(device)}
    parts = yield from _each(_settled, rows, "weight decay", **settings)
    return _dataset(parts, rows, {"seed": numbers, "lam": lams})


def _settled(*, row: Symmetry | str, lams, eta, steps, numbers, device) -> dict:
    draws = [_drawn(row, number, device) for number in numbers for _ in lams]
    row, (theta, x, y) = draws[0][0], (torch.stack([draw[k] for draw in draws]) for k in (1, 2, 3))
    lam = torch.tensor(lams, dtype=theta.dtype, device=device).repeat(len(numbers))[:, None]
    slope = vmap(grad(row.energy))
    for _ in range(steps):
        theta = theta - eta * (slope(theta, x, y) + lam * theta)
    energies, nothing = (vmap(row.energy)(t, x, y).reshape(len(numbers), -1) for t in (theta, torch.zeros_like(theta)))
    learned = (nothing - energies) / (nothing - energies[:, :1])
    far = torch.stack([row.asymmetry(row.named(t)) if t.isfinite().all() else t.sum() for t in theta])
    values = {"asymmetry": far.reshape(energies.shape), "L": energies, "learned": learned}
    return {name: (("seed", "lam"), v.cpu().numpy()) for name, v in values.items()}


# --- what the recipes share ---------------------------------------------------------------------------------------------
def _drawn(row: Symmetry | str, number: int, device: str):
    """The row, weights, inputs and targets of a seed, and the generator that drew them."""
    row = TABLE[row] if isinstance(row, str) else row
    generator = torch.Generator().manual_seed(number)
    x, y = row.data(generator)
    return row, row.start(generator).to(device), x.to(device), y.to(device), generator


def _each(function: Callable, rows: Sequence[Symmetry], label: str, **settings):
    """Results of each row; those that a notebook wrote, which another process could not import, are measured in this one."""
    known = [row.name for row in rows if TABLE.get(row.name) is row]
    parts = (yield Jobs(function, [settings | {"row": name} for name in known], label)) if known else []
    found = dict(zip(known, parts, strict=True))
    return [found[row.name] if row.name in found else function(row=row, **settings) for row in rows]


def _dataset(parts: list[dict], rows: Sequence[Symmetry], coords: dict) -> xr.Dataset:
    return xr.concat([xr.Dataset(part, coords) for part in parts], "row").assign_coords(row=[row.name for row in rows])


def _checked(rows: Sequence[Symmetry], seed: int, n_seeds: int, exponential: bool = False) -> list[int]:
    """The seeds of a recipe. Raises ValueError, one line, for rows or n_seeds that are not allowed."""
    names = [getattr(row, "name", row) for row in rows]
    if not names or len(set(names)) < len(names) or not all(isinstance(row, Symmetry) for row in rows):
        raise ValueError(f"rows={names} are not allowed; allowed: one Symmetry or more, each with a name of its own")
    validate.positive(n_seeds=n_seeds)
    for row in rows:
        row.check()
    if others := [r.name for r in rows if exponential and not r.is_exponential(r.start(torch.Generator().manual_seed(seed)))]:
        raise ValueError(f"rows {others} are not e^(sA) with a symmetric A; allowed: rows that are")
    return seeds(seed, n_seeds)
