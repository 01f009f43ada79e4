"""What the notebook measures: settings that its recipes take, and all that its claims read."""

from types import SimpleNamespace

import pytest

from thermolab import claims
from thermolab.phenomena.progressive_sharpening import presets

POINT = {"eta": 0.05, "lam": 0.0, "batch_size": 16, "noise_profile": [2.0, 0.5]}


@pytest.mark.parametrize("preset", ["smoke", "lab"])
def test_every_claim_has_its_data_and_settings_that_turn_them(preset):
    plan = presets.datasets(SimpleNamespace(preset=preset, seed=3, n_seeds=5, device="cpu", **POINT))
    for name in claims.section("06_progressive_sharpening"):
        by, recipes = claims.decider(name), []
        for dataset in by.datasets.values():
            recipes += plan[dataset].values() if isinstance(plan[dataset], dict) else [plan[dataset]]
        found = [measured.func.checked(**measured.keywords) for measured in recipes]
        assert all(f["seed"] == 3 and f["n_seeds"] == (2 if preset == "smoke" else 5) for f in found)
        assert set(by.reads) <= set().union(*found), name
        assert not set(by.reads) & set(POINT), f"{name}: in this notebook these name the working point"
