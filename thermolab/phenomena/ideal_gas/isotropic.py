"""The isotropic noise model: its stationary state over a grid, with any noise spectrum, its hot end, and the claims on both.

Tolerances are the accuracy that the theory states, and do not move with the data: 1.5 % for radii and 3 % for pressures (order
η of the finite-step forms), 4 % for energies (order η), 0.05 nats a coordinate for entropies (5 % in T), 0.02 a coordinate for
slopes, 5 % for the share of cells that are their own minimum. Source: arXiv:2511.07308, isotropic noise model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
import torch
import xarray as xr

from thermolab.claims import Decision, decides, extreme, few_seeds, with_control
from thermolab.engine.experiment import DivergenceError, Experiment
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, NotNegative, Positive, Positives, Rule, integer, positive, refuse, several
from thermolab.instruments import entropy
from thermolab.phenomena.ideal_gas import compare, theory
from thermolab.phenomena.ideal_gas.compare import seeds_first, worst
from thermolab.systems.isotropic import IsotropicNoise

START_SPREAD = 0.25  # half of the replicas start this much (in log r) inside r*, half outside
DIRECTION_TIMES = 6.0  # correlation times 1/η_eff before the window: directions start anywhere on the sphere, at U near 1
SPACING = 2.0  # correlation times 1/η_eff between snapshots
MAX_STEPS = 3_000_000
CELL = ("U", "r", "p", "g2", "r_gap", "diverged", "S", "S_error")  # what is measured in a cell
RADIUS, PRESSURE, ENERGY, SHARE = 0.015, 0.03, 0.04, 0.05
ENTROPY_PER_COORDINATE, SLOPE_PER_COORDINATE = 0.05, 0.02

Grids = Mapping[str, xr.Dataset]  # by protocol


# --- what is measured ---------------------------------------------------------------------------------------------------
def _axis(x) -> tuple[float, float, int]:
    low, high, n = several(positive(), 3, 3).convert(x)
    return (low, high, int(n)) if n.is_integer() else refuse("has no whole n")


AXIS = Rule("[low, high, n], two positive numbers and a whole n, 1 or more", _axis)
Axis = Annotated[Sequence[float], AXIS]


def grid(eta_range, lam_range) -> tuple[np.ndarray, np.ndarray]:
    """Two logarithmic axes from [low, high, n]."""
    return tuple(np.geomspace(low, high, n) for low, high, n in (eta_range, lam_range))


PREDICTED = {"T": "T", "T_step": "T_step", "eta_eff": "eta_eff", "r_pred": "r", "p_pred": "p", "U_pred": "U", "S_pred": "S"}


@recipe(
    "isotropic {protocol} D={dim}",
    shared=[*PREDICTED, "U_vmf", "S_vmf", "spectrum", "steps", "relaxed"],
    dims=("eta", "lam", "seed"),
    n_seeds=3,
)
def stationary(
    protocol: Literal["elr", "lr", "sphere"] = "elr",
    *,
    eta: Axis = (10**-2.5, 0.1, 7),
    lam: Axis = (1e-3, 0.1, 7),
    dim: Annotated[int, integer(3)] = 3,
    sigma: Positive = 1.0,
    spectrum: Annotated[Sequence[float] | None, several(positive())] = None,
    replicas: Count = 64,
    snapshots: Count = 64,
    relaxations: NotNegative = 6.0,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """The stationary state of the isotropic model over a grid of learning rates and weight decays.

    protocol: "elr", "lr" or "sphere" (radius fixed at r*(η, λ), so that the pressure should come out as λ).
    eta, lam: [low, high, n] logarithmic grids; dim D; sigma: noise per component; spectrum: D - 1 variances of mean 1
    (default isotropic); replicas, snapshots: per cell and seed, their product is the sample of the entropy;
    relaxations: relaxation times of the radius before the window (6 leave e^-6 of the start).

    Half of the replicas start inside and half outside the predicted radius, uniform on the sphere; after the relaxation
    times of the radius or six of the direction (1/η_eff), per cell whichever takes longer, follows a window of
    `snapshots` twice 1/η_eff apart.

    Returns a Dataset, dims (eta, lam, seed) unless said otherwise:
    U, p: means over every step of the window and the replicas (p on the "sphere" only, else λ); r: root of the mean of |w|²
    (the volume is r²/2); g2: E|g|² at |w| = 1;
    S: entropy of the direction (Kozachenko-Leonenko, corrected for its known bias), S_error its standard error;
    S_full: S + (D - 1) log r;
    r_gap: relative gap between the two starts at the end; diverged: share of replicas lost; steps (eta, lam);
    relaxed (eta, lam): whether the burn-in, cut at 3 million steps, lasts 3 relaxation times of the radius;
    spectrum (coordinate), where one was given;
    predictions (eta, lam): T, T_step, eta_eff, r_pred, p_pred, U_pred, S_pred (`theory.isotropic_state`), U_vmf, S_vmf (at T).
    Raises ValueError for a bad protocol, dimension or spectrum. A cell of a grid whose replicas have all diverged is NaN;
    a grid of one cell raises DivergenceError, after a fiftieth of the burn-in at the earliest.
    """
    system = IsotropicNoise(dim, protocol, spectrum)
    eta, lam = grid(eta, lam)
    state = theory.isotropic_state(protocol, eta[:, None], lam, dim, sigma)
    tau = theory.relaxation_time(protocol, eta[:, None], lam, dim, sigma)
    direction = 1 / state["eta_eff"] + 0 * lam
    burn_in = np.minimum(np.ceil(np.maximum(DIRECTION_TIMES * direction, relaxations * tau)), MAX_STEPS)
    spacing = np.ceil(SPACING * direction)
    steps = burn_in + snapshots * spacing
    side = np.where(np.arange(replicas) % 2, 1.0, -1.0)  # outside and inside r*, by turns
    found = {name: np.full(steps.shape, np.nan) for name in CELL}
    size = np.log2(steps).round()
    for group in np.unique(size)[::-1]:  # cells that need about as many steps run as one batch; the slowest ones are few
        i, j = np.nonzero(size == group)
        run = _started(system, eta[i], lam[j], sigma, state["r"][i, j], i * len(lam) + j, side, seed, device)
        try:
            part = _window(run, side, snapshots, int(burn_in[i, j].max()), int(spacing[i, j].max()))
        except DivergenceError:
            if size.size == 1:
                raise
            part = {"diverged": 1.0}
        for name, values in part.items():
            found[name][i, j] = values
    out = xr.Dataset(
        {k: (("eta", "lam"), v) for k, v in found.items()} | {k: (("eta", "lam"), state[v]) for k, v in PREDICTED.items()},
        coords={"eta": eta, "lam": lam},
        attrs={"protocol": protocol, "dim": dim, "sigma": sigma, "replicas": replicas, "snapshots": snapshots},
    )
    out["S_full"] = theory.full_entropy(out["S"], out["r"], dim)
    out["U_vmf"] = _vmf(theory.energy_vmf, out["T"], dim)
    out["S_vmf"] = _vmf(theory.entropy_vmf, out["T"], dim)
    if spectrum is not None:
        out["spectrum"] = ("coordinate", np.asarray(spectrum, float))
    return out.assign(steps=(("eta", "lam"), steps), relaxed=(("eta", "lam"), burn_in >= 3 * tau))


def _started(system, eta, lam, sigma, radius, cells, side, seed, device) -> Experiment:
    """Replicas of some cells in random directions, at the sides of the predicted radius where each is to start."""
    replicas = len(side)
    streams = (cells[:, None] * replicas + np.arange(replicas)).ravel()
    spread = 0.0 if system.protocol == "sphere" else START_SPREAD
    radius = (np.nan_to_num(radius, nan=1.0)[:, None] * np.exp(spread * side)).ravel()
    direction = system.start(torch.as_tensor(streams), seed)
    return Experiment(
        system, eta=np.repeat(eta, replicas), lam=np.repeat(lam, replicas), sigma=sigma, seed=seed, streams=streams,
        weights=direction * torch.as_tensor(radius, dtype=direction.dtype)[:, None], device=device,
    )  # fmt: skip


def _window(run: Experiment, side: np.ndarray, snapshots: int, burn_in: int, spacing: int) -> dict[str, np.ndarray]:
    """What is measured in the n cells of a batch of n x replicas: {name of CELL: [n]}."""
    shape, dim = (-1, len(side)), run.system.n_parameters
    for _ in run.frames(max(1, burn_in // 50), until=burn_in):  # a frame is where divergence shows
        pass
    run.frame()  # the means of the window begin here
    samples, sums = [], {}
    for frame in run.frames(spacing, until=burn_in + snapshots * spacing):
        samples.append(run.state.weights.cpu().numpy().reshape(*shape, dim))
        for name, value in frame.observables.items():
            sums[name] = sums.get(name, 0) + value.reshape(shape) / snapshots
    alive = (run.state.diverged.cpu().numpy() < 0).reshape(shape)
    out = {k: _mean(v, alive) for k, v in sums.items()}
    out["r"] = np.sqrt(out.pop("r2"))
    r = np.log(np.linalg.norm(samples[-1], axis=-1))
    out["r_gap"] = _mean(r, alive & (side > 0)) - _mean(r, alive & (side < 0))
    out["diverged"] = 1 - alive.mean(1)
    out["S"], out["S_error"] = np.full((2, len(alive)), np.nan)
    for i in np.flatnonzero(alive.any(1)):
        w = np.stack([s[i, alive[i]] for s in samples]).reshape(-1, dim).astype(float)
        s = entropy.kozachenko_leonenko(w / np.linalg.norm(w, axis=1, keepdims=True), dim=dim - 1, sphere=True)
        out["S"][i], out["S_error"][i] = s.value - s.bias, s.standard_error
    return out


def _mean(values, keep):
    """Mean over the kept replicas [n, R] -> [n], NaN where none is kept."""
    count = keep.sum(1)
    return np.where(count > 0, np.where(keep, values, 0).sum(1) / np.maximum(count, 1), np.nan)


def _vmf(form, temperature: xr.DataArray, dim: int) -> xr.DataArray:
    """A closed form of temperature and dimension, labelled as the temperature is."""
    return temperature.copy(data=form(temperature.values, dim))


@recipe("hot end D={dim}", shared=["U_vmf", "U_small"], dims=("temperature", "seed"), n_seeds=3)
def hot_sphere(
    temperatures: Positives = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0),
    *,
    dim: Annotated[int, integer(3)] = 10,
    eta: Positive = 4e-3,
    replicas: Count = 256,
    steps: Annotated[int, integer(2)] = 30_000,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """Energy on the fixed unit sphere up to high temperatures, reached by noise (σ² = 2 T/η) at a small step.

    Returns a Dataset: U (temperature, seed) over the second half of the steps; U_vmf, U_small (temperature).
    Source: arXiv:2511.07308, appendix E.
    """
    t = np.array(temperatures)
    sigma = np.repeat(np.sqrt(2 * t / eta), replicas)
    run = Experiment(IsotropicNoise(dim, "sphere"), eta=eta, lam=0.0, sigma=sigma, seed=seed, device=device)
    run.advance(steps // 2)
    run.frame()  # the mean of the second half begins here
    run.advance(steps - steps // 2)
    forms = {
        "U": run.frame().observables["U"].reshape(len(t), replicas).mean(1),
        "U_vmf": theory.energy_vmf(t, dim),
        "U_small": theory.energy_small_t(t, dim),
    }
    return xr.Dataset(
        {k: ("temperature", v) for k, v in forms.items()},
        coords={"temperature": t},
        attrs={"protocol": "sphere", "dim": dim, "eta": eta},
    )


# --- what is decided ----------------------------------------------------------------------------------------------------
GAS = ("eta", "lam", "dim", "sigma")


@decides("ideal-gas.iso.energy", reads=GAS)
def energies(iso: Grids) -> Decision:
    """U over the von Mises-Fisher mean, less 1, a mean over λ at each η; the worst decides."""
    other = {"elr": "lr", "lr": "sphere", "sphere": "lr"}
    right, wrong = (
        worst(
            *((d["U"] / _vmf(theory.energy_vmf, iso[whose[k]]["T_step"], d.attrs["dim"]) - 1).mean("lam") for k, d in iso.items())
        )
        for whose in ({k: k for k in iso}, other)
    )
    return with_control(right, wrong, ENERGY, "temperature of another protocol")


@decides("ideal-gas.iso.entropy", reads=GAS)
def entropies(iso: Grids) -> Decision:
    """S of the direction less the von Mises-Fisher entropy (nats), a mean over λ at each η; the worst decides."""
    dim = iso["elr"].attrs["dim"]
    right, wrong = (
        worst(*((d["S"] - _vmf(theory.entropy_vmf, factor * d["T_step"], dim)).mean("lam") for d in iso.values()))
        for factor in (1, 2)
    )
    return with_control(right, wrong, ENTROPY_PER_COORDINATE * (dim - 1), "temperature doubled")


@decides("ideal-gas.iso.radius", reads=GAS)
def radii(iso: Grids) -> Decision:
    """Radius over its closed form, less 1, in each relaxed cell of the free protocols; the worst decides."""
    free = [iso["elr"], iso["lr"]]
    right = worst(*((d["r"] / d["r_pred"] - 1).where(d["relaxed"]) for d in free))
    wrong = worst(*(d["r"] / _radius_at_twice_the_decay(d)[..., None] - 1 for d in free))
    return with_control(right, wrong, RADIUS, "weight decay doubled in the prediction")


def _radius_at_twice_the_decay(data: xr.Dataset) -> np.ndarray:
    """r_pred [eta, lam] for 2λ."""
    a, eta, lam = data.attrs, data["eta"].values[:, None], 2 * data["lam"].values
    return theory.isotropic_state(a["protocol"], eta, lam, a["dim"], a["sigma"])["r"]


@decides("ideal-gas.iso.pressure", reads=GAS)
def pressures(iso: Grids) -> Decision:
    """Pressure over that of the equation of state, less 1, in each cell of the fixed sphere; the worst decides."""
    d, dim = iso["sphere"], iso["sphere"].attrs["dim"]
    ratio = d["p"] / d["p_pred"]
    right, wrong = (worst(x - 1) for x in (ratio, ratio * (dim - 1) / dim))
    return with_control(right, wrong, PRESSURE, "D instead of D - 1")


@decides("ideal-gas.iso.printed", reads=GAS)
def printed_forms(iso: Grids) -> Decision:
    """Relative error of T by which U, S a coordinate, r² and p miss their leading order; the worst decides."""

    def off(factor: float):
        for protocol, d in iso.items():
            dim, free = d.attrs["dim"], protocol != "sphere"
            t = factor * theory.temperature(protocol, d["eta"].values[:, None], d["lam"].values, dim, d.attrs["sigma"])
            t = d["T"].copy(data=np.broadcast_to(t, d["T"].shape))
            yield (d["U"] / theory.energy_small_t(t, dim) - 1).mean("lam")
            yield ((d["S"] - _vmf(theory.entropy_small_t, t, dim)) * 2 / (dim - 1)).mean("lam")
            ratio = d["r"] ** 2 if free else d["p"]
            yield (ratio / (t * (dim - 1) / (d["lam"] if free else d["r_pred"] ** 2)) - 1).where(d["relaxed"])

    order = max(float(d["eta"].max()) for d in iso.values())
    return with_control(worst(*off(1)), worst(*off(2)), order, "temperature doubled")


@decides("ideal-gas.iso.slopes", reads=GAS)
def slopes(iso: Grids) -> Decision:
    """Slopes of the full entropy in log η and log λ (nats) less those of theory, under both free protocols; the worst decides."""
    dim = iso["elr"].attrs["dim"]

    def off(whose: Mapping[str, str]):
        expected = {k: [*theory.slopes(whose[k], dim).values()] for k in whose}
        return extreme(np.concatenate([compare.plane(iso[k]) - expected[k] for k in whose], 1))

    right, wrong = off({"elr": "elr", "lr": "lr"}), off({"elr": "lr", "lr": "elr"})
    return with_control(right, wrong, SLOPE_PER_COORDINATE * (dim - 1), "slopes of the other protocol")


@decides("ideal-gas.iso.gibbs", reads=GAS)
def minima(iso: Grids) -> Decision:
    """Share of cells under the free protocols that are their own minimum of G."""
    right, wrong = (
        few_seeds(np.mean([compare.own_minima(iso[k], "T_step", swap) for k in ("elr", "lr")], 0)) for swap in (False, True)
    )
    return with_control(right, wrong, SHARE, "temperature of another cell", predicted=1.0)


@decides("ideal-gas.iso.vmf", reads=["temperatures", "dim", "eta"])
def hot_energies(hot: xr.Dataset) -> Decision:
    """U over the von Mises-Fisher mean, less 1, at each temperature, within the 3 % of pressures; the worst decides."""
    right, wrong = (worst(hot["U"] / hot[name] - 1) for name in ("U_vmf", "U_small"))
    return with_control(right, wrong, PRESSURE, "small-temperature form")


@decides("ideal-gas.iso.anisotropic", reads=[*GAS, "spectrum"])
def uneven_noise(anisotropic: xr.Dataset) -> Decision:
    """Deviation of U, r, slopes and S from theory, each in units of its tolerance; the worst decides."""
    d, dim = anisotropic, anisotropic.attrs["dim"]
    expected = [*theory.slopes(d.attrs["protocol"], dim).values()]

    def off(shift: float):
        energy = (d["U"] / d["U_pred"] - 1).mean("lam") / ENERGY
        radius = (d["r"] / d["r_pred"] - 1).mean("lam") / RADIUS
        slope = (compare.plane(d) - expected) / (SLOPE_PER_COORDINATE * (dim - 1))
        entropy = (d["S"] - d["S_pred"] - shift).mean("lam") / (ENTROPY_PER_COORDINATE * (dim - 1))
        return extreme(np.concatenate([seeds_first(energy, radius, entropy), slope], 1))

    right, wrong = off(theory.anisotropic_entropy_shift(d["spectrum"].values)), off(0.0)
    return with_control(right, wrong, 1.0, "entropy without the shift")
