"""The walk of the scale-invariant walker: what `growth` reads, the law, and the claim on data made by hand."""

import numpy as np
import pytest
import torch
import xarray as xr
from claimed import verdicts

from thermolab.engine.experiment import Experiment
from thermolab.phenomena.irreversibility import walk
from thermolab.systems.walker import ScaleInvariantWalker, moment

GROWTH = {"rates": (0.1, 0.3), "dims": (2, 5), "steps": 400, "logs": 4, "replicas": 3, "n_seeds": 2}


def seeds_of(mean, spread=0.01):
    """Five seeds about a mean."""
    return mean + spread * np.array([-1.0, -0.5, 0, 0.5, 1.0])


@pytest.fixture(scope="module")
def grown():
    return walk.growth.run(**GROWTH)


def test_each_step_adds_its_squared_length(grown):
    assert float(grown["identity"].max()) < 1e-13


def test_growth_reads_the_walk(grown):
    assert grown["r4"].dims == ("dim", "eta", "seed", "time")
    assert grown["time"].values.tolist() == [0, 100, 200, 300, 400]
    weights = torch.zeros(12, 5, dtype=torch.float64)
    weights[:, 0] = 1
    run = Experiment(ScaleInvariantWalker(5), eta=[0.1] * 6 + [0.3] * 6, sigma=0.5, weights=weights, streams=[*range(6)] * 2)
    run.advance(400)
    r4 = (run.state.weights**2).sum(1).reshape(2, 2, 3) ** 2
    np.testing.assert_allclose(grown["r4"].sel(dim=5, time=400), r4.mean(2), rtol=1e-12)
    np.testing.assert_allclose(grown["law"].sel(dim=5), 1 + 2 * np.array([[0.01], [0.09]]) * 4 * np.arange(5) * 100)
    half = grown["r4"].sel(time=400) - grown["r4"].sel(time=200)
    np.testing.assert_allclose(grown["slope"], half / (2 * grown["eta"] ** 2 * (grown["dim"] - 1) * 200))


def test_the_law():
    """Against small steps of its differential equation, with decay; without decay it is the limit."""
    r4, eta, lam, constant = 1.0, 0.2, 0.3, 2.0
    for _ in range(10_000):
        r4 += 0.001 * (2 * eta**2 * constant - 4 * eta * lam * r4)
    assert walk.law(1.0, eta, lam, constant, 10) == pytest.approx(r4, rel=1e-3)
    assert walk.law(1.0, eta, 1e-9, constant, 10) == pytest.approx(float(walk.law(1.0, eta, 0.0, constant, 10)), rel=1e-6)


@pytest.mark.parametrize("dim", [2, 6])
def test_the_walk_follows_the_law(dim):
    """From |w| = 30, where the excess, of order (d + 1) η/|w|², is 1.6 % or less; with weight decay it comes to rest."""
    weights = torch.zeros(400, dim, dtype=torch.float64)
    weights[:, 0] = 30
    rates, lam = np.repeat([1.0, 2.0], 200), np.repeat([0.0, 1e-4], 200)
    run = Experiment(ScaleInvariantWalker(dim), eta=rates, lam=lam, sigma=0.5, weights=weights)
    run.advance(2000)
    r4 = ((run.state.weights**2).sum(1) ** 2).reshape(2, 200).numpy()
    for got, eta, decay in zip(r4, (1.0, 2.0), (0.0, 1e-4), strict=True):
        pushed = 2 * eta**2 * moment(1.0, dim, 0.5) * 2000
        expected = walk.law(30**4, eta, decay, moment(1.0, dim, 0.5), 2000)
        assert abs(got.mean() - expected) < 4 * got.std() / np.sqrt(200) + 0.03 * pushed
        assert got.std() < 0.3 * pushed


def test_gradient_flow_conserves_the_length(grown):
    np.testing.assert_allclose(walk.flow_radius(np.array([0.1, 1.0, 50.0])), 1, atol=1e-9)
    np.testing.assert_allclose(grown["flow_slope"], 0, atol=1e-8)


def test_a_seed_does_not_depend_on_the_others(grown):
    more = walk.growth.run(**GROWTH | {"n_seeds": 3})
    np.testing.assert_allclose(more["r4"].isel(seed=slice(2)), grown["r4"], rtol=1e-12)
    other = walk.growth.run(**GROWTH, seed=1)
    assert abs(other["slope"].values - grown["slope"].values).min() > 1e-6


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (
            {"rates": (0.1, -1)},
            "rates=(0.1, -1) is not positive and finite; allowed: a list of 1 or more, each a positive number",
        ),
        ({"rates": ()}, "rates=() has a length that is out of range; allowed: a list of 1 or more"),
        ({"dims": (1,)}, "dims=(1,) is out of range; allowed: a list of 1 or more, each a whole number, 2 or more"),
        ({"sigma": 0}, "sigma=0 is not positive and finite; allowed: a positive number"),
        ({"logs": 3}, "logs=3 is odd; allowed: an even number, 2 or more"),
        ({"logs": 4, "steps": 102}, "steps=102 is not divisible; allowed: a multiple of logs=4"),
        ({"replicas": 0}, "replicas=0 is out of range; allowed: a whole number, 1 or more"),
    ],
)
def test_growth_refuses_settings_out_of_range(setting, words):
    with pytest.raises(ValueError, match=r"^[^\n]+$") as error:
        walk.growth.run(**setting)
    assert words in str(error.value)


# --- the claim ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("slope", "identity", "spread", "verdict"),
    [(1.01, 1e-13, 0.01, "holds"), (1.2, 1e-13, 0.01, "fails"), (1.01, 1e-6, 0.01, "fails"), (1.05, 0, 0.05, "inconclusive")],
)
def test_scale_growth_asks_for_the_law_and_the_identity(slope, identity, spread, verdict):
    cells = ("dim", "eta", "seed")
    data = xr.Dataset(
        {
            "slope": (cells, seeds_of(slope, spread)[None, None] * np.ones((2, 3, 1))),
            "identity": (cells, np.full((2, 3, 5), identity)),
            "flow_slope": (("dim", "eta"), np.full((2, 3), 1e-10)),
        }
    )
    assert verdicts(walk.scale_growth(data)) == (verdict, "fails")
