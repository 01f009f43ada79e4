"""The recipes of notebook 03 at settings that it does not use, against closed forms written out here."""

import math
import re

import numpy as np
import pytest
import xarray as xr
from scipy import integrate

from thermolab.engine.experiment import DivergenceError
from thermolab.engine.scenario import scripted
from thermolab.lab.live.views import Arm, read
from thermolab.phenomena.ideal_gas import isotropic, live, network, theory, transients

# the accuracy that the finite-step forms are held to: order η for r and p, the sampling of the window for U
RADIUS, PRESSURE, ENERGY, SLOPE = 0.015, 0.03, 0.04, 0.02
GAS = ((4, 0.7), (4, 1.3), (16, 0.7), (16, 1.3))


# --- independent closed forms ----------------------------------------------------------------------------------------
def mean_cosine(temperature, dim):
    """Of the angle to the minimum under exp(cos a/T) on the sphere."""
    a = np.linspace(0, math.pi, 4001)
    weight = np.exp((np.cos(a) - 1) / temperature) * np.sin(a) ** (dim - 2)
    return integrate.simpson(weight * np.cos(a), x=a) / integrate.simpson(weight, x=a)


def finite_step(protocol, eta, lam, dim, sigma):
    """r, p and T/(1 - η_eff/2) of a cell: the radius whose mean square a step keeps, with E|∇L|² = (D - 1) T A(1/T)."""
    r = 1.0
    for _ in range(200):
        rate = eta / r**2 if protocol == "lr" else eta
        t = rate * sigma**2 / 2 / (1 - rate / 2)
        moment = (dim - 1) * (sigma**2 + t * mean_cosine(t, dim))
        if protocol == "lr":
            new = (eta * moment / (2 * lam - eta * lam**2)) ** 0.25
        else:
            new = math.sqrt((1 - math.sqrt(1 - eta**2 * moment)) / (eta * lam))
        if abs(new / r - 1) < 1e-10:
            break
        r = new
    return r, (math.sqrt(1 + eta**2 * moment) - 1) / (eta * r**2), t


def expected(protocol, data):
    """(r, p, U) [eta, lam] of a dataset of `stationary`."""
    dim, sigma = data.attrs["dim"], data.attrs["sigma"]
    cells = np.array([[finite_step(protocol, h, k, dim, sigma) for k in data["lam"].values] for h in data["eta"].values])
    energy = np.array([[1 - mean_cosine(t, dim) for t in row] for row in cells[..., 2]])
    return cells[..., 0], cells[..., 1], energy


def fitted(values, data):
    """Slopes in log η and log λ of values [eta, lam]."""
    x, y = np.meshgrid(np.log(data["eta"]), np.log(data["lam"]), indexing="ij")
    design = np.stack([np.ones(x.size), x.ravel(), y.ravel()], 1)
    return np.linalg.lstsq(design, np.asarray(values).ravel(), rcond=None)[0][1:]


# --- the isotropic model ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("dim", "sigma"), GAS)
@pytest.mark.parametrize("protocol", ["elr", "lr", "sphere"])
def test_the_stationary_state_at_other_settings(protocol, dim, sigma):
    # on the sphere the form T/(1 - η/2) holds where η²σ²(D - 1) is small
    top = min(0.1, math.sqrt(0.03 / (dim - 1)) / sigma) if protocol == "sphere" else 0.1
    settings = {"eta": (top / 4, top, 3), "lam": (0.02, 0.1, 3), "dim": dim, "sigma": sigma}
    # the entropy of a cell is good to 1.3/√n nats
    data = isotropic.stationary.run(protocol, **settings, replicas=192 if dim == 4 else 64, snapshots=24, seed=4)
    assert (data["diverged"] == 0).all()
    mean = data.mean("seed")
    r, p, energy = expected(protocol, data)
    np.testing.assert_allclose(mean["r"], r, rtol=RADIUS)
    np.testing.assert_allclose(mean["p"], p if protocol == "sphere" else np.broadcast_to(data["lam"], p.shape), rtol=PRESSURE)
    np.testing.assert_allclose((mean["U"] / energy).mean("lam"), 1, atol=ENERGY)
    # slopes of the exact entropy at these temperatures: the leading ones are for cold gases
    prediction = data["S_pred"] + (dim - 1) * np.log(r)
    np.testing.assert_allclose(fitted(mean["S_full"], data), fitted(prediction, data), atol=SLOPE * (dim - 1))


