"""What the recipes of notebook 03 would return if theory were exact and noise small: data whose verdicts are known."""

import re

import numpy as np
import xarray as xr

from thermolab.phenomena.ideal_gas import isotropic, network, theory
from thermolab.phenomena.ideal_gas import reference as ref

GRID = {"eta": np.geomspace(0.003, 0.1, 5), "lam": np.geomspace(0.001, 0.1, 5)}
DIMS = ("eta", "lam", "seed")


def noisy(values, scale, n_seeds=3, seed=0):
    """values [...] with Gaussian noise of a relative (or, as a second factor, absolute) scale, [..., seed]."""
    z = np.random.default_rng(seed).normal(size=(*np.shape(values), n_seeds))
    return np.asarray(values)[..., None] * (1 + scale * z)


def grid(variables, **attrs):
    return xr.Dataset(variables, coords={**GRID, "seed": np.arange(3)}, attrs=attrs)


def gas(protocol, dim=3, shift=0.0, sigma=1.0, cells=GRID):
    """What `isotropic.stationary` would return if theory were exact and noise small; shift: of the entropy."""
    shape = tuple(map(len, cells.values()))
    state = theory.isotropic_state(protocol, cells["eta"][:, None], cells["lam"], dim, sigma)
    state = {k: np.broadcast_to(v, shape) for k, v in state.items()}
    entropy = state["S"][..., None] + shift + noisy(np.ones(shape), 1e-4) - 1
    data = xr.Dataset(
        {k: (DIMS[:2], state[v]) for k, v in isotropic.PREDICTED.items()}
        | {k: (DIMS, noisy(state[k], 1e-4)) for k in ("U", "r", "p")}
        | {"S": (DIMS, entropy), "relaxed": (DIMS[:2], np.ones(shape, bool))},
        coords=cells | {"seed": np.arange(3)},
        attrs={"protocol": protocol, "dim": dim, "sigma": sigma},
    )
    return data.assign(S_full=theory.full_entropy(data["S"], data["r"], dim))


def relaxing(protocol):
    time, eta, start = np.arange(1, 61) * 50, np.array([0.03, 0.1]), [0.5, 2.0]
    star, dims = theory.radius(protocol, eta, 0.01, 3, 1.0), ("eta", "start", "time")
    first = (star[:, None] * start)[..., None]
    law = {p: theory.relaxation(p, time, first, eta[:, None, None], 0.01, 2.0) for p in ("elr", "lr")}
    known = {"r_pred": (dims, law.pop(protocol)), "r_other": (dims, *law.values()), "r_star": ("eta", star)}
    measured = {"r": ((*dims, "seed"), noisy(known["r_pred"][1], 1e-4))}
    return xr.Dataset(known | measured, coords={"eta": eta, "start": start, "time": time})


def hot():
    t = np.array([0.02, 0.2, 2.0])
    vmf = theory.energy_vmf(t, 10)
    return xr.Dataset(
        {"U": (("temperature", "seed"), noisy(vmf, 1e-4)), "U_vmf": ("temperature", vmf),
         "U_small": ("temperature", theory.energy_small_t(t, 10))},
        coords={"temperature": t}, attrs={"dim": 10},
    )  # fmt: skip


def reference():
    """A network whose noise falls with the rate, with a signal of a fifth and an entropy that hardly knows of T."""
    eta = np.array(ref.RATES)
    trace = 40 * eta**-0.2
    variables = {
        "trace": noisy(trace, 1e-3),
        "gradient_squared": noisy(0.2 * trace, 1e-3),
        "g2": noisy(1.2 * trace, 1e-3),
        "p": noisy(theory.finite_step_pressure(eta, 1.0, 1.2 * trace), 1e-3),
        "effective_dimension": noisy(50 + 0 * eta, 1e-3),
        "effective_dimension_isotropic": noisy(570 + 0 * eta, 1e-3),
        "S": noisy(2.5 * np.log(eta * trace / (2 * 575)), 1e-3),
        "pull": noisy(eta / 2 * 30 * np.where(np.isin(eta, ref.SLOW), -2, 1), 1e-3),
        "push": noisy(30 + 0 * eta, 1e-3),
        "drift": noisy(np.where(np.isin(eta, ref.SLOW), 0.2, 1e-3), 1e-3),
    }
    variables = {k: (("eta", "seed"), v) for k, v in variables.items()}
    return xr.Dataset(variables, coords={"eta": eta, "seed": np.arange(3)}, attrs={"dim": 576})


