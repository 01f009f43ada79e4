"""Datasets made up by hand, whose claims are known, and runs begun by hand."""

import math
import re

import numpy as np
import torch
import xarray as xr

from thermolab.engine.experiment import Experiment
from thermolab.phenomena.temperature_collapse import networks, stationary
from thermolab.phenomena.temperature_collapse import plateau as saddle

OP_RATES = tuple(np.geomspace(1e-3, 0.1, 11))
FAST = {"eta": (0.03, 0.1, 0.94, 0.97, 1.03, 1.1), "replicas": 64, "steps": 1600}  # of the toy's fall
UNEVEN = np.array([[1.0, 0.2, 0.3], [-0.4, 1.0, 0.2], [-0.5, -0.9, 0.5], [0.3, -0.8, -0.1]])
FOUR = np.array([[1, 0, 0, 0.3], [0, 1, 0, 0.2], [0, 0, 1, 0.1], [1, 1, 1, -0.2], [1, -1, 0.5, 0.3]])
ENTROPY = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])


def undocumented(recipe, data) -> list[str]:
    """The variables of a dataset that the docstring of its recipe does not list."""
    listed = recipe.__doc__.split("Returns a Dataset")[1]
    return [name for name in data.data_vars if not re.search(rf"\b{name}\b", listed)]


def begin(width, norm, seed, rates, batch_size=32, n_data=64):
    """The run behind a recipe of networks, started by hand."""
    net = networks.system(width, norm=norm, n_data=n_data)
    w = net.start(torch.arange(len(rates)), seed)
    return Experiment(net, eta=rates, batch_size=batch_size, seed=seed, weights=w / w.norm(dim=1, keepdim=True))


def curve(energy, entropy, **more):
    n = len(energy)
    variables = {"U": energy, "S": entropy, **more}
    data = xr.Dataset({k: ("eta", np.asarray(v, float)) for k, v in variables.items()}, {"eta": np.geomspace(0.01, 0.1, n)})
    return data


def noisy(mean, n=3, size=1e-4):
    """n seeds that scatter by a share `size` about a mean."""
    rng = np.random.default_rng(1)
    return xr.Dataset(
        {k: ((*v.dims, "seed"), v.values[..., None] * (1 + size * rng.normal(size=(*v.shape, n)))) for k, v in mean.items()},
        {**mean.coords, "seed": np.arange(n)},
    )


def states(n=8, c=20.0, gas=1.0, snr=0.5, start=2e-3):
    """Stationary states with T = c η: S = log η · a, dU = T dS; snr ~ η^snr."""
    eta, a = np.geomspace(start, 25 * start, n), 0.05
    more = {"S": a * np.log(eta), "T_gas": gas * c * eta, "snr": eta**snr}
    return noisy(curve(0.5 + c * a * eta, more.pop("S"), **more).assign_coords(eta=eta), size=1e-5)


def trained(collapses, power=1.0, snr=0.0, n_time=20, rates=OP_RATES):
    """Training: where it collapses (η below 5e-3) T and U fall by decades in time, elsewhere they stay."""
    eta, time = np.array(rates), np.arange(1, n_time + 1) * 10
    decades = np.where((eta < 5e-3)[:, None] & collapses, -8.0, -0.2) * np.linspace(0, 1, n_time)
    signal = 10.0 ** (decades / 2) * (1 + 0 * eta[:, None])
    entropy = decades * 50 * math.log(10)
    temperature = eta[:, None] * 10.0**decades
    energy = np.cumsum(np.concatenate([np.full((len(eta), 1), 1.0), np.diff(10.0**decades)], 1), 1)
    power = np.where((eta < 5e-3)[:, None] & collapses, power, 0.3)  # the other rates tell nothing of it
    known = np.where((eta < 5e-3)[:, None] & collapses, 1.0, 0.6) + 0 * decades
    variables = {"U": energy, "S": entropy, "T_gas": temperature, "accuracy": known, "gradient_squared": signal**2,
                 "g2": signal ** (2 * power), "snr": eta[:, None] ** snr + 0 * decades}  # fmt: skip
    mean = xr.Dataset({k: (("eta", "time"), v) for k, v in variables.items()}, {"eta": eta, "time": time})
    data = noisy(mean, size=1e-6).assign_attrs(n_data=256)
    return data.assign(accuracy=data["accuracy"].clip(max=1), U_min=0.0)


def batches(small=0.0, large=0.0, slope=10.0):
    """U at equal η/B for B = 8, 32, 128: those of 8 off by a share `small`, those of 128 by `large` at high η."""
    rates, found = np.array(stationary.BATCH_RATES), {}
    for b in (8, 32, 128):
        u = 0.5 + slope * rates
        u = u * (1 + small) if b == 8 else u * (1 + np.array([0.5, 0.5, large, large])) if b == 128 else u
        found[b] = noisy(curve(u, rates).assign_coords(eta=rates * b / 32))
    return found


