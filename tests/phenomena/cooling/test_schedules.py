"""Schedules side by side and the ratio η/B, at tiny settings, and their claims on data made up by hand."""

import numpy as np
import pytest
import torch
import xarray as xr
from claimed import FAILS, HOLDS, verdicts

from thermolab.engine.experiment import Experiment
from thermolab.engine.schedules import values
from thermolab.instruments.spread import along_path
from thermolab.phenomena.cooling import claims_schedules, schedules, setting

SHORT = {"epochs": 3, "copies": 2, "n_seeds": 2}
RATIO = {"ratios": (1 / 320, 1 / 80), "batch_sizes": (16, 64), "epochs": 3, "average": 2, "copies": 2, "n_seeds": 2}


@pytest.fixture(scope="module")
def found():
    return schedules.schedules.run(**SHORT)


@pytest.fixture(scope="module")
def ends():
    return schedules.endings.run((0.0, 2.0), alpha=1.0, **SHORT)


@pytest.fixture(scope="module")
def cells():
    return schedules.ratio.run(**RATIO)


def begin(eta, batch_size, lam, seed, copies=2):
    """The run behind a recipe, started by hand."""
    net = setting.system("mlp", difficulty="mid", label_noise=0.1)
    return Experiment(net, eta=eta, batch_size=batch_size, lam=lam, seed=seed, replicas=copies)


def judge(run):
    return setting.evaluate(run.system.replicas, run.state.weights, setting.images("mid", 0.1)[1])


def window(run, n, steps):
    """Mean batch loss and S of each replica over n snapshots, `steps` apart."""
    path = []
    for _ in range(n):
        run.advance(steps)
        path.append(run.state.weights)
    return run.frame().gauges["U"], along_path(torch.stack(path)).value


# --- schedules --------------------------------------------------------------------------------------------------------
def test_shapes_of_schedules(found):
    assert set(found.data_vars) == {"U", "U_val", "accuracy", "S", "eta", "batch_size", "steps"}
    for name in ("U", "U_val", "accuracy", "S"):
        assert found[name].dims == ("arm", "time", "seed"), name
        assert np.isfinite(found[name]).all(), name
    assert found["eta"].dims == found["batch_size"].dims == found["steps"].dims == ("arm", "time")
    assert found["time"].values.tolist() == [1, 2, 3]
    assert found["arm"].values.tolist() == [*schedules.arms(0.2, 1.0, 3, 16)]
    assert ((found["accuracy"] > 0) & (found["accuracy"] < 1)).all()


def test_rates_and_batches_of_the_schedules(found):
    rates = {str(arm): found["eta"].sel(arm=arm).values for arm in found["arm"].values}
    log = 0.2 / (1 + np.log1p([0, 1, 2]))
    np.testing.assert_allclose(rates["log in epochs"], log)
    np.testing.assert_allclose(rates["reversed"], log[::-1])
    np.testing.assert_allclose(rates["log in steps"], 0.2 / (1 + np.log1p([63, 127, 191])), rtol=0.011)  # to 1 %, from above
    np.testing.assert_allclose(rates["cosine"], 0.1 * (1 + np.cos(np.pi * np.arange(3) / 3)))
    assert rates["decay"].tolist() == [0.2, 0.1, 0.05]
    assert rates["growth"].tolist() == rates["constant"].tolist() == [0.2] * 3
    assert found["batch_size"].sel(arm="growth").values.tolist() == [16, 32, 64]
    assert found["steps"].sel(arm="growth").values.tolist() == [64, 96, 112]
    others = found.drop_sel(arm="growth")
    assert (others["batch_size"] == 16).all()
    assert (others["steps"] == [64, 128, 192]).all()