def net(protocol, known):
    """A network near the minimum of its G, not in it: its loss rises with T more steeply than its entropy."""
    cells = {k: np.geomspace(*limits) for k, limits in network.GRIDS[protocol].items()}
    h, lam = np.meshgrid(*cells.values(), indexing="ij")
    r, without = (ref.predicted_radius(protocol, h, lam, known, name) for name in ("g2", "trace"))
    rate = h / r**2 if protocol == "lr" else h
    trace = ref.second_moment(known, "trace")(rate)
    t = rate * trace / (2 * 575)
    predicted = {"r_pred": r, "r_pred_without": without, "eta_eff": rate + 0 * r, "T": t, "relaxed": np.ones((5, 5), bool)}
    measured = {"r": r, "trace": trace, "gradient_squared": 0.2 * trace, "U": 1.6 * 575 * t}
    measured = {k: noisy(v, 1e-3 if k != "U" else 1e-5) for k, v in measured.items()} | {"S": noisy(575 * np.log(t), 1e-7)}
    if protocol == "lr":
        measured |= {"balance": noisy(1 + 0 * t, 1e-3), "balance_early": noisy(1.5 + 0 * t, 1e-3)}
    variables = {k: (DIMS[:2], v) for k, v in predicted.items()} | {k: (DIMS, v) for k, v in measured.items()}
    data = xr.Dataset(variables, coords={**cells, "seed": np.arange(3)}, attrs={"protocol": protocol, "dim": 576})
    return data.assign(S_full=theory.full_entropy(data["S"], data["r"], 576))


def twin(known):
    """What `twin.gas` would return if theory were exact and noise small."""
    rates, trace = ref.settled(known)["eta"].values, ref.settled(known)["trace"].mean()
    cells = {k: np.geomspace(*limits) for k, limits in network.GRIDS["elr"].items()}  # at η = 0.1 this noise is near divergence
    cold = theory.entropy_vmf(rates / 2 / 575, 576)  # on the sphere Tr Σ = 1
    data = gas("elr", 576, sigma=float(np.sqrt(trace / 575)), cells=cells)
    return data.assign_coords(rate=rates).assign(sphere_S=(("rate", "seed"), noisy(cold, 1e-4)))


def epochs():
    """Variances of SGD with and without replacement where noise does not depend on the weights."""
    curvatures = np.array([0.2, 0.8, 3.2])
    known = np.stack([theory.epoch_variance(0.01 * h, 50) * theory.contraction(0.01 * h) for h in curvatures])
    known, dims = np.stack([1 + 0 * known, known]), ("batches", "curvature", "position")
    return xr.Dataset(
        {"variance": ((*dims, "seed"), noisy(known, 1e-2)), "predicted": (dims, known)},
        coords={"batches": ["with", "without"], "curvature": curvatures, "position": np.arange(50), "seed": np.arange(3)},
        attrs={"eta": 0.01, "length": 50},
    )


def everything():
    """All datasets of the notebook, by its names."""
    known = reference()
    anisotropic = gas("elr", 10, shift=theory.anisotropic_entropy_shift(theory.power_spectrum(10, 2.0)))
    anisotropic["spectrum"] = ("coordinate", theory.power_spectrum(10, 2.0))
    return {
        "iso": {k: gas(k) for k in theory.PROTOCOLS},
        "here": gas("lr").isel(eta=[1], lam=[1]),
        "relaxation": {k: relaxing(k) for k in ("elr", "lr")},
        "hot": hot(),
        "anisotropic": anisotropic,
        "reference": known,
        "net": {k: net(k, known) for k in ("elr", "lr")},
        "perfect": twin(known),
        "epochs": epochs(),
    }


def spoil(found, path, variable, change):
    """Change one variable of the dataset that stands at a path of names."""
    for name in path:
        found = found[name]
    found[variable] = change(found[variable])


def check_docstring(recipe, data, needed):
    """A recipe's docstring lists the variables of its dataset, and these hold what is needed."""
    documented = recipe.__doc__.split("Returns a Dataset")[1]
    assert set(needed.split()) <= set(data.data_vars)
    for name in data.data_vars:
        assert re.search(rf"\b{name}\b", documented), name
