"""What the tests ask of a decided claim."""

HOLDS, FAILS = ("holds", "fails"), ("fails", "holds")  # a claim, with a control that tells something apart


def verdicts(pair):
    """The verdicts of a claim's check and of its control, which has a name."""
    check, name, control = pair
    assert isinstance(name, str)
    assert name
    return check.verdict, control.verdict
