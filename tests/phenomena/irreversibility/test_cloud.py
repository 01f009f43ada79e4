"""The cloud at rest: its closed forms by other ways, what the recipes read, and the claims on data made by hand."""

import numpy as np
import pytest
import torch
import xarray as xr
from claimed import FAILS, HOLDS, verdicts

from thermolab.phenomena.irreversibility import cloud
from thermolab.systems.bowl import HESSIAN

H = np.diag(HESSIAN)
TILTED = np.array([[0.7, 0.3], [0.3, 0.4]])


def seeds_of(mean, spread=0.01):
    """Five seeds about a mean."""
    return mean + spread * np.array([-1.0, -0.5, 0, 0.5, 1.0])


# --- closed forms -------------------------------------------------------------------------------------------------------
def test_the_covariance_at_rest_is_where_steps_lead():
    sigma, current = cloud.at_rest(0.3, H, TILTED)
    a, by_steps = np.eye(2) - 0.3 * H, np.zeros((2, 2))
    for _ in range(2000):
        by_steps = a @ by_steps @ a.T + 0.09 * TILTED
    np.testing.assert_allclose(sigma, by_steps, rtol=1e-10)
    np.testing.assert_allclose(current, -current.T, atol=1e-15)
    assert current[1, 0] == pytest.approx(0.3 * (1.0 - 0.1) * sigma[0, 1])  # (a₂ − a₁) Σ₁₂


@pytest.mark.parametrize("noise", [H, np.eye(2), 3 * H @ H])
def test_no_current_where_noise_and_hessian_commute(noise):
    np.testing.assert_allclose(cloud.at_rest(0.3, H, noise)[1], 0, atol=1e-16)
    assert cloud.entropy_production(0.3, H, noise) == pytest.approx(0, abs=1e-12)


def test_entropy_is_the_mean_of_the_log_ratio():
    """½ Tr D⁻¹ Cov(w − Aw′) − d/2, with the covariance of (w, w′) alone."""
    eta = 0.4
    a, d = np.eye(2) - eta * H, eta**2 * TILTED
    sigma = cloud.at_rest(eta, H, TILTED)[0]
    later = a @ sigma  # Cov(w′, w)
    back = sigma + a @ sigma @ a.T - later.T @ a.T - a @ later
    expected = np.trace(np.linalg.solve(d, back)) / 2 - 1
    assert cloud.entropy_production(eta, H, TILTED) == pytest.approx(expected, rel=1e-10)
    assert expected > 0


def test_what_the_cloud_does_in_a_relaxation_time_does_not_vanish_with_the_rate():
    for eta in (1e-2, 1e-4):
        sigma, current = cloud.at_rest(eta, H, cloud.turned(45))
        assert cloud.turning_rate(eta, current, sigma) == pytest.approx(0.434, rel=0.01)
        assert cloud.entropy_production(eta, H, cloud.turned(45)) / (eta * np.mean(HESSIAN)) == pytest.approx(2.715, rel=0.01)


# --- recipes ------------------------------------------------------------------------------------------------------------
def test_the_cloud_in_the_bowl_turns_as_predicted():
    found = cloud.cloud.run((0.2,), (0.0, 45.0), steps=200, replicas=200, n_seeds=3)
    assert found["rate"].dims == ("angle", "eta", "seed")
    np.testing.assert_allclose(found["rate"].mean("seed"), found["rate_pred"], atol=0.04)
    np.testing.assert_allclose(found["produced"].mean("seed"), found["produced_pred"], rtol=0.1, atol=0.02)
    one = cloud.cloud.run((0.2,), (0.0, 45.0), steps=200, replicas=200, n_seeds=1)
    np.testing.assert_array_equal(one["rate"], found["rate"].isel(seed=[0]))


def test_the_answers_have_the_moments_that_they_should():
    data = cloud.answers(0.9)
    x, y = data.x.double(), data.y.double()
    torch.testing.assert_close(2 * x.T @ x / len(x), torch.diag(torch.tensor(HESSIAN, dtype=torch.float64)))
    assert float((x * y).mean(0).abs().max()) < 1e-6
    squares = (y**2).squeeze(1)
    same = (x.prod(1) > 0).nonzero().squeeze(1)
    assert float(squares.mean()) == pytest.approx(1, rel=1e-5)
    assert float(squares[same].mean()) == pytest.approx(1.9, rel=1e-5)


