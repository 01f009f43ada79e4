"""Transitions of notebook 01: drops of η, the escape from a plateau, the schedule that waits for it, and their claims."""

import numpy as np
import pytest
import torch
import xarray as xr
from claimed import FAILS, HOLDS, verdicts

from thermolab.engine import schedules
from thermolab.engine.experiment import Experiment
from thermolab.instruments.curvature import HessianProducts, largest_eigenvalue
from thermolab.instruments.spread import along_path
from thermolab.phenomena.cooling import claims_transitions, plateau, setting, transitions
from thermolab.systems.data import Dataset

DROP = {"replicas": 3, "burn_in": 10, "baseline": 3, "before": 2, "after": 3, "n_seeds": 2}


# --- the recipes --------------------------------------------------------------------------------------------------------
def test_the_entropy_of_a_window_is_that_of_its_path():
    net = setting.system("mlp", width=8)
    run, again = (Experiment(net, eta=0.1, batch_size=4, replicas=3, seed=5) for _ in range(2))
    found = plateau.window(run, 8, 4, which=slice(1, 3))
    path = []
    for _ in range(4):
        again.advance(2)
        path.append(again.state.weights)
    np.testing.assert_array_equal(found, along_path(torch.stack(path)).value[1:])
    assert run.state.step == 8


def test_a_drop_of_the_learning_rate():
    found = transitions.detection.run((0.5,), **DROP)
    assert found["S"].dims == ("ratio", "seed", "replica", "window")
    assert found["S"].shape == (2, 2, 3, 8)
    assert found["calibration"].shape == (2, 3, 8)
    assert found.attrs == {"baseline": 3, "change": 5}
    same, dropped = found["S"].values
    np.testing.assert_array_equal(same[..., :5], dropped[..., :5])  # up to the change
    assert not (found["calibration"].values[..., 0] == same[..., 0]).any()
    # S goes as 2 log η: the change is −1.4, beside 0.15 for what a window scatters by
    assert (dropped - same)[..., 5:].mean() == pytest.approx(2 * np.log(0.5), abs=0.3)
    assert same[..., 5:].mean() == pytest.approx(same[..., :5].mean(), abs=0.3)
    one = transitions.detection.run((0.5,), **DROP | {"n_seeds": 1})
    xr.testing.assert_equal(one, found.isel(seed=slice(1)))


def test_the_runs_after_a_drop_are_those_of_a_plain_loop():
    found = transitions.detection.run((0.5, 2.0), **DROP | {"n_seeds": 1})["S"].isel(seed=0)
    more = {"lam": transitions.DECAY, "batch_size": 16}
    net = setting.system("mlp", width=transitions.WIDTH)
    run = Experiment(net, eta=0.1, replicas=6, **more)
    run.advance((10 + 5) * 32)
    # the last replica, under the last of the ratios
    after = Experiment(net, eta=0.2, weights=run.state.weights[5:], streams=[6 + 4 * 3 - 1], **more)
    assert plateau.window(after, 32, 16)[0] == pytest.approx(found.values[2, 2, 5], abs=1e-6)


def test_an_image_with_any_label():
    data = Dataset(torch.arange(6.0).reshape(3, 2), torch.tensor([2, 0, 1]), 4)
    every = plateau.any_label(data)
    assert torch.equal(every.x[:3], data.x)
    assert torch.equal(every.y[:3], data.y)
    pairs = {(*x.tolist(), int(y)) for x, y in zip(every.x, every.y, strict=True)}
    assert len(pairs) == len(every) == 12


