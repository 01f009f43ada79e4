"""Exercises of notebook 04, right and wrong; what the notebook keeps and draws of its datasets."""

from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

from thermolab.claims import section
from thermolab.phenomena.neuron_balance import architectures, claims, exercises, linear, networks, presets

POINT = {"span": 0.05, "logs": 4, "moments": 2, "batches": 4, "copies": 2, "n_seeds": 3}


# --- exercises ----------------------------------------------------------------------------------------------------------
def test_the_right_predictions():
    assert exercises.check_predictions(4000, "tanh")
    assert exercises.check_predictions(4100.0, "tanh")


@pytest.mark.parametrize(
    "answer",
    [(2000, "tanh"), (500, "tanh"), (1000, "tanh"), (4000, "relu"), (4000, "qk"), (None, "tanh"), (4000, None), ("many", "tanh"),
     (True, "tanh"), (float("nan"), "tanh"), (4000, "gelu"), (4000, 3)],
)  # fmt: skip
def test_wrong_predictions_are_told_why_and_not_what(answer):
    found = exercises.check_predictions(*answer)
    assert not found
    assert "4000" not in found.message or answer[0] == 4000
    assert "tanh" not in found.message or "one of" in found.message


def test_the_batch_size():
    assert exercises.check_batch_size(64)
    for wrong in (None, "64", 4, 16, 32, 1, 0, -64, 256, float("inf"), True):
        found = exercises.check_batch_size(wrong)
        assert not found
        assert "64" not in found.message.replace("-64", "")


def test_the_shift():
    """2λ/η (|u|² - |w|²), whose factor 1 - ηλ/2 may be left out."""
    assert exercises.check_shift(1.6)
    assert exercises.check_shift((2 * 1e-3 - 1e-6) / 0.05**2 * 2)
    for wrong in (None, "1.6", 0, 0.8, -1.6, 2.0, 0.04, float("nan")):
        assert not exercises.check_shift(wrong)
    assert "larger" in exercises.check_shift(-1.6).message
    assert "1.6" not in exercises.check_shift(0.8).message


def test_the_pairs():
    assert exercises.check_pairs(["0 -> 2", "4 -> 6"])
    assert exercises.check_pairs(("4->6", " 0 → 2 "))
    assert exercises.check_pairs(["0 -> 2"]).message == "1 missing"
    assert not exercises.check_pairs([])
    for wrong in (["0 -> 2", "4 -> 6", "2 -> 4"], ["6 -> 8"], ["0 -> 4"], ["0 -> 2 (no bias)"]):
        assert "is no pair" in exercises.check_pairs(wrong).message
    for other in (None, "0 -> 2", 2, [0, 2], [("0", "2")]):
        assert exercises.check_pairs(other).message.startswith("write a list")


# --- what the notebook keeps and draws ----------------------------------------------------------------------------------
def made_up(reasons, ratios):
    """A dataset of `architectures` whose log ratios do not move."""
    ratio = np.broadcast_to(np.array(ratios, float)[:, None, None], (len(ratios), 4, 3))
    dims = ("pair", "time", "seed")
    return xr.Dataset(
        {"u2": (dims, np.ones_like(ratio)), "w2": (dims, np.exp(ratio)), "log_ratio": (dims, ratio),
         "error": (("pair", "seed"), np.full((len(ratios), 3), 1e-13))},
        {"pair": list(reasons), "reason": ("pair", list(reasons.values())), "time": [1, 2, 3, 4], "seed": [0, 1, 2]},
    )  # fmt: skip


def test_rows_for_people():
    names = {
        "1.inner.0 -> 1.inner.2": "",
        "0 -> 3": "skip connection",
        "1.norm1 -> 1.attention.mix": "",
        "1.inner.0 -> 1.inner.2 (no bias)": "missing bias",
    }
    rows = claims.rows(made_up(names, [0.1, 0.2, 0.3, 0.4]), "net")
    assert list(rows) == ["net 1.0 → 1.2", "net 0 → 3", "net norm 1 → mix"]
    assert {reason: float(r.mean()) for reason, r in rows["net 1.0 → 1.2"].items()} == pytest.approx(
        {"": 0.1, "missing bias": 0.4}
    )
    assert rows["net 0 → 3"]["skip connection"].dims == ("seed",)


@pytest.fixture(scope="module")
def found():
    """The datasets of networks of two layers at a tiny size, by name."""
    common = {k: v for k, v in POINT.items() if k != "span"}
    return {
        "relu": networks.relu.run(((0.02, 8), (0.01, 4)), **POINT),
        "tanh": networks.relu.run(((0.02, 8),), activation="tanh", **POINT),
        "decayed": networks.relu.run(((0.04, 8),), lams=(0.0, 0.02), span=0.1, **common),
        "here": networks.relu.run(((0.02, 8),), lams=(0.05,), **POINT),
    }


