"""Two linear networks at tiny settings, and the claims on numbers made up by hand."""

import numpy as np
import pytest
import xarray as xr
from claimed import verdicts
from embedded import DATA, TINY
from phenomena.platonic_alignment import made_up

from thermolab.phenomena.platonic_alignment import figures, linear
from thermolab.phenomena.platonic_alignment.tables import between, final

SMALL = {"depth_a": 2, "depth_b": 3, "width_a": 3, "width_b": 4}


@pytest.fixture(scope="module")
def small():
    return linear.linear.run(**SMALL, **TINY, factors=(1.0, 0.3), lams=(0.1,), steps=1000, frames=4)


def test_recipe_at_tiny_settings(small):
    assert dict(small.sizes) == {"arm": 3, "time": 5, "seed": 2, "layer": 7, "other": 7, "net": 2, "shuffle": linear.SHUFFLES,
                                 "kind": 2, "view": 2}  # fmt: skip
    np.testing.assert_allclose(small["eta"], [0.03, 0.009, 0.03])
    np.testing.assert_allclose(small["lam"], [0, 0, 0.1])
    assert small["time"].values.tolist() == [0, 250, 500, 750, 1000]
    assert small["layer"].values.tolist() == ["A0", "A1", "A2", "B0", "B1", "B2", "B3"]
    assert small["layer"].values[small["hidden"].values].tolist() == ["A1", "B1", "B2"]
    assert all(np.isfinite(v).all() for v in small.data_vars.values())
    np.testing.assert_allclose(np.diagonal(small["cka"], axis1=-2, axis2=-1), 1)
    np.testing.assert_allclose(small["cka"], small["cka"].transpose("arm", "time", "seed", "other", "layer").values, atol=1e-12)
    np.testing.assert_array_equal(small["cka"].isel(time=0, arm=0), small["cka"].isel(time=0, arm=2))
    assert (small["excess"].isel(time=-1, arm=0) < 0.1 * small["excess"].isel(time=0, arm=0)).all()
    assert (small["gd_excess"] <= small["excess"].isel(time=-1) + 1e-12).all()
    np.testing.assert_allclose(small["inserted"].sel(kind="orthogonal"), small["cka"].isel(arm=0, time=-1), atol=1e-9)
    assert abs(small["cka_debiased"].isel(arm=0) - small["cka"].isel(arm=0, time=-1)).max() < 0.1
    assert 0 < float(small["null"].mean()) < 0.05
    assert abs(float(small["null_debiased"].mean())) < 0.01


def test_a_seed_gives_the_same_whatever_stands_beside_it(small):
    alone = linear.linear.run(**SMALL, **TINY | {"n_seeds": 1}, factors=(1.0, 0.3), lams=(0.1,), steps=1000, frames=4)
    xr.testing.assert_identical(alone, small.isel(seed=[0]))


def test_training_aligns_what_started_apart():
    data = linear.linear.run(**SMALL, **DATA, eta=0.04, batch_size=8, steps=8000, n_seeds=2, factors=(1.0,), lams=(), frames=2)
    assert between(final(data)).min() > 0.99
    assert between(data["cka"].isel(arm=0, time=0)).max() < 0.95
    assert data["to_kernel"].isel(arm=0, time=-1).values[:, data["hidden"]].min() > 0.99


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"depth_a": 1}, "depth_a=1 is out of range; allowed: a whole number, 2 or more"),
        ({"width_b": 4}, "width_b=4 is too small; allowed: 5 or more, the rank of V"),
        ({"eta": -1}, "eta=-1 is not positive and finite; allowed: a positive number"),
        ({"steps": 0}, "steps=0 is out of range; allowed: a whole number, 1 or more"),
        ({"steps": 10, "frames": 20}, "steps=10 are too few; allowed: frames=20 or more"),
        ({"batch_size": 0.5}, "batch_size=0.5 is not a whole number"),
        ({"noise": (1, 0)}, "noise=(1, 0) is not positive and finite; allowed: a list of 1 or more, each a positive number"),
        ({"noise": (1, 1)}, "noise=[1.0, 1.0] has another length; allowed: 5 numbers, as spectrum has"),
        ({"spectrum": (0.0,) * 5}, "spectrum=[0.0, 0.0, 0.0, 0.0, 0.0] is 0; allowed: one number above 0 or more"),
        ({"spectrum": (-1.0,) * 5}, "is negative or not finite; allowed: a list of 1 or more, each 0 or a positive number"),
        ({"stretch": (0, 1)}, "stretch=(0, 1) is not positive and finite; allowed: a list of 2 to 2, each a positive number"),
        ({"lams": (-1,)}, "lams=(-1,) is negative or not finite; allowed: a list of 0 or more, each 0 or a positive number"),
        ({"factors": (0,)}, "factors=(0,) is not positive and finite"),
        ({"inputs": (1, 1)}, "inputs=[1.0, 1.0] are too few; allowed: 5 or more, as spectrum has"),
        ({"start": 0}, "start=0 is not positive and finite"),
    ],
)
def test_settings_that_are_refused(settings, text):
    with pytest.raises(ValueError, match=r"^[^\n]*$") as error:
        linear.linear.run(**settings)
    assert text in str(error.value)


