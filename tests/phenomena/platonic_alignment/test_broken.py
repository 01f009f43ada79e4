"""Each claim's physics broken once: a theory, the training or what was measured; its verdict must change.

Small networks are trained once; without noise in their answers, or with another kernel in place of G, the claims on them come out
otherwise, and so do minima of an F without its second term. Of all else preset smoke decides too little: those claims get data on
which each comes out as registered (`made_up`), with one law of them broken.
"""

import numpy as np
import pytest
import xarray as xr
from embedded import DATA
from phenomena.platonic_alignment import made_up

from thermolab import claims
from thermolab.phenomena.platonic_alignment import breaking, descent, linear, minimum, theory

SMALL = DATA | {"depth_a": 2, "depth_b": 3, "width_a": 3, "width_b": 4, "eta": 0.03, "batch_size": 8, "n_seeds": 10}
SMALL |= {"steps": 4000, "factors": (1.0,), "frames": 1}


def check(claim, **found):
    return claims.decide(f"platonic.{claim}", found).check.verdict


# --- the training, or the theory, broken
@pytest.fixture(scope="module", autouse=True)
def little_beside_the_training():
    with pytest.MonkeyPatch.context() as patch:
        for where, name, value in ((linear, "SHUFFLES", 1), (linear, "SAMPLES", 50), (descent, "COPIES", 1)):
            patch.setattr(where, name, value)
        yield


@pytest.fixture(scope="module")
def trained():
    return linear.linear.run(**SMALL)


@pytest.fixture(scope="module")
def without_noise():
    """The same with answers whose noise is a thousandth."""
    return linear.linear.run(**SMALL | {"noise": tuple(s / 1000 for s in DATA["noise"])})


TRAINED = ("edln", "within", "kernel")


@pytest.mark.parametrize("claim", TRAINED)
def test_training_without_noise_is_found(trained, without_noise, claim):
    assert check(claim, linear=trained) != "fails"
    assert trained["excess"].isel(time=-1).max() < 0.1
    assert check(claim, linear=without_noise) == "fails"


def test_another_kernel_is_found(trained, monkeypatch):
    """G without the noise of the answers, (VᵀV)^½."""
    known = theory.kernel
    monkeypatch.setattr(theory, "kernel", lambda v, noise, inputs=None: known(v, np.ones(len(noise)) * [1, 0.1], inputs))
    wrong = linear.linear.run(**SMALL)
    np.testing.assert_array_equal(wrong["cka"], trained["cka"])
    assert check("kernel", linear=wrong) == "fails"


def test_minima_of_an_f_without_its_second_term_are_found(monkeypatch):
    small = {"shapes": ((2, 6), (3, 6)), "n_seeds": 3}
    assert check("minimum-of-F", minima=minimum.minima.run(**small)) != "fails"
    known = theory.free_energy

    def broken(view, matrices, v, noise, eta, inputs=None, batch_size=1):
        loss, _, slopes = known(view, matrices, v, noise, 0.0, inputs, batch_size)
        return loss, 0.0, slopes

    monkeypatch.setattr(theory, "free_energy", broken)
    assert check("minimum-of-F", minima=minimum.minima.run(**small)) == "fails"


# --- what was measured broken
def everything():
    return {"linear": made_up.linear(), "pace": made_up.pace(), "pairs": made_up.pairs(), "digits_relu": made_up.digits(),
            "classes": made_up.classes()}  # fmt: skip


def steps_as_level(data):
    return data.where(data["clock"] == "eta2t", data.sel(clock="eta2t", drop=True))


def falling(data):
    """All rungs of the table 0.1 and more apart."""
    return data - xr.DataArray([0.0, 0.0, 0.3], dims="arm")


def case(name, value):
    return lambda cka: cka.where(cka["case"] != name, value + (cka - cka.sel(case=name).mean()).sel(case=name, drop=True))


def first_dim_turned(cka):
    """The first two places of the first dim exchanged, its labels kept."""
    return cka.copy(data=np.flip(cka.values, 0))


MEASURED = [  # claim, dataset, variable, how it is broken, what its check becomes
    ("eta", "pace", "cka", steps_as_level, "fails"),
    ("eta.table", "linear", "gd", falling, "holds"),
    ("simpler", "linear", "gd_trace", lambda t: 0.6 * t, "fails"),
    ("simpler.rank", "linear", "gd_size", lambda s: s / 1.3, "holds"),
    ("most-are-not", "linear", "inserted", first_dim_turned, "fails"),
    ("needs-views", "linear", "trap", first_dim_turned, "fails"),
    ("all-layers", "linear", "cka", lambda c: c.clip(0.996, 1), "holds"),
    ("perfect", "linear", "size", lambda s: 0 * s + 1, "holds"),
    ("weight-decay", "pairs", "cka", case("weight decay", 0.99), "fails"),
    ("break", "pairs", "cka", case("saddle", 0.995), "fails"),
    ("not-simplicity", "pairs", "cka", case("narrow", 0.9), "fails"),
    ("same-architecture", "digits_relu", "same", first_dim_turned, "fails"),
    ("digits.all-layers", "digits_relu", "cross", lambda c: c.clip(0.94, 1), "holds"),
    ("neural-collapse", "classes", "labels", first_dim_turned, "fails"),
]


@pytest.mark.parametrize(("claim", "name", "variable", "change", "becomes"), MEASURED)
def test_a_broken_law_is_found(claim, name, variable, change, becomes):
    found = everything()
    right = claims.decide(f"platonic.{claim}", found)
    assert right.agrees, right
    found[name] = found[name].assign({variable: change(found[name][variable])})
    wrong = claims.decide(f"platonic.{claim}", found)
    assert wrong.check.verdict == becomes, wrong.check
    assert not wrong.agrees


def test_every_claim_is_broken_here():
    broken = {f"platonic.{name}" for name in (*TRAINED, "minimum-of-F", *(line[0] for line in MEASURED))}
    assert broken == set(claims.section("05_platonic_alignment"))


# --- guards
def test_a_table_whose_last_rungs_alone_coincide_does_not_hold():
    """Not the mean fall, nor the first: the smallest of all."""
    data = made_up.linear()
    data["gd"][2] -= 0.3  # the last rung falls, the one before it does not
    data["cka"][2] = data["cka"][1] + 0.0
    assert check("eta.table", linear=data) == "fails"


def test_the_dose_that_decides_is_neither_weaker_nor_stronger():
    data = made_up.pairs()
    strong = data.assign(cka=case("weight decay", 0.99)(data["cka"]))
    strong = strong.assign(cka=case("weight decay, 2", 0.5)(strong["cka"]))
    assert check("weight-decay", pairs=strong) == check("break", pairs=strong) == "fails"
    assert set(breaking.WAYS) <= set(data["case"].values)
