"""The scale-invariant walker and the valley of equal loss: exact identities, closed forms, and claims on data made by hand."""

import numpy as np
import pytest
import torch
import xarray as xr
from claimed import verdicts

from thermolab.claims import register
from thermolab.engine.experiment import DivergenceError, Experiment
from thermolab.phenomena.irreversibility import claims_walk, continual, valley, walk

GROWTH = {"rates": (0.1, 0.3), "dims": (2, 5), "steps": 400, "logs": 4, "replicas": 3, "n_seeds": 2}
PLACES = {"rates": (0.1,), "replicas": 8, "relaxations": 30, "n_seeds": 2}


@pytest.fixture(scope="module")
def grown():
    return walk.growth.run(**GROWTH)


# --- the walker -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dim", [2, 3, 7])
def test_one_step_is_that_of_autograd(dim):
    """The gradient of (f − y)² for the sample that g was made of, and its place in the update."""
    system = walk.ScaleInvariantWalker(dim)
    run = Experiment(system, eta=0.1, lam=0.2, sigma=0.7, replicas=4, seed=3)
    before = run.state.weights.clone() * torch.tensor([0.5, 1.0, 2.0, 3.0])[:, None]
    run = Experiment(system, eta=0.1, lam=0.2, sigma=0.7, weights=before, seed=3)
    run.advance(1)
    z = walk.normals(3, torch.arange(4), 0, 1, dim + 1)[0]
    w = before.clone().requires_grad_()
    f = (w * z[:, :dim]).sum(1) / w.norm(dim=1)
    (g,) = torch.autograd.grad(((f - z[:, 0] - 0.7 * z[:, dim]) ** 2).sum(), w)
    torch.testing.assert_close(run.state.weights, before - 0.1 * (g + 0.2 * before))
    frame = run.frame()
    np.testing.assert_allclose(frame.gauges["push"], (g * g).sum(1))
    np.testing.assert_allclose(frame.gauges["g2"], (g * g).sum(1) * (before * before).sum(1))


def test_normals_are_normal():
    z = walk.normals(0, torch.arange(50), 7, 400, 5).numpy()
    assert z.shape == (400, 50, 5)
    n = z.size
    assert abs(z.mean()) < 4 / np.sqrt(n)
    assert abs((z**2).mean() - 1) < 4 * np.sqrt(2 / n)
    assert abs((z**4).mean() - 3) < 4 * np.sqrt(96 / n)
    assert abs(np.corrcoef(z.reshape(-1, 5).T) - np.eye(5)).max() < 5 / np.sqrt(n / 5)


@pytest.mark.parametrize(("dim", "cosine"), [(2, 1.0), (2, 0.2), (5, -0.6)])
def test_mean_squared_gradient(dim, cosine):
    """At a fixed angle, for learning rates so small that it stays: |w|² E|g|² and the loss."""
    weights = torch.zeros(2000, dim, dtype=torch.float64)
    weights[:, 0], weights[:, 1] = 3 * cosine, 3 * np.sqrt(1 - cosine**2)
    run = Experiment(walk.ScaleInvariantWalker(dim), eta=1e-12, sigma=0.8, weights=weights)
    run.advance(20)
    found = run.frame().gauges
    error = found["g2"].std() / np.sqrt(2000)
    assert abs(found["g2"].mean() - walk.moment(cosine, dim, 0.8)) < 4 * error
    assert error < 0.03 * found["g2"].mean()
    np.testing.assert_allclose(found["U"], 0.64 + 2 - 2 * cosine, atol=1e-9)


def test_each_step_adds_its_squared_length(grown):
    assert float(grown["identity"].max()) < 1e-13
    system = walk.ScaleInvariantWalker(3)
    run = Experiment(system, eta=0.3, sigma=1.0, replicas=5, seed=1)
    run.advance(50)
    np.testing.assert_allclose((run.state.weights**2).sum(1), 1 + 0.09 * 50 * run.frame().gauges["push"], rtol=1e-13)


def test_growth_reads_the_walk(grown):
    assert grown["r4"].dims == ("dim", "eta", "seed", "time")
    assert grown["time"].values.tolist() == [0, 100, 200, 300, 400]
    weights = torch.zeros(12, 5, dtype=torch.float64)
    weights[:, 0] = 1
    run = Experiment(walk.ScaleInvariantWalker(5), eta=[0.1] * 6 + [0.3] * 6, sigma=0.5, weights=weights, streams=[*range(6)] * 2)
    run.advance(400)
    r4 = (run.state.weights**2).sum(1).reshape(2, 2, 3) ** 2
    np.testing.assert_allclose(grown["r4"].sel(dim=5, time=400), r4.mean(2), rtol=1e-12)
    np.testing.assert_allclose(grown["law"].sel(dim=5), 1 + 2 * np.array([[0.01], [0.09]]) * 4 * np.arange(5) * 100)
    half = grown["r4"].sel(time=400) - grown["r4"].sel(time=200)
    np.testing.assert_allclose(grown["slope"], half / (2 * grown["eta"] ** 2 * (grown["dim"] - 1) * 200))