def test_the_plateau_and_its_end():
    found = plateau.plateau.run(replicas=3, windows=26, n_seeds=2)
    escape, redrawn = (found.sel(arm=a) for a in plateau.ARMS)
    assert abs(redrawn["U"] - np.log(10)).max() < 0.05
    assert abs(found["U"].isel(window=slice(4)) - np.log(10)).max() < 0.05
    assert (escape["U"].isel(window=-1) < 1.2).all()
    assert (escape["U_validation"].isel(window=-1) < 1.5).all()
    assert (escape["S_exit"] < escape["S_date"]).all()
    assert (escape["S"].isel(window=-1) - escape["S"].isel(window=0) > 8).all()
    # the steepest change by hand
    for name in "SU":
        series = escape[name].values[1, 2]
        change = [abs(series[t + 4] - series[t]) for t in range(22)]
        assert escape[f"{name}_date"].values[1, 2] == int(np.argmax(change)) + 2 + 1
    one = plateau.plateau.run(replicas=3, windows=6, n_seeds=1)
    np.testing.assert_array_equal(one["S"], found["S"][:, :1, :, :6])


def test_the_exit_from_the_band_of_the_null_runs():
    rng = np.random.default_rng(1)
    null, series = 0.1 * rng.normal(size=(2, 2, 20, 12))
    series[0, 0, 7:] += 5
    series[1, 1, 4:] -= 5
    found = plateau._exit(series, null)
    assert found[0, 0] == 8  # windows are numbered from 1
    assert found[1, 1] == 5
    assert np.isnan(found).sum() >= 35


def test_what_has_passed():
    level = -10.0
    rise = np.array([-20.0, -20, -20, -19, -18, -16, -13, -9, -6, -5, -4.5, -4.4])
    flat = np.full(12, -20.0)
    above = np.linspace(-8, -9, 12)
    found = [plateau.passed(np.stack([rise, flat, above])[:, : t + 1], level).tolist() for t in range(12)]
    assert [f[1] for f in found] == [False] * 12
    assert [f[2] for f in found] == [True] * 12
    # S − S four windows earlier is 4, 7, 10, 12, 11, 8.5, 4.6 from window 5 on: half of 12 is reached at the last
    assert [f[0] for f in found] == [False] * 11 + [True]


def test_schedules_are_those_of_the_engine():
    settings = {"replicas": 2, "windows": 10, "scale": 1.0, "level": -20.0, "difficulty": "mid", "seed": 3, "device": "cpu"}
    found = plateau._schedules(**settings)
    assert found["begin"].tolist() == [[0, 0], [10, 10], [1, 1]]  # S is above the level from the start
    net = setting.system("mlp", width=plateau.WIDTH)
    cosine = schedules.cosine(0.2, 160, every=16)
    waiting = [[k + 16, change] for k, change in schedules.cosine(0.2, 144, every=16)]
    for events, row in ((cosine, 0), ([], 1), (waiting, 2)):
        run = Experiment(net, eta=0.2, batch_size=16, replicas=2, seed=3)
        list(run.drive(events, [], 160))
        loss = setting.evaluate(net.replicas, run.state.weights, setting.images()[1])[0]
        np.testing.assert_allclose(found["U_validation"][row], loss, rtol=1e-5)
    rates = schedules.values(cosine, 160)
    reached = found["travelled"][0]
    assert all(np.isclose(np.cumsum(rates)[15::16], r).any() for r in reached)
    never = plateau._schedules(**settings | {"level": 0.0, "scale": 0.01, "windows": 6})
    assert never["begin"][2].tolist() == [6, 6]
    np.testing.assert_array_equal(never["U_validation"][1], never["U_validation"][2])
    assert np.isnan(never["travelled"]).all()


def test_adaptive_waits_for_the_transition_and_only_for_it():
    found = plateau.adaptive.run(replicas=2, windows=30, n_seeds=2)
    assert found["U_validation"].dims == ("task", "schedule", "seed", "replica")
    begin = found["begin"].sel(schedule="adaptive")
    assert (begin.sel(task="direct") <= 2).all()
    assert ((begin.sel(task="delayed") > 8) & (begin.sel(task="delayed") < 25)).all()
    loss = found["U_validation"].mean(("seed", "replica"))
    assert loss.sel(task="delayed", schedule="adaptive") < 0.8 * loss.sel(task="delayed", schedule="cosine")
    travelled = found["travelled"].sel(task="delayed").mean(("seed", "replica"))
    assert travelled.sel(schedule="cosine") == pytest.approx(float(travelled.sel(schedule="constant")), rel=0.15)


