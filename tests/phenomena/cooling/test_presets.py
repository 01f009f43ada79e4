"""What notebook 01 measures at each preset, and who decides its claims."""

import inspect
from types import SimpleNamespace

import pytest

from thermolab import claims
from thermolab.phenomena.cooling import presets


def plan(preset, **changes):
    known = {
        "preset": preset,
        "seed": 4,
        "n_seeds": 6,
        "device": "cpu",
        "eta": 0.3,
        "lam": 0.02,
        "batch_size": 8,
        "difficulty": "mid",
    }
    return presets.datasets(SimpleNamespace(**known | changes))


def test_the_runs_of_a_comparison():
    runs = plan("lab", difficulty="hard")["runs"]
    assert {name: (*part.args, part.keywords["difficulty"]) for name, part in runs.items()} == {
        "transformer": ("transformer", "mid"),
        "cnn": ("cnn", "hard"),
        "mlp": ("mlp", "hard"),
        "rest": ("mlp", "hard"),
        "waits": ("mlp", "hard"),
        "plateau": ("mlp", "hard"),
    }
    assert {runs[name].keywords["lams"] for name in ("rest", "waits", "plateau")} == {(0.0,)}
    assert (runs["rest"].keywords["eta"], runs["waits"].keywords["wait"]) == (1e-9, 8)
    assert {name: part.keywords["n_seeds"] for name, part in runs.items() if part.keywords["n_seeds"] != 6} == {
        "mlp": 9,
        "cnn": 9,
    }
    assert runs["plateau"].keywords["scale"] == 0.04


def test_the_working_point_and_the_seeds():
    here = plan("lab")["here"].keywords
    assert (here["eta"], here["lams"], here["batch_size"], here["n_seeds"]) == (0.3, (0.02,), 8, 6)
    for name, n in {"matched": 15, "flatness": 9}.items():
        assert [plan(preset)[name].keywords["n_seeds"] for preset in ("lab", "smoke")] == [n, 2]


@pytest.mark.parametrize("preset", ["smoke", "lab"])
def test_every_setting_is_one_of_its_recipe(preset):
    parts = plan(preset)
    for part in [*parts.pop("runs").values(), *parts.values()]:
        inspect.signature(part.func).bind(*part.args, **part.keywords)
        if hasattr(part.func, "checked"):
            part.func.checked(*part.args, **part.keywords)


def test_every_claim_is_decided_from_what_is_measured():
    """And what a check may turn is a setting of a recipe behind it."""
    for name in claims.section("01_cooling"):
        by = claims.decider(name)
        behind = [plan("lab")[dataset] for dataset in by.datasets.values()]
        parts = [part for one in behind for part in (one.values() if isinstance(one, dict) else [one])]
        assert set(by.reads) <= {setting for part in parts for setting in getattr(part.func, "settings", {})}, name
