"""The verdict rule against numbers worked out by hand, and the register against its own format."""

import importlib
import json
import math
import re
import tomllib
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from thermolab import claims
from thermolab.claims import (
    Check,
    Claim,
    Decision,
    Result,
    data_folder,
    decide,
    decider,
    decides,
    extreme,
    few_seeds,
    phenomena,
    register,
    replicas,
    retired,
    section,
    share,
    together,
    with_control,
)
from thermolab.phenomena import FORMERLY, package, scenarios

ROOT = Path(__file__).parents[1]

ULP = math.ulp(1.0)
HOLDS, FAILS, OPEN = Check(1, 1, 0.5), Check(9, 1, 0.5), Check(1.5, 1, 0.5, error=1)
EXPECTED = ("holds", "fails", "open")
LINE = """
[["00_toy".claims]]
id = "toy.a"
statement = "a"
source = "b"
expected = "holds"
control = "c"
"""
CLAIM = Claim("toy.sum", "00_toy", "one and one is two", "arithmetic", "holds", "one and one is three")


def result(check=HOLDS, control=FAILS, claim=CLAIM, **rest):
    return Result(claim, check, "wrong sum", control, n_seeds=3, **rest)


# --- the rule


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [
        (1.0, "holds"),  # distance 0, 0 + 2/8 < 1/2
        (1.25, "holds"),  # 1/4 + 2/8 = 1/2: the boundary belongs to "holds"
        (0.75, "holds"),
        (1.25 + ULP, "inconclusive"),
        (1.5, "inconclusive"),
        (1.75, "inconclusive"),  # 3/4 - 2/8 = 1/2: this boundary does not belong to "fails"
        (0.25, "inconclusive"),
        (1.75 + ULP, "fails"),
        (0.25 - ULP, "fails"),
        (5.0, "fails"),
    ],
)
def test_rule_for_equality(measured, verdict):
    assert Check(measured, predicted=1, tolerance=0.5, error=0.125).verdict == verdict


@pytest.mark.parametrize(
    ("relation", "measured", "distance", "verdict"),
    [
        ("above", 3.0, -2.0, "holds"),
        ("above", 0.75, 0.25, "holds"),
        ("above", 0.5, 0.5, "inconclusive"),
        ("above", 0.25, 0.75, "inconclusive"),
        ("above", 0.0, 1.0, "fails"),
        ("below", -1.0, -2.0, "holds"),
        ("below", 1.25, 0.25, "holds"),
        ("below", 1.5, 0.5, "inconclusive"),
        ("below", 1.75, 0.75, "inconclusive"),
        ("below", 2.0, 1.0, "fails"),
    ],
)
def test_rule_for_one_side(relation, measured, distance, verdict):
    check = Check(measured, predicted=1, tolerance=0.5, error=0.125, relation=relation)
    assert (check.distance, check.verdict) == (distance, verdict)


@pytest.mark.parametrize(("measured", "verdict"), [(1.0, "holds"), (1.0 + ULP, "fails"), (1.0 - ULP, "fails")])
def test_exact_identity_without_tolerance(measured, verdict):
    assert Check(measured, predicted=1.0, tolerance=0.0).verdict == verdict


@pytest.mark.parametrize("relation", ["equal", "above", "below"])
@pytest.mark.parametrize(
    ("measured", "predicted", "error"),
    [(math.nan, 1, 0), (math.inf, 1, 0), (-math.inf, 1, 0), (1, math.nan, 0), (1, 1, math.inf), (1, 1, math.nan)],
)
def test_what_is_not_a_number_decides_nothing(measured, predicted, error, relation):
    assert Check(measured, predicted, 0.5, error, relation).verdict == "inconclusive"


@pytest.mark.parametrize(
    "wrong",
    [
        {"relation": "near"},
        {"tolerance": -0.1},
        {"tolerance": math.nan},
        {"error": -0.1},
        {"error": -math.inf},
    ],
)
def test_check_rejects_nonsense_by_name_and_value(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"{name}={value!r}"):
        Check(**{"measured": 1, "predicted": 1, "tolerance": 0.5} | wrong)


# --- a claim needs a control that comes out the other way


