import csv
import json
import re
from dataclasses import replace
from html import unescape

import pytest

from thermolab import claims, phenomena, plots
from thermolab.claims import Check, Claim, Result
from thermolab.lab import tables
from thermolab.lab.params import UserError

NOTEBOOK = "03_ideal_gas"
GOOD, BAD, VAGUE = Check(1.0, 1.0, 0.1, 0.01), Check(2.0, 1.0, 0.1, 0.01), Check(1.0, 1.0, 0.1, 0.3)


def result(check, expected="holds", name="ideal-gas.x", control=None):
    claim = Claim(name, NOTEBOOK, "a statement", "003", expected, "a control")
    control = control or (BAD if check.verdict == "holds" else GOOD)
    return Result(claim, check, "another arm", control, 3)


@pytest.fixture
def finished(tmp_path):
    """finished(key, results, **run) writes the folder of a finished run and returns the results folder."""

    def finished(key, results, preset="lab", default_settings=True, notebook=NOTEBOOK):
        folder = tmp_path / notebook / key
        folder.mkdir(parents=True)
        run = {"status": "finished", "parameters": {"preset": preset}, "default_settings": default_settings}
        (folder / "run.json").write_text(json.dumps(run))
        (folder / "claims.json").write_text(json.dumps([r.as_dict() for r in results]))
        return tmp_path

    return finished


@pytest.mark.parametrize(
    ("check", "expected", "run", "contradicts"),
    [
        (GOOD, "holds", {}, False),
        (BAD, "holds", {}, True),
        (BAD, "fails", {}, False),
        (GOOD, "fails", {}, True),
        (BAD, "open", {}, False),
        (VAGUE, "holds", {}, True),
        (VAGUE, "holds", {"preset": "smoke"}, False),
        (BAD, "holds", {"preset": "smoke"}, False),  # its control holds, which is registered to fail: inconclusive
        (BAD, "holds", {"default_settings": False}, False),
    ],
)
def test_what_contradicts_the_register(finished, check, expected, run, contradicts):
    rows = tables.scorecard(finished("key", [result(check, expected)], **run))
    assert [row["id"] for row in tables.contradictions(rows)] == ["ideal-gas.x"] * contradicts


def test_a_check_that_its_control_passes_too_contradicts(finished):
    rows = tables.scorecard(finished("key", [result(GOOD, control=GOOD)]))
    assert tables.contradictions(rows)[0]["verdict"] == "inconclusive"


def test_an_inconclusive_verdict_says_why_in_the_scorecard(finished):
    rows = tables.scorecard(finished("key", [result(GOOD, "fails", control=BAD)]))
    assert "? inconclusive: the control fails, registered is that it holds" in tables.as_text(rows, "markdown")


def test_the_scorecard_says_what_its_verdicts_mean_together(finished):
    exact = Check(1.0, 1.0, 0.0)
    rows = tables.scorecard(finished("key", [result(GOOD), result(exact, name="ideal-gas.y"), result(VAGUE, name="ideal-gas.z")]))
    assert tables.together(rows).startswith(
        "2 verdicts at two standard errors: 0.0 of them are expected to be wrong by chance, 0.0 if"
    )
    assert "; 2 stay if" in tables.together(rows)
    assert tables.together([row for row in rows if row["verdict"] == "not measured"]) == ""


def test_registered_claims_that_no_run_measured_are_listed(finished):
    names = list(claims.section(NOTEBOOK))
    finished("one", [result(GOOD, name=names[0])])
    rows = tables.scorecard(finished("two", [result(GOOD, name=names[1])]))
    assert [row["run"] for row in rows[:2]] == ["one", "two"]
    assert [row["id"] for row in rows if row["verdict"] == "not measured"] == names[2:]


def test_unfinished_and_foreign_folders_do_not_count(finished, tmp_path):
    folder = finished("key", [result(GOOD)])
    for name in (".other.partial-1", "other.failed"):
        (folder / NOTEBOOK / name).mkdir()
        (folder / NOTEBOOK / name / "claims.json").write_text("[]")
    assert {row["run"] for row in tables.scorecard(folder)} == {"key", None}
    with pytest.raises(UserError, match="holds no finished run"):
        tables.scorecard(tmp_path / "nosuch")


def test_every_format_has_every_claim(finished):
    rows = tables.scorecard(finished("key", [result(GOOD)]))
    assert json.loads(tables.as_text(rows, "json")) == rows
    for style in ("table", "markdown"):
        text = tables.as_text(rows, style)
        assert all(row["id"] in text for row in rows)
        assert "✓ holds" in text
    assert len({line.count("|") - line.count("\\|") for line in tables.as_text(rows, "markdown").splitlines()}) == 1


def test_exit_code_of_claims(finished, capsys):
    from thermolab import cli

    def call(folder):
        with pytest.raises(SystemExit) as end:
            cli.main(["claims", str(folder)])
        return end.value.code

    assert call(finished("good", [result(GOOD)])) == 0
    assert call(finished("bad", [result(BAD)])) == 1
    assert "ideal-gas.x inconclusive, registered: holds (bad)" in capsys.readouterr().err
    assert call("nosuch") == 2