@pytest.mark.parametrize(("epochs", "batch_size"), [(3, 16), (7, 8), (30, 16), (30, 4)])
def test_every_arm_sees_the_same_number_of_examples(epochs, batch_size):
    arms = schedules.arms(0.2, 1.0, epochs, batch_size)
    sizes = {name: values(*programme, "batch_size") for name, programme in arms.items()}
    assert {int(size.sum()) for size in sizes.values()} == {epochs * setting.N_TRAIN}
    at = schedules._clock(*arms["growth"], epochs)
    assert set(np.diff(np.cumsum(sizes["growth"])[at - 1])) == {64}
    temperature = {name: values(*arms[name]) / sizes[name] for name in ("decay", "growth")}
    for name, per_example in temperature.items():  # η/B by example, not by step
        temperature[name] = np.repeat(per_example, sizes[name])
    np.testing.assert_allclose(temperature["decay"], temperature["growth"])


def test_runs_are_one_until_the_first_drop(found):
    same = found.sel(arm=["constant", "decay", "growth"], time=1)
    for name in ("U", "U_val", "S"):
        assert (same[name] == same[name].isel(arm=0)).all()
        assert len(np.unique(found[name].sel(arm=["constant", "decay", "growth"], time=2))) == 6


def test_growth_by_hand(found):
    here = found.sel(arm="growth").isel(seed=1)
    run = begin(0.2, 16, 1e-2, int(here["seed"]))
    for epoch, size in enumerate((16, 32, 64)):
        run.set(batch_size=size)
        energy, spread = window(run, 16, 64 // size)
        loss, right = judge(run)
        expected = {"U": energy, "S": spread, "U_val": loss, "accuracy": right}
        for name, value in expected.items():
            np.testing.assert_allclose(here[name][epoch], value.mean(), rtol=1e-12, err_msg=name)


def test_a_seed_does_not_depend_on_the_others(found):
    alone = schedules.schedules.run(**SHORT | {"n_seeds": 1})
    xr.testing.assert_identical(alone, found.isel(seed=[0]))


# --- ends -------------------------------------------------------------------------------------------------------------
def test_no_logarithm_is_a_constant(ends):
    assert ends["alpha"].values.tolist() == [0, 1, 2]  # with the α of the reversed rates
    constant = ends["U_val_arm"].sel(arm="constant")
    assert (ends["U_val"].sel(alpha=0) == constant).all()
    assert (ends["U_val"].sel(alpha=2) != constant).all()


def test_final_is_the_mean_over_the_last_epoch(ends):
    for arm, rates in (("constant", [0.2] * 3), ("reversed", (0.2 / (1 + np.log1p([2, 1, 0]))).tolist())):
        run = begin(0.2, 16, 1e-2, 0)
        for eta in rates:
            run.set(eta=eta)
            losses = []
            for _ in range(16):
                run.advance(4)
                losses.append(judge(run)[0])
        np.testing.assert_allclose(ends["U_val_arm"].sel(arm=arm)[0], np.mean(losses), rtol=1e-12)


# --- η/B --------------------------------------------------------------------------------------------------------------
def test_shapes_of_ratios(cells):
    for name in ("U", "U_val", "accuracy", "S"):
        assert cells[name].dims == ("ratio", "batch_size", "seed"), name
    np.testing.assert_allclose(cells["eta"], [[0.05, 0.2], [0.2, 0.8]])
    assert (cells[["U", "S"]].to_array().isnull() == (cells["eta"] > 0.4)).all()


def test_a_cell_by_hand(cells):
    for ratio in (0, 1):
        here = cells.isel(ratio=ratio, batch_size=0, seed=1)
        run = begin(float(here["eta"]), 16, 3e-2, int(here["seed"]))
        run.advance(64)
        run.frame()
        windows = [(*window(run, 16, 4), *judge(run)) for _ in range(2)]
        for name, value in zip(("U", "S", "U_val", "accuracy"), np.mean(windows, (0, 2)), strict=True):
            np.testing.assert_allclose(here[name], value, rtol=1e-12, err_msg=name)


def test_windows_are_as_long_for_every_batch():
    wide = {"epochs": 3, "average": 2, "copies": 1, "n_seeds": 1}
    both = schedules.ratio.run((1 / 640,), (32, 128), **wide)["S"].values.ravel()
    alone = schedules.ratio.run((1 / 640,), (32,), **wide)["S"].item()
    assert both[0] > alone + 0.3  # in two epochs a weight goes further than in one
    assert abs(both[1] - both[0]) < 0.3


# --- claims on data made up by hand -----------------------------------------------------------------------------------


def scatter(values, size=1e-3, n=4):
    """n seeds along a last dimension."""
    values = np.asarray(values, float)[..., None]
    return values + size * np.random.default_rng(values.size).normal(size=(*values.shape[:-1], n))


def finals(epochs=(0.47, 0.45), steps=(0.48, 0.6), constant=0.5, cosine=0.43, heated=0.7, size=1e-3):
    data = {
        "U_val": (("reading", "alpha", "seed"), scatter([epochs, steps], size)),
        "U_val_arm": (("arm", "seed"), scatter([constant, cosine, heated], size)),
    }
    coords = {"reading": ["epochs", "steps"], "alpha": [0.3, 1.0], "arm": ["constant", "cosine", "reversed"]}
    return xr.Dataset(data, coords, {"alpha": 1.0})


def test_the_logarithm_against_a_constant():
    assert verdicts(claims_schedules.log_schedule(finals())) == HOLDS
    assert verdicts(claims_schedules.log_schedule(finals(epochs=(0.4, 0.6), heated=0.4))) == FAILS  # 0.4 is at another α
    assert claims_schedules.log_schedule(finals(size=0.1))[0].verdict == "inconclusive"


def test_the_best_logarithm_against_the_cosine():
    assert verdicts(claims_schedules.log_schedule_best(finals())) == FAILS
    check, _, _ = claims_schedules.log_schedule_best(finals(steps=(0.4, 0.6)))
    assert check.verdict == "holds"
    assert check.measured == pytest.approx(-0.03, abs=3e-3)
    assert claims_schedules.log_schedule_best(finals(constant=0.4))[2].verdict == "fails"
    assert claims_schedules.log_schedule_best(finals(size=0.1))[0].verdict == "inconclusive"


def cooled(energy=(0.0, 0.0), entropy=(0.0, 0.0), effect=1.0, size=1e-3):
    """Three stages of two epochs; growth is off by these shares of the effect in the second and the third."""
    stages = np.array([0, 1, 2])
    decay, no = -0.1 * effect * stages, 0 * stages
    rows = {"U": [], "S": []}
    for name, scale, off in (("U", 1.0, energy), ("S", 20.0, entropy)):
        grown = decay + np.array([0, *off]) * np.array([0, 0.1, 0.2])
        rows[name] = scatter([[scale * x[i] for i in stages for _ in range(2)] for x in (no, decay, grown)], size * scale)
    data = {k: (("arm", "time", "seed"), 0.5 + v) for k, v in rows.items()}
    data["eta"] = (("arm", "time"), [[0.2] * 6, [0.2, 0.2, 0.1, 0.1, 0.05, 0.05], [0.2] * 6])
    return xr.Dataset(data, {"arm": ["constant", "decay", "growth"], "time": np.arange(1, 7)})


def test_decay_is_growth():
    assert verdicts(claims_schedules.decay_is_growth(cooled())) == HOLDS
    for off in ({"energy": (0.2, 0.0)}, {"energy": (0.0, -0.2)}, {"entropy": (0.0, 0.2)}, {"entropy": (-0.2, 0.0)}):
        check, _, control = claims_schedules.decay_is_growth(cooled(**off))
        assert (check.verdict, control.verdict) == ("fails", "fails"), off
        assert check.measured == pytest.approx(0.2, abs=0.02), off
    assert claims_schedules.decay_is_growth(cooled(size=0.1))[0].verdict == "inconclusive"
    nothing = claims_schedules.decay_is_growth(cooled(effect=1e-3, size=0.01))  # where nothing cools nothing is told apart
    assert nothing[2].verdict == "inconclusive"


def collapsed(energy=0.0, entropy=0.0, far=0.5, size=1e-3):
    """U and S by η/B, off by these in one cell at η = 0.1; at η = 0.4 U is off by a share `far`, at 0.2 by as much."""
    ratios, sizes = np.array([1 / 640, 1 / 320, 1 / 160]), np.array([16, 32, 64, 128])
    eta = np.outer(ratios, sizes)
    u, s = (np.repeat(v[:, None], 4, 1) for v in (np.array([0.4, 0.3, 0.35]), np.log(ratios)))
    u, s = u * np.where(eta > 0.15, 1 + far, 1), s + 0.0
    u[0, 2] *= 1 + energy
    s[0, 2] += entropy
    data = {k: (("ratio", "batch_size", "seed"), np.where(eta[..., None] > 0.5, np.nan, scatter(v, size)))
            for k, v in (("U", u), ("S", s))}  # fmt: skip
    data["eta"] = (("ratio", "batch_size"), eta)
    return xr.Dataset(data, {"ratio": ratios, "batch_size": sizes})


def test_the_ratio_decides():
    assert verdicts(claims_schedules.eta_over_batch(collapsed())) == HOLDS
    assert claims_schedules.eta_over_batch(collapsed(far=0.01))[2].verdict == "holds"
    for off in ({"energy": 0.1}, {"energy": -0.1}, {"entropy": 0.2}, {"entropy": -0.2}):
        check, _, _ = claims_schedules.eta_over_batch(collapsed(**off))
        assert check.verdict == "fails", off
        assert check.measured == pytest.approx(4 / 3, abs=0.1), off  # two thirds of twice the tolerance: a third is in the mean
    assert claims_schedules.eta_over_batch(collapsed(size=0.05))[0].verdict == "inconclusive"


def test_starts_that_differ_tell_nothing_about_the_ratio():
    """Each seed has its own level, common to all batch sizes."""
    data = collapsed()
    levels = xr.DataArray([0.0, 3.0, -2.0, 1.0], dims="seed")
    assert claims_schedules.eta_over_batch(data.assign(S=data["S"] + levels))[0].verdict == "holds"


def test_every_claim_is_decided():
    found = claims_schedules.checks(cooled(), finals(), collapsed())
    assert {k: check()[0].verdict for k, check in found.items()} == {
        "cooling.log-schedule": "holds",
        "cooling.log-schedule-best": "fails",
        "cooling.decay-is-growth": "holds",
        "cooling.eta-over-batch": "holds",
    }


# --- errors -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("recipe", "bad", "message"),
    [
        ("schedules", {"batch_size": 32}, "batch_size=32 is not allowed; allowed: a power of two from 1 to 16"),
        ("schedules", {"batch_size": 12}, "batch_size=12 is not allowed"),
        ("schedules", {"batch_size": 0}, "batch_size=0 is not allowed"),
        ("schedules", {"epochs": 2}, "epochs=2 is not allowed; allowed: a whole number, 3 or more"),
        ("schedules", {"eta": 0.0}, "eta=0.0 must be finite and positive"),
        ("schedules", {"alpha": -1.0}, "alpha=-1.0 must be finite and not negative"),
        ("schedules", {"difficulty": "trivial"}, "difficulty='trivial' is unknown; allowed: easy, mid, hard"),
        ("endings", {"alphas": (-1.0,)}, "alpha=-1.0 must be finite and not negative"),
        ("endings", {"batch_size": 128}, "batch_size=128 is not allowed; allowed: a power of two from 1 to 64"),
        ("endings", {"copies": 0}, "copies=0 is not allowed"),
        ("endings", {"n_seeds": 1.5}, "n_seeds=1.5 is not allowed"),
        ("ratio", {"batch_sizes": (4, 6)}, "batch_size=6 is not allowed; allowed: a power of two from 1 to 128"),
        ("ratio", {"batch_sizes": ()}, "allowed: one or more, and above 0"),
        ("ratio", {"ratios": (0.0, 0.1)}, "allowed: one or more, and above 0"),
        ("ratio", {"average": 3}, "average=3 is not allowed; allowed: a multiple of 2 up to epochs=24"),
        ("ratio", {"average": 26}, "average=26 is not allowed"),
        ("ratio", {"largest": 0.1}, "largest=0.1 leaves nothing of batch_size=128; allowed: 0.2 or more"),
    ],
)
def test_what_is_refused(recipe, bad, message):
    with pytest.raises(ValueError, match=r"^[^\n]*$") as error:
        getattr(schedules, recipe).run(**bad)
    assert message in str(error.value)