def test_the_law():
    """Against small steps of its differential equation, with decay; without decay it is the limit."""
    r4, eta, lam, constant = 1.0, 0.2, 0.3, 2.0
    for _ in range(10_000):
        r4 += 0.001 * (2 * eta**2 * constant - 4 * eta * lam * r4)
    assert walk.law(1.0, eta, lam, constant, 10) == pytest.approx(r4, rel=1e-3)
    assert walk.law(1.0, eta, 1e-9, constant, 10) == pytest.approx(float(walk.law(1.0, eta, 0.0, constant, 10)), rel=1e-6)


@pytest.mark.parametrize("dim", [2, 6])
def test_the_walk_follows_the_law(dim):
    """From |w| = 30, where the excess, of order (d + 1) η/|w|², is 1.6 % or less; with weight decay it comes to rest."""
    weights = torch.zeros(400, dim, dtype=torch.float64)
    weights[:, 0] = 30
    rates, lam = np.repeat([1.0, 2.0], 200), np.repeat([0.0, 1e-4], 200)
    run = Experiment(walk.ScaleInvariantWalker(dim), eta=rates, lam=lam, sigma=0.5, weights=weights)
    run.advance(2000)
    r4 = ((run.state.weights**2).sum(1) ** 2).reshape(2, 200).numpy()
    for got, eta, decay in zip(r4, (1.0, 2.0), (0.0, 1e-4), strict=True):
        pushed = 2 * eta**2 * walk.moment(1.0, dim, 0.5) * 2000
        expected = walk.law(30**4, eta, decay, walk.moment(1.0, dim, 0.5), 2000)
        assert abs(got.mean() - expected) < 4 * got.std() / np.sqrt(200) + 0.03 * pushed
        assert got.std() < 0.3 * pushed


def test_gradient_flow_conserves_the_length(grown):
    np.testing.assert_allclose(walk.flow_radius(np.array([0.1, 1.0, 50.0])), 1, atol=1e-9)
    np.testing.assert_allclose(grown["flow_slope"], 0, atol=1e-8)


def test_a_seed_does_not_depend_on_the_others(grown):
    more = walk.growth.run(**GROWTH | {"n_seeds": 3})
    np.testing.assert_allclose(more["r4"].isel(seed=slice(2)), grown["r4"], rtol=1e-12)
    other = walk.growth.run(**GROWTH, seed=1)
    assert abs(other["slope"].values - grown["slope"].values).min() > 1e-6


# --- the valley -------------------------------------------------------------------------------------------------------
def test_the_data_of_the_valley_are_balanced():
    data = valley.valley_data()
    both = torch.cat([data.x, data.y], 1).double()
    torch.testing.assert_close(both.T @ both / len(data), torch.eye(4, dtype=torch.float64), atol=1e-6, rtol=0)
    assert both.mean(0).abs().max() < 1e-6


def test_rescaling_changes_neither_loss_nor_volume():
    net = valley.valley(1.0)
    w = net.start(torch.arange(6), 0)
    x, y = net.data.x.expand(6, -1, -1), net.data.y.expand(6, -1, -1)
    before = net.replicas.loss_and_gradient(w, x, y, torch.empty_like(w))
    v, u = w.split(2, 1)
    moved = torch.cat([v / 3, 3 * u], 1)
    torch.testing.assert_close(net.replicas.loss_and_gradient(moved, x, y, torch.empty_like(w)), before)
    scale = torch.autograd.functional.jacobian(lambda w: torch.cat([w[:2] / 3, 3 * w[2:]]), w[0])
    assert float(torch.linalg.det(scale)) == pytest.approx(1)
    excess = ((u[:, :, None] * v[:, None] - torch.tensor([[1.0, 0], [0, 0]])) ** 2).sum((1, 2))
    torch.testing.assert_close(before, excess + 2)


def test_sgd_gathers_where_the_valley_is_balanced():
    """The spread of s comes near ησ/2, from a start at s = ½."""
    eta, sigma = 0.03, 1.0
    weights = torch.tensor([[np.exp(-0.5), 0, np.exp(0.5), 0]], dtype=torch.float32).repeat(100, 1)
    run = Experiment(valley.valley(sigma), eta=eta, batch_size=1, weights=weights, seed=2)
    run.advance(round(10 / (8 * eta**2)))
    v, u = run.state.weights.double().split(2, 1)
    s = (u.norm(dim=1) / v.norm(dim=1)).log() / 2
    assert float(s.std()) == pytest.approx(eta * sigma / 2, rel=0.35)
    assert abs(float(s.mean())) < eta * sigma


