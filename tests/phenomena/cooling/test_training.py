"""Three models by epoch against a plain loop, and their claims on data made up by hand."""

import math

import numpy as np
import pytest
import torch
from claimed import FAILS, HOLDS, verdicts
from phenomena.cooling.made_up import good, model

from thermolab.engine.experiment import Experiment
from thermolab.instruments import noise
from thermolab.phenomena.cooling import classifiers, curves, training

SMALL = {"epochs": 2, "n_seeds": 2, "fisher_every": 2}


@pytest.fixture(scope="module")
def mlp():
    return training.training.run("mlp", eta=0.1, seed=3, **SMALL)


# --- the recipe against simple loops --------------------------------------------------------------------------------------
def test_training_is_the_run_of_a_plain_loop(mlp):
    net, (_, held_out) = classifiers.system("mlp"), classifiers.images()
    weights = net.start(torch.arange(2), 3000)
    run = Experiment(net, eta=0.1, lam=1e-2, batch_size=32, seed=3000, weights=weights)
    arm, dim = mlp.sel(lam=1e-2), net.n_parameters
    for epoch in (1, 2):
        path = []
        for k in range(16):
            run.advance(2)
            path.append(run.state.weights[1].double().numpy())
            if epoch == 1 and k == 3:
                quarter = classifiers.evaluate(net.replicas, run.state.weights, held_out)[1]
                np.testing.assert_allclose(arm["early"].sel(moment=0.25), quarter)
        now = arm.sel(time=epoch)
        np.testing.assert_allclose(now["U"], run.frame().observables["U"])
        t, path = np.arange(16.0), np.array(path)
        rest = path - np.array([np.polyval(line, t) for line in np.polyfit(t, path, 1).T]).T
        moved = (rest**2).sum(0) > 1e-16
        expected = np.log((rest**2).sum(0)[moved] / 14).mean()
        assert now["S_path"].values[1] == pytest.approx(expected, abs=1e-3)
        np.testing.assert_allclose(now["U_val"], classifiers.evaluate(net.replicas, run.state.weights, held_out)[0])
        entries = [v[1].double().var(correction=0).log() for v in net.replicas.views(run.state.weights).values() if v.dim() > 2]
        assert now["S_entries"].values[1] == pytest.approx(float(np.mean(entries)))
    many = net.gradients(run.state.weights, 400, 32, 99, run.streams)
    np.testing.assert_allclose(now["trace"], noise.gradient_noise(many, spectrum=False).trace, rtol=0.5)  # 8 batches: √(2/7)
    np.testing.assert_allclose(mlp["T"], 0.1 * mlp["trace"] / (2 * dim))
    assert mlp.attrs == {"dim": dim, "eta": 0.1, "batch_size": 32, "model": "mlp"}


def test_what_the_dataset_holds(mlp):
    assert dict(mlp.sizes) == {"lam": 2, "time": 3, "seed": 2, "moment": 8}
    assert mlp["seed"].values.tolist() == [3000, 3001]
    assert {mlp[name].dims for name in training.COLUMNS} == {("lam", "time", "seed")}
    later = mlp[["U", "S_path"]].to_array().transpose("time", ...)
    assert np.isnan(later[0]).all()
    assert np.isfinite(later[1:]).all()
    assert np.isnan(mlp["S_laplace"]).values.all((0, 2)).tolist() == [False, True, False]
    start = mlp.sel(time=0)
    for name in ("accuracy", "S_entries", "U_val", "S_laplace", "trace"):  # the arms start alike
        np.testing.assert_array_equal(start[name].values[0], start[name].values[1])
    np.testing.assert_array_equal(mlp["early"].sel(moment=0), start["accuracy"])
    assert (mlp["U"].sel(time=2, lam=0) < mlp["U"].sel(time=1, lam=0)).all()
    assert (mlp["S_entries"].sel(time=2, lam=1e-2) < mlp["S_entries"].sel(time=2, lam=0)).all()


