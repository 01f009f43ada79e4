"""The stationary toy of notebook 02 at points that it does not use, and its claims."""

import math
import re

import numpy as np
import pytest
import xarray as xr
from claimed import HOLDS, verdicts
from phenomena.temperature_collapse.made_up import FAST, FOUR, UNEVEN

from thermolab.phenomena.temperature_collapse import falling, theory, toy

# the accuracy that the finite-step state is held to, in U - U_min and in the signal-to-noise ratio
TEMPERATURE, SNR = 0.03, 0.02


@pytest.fixture(scope="module")
def run():
    return toy.stationary.run(eta=(0.01, 0.02, 0.04, 0.08), replicas=256, snapshots=32)


@pytest.mark.parametrize(
    ("points", "eta", "batch"),
    [(theory.UNDER, (0.03, 0.1), 1), (theory.around(0.4, 4), (0.02, 0.06), 1), (UNEVEN, (0.02, 0.06), 1), (UNEVEN, (0.06,), 3),
     (FOUR, (0.03, 0.08), 1)],
)  # fmt: skip
def test_the_stationary_state_of_other_points(points, eta, batch):
    d = toy.stationary.run(points, eta, batch=batch, replicas=256, snapshots=16, seed=2)
    assert d.attrs["dim"] == np.shape(points)[1]
    mean = d.mean("seed")
    np.testing.assert_allclose(mean["T"] / d["T_pred"], 1, atol=TEMPERATURE)
    np.testing.assert_allclose(mean["snr"] / d["snr_pred"], 1, atol=SNR)
    np.testing.assert_allclose(mean["U"] - d["U_min"], mean["T"] * (d.attrs["dim"] - 1) / 2, rtol=1e-9)
    coordinates = d.attrs["dim"] - 1
    np.testing.assert_allclose(mean["S"], d["S_pred"], atol=toy.ENTROPY_PER_COORDINATE * coordinates)
    np.testing.assert_allclose(mean["S_gauss"], d["S_pred"], atol=toy.ENTROPY_PER_COORDINATE * coordinates)
    np.testing.assert_allclose(mean["gap"], 0, atol=0.06)
    np.testing.assert_allclose(d["T_lead"], [theory.leading_state(points, h, batch).temperature for h in eta], rtol=1e-9)


def test_results_repeat_and_do_not_depend_on_where_the_points_stand():
    q, _ = np.linalg.qr(np.random.default_rng(4).normal(size=(3, 3)))
    tiny = {"replicas": 16, "snapshots": 4, "n_seeds": 2, "relaxations": 2.0}
    d = toy.stationary.run(UNEVEN, (0.05, 0.1), **tiny)
    xr.testing.assert_identical(toy.stationary.run(UNEVEN, (0.05, 0.1), **tiny), d)
    assert (toy.stationary.run(UNEVEN, (0.05, 0.1), **tiny, seed=1)["U"] != d["U"]).all()
    turned = toy.stationary.run(UNEVEN @ q.T, (0.05, 0.1), **tiny)
    np.testing.assert_allclose(turned["U_pred"], d["U_pred"], rtol=1e-9)
    np.testing.assert_allclose(np.abs(turned["points"]), np.abs(d["points"]), atol=1e-12)


def test_replicas_that_hop_between_the_two_minima_are_seen_from_one():
    d = toy.stationary.run(theory.around(0.5), (1.5,), replicas=64, snapshots=8, relaxations=200.0, n_seeds=2)
    assert np.isfinite(d["S_gauss"]).all()
    assert (d["S"] < math.log(2 * math.pi)).all()  # of half a sphere


# --- claims -----------------------------------------------------------------------------------------------------------
def test_the_claims_hold_and_their_controls_fail(run):
    assert verdicts(toy.temperature(run)) == HOLDS
    assert verdicts(toy.signal_to_noise(run, falling.converging.run(**FAST))) == HOLDS


def test_a_wrong_temperature_entropy_or_exponent_fails(run):
    assert toy.temperature(run.assign(T=1.15 * run["T"])).check.verdict == "fails"
    assert toy.temperature(run.assign(S=run["S"] + 0.25)).check.verdict == "fails"
    steeper = run.assign(snr=run["snr"] * run["eta"] ** 0.1)
    assert toy.signal_to_noise(steeper, falling.converging.run(**FAST)).check.verdict == "fails"


def test_the_control_of_the_temperature_is_a_state_twice_as_hot(run):
    hot = run.assign(T=2 * run["T"], S=run["S"] + math.log(2))  # (D - 1)/2 = 1
    assert verdicts(toy.temperature(hot)) == ("fails", "holds")


def test_a_single_cold_rate_decides_nothing(run):
    with pytest.raises(ValueError, match="needed: 2 or more"):
        toy.temperature(run.isel(eta=slice(3, 4)))


def test_docstring_lists_the_dataset(run):
    listed = toy.stationary.__doc__.split("Returns a Dataset")[1]
    for name in run.data_vars:
        assert re.search(rf"\b{name}\b", listed), name
