"""Balance on its clock: flow and momentum at small sizes against what is exact, claims and arrivals on data made up by hand."""

import numpy as np
import pytest
import torch
import xarray as xr
from claimed import HOLDS, verdicts

from thermolab.engine.experiment import Experiment
from thermolab.instruments import symmetry
from thermolab.phenomena.neuron_balance import architectures, clock, learners, theory
from thermolab.systems.full_batch import FullBatch

SMALL = {"n_data": 200, "n_seeds": 2, "copies": 1}


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_the_clock_of_the_heavy_ball_is_exact_for_white_noise(momentum):
    """One neuron, g_u = wξ and g_w = uξ: second moments of (u, w, v_u, v_w) obey a linear map."""
    eta, steps = 1e-4, 200
    other = np.array([[0, 1], [1, 0]])
    still = np.kron([[1, -eta * momentum], [0, momentum]], np.eye(2))
    kicked = np.kron([[-eta, 0], [1, 0]], other)
    z = np.array([2.0, 1.0, 0.0, 0.0])
    moments, gaps = np.outer(z, z), []
    for _ in range(2 * steps):
        moments = still @ moments @ still.T + kicked @ moments @ kicked.T
        gaps.append(moments[0, 0] - moments[1, 1])
    moved = gaps[-1] - gaps[steps - 1]
    assert moved == pytest.approx(-theory.clock(eta, 1, steps, momentum) * gaps[-1], rel=1e-3)


def test_a_skew_shifts_the_log_ratio_and_not_the_loss():
    """At the first steps at a vanishing rate: the log ratio of the first pair is larger by the skew."""
    plain, skewed = (
        architectures.train.run("mlp", steps=6, logs=3, eta=1e-9, batch_size=50, skew=skew, **SMALL) for skew in (0.0, 1.5)
    )
    np.testing.assert_allclose(clock.curve(skewed) - clock.curve(plain), 1.5, atol=1e-4)


def test_flow_is_descent_on_all_data_and_keeps_what_symmetry_conserves():
    """Against `FullBatch`, and the identity: |u|² - |w|² moves by η² (|G_u|² - |G_w|²) with the whole gradient G."""
    run = {"steps": 60, "logs": 3, "batch_size": 4, "skew": 1.0} | SMALL
    flow = architectures.train.run("mlp", optimiser="flow", eta=1e-3, **run)
    sgd = architectures.train.run("mlp", eta=1e-3, **run)
    net = learners.lessons("mlp", "teacher", architectures.NOISE["teacher"], 200, [0], 1)
    whole = FullBatch(net.replicas.module, net.data, loss="squared")
    pairs = symmetry.pairs(net.replicas.module)
    start = symmetry.rescale(pairs[0], net.start(torch.arange(1), 0), np.exp(1 / 4))
    other = Experiment(whole, eta=1e-3, weights=start)
    other.advance(60)
    ends = [float(side.sum()) for side in symmetry.squared_norms(pairs[0], other.state.weights[0].double().square())]
    last = flow.isel(pair=0, time=-1, seed=0)
    np.testing.assert_allclose([last["in2"], last["out2"]], ends, rtol=1e-5)
    moved = {
        name: float(abs((data["in2"] - data["out2"]).isel(pair=0).diff("time")).max())
        for name, data in (("flow", flow), ("sgd", sgd))
    }
    assert moved["flow"] < 0.2 * moved["sgd"]
    assert flow["clock"].values[-1] == pytest.approx(1e-6 * 60 / 200)
    np.testing.assert_allclose(flow["flow_time"], sgd["flow_time"])


def test_a_flow_does_not_depend_on_the_minibatches_that_it_is_read_with():
    one, other = (architectures.train.run("mlp", optimiser="flow", steps=6, logs=3, batch_size=b, **SMALL) for b in (2, 8))
    np.testing.assert_allclose(one["in2"], other["in2"])
    assert not np.allclose(one["u2"], other["u2"])


# --- claims -------------------------------------------------------------------------------------------------------------
def relaxing(rate=1.0, scale=0.01, clocks=2.0, n=20, flow_time=60.0, seed=0):
    """A dataset of one pair whose log ratio falls from 1.5 as exp(-rate η²t/B) in five seeds."""
    time = np.linspace(clocks / n, clocks, n)
    rows = 1.5 * np.exp(-rate * time)[:, None] + scale * np.random.default_rng(seed).normal(size=(n, 5))
    clocks = {"clock": ("time", time), "flow_time": ("time", time / clocks * flow_time)}
    coords = {"pair": ["0 -> 2"], "time": 100 * np.arange(1, n + 1), "skew": 1.5}
    return xr.Dataset({"log_ratio": (("pair", "time", "seed"), rows[None])}, coords | clocks)