@pytest.mark.parametrize(("check", "control", "expected"), list(product([HOLDS, FAILS, OPEN], [HOLDS, FAILS, OPEN], EXPECTED)))
def test_control_must_come_out_the_other_way_and_as_registered(check, control, expected):
    decided = {(HOLDS, FAILS, "holds"), (FAILS, HOLDS, "fails"), (HOLDS, FAILS, "open"), (FAILS, HOLDS, "open")}
    found = result(check, control, replace(CLAIM, expected=expected))
    assert found.verdict == (check.verdict if (check, control, expected) in decided else "inconclusive")
    assert (found.undecided == "") == (found.verdict != "inconclusive")


@pytest.mark.parametrize(
    ("check", "control", "expected", "why"),
    [
        # a perfect gas that must hold and does not: what differs from it may be as it likes
        (HOLDS, FAILS, "fails", "the control fails, registered is that it holds"),
        (FAILS, HOLDS, "holds", "the control holds, registered is that it fails"),
        (FAILS, FAILS, "holds", "check and control both fail"),
        (HOLDS, HOLDS, "fails", "check and control both hold"),
        (OPEN, FAILS, "holds", "the check is within two standard errors of its tolerance"),
        (HOLDS, OPEN, "open", "the control is within two standard errors of its tolerance"),
    ],
)
def test_an_inconclusive_verdict_says_why(check, control, expected, why):
    assert result(check, control, replace(CLAIM, expected=expected)).undecided == why


def test_agrees_with_the_registered_verdict_only():
    assert result(HOLDS, FAILS).agrees
    assert not result(FAILS, HOLDS).agrees
    assert not result(HOLDS, HOLDS).agrees
    assert result(FAILS, HOLDS, replace(CLAIM, expected="open")).agrees


@pytest.mark.parametrize("expected", EXPECTED)
def test_a_claim_that_does_not_apply_has_a_reason_and_no_numbers(expected):
    found = Result(replace(CLAIM, expected=expected), None, "", None, 0, inapplicable="no norm")
    assert (found.verdict, found.undecided) == ("not applicable", "no norm")
    assert found.agrees == (expected == "open")
    record = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert (record["verdict"], record["undecided"], record["measured"], record["tolerance"]) == (
        "not applicable",
        "no norm",
        None,
        None,
    )
    assert record["control"]["verdict"] == "not applicable"


def test_record_has_the_keys_of_claims_json():
    record = result(seconds=1.2345, settings={"eta": 0.1}).as_dict()
    assert record.keys() >= {
        *("id", "statement", "source", "predicted", "measured", "error", "tolerance", "verdict", "expected", "control"),
        *("n_seeds", "settings", "seconds"),
    }
    assert record["control"].keys() >= {"name", "measured", "verdict"}
    assert (record["id"], record["predicted"], record["measured"], record["tolerance"]) == ("toy.sum", 1, 1, 0.5)
    assert (record["verdict"], record["control"]["verdict"], record["control"]["measured"]) == ("holds", "fails", 9)
    assert (record["n_seeds"], record["settings"], record["seconds"]) == (3, {"eta": 0.1}, 1.23)


@pytest.mark.parametrize("measured", [np.float32(1.5), np.int64(1), math.nan, math.inf])
def test_record_is_strict_json(measured):
    record = result(Check(measured, 1, 0.5, error=np.float64(0.1)), Check(math.nan, 1, 0.5)).as_dict()
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert record["measured"] == (measured if math.isfinite(measured) else None)
    assert (record["control"]["measured"], record["verdict"]) == (None, "inconclusive")


def test_an_error_that_is_not_a_number_leaves_the_claim_open():
    unknown = Check(1, 1, 0.5, error=math.nan)
    assert result(unknown, FAILS).verdict == result(HOLDS, unknown).verdict == result(FAILS, unknown).verdict == "inconclusive"
    record = result(unknown).as_dict()
    assert json.loads(json.dumps(record, allow_nan=False))["error"] is None


# --- standard errors


# The t quantile that covers 95.45 %, by degrees of freedom: Guide to the Expression of Uncertainty (GUM), table G.2.
@pytest.mark.parametrize(
    ("values", "mean", "standard_error", "t"),
    [
        ([4, 6], 5, 1, 13.97),
        ([5 - math.sqrt(3), 5, 5 + math.sqrt(3)], 5, 1, 4.53),
        ([1, 2, 3, 4, 5], 3, math.sqrt(0.5), 2.87),
        (range(1, 12), 6, 1, 2.28),
    ],
)
def test_few_seeds_use_students_t(values, mean, standard_error, t):
    found_mean, error, n = few_seeds(list(values))
    assert n == len(values)
    assert found_mean == pytest.approx(mean)
    assert 2 * error / standard_error == pytest.approx(t, abs=0.005)


