"""Networks on digits at tiny settings, against plain loops, and their claims on data made up by hand."""

import numpy as np
import pytest
import torch
import xarray as xr
from claimed import verdicts
from phenomena.platonic_alignment import made_up as made

from thermolab.engine.experiment import Experiment
from thermolab.phenomena.platonic_alignment import digits
from thermolab.systems import models
from thermolab.systems.network import NetworkOnData

SHORT = {"eta": 0.01, "steps": 512, "shape_a": (12, 10), "shape_b": (8,), "n_seeds": 2}


@pytest.fixture(scope="module")
def short():
    return digits.digits.run((0.0, 0.5), **SHORT)


# --- the data ---------------------------------------------------------------------------------------------------
def test_noise_of_the_labels_averages_out_over_the_copies():
    learnt, x, labels = digits.noisy_digits(0.5, 0, seed=3)
    y = learnt.y.double().numpy().reshape(digits.COPIES, digits.SEEN, 10)
    np.testing.assert_allclose(y.mean(0), np.eye(10)[labels[: digits.SEEN]], atol=1e-6)
    off = (y - np.eye(10)[labels[: digits.SEEN]]).std((0, 1))
    np.testing.assert_allclose(off, 0.5 * np.linspace(1.6, 0.4, 10), rtol=0.02)
    np.testing.assert_allclose(learnt.x[: digits.SEEN], x[: digits.SEEN], atol=1e-6)
    assert len(x) == len(labels) == digits.IMAGES


def test_both_networks_see_the_same_components_with_other_weights():
    a, b = (digits.noisy_digits(0.0, which, seed=1)[1].numpy() for which in (0, 1))
    np.testing.assert_allclose(b / a, np.tile(np.linspace(1.6, 0.4, 32) / np.linspace(0.4, 1.6, 32), (1797, 1)))
    plain = a / np.linspace(0.4, 1.6, 32)
    spread = plain.std(0)
    assert (np.diff(spread) < 0).all()  # principal components, the largest first
    np.testing.assert_allclose(np.corrcoef(plain.T), np.eye(32), atol=1e-4)
    assert (spread**2).mean() == pytest.approx(1, rel=1e-6)


# --- the recipe -------------------------------------------------------------------------------------------------
def plain_cka(x, y):
    """By centred Gram matrices in numpy."""
    k, l = (a @ a.T for a in (x - x.mean(0), y - y.mean(0)))  # noqa: E741
    return (k * l).sum() / np.sqrt((k * k).sum() * (l * l).sum())


