"""What the tests ask of a decided claim."""

HOLDS, FAILS = ("holds", "fails"), ("fails", "holds")  # a claim, with a control that tells something apart


def verdicts(decision):
    """The verdicts of a claim's check and of its control, which has a name; a number of seeds stands behind it."""
    assert isinstance(decision.control_name, str)
    assert decision.control_name
    assert decision.n_seeds >= 1
    return decision.check.verdict, decision.control.verdict