@pytest.mark.parametrize("protocol", ["elr", "lr"])
def test_slopes_of_a_cold_gas_are_the_maxwell_relations(protocol):
    settings = {"eta": (10**-2.5, 10**-1.5, 4), "lam": (0.01, 0.1, 4), "dim": 3, "replicas": 32, "snapshots": 24}
    data = isotropic.stationary.run(protocol, **settings)
    slopes = theory.slopes(protocol, 3)
    found = fitted(data["S_full"].mean("seed"), data)
    np.testing.assert_allclose(found, [slopes["eta"], slopes["lam"]], atol=SLOPE * 2)


def test_the_predictions_of_the_dataset_are_those_of_theory():
    data = isotropic.stationary.run("lr", eta=(0.05, 0.1, 2), lam=(0.05, 0.1, 3), replicas=4, snapshots=4, dim=5, sigma=0.8)
    state = theory.isotropic_state("lr", data["eta"].values[:, None], data["lam"].values, 5, 0.8)
    for name, key in {"r_pred": "r", "p_pred": "p", "U_pred": "U", "S_pred": "S", "T": "T", "T_step": "T_step"}.items():
        np.testing.assert_allclose(data[name], np.broadcast_to(state[key], (2, 3)), rtol=1e-12)
    np.testing.assert_allclose(data["S_full"], data["S"] + 4 * np.log(data["r"]), rtol=1e-12)
    assert data.sizes == {"eta": 2, "lam": 3, "seed": 3}
    assert data.attrs["protocol"] == "lr"


def test_measurements_repeat_and_seeds_differ():
    settings = {"eta": (0.1, 0.1, 1), "lam": (0.1, 0.1, 1), "replicas": 8, "snapshots": 8, "n_seeds": 2}
    data = isotropic.stationary.run("elr", **settings)
    xr.testing.assert_identical(isotropic.stationary.run("elr", **settings), data)
    assert data["U"][0, 0, 0] != data["U"][0, 0, 1]
    assert (isotropic.stationary.run("elr", **settings, seed=1)["U"] != data["U"]).all()
    assert not set(isotropic.stationary.run("elr", **settings, seed=1)["seed"].values) & set(data["seed"].values)


def test_lost_cells_are_nan_and_the_others_stay():
    """At η = 4 the noise alone lengthens w by more than any decay takes back."""
    common = {"lam": (0.05, 0.05, 1), "dim": 10, "replicas": 16, "snapshots": 8, "n_seeds": 2}
    data = isotropic.stationary.run("elr", eta=(0.04, 4.0, 2), **common)
    lost, kept = data.isel(eta=1), data.isel(eta=0)
    for name in ("U", "r", "S", "S_full", "g2"):
        assert np.isnan(lost[name]).all()
        assert np.isfinite(kept[name]).all()
    assert (lost["diverged"] == 1).all()
    assert (kept["diverged"] == 0).all()
    np.testing.assert_allclose(kept["r"].mean("seed"), finite_step("elr", 0.04, 0.05, 10, 1.0)[0], rtol=2 * RADIUS)


def test_a_single_lost_cell_stops_with_one_line():
    with pytest.raises(DivergenceError, match=r"^eta=0\.4, lam=0\.01 \(elr\): .* at step \d+ .*try eta=0\.1[^\n]*$"):
        isotropic.stationary.run("elr", eta=(0.4, 0.4, 1), lam=(0.01, 0.01, 1), dim=10, replicas=256, n_seeds=1)


@pytest.mark.parametrize(
    ("bad", "message"),
    [({"protocol": "sgd"}, "allowed: elr, lr, sphere"), ({"dim": 2}, "dim=2"), ({"spectrum": [1.0]}, "spectrum")],
)
def test_bad_settings(bad, message):
    with pytest.raises(ValueError, match=message):
        isotropic.stationary.run(**{"eta": (0.1, 0.1, 1), "lam": (0.1, 0.1, 1), "replicas": 4, "snapshots": 4} | bad)