def test_minibatches_sweep_what_their_covariance_says():
    found = cloud.minibatches.run((0.4,), (0.0, 0.9), steps=100, replicas=200, n_seeds=3)
    assert found["swept"].dims == found["expected"].dims == ("contrast", "eta", "seed")
    mean = found.mean("seed").isel(eta=0)
    assert float(mean["linear"].sel(contrast=0)) == pytest.approx(0, abs=1e-8)
    assert float(mean["swept"].sel(contrast=0.9)) == pytest.approx(float(mean["expected"].sel(contrast=0.9)), rel=0.15)
    assert abs(float(mean["swept"].sel(contrast=0))) < 0.15 * float(mean["expected"].sel(contrast=0.9))


@pytest.mark.parametrize(
    ("recipe", "setting", "words"),
    [
        (cloud.cloud, {"rates": (0,)}, "rates=(0,) is not positive and finite; allowed: a list of 1 or more, each a positive"),
        (cloud.cloud, {"angles": (100,)}, "angles=(100,) is out of range; allowed: a list of 1 or more, each a number"),
        (cloud.cloud, {"steps": 0}, "steps=0 is out of range; allowed: a whole number, 1 or more"),
        (
            cloud.minibatches,
            {"contrasts": (1.0,)},
            "contrasts=(1.0,) is out of range; allowed: a list of 1 or more, each a number",
        ),
        (cloud.minibatches, {"batch_size": 0}, "batch_size=0 is out of range; allowed: a whole number, 1 or more"),
    ],
)
def test_recipes_refuse_settings_out_of_range(recipe, setting, words):
    with pytest.raises(ValueError, match=r"^[^\n]+$") as error:
        recipe.run(**setting)
    assert words in str(error.value)


# --- claims -------------------------------------------------------------------------------------------------------------
def in_the_bowl(turned=0.43, produced=2.7, still=0.0):
    values = {"rate": (still, turned), "produced": (still, produced)}
    data = {k: (("angle", "eta", "seed"), np.stack([[seeds_of(v, 0.005)] * 2 for v in pair])) for k, pair in values.items()}
    data |= {f"{k}_pred": (("angle", "eta"), np.array([[0.0] * 2, [v] * 2])) for k, v in (("rate", 0.43), ("produced", 2.7))}
    return xr.Dataset(data, {"angle": [0.0, 45.0], "eta": [0.05, 0.1]})


def test_detailed_balance_asks_whether_a_slow_cloud_turns():
    assert verdicts(cloud.detailed_balance(in_the_bowl())) == FAILS
    assert verdicts(cloud.detailed_balance(in_the_bowl(turned=0.03))) == ("holds", "holds")
    assert verdicts(cloud.detailed_balance(in_the_bowl(still=0.2))) == ("fails", "fails")


def test_the_entropy_produced_is_compared_with_its_form():
    assert verdicts(cloud.produces(in_the_bowl())) == HOLDS
    assert verdicts(cloud.produces(in_the_bowl(produced=3.0))) == ("fails", "fails")
    assert verdicts(cloud.produces(in_the_bowl(still=2.7))) == ("holds", "holds")


def test_the_area_is_compared_with_the_current():
    def swept(most, least):
        dims = ("contrast", "eta", "seed")
        areas = np.stack([[seeds_of(v, 0.001)] * 2 for v in (least, most)])
        data = {"swept": (dims, areas), "expected": (dims, np.stack([[np.zeros(5)] * 2, [np.full(5, 0.1)] * 2]))}
        return verdicts(cloud.turns(xr.Dataset(data, {"contrast": [0.0, 0.9], "eta": [0.2, 0.4]})))

    assert swept(0.1, 0.0) == HOLDS
    assert swept(-0.1, 0.0) == ("fails", "fails")  # the other way round
    assert swept(0.1, 0.1) == ("holds", "holds")
