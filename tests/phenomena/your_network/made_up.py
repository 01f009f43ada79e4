"""A sweep of a network that obeys every law, made up; and what breaks one of them."""

import numpy as np
import xarray as xr

from thermolab.phenomena.your_network import theory

ETA, SEEDS, LAM, DIM = np.array([0.1, 0.14, 0.2, 0.28, 0.4]), 5, 0.01, 100


def near(values, spread=0.01, seed=0):
    """[eta, seed], each seed by a little off."""
    rng = np.random.default_rng(seed)
    return np.asarray(values, float)[:, None] * (1 + spread * rng.standard_normal((len(ETA), SEEDS)))


def per_row(values, seed):
    """[eta, seed, row] of numbers [row]."""
    return np.stack([near(np.full(len(ETA), value), 0.003, seed + i) for i, value in enumerate(values)], -1)


def trained(**changed) -> xr.Dataset:
    """The dataset of recipe `trained`: a scale-invariant group and another, a pair and a neighbour."""
    a = theory.decay(ETA, LAM)[:, None]
    w2, g2 = per_row((4.0, 3.0), 1), per_row((1.0, 1.0), 4)
    g2[..., 0] = a / ETA[:, None] ** 2 * w2[..., 0] * near(np.ones(5), 0.005, 9)
    inside, outside = per_row((2.0, 2.0), 11), per_row((1.0, 1.0), 13)
    g_out = per_row((50.0, 50.0), 15)
    g_in = g_out * np.array([1.0, 4.0]) + (a / ETA[:, None] ** 2)[..., None] * (inside - outside)
    temperature, rows = 1e-4 * ETA, ("eta", "seed", "group")
    data = {
        "w2": (rows, w2), "g2": (rows, g2), "w2_early": (rows, w2), "g2_early": (rows, 9 * g2),
        "identity": (rows, per_row((1e-4, 5.0), 20)),
        "in2": (("eta", "seed", "pair"), inside), "out2": (("eta", "seed", "pair"), outside),
        "g2_in": (("eta", "seed", "pair"), g_in), "g2_out": (("eta", "seed", "pair"), g_out),
        "pair_identity": (("eta", "seed", "pair"), per_row((1e-5, 3.0), 25)),
    }  # fmt: skip
    for name in ("in2", "out2", "g2_in", "g2_out"):
        data[f"{name}_early"] = (data[name][0], data[name][1] * (3 if name == "g2_in" else 1))
    flat = {
        "pull": near(np.full(5, 0.02), 0.01, 30), "drive": near(np.full(5, 0.02), 0.01, 31),
        "pull_early": near(np.full(5, -0.1)), "drive_early": near(np.full(5, 0.02)),
        "U": near(0.5 + 300 * temperature * DIM, 0.001, 32), "S": 1 + DIM / 2 * np.log(near(temperature, 0.01, 33)),
        "S_gas": 2 + DIM / 2 * np.log(near(ETA, 0.01, 34)),
        "trace": near(2 * DIM * temperature / ETA, 0.001, 35), "snr": near(0.3 * np.sqrt(ETA), 0.01, 36),
        "snr_gas": near(np.sqrt(ETA), 0.01, 37), "sharpness": near(1.4 / ETA, 0.02, 38),
        "sharpness_start": near(np.full(5, 1.0)),
        "cka": near(np.full(5, 0.8)), "cka_start": near(np.full(5, 0.2)), "cka_null": near(np.full(5, 0.01)),
    }  # fmt: skip
    data |= {name: (("eta", "seed"), values) for name, values in flat.items()}
    coords = {"eta": ETA, "seed": range(SEEDS), "group": ["0", "2"], "invariant": ("group", [True, False])}
    coords |= {"pair": ["2 -> 4", "0 -> 2"], "reason": ("pair", ["", "normalisation"])}
    attrs = {
        "lam": LAM,
        "batch_size": 16,
        "dim": DIM,
        "no_pairs": "",
        "optimiser": "sgd",
        "protocol": "lr",
        "replacement": 1,
        "draws": 0,
    }
    return xr.Dataset(data, coords, attrs | changed)


def double(**changed) -> xr.Dataset:
    """The dataset at twice the batch size, at η and 2η: it has the energies of η/2 and η."""
    rates = ETA[[2, 4]]
    energies = np.stack([near(np.full(5, 0.5 + 300e-4 * DIM * eta / 2), 0.002, i)[0] for i, eta in enumerate(rates)])
    return xr.Dataset({"U": (("eta", "seed"), energies)}, {"eta": rates, "seed": range(SEEDS)}, trained(**changed).attrs)
