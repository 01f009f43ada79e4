"""The perfect gas beside the network at a small size; and the claims that compare the two."""

import numpy as np
import pytest
import xarray as xr
from claimed import FAILS, verdicts
from phenomena.ideal_gas import made_up
from phenomena.ideal_gas.by_hand import finite_step

from thermolab.phenomena.ideal_gas import network, twin


@pytest.fixture(scope="module")
def small_twin():
    """A perfect gas with the rates and the window of a made-up reference, whose Tr Σ is 40."""
    rates = np.array([1e-3, 1 / 64, 1 / 32, 1 / 16])  # a quarter of whose correlation time is a whole number of frames
    known = xr.Dataset({"trace": (("eta", "seed"), np.full((4, 2), 40.0))}, coords={"eta": rates, "seed": [0, 1]})
    known = known.assign_attrs(burn_in=500, window=16 * 120, dim=576)
    return twin.gas.run(
        known, eta=(0.02, 0.05, 2), lam=(0.05, 0.1, 3), burn_in=300, window=64 * network.STRIDE, samples=120, n_seeds=2
    )


def test_a_small_twin_is_a_perfect_gas(small_twin):
    made_up.check_docstring(twin.gas, small_twin, "sphere_S U r S S_full diverged T p")
    assert small_twin.sizes == {"eta": 2, "lam": 3, "seed": 2, "rate": 3}
    for name in ("U", "r", "S", "S_full", "diverged"):
        assert small_twin[name].dims == ("eta", "lam", "seed"), name
    assert small_twin["T"].dims == small_twin["p"].dims == ("eta", "lam")
    assert small_twin["sphere_S"].dims == ("rate", "seed")
    for name in small_twin.data_vars:
        assert np.isfinite(small_twin[name]).all(), name
    assert (small_twin["diverged"] == 0).all()
    assert (small_twin["sphere_S"][:, 0] != small_twin["sphere_S"][:, 1]).all()
    # the slow rate is left out, and the noise has the trace of the reference
    assert small_twin["rate"].values.tolist() == [1 / 64, 1 / 32, 1 / 16]
    assert small_twin.attrs["sigma"] ** 2 * 575 == pytest.approx(40)
    np.testing.assert_allclose(small_twin["T"], np.broadcast_to(small_twin["eta"] * 40 / 2 / 575, (3, 2)).T, rtol=1e-9)
    np.testing.assert_allclose(small_twin["p"], np.broadcast_to(small_twin["lam"], (2, 3)))
    np.testing.assert_allclose(small_twin["S_full"], small_twin["S"] + 575 * np.log(small_twin["r"]), rtol=1e-9)
    state = [
        [finite_step("elr", h, k, 576, small_twin.attrs["sigma"])[0] for k in small_twin["lam"].values]
        for h in small_twin["eta"].values
    ]
    assert abs(np.log(small_twin["r"].mean("seed") / state)).max() < 0.25 / 2  # nearer than it started
    for s in small_twin["sphere_S"].transpose("seed", "rate").values:
        assert np.polyfit(np.log(small_twin["rate"]), s, 1)[0] / (575 / 2) == pytest.approx(1, abs=0.1)


def test_a_twin_whose_window_is_too_short_has_no_entropy():
    known = xr.Dataset({"trace": (("eta", "seed"), np.full((2, 2), 40.0))}, coords={"eta": [1 / 64, 1 / 16], "seed": [0, 1]})
    known = known.assign_attrs(burn_in=8, window=160, dim=576)
    tiny = {"eta": (0.05, 0.05, 1), "lam": (0.1, 0.1, 1), "burn_in": 8, "window": 8 * network.STRIDE, "n_seeds": 2}
    data = twin.gas.run(known, **tiny, samples=40)
    assert np.isnan(data["sphere_S"].isel(rate=0)).all()
    assert np.isfinite(data["sphere_S"].isel(rate=1)).all()


# --- what is decided --------------------------------------------------------------------------------------------------
TWINS = [
    (twin.entropy_growth, "reference", "sphere_S", lambda s: 1.3 * s),
    (twin.minima, "net", "T", lambda t: 3 * t),
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
    assert twin.entropy_growth(known, perfect).check.verdict == "holds"
    assert twin.minima({"elr": perfect}, perfect).check.verdict == "holds"


def test_a_network_without_entropies_decides_nothing(found):
    known, lost = found["reference"], found["net"]["elr"]
    known["S"][:], lost["S_full"][:] = np.nan, np.nan
    assert verdicts(twin.entropy_growth(known, found["perfect"])) == ("inconclusive", "holds")
    assert verdicts(twin.minima({"elr": lost}, found["perfect"])) == ("inconclusive", "holds")
