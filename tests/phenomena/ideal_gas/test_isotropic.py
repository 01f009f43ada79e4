"""The isotropic model at settings that notebook 03 does not use, against closed forms written out here; and its claims."""

import math

import numpy as np
import pytest
import xarray as xr
from claimed import HOLDS, verdicts
from phenomena.ideal_gas import made_up
from phenomena.ideal_gas.by_hand import finite_step, mean_cosine

from thermolab.engine.experiment import DivergenceError
from thermolab.phenomena.ideal_gas import isotropic, theory

# the accuracy that the finite-step forms are held to: order η for r and p, the sampling of the window for U
RADIUS, PRESSURE, ENERGY, SLOPE = 0.015, 0.03, 0.04, 0.02
GAS = ((4, 0.7), (4, 1.3), (16, 0.7), (16, 1.3))


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
    xr.testing.assert_identical(isotropic.stationary.run("elr", **settings | {"n_seeds": 1}), data.isel(seed=[0]))
    needed = "U p r g2 S S_error S_full r_gap diverged steps relaxed T T_step eta_eff r_pred p_pred U_pred S_pred U_vmf S_vmf"
    made_up.check_docstring(isotropic.stationary, data, needed)


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
    [
        ({"protocol": "sgd"}, "protocol='sgd' is unknown; allowed: one of elr, lr, sphere"),
        ({"dim": 2}, "dim=2 is out of range; allowed: a whole number, 3 or more"),
        ({"spectrum": [1.0]}, "spectrum must be 2 positive variances of mean 1"),
        ({"spectrum": [-1.0, 3.0]}, "spectrum=.* is not positive"),
        ({"eta": (0.1, 0.1)}, r"eta=\(0.1, 0.1\) has a length that is out of range; allowed: \[low, high, n\]"),
        ({"lam": (0.1, 0.2, 2.5)}, r"lam=\(0.1, 0.2, 2.5\) has no whole n"),
    ],
)
def test_a_gas_of_no_such_protocol_dimension_spectrum_or_grid_is_refused(bad, message):
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


def test_the_hot_sphere_has_the_exact_energy():
    data = isotropic.hot_sphere.run((0.1, 1.0), dim=6, replicas=64, steps=6000, seed=1)
    exact = [1 - mean_cosine(t, 6) for t in (0.1, 1.0)]
    np.testing.assert_allclose(data["U_vmf"], exact, rtol=1e-6)
    np.testing.assert_allclose(data["U"].mean("seed"), exact, rtol=0.03)
    np.testing.assert_allclose(data["U_small"], [0.25, 2.5])
    made_up.check_docstring(isotropic.hot_sphere, data, "U U_vmf U_small")


# --- what is decided --------------------------------------------------------------------------------------------------
@pytest.fixture
def found():
    return made_up.everything()


@pytest.mark.parametrize(
    ("check", "path", "variable", "change"),
    [
        (isotropic.energies, ("iso", "lr"), "U", lambda u: 1.06 * u),
        (isotropic.entropies, ("iso", "sphere"), "S", lambda s: 0.15 + s),
        (isotropic.radii, ("iso", "elr"), "r", lambda r: 1.02 * r),
        (isotropic.pressures, ("iso", "sphere"), "p", lambda p: 1.05 * p),
        (isotropic.slopes, ("iso", "lr"), "S_full", lambda s: s + 0.08 * np.log(s["lam"])),
        (isotropic.minima, ("iso", "lr"), "T_step", lambda t: 3 * t),
        (isotropic.hot_energies, ("hot",), "U", lambda u: 0.95 * u),
        (isotropic.uneven_noise, ("anisotropic",), "S", lambda s: s - 0.6),
    ],
)
def test_a_claim_holds_on_an_exact_gas_and_fails_on_a_spoilt_one(found, check, path, variable, change):
    assert verdicts(check(found[path[0]])) == HOLDS
    made_up.spoil(found, path, variable, change)
    assert check(found[path[0]]).check.verdict == "fails"


def test_a_radius_still_on_its_way_is_left_out(found):
    late = found["iso"]
    late["elr"]["r"][0, 0] *= 1.5
    assert isotropic.radii(late).check.verdict == "fails"
    late["elr"]["relaxed"][0, 0] = False
    assert isotropic.radii(late).check.verdict == "holds"
    late["elr"]["relaxed"][:], late["lr"]["relaxed"][:] = False, False
    assert isotropic.radii(late).check.verdict == "inconclusive"