def test_few_seeds_for_three_seeds_by_hand():
    # With 2 degrees of freedom the quantile that covers c is c sqrt(2/(1 - c²)), and two sigma cover c = erf(sqrt 2).
    c = math.erf(math.sqrt(2))
    assert few_seeds([-math.sqrt(3), 0, math.sqrt(3)])[1] == pytest.approx(c / math.sqrt(2 * (1 - c * c)))


def test_two_errors_of_few_seeds_cover_as_much_as_two_sigma():
    runs = np.random.default_rng(0).normal(1, 2, size=(4000, 3))
    covered = np.mean([abs(mean - 1) <= 2 * error for mean, error, _ in map(few_seeds, runs)])
    assert covered == pytest.approx(0.9545, abs=0.01)  # three binomial standard errors


def test_replicas_have_the_plain_standard_error():
    assert replicas([[1, 2, 3], [4, 5, 6], [7, 8, 9]]) == pytest.approx((5, math.sqrt(7.5 / 9), 9))


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (10, 10), (3, 10), (80, 80), (40, 80)])
def test_a_share_is_known_as_well_as_wilsons_interval_says(hits, n):
    """Against the roots of |p − q| = 2 √(q(1 − q)/n), the shares q of which p is two standard errors off."""
    p = hits / n
    ends = np.roots([1 + 4 / n, -(2 * p + 4 / n), p**2])
    assert share(np.arange(n) < hits) == pytest.approx((p, max(abs(ends - p)) / 2, n))


@pytest.mark.parametrize("estimate", [few_seeds, replicas, extreme])
def test_one_value_has_no_error(estimate):
    with pytest.raises(ValueError, match="2 or more"):
        estimate([1.0])


def test_extreme_is_exact_for_identical_seeds():
    grid = np.array([[0.5, -3.0], [2.0, 1.0]])
    assert extreme(np.stack([grid] * 4)) == (3, 0, 4)


def test_extreme_averages_the_seeds_before_it_looks_for_the_maximum():
    assert extreme([[1.0, 0.25], [-1.0, 0.75]])[0] == 0.5


@pytest.mark.parametrize("n", [3, 10])
def test_extreme_of_a_single_cell_is_its_mean(n):
    values = np.random.default_rng(n).normal(-100, 1, n)
    mean, error, _ = few_seeds(values)
    assert extreme(values[:, None], n_boot=20000) == pytest.approx((-mean, error, n), rel=0.03)


def test_two_errors_of_an_extreme_cover_the_truth():
    # One cell stands out in size and in noise, so the largest deviation is known: 5.
    runs = np.random.default_rng(0).normal([0, -5, 1], [0.1, 0.5, 0.1], size=(500, 5, 3))
    covered = np.mean([abs(top - 5) <= 2 * error for top, error, _ in (extreme(run, n_boot=200) for run in runs)])
    assert covered == pytest.approx(0.9545, abs=0.028)  # three binomial standard errors


# --- many verdicts


@pytest.mark.parametrize("n", [2, 5, 10_000])
def test_a_measurement_two_errors_from_the_edge_is_wrong_as_rarely_whatever_the_seeds(n):
    assert together([(2.0, n)]).expected == pytest.approx((1 - math.erf(math.sqrt(2))) / 2)


def test_verdicts_together_by_hand():
    # Two degrees of freedom: the tail of t is (1 - t/√(2 + t²))/2, and t is the margin times half the quantile 4.527.
    t = 2.2 * 4.5266 / 2
    few, many, exact = (1 - t / math.sqrt(2 + t * t)) / 2, math.erfc(4 / math.sqrt(2)) / 2, 0.0
    found = together([(2.2, 3), (4.0, 10**9), (math.inf, 1)])
    assert found.expected == pytest.approx(few + many + exact, rel=1e-4)
    assert (found.n, found.standing) == (3, 2)  # three times the tail of the first, 1.9 %, is above 5 %
    assert found.at_worst == pytest.approx(3 * 0.02275, rel=1e-3)


@pytest.mark.parametrize(("check", "margin"), [(HOLDS, math.inf), (Check(9, 1, 0.5, 0.5), 15), (Check(1, 1, 0.5, 0.25), 2)])
def test_margin_is_the_way_to_the_edge_in_errors(check, margin):
    assert check.margin == margin


