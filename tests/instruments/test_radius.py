"""Radius and pressure from steps whose length is known."""

import numpy as np
import pytest
import torch

from thermolab.instruments.radius import pressure_on_sphere, radius
from thermolab.instruments.temperature import gas_temperature


def outward(n, dim, r, eta, sigma, seed=0):
    """|w| after a step η r² g at a right angle to w, g̃ = r g isotropic of variance σ² per component."""
    noise = sigma * np.random.default_rng(seed).normal(size=(n, dim - 1))
    w = np.hstack([np.full((n, 1), r), -eta * r**2 * noise / r])
    return radius(w), noise


def test_radius():
    weights = np.array([[[3.0, 4.0], [0.0, 2.0]]])
    np.testing.assert_array_equal(radius(weights), [[5, 2]])
    assert radius(torch.tensor([3.0, 4.0])) == 5.0
    assert isinstance(radius(torch.tensor([3.0, 4.0])), float)
    # float32 weights, float64 sum: a float32 one is off by 1e-7 or more here.
    big = torch.full((3_000_000,), 0.1)
    assert radius(big) == pytest.approx(float(big[0]) * np.sqrt(3e6), rel=1e-10)


@pytest.mark.parametrize("r", [0.5, 1.0, 3.0])
def test_pressure_is_that_of_the_finite_step_and_of_the_gas(r):
    dim, eta, sigma = 10, 0.01, 1.0
    before, noise = outward(4000, dim, r, eta, sigma)
    found = pressure_on_sphere(before, r, eta)
    exact = (np.sqrt(1 + eta**2 * (noise**2).sum(1)) - 1) / (eta * r**2)
    assert found.value == pytest.approx(exact.mean(), rel=1e-9)
    assert found.standard_error == pytest.approx(exact.std(ddof=1) / np.sqrt(4000), rel=1e-8)
    gas = gas_temperature(eta, (dim - 1) * sigma**2, dim) * (dim - 1) / r**2
    assert found.value == pytest.approx(gas, abs=4 * found.standard_error)
    assert abs(found.value - 2 * gas) > 10 * found.standard_error
    assert found.n == 4000


def test_scalars_and_cells():
    one = pressure_on_sphere(1.005, 1.0, 0.1)
    assert one.value == pytest.approx(0.05)
    assert np.isnan(one.standard_error)
    assert one.n == 1
    before = np.stack([outward(50, 5, r, 0.1, 1.0)[0] for r in (1.0, 2.0)])
    cells = pressure_on_sphere(torch.as_tensor(before), np.array([1.0, 2.0]), 0.1)
    assert cells.value.shape == (2,)
    assert cells.value[1] == pytest.approx(pressure_on_sphere(before[1], 2.0, 0.1).value, rel=1e-12)


def test_time_order_widens_the_error():
    slow = 1 + 1e-3 * np.repeat(np.random.default_rng(0).normal(size=200), 10)
    plain, ordered = pressure_on_sphere(slow, 1.0, 0.1), pressure_on_sphere(slow, 1.0, 0.1, time_ordered=True)
    assert ordered.value == plain.value
    assert ordered.standard_error / plain.standard_error == pytest.approx(np.sqrt(10), rel=0.25)
    assert not ordered.short  # 200 independent values
    assert pressure_on_sphere(slow[:400], 1.0, 0.1, time_ordered=True).short


def test_radius_and_rate_are_positive():
    for r, eta in ((0.0, 0.1), (1.0, -0.1)):
        with pytest.raises(ValueError, match="must be positive"):
            pressure_on_sphere(1.0, r, eta)