def test_verdicts_are_text_that_does_not_depend_on_the_numbers(capsys):
    tables.verdicts([result(GOOD), result(BAD, "fails", "ideal-gas.longer")])
    first = capsys.readouterr().out
    tables.verdicts([result(Check(1.02, 1.0, 0.1, 0.011)), result(BAD, "fails", "ideal-gas.longer")])
    assert capsys.readouterr().out == first
    assert first.splitlines()[1] == "ideal-gas.x       holds     holds"


def lines(html):
    """The lines of a verdict table: what is seen of each claim while it is folded, and what it opens on."""
    rows = re.findall(r'<div class="tl-claim"><details><summary>(.*?)</summary>(.*?)</details>(.*?)</div>', html)
    return [tuple(" ".join(unescape(re.sub(r"<[^>]+>", " ", part)).split()) for part in row) for row in rows]


def test_a_claim_is_one_line_that_opens_on_its_numbers():
    name = next(iter(claims.section(NOTEBOOK)))
    phenomena.package(NOTEBOOK)  # enters the deciders, which know what was measured
    (good, bad) = lines(tables.numbers([result(GOOD, name=name), result(BAD, "fails")]).data)
    assert good[0] == "✓ holds · a statement"
    assert good[1].startswith(f"measured 1.000 ± 0.010: {result(GOOD, name=name).quantity} predicted 1, tolerance 0.1 control")
    assert result(GOOD, name=name).quantity != ""
    assert "control another arm: 2 (fails)" in good[1]
    assert bad[0] == "✗ fails · a statement"


def test_what_a_source_is_called_stands_in_place_of_its_number():
    claim = Claim("ideal-gas.x", NOTEBOOK, "a statement", "entropic forces slides (document 4), part 4", "holds", "a control")
    (row,) = lines(tables.numbers([Result(claim, GOOD, "another arm", BAD, 3)]).data)
    assert f"source {claims.DOCUMENTS[4]}, part 4" in row[1]
    told = [claims.with_titles(text) for c in claims.register().values() for text in (c.source, c.claimed, c.narrowed, c.reason)]
    assert not [text for text in told if re.search(r"document \d", text, flags=re.IGNORECASE)]


def test_a_claim_links_to_its_figure_if_that_is_on_the_page(monkeypatch):
    monkeypatch.setattr(plots, "_numbers", {"seen": 3})
    shown = [replace(result(GOOD), claim=replace(result(GOOD).claim, figure=name)) for name in ("seen", "unseen", "")]
    html = tables.numbers(shown).data
    assert [row[2] for row in lines(html)] == ["Figure 3", "", ""]
    assert html.count(f'href="#{plots.anchor("seen")}"') == html.count("href=") == 1


@pytest.mark.parametrize("path", sorted((claims.data_folder() / "published").glob("[cs]*.csv")), ids=lambda path: path.stem)
def test_what_is_published_stands_beside_our_verdicts(path):
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for notebook in {row["notebook"] for row in rows}:
        decided = [replace(result(GOOD), claim=claim) for claim in claims.section(notebook).values()]
        html = tables.published(path.stem, decided).data
        own = [row for row in rows if row["notebook"] == notebook]
        assert html.count("<tr>") == 1 + len(own)
        assert html.count("<br>") + len(own) == sum(len(row["claims"].split()) for row in own)
        assert all(claims.register()[claim].statement in unescape(html) for row in own for claim in row["claims"].split())


@pytest.mark.parametrize("preset", ["smoke", "lab"])
def test_a_first_look_is_called_one_beside_its_verdicts(preset):
    html = tables.numbers([replace(result(GOOD), settings={"preset": preset})] * 2).data
    assert html.count("decide little") == (preset == "smoke")
    assert html.count("✓ holds (first look) · ") == 2 * (preset == "smoke")


@pytest.mark.parametrize(
    ("x", "error", "text"),
    [
        (0.50312, 0.0021, "0.5031 ± 0.0021"),
        (1234.5, 56.0, "1234 ± 56"),
        (1e-14, 0.0, "1e-14"),
        (0.5, 3e-9, "0.5 ± 3e-09"),
        (None, None, "–"),
        (2.0, None, "2"),
    ],
)
def test_measurement(x, error, text):
    assert tables.measurement(x, error) == text


def test_a_claim_that_does_not_apply_is_shown_with_its_reason(finished):
    claim = Claim("ideal-gas.x", NOTEBOOK, "a statement", "003", "open", "a control")
    (row, *_) = tables.scorecard(finished("a", [Result(claim, None, "", None, 0, inapplicable="no norm")]))
    text = tables.texts(row)
    assert text["verdict"] == "– not applicable: no norm"
    assert (text["measured"], text["tolerance"], text["control"]) == ("–", "–", "–")
    assert not tables.contradictions([row])
    assert tables.contradictions([row | {"expected": "holds"}])