def test_curvature_along_the_runs():
    found = transitions.curvature.run(replicas=1, points=3, baseline=1, samples=64, n_seeds=1)
    assert found["lambda_max"].dims == ("arm", "seed", "replica", "point")
    assert found.attrs["baseline"] == 1
    assert (found["U"].sel(arm="steady") < 0.5).all()
    begun = plateau.begin(0.04, [0], "mid", seed=0)
    begun.advance(64)
    still = Experiment(setting.system("mlp", width=16), eta=0.1, lam=0.03, batch_size=16)
    still.advance((60 + 2) * 32)
    still.set(eta=0.05)
    still.advance(64)
    x, y = setting.images()[0].x[:64], setting.images()[0].y[:64]
    for arm, run in (("escape", begun), ("drop", still)):
        top = largest_eigenvalue(HessianProducts(run.system, run.state.weights[0], x, y), looks=3)
        assert found["lambda_max"].sel(arm=arm).values[0, 0, 1] == pytest.approx(top.value, rel=0.02)


@pytest.mark.parametrize(
    ("recipe", "bad"),
    [
        (transitions.detection, {"ratios": ()}),
        (transitions.detection, {"ratios": (0.5, 1.0)}),
        (transitions.detection, {"ratios": (-0.5,)}),
        (transitions.detection, {"baseline": 2}),
        (transitions.detection, {"n_seeds": 0}),
        (transitions.detection, {"difficulty": "odd", **DROP}),
        (transitions.curvature, {"ratio": 0.0}),
        (transitions.curvature, {"points": 4}),
        (plateau.plateau, {"windows": 4}),
        (plateau.plateau, {"scale": 0.0}),
        (plateau.plateau, {"replicas": 1.5}),
        (plateau.adaptive, {"windows": 0}),
    ],
)
def test_bad_settings(recipe, bad):
    name = next(iter(bad))
    with pytest.raises(ValueError, match=f"^{name}=[^\n]*allowed[^\n]*$"):
        recipe.run(**bad)