def test_an_anisotropic_gas_differs_in_entropy_only():
    s = theory.power_spectrum(5, 2.0)
    settings = {"eta": (0.02, 0.05, 2), "lam": (0.05, 0.1, 2), "dim": 5, "replicas": 64, "snapshots": 32}
    data = isotropic.stationary.run("elr", **settings, spectrum=s).mean("seed")
    np.testing.assert_array_equal(data["spectrum"], s)
    assert (abs(data["r"] / data["r_pred"] - 1) < 2 * RADIUS).all()
    assert (abs((data["U"] / data["U_pred"] - 1).mean("lam")) < 2 * ENERGY).all()
    shift = theory.anisotropic_entropy_shift(s)
    assert shift < -1
    assert (abs((data["S"] - data["S_pred"]).mean("lam") - shift) < 0.05 * 4).all()


def test_a_scripted_gas_turns_knobs_and_follows_theory():
    start = {"eta": 0.04, "lam": 0.1, "dim": 4, "replicas": 512}
    frames, error = scripted.run(live.ISOTROPIC, [[500, {"eta": 0.1}]], every=50, steps=1000, seed=2, **start)
    assert error is None
    arm = Arm("gas", live.ISOTROPIC, live.ISOTROPIC.checked(start))
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


def test_predictions_of_the_live_panel():
    found = live.predict("sphere", eta=0.05, lam=0.1, dim=4, sigma=1.0, radius=2.0)
    assert set(found) == {"T", "U", "S", "r", "p"}
    assert found["r"] == 2.0
    moment = 3 * (1 + found["T"] * mean_cosine(found["T"], 4))
    assert found["p"] == pytest.approx((math.sqrt(1 + 0.05**2 * moment) - 1) / (0.05 * 4), rel=1e-6)
    free = live.predict("elr", eta=0.05, lam=0.1, dim=4, sigma=1.0, radius=2.0)
    assert (free["r"], free["p"]) == (pytest.approx(finite_step("elr", 0.05, 0.1, 4, 1.0)[0], rel=1e-3), 0.1)


@pytest.mark.parametrize("protocol", ["elr", "lr"])
def test_relaxation_follows_its_own_law(protocol):
    data = transients.relaxation.run(protocol, eta=(0.05, 0.1), lam=0.02, dim=5, sigma=0.8, replicas=128, points=20, n_seeds=3)
    assert data["r"].dims == ("eta", "start", "time", "seed")
    own, other = (float(abs(data["r"].mean("seed") / data[k] - 1).max()) for k in ("r_pred", "r_other"))
    assert own < 0.05 < 0.1 < other
    np.testing.assert_allclose(data["r_star"], theory.radius(protocol, data["eta"].values, 0.02, 5, 0.8))
    rise = data["r"].mean("seed").isel(time=-1) / data["r"].mean("seed").isel(time=0)
    assert (rise.sel(start=0.5) > 1.1).all()
    assert (rise.sel(start=2.0) < 0.9).all()


def test_the_hot_sphere_has_the_exact_energy():
    data = isotropic.hot_sphere.run((0.1, 1.0), dim=6, replicas=64, steps=6000, seed=1)
    exact = [1 - mean_cosine(t, 6) for t in (0.1, 1.0)]
    np.testing.assert_allclose(data["U_vmf"], exact, rtol=1e-6)
    np.testing.assert_allclose(data["U"].mean("seed"), exact, rtol=0.03)
    np.testing.assert_allclose(data["U_small"], [0.25, 2.5])


# --- the network ------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def reference():
    rates = (1e-4, 1e-3, 0.01, 0.02, 0.05, 0.08)
    return network.sphere.run(rates, burn_in=100, window=256, samples=60, n_seeds=2)


