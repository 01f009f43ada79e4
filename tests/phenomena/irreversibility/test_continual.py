"""Perceptrons on digits: gradient norms, pushes and tasks against plain loops, and the claims on data made by hand."""

import numpy as np
import pytest
import torch
import xarray as xr
from claimed import verdicts

from thermolab.phenomena.irreversibility import continual


def seeds_of(mean, spread=0.01):
    """Five seeds about a mean."""
    return mean + spread * np.array([-1.0, -0.5, 0, 0.5, 1.0])


def test_gradient_norms_are_those_of_each_sample(monkeypatch):
    monkeypatch.setattr(continual, "COPIES", 2)
    net = continual.noisy_digits(5, 0.3, 0)
    weights = net.start(torch.arange(2), 1)
    energy, samples, full = continual.gradient_norms(net, weights)
    g = torch.empty(2, net.n_parameters)
    norms, total = torch.zeros(2), torch.zeros(2, net.n_parameters)
    for x, y in zip(net.data.x[:, None], net.data.y[:, None], strict=True):
        net.replicas.loss_and_gradient(weights, x.expand(2, -1, -1), y.expand(2, *y.shape), g)
        norms += (g * g).sum(1) / 512
        total += g / 512
    torch.testing.assert_close(samples, norms, rtol=1e-4, atol=0)
    torch.testing.assert_close(full, (total * total).sum(1), rtol=1e-3, atol=0)
    assert (samples > full).all()
    assert (energy > 0).all()


def test_arms_end_at_equal_loss_with_gradients_that_shrink_with_the_rate():
    settings = {"rates": (0.005, 0.02), "duration": 40.0, "logs": 4, "width": 16, "replicas": 1}
    found = continual.equal_loss.run(**settings, n_seeds=2)
    assert found["S"].dims == found["U"].dims == ("eta", "seed")
    assert found["S_t"].dims == ("eta", "seed", "time")
    np.testing.assert_allclose(found["U"], 0.92, rtol=0.03)  # the floor is the noise, 10 · 0.3²
    np.testing.assert_allclose(found["U"].isel(eta=1), found["U"].isel(eta=0), rtol=continual.EQUAL)
    assert (found["S"].isel(eta=1) < 0.95 * found["flow_S"]).all()
    one = continual.equal_loss.run(**settings, n_seeds=1)
    np.testing.assert_array_equal(one["S"].isel(seed=0), found["S"].isel(seed=0))


def test_without_label_noise_there_is_nothing_to_gain():
    found = continual.equal_loss.run((0.005, 0.02), label_noise=0.0, duration=40.0, logs=4, width=16, replicas=1, n_seeds=1)
    assert float(found["U"].max()) < 0.05


@pytest.mark.parametrize(("large", "spread", "verdict"), [(8.0, 0.1, "holds"), (9.9, 0.1, "fails"), (9.5, 1.0, "inconclusive")])
def test_large_rate_regularises_asks_for_smaller_gradients_at_equal_loss(large, spread, verdict):
    s = np.stack([seeds_of(x, spread) for x in (10.0, 9.0, large)])
    data = xr.Dataset({"S": (("eta", "seed"), s), "flow_S": ("seed", seeds_of(10.0))}, {"eta": [0.01, 0.02, 0.04]})
    data = data.assign(U=xr.ones_like(data["S"]), flow_U=xr.ones_like(data["flow_S"]))
    assert verdicts(continual.large_rate_regularises(data)) == (verdict, "fails" if spread < 1 else "inconclusive")
    data["U"][-1, 0] = 1.02  # a run that did not come so far
    assert continual.large_rate_regularises(data).check.verdict == "inconclusive"


def test_twins_part_only_by_the_push():
    settings = {"times": (0, 20), "steps": 40, "directions": 2, "width": 8, "n_seeds": 2}
    tiny, full = (continual.perturbed.run(**settings, size=size) for size in (1e-6, 0.3))
    assert float(tiny["changed"].max()) < 1e-4
    assert (full["changed"] > 0.01).all()
    still = continual.perturbed.run(**settings | {"eta": 1e-9})
    np.testing.assert_allclose(still["moved"], 1, rtol=1e-3)


