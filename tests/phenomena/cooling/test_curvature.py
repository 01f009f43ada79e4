"""λ_max along an escape and across a drop of η, and which of them it flags."""

import numpy as np
import pytest
import xarray as xr
from claimed import FAILS, HOLDS, verdicts

from thermolab.engine.experiment import Experiment
from thermolab.instruments.curvature import HessianProducts, largest_eigenvalue
from thermolab.phenomena.cooling import classifiers, curvature, plateau


def test_curvature_along_the_runs():
    found = curvature.curvature.run(replicas=1, points=3, baseline=1, samples=64, n_seeds=1)
    assert found["lambda_max"].dims == ("arm", "seed", "replica", "point")
    assert found.attrs["baseline"] == 1
    assert (found["U"].sel(arm="steady") < 0.5).all()
    begun = plateau.begin(0.04, [0], "mid", seed=0)
    begun.advance(64)
    still = Experiment(classifiers.system("mlp", width=16), eta=0.1, lam=0.03, batch_size=16)
    still.advance((60 + 2) * 32)
    still.set(eta=0.05)
    still.advance(64)
    x, y = classifiers.images()[0].x[:64], classifiers.images()[0].y[:64]
    for arm, run in (("escape", begun), ("drop", still)):
        top = largest_eigenvalue(HessianProducts(run.system, run.state.weights[0], x, y), looks=3)
        assert found["lambda_max"].sel(arm=arm).values[0, 0, 1] == pytest.approx(top.value, rel=0.02)


def curved(escape, drop):
    """λ_max that scatters by 5 % and then changes by these factors, after four points of twelve."""
    rng = np.random.default_rng(3)
    log = 0.05 * rng.normal(size=(4, 5, 4, 12)) + 1.0
    log[0, ..., 4:] += np.log(escape)
    log[2, ..., 4:] += np.log(drop)
    data = {"lambda_max": (("arm", "seed", "replica", "point"), np.exp(log))}
    return xr.Dataset(data, {"arm": [*curvature.ARMS]}, {"baseline": 4})


def test_curvature_flags():
    assert verdicts(curvature.fisher_flags(curved(20.0, 1.0))) == HOLDS
    assert verdicts(curvature.fisher_flags(curved(0.05, 1.0))) == HOLDS
    assert verdicts(curvature.fisher_flags(curved(1.0, 3.0))) == FAILS
    assert verdicts(curvature.fisher_flags(curved(20.0, 3.0))) == ("holds", "holds")
    data = curved(20.0, 1.0)
    data["lambda_max"][0, 0, 0, 5] = -1e-3  # of a search that did not get there
    assert verdicts(curvature.fisher_flags(data)) == HOLDS