def test_starts_and_labels_of_the_controls(mlp):
    tiny = training.training.run("mlp", eta=0.1, lams=(0.0,), scale=0.04, seed=3, **SMALL)
    shift = tiny["S_entries"] - mlp["S_entries"].sel(lam=[0.0])
    np.testing.assert_allclose(shift.sel(time=0), 2 * math.log(0.04), rtol=1e-5)
    assert (abs(tiny["U"].sel(time=[1, 2]) - math.log(10)) < 0.05).all()  # on the plateau
    rest = training.training.run("mlp", eta=training.REST, lams=(0.0,), seed=3, **SMALL)
    for name in ("accuracy", "U_val", "S_entries"):
        np.testing.assert_allclose(rest[name], rest[name].sel(time=[0, 0, 0]), rtol=1e-6)
    np.testing.assert_allclose(rest["cka"], 1.0)
    waits = training.training.run("mlp", eta=0.1, lams=(0.0,), wait=1, seed=3, **SMALL)
    np.testing.assert_allclose(waits["U"].sel(time=1), rest["U"].sel(time=1), rtol=1e-6)
    assert (waits["U"].sel(time=2) < rest["U"].sel(time=2) - 0.5).all()


def test_the_representation_is_what_the_last_layer_reads(mlp):
    net, x = classifiers.system("mlp"), classifiers.images()[1].x[:20]
    weights = net.start(torch.arange(2), 5)
    read = classifiers.representations(net.replicas, weights, x)
    views = list(net.replicas.views(weights).values())
    logits = read @ views[-2].mT + views[-1][:, None]
    np.testing.assert_allclose(logits, net.replicas.outputs(weights, x), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(mlp["cka"].sel(time=2), 1.0)
    np.testing.assert_allclose(mlp["early_cka"].sel(moment=0), mlp["cka"].sel(time=0))
    assert (mlp["cka"].sel(time=0) < 0.9).all()


@pytest.mark.parametrize("model", ["cnn", "transformer"])
def test_models_of_autograd(model):
    data = training.training.run(model, eta=0.1, lams=(0.0,), epochs=1, n_seeds=2, difficulty="easy", fisher_every=9)
    assert data.attrs["dim"] == classifiers.system(model).n_parameters
    assert np.isfinite(data["S_path"].sel(time=1)).all()
    assert (data["accuracy"].sel(time=1) > data["accuracy"].sel(time=0) + 0.1).all()


# --- claims on data made up by hand ---------------------------------------------------------------------------------------


def test_share_of_pairs():
    assert curves.falling(np.array([[3.0, 1.0], [2.0, 2.0], [1.0, 3.0]])).tolist() == [1.0, 0.0]
    shuffled = np.random.default_rng(0).normal(size=(40, 200))
    assert curves.falling(shuffled).mean() == pytest.approx(0.5, abs=0.02)


def test_the_weakest_is_the_one_with_the_smallest_margin():
    sure, unsure = np.array([1.0, 1.01, 0.99]), np.array([2.0, 5.0, -1.0])
    assert curves.weakest([sure, unsure], 0.0)[0] == pytest.approx(2.0)
    assert curves.weakest([sure, -sure, unsure], 0.0)[0] == pytest.approx(-1.0)


def test_energy_falls():
    assert verdicts(training.energy_falls(good())) == HOLDS
    assert training.energy_falls(good(cnn=model(u=0.5))).check.verdict == "fails"
    loud = model(u=-0.05, noise=0.12)
    assert training.energy_falls(good(mlp=loud)).check.verdict != "holds"
    assert training.energy_falls(good(rest=model())).control.verdict == "holds"
    # the control reads what the claim reads, the training U
    assert training.energy_falls(good(rest=model(u_val=1.0))).control.verdict == "holds"


def test_a_shift_of_the_representation():
    assert verdicts(training.representation_shift(good())) == FAILS
    late = {m: model(turns=(10.0, 12.0, 13.0)) for m in training.MODELS}
    assert verdicts(training.representation_shift(good(**late, waits=model()))) == HOLDS
    assert training.representation_shift(good(**late | {"cnn": model()})).check.verdict == "fails"  # one of three is not abrupt


def test_the_gains():
    better = model()
    better["accuracy"] = better["accuracy"] + 0.05 * (better["time"] > 5)
    assert verdicts(training.cnn_gains(good(cnn=better))) == HOLDS
    assert verdicts(training.cnn_gains(good(mlp=better))) == FAILS
    fewer = good(cnn=better.isel(seed=slice(3)))  # models need not have as many seeds
    assert training.cnn_gains(fewer).n_seeds == 3


def test_times_of_the_rise():
    found = curves.rise(model(rises=(0.375, 4.0, 12.0), noise=0.0))
    assert found[:, 0] == pytest.approx([0.375, 4.0, 12.0], rel=0.02)
    assert np.isnan(curves.rise(model(rises=(40.0, 50.0, 60.0), noise=0.0).assign(accuracy=0 * model()["accuracy"]))).all()


def test_a_delayed_rise():
    assert verdicts(training.delayed_transformer(good())) == FAILS
    late = good(transformer=model(rises=(10.0, 12.0, 13.0)), plateau=model())
    assert verdicts(training.delayed_transformer(late)) == HOLDS
    steady = training.delayed_transformer(good(transformer=model(rises=(5.0, 10.0, 15.0), noise=5e-3)))
    assert steady.check.verdict == "inconclusive"
    assert steady.check.measured == pytest.approx(0.0, abs=0.05)


def test_the_clearest():
    assert verdicts(training.cnn_clearest(good())) == FAILS
    assert verdicts(training.cnn_clearest(good(cnn=model(path=(-9.0, -5.0))))) == HOLDS
    assert training.cnn_clearest(good(cnn=model(path=(-8.0, -4.0), noise=0.3))).check.verdict == "inconclusive"
    third = training.cnn_clearest(good(transformer=model(path=(-20.0, -20.0))))  # then neither of the two leads
    assert (third.check.verdict, third.control.verdict) == ("fails", "fails")


def test_entries():
    assert verdicts(training.entries_fall(good())) == FAILS
    assert training.entries_fall(good(cnn=model(entries=(-0.3, -0.5)))).check.verdict == "fails"  # one of three falls
    three = {m: model(entries=(-0.3, 0.5)) for m in training.MODELS}
    assert verdicts(training.entries_fall(good(**three))) == HOLDS


def test_levelling_off():
    assert verdicts(training.levels_off(good())) == HOLDS
    both = {m: model(settles=False) for m in ("mlp", "cnn")}
    assert training.levels_off(good(**both)).check.verdict != "holds"
    late = model(rises=(10.0, 20.0, 30.0))
    assert training.levels_off(good(mlp=late)).check.verdict == "fails"  # S has settled, the accuracy has not
    exact = curves.settled(curves.arm(model(noise=0.0, settles=False), decays=True))
    assert exact[0] == pytest.approx(0.0, abs=1e-9)  # linear in log(epoch)
    assert np.isnan(curves.settled(curves.arm(model(path=(3.0, 3.0))))[0]).all()


def test_the_path_of_the_transformer():
    assert verdicts(training.transformer_path(good())) == FAILS
    assert training.transformer_path(good(transformer=model())).check.verdict == "holds"


def test_free_energy():
    data = model(noise=0.0)
    f = curves.free_energy(data)
    u, s, t = (data[k].sel(lam=0).values[1:] for k in ("U", "S_path", "T"))
    entropy = 2000 * 0.5 * np.log(2 * np.pi * np.e * np.exp(s))
    np.testing.assert_allclose(f, u - t.mean() * entropy)
    np.testing.assert_allclose(curves.free_energy(data, fixed=False), u - t * entropy)
    shifted = data.assign(S_path=data["S_path"] + 5)  # in another unit of the weights
    np.testing.assert_allclose(np.diff(curves.free_energy(shifted), axis=0), np.diff(f, axis=0))
    hot = {m: model(path=(-8.0, -4.0)) for m in training.MODELS}
    hot = {m: d.assign(T=d["T"] * 10) for m, d in hot.items()}
    assert verdicts(training.free_energy_falls(good(**hot))) == FAILS
    cold = {m: d.assign(T=d["T"] * 1e-3) for m, d in hot.items()}
    assert training.free_energy_falls(good(**cold)).check.verdict == "holds"


def test_an_arm_that_is_missing():
    with pytest.raises(ValueError, match=r"^lams=\[0.0\]; needed: 0 and one of 1e-2 or more$"):
        training.entries_fall(good(mlp=model().sel(lam=[0.0])))