def test_every_start_has_a_twin_of_its_own():
    """Two starts are the geometric mean of what each gives alone; a push of none changes nothing."""
    settings = {"times": (0, 20), "steps": 40, "width": 8, "n_seeds": 1}
    assert float(continual.perturbed.run(**settings, starts=3, size=1e-12)["changed"].max()) < 1e-6
    one, two = (continual.perturbed.run(**settings, starts=n) for n in (1, 2))
    assert (abs(np.log(two["changed"] / one["changed"])) > 1e-3).all()
    still = continual.perturbed.run(**settings | {"eta": 1e-9}, starts=3)
    np.testing.assert_allclose(still["moved"], 1, rtol=1e-3)  # each by its own length


@pytest.mark.parametrize(("early", "late", "expected"), [(3.0, 1.1, ("holds", "fails")), (1.0, 2.5, ("fails", "holds"))])
def test_chaos_transient_compares_early_with_late_pushes(early, late, expected):
    changed = np.stack([seeds_of(0.01 * x, 0.0005) for x in (early, early, 1.5, 1.0, late)])
    data = xr.Dataset({"changed": (("push", "seed"), changed)}, {"push": [0, 10, 30, 50, 90]}, {"steps": 100})
    assert verdicts(continual.chaos_transient(data)) == expected


def test_dead_neurons_are_those_that_nothing_activates():
    net = continual.NetworkOnData(continual.models.mlp((64, 4, 4, 10)), continual.data.digits(50), "lr")
    weights = net.start(torch.arange(2), 0)
    views = list(net.replicas.views(weights).values())
    for b in views[1:4:2]:
        b[:] = 50.0  # all alive
    assert continual.dead_share(net, weights).tolist() == [0, 0]
    views[1][0, 2], views[3][0, :2] = -1e3, -1e6
    assert continual.dead_share(net, weights).tolist() == [3 / 8, 0]


def test_tasks_are_learned_one_after_another():
    found = continual.tasks.run(n_tasks=3, steps=150, width=16, replicas=1, n_seeds=2)
    assert found["dead"].dims == found["accuracy"].dims == ("task", "seed")
    assert (found["accuracy"] > 0.8).all()
    assert (found["fresh_accuracy"] > 0.8).all()
    assert (found["dead"] < 0.5).all()
    one = continual.tasks.run(n_tasks=3, steps=150, width=16, replicas=1, n_seeds=1)
    np.testing.assert_array_equal(one["accuracy"].isel(seed=0), found["accuracy"].isel(seed=0))


@pytest.mark.parametrize(
    ("dead", "right", "verdict"), [(0.3, 0.7, "holds"), (0.3, 0.99, "fails"), (0.02, 0.7, "fails"), (0.05, 0.7, "inconclusive")]
)
def test_dead_neurons_asks_for_both_losses(dead, right, verdict):
    course = lambda first, last: (("task", "seed"), np.stack([np.full(5, first), seeds_of(last)]))  # noqa: E731
    fresh = {"fresh_dead": ("seed", seeds_of(0.0)), "fresh_accuracy": ("seed", seeds_of(0.99))}
    data = xr.Dataset({"dead": course(0.0, dead), "accuracy": course(1.0, right), **fresh})
    assert verdicts(continual.dead_neurons(data)) == (verdict, "fails")


@pytest.mark.parametrize(
    ("recipe", "setting", "words"),
    [
        (continual.equal_loss, {"label_noise": -1}, "label_noise=-1 is negative or not finite; allowed: 0 or a positive number"),
        (continual.equal_loss, {"duration": 0.1}, "duration=0.1 is too short; allowed: 20 steps or more at eta=0.02"),
        (continual.perturbed, {"times": (0, 3000)}, "times=[0, 3000] is too late for steps=3000; allowed: steps below that"),
        (continual.perturbed, {"times": ()}, "times=() has a length that is out of range; allowed: a list of 1 or more"),
        (continual.perturbed, {"size": 0}, "size=0 is not positive and finite; allowed: a positive number"),
        (continual.tasks, {"n_tasks": 0}, "n_tasks=0 is out of range; allowed: a whole number, 1 or more"),
        (continual.tasks, {"eta": -1}, "eta=-1 is not positive and finite; allowed: a positive number"),
    ],
)
def test_recipes_refuse_settings_out_of_range(recipe, setting, words):
    with pytest.raises(ValueError, match=r"^[^\n]+$") as error:
        recipe.run(**setting)
    assert words in str(error.value)