def test_one_curve():
    fast, slow, flow = relaxing(), relaxing(flow_time=30.0, seed=1), relaxing(rate=0.0, seed=2)
    assert verdicts(clock.one_curve(fast, slow, flow)) == HOLDS
    assert clock.one_curve(fast, relaxing(rate=2.0), flow).check.verdict == "fails"
    assert clock.one_curve(fast, slow, relaxing(seed=2)).control.verdict == "holds"  # a flow that balances as SGD does


def test_flow_is_compared_at_equal_flow_time_as_far_as_it_goes():
    """A flow with other windows, of a third of the time, that is at each ηt where SGD is."""
    fast = relaxing(scale=0.0)
    half = fast["flow_time"].values[0] / 2  # by which the middle of a window lies before its end
    same = relaxing(clocks=2 / 3, flow_time=20.0, n=80, scale=0.0)
    same = same.assign_coords(flow_time=same["flow_time"] - half)
    assert clock.one_curve(fast, fast, same).control.measured == pytest.approx(0, abs=1e-3)


def test_the_first_window_decides_nothing():
    fast, slow = relaxing(), relaxing()
    slow["log_ratio"][:, 0] = 9.0
    assert clock.one_curve(fast, slow, relaxing(rate=0.0)).check.measured == pytest.approx(0)


def test_the_heavy_ball():
    plain, idle = relaxing(n=100), relaxing(n=100, rate=0.01)  # as with η for η/(1 - μ)
    assert verdicts(clock.heavy_ball(plain, relaxing(n=100, seed=1))) == HOLDS
    assert clock.heavy_ball(plain, idle).check.verdict == "fails"
    assert clock.heavy_ball(plain, idle).control.verdict == "holds"


def falling(power, at_end, n=10, scale=0.0, seed=0):
    time = 500.0 * np.arange(1, n + 1)
    middle = time - 250
    rows = -at_end * (middle / time[-1]) ** -power
    rows = rows[:, None] * (1 + scale * np.random.default_rng(seed).normal(size=(n, 5)))
    values = {"log_ratio": rows, "u2": np.ones_like(rows), "w2": np.exp(rows)}
    coords = {"pair": ["0 -> 2"], "time": time}
    return xr.Dataset({name: (("pair", "time", "seed"), v[None]) for name, v in values.items()}, coords)


def test_arrival_of_a_power_law():
    """-0.2 (t/5000)^-1/2 is at -0.1 after 20,000 steps."""
    found = clock.arrival(falling(0.5, 0.2))
    assert found.power == pytest.approx(0.5)
    assert [found.steps, found.earliest, found.latest] == pytest.approx([20_000] * 3)


def test_two_errors_of_an_arrival_cover_it():
    """In 19 of 20 noisy datasets: at least 34 of 40, which chance alone would miss once in a hundred."""
    noisy = [clock.arrival(falling(0.5, 0.2, scale=0.05, seed=seed)) for seed in range(40)]
    assert all(a.earliest < a.steps < a.latest for a in noisy)
    assert sum(a.earliest < 20_000 < a.latest for a in noisy) >= 34
    assert sum(a.power - 2 * a.error < 0.5 < a.power + 2 * a.error for a in noisy) >= 34


def test_arrival_of_what_is_there_and_of_what_goes_away():
    assert clock.arrival(falling(0.5, 0.05)).steps == 5000
    away = clock.arrival(falling(-0.5, 0.3))
    assert away.steps == away.earliest == away.latest == np.inf


def test_arrivals_are_a_table_of_sentences():
    rows = {
        "0 -> 2": 0.05,
        "2 -> 4": 0.05,
        "4 -> 8": 0.2,
        "3.perceptron.0 -> 3.perceptron.2": -1,
        "4.perceptron.0 -> 4.perceptron.2": 1,
    }

    def made(*names):
        parts = [falling(0.5, abs(rows[n])) if rows[n] > 0 else falling(-0.5, 0.3) for n in names]
        data = xr.concat([p.assign_coords(pair=[n]) for p, n in zip(parts, names, strict=True)], "pair")
        return data.assign_coords(reason=("pair", [""] * len(names)))

    mlp, blocks = made("0 -> 2", "2 -> 4"), made(*list(rows)[3:])
    found = {"mlp": mlp, "mlp_digits": mlp, "cnn": made("4 -> 8"), "transformer": blocks}
    text = clock.arrivals(found)["within 0.1 after"]
    assert text["MLP, first pair"] == "there"
    assert text["CNN, last pair"] == "20,000 (20,000 to 20,000)"
    assert text["perceptron, first block"] == "never, as it goes"
    slow = falling(0.01, 0.3, scale=0.05)  # whose power may be 0, or less
    unsure = clock.arrivals(found | {"cnn": slow.assign_coords(pair=["4 -> 8"], reason=("pair", [""]))})["within 0.1 after"]
    assert unsure["CNN, last pair"].endswith(" to ∞")
    lost = clock.arrivals(found | {"cnn": found["cnn"] * np.nan})
    assert list(lost.loc["CNN, last pair"]) == ["a run was lost", 5000, "", ""]
