"""The noise switched while networks learn, against a plain loop; and the claim on data made up by hand."""

import numpy as np
import pytest
import torch
import xarray as xr
from claimed import verdicts

from thermolab.engine.experiment import Experiment
from thermolab.phenomena.progressive_sharpening import switch, theory, two_layers

SWITCH = {"steps": 40, "logs": 4, "copies": 2, "n_seeds": 2, "width": 4}
PROFILE = (1.5, 0.8, 0.6)


def test_switch_against_a_plain_loop():
    """The same weights go on under another noise; the control's middle phase has other noise of the same variance."""
    found = switch.switch.run("tanh", PROFILE, **SWITCH)
    assert dict(found.sizes) == {"arm": 2, "time": 12, "seed": 2, "stage": 3}
    weights, even = None, two_layers.balanced(PROFILE)
    for number, profile in enumerate((even, PROFILE, even)):
        net = two_layers.learner(profile, "tanh", width=4, seed=0)
        weights = net.start(torch.arange(2), 0) / 2 if weights is None else weights
        run = Experiment(net, eta=0.05, batch_size=16, weights=weights, seed=2**32 * number)
        run.advance(40)
        weights = run.state.weights
        now = found["lambda_max"].sel(time=40 * (number + 1)).isel(seed=0)
        assert float(now.sel(arm="imbalanced")) == pytest.approx(two_layers.sharpness(net, weights, "tanh").mean(), rel=1e-6)
    first, later = found["lambda_max"].sel(time=found["phase"] == 0), found["lambda_max"].sel(time=found["phase"] > 0)
    assert (first.sel(arm="imbalanced") == first.sel(arm="balanced")).all()
    assert (later.sel(arm="imbalanced") != later.sel(arm="balanced")).all()
    np.testing.assert_allclose(found["predicted"].sel(arm="imbalanced"), [4, theory.lambda_max(PROFILE), 4])
    np.testing.assert_allclose(found["predicted"].sel(arm="balanced"), 4)


@pytest.mark.parametrize("profile", [(1.5, 0.4), (2.0, 1.0, 1.0, 0.4)])
def test_linear_networks_sharpen_and_flatten_when_the_noise_is_switched(profile):
    found = switch.switch.run("linear", profile, width=5, steps=4000, logs=4, copies=4, n_seeds=2)
    rise = switch.rise_and_return(found)
    assert rise.sel(arm="imbalanced").min() > 0.1 > rise.sel(arm="balanced").max()


def test_results_of_a_seed_do_not_depend_on_their_number():
    two, one = (switch.switch.run("linear", PROFILE, **(SWITCH | {"n_seeds": n})) for n in (2, 1))
    xr.testing.assert_allclose(two.isel(seed=[0]), one, rtol=1e-6)


@pytest.mark.parametrize(
    ("phases", "noise", "wanted"),
    [((4, 8, 4.1), 0.01, "holds"), ((4, 8, 7.5), 0.01, "fails"), ((8, 4, 8), 0.01, "fails"), ((4, 4.3, 4), 0.05, "inconclusive")],
)
def test_up_with_the_first_switch_and_back_with_the_second(phases, noise, wanted):
    dims, coords = ("arm", "time", "seed"), {"arm": list(switch.ARMS), "phase": ("time", np.repeat(range(3), 4))}
    curves = np.repeat([phases, (4, 4, 4)], 4, axis=1)[..., None]
    curves = curves * np.exp(noise * np.random.default_rng(0).normal(size=(2, 12, 5)))
    curves[:, [4, 8]] = 100.0  # on the way: not yet the end of a phase
    decision = switch.rises_and_returns(xr.Dataset({"lambda_max": (dims, curves)}, coords=coords))
    found = verdicts(decision)
    assert found == (wanted, "fails") if noise < 0.05 else found[0] == wanted