def test_what_a_stationary_state_has(found):
    """Of norms at rest: what a step adds is what decay takes away, whatever the gradients are."""
    here, known = found["here"], claims.predicted(found["here"])
    a = 0.02 * 0.05
    added = 0.02**2 * known["gap"]
    taken = (1 - (1 - a) ** 2) * (here["in2"] - here["out2"])
    xr.testing.assert_allclose(added, taken.transpose(*added.dims))
    inside = here["g2_in"] > known["gap"]
    assert np.isfinite(known["log_ratio"].where(inside, drop=True)).sum() == inside.sum()
    np.testing.assert_array_equal(np.isnan(known["log_ratio"]), ~inside.transpose(*known["log_ratio"].dims))
    free = claims.predicted(found["relu"])
    assert float(abs(free["gap"]).max()) == float(abs(free["log_ratio"]).max()) == 0


@pytest.fixture(scope="module")
def everything(found):
    """All that the notebook measures, at a tiny size."""
    tiny, short = {"n_seeds": 3}, {"steps": 12, "logs": 3, "n_data": 200, "eta": 1e-3}
    profiles = (linear.BALANCED, linear.GRADED)
    out = found | {p: linear.linear.run(p, burn_in=20, window=20, decay=8, **tiny) for p in profiles}
    out["thresholded"] = linear.linear.run([1.0, 1.0], burn_in=20, window=20, decay=8, **tiny)
    out["matrix"] = linear.matrix.run(steps=40, logs=4, moments=2, batches=4, **tiny)
    out["architectures"] = architectures.architectures.run(**short, **tiny)
    return out | {"twins": architectures.twins.run(**short, **tiny)}


def test_every_claim_is_decided_with_its_control(everything):
    results = claims.decide(everything, settings={"eta": 0.02}, seconds=14.0)
    assert [r.claim.id for r in results] == list(section("04_neuron_balance"))
    assert all(r.control_name and r.n_seeds == 3 and r.settings == {"eta": 0.02} and r.seconds >= 1 for r in results)
    assert {r.claim.id: r.verdict for r in results}["balance.identity"] == "holds"


def test_traces(everything, tmp_path):
    claims.traces(everything, everything["here"]).to_netcdf(tmp_path / "results.nc", engine="h5netcdf")
    kept = xr.open_dataset(tmp_path / "results.nc", engine="h5netcdf")
    here = everything["here"]
    assert kept["log_ratio"].dims == kept["log_ratio_pred"].dims == ("time", "seed", "copy", "neuron")
    np.testing.assert_allclose(kept["log_ratio"], np.log(here["g2_out"] / here["g2_in"])[0])
    assert (kept["remaining"].isel(time=0) == 1).all()
    assert kept["relu_eta"].values.tolist() == [0.02, 0.01]
    np.testing.assert_allclose(kept["tanh_g2_in"], everything["tanh"]["g2_in"])
    np.testing.assert_allclose(kept["cnn_tanh_u2"], everything["architectures"]["tanh"]["u2"])
    assert kept["linear_norm_1"].dims == ("linear_profile", "linear_seed")
    assert kept["mlp_log_ratio"].dims == ("mlp_pair", "mlp_time", "mlp_seed")
    assert "0 -> 2" in kept["mlp_pair"].values
    np.testing.assert_allclose(kept["matrix_residual"], linear.residual(everything["matrix"]))


# --- sizes --------------------------------------------------------------------------------------------------------------
def test_the_working_point_has_as_many_steps_at_every_eta():
    for preset, steps in presets.POINT_STEPS.items():
        for eta, batch_size in ((0.02, 8), (0.005, 64)):
            setup = SimpleNamespace(preset=preset, eta=eta, batch_size=batch_size, lam=0.1, noise_std=2.0)
            point = presets.point(setup)
            assert point["span"] * batch_size / eta**2 == pytest.approx(steps)
            assert (point["arms"], point["lams"], point["sigma"]) == (((eta, batch_size),), (0.1,), 2.0)


def test_sizes():
    assert set(presets.SIZES["lab"]) == set(presets.SIZES["smoke"]) == set(presets.RECIPES)
    assert set(presets.LONGEST_FIRST) == set(architectures.ARMS)
    assert presets.n_seeds("lab", 7) == 7
    assert presets.n_seeds("smoke", 7) == 3