def widths(low=1e-4, high=1.0, wide=1.0, known=(0.5, 0.9, 1.0, 1.0), cold=2):
    """Training at widths 8, 16, 24, 32 and two rates.

    T of the widest is lower by the factors low and high, from the width number `cold` on; known: accuracies at the lower rate.
    """
    found = {}
    for i, h in enumerate((8, 16, 24, 32)):
        data = trained(collapses=True, power=wide if h == 32 else 0.7, rates=(4e-3, 1.6e-2))
        factors = (low, high) if i >= cold else (1.0, 1.0)
        temperature = 1e-3 * xr.DataArray([*factors], dims="eta") * (1 + 0 * data["T_gas"])
        accuracy = xr.DataArray([known[i], 0.5], dims="eta") * (1 + 0 * data["T_gas"])
        found[h] = data.assign(T_gas=temperature.transpose(*data["T_gas"].dims), accuracy=accuracy.transpose(*data["T_gas"].dims))
    return found


def two_points(power=1.0):
    """The fall of two points: the exponent below η = 0.5, with a scatter of 1 % over three seeds."""
    return xr.Dataset({"power": (power + xr.DataArray([-0.01, 0.0, 0.01], dims="seed")).expand_dims(eta=[0.1, 0.3, 0.9])})


def convnets(narrow, wide, redrawn):
    """T at the lower rate falls by these decades in three logs; at the higher it stays."""
    arms = {"narrow": narrow, "wide": wide, "redrawn": redrawn}
    eta, time = np.array([2e-3, 2e-2]), np.array([10, 20, 30, 40])
    t = [[[1e-2, *[1e-2 * 10.0**-fall] * 3], [0.1] * 4] for fall in arms.values()]
    return noisy(xr.Dataset({"T_gas": (("arm", "eta", "time"), t)}, {"arm": list(arms), "eta": eta, "time": time}))


def ordinary(**changes) -> xr.Dataset:
    """A network that obeys every claim, with a scatter of 0.1 % over four seeds."""
    rng, eta = np.random.default_rng(0), np.geomspace(0.1, 4, 8)
    scatter = xr.DataArray(1 + 1e-3 * rng.normal(size=(8, 4)), dims=("eta", "seed"))
    s = xr.DataArray(np.log(eta), dims="eta")
    ones = xr.DataArray(np.ones((8, 4, 2)), dims=("eta", "seed", "layer"))
    noise = xr.DataArray(rng.normal(size=(8, 4)), dims=("eta", "seed"))
    data = {
        "U": np.exp(s) + 3 + 0 * scatter, "S": s + 0 * scatter, "free_U": 1 + 1e-3 * noise, "free_S": noise[::-1] + 0 * noise,
        "T_layer": ones * scatter, "r": ones * scatter, "r_pred": 1.5 * ones, "balance": scatter, "balance_early": scatter / 2,
    }  # fmt: skip
    return xr.Dataset(data, {"eta": eta, "seed": np.arange(4)}).assign(changes)


def plateau(factor=1.0):
    """A plateau at a multiple of its temperature, whose frozen weights move first and whose S follows U; open_: no plateau."""
    eta, scatter = np.array(saddle.RATES), 1 + 1e-3 * np.arange(-1, 2)
    t = xr.DataArray(saddle.temperature(eta, 16), dims="eta")
    warm = factor * t * xr.DataArray(scatter, dims="seed")
    exits = xr.DataArray(np.full((4, 3, 5), 6.0), dims=("eta", "seed", "replica")) + xr.DataArray(scatter, dims="seed")
    data = {
        "T": t,
        "U": saddle.plateau_loss() + 3 * warm,
        "S": saddle.entropy_of(warm),
        "open_U": 0.1 + 3 * warm,
        "open_S": 0 * warm,
    }
    data |= {"U_exit": exits, "S_exit": exits + 0.5, "frozen_exit": exits - 4, "U_t": exits.expand_dims(window=14)}
    return xr.Dataset(data, {"eta": eta, "seed": np.arange(3)})


def heavy(scaled=1.05, same=2.0):
    """Plain SGD at two rates, and momentum at a tenth of them and at the first, with these multiples of its U."""
    rates = np.array([4e-3, 8e-3])
    plain = noisy(curve([0.5, 0.6], [0.0, 1.0]).assign_coords(eta=rates))
    u = np.array([0.5 * scaled, 0.6 * scaled, 0.5 * same])
    return plain, noisy(curve(u, [0.0, 1.0, 2.0]).assign_coords(eta=[*(0.1 * rates), rates[0]]))


def networks_as_registered():
    """Datasets of the networks on which each claim comes out as the register expects."""
    plain, momentum = heavy()
    layers = xr.DataArray([1.0, 2.0], dims="layer")
    free, sizes = ordinary(), batches()
    hot = sizes[128]["U"] * xr.DataArray([1 / 1.5, 1 / 1.5, 0.7, 0.7], dims="eta")  # those of B = 32, and at large η less
    sizes[128] = sizes[128].assign(U=hot)
    return {
        "up": states(), "layer": states(snr=0.0).isel(eta=slice(3)), "adam": states(n=5), "plain": plain, "momentum": momentum,
        "up_run": trained(collapses=False), "op_run": trained(collapses=True, power=0.85), "batches": sizes,
        "widths": widths(wide=0.85), "convnets": convnets(narrow=0, wide=3, redrawn=0.2), "plateau": plateau(),
        "ordinary": free.assign(T_layer=free["T_layer"] * layers, r_pred=free["r"] / free["r"]),
    }  # fmt: skip
