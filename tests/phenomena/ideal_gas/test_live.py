"""What the live panels of notebook 03 show: readings beside their predictions, in the stationary state and after a turn."""

import math
import warnings

import numpy as np
import pytest
from phenomena.ideal_gas.by_hand import finite_step, mean_cosine

from thermolab import phenomena
from thermolab.engine.scenario import scripted
from thermolab.lab.live.views import Arm, read
from thermolab.phenomena.ideal_gas import theory
from thermolab.phenomena.ideal_gas.live import ISOTROPIC, NETWORK, predict

# the accuracy of the finite-step forms: what they neglect is of order η_eff (theory.isotropic_state)
ACCURACY = {"r": 0.015, "p": 0.03, "U": 0.04, "T": 0.03}
DIM, REPLICAS = 4, 256
STATE = {"eta": 0.03, "lam": 0.1, "sigma": 0.8}


def run(scenario, protocol, events, every, steps, **settings):
    """Readings of a run."""
    arm = Arm("a", scenario, scenario.checked({"protocol": protocol, **settings}))
    frames = scenario.start(seed=11, **arm.settings).follow(events, every, steps)
    return [read(arm, frame) for frame in frames]


def late(readings, name):
    """Mean and standard error of an observable over readings: of the replicas' means, which are independent."""
    values = np.array([r.values[name] for r in readings])
    each = values.reshape(len(readings), -1).mean(0)
    if each.size < 2:
        return float(each[0]), float(np.mean([r.means[name][1] for r in readings]))  # as if the readings were one
    return float(each.mean()), float(each.std(ddof=1) / math.sqrt(each.size))


def gap(readings, name, predicted):
    """How far the mean lies from what is predicted, in units of what is tolerated: three standard errors and the accuracy."""
    mean, error = late(readings, name)
    dim_error = (DIM - 1) / 2 * ACCURACY["T"] if name == "S" else ACCURACY[name] * abs(predicted)
    return abs(mean - predicted) / (3 * error + dim_error)


@pytest.fixture(scope="module", params=["elr", "lr", "sphere"])
def relaxed(request):
    """(protocol, readings after relaxation): started at twice the η and half the λ, turned at step 100."""
    start = {"eta": 2 * STATE["eta"], "lam": STATE["lam"] / 2, "sigma": STATE["sigma"], "dim": DIM, "replicas": REPLICAS}
    tau = 1 / (STATE["eta"] ** 2 * STATE["sigma"] ** 2 * (DIM - 1))  # of the slowest protocol, "elr"
    burn_in = int(100 + 8 * tau)
    readings = run(ISOTROPIC, request.param, [[100, {k: STATE[k] for k in ("eta", "lam")}]], 100, burn_in + 3000, **start)
    return request.param, [r for r in readings if r.step > burn_in]


@pytest.mark.parametrize("name", ["T", "U", "r", "p", "S"])
def test_the_gas_comes_to_what_is_predicted(relaxed, name):
    protocol, readings = relaxed
    assert len(readings) >= 25
    predicted = readings[-1].theory
    assert gap(readings, name, predicted[name]) < 1
    state = theory.isotropic_state(protocol, **STATE, dim=DIM)
    if protocol != "sphere" or name not in ("r", "p"):
        assert predicted[name] == pytest.approx(float(state["T_step" if name == "T" else name]), rel=1e-6)


def test_the_predictions_of_another_gas_are_not_met(relaxed):
    """The controls: another protocol, twice the λ where it matters, twice the η."""
    protocol, readings = relaxed
    radius = late(readings, "r")[0]
    other = predict("lr" if protocol != "lr" else "elr", **STATE, dim=DIM, radius=radius)
    assert gap(readings, "T", other["T"]) > 1.5
    if protocol != "sphere":
        heavier = predict(protocol, **STATE | {"lam": 2 * STATE["lam"]}, dim=DIM, radius=radius)
        assert gap(readings, "r", heavier["r"]) > 3
        assert gap(readings, "p", heavier["p"]) > 3
    hotter = predict(protocol, **STATE | {"eta": 2 * STATE["eta"]}, dim=DIM, radius=radius)
    for name in ("T", "U", "S"):
        assert gap(readings, name, hotter[name]) > 3


