"""λ_max from random, flat and sharp starts, under SGD and Adam; and the claims on data made up by hand."""

import numpy as np
import torch
import xarray as xr
from claimed import FAILS, HOLDS, verdicts

from thermolab.engine.experiment import Experiment
from thermolab.phenomena.progressive_sharpening import starts, two_layers

STARTS = {"steps": 40, "decay": 16, "logs": 2, "width": 8, "n_seeds": 2, "noises": ("imbalanced", "none")}
PROFILE = (1.5, 0.8, 0.6)


def test_starts_are_what_they_are_called():
    found = starts.starts.run("relu", PROFILE, **STARTS)
    assert dict(found.sizes) == {"noise": 2, "start": 3, "time": 4, "seed": 2}
    assert found["time"].values.tolist() == [0, 20, 40, 56]
    begin = found.isel(time=0)
    assert (begin["lambda_max"].sel(noise="none") == begin["lambda_max"].sel(noise="imbalanced")).all()
    assert (begin["lambda_max"].sel(start="sharp") > 1.5 * begin["lambda_max"].sel(start="flat")).all()
    np.testing.assert_allclose(begin["excess"].sel(start="sharp"), begin["excess"].sel(start="flat"), rtol=1e-3)
    assert (begin["excess"].sel(start="random") > 20 * begin["excess"].sel(start="flat")).all()


def test_without_noise_a_sharp_start_stays_sharp_and_balanced_noise_flattens_it():
    found = starts.starts.run(
        "linear", (1.0, 1.0), starts=("sharp",), noises=("balanced", "none"), width=3, steps=2000, copies=4, n_seeds=2
    )
    gain = starts.gain(found).sel(start="sharp")
    assert abs(gain.sel(noise="none")).max() < 0.02
    np.testing.assert_allclose(found["lambda_max"].sel(noise="balanced", start="sharp").isel(time=-1), 6, rtol=0.05)  # 4s


def test_adam_takes_the_sources_figure():
    """Bias-corrected first steps of Adam are of length η in each weight."""
    one = {"steps": 1, "logs": 1, "decay": 8, "n_seeds": 1, "copies": 1, "starts": ("random",), "noises": ("imbalanced",)}
    found = starts.starts.run("linear", PROFILE, optimiser="adam", eta=1e-3, width=4, **one)
    net = two_layers.learner(PROFILE, "linear", answer=two_layers.own_kind(3, "linear"), width=4, optimiser="adam")
    run = Experiment(net, eta=1e-3, batch_size=16, weights=net.start(torch.arange(1), 0), seed=2**32, beta2=0.995, eps=1e-7)
    begin = run.state.weights
    run.advance(1)
    np.testing.assert_allclose((run.state.weights - begin).abs(), 1e-3, rtol=1e-3)
    answer = two_layers.own_kind(3, "linear")
    wanted = two_layers.sharpness(net, run.state.weights, "linear", answer)
    np.testing.assert_allclose(found["lambda_max"].isel(time=1).squeeze(), wanted.item(), rtol=1e-6)


def test_results_of_a_seed_do_not_depend_on_their_number():
    two, one = (starts.starts.run("linear", PROFILE, **(STARTS | {"n_seeds": n})) for n in (2, 1))
    xr.testing.assert_allclose(two.isel(seed=[0]), one, rtol=1e-6)


def made(ends, noise=0.01):
    """λ_max {(noise, start): (first, last)} as `starts` returns it."""
    noises, begins = (sorted({key[k] for key in ends}) for k in (0, 1))
    values = np.full((len(noises), len(begins), 2), np.nan)
    for (n, s), pair in ends.items():
        values[noises.index(n), begins.index(s)] = pair
    values = values[..., None] * np.exp(noise * np.random.default_rng(0).normal(size=(*values.shape, 5)))
    return xr.Dataset({"lambda_max": (("noise", "start", "time", "seed"), values)}, coords={"noise": noises, "start": begins})


def test_balanced_noise_has_to_flatten_what_none_leaves():
    steep = made({("balanced", "sharp"): (9, 4), ("none", "sharp"): (9, 9)})
    assert verdicts(starts.flattens(steep)) == HOLDS
    assert verdicts(starts.flattens(made({("balanced", "sharp"): (9, 10), ("none", "sharp"): (9, 9)}))) == ("fails", "fails")


def test_the_mean_over_networks_from_random_weights_has_to_rise():
    falls = made({("imbalanced", "random"): (9, 6), ("imbalanced", "flat"): (4, 6)})
    rises = made({("imbalanced", "random"): (5, 6), ("imbalanced", "flat"): (4, 6)})
    assert verdicts(starts.sharpens_from_scratch({"tanh": falls, "relu": falls})) == FAILS
    assert verdicts(starts.sharpens_from_scratch({"tanh": rises, "relu": rises})) == ("holds", "holds")
    little = made({("imbalanced", "random"): (5, 5.3), ("imbalanced", "flat"): (4, 6)}, 0.1)
    assert starts.sharpens_from_scratch({"tanh": little}).check.verdict == "inconclusive"


def test_under_adam_imbalanced_noise_has_to_end_above_start_and_balanced():
    sharp = {("imbalanced", "sharp"): (9, 8), ("balanced", "sharp"): (9, 6)}
    good = {("imbalanced", "flat"): (4, 6), ("balanced", "flat"): (4, 4.1)}
    same = {("imbalanced", "flat"): (4, 6), ("balanced", "flat"): (4, 6)}
    assert verdicts(starts.sharpens_under_adam(made(good | sharp))) == HOLDS
    assert verdicts(starts.sharpens_under_adam(made(same | sharp))) == ("fails", "fails")
