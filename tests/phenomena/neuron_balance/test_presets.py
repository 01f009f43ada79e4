"""What notebook 04 measures, decides, keeps and draws, all of it at a tiny size."""

from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

from thermolab import claims
from thermolab.phenomena.neuron_balance import architectures, deep, figures, presets

SETUP = {"preset": "smoke", "seed": 0, "n_seeds": 3, "device": "cpu", "eta": 0.02, "batch_size": 8, "lam": 0.05, "noise_std": 1.0}
TINY = {
    "relu": {"logs": 4, "moments": 2, "batches": 4, "span": 0.05},
    "train": {"steps": 12, "warm_up": 0, "logs": 3, "n_data": 200, "eta": 1e-3},
    "linear": {"burn_in": 20, "window": 20, "decay": 8, "copies": 1},
    "matrix": {"steps": 40, "logs": 4, "moments": 2, "batches": 4},
    "twins": {"steps": 12, "logs": 3, "n_data": 200, "eta": 1e-3},
    "alike": {"steps": 12, "logs": 3, "n_data": 100, "copies": 2},
}


def setup(**changed):
    return SimpleNamespace(**SETUP | changed)


def measure(plan):
    """The plan, run at a tiny size."""
    if isinstance(plan, dict):
        return {name: measure(part) for name, part in plan.items()}
    return plan.func.run(*plan.args, **plan.keywords | TINY[plan.func.__name__])


@pytest.fixture(scope="module")
def found():
    return measure(presets.datasets(setup()))


@pytest.mark.parametrize(("preset", "steps"), presets.POINT_STEPS.items())
def test_the_working_point_has_as_many_steps_at_every_eta(preset, steps):
    for eta, batch_size in ((0.02, 8), (0.005, 64)):
        now = setup(preset=preset, eta=eta, batch_size=batch_size, lam=0.1, noise_std=2.0)
        point = presets.datasets(now)["here"].keywords
        assert point["span"] * batch_size / eta**2 == pytest.approx(steps)
        assert (point["arms"], point["lams"], point["sigma"]) == (((eta, batch_size),), (0.1,), 2.0)


def test_smoke_is_lab_but_for_sizes_and_seeds():
    lab, smoke = (presets.datasets(setup(preset=preset, n_seeds=7)) for preset in ("lab", "smoke"))
    sizes = {"span", "logs", "moments", "copies", "steps", "burn_in", "window", "decay", "n_seeds", "warm_up"}

    def settings(part):
        return {name: v for name, v in part.func.checked(**part.keywords).items() if name not in sizes}

    assert list(lab) == list(smoke)
    for name in set(lab) - {"linear", "rates"}:
        assert settings(lab[name]) == settings(smoke[name])
        assert (lab[name].keywords["n_seeds"], smoke[name].keywords["n_seeds"]) == (7, 3)


def test_every_claim_is_decided_with_its_control(found):
    results = claims.decided("04_neuron_balance", found, settings={"eta": 0.02}, seconds=100.0)
    assert [r.claim.id for r in results] == list(claims.section("04_neuron_balance"))
    assert all(r.control_name and r.n_seeds == 3 and r.settings == {"eta": 0.02} and r.seconds >= 1 for r in results)
    assert {r.claim.id: r.verdict for r in results}["balance.identity"] == "holds"


def test_what_a_claim_reads_are_settings_of_the_recipes_behind_it():
    plan = presets.datasets(setup())
    for name in claims.section("04_neuron_balance"):
        by = claims.decider(name)
        parts = [plan[dataset] for dataset in by.datasets.values()]
        recipes = [recipe.func for part in parts for recipe in (part.values() if isinstance(part, dict) else [part])]
        assert set(by.reads) <= set.intersection(*(set(recipe.settings) for recipe in recipes))
        assert not set(by.reads) & set(SETUP), "these name the working point"


def test_traces(found, tmp_path):
    presets.traces(found).to_netcdf(tmp_path / "results.nc", engine="h5netcdf")
    kept = xr.open_dataset(tmp_path / "results.nc", engine="h5netcdf")
    here = found["here"]
    assert kept["log_ratio"].dims == kept["log_ratio_pred"].dims == ("time", "seed", "copy", "neuron")
    np.testing.assert_allclose(kept["log_ratio"], np.log(here["g2_out"] / here["g2_in"])[0])
    assert (kept["remaining"].isel(time=0) == 1).all()
    assert kept["relu_eta"].values.tolist() == [0.02, 0.02, 0.01, 0.01]
    np.testing.assert_allclose(kept["tanh_g2_in"], found["tanh"]["g2_in"])
    np.testing.assert_allclose(kept["cnn_tanh_u2"], found["cnn_tanh"]["u2"])
    assert kept["linear_norm_1"].dims == ("linear_profile", "linear_seed")
    assert kept["mlp_log_ratio"].dims == ("mlp_pair", "mlp_time", "mlp_seed")
    assert "0 -> 2" in kept["mlp_pair"].values
    np.testing.assert_allclose(kept["matrix_residual"], deep.residual(found["matrix"]))


def test_each_curve_on_the_clock_is_one_pair(found):
    for label, (name, end) in figures.SLOW.items():
        assert architectures.read_by(found[name], end).sizes["pair"] == 1, label


def test_rows_for_people():
    names = {
        "1.inner.0 -> 1.inner.2": "",
        "0 -> 3": "skip connection",
        "1.norm1 -> 1.attention.mix": "",
        "1.inner.0 -> 1.inner.2 (no bias)": "missing bias",
    }
    squares = np.ones((4, 4, 3)), np.exp(np.array([0.1, 0.2, 0.3, 0.4]))[:, None, None] * np.ones((4, 4, 3))
    data = xr.Dataset(
        {name: (("pair", "time", "seed"), values) for name, values in zip(("u2", "w2"), squares, strict=True)},
        {"pair": list(names), "reason": ("pair", list(names.values()))},
    )
    rows = figures.rows(data, "net")
    assert list(rows) == ["net 1.0 → 1.2", "net 0 → 3", "net 1.norm 1 → 1.mix"]
    ends = {reason: float(r.mean()) for reason, r in rows["net 1.0 → 1.2"].items()}
    assert ends == pytest.approx({"": 0.1, "missing bias": 0.4})
    assert rows["net 0 → 3"]["skip connection"].dims == ("seed",)