def test_on_the_sphere_the_radius_is_held_where_it_was():
    readings = run(ISOTROPIC, "elr", [[500, {"protocol": "sphere", "lam": 0.5}]], 100, 1500, **STATE, replicas=64)
    held = [r.means["r"][0] for r in readings if r.step > 600]
    assert max(held) / min(held) - 1 < 1e-4
    assert readings[-1].theory["r"] == pytest.approx(held[-1], rel=1e-3)
    assert readings[-1].theory["p"] != pytest.approx(0.5, rel=0.1)  # λ does nothing there


def test_a_prediction_changes_with_the_knobs_at_once():
    readings = run(ISOTROPIC, "elr", [[50, {"eta": 0.3}]], 50, 100, eta=0.03, replicas=8)
    assert readings[0].theory["T"] == pytest.approx(predict("elr", eta=0.03, lam=0.01, dim=3, sigma=1.0, radius=0.0)["T"])
    assert readings[1].theory["T"] > 8 * readings[0].theory["T"]


def test_without_weight_decay_nothing_is_predicted():
    (reading,) = run(ISOTROPIC, "elr", [], 10, 10, lam=0.0, replicas=8)
    assert reading.theory == {}
    (reading,) = run(NETWORK, "lr", [], 5, 5, lam=0.0, replicas=1, batch_size=8)
    assert reading.theory == {}


def test_temperature_is_that_of_the_measured_steps():
    """(D - 1) T = (1 - √(1 - η² E|g|²))/η at a fixed effective rate."""
    (reading,) = run(ISOTROPIC, "elr", [], 200, 200, eta=0.2, replicas=8, dim=5)
    a = 0.2**2 * reading.values["g2"]
    np.testing.assert_allclose(reading.values["T"], (1 - np.sqrt(1 - a)) / 0.2 / 4)
    np.testing.assert_allclose(reading.values["r"] ** 2, reading.values["r2"])


@pytest.mark.parametrize("protocol", ["elr", "lr", "sphere"])
def test_predictions_stand_everywhere_in_the_range_of_the_knobs(protocol):
    low = {name: ISOTROPIC.settings[name].low for name in ("eta", "lam", "sigma", "dim")}
    high = {name: ISOTROPIC.settings[name].high for name in ("eta", "lam", "sigma", "dim")}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for bits in range(16):
            corner = {name: (high if bits >> i & 1 else low)[name] for i, name in enumerate(low)}
            found = predict(protocol, radius=1.0, **corner)
            assert set(found) == {"T", "U", "S", "r", "p"}
            assert not np.isinf(list(found.values())).any(), corner
            ISOTROPIC.start(**corner, protocol=protocol, replicas=8).advance(1)


def test_a_scripted_gas_turns_knobs_and_follows_theory():
    start = {"eta": 0.04, "lam": 0.1, "dim": 4, "replicas": 512}
    frames, error = scripted.run(ISOTROPIC, [[500, {"eta": 0.1}]], every=50, steps=1000, seed=2, **start)
    assert error is None
    arm = Arm("gas", ISOTROPIC, ISOTROPIC.checked(start))
    readings = [read(arm, frame) for frame in frames]
    assert [r.step for r in readings] == list(range(50, 1001, 50))
    np.testing.assert_allclose([r.knobs["eta"] for r in readings], [0.04] * 10 + [0.1] * 10, rtol=1e-6)
    for late in (slice(5, 10), slice(15, 20)):  # 250 steps, several relaxation times, after each turn
        part = readings[late]
        r, _, t = finite_step("elr", part[0].knobs["eta"], 0.1, 4, 1.0)
        means = {name: np.mean([x.means[name] for x in part], 0) for name in ("r", "p", "U", "S")}
        for name, value in {"r": r, "p": 0.1, "U": 1 - mean_cosine(t, 4)}.items():
            mean, error = means[name]  # of a frame, as if the frames were one
            assert mean == pytest.approx(value, abs=0.015 * value + 4 * error)
            assert part[0].theory[name] == pytest.approx(value, rel=0.005)
        assert means["S"][0] == pytest.approx(part[0].theory["S"], abs=4 * means["S"][1])
    assert np.mean([x.means["U"][0] for x in readings[15:]]) > 2 * np.mean([x.means["U"][0] for x in readings[5:10]])


