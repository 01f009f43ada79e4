"""Scale-invariant networks on digits, on the unit sphere: stationary states over η, and the way there.

The width decides: a narrow net cannot learn a third of redrawn labels by heart (underparameterised, UP), a wide one
can (overparameterised, OP). All learning rates of a seed are one batch of replicas. Source: arXiv:2505.23489.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import xarray as xr

from thermolab.engine.experiment import Experiment
from thermolab.engine.recipe import Jobs, Recipe, seeds
from thermolab.instruments.temperature import gas_temperature
from thermolab.instruments.windows import FRAME, accuracy, full_gradient_squared, graph_entropy, probe, slow_windows
from thermolab.phenomena.common import validate
from thermolab.systems import data, models
from thermolab.systems.network import NetworkOnData

UP, OP = 8, 32  # widths
UP_RATES = tuple(np.geomspace(2e-3, 0.05, 6).round(6))  # U stays below log 10, that of a uniform guess
BATCH_RATES = (1.25e-3, 5e-3, 0.02, 0.08)  # at B = 32
OP_RATES = tuple(np.geomspace(1e-3, 0.1, 11).round(6))


def system(
    width: int, *, norm: str = "layer", label_noise: float = 0.3, n_data: int = 256, optimiser: str = "sgd"
) -> NetworkOnData:
    """The perceptron 64-h-h with a frozen head, every weight scale-invariant, on digits with redrawn labels."""
    if width < 4:
        raise ValueError(f"width={width} is too small; allowed: 4 or more (normalised, two neurons know one number)")
    module = models.scale_invariant_mlp((64, width, width), norm=norm)
    more = {} if optimiser == "sgd" else {"optimiser": optimiser}
    return NetworkOnData(module, data.digits(n_data, label_noise=label_noise), "sphere", **more)


def _begin(net: NetworkOnData, rates, batch_size: int, seed: int, device: str, knobs: Mapping) -> Experiment:
    """Replicas on the unit sphere, one for each rate."""
    w = net.start(torch.arange(len(rates)), seed)
    weights = w / torch.linalg.vector_norm(w, dim=1, keepdim=True)
    return Experiment(net, eta=rates, batch_size=batch_size, seed=seed, weights=weights, device=device, **knobs)


@Recipe
def stationary(
    rates=UP_RATES,
    *,
    width: int = UP,
    norm: str = "batch",
    batch_size: int = 32,
    label_noise: float = 0.3,
    n_data: int = 256,
    burn_in: int = 12_000,
    window: int = 12_000,
    samples: int = 96,
    moments: int = 100,
    optimiser: str = "sgd",
    knobs: Mapping | None = None,
    seed: int = 0,
    n_seeds: int = 5,
    device: str = "cpu",
):
    """The network at a range of learning rates after `burn_in` steps, over a window of `window` steps.

    rates: η on the unit sphere; width: h; norm: "batch" or "layer"; samples: weights per entropy window, a quarter of a
    correlation time 1/η apart; moments: of the window at which 16 fresh minibatches probe the gradient; optimiser, knobs:
    of `systems.network.NetworkOnData`, such as "momentum" and {"momentum": 0.9}.

    Returns a Dataset, dims (eta, seed): U and g2 = E|g|² over the window, accuracy on the training data at its moments,
    trace Tr Σ, gradient_squared |∇L|² and snr = |∇L|/√Tr Σ at |w| = 1, T_gas = η Tr Σ/(2(D − 1)), S: graph entropy
    (differences only; NaN where the window is too short for its stride), tau: autocorrelation time of the weights in
    samples, drift: log of U in the second half of the window over U in the first.
    Raises ValueError for settings that are out of range. Source: arXiv:2505.23489.
    """
    rates = checked(rates, window=window // FRAME, samples=samples, moments=moments, n_seeds=n_seeds)
    settings = {"rates": rates, "width": width, "norm": norm, "batch_size": batch_size, "label_noise": label_noise,
                "n_data": n_data, "burn_in": burn_in, "window": window, "samples": samples, "moments": moments,
                "optimiser": optimiser, "knobs": dict(knobs or {}), "device": str(device)}  # fmt: skip
    numbers = seeds(seed, n_seeds)
    # the compiled step is as quick for one seed; the others are as quick for all seeds as for one
    jobs = [{"seed": s, "copies": 1} for s in numbers] if optimiser == "sgd" else [{"seed": numbers[0], "copies": n_seeds}]
    parts = yield Jobs(_stationary_cells, [settings | job for job in jobs], f"networks of width {width}")
    values = {k: (("eta", "seed"), np.concatenate([p[k] for p in parts], -1)) for k in parts[0]}
    out = xr.Dataset(values, coords={"eta": rates, "seed": numbers})
    return out.assign_attrs(dim=dimension(width), width=width, norm=norm, batch_size=batch_size)


def _stationary_cells(
    *, rates, width, norm, batch_size, label_noise, n_data, burn_in, window, samples, moments, optimiser, knobs, seed, copies,
    device,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Values [rate, copy]; the copies of a rate differ in start and batches."""
    shape, rates = (len(rates), copies), np.repeat(rates, copies)
    net = system(width, norm=norm, label_noise=label_noise, n_data=n_data, optimiser=optimiser)
    run, frames, probes = _begin(net, rates, batch_size, seed, device, knobs), window // FRAME, []

    def look(k):
        if k % max(1, frames // moments) == 0:
            probes.append(probe(run, batch_size, 16) | {"accuracy": accuracy(run)})

    found = slow_windows(run, rates, burn_in, window, samples, look)
    energy = np.stack([f.gauges["U"] for f in run.history[1:]])
    found |= {"U": energy.mean(0), "g2": np.mean([f.gauges["g2"] for f in run.history[1:]], 0)}
    found["drift"] = np.log(energy[frames // 2 :].mean(0) / energy[: frames // 2].mean(0))
    found |= _derived({name: np.mean([p[name] for p in probes], 0) for name in probes[0]}, rates, width)
    return {name: value.reshape(shape) for name, value in found.items()}


@Recipe
def training(
    rates=OP_RATES,
    *,
    width: int = OP,
    norm: str = "layer",
    batch_size: int = 32,
    label_noise: float = 0.3,
    n_data: int = 256,
    steps: int = 8000,
    logs: int = 20,
    samples: int = 100,
    seed: int = 0,
    n_seeds: int = 5,
    device: str = "cpu",
):
    """The network from its random start, `logs` intervals of equal length.

    samples: weights per interval, from which its entropy comes; their stride is the same for all rates, so S compares
    along a run and not across rates.

    Returns a Dataset, dims (eta, time, seed), time in steps at the ends of the intervals: U and accuracy, S (graph entropy,
    differences only), gradient_squared |∇L|² over the whole data set, trace Tr Σ = E|g|² − |∇L|², g2 = E|g|², snr, T_gas.
    Raises ValueError for settings that are out of range. Source: arXiv:2505.23489.
    """
    rates = checked(rates, steps=steps, logs=logs, samples=samples, n_seeds=n_seeds)
    settings = {"rates": rates, "width": width, "norm": norm, "batch_size": batch_size, "label_noise": label_noise,
                "n_data": n_data, "steps": steps, "logs": logs, "samples": samples, "device": str(device)}  # fmt: skip
    parts = yield Jobs(_training_cells, [settings | {"seed": s} for s in seeds(seed, n_seeds)], f"training at width {width}")
    times = np.arange(1, logs + 1) * _every(steps, logs, samples) * samples
    out = _stack(parts, ("eta", "time"), {"eta": rates, "time": times}, seeds(seed, n_seeds))
    return out.assign_attrs(dim=dimension(width), width=width, norm=norm, batch_size=batch_size)


def _training_cells(
    *, rates, width, norm, batch_size, label_noise, n_data, steps, logs, samples, seed, device
) -> dict[str, np.ndarray]:
    net = system(width, norm=norm, label_noise=label_noise, n_data=n_data)
    run, every = _begin(net, rates, batch_size, seed, device, {}), _every(steps, logs, samples)
    path, rows = np.empty((samples, *run.state.weights.shape), np.float32), []
    for _ in range(logs):
        energy, g2, full, right = [], [], [], []
        for k, frame in zip(range(samples), run.frames(every), strict=False):
            path[k] = run.state.weights.cpu().numpy()
            energy.append(frame.gauges["U"])
            g2.append(frame.gauges["g2"])
            if k % max(1, samples // 10) == 0:
                full.append(full_gradient_squared(run))
                right.append(accuracy(run))
        row = {"U": np.mean(energy, 0), "g2": np.mean(g2, 0), "gradient_squared": np.mean(full, 0)}
        row |= {"accuracy": np.mean(right, 0), "S": np.array([graph_entropy(path[:, i]).value for i in range(len(rates))])}
        rows.append(_derived(row | {"trace": np.maximum(row["g2"] - row["gradient_squared"], 0)}, rates, width))
    return {name: np.stack([row[name] for row in rows], 1) for name in rows[0]}


def _every(steps: int, logs: int, samples: int) -> int:
    """Steps between the samples of an interval: at least one, so that a short run is longer than asked for."""
    return max(1, steps // logs // samples)


def by_batch(sizes=(8, 32, 128), rates=BATCH_RATES, *, steps: int = 8000, **settings) -> dict:
    """`stationary` at equal η/B for each batch size, to be awaited `together`; rates and steps are those of B = 32.

    Smaller batches take smaller steps, and as many more of them: burn-in and window last equally long in η · steps.
    """
    return {
        b: stationary(
            tuple(np.asarray(rates) * b / 32), batch_size=b, burn_in=steps * 32 // b, window=steps * 32 // b, **settings
        )
        for b in sizes
    }


def by_width(widths=(8, 12, 16, 24, 32), rates=(4e-3, 1.6e-2), **settings) -> dict:
    """`training` at each width, to be awaited `together`."""
    return {h: training(rates, width=h, **settings) for h in widths}


def by_optimiser(rates=(2e-3, 4e-3), adam=(2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2), *, momentum: float = 0.9, **settings) -> dict:
    """`stationary` with plain SGD, momentum and Adam, to be awaited `together`.

    Momentum runs at (1 − μ) times the rates of plain SGD, and at the first of these as it is. Both take three times as many
    seeds as Adam: at low rates the basins in which single runs end differ by more than momentum from plain SGD.
    """
    many = settings | {"n_seeds": 3 * settings.get("n_seeds", 5)}
    heavy = tuple((1 - momentum) * np.asarray(rates)) + tuple(rates[:1])
    return {
        "plain": stationary(rates, **many),
        "momentum": stationary(heavy, optimiser="momentum", knobs={"momentum": momentum}, **many),
        "adam": stationary(adam, optimiser="adam", **settings),
    }


def over_width(widths: Mapping[int, xr.Dataset], name: str) -> xr.DataArray:
    """One variable at the end of training at each width, [width, eta, seed]."""
    return xr.concat([d[name].isel(time=-1, drop=True) for d in widths.values()], dim="width").assign_coords(width=[*widths])


def dimension(width: int) -> int:
    """D, the number of trained weights."""
    return 64 * width + width * width


def _derived(found: dict, rates, width: int) -> dict:
    """Signal-to-noise ratio and gas temperature beside what they come from."""
    snr = np.sqrt(np.maximum(found["gradient_squared"], 0) / np.where(found["trace"] > 0, found["trace"], np.nan))
    return found | {"snr": snr, "T_gas": gas_temperature(rates, found["trace"], dimension(width))}


def checked(rates, **counts: int) -> np.ndarray:
    """Learning rates as an array. Raises ValueError, one line, for a rate that is not positive or a count below 1."""
    validate.counts(**counts)
    return validate.all_positive("rates", rates)


def _stack(parts, dims: tuple[str, ...], coords: dict, numbers: list[int]) -> xr.Dataset:
    """One Dataset from those of the seeds."""
    variables = {k: ((*dims, "seed"), np.stack([p[k] for p in parts], -1)) for k in parts[0]}
    return xr.Dataset(variables, coords={**coords, "seed": numbers})
