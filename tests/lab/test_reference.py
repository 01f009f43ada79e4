"""The page of the public names: all of them, with parameters, examples and every gauge."""

import re

import thermolab
from thermolab.instruments.gauges import GAUGES
from thermolab.lab import reference


def test_it_has_each_name_with_its_parameters_and_its_example():
    text = reference.markdown()
    for name in thermolab.__all__:
        (part,) = re.findall(rf"^## tl\.{name}\n(.*?)(?=^## )", text, flags=re.MULTILINE | re.DOTALL)
        if name != "DivergenceError":
            assert f"```python\ntl.{name}(" in part
        if name not in ("DivergenceError", "Scenario"):
            assert ">>> " in part
    assert "observe=('U', 'r', 'T', 'snr')" in text
    assert text.count("```") % 2 == 0
    for name, gauge in GAUGES.items():
        assert f"| `{name}` | `{gauge.variable}` |" in text


def test_examples_stand_in_blocks_of_code():
    assert reference._text("One.\n\n>>> 1 + 1\n2\n>>> for x in []:\n...     x\n\nTwo.\n") == (
        "One.\n\n\n```python\n>>> 1 + 1\n2\n>>> for x in []:\n...     x\n```\n\n\nTwo.\n\n"
    )
