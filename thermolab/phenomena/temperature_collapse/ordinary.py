"""A normalised network trained as usual: weight decay, no projection, every layer free to find its own radius.

The loss depends on the direction of each layer's weights only, so layer l moves at its own effective rate η/r_l². Under
w ← w − η(g + λw) the gradient is orthogonal to w, and E|w_l|² is stationary where r_l⁴ = η E|g̃_l|²/(λ(2 − ηλ)), about
η E|g̃_l|²/(2λ), with the gradient g̃ = r g at r = 1. With λ = 0 the radius grows for ever, r⁴ ≈ 2 η² E|g̃|² t, and
η/r² ≈ 1/√(2 E|g̃|² t) forgets η. Source: arXiv:2505.23489, mechanism 3 and next check 2.
Limit: the burn-in must last some relaxation times 1/(4ηλ) of the radius at the lowest η. Below η ≈ 0.1 and above 2 (at λ =
0.02) single runs stay in basins of their own for as long as we looked.
"""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr

from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import Jobs, Recipe, seeds
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


def system(protocol: str = "lr", *, width: int = 8, label_noise: float = 0.3, n_data: int = 256) -> NetworkOnData:
    """The perceptron 64-h-h with LayerNorm and a frozen head on digits with redrawn labels.

    protocol: "lr" for training as usual, "sphere" for the projected control. width: h.
    Returns the system. Raises ValueError for a width below 3, where LayerNorm leaves no direction to move in.
    Source: arXiv:2505.23489 on a smaller net.
    """
    if width < 3:
        raise ValueError(f"width={width} is too small; allowed: 3 or more")
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


@Recipe
def ordinary(
    rates=RATES,
    *,
    lam: float = 0.02,
    width: int = 8,
    batch_size: int = 32,
    label_noise: float = 0.3,
    burn_in: int = 6_000,
    window: int = 6_000,
    samples: int = 100,
    moments: int = 80,
    seed: int = 0,
    n_seeds: int = 8,
    device: str = "cpu",
):
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
    Raises ValueError for fewer than three rates, λ ≤ 0, or a window too short to probe. Source: arXiv:2505.23489.
    """
    rates = _checked(rates, lam, burn_in, window, samples, moments)
    total = burn_in + window // FRAME * FRAME
    times = np.unique((np.geomspace(min(FIRST, total // 8), total, POINTS) // FRAME * FRAME).astype(int))
    common = {"width": width, "batch_size": batch_size, "label_noise": label_noise, "burn_in": burn_in // FRAME * FRAME,
              "window": window, "samples": samples, "moments": moments, "times": times, "device": str(device)}  # fmt: skip
    held = rates[[0, len(rates) // 2, -1]]
    arms = [{"protocol": "lr", "lam": lam, "rates": rates}, {"protocol": "lr", "lam": 0.0, "rates": rates},
            {"protocol": "sphere", "lam": 0.0, "rates": held}]  # fmt: skip
    names = seeds(seed, n_seeds)
    parts = yield Jobs(_cells, [common | arm | {"seed": s} for arm in arms for s in names], "ordinary training")
    dims = ("eta", "eta", "eta_sphere")
    decay, free, sphere = (_stack(parts[k * n_seeds : (k + 1) * n_seeds], dim) for k, dim in enumerate(dims))
    out = {k: v for k, v in decay.items() if k != "total_t"} | {f"free_{k}": v for k, v in free.items() if k != "r_pred"}
    out["sphere_total_t"] = sphere["total_t"]
    coords = {"eta": rates, "seed": names, "layer": list(LAYERS), "time": times, "eta_sphere": held}
    net = system(width=width, label_noise=label_noise)
    attrs = {"lam": lam, "batch_size": batch_size, "burn_in": burn_in, "window": window, "freedoms": freedoms(net).tolist()}
    return xr.Dataset(out, coords, attrs)


def _checked(rates, lam, burn_in, window, samples, moments) -> np.ndarray:
    rates = np.asarray(rates, float)
    if rates.ndim != 1 or len(rates) < 3 or (np.diff(rates) <= 0).any():
        raise ValueError(f"rates={rates.tolist()}; allowed: three or more, ascending")
    if not lam > 0:
        raise ValueError(f"lam={lam} has no stationary radius; allowed: above 0 (the arm without decay is part of the recipe)")
    if window < FRAME * max(moments, samples) or burn_in < 8 * FRAME:
        least = FRAME * max(moments, samples)
        raise ValueError(f"burn_in={burn_in}, window={window} steps; allowed: {8 * FRAME} and {least} or more at these samples")
    return rates


def _stack(parts: list[dict], first: str) -> dict:
    """Arrays [rate, ...] of each seed with a dimension for the seed behind the rate, and all dimensions named."""
    rest = {"r": ("layer",), "eta_eff": ("layer",), "trace": ("layer",), "g2": ("layer",), "T_layer": ("layer",)}
    rest |= {"r_pred": ("layer",), "tau": ("layer",), "spacing": ("layer",), "rate_t": ("layer", "time"), "total_t": ("time",)}
    return {k: ((first, "seed", *rest.get(k, ())), np.stack([p[k] for p in parts], 1)) for k in parts[0]}


def _cells(
    *, protocol, lam, rates, width, batch_size, label_noise, burn_in, window, samples, moments, times, seed, device
) -> dict[str, np.ndarray]:
    """One arm of one seed: {name: [rate, ...]}."""
    net = system(protocol, width=width, label_noise=label_noise)
    weights = start(net, len(rates), seed)
    run = Experiment(net, eta=rates, lam=lam, batch_size=batch_size, seed=seed, weights=weights, device=device)
    track = []
    for t in times[times <= burn_in]:
        run.advance(int(t) - run.state.step)
        track.append(_radii(run))
    run.advance(burn_in - run.state.step)
    run.frame()
    if protocol == "sphere":
        for t in times[times > burn_in]:
            run.advance(int(t) - run.state.step)
            track.append(_radii(run))
        return {"total_t": (rates * run.state.radius.cpu().numpy() ** 2 / np.sum(np.square(track), 2)).T}
    found, later = _window(run, rates, batch_size, window, samples, moments, set(times.tolist()))
    r = np.array(track + later)  # [time, rate, layer]
    found |= {"rate_t": (rates[:, None] / r**2).transpose(1, 2, 0), "total_t": (rates / np.square(r).sum(2)).T}
    found |= _derived(found, rates, lam, freedoms(net))
    lost = run.state.diverged.cpu().numpy() >= 0
    found = {k: np.where(lost.reshape(-1, *[1] * (v.ndim - 1)), np.nan, v) for k, v in found.items()}
    return found | {"diverged": lost.astype(float)}


def _window(run: Experiment, rates, batch_size, window, samples, moments, times: set) -> tuple[dict, list]:
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
            probes.append(_probe(run, r, batch_size))
        if run.state.step in times:
            later.append(r)
    out = {name: np.mean([p[name] for p in probes], 0) for name in probes[0]}
    out |= {"r": np.sqrt(squares), "U": run.frame().gauges["U"], "spacing": stride * FRAME * rate}
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


def _probe(run: Experiment, r: np.ndarray, batch_size: int) -> dict[str, np.ndarray]:
    """Tr Σ̃ and E|g̃|² [rate, layer] at |w_l| = 1 from fresh minibatches at the weights of this moment."""
    # another seed for each moment, none of which the training draws from
    fresh = run.system.gradients(run.state.weights, PROBE, batch_size, run.seed + 2**32 * (1 + run.state.step), run.streams)
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
