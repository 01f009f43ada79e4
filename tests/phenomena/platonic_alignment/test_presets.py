"""What notebook 05 measures: its presets, and the deciders of its claims, name settings that the recipes know."""

from types import SimpleNamespace

import pytest

from thermolab import claims
from thermolab.phenomena import platonic_alignment as plato

SHAPES = {"depth_a": 2, "depth_b": 5, "width_a": 6, "width_b": 7}
SETUP = {"seed": 1, "n_seeds": 5, "device": "cpu", "eta": 0.01, "lam": 0.0, "batch_size": 8, **SHAPES}


@pytest.mark.parametrize(("preset", "n_seeds", "more"), [("smoke", 2, 2), ("lab", 5, 7)])
def test_recipes_take_what_a_preset_gives_them_and_the_parameters_of_the_notebook(preset, n_seeds, more):
    plan = plato.presets.datasets(SimpleNamespace(preset=preset, **SETUP))
    starts = plan.pop("starts")
    assert [call.func.checked(**call.keywords)["start"] for call in starts.values()] == list(starts)
    found = {name: call.func.checked(**call.keywords) for name, call in plan.items()}
    scattered = plato.presets.MORE
    assert {(s["seed"], s["n_seeds"]) for name, s in found.items() if name not in scattered} == {(1, n_seeds)}
    assert {found[name]["n_seeds"] for name in scattered} == {more}
    assert found["here"].items() >= {"eta": 0.01, "batch_size": 8, "lams": (), **SHAPES}.items()
    assert found["linear"]["eta"] is None
    assert found["digits_tanh"]["activation"] == "tanh"


def test_the_working_point_with_weight_decay_has_an_arm_more():
    plan = plato.presets.datasets(SimpleNamespace(preset="lab", **SETUP | {"lam": 0.1}))
    assert plan["here"].keywords["lams"] == (0.1,)


def test_deciders_read_settings_of_the_datasets_they_take():
    plan = plato.presets.datasets(SimpleNamespace(preset="lab", **SETUP))
    for name in claims.section("05_platonic_alignment"):
        decider = claims.decider(name)
        for dataset in decider.datasets.values():
            assert set(decider.reads) <= set(plan[dataset].func.settings), name
