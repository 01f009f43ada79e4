"""Relaxation of the radius at settings that notebook 03 does not use; and the claim on it."""

import numpy as np
import pytest
from claimed import HOLDS, verdicts
from phenomena.ideal_gas import made_up

from thermolab.phenomena.ideal_gas import theory, transients


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
    made_up.check_docstring(transients.relaxation, data, "r r_pred r_other r_star")


def test_the_claim_holds_on_exact_curves_and_fails_on_spoilt_ones():
    found = made_up.everything()
    assert verdicts(transients.laws(found["relaxation"])) == HOLDS
    made_up.spoil(found, ("relaxation", "lr"), "r", lambda r: 1.07 * r)
    assert transients.laws(found["relaxation"]).check.verdict == "fails"


@pytest.mark.parametrize(
    ("bad", "message"),
    [({"protocol": "sphere"}, "protocol='sphere' is unknown; allowed: one of elr, lr"), ({"starts": (0.5, 0)}, "starts=")],
)
def test_a_gas_that_does_not_relax_is_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        transients.relaxation.run(**bad)