# --- claims on data made up by hand -------------------------------------------------------------------------------------
def series(step, *, runs=60, loud=1.0, seed=1):
    """White noise of 80 windows with a step after the sixtieth, at a ratio of 0.8; `loud`: of the runs without a drop."""
    rng = np.random.default_rng(seed)
    calm, null, changed = rng.normal(size=(3, 2, runs // 2, 80))
    changed[..., 60:] -= step
    data = {
        "S": (("ratio", "seed", "replica", "window"), np.stack([loud * null, changed])),
        "calibration": (("seed", "replica", "window"), calm),
    }
    return xr.Dataset(data, {"ratio": [1.0, 0.8]}, {"baseline": 30, "change": 60})


def test_second_differences_and_sums():
    assert verdicts(claims_transitions.second_differences(series(3.5))) == FAILS  # as in the real thing
    assert verdicts(claims_transitions.second_differences(series(30.0))) == ("holds", "holds")
    assert verdicts(claims_transitions.second_differences(series(0.0))) == ("fails", "fails")
    assert verdicts(claims_transitions.second_differences(series(3.5, runs=16))) == ("inconclusive", "inconclusive")
    # null runs that alarm far too often: the level is worth nothing
    assert verdicts(claims_transitions.second_differences(series(30.0, loud=3.0)))[0] == "inconclusive"


def test_the_performance_of_a_detector():
    found = claims_transitions.performance(series(8.0), claims_transitions.sums)
    assert found.power.value > 0.9
    assert found.delay <= 2
    assert found.power.n == 60
    # a step is seen at once, or one window later, or not at all
    alarm = claims_transitions.accelerations(np.r_[np.zeros(60), np.ones(20)], 30)
    assert np.flatnonzero(alarm).tolist() == [30, 31]


def dated(lead, spread=0.0, n=60):
    rng = np.random.default_rng(2)
    late = np.stack([10 + lead + spread * rng.normal(size=n), 10 + 8 * rng.normal(size=n)]).reshape(2, 2, -1)
    dims = ("arm", "seed", "replica")
    return xr.Dataset({"U_date": (dims, late), "S_date": (dims, 0 * late + 10)}, {"arm": [*plateau.ARMS]})


def test_the_earlier_date():
    assert verdicts(claims_transitions.earlier(dated(3.0))) == HOLDS
    assert verdicts(claims_transitions.earlier(dated(-3.0)))[0] == "fails"
    assert verdicts(claims_transitions.earlier(dated(0.5)))[0] == "fails"  # less than a window is no lead
    assert verdicts(claims_transitions.earlier(dated(2.3, spread=1.0)))[0] == "inconclusive"


def curved(escape, drop):
    """λ_max that scatters by 5 % and then changes by these factors, after four points of twelve."""
    rng = np.random.default_rng(3)
    log = 0.05 * rng.normal(size=(4, 5, 4, 12)) + 1.0
    log[0, ..., 4:] += np.log(escape)
    log[2, ..., 4:] += np.log(drop)
    data = {"lambda_max": (("arm", "seed", "replica", "point"), np.exp(log))}
    return xr.Dataset(data, {"arm": [*plateau.ARMS, "drop", "steady"]}, {"baseline": 4})


def test_curvature_flags():
    assert verdicts(claims_transitions.fisher_flags(curved(20.0, 1.0))) == HOLDS
    assert verdicts(claims_transitions.fisher_flags(curved(0.05, 1.0))) == HOLDS
    assert verdicts(claims_transitions.fisher_flags(curved(1.0, 3.0))) == FAILS
    assert verdicts(claims_transitions.fisher_flags(curved(20.0, 3.0))) == ("holds", "holds")
    data = curved(20.0, 1.0)
    data["lambda_max"][0, 0, 0, 5] = -1e-3  # of a search that did not get there
    assert verdicts(claims_transitions.fisher_flags(data)) == HOLDS


def ended(delayed, direct, scatter=0.02):
    """Final losses: those of the adaptive schedule over those of cosine, on both tasks."""
    rng = np.random.default_rng(4)
    loss = np.exp(scatter * rng.normal(size=(2, 3, 5, 4)))
    loss[:, 1] *= 3  # constant, which is not asked about
    loss[0, 2] *= delayed
    loss[1, 2] *= direct
    coords = {"task": [*plateau.TASKS], "schedule": [*plateau.SCHEDULES]}
    return xr.Dataset({"U_validation": (("task", "schedule", "seed", "replica"), loss)}, coords)


def test_the_adaptive_schedule():
    assert verdicts(claims_transitions.adaptive_wins(ended(0.7, 1.0))) == HOLDS
    assert verdicts(claims_transitions.adaptive_wins(ended(1.0, 0.7))) == FAILS
    assert verdicts(claims_transitions.adaptive_wins(ended(1.3, 1.0)))[0] == "fails"
    assert verdicts(claims_transitions.adaptive_wins(ended(0.94, 1.0, scatter=0.2)))[0] == "inconclusive"
    assert claims_transitions.adaptive_wins(ended(0.7, 1.0, scatter=0.0))[0].measured == pytest.approx(np.log(0.7))


def test_every_claim_is_registered():
    from thermolab.claims import section

    found = claims_transitions.checks(series(3.5), dated(3.0), curved(20.0, 1.0), ended(0.7, 1.0))
    assert set(found) <= set(section("01_cooling"))
    assert {name: verdicts(check()) for name, check in found.items()} == {
        "cooling.second-difference": FAILS,
        "cooling.plateau": HOLDS,
        "cooling.fisher-flags": HOLDS,
        "cooling.adaptive": HOLDS,
    }
