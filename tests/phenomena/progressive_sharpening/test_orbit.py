"""Symmetry orbits keep the function, and only rotations the sharpness; the claim on data made up by hand."""

import numpy as np
import xarray as xr
from claimed import verdicts

from thermolab.phenomena.progressive_sharpening import orbit


def test_orbits_keep_the_function_and_only_rotations_the_sharpness():
    found = orbit.orbit.run(d=3, width=4, points=5, copies=2, n_seeds=2)
    assert found["apart"].max() < 1e-12
    span = np.log(found["lambda_max"]).max("position") - np.log(found["lambda_max"]).min("position")
    assert span.sel(orbit="rotate").max() < 1e-10
    assert span.sel(orbit=["stretch", "rescale"]).min() > 0.1
    middle = found["lambda_max"].sel(position=0)
    np.testing.assert_allclose(middle.sel(orbit="stretch"), middle.sel(orbit="rotate"))  # both begin at the same network


def test_the_orbit_that_changes_least_decides():
    wide, flat = np.linspace(4, 8, 5), np.full(5, 4.0)
    for curves, wanted in (((wide, wide, flat), "holds"), ((wide, flat, flat), "fails")):
        values = np.stack(curves)[..., None, None] * np.ones((2, 3))
        data = xr.Dataset(
            {"lambda_max": (("orbit", "position", "copy", "seed"), values)}, coords={"orbit": ["stretch", "rescale", "rotate"]}
        )
        assert verdicts(orbit.changes_along_orbits(data)) == (wanted, "fails")
