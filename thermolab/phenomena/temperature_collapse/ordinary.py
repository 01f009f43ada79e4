"""A normalised network trained as usual: weight decay, no projection, every layer free to find its own radius.

The loss depends on the direction of each layer's weights only, so layer l moves at its own effective rate η/r_l². Under
w ← w − η(g + λw) the gradient is orthogonal to w, and E|w_l|² is stationary where r_l⁴ = η E|g̃_l|²/(λ(2 − ηλ)), about
η E|g̃_l|²/(2λ), with the gradient g̃ = r g at r = 1. With λ = 0 the radius grows for ever, r⁴ ≈ 2 η² E|g̃|² t, and
η/r² ≈ 1/√(2 E|g̃|² t) forgets η. Source: arXiv:2505.23489, mechanism 3 and next check 2.
Limit: the burn-in must last some relaxation times 1/(4ηλ) of the radius at the lowest η. Below η ≈ 0.1 and above 2 (at λ =
0.02) single runs stay in basins of their own for as long as we looked.

Tolerances of the claims are the accuracy that the theory states; they stand here once and do not move with the data. 4 % for
radii and for temperatures of layers (order η, as in notebook 03); one pair of temperatures in ten out of order, about the
resolution of those between eight states; a quarter for the exponent of η_eff, which is −½ for noise of constant size and
steeper where that falls.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
import xarray as xr

from thermolab.claims import Decision, decides, extreme, few_seeds, with_control
from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, Positive, integer, number, positive, several
from thermolab.instruments import entropy, noise
from thermolab.instruments.temperature import gas_temperature
from thermolab.systems import data, models
from thermolab.systems.network import NetworkOnData

RATES = tuple(np.geomspace(0.1, 1.6, 8).round(6))
LAYERS = ("first", "second")
FRAME = 2  # steps between the frames of a window
SPACING = 0.5  # between the weights of an entropy window, in correlation times 1/η_eff of the layer
NEIGHBOURS = 50  # of the k-NN graph, or a quarter of a shorter window
POINTS, FIRST = 24, 100  # moments of the record of η_eff, and the earliest of them in steps
PROBE = 16  # fresh minibatches at each moment of a probe
BURN_IN = 8 * FRAME  # the shortest that has moments for its record
LAYER, ORDER, EXPONENT = 0.04, 0.1, 0.25
SAME_STATE = 0.03  # distance of U from the median over the seeds up to which a run counts as in the same state
SMOOTHING = 1.0  # half-width in log η of the triangle that smooths U and S before slopes are taken


def system(protocol: str = "lr", *, width: int = 8, label_noise: float = 0.3, n_data: int = 256) -> NetworkOnData:
    """The perceptron 64-h-h with LayerNorm and a frozen head on digits with redrawn labels.

    protocol: "lr" for training as usual, "sphere" for the projected control. width: h. Source: arXiv:2505.23489 on a smaller net.
    """
    return NetworkOnData(
        models.scale_invariant_mlp((64, width, width), norm="layer"), data.digits(n_data, label_noise=label_noise), protocol
    )


def start(net: NetworkOnData, n: int, seed: int) -> torch.Tensor:
    """Random weights [n, P] at their usual scale without the components that the loss never sees.

    LayerNorm takes off the mean over a layer's units, and some pixels are always black, or always a multiple of one another:
    these components get no gradient,
    and weight decay alone would take 1/(ηλ) steps to remove them from the radius.
    """
    weights, rows = net.start(torch.arange(n), seed).clone(), _seen(net)
    for k, w in enumerate(net.replicas.views(weights).values()):
        w -= w.mean(1, keepdim=True)
        if k == 0:
            w.copy_(w.double() @ rows.T @ rows)
    return weights


def freedoms(net: NetworkOnData) -> np.ndarray:
    """Coordinates [layer] in which each layer's direction moves: (units − 1) × rank of the inputs, less one for the radius."""
    shapes = [p.shape for p in net.replicas.trainable.values()]
    inputs = [len(_seen(net)), *(n_in for _, n_in in shapes[1:])]
    return np.array([(n_out - 1) * n - 1 for (n_out, _), n in zip(shapes, inputs, strict=True)])


def _seen(net: NetworkOnData) -> torch.Tensor:
    """Orthonormal rows [rank, pixels] that span the images; what is orthogonal to them meets no input."""
    _, values, rows = torch.linalg.svd(net.data.x.double(), full_matrices=False)
    return rows[values > 1e-6 * values[0]]


