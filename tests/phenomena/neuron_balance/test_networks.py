"""Networks on their way to balance at tiny settings, against plain loops, and their claims on data made up by hand."""

import numpy as np
import pytest
import torch
import xarray as xr
from claimed import FAILS, HOLDS, verdicts

from thermolab.engine.experiment import Experiment
from thermolab.instruments import neurons
from thermolab.phenomena.neuron_balance import networks, theory
from thermolab.systems import teacher_student

SHORT = {"span": 0.05, "logs": 4, "moments": 2, "batches": 4, "copies": 2, "n_seeds": 2}
ARMS = ((0.02, 8), (0.01, 4))


@pytest.fixture(scope="module")
def runs():
    return networks.relu.run(ARMS, **SHORT)


def test_a_start_off_balance_computes_what_the_teacher_does():
    net, weights = networks.off_balance((5, 4, 3), "relu", sigma=0.0, strength=2.0, spread=0.8, copies=3, seed=1)
    x, y = net.data.x[:50], net.data.y[:50]
    first, second = teacher_student.weight_matrices(net, weights)
    h = torch.relu(torch.cat([x.double(), torch.ones(50, 1)], 1) @ first.mT)
    np.testing.assert_allclose(h @ second.mT, y.double().expand(3, -1, -1), atol=1e-5)
    assert np.ptp(neurons.neurons(first, second)[1]) > 1  # and each is scaled differently


def test_relu_against_a_plain_loop(runs):
    """Rescaling changes nothing but |u|² and |w|², by η²(|g_u|² - |g_w|²) at each step: in the mean over a run."""
    assert set(runs) == {"g2_in", "g2_out", "in2", "out2"}
    assert dict(runs.sizes) == {"arm": 2, "time": 5, "seed": 2, "copy": 2, "neuron": 4}
    np.testing.assert_allclose(runs["time"], np.linspace(0, 0.05, 5))
    net, weights = networks.off_balance((5, 4, 4), "relu", sigma=1.0, strength=2.0, spread=0.7, copies=2, seed=0)
    run = Experiment(net, eta=0.01, batch_size=4, weights=weights, seed=0)
    in2, out2 = neurons.neurons(*teacher_student.weight_matrices(net, weights))
    start = runs.isel(arm=1, time=0, seed=0)
    np.testing.assert_allclose(start["in2"], in2)
    np.testing.assert_allclose(start["out2"], out2)
    ends = []
    for step in range(1, 2001):  # 0.05 · 4/0.01²
        run.advance(1)
        if step in (1750, 2000):
            ends.append(neurons.neurons(*teacher_student.weight_matrices(net, run.state.weights)))
    np.testing.assert_allclose(runs["in2"].isel(arm=1, time=-1, seed=0), np.mean([e[0] for e in ends], 0), rtol=1e-6)


def test_results_of_a_seed_do_not_depend_on_their_number(runs):
    one = networks.relu.run(ARMS, **(SHORT | {"n_seeds": 1}))
    xr.testing.assert_equal(one, runs.isel(seed=[0]))


def test_weight_decays_come_with_all_arms():
    found = networks.relu.run(ARMS, lams=(0.0, 0.1), **SHORT | {"logs": 1, "moments": 1, "n_seeds": 1})
    cells = list(zip(*(found[name].values.tolist() for name in ("eta", "batch_size", "lam")), strict=True))
    assert cells == [(0.02, 8, 0.0), (0.01, 4, 0.0), (0.02, 8, 0.1), (0.01, 4, 0.1)]


def test_relu_comes_into_balance_and_tanh_does_not():
    short = {"span": 0.6, "logs": 6, "moments": 8, "n_seeds": 2}
    relu, tanh = (networks.relu.run(((0.03, 8),), activation=name, **short) for name in ("relu", "tanh"))
    first = networks.log_ratio(relu).isel(time=0)
    assert np.sqrt((first**2).mean()) > 1
    assert networks.spread_of_ratios(relu).max() < 0.2 < networks.spread_of_ratios(tanh).max()


def test_weight_decay_shifts_the_balance_of_a_linear_network():
    found = networks.relu.run(
        ((0.05, 8),), activation="linear", lams=(0.0, 0.1), d_x=6, width=2, d_y=2, span=4.0, logs=8, n_seeds=2
    )
    none, some = (networks.shift(found.isel(arm=[k]), np.ones(1)).mean() for k in (0, 1))
    assert abs(none) < 0.5  # an eighth of what decay shifts by, 2λ/η = 4
    assert some == pytest.approx(theory.decay_shift(0.05, 0.1), rel=0.15)


def test_what_a_stationary_state_has():
    """Of norms at rest: what a step adds is what decay takes away, whatever the gradients are."""
    here, free = (networks.relu.run(((0.02, 8),), lams=(lam,), **SHORT) for lam in (0.05, 0.0))
    known, a = networks.predicted(here), 0.02 * 0.05
    added = 0.02**2 * known["gap"]
    taken = (1 - (1 - a) ** 2) * (here["in2"] - here["out2"])
    xr.testing.assert_allclose(added, taken.transpose(*added.dims))
    inside = here["g2_in"] > known["gap"]
    np.testing.assert_array_equal(np.isnan(known["log_ratio"]), ~inside.transpose(*known["log_ratio"].dims))
    known = networks.predicted(free)
    assert float(abs(known["gap"]).max()) == float(abs(known["log_ratio"]).max()) == 0


