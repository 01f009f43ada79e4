"""The energy-entropy update at tiny settings, and its claim."""

import math

import numpy as np
import pytest
import xarray as xr
from claimed import FAILS, HOLDS, verdicts
from phenomena.cooling.by_hand import trained

from thermolab.instruments import spread
from thermolab.phenomena.cooling import entropic


@pytest.fixture(scope="module")
def signs():
    return entropic.entropic.run(epochs=2, width=8, difficulty="easy", n_seeds=2)


def test_shapes_of_the_signs(signs):
    assert signs.sizes == {"sign": 3, "time": 3, "seed": 2}
    assert set(signs.data_vars) == {"r2", "U", "accuracy", "S", "cosine", "rate", "growth"}
    assert signs["sign"].values.tolist() == [1, 0, -1]
    assert np.isfinite(signs.to_array()).all()


def test_the_rate_is_that_of_the_term_alone(signs):
    np.testing.assert_allclose(signs["rate"], signs["sign"].broadcast_like(signs["rate"]), atol=2e-4)


def test_growth_is_a_product_of_steps(signs):
    product = 1.0
    for _ in range(64):
        product *= (1 + 0.1 * 0.03) ** 2
    np.testing.assert_allclose(signs["growth"].sel(sign=1)[-1], product, rtol=1e-9)
    np.testing.assert_allclose(signs["growth"].isel(time=0), 1.0)
    np.testing.assert_allclose(
        signs["r2"].sel(sign=1)[-1] / signs["r2"].sel(sign=1)[0], product, rtol=0.3
    )  # the gradient adds to it
    assert (signs["r2"].sel(sign=-1)[-1] < signs["r2"].sel(sign=-1)[0]).all()


def test_all_signs_start_alike_on_equal_batches(signs):
    """Without the term it is plain SGD, and with the sign turned weight decay."""
    for name in ("r2", "U", "S"):
        np.testing.assert_array_equal(signs[name].isel(time=0, sign=0), signs[name].isel(time=0, sign=2))
    for sign, lam in ((0, 0.0), (-1, 0.03)):
        _, weights = trained(64, seed=1, lam=lam)
        np.testing.assert_allclose(signs["r2"].sel(sign=sign, seed=1)[-1], float(weights @ weights), rtol=1e-4)


def test_the_gradient_of_entropy_points_along_the_weights():
    net, weights = trained()
    assert float(entropic.entropy_cosine(net.replicas, weights[None])[0]) > 0.9
    # by differences of the instrument: S grows by 2 log(1 + h) where all weights grow by h
    entropy = [spread.entries((1 + h) * weights.double()[None], net.replicas.views)[0] for h in (0.0, 0.01)]
    assert entropy[1] - entropy[0] == pytest.approx(2 * math.log(1.01))
    shifted = weights[None].clone()
    next(iter(net.replicas.views(shifted).values())).add_(1.0)  # a mean is no spread
    assert float(entropic.entropy_cosine(net.replicas, shifted)[0]) < 0.5


def rates(printed, other):
    values = np.array([printed, 0.0, other])[:, None, None] * np.ones((3, 5, 3))
    return xr.Dataset({"rate": (("sign", "time", "seed"), values)}, {"sign": [1, 0, -1]})


def test_the_sign_of_weight_decay(signs):
    assert verdicts(entropic.eef_is_weight_decay(rates(1.0, -1.0))) == FAILS
    assert verdicts(entropic.eef_is_weight_decay(rates(-0.995, 1.0))) == HOLDS
    assert verdicts(entropic.eef_is_weight_decay(signs)) == FAILS