@recipe("ordinary training", dims=("eta", "eta_sphere", "seed", "layer", "time"), n_seeds=8)
def ordinary(
    rates: Annotated[tuple[float, ...], several(positive(), 3)] = RATES,
    *,
    lam: Positive = 0.02,
    width: Annotated[int, integer(3)] = 8,  # of two units LayerNorm leaves one number, and no direction to move in
    batch_size: Count = 32,
    label_noise: Annotated[float, number(0, 1)] = 0.3,
    burn_in: Annotated[int, integer(BURN_IN)] = 6_000,
    window: Count = 6_000,
    samples: Annotated[int, integer(4)] = 100,
    moments: Count = 80,
    seed: int = 0,
    device: str = "cpu",
) -> xr.Dataset:
    """The network with weight decay over a range of learning rates, without it, and projected, from the same starts.

    rates: η, three or more; lam: λ of the first arm; width: h of the perceptron 64-h-h; burn_in, window: steps;
    samples: weights per entropy window, half a correlation time 1/η_eff of their layer apart, or closer where the window is
    short of that; moments: of the window at which fresh minibatches probe the gradient; each seed is one batch of
    replicas.

    Returns a Dataset. With weight decay, dims (eta, seed): U over the window; S = Σ_l S_l, graph entropies of the layers'
    directions (differences only, and only at equal spacing); T_gas = η Tr Σ/(2 Σ_l d_l);
    diverged: 1 for a run that was lost, whose other entries are NaN. Dims (eta, seed, layer): r, root of the mean of |w_l|²;
    eta_eff = η/r²; trace Tr Σ̃ and g2 = E|g̃|² at |w_l| = 1, from fresh minibatches; T_layer = η_eff Tr Σ̃/(2 d_l);
    r_pred of the radius law; spacing of the weights of an entropy window in correlation times 1/η_eff, a half or what the
    window allows; tau: autocorrelation time of the weights in samples. d_l (attribute freedoms, one per layer):
    the coordinates in which its direction moves.
    Without weight decay the same with the prefix free_, but for r_pred. rate_t (eta, seed, layer, time) and free_rate_t: η_eff
    of a layer in the course of training; free_total_t (eta, seed, time): η/|w|² of the whole network without weight decay,
    sphere_total_t (eta_sphere, seed, time): the same of projected SGD, η r₀²/|w|² with r₀ the radius held.
    Raises ValueError for settings that are out of range, or a window too short to probe. Source: arXiv:2505.23489.
    """
    if (np.diff(rates) <= 0).any():
        raise ValueError(f"rates={list(rates)} do not ascend; allowed: three or more, ascending")
    if window < FRAME * max(moments, samples):
        least = FRAME * max(moments, samples)
        raise ValueError(f"window={window} is too short; allowed: {least} steps or more at samples={samples}, moments={moments}")
    rates, burn_in = np.array(rates), burn_in // FRAME * FRAME
    held, total = rates[[0, len(rates) // 2, -1]], burn_in + window // FRAME * FRAME
    times = np.unique((np.geomspace(min(FIRST, total // 8), total, POINTS) // FRAME * FRAME).astype(int))

    def begin(eta, lam: float, protocol: str = "lr") -> Experiment:
        net = system(protocol, width=width, label_noise=label_noise)
        weights = start(net, len(eta), seed)
        return Experiment(net, eta=eta, lam=lam, batch_size=batch_size, seed=seed, weights=weights, device=device)

    decay, free = (_arm(begin(rates, x), rates, x, times, burn_in, window, samples, moments) for x in (lam, 0.0))
    out = decay.drop_vars("total_t").assign({f"free_{name}": v for name, v in free.items()})
    sphere = begin(held, 0.0, "sphere")
    squared = np.square(_track(sphere, times)).sum(2)  # [time, rate]
    sphere.raise_if_diverged()
    out["sphere_total_t"] = ("time", "eta_sphere"), held * sphere.state.radius.cpu().numpy() ** 2 / squared
    out = out.assign_coords(eta=rates, layer=list(LAYERS), time=times, eta_sphere=held)
    attrs = {"lam": lam, "batch_size": batch_size, "burn_in": burn_in, "window": window}
    return out.assign_attrs(attrs | {"freedoms": freedoms(sphere.system).tolist()})


def _arm(run: Experiment, rates, lam: float, times, burn_in, window, samples, moments) -> xr.Dataset:
    """What `ordinary` lists, of a run at these rates with or without decay, dims (eta, …)."""
    track = _track(run, times[times <= burn_in])
    run.advance(burn_in - run.state.step)
    run.frame()
    found, later = _window(run, rates, window, samples, moments, set(times.tolist()))
    r = np.array(track + later)  # [time, rate, layer]
    found |= _derived(found, rates, lam, freedoms(run.system))
    out = xr.Dataset({name: (("eta", "layer")[: v.ndim], v) for name, v in found.items()})
    out["rate_t"] = ("time", "eta", "layer"), rates[:, None] / r**2
    out["total_t"] = ("time", "eta"), rates / np.square(r).sum(2)
    lost = xr.DataArray(run.state.diverged.cpu().numpy() >= 0, dims="eta")
    return out.where(~lost).assign(diverged=lost.astype(float))


def _track(run: Experiment, times) -> list[np.ndarray]:
    """Radii [rate, layer] at each of these steps."""
    radii = []
    for step in times:
        run.advance(int(step) - run.state.step)
        radii.append(_radii(run))
    return radii


def _window(run: Experiment, rates, window, samples, moments, times: set) -> tuple[dict, list]:
    """U, S, r, trace, g2, tau over the window, and the radii at the `times` that fall into it."""
    first = _radii(run)
    frames, rate = window // FRAME, rates[:, None] / np.nan_to_num(first**2, nan=1.0)
    # without decay η_eff is so low that no window holds the samples at this spacing: as far apart as they fit
    stride = np.clip(np.round(SPACING / rate / FRAME), 1, frames // samples).astype(int)
    views = run.system.replicas.views
    paths = [[np.empty((samples, w[0].numel()), np.float32) for w in views(run.state.weights).values()] for _ in rates]
    filled, squares, probes, later = np.zeros(stride.shape, int), np.zeros_like(first), [], []
    for k in range(frames):
        run.advance(FRAME)
        r = _radii(run)
        squares += r**2 / frames
        layers = [w.flatten(1).cpu().numpy() for w in views(run.state.weights).values()]
        for i, j in np.argwhere((k % stride == 0) & (filled < samples)):
            paths[i][j][filled[i, j]] = layers[j][i] / r[i, j]
            filled[i, j] += 1
        if k % max(1, frames // moments) == 0:
            probes.append(_probe(run, r))
        if run.state.step in times:
            later.append(r)
    out = {name: np.mean([p[name] for p in probes], 0) for name in probes[0]}
    out |= {"r": np.sqrt(squares), "U": run.frame().observables["U"], "spacing": stride * FRAME * rate}
    return out | _entropies(paths, filled == samples, freedoms(run.system)), later


def _entropies(paths, full, dims) -> dict[str, np.ndarray]:
    """S [rate], a sum over the layers, and tau [rate, layer]; NaN where a window is not full or not finite."""
    s, tau = np.full(full.shape, np.nan), np.full(full.shape, np.nan)
    for i, j in np.argwhere(full):
        if np.isfinite(paths[i][j]).all():
            near = min(NEIGHBOURS, len(paths[i][j]) // 4)
            found = entropy.knn_graph(paths[i][j], dim=int(dims[j]), k=near, time_ordered=True)
            s[i, j], tau[i, j] = found.value, found.autocorrelation_time
    return {"S": s.sum(1), "tau": tau}


def _radii(run: Experiment) -> np.ndarray:
    """|w_l| [rate, layer]; NaN where a replica diverged."""
    r = np.stack([w.flatten(1).norm(dim=1).cpu().numpy() for w in run.system.replicas.views(run.state.weights).values()], 1)
    return np.where(np.isfinite(r), r, np.nan).astype(float)


def _probe(run: Experiment, r: np.ndarray) -> dict[str, np.ndarray]:
    """Tr Σ̃ and E|g̃|² [rate, layer] at |w_l| = 1 from fresh minibatches at the weights of this moment."""
    # another seed for each moment, none of which the training draws from
    batch_size, seed = run.knobs["batch_size"], run.seed + 2**32 * (1 + run.state.step)
    fresh = run.system.gradients(run.state.weights, PROBE, batch_size, seed, run.streams)
    flat = torch.nan_to_num(fresh, posinf=0.0, neginf=0.0).flatten(0, 1)
    found = [
        noise.gradient_noise(g.flatten(1).unflatten(0, (PROBE, -1)), spectrum=False)
        for g in run.system.replicas.views(flat).values()
    ]
    return {
        "trace": np.stack([np.atleast_1d(f.trace) for f in found], 1) * r**2,
        "g2": np.stack([np.atleast_1d(f.second_moment) for f in found], 1) * r**2,
    }


def _derived(found: dict, rates, lam: float, dims: np.ndarray) -> dict[str, np.ndarray]:
    """Effective rates, gas temperatures and, with decay, the radius law."""
    rate = rates[:, None] / found["r"] ** 2
    layers = gas_temperature(rate, found["trace"], dims + 1)
    out = {"eta_eff": rate, "T_layer": layers, "T_gas": layers @ dims / dims.sum()}
    if lam:
        out["r_pred"] = radius_law(rates[:, None], lam, found["g2"])
    return out


def radius_law(eta, lam, moment):
    """Radius at which E|w|² of a scale-invariant layer is stationary, (η E|g̃|²/(λ(2 − ηλ)))^¼, at small ηλ that of the paper.

    eta: η; lam: λ; moment: E|g̃|² at |w| = 1, scalars or arrays that broadcast. Returns radii of the broadcast shape.
    Source: arXiv:2505.23489, next check 2; r⁴ = η E|g̃|²/(2λ) at leading order.
    """
    return (eta * moment / (lam * (2 - eta * lam))) ** 0.25


# --- its claims -------------------------------------------------------------------------------------------------------
READS = ("rates", "width", "burn_in", "window", "samples", "moments")


@decides("collapse.standard-net", reads=READS)
def standard_net(ordinary: xr.Dataset) -> Decision:
    """Share of pairs of temperatures dU/dS that rise with η; all of them if T(η) increases and F is convex."""
    log_eta, kept = np.log(ordinary["eta"].values), same_state(ordinary["U"]).transpose("seed", "eta").values

    def share(prefix: str):
        rows = zip(kept, *(ordinary[prefix + k].transpose("seed", "eta").values for k in ("U", "S")), strict=True)
        return few_seeds([rising(*(smoothed(log_eta[ok], v[ok]) for v in row)) for ok, *row in rows])

    return with_control(share(""), share("free_"), ORDER, "λ = 0, where no T(η) exists", predicted=1.0)


def same_state(energy: xr.DataArray) -> xr.DataArray:
    """Which runs [eta, seed] have U within 3 % of the median over the seeds; the others stay in a basin of their own."""
    return abs(energy / energy.median("seed") - 1) <= SAME_STATE


def smoothed(log_eta: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Values [η] averaged with a triangle of half-width 1 in log η."""
    weight = np.maximum(0, 1 - abs(log_eta[:, None] - log_eta) / SMOOTHING)
    return weight @ values / weight.sum(1)


def rising(energy: np.ndarray, entropy: np.ndarray) -> float:
    """Share of pairs of slopes dU/dS between neighbouring states [η] of which that at higher η is larger; NaN below 4 states."""
    if len(energy) < 4 or not np.isfinite([energy, entropy]).all():
        return np.nan
    slope = np.diff(energy) / np.diff(entropy)
    i, j = np.triu_indices(len(slope), 1)
    return float(np.mean(slope[j] > slope[i]))


@decides("collapse.standard-net.one-temperature", reads=READS)
def one_temperature(ordinary: xr.Dataset) -> Decision:
    """Largest distance from 1 of the ratio of the layers' gas temperatures; control: of r over the radius law, in any layer."""
    kept = ordinary.where(same_state(ordinary["U"])).transpose("seed", "eta", "layer", ...)
    ratio = kept["T_layer"].isel(layer=1) / kept["T_layer"].isel(layer=0)
    right, law = extreme(ratio.values - 1), extreme((kept["r"] / kept["r_pred"]).values - 1)
    return with_control(right, law, LAYER, "the radius law, which each layer obeys separately")


@decides("collapse.effective-rate", reads=READS)
def effective_rate(ordinary: xr.Dataset) -> Decision:
    """Least steep exponent of η/r² in the number of steps over the last decade of training, among the learning rates."""

    def exponent(name: str, dim: str):
        late = ordinary[name].sel(time=ordinary["time"] >= ordinary["time"][-1] / 10).transpose("time", "seed", dim)
        log_rate = np.log(late.values).reshape(late.sizes["time"], -1)
        slopes = np.polyfit(np.log(late["time"].values), log_rate, 1)[0].reshape(late.shape[1:])
        return few_seeds(slopes[:, slopes.mean(0).argmax()])

    free, held = exponent("free_total_t", "eta"), exponent("sphere_total_t", "eta_sphere")
    return with_control(free, held, EXPONENT, "projected SGD", predicted=-0.5, relation="below")