# --- the claims, on numbers made up by hand
made = made_up.linear
EXPECTED = {"edln": ("holds", "fails"), "within": ("holds", "fails"), "kernel": ("holds", "fails"), "perfect": ("fails", "holds"),
            "most_are_not": ("holds", "fails"), "needs_views": ("holds", "fails"),
            "all_layers": ("fails", "holds")}  # fmt: skip


@pytest.mark.parametrize("name", EXPECTED)
def test_claims_as_registered(name):
    assert verdicts(getattr(linear, name)(made())) == EXPECTED[name]


def test_claims_the_other_way_round():
    good = made()
    swapped = good.assign(cka=good["cka"].isel(time=[1, 0]), gd=good["gd"] * 0 + good["cka"].isel(arm=0, time=1))
    for name in ("edln", "within", "all_layers"):
        assert getattr(linear, name)(swapped)[0].verdict == "fails"
    assert linear.edln(swapped)[2].verdict == "holds"
    assert linear.kernel(good.assign(to_kernel=good["to_kernel"] - 0.1))[0].verdict == "fails"
    turned = good.isel(kind=[1, 0], view=[1, 0]).assign_coords(kind=good["kind"], view=good["view"])
    assert verdicts(linear.most_are_not(turned)) == ("fails", "holds")
    assert verdicts(linear.needs_views(turned)) == ("fails", "holds")
    assert linear.perfect(good.assign(size=good["size"] * 0 + 1))[0].verdict == "holds"
    assert linear.most_are_not(good.assign(inserted_excess=good["inserted_excess"] + 1e-3))[0].verdict == "inconclusive"
    assert linear.edln(good.assign(gd_excess=good["gd_excess"] * 2))[2].verdict == "inconclusive"  # not at the same loss
    holes = good["cka"].copy()
    holes[0, 1, 0, 1, 4] = np.nan  # a pair that is not known is no good pair
    assert linear.edln(good.assign(cka=holes))[0].verdict == "inconclusive"
    wide = xr.DataArray(0.05 * np.linspace(-1, 1, 5), dims="seed")
    assert linear.edln(good.assign(cka=good["cka"] + wide))[0].verdict == "inconclusive"


def test_median_and_distance_by_hand():
    assert linear.median([0.9, 0.99, 0.995])[0] == 0.99
    # kernels of sizes 1 and 2 with a CKA of 0.996: √(1 + 4 - 4·0.996)/√2
    found = linear.distance(made(), scaled=False)
    np.testing.assert_allclose(found, np.sqrt((1 + 4 - 4 * 0.996) / 2), atol=2e-3)
    np.testing.assert_allclose(linear.distance(made(), scaled=True), np.sqrt(2 * 0.004), atol=2e-3)


def test_arms_of_the_figure():
    data = made()
    found = {name: float(worst.mean()) for name, worst in figures.arms(data, data.isel(arm=[0])).items()}
    assert found == pytest.approx({"SGD": 0.996, "no noise": 0.5, "orthogonal R": 0.996, "invertible R": 0.6,
                                   "all layers": 0.7, "working point": 0.996})  # fmt: skip
