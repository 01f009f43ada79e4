"""What importing the package does to a process."""

import subprocess
import sys

CHECK = """
import sys
import thermolab.lab
assert "jsonschema" not in sys.modules
import nbformat
assert "lark" not in sys.modules  # the parser that would compile the grammar
assert "rfc3987_syntax" not in sys.modules
assert [type(f).__name__ for f in sys.meta_path if "thermolab" in str(f)] == []
import jsonschema
jsonschema.validate({"a": 1}, {"type": "object"})
import rfc3987_syntax
assert rfc3987_syntax.is_valid_syntax("iri", "https://example.org")
"""


def test_a_slow_grammar_is_not_compiled_and_yet_there_for_who_wants_it():
    found = subprocess.run([sys.executable, "-c", CHECK], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