def by_hand(which, streams, shape, noise=0.5, seed=0, start=0.5**0.5):
    """Hidden features and outputs of all images after training, one network after the other."""
    learnt, x, _ = digits.noisy_digits(noise, which, seed=seed)
    net = NetworkOnData(models.mlp((32, *shape, 10)), learnt, "lr", loss="squared")
    run = Experiment(
        net, eta=0.01, batch_size=8, streams=streams, weights=start * net.start(torch.tensor(streams), seed), seed=seed
    )
    for k in range(20):
        run.set(eta=0.01 * (k + 0.5) / 20)
        run.advance(51 * (k + 1) // 20 - run.state.step)
    run.set(eta=0.01)
    run.advance(384 - 51)
    for k in range(20):
        run.set(eta=0.01 * (1 - (k + 0.5) / 20))
        run.advance((384 + 128 * (k + 1) // 20) - run.state.step)
    found = []
    for weights in run.state.weights:
        module = models.mlp((32, *shape, 10))
        torch.nn.utils.vector_to_parameters(weights, module.parameters())
        with torch.no_grad():
            found.append(
                [module[: 2 * k + 2](x.float()).double().numpy() for k in range(len(shape))] + [module(x.float()).numpy()]
            )
    return found


def test_digits_against_a_plain_loop(short):
    assert set(short) == {"same", "cross", "accuracy", "null"}
    assert dict(short.sizes) == {"noise": 2, "seed": 2, "time": 7, "images": 2, "layer_a": 2, "layer_b": 1, "net": 2}
    end = short.sel(noise=0.5, seed=0).isel(time=-1)
    a, b = by_hand(0, [0, 1], (12, 10)), by_hand(1, [2, 3], (8,))
    labels = digits.noisy_digits(0.5, 0)[2]
    for name, part in (("seen", slice(1200)), ("new", slice(1200, None))):
        here = end.sel(images=name)
        same = [plain_cka(a[0][i][part], a[1][i][part]) for i in (0, 1)]
        np.testing.assert_allclose(here["same"], same, rtol=1e-3)
        cross = [[np.mean([plain_cka(p[i][part], q[0][part]) for p in a for q in b])] for i in (0, 1)]
        np.testing.assert_allclose(here["cross"].transpose("layer_a", "layer_b"), cross, rtol=1e-3)
        right = [np.mean([p[-1][part].argmax(1) == labels[part] for p in nets]) for nets in (a, b)]
        np.testing.assert_allclose(here["accuracy"], right, atol=2e-3)
    assert (short["null"] < 0.1).all()


def test_arms_begin_alike_and_results_of_a_seed_do_not_depend_on_their_number(short):
    first = short.isel(time=0)
    np.testing.assert_array_equal(first["cross"].sel(noise=0.0), first["cross"].sel(noise=0.5))
    one = digits.digits.run((0.5,), **(SHORT | {"n_seeds": 1}))
    xr.testing.assert_equal(one, short.sel(noise=[0.5]).isel(seed=[0]))


def test_noise_aligns_the_last_layers_of_relu_networks():
    found = digits.digits.run((0.0, 0.5), steps=5000, n_seeds=2).isel(time=-1).mean("seed")
    last = digits.last(found["cross"]).sel(images="seen")
    assert last.sel(noise=0.5) > 0.84 > last.sel(noise=0.0) + 0.03
    assert (found["accuracy"].sel(images="new") > 0.93).all()


def test_the_last_quarter_at_lower_rates_takes_fluctuations_away():
    late = digits.digits.run((0.5,), steps=5000, n_seeds=1).isel(time=[-2, -1], layer_a=-1, layer_b=-1, images=0)["cross"]
    assert float(late.diff("time").squeeze()) > 0.02


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"activation": "gelu"}, "activation='gelu' is unknown; allowed: one of relu, tanh"),
        ({"eta": -0.1}, "eta=-0.1 is not positive and finite; allowed: a positive number"),
        ({"shape_a": (8, 0)}, "shape_a=(8, 0) is out of range; allowed: a list of 1 or more, each a whole number, 1 or more"),
        ({"steps": 60}, "steps=60 is out of range; allowed: a whole number, 64 or more"),
        ({"noises": (0.5, 0.5)}, "noises=(0.5, 0.5) has a value twice; allowed: a list of numbers of 0 or more, each once"),
    ],
)
def test_settings_that_are_refused(settings, text):
    with pytest.raises(ValueError, match=r"^[^\n]*$") as error:
        digits.digits.run(**settings)
    assert text in str(error.value)


# --- claims on data made up by hand -----------------------------------------------------------------------------
made_up = made.digits


def test_same_architecture_on_made_up_numbers():
    assert verdicts(digits.same_architecture(made_up())) == ("holds", "fails")
    assert verdicts(digits.same_architecture(made_up(same=(0.95, 0.8)))) == ("fails", "holds")
    assert digits.same_architecture(made_up(same=(0.5, 0.9), spread=0.05))[0].verdict == "inconclusive"
    worse = made_up(accuracy=(0.9, 0.97))
    assert digits.same_architecture(worse)[2].verdict == "inconclusive"


def test_all_layers_on_made_up_numbers():
    assert verdicts(digits.all_layers(made_up())) == ("fails", "holds")
    assert verdicts(digits.all_layers(made_up(first=0.95))) == ("holds", "holds")
    assert digits.all_layers(made_up(first=0.89, spread=0.05))[0].verdict == "inconclusive"
