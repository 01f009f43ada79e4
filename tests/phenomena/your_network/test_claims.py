"""Every general claim on made-up data: it holds where its law does, fails where that is broken once, or does not apply."""

import pytest
from phenomena.your_network import made_up

from thermolab import claims
from thermolab.phenomena.your_network import presets, scorecard, sweep, trained  # noqa: F401

SECTION = "07_your_network"
HOLDS = [
    f"general.{name}"
    for name in ("noether", "radius", "stationarity", "balance", "alike", "temperature", "ratio", "snr", "edge", "gas")
]


def verdict(name, found, double=None):
    return claims.decide(name, {"trained": found, "double": made_up.double() if double is None else double})


def test_the_register_has_these_claims():
    assert list(claims.section(SECTION)) == HOLDS
    assert set(scorecard.RELATIVES) == set(HOLDS)
    assert all(name in claims.register() for names in scorecard.RELATIVES.values() for name in names)


@pytest.mark.parametrize("name", HOLDS)
def test_a_network_that_obeys_every_law(name):
    found = verdict(name, made_up.trained())
    assert (found.check.verdict, found.control.verdict) == (
        "holds",
        "holds" if name in ("general.gas", "general.snr") else "fails",
    ), found


def test_seeds_that_start_alike_say_nothing_of_alignment():
    assert verdict("general.alike", made_up.trained().assign(cka_start=made_up.trained()["cka_start"] * 0 + 1)).verdict == (
        "not applicable"
    )


def spoilt(name, by, row=None):
    data = made_up.trained()
    if row is None:
        return data.assign({name: data[name] * by})
    return data.assign({name: data[name].where(data[data[name].dims[-1]] != row, data[name] * by)})


def ordered(name, order):
    data = made_up.trained()
    return data.assign({name: (data[name].dims, data[name].values[order])})


BROKEN = {  # the law is broken in the named data alone
    "general.noether": lambda: spoilt("identity", 1000, "0"),
    "general.radius": lambda: spoilt("g2", 1.3, "0"),
    "general.stationarity": lambda: spoilt("pull", 0.7),
    "general.balance": lambda: spoilt("g2_out", 1.3, "2 -> 4"),
    "general.alike": lambda: spoilt("cka", 0.1),
    "general.temperature": lambda: ordered("U", [0, 3, 4, 1, 2]),
    "general.ratio": lambda: spoilt("U", 1.4),
    "general.snr": lambda: spoilt("snr", made_up.trained()["eta"] ** -0.4),
    "general.edge": lambda: spoilt("sharpness", made_up.trained()["eta"]),
    "general.gas": lambda: spoilt("S", 1.4),
}


@pytest.mark.parametrize("name", HOLDS)
def test_what_breaks_the_law_fails(name):
    assert verdict(name, BROKEN[name]()).check.verdict == "fails"


def test_the_laws_of_groups_and_pairs_are_decided_by_the_one_furthest_off():
    data = made_up.trained()
    more = data.isel(group=[0, 0, 1]).assign_coords(group=["0", "1", "2"])
    off = more.assign(g2=more["g2"].where(more["group"] != "1", 1.3 * more["g2"]))
    assert verdict("general.radius", more).verdict == "holds"
    assert verdict("general.radius", off).check.verdict == "fails"


@pytest.mark.parametrize(
    ("changed", "said", "which"),
    [
        ({"optimiser": "adam"}, "steps of adam", HOLDS[:4] + HOLDS[5:]),
        ({"protocol": "sphere"}, "sphere", HOLDS[:4] + HOLDS[5:]),
        ({"replacement": 0}, "without replacement", HOLDS[:4] + HOLDS[5:]),
        ({"draws": 1}, "draws random numbers", ["general.edge"]),
        ({"lam": 0.0}, "no weight decay", ["general.radius"]),
        ({"no_pairs": "layer 1 is GRU"}, "layer 1 is GRU", ["general.balance"]),
    ],
    ids=["adam", "sphere", "epochs", "dropout", "no decay", "no finder"],
)
def test_where_a_claim_does_not_apply_it_says_why(changed, said, which):
    for name in which:
        found = verdict(name, made_up.trained(**changed), made_up.double(**changed))
        assert found.verdict == "not applicable", name
        assert said in found.undecided


def test_a_network_without_symmetries():
    bare = made_up.trained().isel(group=[1], pair=[1])
    reasons = {name: verdict(name, bare).undecided for name in HOLDS[:4]}
    assert reasons["general.noether"] == "no layer is scale-invariant, and no pair was found"
    assert reasons["general.radius"] == "no layer is scale-invariant"
    assert reasons["general.balance"] == "no weights can be rescaled against others"
    assert not reasons["general.stationarity"]


def test_a_network_that_is_scale_invariant_all_over():
    whole = made_up.trained().isel(group=[0], pair=[])
    assert verdict("general.stationarity", whole).verdict == "not applicable"
    found = verdict("general.radius", whole)
    assert (found.check.verdict, found.control_name, found.control.verdict) == ("holds", "the first steps", "fails")


def test_a_lost_run_decides_nothing():
    for name in HOLDS:
        lost = made_up.trained()
        lost = lost.where(lost["seed"] != 2)
        assert verdict(name, lost.assign_attrs(made_up.trained().attrs)).verdict == "inconclusive", name


def test_beside_the_register():
    rows = scorecard.beside([verdict(name, made_up.trained()) for name in HOLDS])
    known = claims.register()
    assert [row["claim"] for row in rows] == [known[name].statement for name in HOLDS]
    relative = known["ideal-gas.net.radius"]
    assert rows[1]["in the book"] == f"03 {relative.expected}: {relative.statement}"
