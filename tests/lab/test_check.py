"""Single claims from the command line: the numbers, the record and the refusals, on a toy phenomenon."""

import json

import numpy as np
import pytest
import toy_phenomenon
import xarray as xr

from thermolab import claims, cli, phenomena
from thermolab.claims import Claim, decides

CLAIM = Claim("toy.half", "09_toy", "uniform numbers have the mean 1/2", "arithmetic", "holds", "twice as large")


@pytest.fixture
def check(write, tmp_path, monkeypatch, capsys):
    """check(*arguments): code, printed text and refusal of `thermolab check` with a register of two claims of a toy."""
    known = {c.id: c for c in (CLAIM, Claim("toy.quarter", "09_toy", "it is 1/4", "nobody", "fails", "none"))}
    monkeypatch.setattr(claims, "register", lambda: known)
    monkeypatch.setattr(claims, "_deciders", {})
    monkeypatch.setattr(phenomena, "package", lambda notebook: {"09_toy": toy_phenomenon}[notebook])
    monkeypatch.setattr("thermolab.lab.runner.notebooks_folder", lambda: tmp_path)
    monkeypatch.setenv("THERMOLAB_OUT", str(tmp_path / "out"))
    decides("toy.half", reads=["size"])(toy_phenomenon.half)
    decides("toy.quarter", reads=["size", "rates"])(toy_phenomenon.half)
    write("09_toy")

    def call(*arguments):
        with pytest.raises(SystemExit) as end:
            cli.main(["check", *map(str, arguments)])
        captured = capsys.readouterr()
        return end.value.code or 0, captured.out, captured.err

    return call


@pytest.fixture
def record(tmp_path):
    """The only record of a check: its folder's files by name."""

    def read():
        (folder,) = (tmp_path / "out" / "09_toy").glob("check-*")
        files = {p.name: json.loads(p.read_text()) for p in folder.glob("*.json")}
        return files | {"results.nc": xr.load_dataset(folder / "results.nc")}

    return read


def test_a_claim_is_decided_alone_with_the_numbers_of_its_notebook(check, record):
    code, text, _ = check("toy.half", "-p", "eta", "0.5", "--seed", 3)
    assert code == 0
    assert "✓ holds" in text
    found = record()
    (line,) = found["claims.json"]
    direct = toy_phenomenon.half(toy_phenomenon.means.run((0.5, 1.0), n_seeds=4, seed=3))
    assert (line["measured"], line["error"], line["n_seeds"]) == (direct.check.measured, direct.check.error, 4)
    assert found["run.json"]["parameters"]["eta"] == 0.5
    assert not found["run.json"]["default_settings"]
    np.testing.assert_array_equal(found["results.nc"]["toys_seed"], [3000, 3001, 3002, 3003])


def test_a_setting_of_the_recipe_that_the_claim_reads_may_be_turned(check, record):
    assert check("toy.half", "-p", "size", "7")[0] == 0
    found = record()
    direct = toy_phenomenon.half(toy_phenomenon.means.run((0.05, 0.1), n_seeds=4, size=7))
    assert found["claims.json"][0]["measured"] == direct.check.measured
    assert found["run.json"]["parameters"]["size"] == 7


def test_a_record_that_is_there_is_read_again(check, record, monkeypatch):
    first = check("toy.half")
    before = record()["run.json"]
    monkeypatch.setattr("thermolab.engine.recipe.together", lambda *_: pytest.fail("measured again"))
    assert check("toy.half") == first
    assert record()["run.json"] == before


def test_a_contradiction_of_the_register_at_default_settings_is_told(check):
    assert check("toy.quarter")[0] == 1  # registered to fail, and its check holds
    assert check("toy.quarter", "-p", "size", "40")[0] == 0  # elsewhere it is information


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["toy.hal"], "there is no claim 'toy.hal'; nearest: toy.half"),
        (["zzz"], "there is no claim 'zzz'; nearest: none"),
        (
            ["toy.half", "-p", "width", "3"],
            "width changes nothing that all of toy.half read; what may be set: size, preset",
        ),
        (["toy.half", "-p", "dim", "7"], "dim changes nothing that all of toy.half read"),
        (["toy.half", "-p", "size", "3", "-p", "size", "4"], "size is given twice; a check takes one value"),
        (["toy.half", "--seed", "3", "-p", "seed", "4"], "seed is given twice; a check takes one value"),
        (["toy.half", "toy.quarter", "-p", "rates", "[0.1]"], "rates changes nothing that all of toy.half, toy.quarter read"),
        (["toy.half", "toy.quarter", "-p", "rates", "[0.1]"], "check alone what does: toy.quarter"),
        (["toy.half", "-p", "size", "0"], "size=0 is out of range; allowed: a whole number, 1 or more"),
        (["toy.half", "-p", "size", "3,4"], "size=3,4 is more than one value"),
        (["toy.quarter", "-p", "rates", "0.1"], "rates=0.1 is not a list, as [0.1] is; allowed: a list of 1 or more"),
        (["toy.half", "-p", "eta", "0.1,0.2"], "a check takes one value of each parameter"),
        (["toy.half", "-p", "eta", "9"], "eta=9 is out of range"),
        (["toy.half", "--preset", "huge"], "preset='huge' is unknown"),
        ([], "Missing argument"),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else "",
)
def test_a_users_mistake_is_one_line_and_nothing_is_written(check, tmp_path, arguments, said):
    code, text, refusal = check(*arguments)
    assert (code, text) == (2, "")
    assert said in refusal
    assert len(refusal.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("size", "code", "said"),
    [(13, 2, "toy.half: size=13 does not go with these rates"), (14, 1, "toy.half: eta=0.1: |w| grew past 1e12 at step 3")],
)
def test_what_a_recipe_refuses_or_a_run_that_diverges_is_one_line(check, tmp_path, size, code, said):
    found, text, refusal = check("toy.half", "-p", "size", size)
    assert (found, text, len(refusal.splitlines())) == (code, "", 1)
    assert said in refusal
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda known: claims._deciders.clear(), 'nothing decides toy.half: write a function under @decides("toy.half")'),
        (lambda known: decided_by(reads=["warp"]), "no recipe behind toy.half takes warp"),
        (lambda known: decided_by(toys="toyz"), "there is no dataset 'toyz' among what is measured: toys, never"),
    ],
)
def test_a_fault_of_the_register_is_one_line(check, spoil, said):
    spoil(claims.register())
    code, text, refusal = check("toy.half", "-p", "warp", "3") if "warp" in said else check("toy.half")
    assert (code, text, len(refusal.splitlines())) == (2, "", 1)
    assert said in refusal


def decided_by(**settings):
    claims._deciders.clear()
    decides("toy.half", **settings)(toy_phenomenon.half)
