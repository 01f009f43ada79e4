"""Other networks on their way to the edge: what the recipe reads at its start, the claims on data made up by hand."""

import numpy as np
import pytest
import torch
import xarray as xr
from claimed import HOLDS, verdicts

from thermolab.instruments.curvature import HessianProducts, largest_eigenvalue
from thermolab.phenomena.progressive_sharpening import architectures, edge
from thermolab.systems.full_batch import FullBatch

SHORT = {"etas": (0.1, 1e-4), "n_data": 20, "steps": 1, "looks": 1, "n_seeds": 2}


def test_all_arms_of_a_seed_share_their_start_and_read_all_data():
    found = architectures.architectures.run(("cnn",), **SHORT)
    assert dict(found.sizes) == {"network": 1, "descent": 2, "eta": 2, "seed": 2, "time": 2}
    net = FullBatch(architectures.NETWORKS["cnn"](), edge.answers(20, seed=1), loss="squared")
    start = edge.SCALE * net.start(torch.arange(1), 1)[0]
    sharp = largest_eigenvalue(HessianProducts(net, start, net.data.x, net.data.y), tolerance=1e-4, looks=2, most=80).value
    first = found["lambda_max"].sel(network="cnn", seed=1).isel(time=0)
    np.testing.assert_allclose(first, np.full((2, 2), sharp), rtol=edge.ACCURACY)
    last = found["lambda_max"].isel(time=-1)
    assert (last.sel(eta=0.1, descent="batches") != last.sel(eta=0.1, descent="all data")).all()


def test_an_unknown_network_is_refused():
    with pytest.raises(ValueError, match="allowed: a list of 1 or more, each one of cnn, transformer"):
        architectures.architectures.run(("mlp",))


def made_up(rise):
    """λ_max that rises by these factors under descent and SGD, at the larger rate, and stays at the smaller."""
    rng, factor = np.random.default_rng(0), np.array([[rise[0], 1.0], [rise[1], 1.0]])[..., None, None]
    time = np.arange(7)
    values = factor ** (time / 5).clip(max=1) * np.exp(0.005 * rng.standard_normal((2, 2, 5, 7)))
    dims = ("network", "descent", "eta", "seed", "time")
    return xr.Dataset({"lambda_max": (dims, np.stack([values] * 2))},
                      coords={"network": [*architectures.NETWORKS], "eta": [0.1, 0.001]})  # fmt: skip


@pytest.mark.parametrize(("rise", "wanted"), [((2, 1.5), HOLDS), ((2, 1.0), ("fails", "fails")), ((0.5, 2), ("fails", "fails"))])
def test_both_descents_have_to_sharpen(rise, wanted):
    assert verdicts(architectures.cnn_sharpens(made_up(rise))) == wanted
    assert verdicts(architectures.transformer_sharpens(made_up(rise))) == wanted
