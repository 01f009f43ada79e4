"""Schedules side by side at tiny settings, and their claims on data made up by hand."""

import numpy as np
import pytest
from claimed import FAILS, HOLDS, verdicts
from phenomena.cooling import made_up
from phenomena.cooling.by_hand import begin, judge, window

from thermolab.engine.schedules import values
from thermolab.phenomena.cooling import classifiers, schedules

SHORT = {"epochs": 3, "copies": 2, "n_seeds": 2}


@pytest.fixture(scope="module")
def found():
    return schedules.schedules.run(**SHORT)


@pytest.fixture(scope="module")
def ends():
    return schedules.endings.run(arms=("constant", "reversed"), **SHORT)


# --- schedules --------------------------------------------------------------------------------------------------------
def test_shapes_of_schedules(found):
    assert set(found.data_vars) == {"U", "U_val", "accuracy", "S", "eta", "batch_size", "steps"}
    assert {found[name].dims for name in schedules.READ} == {("arm", "time", "seed")}
    assert {found[name].dims for name in ("eta", "batch_size", "steps")} == {("arm", "time")}
    assert np.isfinite(found.to_array()).all()
    assert found["time"].values.tolist() == [1, 2, 3]
    assert found["arm"].values.tolist() == [*schedules.programmes(0.2, 1.0, 3, 16)]
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
    programmes = schedules.programmes(0.2, 1.0, epochs, batch_size)
    sizes = {name: values(*programme, "batch_size") for name, programme in programmes.items()}
    assert {int(size.sum()) for size in sizes.values()} == {epochs * classifiers.N_TRAIN}
    at = schedules.clock(*programmes["growth"], epochs)
    assert set(np.diff(np.cumsum(sizes["growth"])[at - 1])) == {64}
    temperature = {name: values(*programmes[name]) / sizes[name] for name in ("decay", "growth")}
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


# --- ends -------------------------------------------------------------------------------------------------------------
def test_a_logarithm_of_alpha_0_is_a_constant(ends):
    logs = schedules.logarithms.run((0.0, 2.0), **SHORT)["U_val"]
    assert logs.dims == ("reading", "alpha", "seed")
    assert logs["alpha"].values.tolist() == [0, 2]
    constant = ends["U_val"].sel(arm="constant")
    assert (logs.sel(alpha=0) == constant).all()
    assert (logs.sel(alpha=2) != constant).all()


def test_final_is_the_mean_over_the_last_epoch(ends):
    for arm, rates in (("constant", [0.2] * 3), ("reversed", (0.2 / (1 + np.log1p([2, 1, 0]))).tolist())):
        run = begin(0.2, 16, 1e-2, 0)
        for eta in rates:
            run.set(eta=eta)
            losses = []
            for _ in range(16):
                run.advance(4)
                losses.append(judge(run)[0])
        np.testing.assert_allclose(ends["U_val"].sel(arm=arm)[0], np.mean(losses), rtol=1e-12)


# --- claims on data made up by hand -----------------------------------------------------------------------------------


def test_the_logarithm_against_a_constant():
    assert verdicts(schedules.log_schedule(*made_up.finals())) == HOLDS
    assert verdicts(schedules.log_schedule(*made_up.finals(epochs=(0.4, 0.6), heated=0.4))) == FAILS  # 0.4 is at another α
    assert schedules.log_schedule(*made_up.finals(size=0.1)).check.verdict == "inconclusive"


def test_the_best_logarithm_against_the_cosine():
    assert verdicts(schedules.log_schedule_best(*made_up.finals())) == FAILS
    check = schedules.log_schedule_best(*made_up.finals(steps=(0.4, 0.6))).check
    assert check.verdict == "holds"
    assert check.measured == pytest.approx(-0.03, abs=3e-3)
    assert schedules.log_schedule_best(*made_up.finals(constant=0.4)).control.verdict == "fails"
    assert schedules.log_schedule_best(*made_up.finals(size=0.1)).check.verdict == "inconclusive"


def test_decay_is_growth():
    assert verdicts(schedules.decay_is_growth(made_up.cooled())) == HOLDS
    for off in ({"energy": (0.2, 0.0)}, {"energy": (0.0, -0.2)}, {"entropy": (0.0, 0.2)}, {"entropy": (-0.2, 0.0)}):
        check, _, control, _ = schedules.decay_is_growth(made_up.cooled(**off))
        assert (check.verdict, control.verdict) == ("fails", "fails"), off
        assert check.measured == pytest.approx(0.2, abs=0.02), off
    assert schedules.decay_is_growth(made_up.cooled(size=0.1)).check.verdict == "inconclusive"
    nothing = schedules.decay_is_growth(made_up.cooled(effect=1e-3, size=0.01))  # where nothing cools nothing is told apart
    assert nothing.control.verdict == "inconclusive"