def test_the_predicted_log_ratio_is_that_of_the_predicted_gap():
    """E|g_w|² = E|g_u|² - gap, so its logarithm over that of E|g_u|² is neither doubled nor halved."""
    known, found = networks.predicted(here := shifted(1.0)), here["g2_in"] * np.exp(networks.predicted(here)["log_ratio"])
    np.testing.assert_allclose(found, (here["g2_in"] - known["gap"]).transpose(*found.dims))
    assert float(abs(known["log_ratio"]).max()) > 0.01


PAIRS = "a list of 1 or more, each a pair (η, B) of a positive number and a whole one"


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("activation", "gelu", "relu, tanh, linear"),
        ("copies", 0, "a whole number, 1 or more"),
        ("lams", (-0.1,), "0 or a positive number"),
        ("sigma", -1.0, "0 or a positive number"),
        ("spread", -1.0, "0 or a positive number"),
        ("span", 0.0, "a positive number"),
        ("strength", 0.0, "a positive number"),
        *(("arms", arms, PAIRS) for arms in ((), 3, (0.02,), ((0.02, 8, 1),), ((0.02, 8.5),), ((0.02, 0),), ((0.0, 8),))),
    ],
)
def test_settings_out_of_range_are_refused_in_one_line(name, value, allowed):
    with pytest.raises(ValueError, match=r"^[^\n]*$") as error:
        networks.relu.run(**{name: value})
    assert str(error.value).startswith(f"{name}={value!r} ")
    assert allowed in str(error.value).partition("; allowed: ")[2]


# --- claims on data made up by hand -----------------------------------------------------------------------------
def curves(rate, rng, arms=((0.02, 8), (0.02, 32), (0.01, 8)), noise=0.0, n_seeds=5):
    """Log ratios that start at ±1.5 and decay as e^(-rate(η, B) · time), with noise that differs from seed to seed."""
    time, start = np.linspace(0, 1, 21), rng.choice([-1.5, 1.5], (n_seeds, 2, 4))
    ratio = np.stack([np.exp(-rate(eta, b) * time)[:, None, None, None] * start for eta, b in arms])
    ratio = ratio + noise * rng.normal(size=(len(arms), 1, n_seeds, 1, 1)) * (time > 0)[:, None, None, None]
    dims = ("arm", "time", "seed", "copy", "neuron")
    eta, batch_size = (("arm", [a[k] for a in arms]) for k in (0, 1))
    coords = {"time": time, "eta": eta, "batch_size": batch_size, "lam": ("arm", [0.0] * len(arms))}
    return xr.Dataset({"g2_in": (dims, np.ones_like(ratio)), "g2_out": (dims, np.exp(ratio))}, coords=coords)


def test_relu_and_time_on_made_up_curves():
    rng = np.random.default_rng(0)
    good, stuck = curves(lambda eta, b: 8, rng), curves(lambda eta, b: 0.1, rng)
    assert verdicts(networks.neurons_balance(good, stuck)) == HOLDS
    assert verdicts(networks.one_clock(good)) == HOLDS
    # decays that depend on ηt alone: not a function of η²t/B, and the control would hold
    assert verdicts(networks.one_clock(curves(lambda eta, b: 4e-3 * b / eta, rng))) == FAILS
    noisy = curves(lambda eta, b: 8, rng, noise=0.25)
    assert networks.neurons_balance(noisy, stuck).check.verdict != "holds"


def shifted(factor, lams=(0.0, 0.02, 0.06), eta=0.04, noise=0.0):
    """|g_u|² - |g_w|² = factor · (2a - a²)/η² · (|u|² - |w|²)."""
    rng, dims = np.random.default_rng(1), ("arm", "time", "seed", "copy", "neuron")
    out2 = rng.uniform(1, 2, (len(lams), 4, 5, 2, 3))
    in2 = out2 + rng.uniform(0.5, 2, out2.shape)
    g2_in = 50 + factor * theory.decay_shift(eta, np.array(lams))[:, None, None, None, None] * (in2 - out2)
    g2_in = g2_in + noise * rng.normal(size=(len(lams), 1, 5, 1, 1))
    values = {"in2": in2, "out2": out2, "g2_in": g2_in, "g2_out": np.full_like(in2, 50.0)}
    # the shift is linear in |u|² - |w|² at each moment, so it is in the mean
    coords = {"eta": ("arm", [eta] * len(lams)), "lam": ("arm", list(lams))}
    return xr.Dataset({k: (dims, v) for k, v in values.items()}, coords=coords)


def test_weight_decay_on_made_up_numbers():
    assert verdicts(networks.decay_shifts(shifted(1.0, noise=0.01))) == HOLDS
    assert networks.decay_shifts(shifted(0.5, noise=0.01)).check.verdict == "fails"  # λ/η in place of 2λ/η
    assert networks.decay_shifts(shifted(1.0, noise=0.5)).check.verdict == "inconclusive"