# --- the register


@pytest.fixture(scope="module")
def sections():
    return tomllib.loads((data_folder() / "claims.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def lines(sections):
    """The entries of data/claims.toml as they stand, each with its section."""
    return [(notebook, line) for notebook, block in sections.items() for line in block["claims"]]


def test_ids_of_the_register_are_unique_and_the_readme_counts_them(lines):
    ids = [line["id"] for _, line in lines]
    assert len(ids) == len(set(ids))
    assert list(register()) == ids
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"The register has {len(ids)} claims" in readme
    for notebook in phenomena():
        assert re.search(rf"notebooks/{notebook}\.ipynb.* {len(section(notebook))} claims decided", readme), notebook


def test_a_phenomenon_has_one_name(sections):
    """Notebook, package, tests and scenarios bear it; ids of claims begin with the word that the register says."""
    for notebook, part in sections.items():
        name = part["phenomenon"]
        assert notebook[3:] == name
        assert (ROOT / "notebooks" / f"{notebook}.ipynb").is_file()
        assert (ROOT / "tests" / "phenomena" / name).is_dir()
        assert {line["id"].split(".")[0] for line in part["claims"]} == {part["first_word"]}
    assert {name.split(".")[0] for name in set(scenarios()) - set(FORMERLY)} == set(phenomena().values())


def test_every_claim_has_a_decider_that_reads_what_its_notebook_measures(sections):
    for notebook, part in sections.items():
        package(notebook)
        for line in part["claims"]:
            assert decider(line["id"]).datasets, line["id"]


def test_register_entries_are_complete(lines):
    required = {"id", "statement", "source", "expected", "control"}
    for _, line in lines:
        assert required <= line.keys() <= required | {"core", "reason", "claimed", "narrowed", "figure"}, line["id"]
        assert all(line[key].strip() for key in line.keys() - {"core"}), line["id"]
        assert line["expected"] in ("holds", "fails", "open"), line["id"]
        assert isinstance(line.get("core", True), bool), line["id"]


def test_a_retired_id_says_why_and_is_not_used_again(sections):
    for part in sections.values():
        for line in part.get("retired", []):
            assert line.keys() == {"id", "reason"}
            assert line["reason"].strip()
            assert line["id"].split(".")[0] == part["first_word"]
    assert not retired().keys() & register().keys()


def test_claims_that_fail_say_why():
    assert [c.id for c in register().values() if c.expected == "fails" and not c.reason] == []


def test_no_statement_stands_twice():
    statements = [c.statement for c in register().values()]
    assert len(set(statements)) == len(statements)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LINE.replace('control = "c"', ""), "00_toy, toy.a: missing 1 required positional argument: 'control'"),
        (LINE + 'controll = "c"', "00_toy, toy.a: got an unexpected keyword argument 'controll'"),
        (LINE.replace("holds", "hold"), "00_toy, toy.a: expected='hold'; allowed: holds, fails, open"),
        (LINE + LINE, "two claims have the id toy.a"),
        (LINE + "id = 3", "claims.toml: Cannot overwrite a value"),
    ],
    ids=["nothing for a key", "unknown key", "unknown verdict", "id twice", "no TOML"],
)
def test_a_fault_of_the_register_is_one_line(text, said, monkeypatch, tmp_path, capsys):
    from thermolab import cli

    (tmp_path / "claims.toml").write_text(text)
    monkeypatch.setattr(claims, "data_folder", lambda: tmp_path)
    monkeypatch.setattr(claims, "_sections", claims._sections.__wrapped__)
    monkeypatch.setattr(claims, "register", claims.register.__wrapped__)
    with pytest.raises(SystemExit) as end:
        cli.main(["check", "toy.a"])
    assert end.value.code == 2
    assert said in capsys.readouterr().err


def test_section_is_the_register_of_one_notebook():
    sizes = {notebook: len(section(notebook)) for notebook in phenomena()}
    assert sum(sizes.values()) == len(register())
    assert all(c.notebook == "03_ideal_gas" for c in section("03_ideal_gas").values())


def test_section_of_an_unknown_notebook_lists_the_known_ones():
    with pytest.raises(KeyError, match=r"07_magnets.*03_ideal_gas"):
        section("07_magnets")


# --- what decides


