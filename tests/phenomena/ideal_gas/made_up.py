"""What the recipes of notebook 03 would return if theory were exact and noise small: data whose verdicts are known."""

import re

import numpy as np
import xarray as xr

from thermolab.phenomena.ideal_gas import network, theory

GRID = {"eta": np.geomspace(0.003, 0.1, 5), "lam": np.geomspace(0.001, 0.1, 5)}
DIMS = ("eta", "lam", "seed")


def noisy(values, scale, n_seeds=3, seed=0):
    """values [...] with Gaussian noise of a relative (or, as a second factor, absolute) scale, [..., seed]."""
    z = np.random.default_rng(seed).normal(size=(*np.shape(values), n_seeds))
    return np.asarray(values)[..., None] * (1 + scale * z)


def grid(variables, **attrs):
    return xr.Dataset(variables, coords={**GRID, "seed": np.arange(3)}, attrs=attrs)


def gas(protocol, dim=3, shift=0.0, scale=1e-4):
    """What `isotropic.stationary` would return if theory were exact and noise small."""
    state = theory.isotropic_state(protocol, GRID["eta"][:, None], GRID["lam"], dim, 1.0)
    state = {k: np.broadcast_to(v, (5, 5)) for k, v in state.items()}
    names = {"T": "T", "T_step": "T_step", "eta_eff": "eta_eff", "r_pred": "r", "p_pred": "p", "U_pred": "U", "S_pred": "S"}
    data = grid({k: (DIMS[:2], state[v]) for k, v in names.items()}, protocol=protocol, dim=dim, sigma=1.0)
    data["relaxed"] = (DIMS[:2], np.ones((5, 5), bool))
    for name, key in {"U": "U", "r": "r", "p": "p"}.items():
        data[name] = (DIMS, noisy(state[key], scale))
    data["S"] = (DIMS, state["S"][..., None] + shift + noisy(np.ones((5, 5)), scale) - 1)
    data["S_full"] = theory.full_entropy(data["S"], data["r"], dim)
    return data


def relaxing(protocol):
    time, eta, start = np.arange(1, 61) * 50, np.array([0.03, 0.1]), [0.5, 2.0]
    star = theory.radius(protocol, eta, 0.01, 3, 1.0)
    other = {"elr": "lr", "lr": "elr"}[protocol]
    laws = [
        theory.relaxation(p, time, (star[:, None] * start)[..., None], eta[:, None, None], 0.01, 2.0) for p in (protocol, other)
    ]
    dims = ("eta", "start", "time")
    return xr.Dataset(
        {
            "r": ((*dims, "seed"), noisy(laws[0], 1e-4)),
            "r_pred": (dims, laws[0]),
            "r_other": (dims, laws[1]),
            "r_star": ("eta", star),
        },
        coords={"eta": eta, "start": start, "time": time},
    )


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
    eta = np.array(network.RATES)
    trace = 40 * eta**-0.2
    dims = ("eta", "seed")
    t = eta * trace / (2 * 575)
    slow = np.isin(eta, network.SLOW)
    variables = {
        "trace": noisy(trace, 1e-3),
        "gradient_squared": noisy(0.2 * trace, 1e-3),
        "g2": noisy(1.2 * trace, 1e-3),
        "p": noisy(theory.finite_step_pressure(eta, 1.0, 1.2 * trace), 1e-3),
        "effective_dimension": noisy(50 + 0 * eta, 1e-3),
        "effective_dimension_isotropic": noisy(570 + 0 * eta, 1e-3),
        "S": noisy(2.5 * np.log(t), 1e-3),
        "drift": noisy(np.where(slow, 0.2, 1e-3), 1e-3),
    }
    return xr.Dataset({k: (dims, v) for k, v in variables.items()}, coords={"eta": eta, "seed": np.arange(3)}, attrs={"dim": 576})


def net(protocol, known):
    h, lam = np.meshgrid(GRID["eta"], GRID["lam"], indexing="ij")
    r, without = (network.predicted_radius(protocol, h, lam, known, name) for name in ("g2", "trace"))
    rate = h / r**2 if protocol == "lr" else h
    trace = network.second_moment(known, "trace")(rate)
    t = rate * trace / (2 * 575)
    data = grid({"r_pred": (DIMS[:2], r), "r_pred_without": (DIMS[:2], without), "T": (DIMS[:2], t)}, protocol=protocol, dim=576)
    data["relaxed"] = (DIMS[:2], np.ones((5, 5), bool))
    data["r"] = (DIMS, noisy(r, 1e-3))
    data["trace"] = (DIMS, noisy(trace, 1e-3))
    data["U"] = (DIMS, noisy(1 + 0 * t, 1e-3))
    data["S"] = (DIMS, noisy(2.5 * np.log(t), 1e-4))
    data["S_full"] = theory.full_entropy(data["S"], data["r"], 576)
    return data


def twin(known, dim=576, scale=1e-4):
    """What `network.gas` would return if theory were exact and noise small."""
    rates = network.settled(known)["eta"].values
    sigma = float(np.sqrt(network.settled(known)["trace"].mean() / (dim - 1)))
    cells = {k: np.geomspace(*limits) for k, limits in network.GRIDS["elr"].items()}  # at η = 0.1 this noise is near divergence
    shape = tuple(map(len, cells.values()))
    state = theory.isotropic_state("elr", cells["eta"][:, None], cells["lam"], dim, sigma)
    state = {k: np.broadcast_to(v, shape) for k, v in state.items()}
    data = xr.Dataset({k: (DIMS[:2], state[k]) for k in ("T", "p")}, coords=cells | {"seed": np.arange(3)})
    data = data.assign_attrs(protocol="elr", dim=dim, sigma=sigma)
    data["U"], data["r"] = (DIMS, noisy(state["U"], scale)), (DIMS, noisy(state["r"], scale))
    data["S"] = (DIMS, state["S"][..., None] + noisy(np.ones(shape), scale) - 1)
    data["S_full"] = theory.full_entropy(data["S"], data["r"], dim)
    data["diverged"] = (DIMS, np.zeros((*shape, 3)))
    cold = theory.entropy_vmf(rates / 2 / (dim - 1), dim)  # on the sphere Tr Σ = 1
    return data.assign_coords(rate=rates).assign(sphere_S=(("rate", "seed"), noisy(cold, scale)))


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