def test_predictions_are_the_closed_forms():
    found = predict("sphere", eta=0.05, lam=0.1, dim=4, sigma=1.0, radius=2.0)
    assert found["r"] == 2.0
    t = found["T"]
    assert found["U"] == pytest.approx(1 - mean_cosine(t, 4), rel=1e-6)
    moment = 3 * (1 + t * mean_cosine(t, 4))
    assert found["p"] == pytest.approx((math.sqrt(1 + 0.05**2 * moment) - 1) / (0.05 * 4), rel=1e-6)
    assert t == pytest.approx((math.sqrt(1 + 0.05**2 * moment) - 1) / 0.05 / 3, rel=1e-6)
    free = predict("elr", eta=0.05, lam=0.1, dim=4, sigma=1.0, radius=2.0)
    assert (free["r"], free["p"]) == (pytest.approx(finite_step("elr", 0.05, 0.1, 4, 1.0)[0], rel=1e-3), 0.1)


# --- the network --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("protocol", "eta"), [("elr", 0.05), ("lr", 0.3)])
def test_the_radius_of_the_network_comes_to_what_is_predicted(protocol, eta):
    settings = {"eta": eta, "lam": 0.1, "batch_size": 32, "replicas": 2}
    readings = run(NETWORK, protocol, [], 50, 800, **settings)[-8:]
    r = np.mean([x.means["r"][0] for x in readings])
    predicted = np.mean([x.theory["r"] for x in readings])
    assert r == pytest.approx(predicted, rel=0.03)
    assert readings[-1].theory["p"] == pytest.approx(0.1)
    assert np.mean([x.means["p"][0] for x in readings]) == pytest.approx(0.1, rel=0.03)
    # controls: twice the λ, the other protocol
    moment = np.mean([x.values["g2"].mean() for x in readings])
    assert r != pytest.approx(float(theory.finite_step_radius(protocol, eta, 0.2, moment)), rel=0.1)
    assert r != pytest.approx(float(theory.finite_step_radius("lr" if protocol == "elr" else "elr", eta, 0.1, moment)), rel=0.1)


def test_readings_of_the_network():
    settings = {"eta": 0.05, "lam": 0.1, "replicas": 2, "batch_size": 16}
    for protocol in ("elr", "lr", "sphere"):
        (reading,) = run(NETWORK, protocol, [], 20, 20, **settings)
        assert set(NETWORK.observables) <= set(reading.values)
        rate = 0.05 / reading.values["r2"] if protocol == "lr" else 0.05
        np.testing.assert_allclose(reading.values["T"], rate * reading.values["trace"] / 2 / 575)
        assert np.isnan(reading.values["S"]).all()  # the window is not full
        assert set(reading.theory) == {"r", "p"}
    assert reading.theory["r"] == pytest.approx(1.0, rel=1e-3)  # the sphere of the start


# --- the table ------------------------------------------------------------------------------------------------------------
def test_every_scenario_of_the_table_reads_what_it_shows():
    for scenario in {s.name: s for s in phenomena.scenarios().values()}.values():
        assert set(scenario.defaults) == set(scenario.settings)
        assert scenario.checked({}) == dict(scenario.defaults)
        settings = scenario.checked({"replicas": int(scenario.settings["replicas"].low)})
        frame = next(scenario.start(**settings).frames(2))
        reading = read(Arm("run", scenario, settings), frame)
        assert set(scenario.observables) <= set(reading.values)
        assert set(reading.theory) <= set(scenario.observables)
