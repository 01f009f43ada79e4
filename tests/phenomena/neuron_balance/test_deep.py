"""The matrix equation of balance in a deep linear network."""

import numpy as np
import pytest
import xarray as xr
from claimed import HOLDS, verdicts

from thermolab.phenomena.neuron_balance import deep, networks


def test_deep_linear_networks_come_nearer_to_balance_at_large_eta():
    found = deep.matrix.run((0.02, 0.001), steps=6000, logs=6, moments=5, n_seeds=2)
    assert found["above"].shape == (2, 6, 2, 3, 6, 6)
    large, small = deep.residual(networks.late(found)).mean(("seed", "pair")).values
    assert large < 0.4 < 0.8 < small


def test_depth_1_is_refused():
    with pytest.raises(ValueError, match=r"^depth=1 is out of range; allowed: a whole number, 2 or more$"):
        deep.matrix.run(depth=1)


def test_matrix_on_made_up_numbers():
    rng, dims = np.random.default_rng(0), ("eta", "time", "seed", "pair", "row", "column")
    above = np.tile(np.eye(3), (2, 4, 5, 2, 1, 1))
    below = above + np.array([0.5, 0.01])[:, None, None, None, None, None] * rng.normal(size=above.shape)
    data = xr.Dataset({"above": (dims, above), "below": (dims, below)}, coords={"eta": [0.001, 0.02]})
    assert verdicts(deep.matrices_balance(data)) == HOLDS
    doubled = data.assign(below=2 * data["above"])
    np.testing.assert_allclose(deep.residual(doubled), 2 / 3)
    assert deep.matrices_balance(doubled).check.verdict == "fails"