def test_occupation():
    found = valley.occupation.run(**PLACES)
    assert found["log_ratio"].dims == ("eta", "seed")
    assert (found["log_ratio"] > 0.4).all()
    assert abs(found["sphere_log_ratio"]).max() < 0.3
    width = float(found["s"][1] - found["s"][0])
    assert (found["density"].sum("s") * width <= 1 + 1e-9).all()
    assert found["density"].sum("s").min() * width > 0.8
    np.testing.assert_allclose(found["sphere_density"].mean("phi"), 1)
    more = valley.occupation.run(**PLACES | {"n_seeds": 3})
    np.testing.assert_array_equal(more["density"].isel(seed=slice(2)), found["density"])


def test_noise_that_is_not_isotropic_is_seen_on_the_sphere():
    found = valley.occupation.run(**PLACES, spectrum=(1.6, 0.4))
    assert (found["sphere_log_ratio"] > 0.4).all()


# --- gradient norms, perturbations, tasks -----------------------------------------------------------------------------
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


def test_equal_loss():
    settings = {"rates": (0.005, 0.02), "duration": 40.0, "logs": 4, "width": 16, "replicas": 1}
    found = continual.equal_loss.run(**settings, n_seeds=2)
    assert found["S"].dims == found["U"].dims == ("eta", "seed")
    assert found["S_t"].dims == ("eta", "seed", "time")
    np.testing.assert_allclose(found["U"], 0.92, rtol=0.03)  # the floor is the noise, 10 · 0.3²
    np.testing.assert_allclose(found["U"].isel(eta=1), found["U"].isel(eta=0), rtol=claims_walk.EQUAL)
    assert (found["S"].isel(eta=1) < 0.95 * found["flow_S"]).all()
    one = continual.equal_loss.run(**settings, n_seeds=1)
    np.testing.assert_array_equal(one["S"].isel(seed=0), found["S"].isel(seed=0))


def test_without_label_noise_there_is_nothing_to_gain():
    found = continual.equal_loss.run((0.005, 0.02), label_noise=0.0, duration=40.0, logs=4, width=16, replicas=1, n_seeds=1)
    assert float(found["U"].max()) < 0.05


def test_twins_part_only_by_the_push():
    settings = {"times": (0, 20), "steps": 40, "directions": 2, "width": 8, "n_seeds": 2}
    tiny, full = (continual.perturbed.run(**settings, size=size) for size in (1e-6, 0.3))
    assert float(tiny["changed"].max()) < 1e-4
    assert (full["changed"] > 0.01).all()
    still = continual.perturbed.run(**settings | {"eta": 1e-9})
    np.testing.assert_allclose(still["moved"], 1, rtol=1e-3)


def test_dead_neurons_are_those_that_nothing_activates():
    net = continual.NetworkOnData(continual.models.mlp((64, 4, 4, 10)), continual.data.digits(50), "lr")
    weights = net.start(torch.arange(2), 0)
    views = list(net.replicas.views(weights).values())
    for b in views[1:4:2]:
        b[:] = 50.0  # all alive
    assert continual.dead_share(net, weights).tolist() == [0, 0]
    views[1][0, 2], views[3][0, :2] = -1e3, -1e6
    assert continual.dead_share(net, weights).tolist() == [3 / 8, 0]


def test_tasks():
    found = continual.tasks.run(n_tasks=3, steps=150, width=16, replicas=1, n_seeds=2)
    assert found["dead"].dims == found["accuracy"].dims == ("task", "seed")
    assert (found["accuracy"] > 0.8).all()
    assert (found["fresh_accuracy"] > 0.8).all()
    assert (found["dead"] < 0.5).all()
    one = continual.tasks.run(n_tasks=3, steps=150, width=16, replicas=1, n_seeds=1)
    np.testing.assert_array_equal(one["accuracy"].isel(seed=0), found["accuracy"].isel(seed=0))


# --- the claims -------------------------------------------------------------------------------------------------------
def seeds_of(mean, spread=0.01):
    """Five seeds about a mean."""
    return mean + spread * np.array([-1.0, -0.5, 0, 0.5, 1.0])


@pytest.mark.parametrize(
    ("slope", "identity", "spread", "verdict"),
    [(1.01, 1e-13, 0.01, "holds"), (1.2, 1e-13, 0.01, "fails"), (1.01, 1e-6, 0.01, "fails"), (1.05, 0, 0.05, "inconclusive")],
)
def test_scale_growth(slope, identity, spread, verdict):
    cells = ("dim", "eta", "seed")
    data = xr.Dataset(
        {
            "slope": (cells, seeds_of(slope, spread)[None, None] * np.ones((2, 3, 1))),
            "identity": (cells, np.full((2, 3, 5), identity)),
            "flow_slope": (("dim", "eta"), np.full((2, 3), 1e-10)),
        }
    )
    assert verdicts(claims_walk.scale_growth(data)) == (verdict, "fails")


