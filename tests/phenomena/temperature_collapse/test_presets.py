"""What notebook 02 measures: settings that its recipes take, and all that its claims read."""

from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

from thermolab import claims
from thermolab.phenomena.temperature_collapse import presets, theory

PARAMETERS = {
    "eta": 0.03,
    "lam": 0.05,
    "batch_size": 16,
    "width_up": 6,
    "width_op": 24,
    "label_noise": 0.2,
    "points": theory.UNDER.tolist(),
    "eta_range": [0.002, 0.05, 6],
}


def plan(preset: str) -> dict:
    return presets.datasets(SimpleNamespace(preset=preset, seed=3, n_seeds=7, device="cpu", **PARAMETERS))


def recipes(part) -> list:
    return list(part.values()) if isinstance(part, dict) else [part]


@pytest.mark.parametrize("preset", ["smoke", "lab"])
def test_every_claim_has_its_data_and_settings_that_turn_them(preset):
    for name in claims.section("02_temperature_collapse"):
        by = claims.decider(name)
        measured = [part for dataset in by.datasets.values() for part in recipes(plan(preset)[dataset])]
        found = [part.func.checked(**part.keywords) for part in measured]
        assert set(by.reads) <= set().union(*found), name
        assert not set(by.reads) & set(PARAMETERS), f"{name}: in this notebook these are parameters"


def test_seeds_of_each_dataset():
    counts = {name: {part.keywords["n_seeds"] for part in recipes(part)} for name, part in plan("lab").items()}
    many = {"up": {10}, "op_run": {14}, "batches": {14}, "plain": {21}, "momentum": {21}, "ordinary": {22}}
    assert counts == {name: {7} for name in counts} | many
    assert all(part.keywords["seed"] == 3 for name in counts for part in recipes(plan("lab")[name]))
    small = {name: {part.keywords["n_seeds"] for part in recipes(part)} for name, part in plan("smoke").items()}
    assert small == {name: {3} for name in small} | {"plain": {9}, "momentum": {9}}


def test_parameters_reach_what_they_are_said_to_set():
    lab = {name: part.keywords for name, part in plan("lab").items() if not isinstance(part, dict)}
    here = lab["here"]
    assert (here["rates"], here["batch_size"], here["width"], here["label_noise"]) == ((0.03,), 16, 6, 0.2)
    assert [lab[k]["width"] for k in ("up", "up_run", "op_run")] == [6, 6, 24]
    assert (len(lab["up"]["rates"]), lab["ordinary"]["lam"]) == (6, 0.05)
    assert lab["toy"]["points"] == lab["toy_three"]["points"] == PARAMETERS["points"]
    assert lab["toy_two"]["eta"] == lab["toy_three"]["eta"]
    assert "batch_size" not in lab["up"]


def states():
    values = np.arange(6.0).reshape(3, 2)
    names = ("U", "S", "T_gas", "snr")
    return xr.Dataset({k: (("eta", "seed"), i + values) for i, k in enumerate(names)}, {"eta": [0.01, 0.03, 0.1], "seed": [0, 1]})


def test_what_is_kept_and_said_of_datasets():
    up = states()
    kept = presets.traces({"up": up, "here": up.isel(eta=[1]), "op_run": up, "toy": up})
    assert kept["op_U"].dims == ("op_eta", "op_seed")
    assert kept["T"].values.tolist() == up["T_gas"].values[1].tolist()
    assert presets.grids({"up": up, "all": {8: up.isel(eta=[0])}}) == "up η 0.01 to 0.1 (3 × 2 seeds); all_8 η 0.01 (1 × 2 seeds)"
