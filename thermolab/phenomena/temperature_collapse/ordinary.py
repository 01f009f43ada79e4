"""A normalised network trained as usual: weight decay, no projection, every layer free to find its own radius.

The loss depends on the direction of each layer's weights only, so layer l moves at its own effective rate η/r_l². Under
w ← w − η(g + λw) the gradient is orthogonal to w, and E|w_l|² is stationary where r_l⁴ = η E|g̃_l|²/(λ(2 − ηλ)), about
η E|g̃_l|²/(2λ), with the gradient g̃ = r g at r = 1. With λ = 0 the radius grows for ever, r⁴ ≈ 2 η² E|g̃|² t, and
η/r² ≈ 1/√(2 E|g̃|² t) forgets η. Source: arXiv:2505.23489, mechanism 3 and next check 2.
Limit: the burn-in must last some relaxation times 1/(4ηλ) of the radius at the lowest η. Below η ≈ 0.1 and above 2 (at λ =
0.02) single runs stay in basins of their own for as long as we looked.

Tolerances of the claims are the accuracy that the theory states; they stand here once and do not move with the data. 4 % for
radii and for temperatures of layers (order η, as in notebook 03); 10 % for the stationarity thermometer, exact for an endless
window: |w − c|² may change by a relaxation 1/(ηλ), a twelfth of the window at the lowest η. The smallest step of log T must be
positive; of pairs of slopes, one in ten may be out of order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
import xarray as xr

from thermolab.claims import Decision, decides, extreme, few_seeds, with_control
from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, Positive, integer, number, positive, several
from thermolab.instruments import entropy, noise
from thermolab.instruments.stationarity import stationarity
from thermolab.instruments.temperature import gas_temperature
from thermolab.phenomena.temperature_collapse import curves
from thermolab.phenomena.temperature_collapse.curves import jackknife
from thermolab.systems import data, models
from thermolab.systems.network import NetworkOnData

RATES = tuple(np.geomspace(0.1, 1.6, 5).round(6))
LAYERS = ("first", "second")
SPACING = 0.5  # between the weights of an entropy window, in correlation times 1/η_eff of the layer
NEIGHBOURS = 50  # of the k-NN graph, or a quarter of a shorter window
PROBE = 16  # fresh minibatches at each moment of a probe
EARLY = 8  # moments of the first 1/(ηλ) steps
LAYER, ORDER, BALANCE = 0.04, 0.1, 0.1
SMOOTHING = 1.0  # half-width in log η of the triangle that smooths U and S before slopes are taken


def system(*, width: int = 8, label_noise: float = 0.3, n_data: int = 256) -> NetworkOnData:
    """The perceptron 64-h-h with LayerNorm and a frozen head on digits with redrawn labels.

    width: h. Source: arXiv:2505.23489 on a smaller net.
    """
    return NetworkOnData(
        models.scale_invariant_mlp((64, width, width), norm="layer"), data.digits(n_data, label_noise=label_noise), "lr"
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


@recipe("ordinary training", dims=("eta", "seed", "layer"), n_seeds=8)
def ordinary(
    rates: Annotated[tuple[float, ...], several(positive(), 3)] = RATES,
    *,
    lam: Positive = 0.02,
    width: Annotated[int, integer(3)] = 8,  # of two units LayerNorm leaves one number, and no direction to move in
    batch_size: Count = 32,
    label_noise: Annotated[float, number(0, 1)] = 0.3,
    burn_in: Count = 6_000,
    window: Count = 6_000,
    samples: Annotated[int, integer(4)] = 100,
    moments: Count = 120,
    seeds: Sequence[int],
    device: str = "cpu",
) -> xr.Dataset:
    """The network with weight decay over a range of learning rates, and without it, from the same starts.

    rates: η, three or more; lam: λ of the first arm; width: h of the perceptron 64-h-h; burn_in, window: steps;
    samples: weights per entropy window, half a correlation time 1/η_eff of their layer apart, or closer where the window is
    short of that; moments: of the window at which fresh minibatches probe the gradient. All rates and seeds are one batch of
    replicas, which runs from one moment that is read to the next.

    Returns a Dataset. With weight decay, dims (eta, seed): U over the window; S = Σ_l S_l, graph entropies of the layers'
    directions (differences only, and only at equal spacing); T_gas = η Tr Σ/(2 Σ_l d_l); balance, the stationarity
    thermometer about the start over the window, and balance_early, over the first 1/(ηλ) steps;
    diverged: 1 for a run that was lost, whose other entries are NaN. Dims (eta, seed, layer): r, root of the mean of |w_l|²;
    eta_eff = η/r²; trace Tr Σ̃ and g2 = E|g̃|² at |w_l| = 1, from fresh minibatches; T_layer = η_eff Tr Σ̃/(2 d_l);
    r_pred of the radius law; spacing of the weights of an entropy window in correlation times 1/η_eff, a half or what the
    window allows; tau: autocorrelation time of the weights in samples. d_l (attribute freedoms, one per layer):
    the coordinates in which its direction moves.
    Without weight decay the same with the prefix free_, but for r_pred and the thermometer.
    Raises ValueError for settings that are out of range, or a window too short to probe. Source: arXiv:2505.23489.
    """
    if (np.diff(rates) <= 0).any():
        raise ValueError(f"rates={list(rates)} do not ascend; allowed: three or more, ascending")
    if window < max(moments, samples):
        least = max(moments, samples)
        raise ValueError(f"window={window} is too short; allowed: {least} steps or more at samples={samples}, moments={moments}")
    net, eta, shape = system(width=width, label_noise=label_noise), np.repeat(rates, len(seeds)), (len(rates), len(seeds))
    weights = start(net, len(eta), seeds[0])

    def arm(lam: float) -> xr.Dataset:
        run = Experiment(net, eta=eta, lam=lam, batch_size=batch_size, seed=seeds[0], weights=weights, device=device)
        early = _early(run, burn_in)
        run.advance(burn_in - run.state.step)
        run.frame()
        found = _window(run, shape, window, samples, moments) | early
        found |= _derived(found, eta, lam, freedoms(net))
        dims, lost = ("eta", "seed", "layer"), run.state.diverged.cpu().numpy().reshape(shape) >= 0
        data = xr.Dataset({k: (dims[: v.ndim + 1], v.reshape(*shape, *v.shape[1:])) for k, v in found.items()})
        return data.where(xr.DataArray(~lost, dims=dims[:2])).assign(diverged=(dims[:2], lost.astype(float)))

    decay, free = arm(lam), arm(0.0)
    out = decay.assign({f"free_{name}": v for name, v in free.items()})
    attrs = {"lam": lam, "batch_size": batch_size, "burn_in": burn_in, "window": window, "freedoms": freedoms(net).tolist()}
    return out.assign_coords(eta=list(rates), seed=seeds, layer=list(LAYERS)).assign_attrs(attrs)


def _early(run: Experiment, burn_in: int) -> dict[str, np.ndarray]:
    """balance_early [replica]: the thermometer over the first 1/(ηλ) steps, or the burn-in; {} without decay."""
    eta, lam = (run.knobs[name].cpu().numpy() for name in ("eta", "lam"))
    if not lam.any():
        return {}
    ends = np.minimum(1 / (eta * lam), burn_in)
    times = np.maximum(1, ends[:, None] * (np.arange(EARLY) + 0.5) / EARLY).astype(int)
    sides = np.empty((2, len(eta), EARLY))
    for step in np.unique(times):
        run.advance(int(step) - run.state.step)
        which, moment = np.nonzero(times == step)
        found = _probe(run, which)
        sides[:, which, moment] = found["pull"], found["squared"]
    return {"balance_early": _balance(*sides, eta)}


def _balance(pull, squared, eta) -> np.ndarray:
    """The stationarity thermometer [replica] of both its sides [replica, moment], NaN for a replica that was lost."""
    found, alive = np.full(len(eta), np.nan), (squared > 0).all(1) & np.isfinite(pull + squared).all(1)
    found[alive] = stationarity(pull[alive], squared[alive], eta[alive]).value
    return found


def _window(run: Experiment, shape, window: int, samples: int, moments: int) -> dict[str, np.ndarray]:
    """U, S and, with decay, balance [replica]; r, trace, g2, spacing, tau [replica, layer] over the window."""
    eta, begin = run.knobs["eta"].cpu().numpy(), run.state.step
    # all seeds of a rate are read at the same steps
    squares = np.nanmean(_radii(run).reshape(*shape, -1) ** 2, 1, keepdims=True)
    rate = np.broadcast_to(eta.reshape(*shape, 1) / np.nan_to_num(squares, nan=1.0), (*shape, len(LAYERS))).reshape(len(eta), -1)
    # without decay η_eff is so low that no window holds the samples at this spacing: as far apart as they fit
    stride = np.clip(np.round(SPACING / rate), 1, window // samples).astype(int)
    views, probing = run.system.replicas.views, window // moments
    paths = [[np.empty((samples, w[0].numel()), np.float32) for w in views(run.state.weights).values()] for _ in eta]
    probes, strides = [], np.unique(stride)
    steps = {int(k) for s in strides for k in s * np.arange(1, samples + 1)} | set(range(probing, window + 1, probing))
    for step in sorted(steps | {window}):
        run.advance(begin + step - run.state.step)
        due = (step % stride == 0) & (step // stride <= samples)
        if due.any():
            r, layers = _radii(run), [w.flatten(1).cpu().numpy() for w in views(run.state.weights).values()]
        for i, j in np.argwhere(due):
            paths[i][j][step // stride[i, j] - 1] = layers[j][i] / r[i, j]
        if step % probing == 0:
            probes.append(_probe(run, np.arange(len(eta))))
    probed = {name: np.stack([p[name] for p in probes]) for name in probes[0]}
    out = {name: probed[name].mean(0) for name in ("trace", "g2")} | {"r": np.sqrt(probed["r2"].mean(0))}
    if run.knobs["lam"].any():
        out["balance"] = _balance(probed["pull"].T, probed["squared"].T, eta)
    out |= {"U": run.frame().observables["U"], "spacing": stride * rate}
    return out | _entropies(paths, freedoms(run.system))


def _entropies(paths, dims) -> dict[str, np.ndarray]:
    """S [replica], a sum over the layers, and tau [replica, layer]; NaN where a window is not finite."""
    s, tau = (np.full((len(paths), len(dims)), np.nan) for _ in range(2))
    for i, j in np.ndindex(s.shape):
        if np.isfinite(paths[i][j]).all():
            near = min(NEIGHBOURS, len(paths[i][j]) // 4)
            found = entropy.knn_graph(paths[i][j], dim=int(dims[j]), k=near, time_ordered=True)
            s[i, j], tau[i, j] = found.value, found.autocorrelation_time
    return {"S": s.sum(1), "tau": tau}


def _radii(run: Experiment) -> np.ndarray:
    """|w_l| [replica, layer]; NaN where a replica diverged."""
    r = np.stack([w.flatten(1).norm(dim=1).cpu().numpy() for w in run.system.replicas.views(run.state.weights).values()], 1)
    return np.where(np.isfinite(r), r, np.nan).astype(float)


def _probe(run: Experiment, which: np.ndarray) -> dict[str, np.ndarray]:
    """Readings of these replicas from fresh minibatches at the weights of this moment.

    r2 = |w_l|², trace Tr Σ̃ and g2 = E|g̃|² [replica, layer] at |w_l| = 1; and both sides of the stationarity thermometer
    [replica], with decay pull (w − c)·(∇L + λw) with c the start, ∇L over all data, for the noise of the minibatches' mean would
    be most of its error; and squared |g + λw|² = |g|² + λ²|w|², for w·g = 0.
    """
    # another seed for each moment, none of which the training draws from
    batch_size, seed, w = run.knobs["batch_size"], run.seed + 2**32 * (1 + run.state.step), run.state.weights[which]
    fresh = run.system.gradients(w, PROBE, batch_size, seed, run.streams[which])
    flat, views = torch.nan_to_num(fresh, posinf=0.0, neginf=0.0).flatten(0, 1), run.system.replicas.views
    found = [noise.gradient_noise(g.flatten(1).unflatten(0, (PROBE, -1)), spectrum=False) for g in views(flat).values()]
    r2, lam = np.square(_radii(run)[which]), run.knobs["lam"][which]
    moment = np.stack([np.atleast_1d(f.second_moment) for f in found], 1)
    out = {"r2": r2, "trace": np.stack([np.atleast_1d(f.trace) for f in found], 1) * r2, "g2": moment * r2}
    if not lam.any():
        return out
    whole, data = torch.empty_like(w), run.system.data
    with torch.no_grad():
        run.system.replicas.loss_and_gradient(w, *(t.expand(len(w), *t.shape) for t in (data.x, data.y)), whole)
    pull = ((w - run.start.weights[which]) * (whole + lam[:, None] * w)).sum(1).double().cpu().numpy()
    return out | {"pull": pull, "squared": moment.sum(1) + lam.cpu().numpy() ** 2 * r2.sum(1)}


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
    """The smallest step of log T from one learning rate to the next, T = dU/dS."""
    states = ordinary[["U", "S"]]
    shuffled = jackknife(lambda mean: curves.rise(mean, shuffled=True), states)
    return with_control(jackknife(curves.rise, states), shuffled, 0.0, "η permuted", 0.0, "above")


@decides("collapse.standard-net.pairs", reads=READS)
def pairs(ordinary: xr.Dataset) -> Decision:
    """Share of pairs of slopes dU/dS that rise with η; all of them if T(η) increases and F is convex."""
    log_eta = np.log(ordinary["eta"].values)

    def share(prefix: str):
        runs = zip(*(ordinary[prefix + k].transpose("seed", "eta").values for k in ("U", "S")), strict=True)
        return few_seeds([rising(*(smoothed(log_eta, v) for v in run)) for run in runs])

    return with_control(share(""), share("free_"), ORDER, "λ = 0, where no T(η) exists", predicted=1.0)


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
    runs = ordinary.transpose("seed", "eta", "layer")
    ratio = runs["T_layer"].isel(layer=1) / runs["T_layer"].isel(layer=0)
    right, law = extreme(ratio.values - 1), extreme((runs["r"] / runs["r_pred"]).values - 1)
    return with_control(right, law, LAYER, "the radius law, which each layer obeys separately")


@decides("collapse.standard-net.stationarity", reads=READS)
def in_balance(ordinary: xr.Dataset) -> Decision:
    """Largest distance from 1 of the stationarity thermometer, a mean over the seeds, among the learning rates."""
    late, early = (extreme(ordinary[name].transpose("seed", "eta").values - 1) for name in ("balance", "balance_early"))
    return with_control(late, early, BALANCE, "the first 1/(ηλ) steps")
