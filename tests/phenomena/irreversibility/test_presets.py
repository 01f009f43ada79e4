"""What notebook 00 measures: settings that the recipes take, all that its claims need, and the numbers that are kept."""

from types import SimpleNamespace

import numpy as np
import pytest

from thermolab.claims import decider, section
from thermolab.phenomena.irreversibility import presets, walk


def plan(preset, **more):
    return presets.datasets(SimpleNamespace(preset=preset, seed=2, n_seeds=5, device="cpu", eta=0.2, **more))


@pytest.mark.parametrize(("preset", "n_seeds"), [("smoke", 3), ("lab", 5)])
def test_the_plan_has_what_every_claim_needs_with_settings_that_are_allowed(preset, n_seeds):
    planned = plan(preset)
    needed = {name for claim in section("00_irreversibility") for name in decider(claim).datasets.values()}
    assert set(planned) == needed | {"here"}
    for part in planned.values():
        settings = part.func.checked(*part.args, **part.keywords)
        assert (settings["seed"], settings["n_seeds"]) == (2, n_seeds)
    assert planned["here"].keywords["rates"] == (0.2,)


def test_what_a_claim_reads_are_settings_of_its_recipes():
    planned = plan("lab")
    for claim in section("00_irreversibility"):
        by = decider(claim)
        for name in by.reads:
            assert any(name in planned[dataset].func.settings for dataset in by.datasets.values()), (claim, name)


def test_the_working_point_is_kept_as_a_radius():
    here = walk.growth.run((0.2,), dims=(2,), steps=40, logs=4, replicas=3, n_seeds=2)
    kept = presets.traces({"here": here, **dict.fromkeys(("steps", "table", "orbit", "growth"), here)})
    np.testing.assert_allclose(kept["r"], here["r4"].sel(dim=2, eta=0.2, time=40) ** 0.25)
    np.testing.assert_array_equal(kept["r_slope"], here["slope"].sel(dim=2, eta=0.2))
    assert kept["growth_r4"].dims == ("growth_dim", "growth_eta", "growth_seed", "growth_time")
