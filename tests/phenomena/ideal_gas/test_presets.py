"""What notebook 03 measures, decides, keeps and shows, on data that theory itself has made."""

from types import SimpleNamespace

import numpy as np
import pytest
from phenomena.ideal_gas import made_up

from thermolab import claims
from thermolab.engine.recipe import needed
from thermolab.phenomena.ideal_gas import figures, presets, published

SETUP = {"seed": 0, "n_seeds": 5, "device": "cpu", "eta": 0.03, "lam": 0.01, "batch_size": 32, "protocol": "lr", "dim": 4}
SETUP |= {"sigma": 1.0, "eta_range": (0.01, 0.1, 7), "lam_range": (0.001, 0.1, 7)}
MORE = {"reference": 8, "net": 10}  # repetitions at preset lab where they are not 5


@pytest.fixture(scope="module")
def found():
    return made_up.everything()


@pytest.mark.parametrize("preset", ["smoke", "lab"])
def test_the_plan_asks_recipes_for_what_they_take(preset):
    plan = presets.datasets(SimpleNamespace(preset=preset, **SETUP))
    assert set(plan) == set(made_up.everything())
    parts = [(k, part) for k, asked in plan.items() for part in (asked.values() if isinstance(asked, dict) else [asked])]
    for name, part in parts:
        asked = part.func.checked(*part.args, **part.keywords)
        assert asked["n_seeds"] == (3 if preset == "smoke" else MORE.get(name, 5))
    assert list(needed(plan, "net")) == ["net", "reference"]


@pytest.mark.parametrize(
    ("knob", "value", "measured"),
    [
        *[(name, value, {"here"}) for name, value in {"eta": 0.05, "lam": 0.02, "protocol": "sphere"}.items()],
        *[(name, value, {"iso", "here"}) for name, value in {"dim": 5, "sigma": 2.0}.items()],
        *[(name, (0.02, 0.05, 3), {"iso"}) for name in ("eta_range", "lam_range")],
        ("batch_size", 8, {"reference", "net"}),  # and, from the reference, perfect
    ],
)
def test_a_knob_reaches_what_its_comment_says(knob, value, measured):
    """The working point is in no claim; all else is."""
    plans = [presets.datasets(SimpleNamespace(preset="lab", **SETUP | change)) for change in ({}, {knob: value})]

    def settings(part):
        return {k: settings(v) for k, v in part.items()} if isinstance(part, dict) else repr((part.args, part.keywords))

    assert {name for name in plans[0] if settings(plans[0][name]) != settings(plans[1][name])} == measured
    decided = {name for claim in claims.section("03_ideal_gas") for name in claims.decider(claim).datasets.values()}
    assert decided == set(plans[0]) - {"here"}


def test_all_claims_are_decided_as_registered(found):
    """On data that theory made each check holds or fails as registered, and each control the other way."""
    results = claims.decided("03_ideal_gas", found, settings={"eta": 0.05}, seconds=18.0)
    assert [r.claim.id for r in results] == list(claims.section("03_ideal_gas"))
    for r in results:
        assert {r.check.verdict, r.control.verdict} == {"holds", "fails"}, (r.claim.id, r.check, r.control)
        assert r.agrees, (r.claim.id, r.check)
        assert r.check.tolerance == r.control.tolerance
        assert r.control_name
        assert r.n_seeds == 3
        assert r.as_dict()["settings"] == {"eta": 0.05}
    assert sum(r.seconds for r in results) >= 18.0


def test_traces_keep_every_grid(found):
    out = presets.traces(found)
    assert out["iso_elr_U"].dims == ("iso_elr_eta", "iso_elr_lam", "iso_elr_seed")
    np.testing.assert_array_equal(out["net_lr_S_full"], found["net"]["lr"]["S_full"])
    np.testing.assert_array_equal(out["U"], found["here"]["U"].values.ravel())
    assert out.attrs["point_eta"] == made_up.GRID["eta"][1]


def test_figures_have_an_alt_text(found):
    shown = [
        figures.energy_and_entropy(found["iso"]),
        figures.radius_and_pressure(found["iso"], found["here"]),
        figures.relaxation_and_hot_end(found["relaxation"], found["hot"]),
        figures.shift_of_entropy(found["anisotropic"]),
        figures.radius_of_the_network(found["net"]),
        figures.maxwell_relation(found["net"]),
        figures.entropy_and_noise(found["reference"], found["perfect"]),
        figures.stationarity(found["net"]["lr"], found["reference"], found["epochs"]),
    ]
    assert len({picture.data.split('alt="')[1].split('"')[0] for picture in shown}) == 8
    assert figures.shown(found["iso"]["lr"]) == "fixed LR: η = 0.003 … 0.1 (5), λ = 0.001 … 0.1 (5)"


def test_published_numbers_stand_beside_ours(found):
    assert "−0.9989" in published.table(found["iso"], found["net"]).to_html().replace("-", "−")
    ours = published.measured(found["iso"], found["net"])
    assert ours["slope.elr.lam"].value == pytest.approx(-1, abs=0.01)
    assert ours["slope.lr.eta"].value == pytest.approx(1, abs=0.01)
    assert {"maxwell.lr", "maxwell.elr", "r2.lr", "r2.elr"} <= set(ours)
    assert published.measured({"elr": made_up.gas("elr", 4)}, {}) == {}  # theirs are at D = 3