def test_a_small_reference(reference):
    assert reference.sizes == {"eta": 6, "seed": 2}
    assert reference.attrs["dim"] == 576
    for name in ("U", "g2", "p", "trace", "gradient_squared", "effective_dimension", "drift"):
        assert np.isfinite(reference[name]).all(), name
    assert ((reference["effective_dimension"] > 1) & (reference["effective_dimension"] < 576)).all()
    assert (reference["effective_dimension"] < reference["effective_dimension_isotropic"]).all()
    # the window is long enough for the stride 0.25/η of the fast rates only
    assert np.isnan(reference["S"].sel(eta=1e-4)).all()
    assert np.isfinite(reference["S"].sel(eta=0.08)).all()
    # Pythagoras: E|g|² is noise plus signal, measured in two ways
    total = (reference["trace"] + reference["gradient_squared"]).mean("seed").sel(eta=slice(0.005, None))
    np.testing.assert_allclose(reference["g2"].mean("seed").sel(eta=slice(0.005, None)), total, rtol=0.1)
    # and the pressure is that of E|g|²
    np.testing.assert_allclose(
        reference["p"], theory.finite_step_pressure(reference["eta"], 1.0, reference["g2"]).transpose("eta", "seed"), rtol=0.05
    )


@pytest.mark.parametrize("protocol", ["elr", "lr"])
def test_a_small_network_grid(reference, protocol):
    eta = {"elr": (0.02, 0.05, 2), "lr": (0.2, 0.5, 2)}[protocol]
    data = network.stationary.run(
        protocol, reference=reference, eta=eta, lam=(0.05, 0.1, 3), burn_in=300, window=64 * network.STRIDE, n_seeds=2
    )
    assert data.sizes == {"eta": 2, "lam": 3, "seed": 2}
    for name in data.data_vars:
        assert np.isfinite(data[name]).all(), name
    assert (data["diverged"] == 0).all()
    np.testing.assert_allclose(data["S_full"], data["S"] + 575 * np.log(data["r"]), rtol=1e-9)
    rate = data["eta_eff"]
    np.testing.assert_allclose(rate, data["eta"] / data["r_pred"] ** 2 if protocol == "lr" else data["eta"] + 0 * data["lam"])
    np.testing.assert_allclose(data["T"], rate * data["trace"].mean("seed") / 2 / 575, rtol=1e-9)
    np.testing.assert_allclose(data["p"], np.broadcast_to(data["lam"], (2, 3)))
    # the prediction is the fixed point of a step with the reference's E|g|² at that effective rate
    moment = network.second_moment(reference, "g2")(rate.values)
    np.testing.assert_allclose(
        data["r_pred"], theory.finite_step_radius(protocol, data["eta"].values[:, None], data["lam"].values, moment), rtol=1e-6
    )
    assert (data["r_pred_without"] < data["r_pred"]).all()
    assert abs(np.log(data["r"] / data["r_pred"])).max() < 0.25  # nearer than it started


@pytest.fixture(scope="module")
def twin():
    """A perfect gas with the rates and the window of a made-up reference, whose Tr Σ is 40."""
    rates = np.array([1e-3, 1 / 64, 1 / 32, 1 / 16])  # a quarter of whose correlation time is a whole number of frames
    known = xr.Dataset({"trace": (("eta", "seed"), np.full((4, 2), 40.0))}, coords={"eta": rates, "seed": [0, 1]})
    known = known.assign_attrs(burn_in=500, window=16 * 120, dim=576)
    return network.gas.run(
        known, eta=(0.02, 0.05, 2), lam=(0.05, 0.1, 3), burn_in=300, window=64 * network.STRIDE, samples=120, n_seeds=2
    )


def test_a_small_twin_is_a_perfect_gas(twin):
    assert twin.sizes == {"eta": 2, "lam": 3, "seed": 2, "rate": 3}
    for name in ("U", "r", "S", "S_full", "diverged"):
        assert twin[name].dims == ("eta", "lam", "seed"), name
    assert twin["T"].dims == twin["p"].dims == ("eta", "lam")
    assert twin["sphere_S"].dims == ("rate", "seed")
    for name in twin.data_vars:
        assert np.isfinite(twin[name]).all(), name
    assert (twin["diverged"] == 0).all()
    assert (twin["sphere_S"][:, 0] != twin["sphere_S"][:, 1]).all()
    # the slow rate is left out, and the noise has the trace of the reference
    assert twin["rate"].values.tolist() == [1 / 64, 1 / 32, 1 / 16]
    assert twin.attrs["sigma"] ** 2 * 575 == pytest.approx(40)
    np.testing.assert_allclose(twin["T"], np.broadcast_to(twin["eta"] * 40 / 2 / 575, (3, 2)).T, rtol=1e-9)
    np.testing.assert_allclose(twin["p"], np.broadcast_to(twin["lam"], (2, 3)))
    np.testing.assert_allclose(twin["S_full"], twin["S"] + 575 * np.log(twin["r"]), rtol=1e-9)
    state = [[finite_step("elr", h, k, 576, twin.attrs["sigma"])[0] for k in twin["lam"].values] for h in twin["eta"].values]
    assert abs(np.log(twin["r"].mean("seed") / state)).max() < 0.25 / 2  # nearer than it started
    for s in twin["sphere_S"].transpose("seed", "rate").values:
        assert np.polyfit(np.log(twin["rate"]), s, 1)[0] / (575 / 2) == pytest.approx(1, abs=0.1)