@pytest.fixture
def deciders(monkeypatch):
    """An empty table of deciders, and a claim for them."""
    monkeypatch.setattr(claims, "_deciders", {})
    monkeypatch.setattr(claims, "register", lambda: {"toy.sum": CLAIM, "toy.other": CLAIM})


@pytest.mark.usefixtures("deciders")
def test_a_decider_takes_datasets_by_the_names_of_its_parameters_or_by_others():
    @decides("toy.sum", reads=["dim"])
    @decides("toy.other", wrong="third")
    def adds(right, wrong):
        return with_control(few_seeds(right), few_seeds(wrong), 0.5, "a wrong sum", predicted=2)

    found = {"right": [2.0, 2.1, 1.9], "wrong": [9.0, 9.1], "third": [2.0, 2.0]}
    result = decide("toy.sum", found, settings={"eta": 1}, seconds=2)
    assert (result.verdict, result.n_seeds, result.control_name) == ("holds", 3, "a wrong sum")
    assert decide("toy.other", found).verdict == "inconclusive"  # its control holds too
    assert result.seconds >= 2
    assert decider("toy.sum").reads == ("dim",)
    assert decider("toy.other").datasets == {"right": "right", "wrong": "third"}


@pytest.mark.usefixtures("deciders")
def test_a_decider_may_say_that_a_claim_does_not_apply():
    decides("toy.sum")(lambda right: claims.NotApplicable("no numbers to add"))
    found = decide("toy.sum", {"right": []}, settings={"eta": 1})
    assert (found.verdict, found.inapplicable, found.check, found.settings) == (
        "not applicable",
        "no numbers to add",
        None,
        {"eta": 1},
    )


@pytest.mark.usefixtures("deciders")
def test_a_claim_has_one_decider():
    decides("toy.sum")(lambda right: Decision(HOLDS, "none", FAILS, 2))
    with pytest.raises(ValueError, match=r"toy\.sum is decided by .* already"):
        decides("toy.sum")(lambda right: None)
    with pytest.raises(LookupError, match=r"nothing decides toy\.other: write a function under @decides"):
        decider("toy.other")
    with pytest.raises(ValueError, match=r"toy\.typo is not in the register"):
        decides("toy.typo")(lambda right: None)


@pytest.mark.usefixtures("deciders")
def test_what_is_missing_of_a_decision_is_told():
    decides("toy.sum")(lambda right: None)
    with pytest.raises(LookupError, match=r"toy\.sum needs the dataset 'right', which was not measured"):
        decide("toy.sum", {"wrong": 1})
    with pytest.raises(TypeError, match=r"decides toy\.sum, must return a Decision, not NoneType"):
        decide("toy.sum", {"right": 1})


@pytest.mark.parametrize("choose", [max, min])
@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("bad", [(math.nan, 0.1), (math.inf, 0.1), (1.0, math.nan)])
def test_a_lost_run_is_picked_wherever_it_stands(choose, place, bad):
    """For max and min alone pass a NaN over that does not come first."""
    found = [claims.Estimate(value, 0.1, 5) for value in (1.0, 2.0)]
    lost = claims.Estimate(*bad, 5)
    found.insert(place, lost)
    assert claims.pick(choose, iter(found)) is lost


def test_of_estimates_the_extreme_by_a_key_is_picked():
    found = [claims.Estimate(value, 0.1, 5) for value in (1.0, -3.0, 2.0)]
    assert claims.pick(max, found) == found[2]
    assert claims.pick(min, found) == found[1]
    assert claims.pick(max, found, key=lambda one: abs(one.value)) == found[1]


def test_a_claim_names_a_figure_of_its_phenomenon():
    wrong = [
        claim.id
        for claim in claims.register().values()
        if claim.figure
        and not hasattr(
            importlib.import_module(f"thermolab.phenomena.{claims.phenomena()[claim.notebook]}.figures"), claim.figure
        )
    ]
    assert wrong == []


def test_every_claim_says_what_was_measured(sections):
    """The first paragraph of its decider's docstring stands in the verdict table: it names a quantity by itself."""
    for notebook in sections:
        package(notebook)
    said = {name: Result(claim, HOLDS, "", FAILS, 3).quantity for name, claim in claims.register().items()}
    assert [name for name, text in said.items() if len(text) < 20 or re.match("(Minus )?(the same|that|each) ", text, re.I)] == []
