"""What a notebook declares of its parameters, read without running it.

Names and defaults stand in the cell tagged `parameters`, the rules in the call `params.check(globals(), ...)`
of the cell tagged `check-parameters`. Texts from a command line are parsed and checked against both, so that
`thermolab run` and the notebook itself go by one declaration. Only plain values and calls into `params` count.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import nbformat

from thermolab.claims import data_folder
from thermolab.lab import params
from thermolab.lab.params import Rule, UserError


@dataclass(frozen=True)
class Declaration:
    """The parameters of one notebook: default values and rules by name; a hash of it and of the package behind it."""

    notebook: str
    source: str
    defaults: dict[str, object]
    rules: dict[str, Rule]

    def checked(self, values: dict[str, object]) -> dict[str, object]:
        """All parameters with `values` in place of defaults, as JSON-ready plain values. Raises ParameterError."""
        return {name: self._check(name, values.get(name, default)) for name, default in self.defaults.items()}

    def setup(self, values: dict[str, object]) -> params.Settings:
        """The checked parameters as the notebook itself has them."""
        return params.check({**self.defaults, **values}, **self.rules)

    def _check(self, name: str, value):
        if name not in self.rules or (name, value) == ("device", "auto"):  # auto is never wrong, and asking is slow
            return value
        value = params.checked(self.rules[name], name, value)
        return list(value) if isinstance(value, tuple) else value


def read(path: Path) -> Declaration:
    """The declaration of the notebook at `path`. Raises UserError where it cannot be read."""
    try:
        notebook = nbformat.read(path, as_version=4)
    except (OSError, ValueError, nbformat.ValidationError) as error:
        raise UserError(f"{path} is not a notebook: {str(error).splitlines()[0]}") from None
    defaults = _evaluate(path, _assignments(_source(notebook, "parameters")))
    rules = _evaluate(path, _keywords(_source(notebook, "check-parameters")))
    cells = "\0".join(cell.source for cell in notebook.cells)
    return Declaration(path.stem, hashlib.sha256(cells.encode() + _package()).hexdigest()[:16], defaults, rules)


@functools.cache
def _package() -> bytes:
    """A digest of what a run depends on beside its notebook: the package's code and its data."""
    code, data = Path(params.__file__).parents[1], data_folder()
    files = sorted([*code.glob("**/*.py"), *data.glob("**/*.toml"), *data.glob("**/*.csv")])
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).digest()


def files(values: dict[str, object]) -> str:
    """A digest of the files that a parameter names as "FILE.py:FUNCTION", "" if none does: a run depends on what is in them."""
    named = [Path(v.rpartition(":")[0]) for v in values.values() if isinstance(v, str) and ".py:" in v]
    found = [path.read_bytes() for path in named if path.is_file()]
    return f"+{hashlib.sha256(b''.join(found)).hexdigest()[:8]}" if found else ""


def combinations(declaration: Declaration, given: Iterable[tuple[str, str]]) -> list[dict[str, object]]:
    """The checked parameters of every run asked for by (name, text) pairs: a sweep is their product.

    Raises ParameterError for an unknown name, a name given twice and a value that is not allowed.
    """
    choices: dict[str, list] = {}
    for name, text in given:
        if name not in declaration.defaults:
            known = ", ".join(declaration.defaults) or "none"
            raise params.ParameterError(f"{name} is no parameter of {declaration.notebook}; it has: {known}")
        if name in choices:
            raise params.ParameterError(f"{name} is given twice; for a sweep write: -p {name} VALUE,VALUE")
        choices[name] = parse(text, declaration.defaults[name])
    products = itertools.product(*choices.values())
    return [declaration.checked(dict(zip(choices, values, strict=True))) for values in products]


def parse(text: str, default) -> list:
    """The values that a text stands for: bare commas separate the values of a sweep, JSON is one value.

    >>> parse("0.01,0.1", 0.05), parse("[2,1,0.6]", [1.0]), parse("elr,lr", "elr")
    ([0.01, 0.1], [[2, 1, 0.6]], ['elr', 'lr'])
    """
    if text.lstrip().startswith(("[", "{", '"')):
        return [_value(text, default)]
    return [_value(part.strip(), default) for part in text.split(",")]


def _value(text: str, default):
    """One value; a text that cannot be read as the default's type stays text, for the rule to refuse."""
    readers = {str: (), bool: (json.loads,)}.get(type(default), (int, float, json.loads))
    for reader in readers:
        try:
            return reader(text)
        except ValueError:
            continue
    return text


def _source(notebook, tag: str) -> str:
    """The source of the first cell with this tag, "" if there is none."""
    return next((c.source for c in notebook.cells if tag in c.metadata.get("tags", ())), "")


def _assignments(code: str) -> dict[str, ast.expr]:
    found = {}
    for node in ast.parse(code).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if isinstance(targets[0], ast.Name) and node.value is not None:
            found[targets[0].id] = node.value
    return found


def _keywords(code: str) -> dict[str, ast.expr]:
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    checks = [call for call in calls if ast.unparse(call.func) == "params.check"]
    return {k.arg: k.value for call in checks for k in call.keywords if k.arg}


def _evaluate(path: Path, expressions: dict[str, ast.expr]) -> dict:
    names = {"__builtins__": {}, "params": params}
    try:
        return {k: eval(compile(ast.Expression(e), str(path), "eval"), names) for k, e in expressions.items()}
    except params.ParameterError:
        raise
    except Exception as error:
        raise UserError(f"{path}: parameters must be plain values and calls into params ({error})") from None
