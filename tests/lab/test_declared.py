import pytest

from thermolab.lab import declared
from thermolab.lab.params import ParameterError, UserError
from thermolab.lab.start import ROOT


@pytest.fixture
def declaration(write):
    return declared.read(write("nb"))


def test_defaults_and_rules_are_read_without_running_the_notebook(write):
    found = declared.read(write("nb", "raise SystemExit"))
    assert found.defaults["preset"] == "lab"
    assert found.defaults["profile"] == [1.0, 2.0]
    assert found.defaults.keys() == found.rules.keys()


def test_the_hash_follows_the_code(write):
    assert declared.read(write("nb", "1")).source == declared.read(write("nb", "1")).source
    assert declared.read(write("nb", "1")).source != declared.read(write("nb", "2")).source


def test_one_run_for_every_combination(declaration):
    given = [("eta", "0.01,0.1,.5"), ("protocol", "elr,lr"), ("profile", "[2,1,0.6]")]
    runs = declared.combinations(declaration, given)
    assert [(r["eta"], r["protocol"]) for r in runs][:3] == [(0.01, "elr"), (0.01, "lr"), (0.1, "elr")]
    assert len(runs) == 6
    assert all(r["profile"] == [2.0, 1.0, 0.6] and r["dim"] == 3 for r in runs)


def test_texts_of_the_same_value_are_the_same_run(declaration):
    one, two = (declared.combinations(declaration, [("eta", text)]) for text in ("1", "1.0"))
    assert one == two


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([("eta", "abc")], "eta='abc' is not a number; allowed: a number from 1e-05 to 1"),
        ([("eta", "0.1,,0.2")], "eta='' is not a number"),
        ([("eta", "[0.1]")], "eta=.0.1. is not a number"),
        ([("dim", "2")], "dim=2 is out of range; allowed: a whole number from 3 to 512"),
        ([("dim", "3.5")], "dim=3.5 is not a whole number"),
        ([("nosuch", "1")], "nosuch is no parameter of nb; it has: preset, seed, device, eta"),
        ([("eta", "1"), ("eta", "0.5")], "eta is given twice"),
        ([("profile", "1")], "profile=1 is not a list"),
        ([("eta_range", "[0.1,0.01,5]")], "low=0.1 not below high=0.01"),
        ([("eta", "0.1,7")], "eta=7 is out of range"),
    ],
)
def test_a_mistake_is_named(declaration, given, message):
    with pytest.raises(ParameterError, match=message):
        declared.combinations(declaration, given)


def test_what_is_no_notebook_is_one_line(tmp_path):
    path = tmp_path / "nb.ipynb"
    path.write_text("hello")
    with pytest.raises(UserError, match="is not a notebook"):
        declared.read(path)


@pytest.mark.parametrize(
    ("name", "own"),
    {
        "00_irreversibility": "",
        "01_cooling": "difficulty",
        "02_temperature_collapse": "width_up width_op label_noise points eta_range",
        "03_ideal_gas": "dim sigma protocol eta_range lam_range",
        "04_neuron_balance": "noise_std",
        "05_platonic_alignment": "depth_a depth_b width_a width_b",
        "06_progressive_sharpening": "noise_profile",
        "07_your_network": "network images",
    }.items(),
)
def test_the_names_that_scripts_rely_on(name, own):
    known = declared.read(ROOT / "notebooks" / f"{name}.ipynb").defaults
    assert {*["preset", "seed", "n_seeds", "device", "live", "eta", "lam", "batch_size"], *own.split()} <= set(known)
