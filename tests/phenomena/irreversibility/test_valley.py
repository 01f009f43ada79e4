"""The valley of equal loss: its data and its symmetry, where SGD gathers, and the claim on data made by hand."""

import numpy as np
import pytest
import torch
import xarray as xr
from claimed import verdicts

from thermolab.engine.experiment import DivergenceError, Experiment
from thermolab.phenomena.irreversibility import valley

PLACES = {"rates": (0.1,), "replicas": 8, "relaxations": 30, "n_seeds": 2}


def seeds_of(mean, spread=0.01):
    """Five seeds about a mean."""
    return mean + spread * np.array([-1.0, -0.5, 0, 0.5, 1.0])


def test_the_data_of_the_valley_are_balanced():
    data = valley.valley_data()
    both = torch.cat([data.x, data.y], 1).double()
    torch.testing.assert_close(both.T @ both / len(data), torch.eye(4, dtype=torch.float64), atol=1e-6, rtol=0)
    assert both.mean(0).abs().max() < 1e-6


def test_rescaling_changes_neither_loss_nor_volume():
    net = valley.valley(1.0)
    w = net.start(torch.arange(6), 0)
    x, y = net.data.x.expand(6, -1, -1), net.data.y.expand(6, -1, -1)
    before = net.replicas.loss_and_gradient(w, x, y, torch.empty_like(w))
    v, u = w.split(2, 1)
    moved = torch.cat([v / 3, 3 * u], 1)
    torch.testing.assert_close(net.replicas.loss_and_gradient(moved, x, y, torch.empty_like(w)), before)
    scale = torch.autograd.functional.jacobian(lambda w: torch.cat([w[:2] / 3, 3 * w[2:]]), w[0])
    assert float(torch.linalg.det(scale)) == pytest.approx(1)
    excess = ((u[:, :, None] * v[:, None] - torch.tensor([[1.0, 0], [0, 0]])) ** 2).sum((1, 2))
    torch.testing.assert_close(before, excess + 2)


def test_sgd_gathers_where_the_valley_is_balanced():
    """The spread of s comes near ησ/2, from a start at s = ½."""
    eta, sigma = 0.03, 1.0
    weights = torch.tensor([[np.exp(-0.5), 0, np.exp(0.5), 0]], dtype=torch.float32).repeat(100, 1)
    run = Experiment(valley.valley(sigma), eta=eta, batch_size=1, weights=weights, seed=2)
    run.advance(round(10 / (8 * eta**2)))
    v, u = run.state.weights.double().split(2, 1)
    s = (u.norm(dim=1) / v.norm(dim=1)).log() / 2
    assert float(s.std()) == pytest.approx(eta * sigma / 2, rel=4 / np.sqrt(2 * 100))  # four standard errors of the spread
    assert abs(float(s.mean())) < eta * sigma


def test_sgd_knows_places_of_equal_loss_and_isotropic_noise_does_not():
    found = valley.occupation.run(**PLACES)
    assert found["log_ratio"].dims == ("eta", "seed")
    assert (found["log_ratio"] > 0.4).all()
    assert abs(found["sphere_log_ratio"]).max() < 0.3
    width = float(found["s"][1] - found["s"][0])
    assert (found["density"].sum("s") * width <= 1 + 1e-9).all()
    assert found["density"].sum("s").min() * width > 0.8
    np.testing.assert_allclose(found["sphere_density"].mean("phi"), 1)
    more = valley.occupation.run(**PLACES | {"n_seeds": 3})
    np.testing.assert_array_equal(more["density"].isel(seed=slice(2)), found["density"])


def test_noise_that_is_not_isotropic_is_seen_on_the_sphere():
    found = valley.occupation.run(**PLACES, spectrum=(1.6, 0.4))
    assert (found["sphere_log_ratio"] > 0.4).all()


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"rates": (0,)}, "rates=(0,) is not positive and finite; allowed: a list of 1 or more, each a positive number"),
        ({"sigma": -1}, "sigma=-1 is not positive and finite; allowed: a positive number"),
        ({"temperature": 0}, "temperature=0 is not positive and finite; allowed: a positive number"),
        ({"spectrum": (1, 2)}, "spectrum must be 2 positive variances of mean 1"),
        ({"relaxations": 0}, "relaxations=0 is out of range; allowed: a whole number, 1 or more"),
    ],
)
def test_occupation_refuses_settings_out_of_range(setting, words):
    with pytest.raises(ValueError, match=r"^[^\n]+$") as error:
        valley.occupation.run(**setting)
    assert words in str(error.value)


def test_a_valley_that_diverges_says_so():
    with pytest.raises(DivergenceError, match="try eta"):
        valley.occupation.run(**PLACES | {"rates": (3.0,)})


# --- its guards ---------------------------------------------------------------------------------------------------------
def test_places_are_counted_in_units_of_the_theory():
    """s = ½ log(|u|/|v|) from its median, in units of ησ/2: a factor e in |u|/|v| is 1/(ησ) of them."""
    weights = np.array([[1.0, 0, 1, 0], [np.exp(-0.5), 0, np.exp(0.5), 0], [np.exp(0.5), 0, np.exp(-0.5), 0]])
    s, excess = valley.place(weights, 0.03 * 2 / 2)
    np.testing.assert_allclose(s, [0, 1 / 0.06, -1 / 0.06])
    np.testing.assert_allclose(excess, 0, atol=1e-15)
    assert valley.place(np.array([[2.0, 0, 1, 1]]), 1.0)[1] == pytest.approx(1 + 4)


def test_points_of_other_loss_are_not_counted():
    """Those of middle loss alone are compared: the rest may lie wherever it wants."""
    excess = np.repeat([0.0, 1.0, 2.0], [25, 50, 25])
    even = np.tile([0.0, 2.0], 25)  # as many within the inner part as in the outer, which is twice as long
    s = np.concatenate([np.zeros(25), even, np.zeros(25)])
    assert valley.gathering(s, excess) == pytest.approx(np.log(2))
    assert valley.gathering(s, np.ones(100)) > valley.gathering(s, excess) + 0.8  # the mutant: everything counts


def test_a_place_that_is_avoided_is_no_gibbs_either():
    """Two-sided: log ratios of −1 contradict equal occupation as much as +1; a control of −1.56 is not Gibbs."""
    made = lambda valley_at, sphere_at: xr.Dataset(  # noqa: E731
        {k: (("eta", "seed"), seeds_of(v)[None]) for k, v in (("log_ratio", valley_at), ("sphere_log_ratio", sphere_at))}
    )
    assert verdicts(valley.no_gibbs(made(-1.0, 0.0))) == ("holds", "fails")
    assert verdicts(valley.no_gibbs(made(1.0, -1.56))) == ("holds", "holds")


# --- the claim ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("ratio", "spread", "verdict"), [(1.0, 0.1, "holds"), (0.02, 0.01, "fails"), (0.1, 0.1, "inconclusive")])
def test_no_gibbs_asks_for_unequal_occupation(ratio, spread, verdict):
    values = {"log_ratio": ratio, "sphere_log_ratio": 0.0}
    data = xr.Dataset({k: (("eta", "seed"), np.stack([seeds_of(v, spread)] * 2)) for k, v in values.items()})
    if verdict == "holds":
        assert verdicts(valley.no_gibbs(data)) == ("holds", "inconclusive")  # of a control that spreads as much
        data["sphere_log_ratio"] /= 10
        assert verdicts(valley.no_gibbs(data)) == ("holds", "fails")
    else:
        assert valley.no_gibbs(data).check.verdict == verdict
