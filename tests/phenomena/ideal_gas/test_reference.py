"""The reference on the sphere at a small size; and the claims that it alone decides."""

import numpy as np
import pytest
from claimed import FAILS, HOLDS, verdicts
from phenomena.ideal_gas import made_up

from thermolab.phenomena.ideal_gas import reference, theory


def test_a_small_reference(small_reference):
    needed = "U g2 p trace gradient_squared effective_dimension effective_dimension_isotropic S tau drift snr"
    made_up.check_docstring(reference.sphere, small_reference, needed)
    assert small_reference.sizes == {"eta": 6, "seed": 2}
    assert small_reference.attrs["dim"] == 576
    for name in ("U", "g2", "p", "trace", "gradient_squared", "effective_dimension", "drift"):
        assert np.isfinite(small_reference[name]).all(), name
    assert ((small_reference["effective_dimension"] > 1) & (small_reference["effective_dimension"] < 576)).all()
    assert (small_reference["effective_dimension"] < small_reference["effective_dimension_isotropic"]).all()
    # the window is long enough for the stride 0.25/η of the fast rates only
    assert np.isnan(small_reference["S"].sel(eta=1e-4)).all()
    assert np.isfinite(small_reference["S"].sel(eta=0.08)).all()
    # Pythagoras: E|g|² is noise plus signal, measured in two ways
    total = (small_reference["trace"] + small_reference["gradient_squared"]).mean("seed").sel(eta=slice(0.005, None))
    np.testing.assert_allclose(small_reference["g2"].mean("seed").sel(eta=slice(0.005, None)), total, rtol=0.1)
    # and the pressure is that of E|g|²
    np.testing.assert_allclose(
        small_reference["p"],
        theory.finite_step_pressure(small_reference["eta"], 1.0, small_reference["g2"]).transpose("eta", "seed"),
        rtol=0.05,
    )


def test_the_moment_between_measured_rates_is_interpolated(small_reference):
    """A power law comes out exactly, also where the reference did not measure; rates too slow to settle are left out."""
    power = small_reference.copy()
    power["g2"] = (7.0 * power["eta"] ** -0.4 + 0 * power["seed"]).transpose("eta", "seed")
    power["g2"][:2] = 1e9
    rates = np.array([0.01, 0.03, 0.07])
    np.testing.assert_allclose(reference.second_moment(power, "g2")(rates), 7.0 * rates**-0.4, rtol=1e-8)
    r = reference.predicted_radius("lr", np.array([0.3]), np.array([0.05]), power, "g2")
    np.testing.assert_allclose(r**4, 0.3 * 7.0 * (0.3 / r**2) ** -0.4 / (0.05 * (2 - 0.3 * 0.05)), rtol=1e-6)


# --- what is decided --------------------------------------------------------------------------------------------------
def test_settled_leaves_out_the_slow_rates(found):
    d = reference.settled(found["reference"])
    assert set(d["eta"].values) == set(found["reference"]["eta"].values) - set(reference.SLOW)


@pytest.mark.parametrize(
    ("check", "variable", "change"),
    [
        (reference.pressures, "p", lambda p: 1.06 * p),
        (reference.drifts, "drift", lambda d: 0 * d),
    ],
)
def test_a_claim_holds_on_an_exact_reference_and_fails_on_a_spoilt_one(found, check, variable, change):
    assert verdicts(check(found["reference"])) == HOLDS
    made_up.spoil(found, ("reference",), variable, change)
    assert check(found["reference"]).check.verdict == "fails"


def test_a_network_that_fills_few_directions_is_told_from_isotropic_noise(found):
    assert verdicts(reference.filled_directions(found["reference"])) == FAILS
    made_up.spoil(found, ("reference",), "effective_dimension", lambda d: 11.4 * d)
    assert reference.filled_directions(found["reference"]).check.verdict == "holds"
