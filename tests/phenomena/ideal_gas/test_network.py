"""The network and the perfect gas beside it at small sizes; and the claims on them."""

import numpy as np
import pytest
import xarray as xr
from claimed import FAILS, HOLDS, verdicts
from phenomena.ideal_gas import made_up
from phenomena.ideal_gas.by_hand import finite_step

from thermolab.phenomena.ideal_gas import network, theory


@pytest.fixture(scope="module")
def reference():
    rates = (1e-4, 1e-3, 0.01, 0.02, 0.05, 0.08)
    return network.sphere.run(rates, burn_in=100, window=256, samples=60, n_seeds=2)


def test_a_small_reference(reference):
    needed = "U g2 p trace gradient_squared effective_dimension effective_dimension_isotropic S tau drift snr"
    made_up.check_docstring(network.sphere, reference, needed)
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
    needed = "U r g2 trace gradient_squared S S_full diverged r_pred r_pred_without eta_eff T p relaxed"
    made_up.check_docstring(network.stationary, data, needed)
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
    made_up.check_docstring(network.gas, twin, "sphere_S U r S S_full diverged T p")
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


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"protocol": "sphere"}, "protocol='sphere' is unknown; allowed: one of elr, lr"),
        ({"label_noise": 1.5}, "label_noise=1.5 is out of range; allowed: a number from 0 to 1"),
        ({"window": 3 * network.STRIDE}, "window=72 is out of range; allowed: a whole number, 96 or more"),
    ],
)
def test_a_grid_of_no_such_protocol_noise_or_window_is_refused(reference, bad, message):
    with pytest.raises(ValueError, match=message):
        network.stationary.run(reference=reference, **bad)


# --- what is decided --------------------------------------------------------------------------------------------------
@pytest.fixture
def found():
    return made_up.everything()


def test_settled_leaves_out_the_slow_rates(found):
    d = network.settled(found["reference"])
    assert set(d["eta"].values) == set(found["reference"]["eta"].values) - set(network.SLOW)


@pytest.mark.parametrize(
    ("check", "path", "variable", "change"),
    [
        (network.radii, ("net", "lr"), "r", lambda r: 0.94 * r),
        (network.pressures, ("reference",), "p", lambda p: 1.06 * p),
        (network.idle_noise, ("net", "elr"), "trace", lambda t: t * t["lam"] ** 0.1),
        (network.maxwell_relation, ("net", "lr"), "r", lambda r: r**1.3),
        (network.drifts, ("reference",), "drift", lambda d: 0 * d),
    ],
)
def test_a_claim_holds_on_an_exact_network_and_fails_on_a_spoilt_one(found, check, path, variable, change):
    assert verdicts(check(found[path[0]])) == HOLDS
    made_up.spoil(found, path, variable, change)
    assert check(found[path[0]]).check.verdict == "fails"


def test_a_network_that_fills_few_directions_is_told_from_isotropic_noise(found):
    assert verdicts(network.filled_directions(found["reference"])) == FAILS
    made_up.spoil(found, ("reference",), "effective_dimension", lambda d: 11.4 * d)
    assert network.filled_directions(found["reference"]).check.verdict == "holds"


TWINS = [
    (network.entropy_growth, "reference", "sphere_S", lambda s: 1.3 * s),
    (network.minima, "net", "T", lambda t: 3 * t),
]


@pytest.mark.parametrize(("check", "name", "variable", "change"), TWINS)
def test_a_gas_that_is_not_perfect_leaves_the_claim_undecided(found, check, name, variable, change):
    before = check(found[name], found["perfect"])
    assert verdicts(before) == FAILS
    made_up.spoil(found, ("perfect",), variable, change)
    after = check(found[name], found["perfect"])
    assert verdicts(after) == ("fails", "fails")  # which is inconclusive
    assert after.check == before.check


def test_a_network_like_the_gas_would_have_its_entropy_and_minima(found):
    """The checks that fail on the network hold on data of a perfect gas: they can come out either way."""
    known, perfect = found["reference"], found["perfect"]
    known["S"] = (("eta", "seed"), made_up.noisy(287.5 * np.log(known["eta"] * known["trace"].mean("seed")), 1e-4))
    assert network.entropy_growth(known, perfect).check.verdict == "holds"
    assert network.minima({"elr": perfect}, perfect).check.verdict == "holds"


def test_a_network_without_entropies_decides_nothing(found):
    known, lost = found["reference"], found["net"]["elr"]
    known["S"][:], lost["S_full"][:] = np.nan, np.nan
    assert verdicts(network.entropy_growth(known, found["perfect"])) == ("inconclusive", "holds")
    assert verdicts(network.minima({"elr": lost}, found["perfect"])) == ("inconclusive", "holds")


def test_the_tautology_does_not_see_the_entropy(found):
    """Any entropy passes the Maxwell relation: only the radius is tested."""
    before = network.tautology(found["net"])
    assert verdicts(before) == HOLDS
    made_up.spoil(found, ("net", "lr"), "S", lambda s: 0 * s + 5)
    assert network.tautology(found["net"]).check == before.check