@pytest.mark.parametrize(("ratio", "spread", "verdict"), [(1.0, 0.1, "holds"), (0.02, 0.01, "fails"), (0.1, 0.1, "inconclusive")])
def test_no_gibbs(ratio, spread, verdict):
    values = {"log_ratio": ratio, "sphere_log_ratio": 0.0}
    data = xr.Dataset({k: (("eta", "seed"), np.stack([seeds_of(v, spread)] * 2)) for k, v in values.items()})
    if verdict == "holds":
        assert verdicts(claims_walk.no_gibbs(data)) == ("holds", "inconclusive")  # of a control that spreads as much
        data["sphere_log_ratio"] /= 10
        assert verdicts(claims_walk.no_gibbs(data)) == ("holds", "fails")
    else:
        assert claims_walk.no_gibbs(data)[0].verdict == verdict


@pytest.mark.parametrize(("large", "spread", "verdict"), [(8.0, 0.1, "holds"), (9.9, 0.1, "fails"), (9.5, 1.0, "inconclusive")])
def test_large_rate_regularises(large, spread, verdict):
    s = np.stack([seeds_of(x, spread) for x in (10.0, 9.0, large)])
    data = xr.Dataset({"S": (("eta", "seed"), s), "flow_S": ("seed", seeds_of(10.0))}, {"eta": [0.01, 0.02, 0.04]})
    data = data.assign(U=xr.ones_like(data["S"]), flow_U=xr.ones_like(data["flow_S"]))
    assert verdicts(claims_walk.large_rate_regularises(data)) == (verdict, "fails" if spread < 1 else "inconclusive")
    data["U"][-1, 0] = 1.02  # a run that did not come so far
    assert claims_walk.large_rate_regularises(data)[0].verdict == "inconclusive"


@pytest.mark.parametrize(("early", "late", "expected"), [(3.0, 1.1, ("holds", "fails")), (1.0, 2.5, ("fails", "holds"))])
def test_chaos_transient(early, late, expected):
    changed = np.stack([seeds_of(0.01 * x, 0.0005) for x in (early, early, 1.5, 1.0, late)])
    data = xr.Dataset({"changed": (("push", "seed"), changed)}, {"push": [0, 10, 30, 50, 90]}, {"steps": 100})
    assert verdicts(claims_walk.chaos_transient(data)) == expected


@pytest.mark.parametrize(
    ("dead", "right", "verdict"), [(0.3, 0.7, "holds"), (0.3, 0.99, "fails"), (0.02, 0.7, "fails"), (0.05, 0.7, "inconclusive")]
)
def test_dead_neurons(dead, right, verdict):
    course = lambda first, last: (("task", "seed"), np.stack([np.full(5, first), seeds_of(last)]))  # noqa: E731
    fresh = {"fresh_dead": ("seed", seeds_of(0.0)), "fresh_accuracy": ("seed", seeds_of(0.99))}
    data = xr.Dataset({"dead": course(0.0, dead), "accuracy": course(1.0, right), **fresh})
    assert verdicts(claims_walk.dead_neurons(data)) == (verdict, "fails")


def test_every_claim_has_its_check():
    empty = xr.Dataset()
    known = set(claims_walk.checks(empty, empty, empty, empty, empty))
    assert known <= set(register())
    assert len(known) == 5


# --- settings ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("recipe", "bad"),
    [
        (walk.growth, {"rates": (0.1, -1)}),
        (walk.growth, {"rates": ()}),
        (walk.growth, {"dims": (1,)}),
        (walk.growth, {"sigma": 0}),
        (walk.growth, {"logs": 3}),
        (walk.growth, {"steps": 101}),
        (walk.growth, {"replicas": 0}),
        (valley.occupation, {"rates": (0,)}),
        (valley.occupation, {"sigma": -1}),
        (valley.occupation, {"temperature": 0}),
        (valley.occupation, {"spectrum": (1, 2)}),
        (valley.occupation, {"relaxations": 0}),
        (continual.equal_loss, {"label_noise": -1}),
        (continual.equal_loss, {"duration": 0.1}),
        (continual.perturbed, {"times": (0, 3000)}),
        (continual.perturbed, {"size": 0}),
        (continual.tasks, {"n_tasks": 0}),
        (continual.tasks, {"eta": -1}),
    ],
)
def test_bad_settings(recipe, bad):
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        recipe.run(**bad)


def test_a_valley_that_diverges_says_so():
    with pytest.raises(DivergenceError, match="try eta"):
        valley.occupation.run(**PLACES | {"rates": (3.0,)})