def test_a_twin_whose_window_is_too_short_has_no_entropy():
    known = xr.Dataset({"trace": (("eta", "seed"), np.full((2, 2), 40.0))}, coords={"eta": [1 / 64, 1 / 16], "seed": [0, 1]})
    known = known.assign_attrs(burn_in=8, window=160, dim=576)
    tiny = {"eta": (0.05, 0.05, 1), "lam": (0.1, 0.1, 1), "burn_in": 8, "window": 8 * network.STRIDE, "n_seeds": 2}
    data = network.gas.run(known, **tiny, samples=40)
    assert np.isnan(data["sphere_S"].isel(rate=0)).all()
    assert np.isfinite(data["sphere_S"].isel(rate=1)).all()


def test_the_moment_between_measured_rates_is_interpolated(reference):
    """A power law comes out exactly, also where the reference did not measure; rates too slow to settle are left out."""
    power = reference.copy()
    power["g2"] = (7.0 * power["eta"] ** -0.4 + 0 * power["seed"]).transpose("eta", "seed")
    power["g2"][:2] = 1e9
    rates = np.array([0.01, 0.03, 0.07])
    np.testing.assert_allclose(network.second_moment(power, "g2")(rates), 7.0 * rates**-0.4, rtol=1e-8)
    r = network.predicted_radius("lr", np.array([0.3]), np.array([0.05]), power, "g2")
    np.testing.assert_allclose(r**4, 0.3 * 7.0 * (0.3 / r**2) ** -0.4 / (0.05 * (2 - 0.3 * 0.05)), rtol=1e-6)


# --- docstrings -------------------------------------------------------------------------------------------------------
def documented(recipe):
    """The part of a docstring that lists the variables of its dataset."""
    return recipe.__doc__.split("Returns a Dataset")[1]


def test_docstrings_list_what_the_datasets_hold(reference, twin):
    tiny = {"eta": (0.1, 0.1, 1), "lam": (0.1, 0.1, 1), "replicas": 4, "snapshots": 4, "n_seeds": 2}
    grids = {"eta": (0.05, 0.05, 1), "lam": (0.1, 0.1, 1), "burn_in": 8, "window": 64 * network.STRIDE, "n_seeds": 2}
    made = {
        isotropic.stationary: isotropic.stationary.run("elr", **tiny),
        transients.relaxation: transients.relaxation.run("elr", eta=(0.1,), lam=0.1, replicas=4, points=3, n_seeds=2),
        isotropic.hot_sphere: isotropic.hot_sphere.run((0.1,), dim=3, replicas=4, steps=10, n_seeds=2),
        network.sphere: reference,
        network.stationary: network.stationary.run("elr", reference=reference, **grids),
        network.gas: twin,
    }
    needed = {
        isotropic.stationary: "U p r g2 S S_error S_full r_gap diverged steps relaxed T T_step eta_eff r_pred p_pred U_pred "
        "S_pred U_vmf S_vmf",
        transients.relaxation: "r r_pred r_other r_star",
        isotropic.hot_sphere: "U U_vmf U_small",
        network.sphere: "U g2 p trace gradient_squared effective_dimension effective_dimension_isotropic S tau drift snr",
        network.stationary: "U r g2 trace gradient_squared S S_full diverged r_pred r_pred_without eta_eff T p relaxed",
        network.gas: "sphere_S U r S S_full diverged T p",
    }
    for recipe, data in made.items():
        assert set(needed[recipe].split()) <= set(data.data_vars), recipe.__name__
        for name in data.data_vars:
            assert re.search(rf"\b{name}\b", documented(recipe)), f"{recipe.__name__} does not document {name}"
