"""The two parts of λ_max of a linear network that learns, against their definitions; the claims on data made up by hand."""

import numpy as np
import pytest
import torch
import xarray as xr
from claimed import FAILS, HOLDS, verdicts

from thermolab.phenomena.progressive_sharpening import subspaces, two_layers

SHORT = {"profile": (1.5, 0.8, 0.6), "width": 4, "steps": 600, "logs": 3, "copies": 2, "n_seeds": 2}


def test_descent_learns_the_function_and_stays_where_it_is_on_the_orbit():
    found = subspaces.subspaces.run(**SHORT)
    assert dict(found.sizes) == {"noise": 3, "time": 4, "seed": 2}
    assert found["time"].values.tolist() == [0, 200, 400, 600]
    assert found["lambda_max"].isel(time=0).std("noise").max() < 1e-9  # one start
    none = found.sel(noise="none")
    np.testing.assert_allclose(none["flattest"].isel(time=-1), 6, rtol=1e-3)
    np.testing.assert_allclose(none["distance"].isel(time=slice(1, None)), none["distance"].isel(time=[1] * 3), rtol=1e-3)
    assert (found["lambda_max"] >= found["flattest"] * (1 - 1e-3)).isel(time=-1).sel(noise="none").all()
    xr.testing.assert_equal(subspaces.subspaces.run(**(SHORT | {"n_seeds": 1})), found.isel(seed=[0]))


def test_parts_of_a_network_that_is_known():
    """W₁ = a 1, W₂ = b 1 compute ab x: 4s = 4ab, the distance is |a² - b²|, λ_max = 2(a² + b²)."""
    net = two_layers.learner((1.0, 1.0), "linear", width=2)
    weights = torch.cat([2 * torch.eye(2).ravel(), 0.5 * torch.eye(2).ravel()])[None]
    np.testing.assert_allclose(subspaces.parts(net, weights, two_layers.identity), [[8.5], [4], [3.75]], rtol=1e-6)


def made_up(ends, noise=0.01):
    """{noise: (flattest at the end, distance at the end)}, from 2 and, at the first look, 1."""
    rng, values = np.random.default_rng(0), np.ones((2, len(ends), 3, 5))
    values[0, :, 0] = 2
    values[1, :, 0] = 9  # of the start, which does not count
    for k, pair in enumerate(ends.values()):
        values[:, k, 2] = np.array(pair)[:, None] * np.exp(noise * rng.standard_normal((2, 5)))
    names = ("flattest", "distance")
    return xr.Dataset(
        {k: (("noise", "time", "seed"), v) for k, v in zip(names, values, strict=True)}, coords={"noise": list(ends)}
    )


@pytest.mark.parametrize(
    ("balanced", "none", "wanted"),
    [
        ((6, 0.1), (6, 1), HOLDS),
        ((2, 0.1), (6, 1), ("fails", "fails")),
        ((6, 1), (6, 1), ("fails", "fails")),
        ((6, 0.1), (6, 0.1), ("holds", "holds")),
    ],
)
def test_the_function_has_to_sharpen_and_the_distance_to_shrink(balanced, none, wanted):
    assert verdicts(subspaces.sharper_across_flatter_along(made_up({"balanced": balanced, "none": none}))) == wanted


@pytest.mark.parametrize(
    ("imbalanced", "balanced", "wanted"),
    [((6, 2), (6, 0.1), FAILS), ((6, 0.1), (6, 0.1), ("holds", "holds")), ((6, 2), (6, 2), ("fails", "fails"))],
)
def test_the_distance_has_to_shrink_under_imbalanced_noise_too(imbalanced, balanced, wanted):
    data = made_up({"imbalanced": imbalanced, "balanced": balanced})
    assert verdicts(subspaces.flatter_along_under_any_noise(data)) == wanted
