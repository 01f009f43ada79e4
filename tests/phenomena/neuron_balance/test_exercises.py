"""Exercises of notebook 04, right and wrong."""

from thermolab.phenomena.neuron_balance import exercises


def test_the_batch_size():
    assert exercises.check_batch_size(64)
    for wrong in (None, "65", 4, 16, 32, 1, 0, -64, 256, float("inf"), True):
        found = exercises.check_batch_size(wrong)
        assert not found
        assert "64" not in found.message.replace("-64", "")


def test_the_shift():
    """2λ/η (|u|² - |w|²), whose factor 1 - ηλ/2 may be left out."""
    assert exercises.check_shift(1.6)
    assert exercises.check_shift((2 * 1e-3 - 1e-6) / 0.05**2 * 2)
    for wrong in (None, "1.7", 0, 0.8, -1.6, 2.0, 0.04, float("nan")):
        assert not exercises.check_shift(wrong)
    assert "larger" in exercises.check_shift(-1.6).message
    assert "1.6" not in exercises.check_shift(0.8).message


def test_the_pairs():
    assert exercises.check_pairs(["0 -> 2", "4 -> 6"])
    assert exercises.check_pairs(("4->6", " 0 → 2 "))
    assert exercises.check_pairs(["0 -> 2"]).message == "1 missing"
    assert not exercises.check_pairs([])
    for wrong in (["0 -> 2", "4 -> 6", "2 -> 4"], ["6 -> 8"], ["0 -> 4"], ["0 -> 2 (no bias)"]):
        assert "is no pair" in exercises.check_pairs(wrong).message
    for other in (None, "0 -> 2", 2, [0, 2], [("0", "2")]):
        assert exercises.check_pairs(other).message.startswith("write a list")
