"""The book's page of the public names, from their own signatures and docstrings."""

from __future__ import annotations

import inspect
from doctest import DocTestParser, Example
from textwrap import dedent

import thermolab
from thermolab.instruments import gauges

OPENING = """# Your own network

What `import thermolab as tl` gives. Each example runs as it stands, and is a test.
"""


def markdown() -> str:
    """The page, as Markdown: the names, their public methods, and what can be read by name."""
    names = [name for name in thermolab.__all__ if hasattr(thermolab, name)]
    return "\n".join([OPENING, *(_name(name) for name in names), _gauges()])


def _name(name: str) -> str:
    found = getattr(thermolab, name)
    raised = inspect.isclass(found) and issubclass(found, Exception)
    parts = [f"## tl.{name}\n", _signature(f"tl.{name}", found, raised), _text(inspect.getdoc(found) or "")]
    for method, value in vars(found).items() if inspect.isclass(found) else ():
        if not method.startswith("_") and (inspect.isfunction(value) or isinstance(value, property)) and value.__doc__:
            code = value.fget if isinstance(value, property) else value
            parts += [_signature(f".{method}", code, isinstance(value, property)), _text(inspect.getdoc(value) or "")]
    return "\n".join(parts)


def _signature(name: str, found, bare: bool = False) -> str:
    """Name and parameters, in a line or, where that is too long, in one for each parameter."""
    if bare:
        return f"**`{name}`**\n"
    parameters = [p for p in inspect.signature(found).parameters.values() if p.name != "self"]
    texts = [str(p.replace(annotation=p.empty)) for p in parameters]
    stars = [i for i, p in enumerate(parameters) if p.kind is p.KEYWORD_ONLY]
    if stars and not any(p.kind is p.VAR_POSITIONAL for p in parameters):
        texts.insert(stars[0], "*")
    line = f"{name}({', '.join(texts)})"
    if len(line) > 100:
        line = f"{name}(\n" + "".join(f"    {text},\n" for text in texts) + ")"
    return f"```python\n{line}\n```\n"


def _text(doc: str) -> str:
    """A docstring whose examples stand in blocks of code."""
    out = []
    for part in DocTestParser().parse(doc):
        if isinstance(part, Example):
            lines = part.source.rstrip("\n").split("\n")
            shown = "\n".join([f">>> {lines[0]}", *(f"... {line}" for line in lines[1:])])
            out.append(f"{shown}\n{part.want}".rstrip("\n") + "\n")
        elif part.strip():
            out.append(part)
    text, inside = "", False
    for part in out:
        code = part.startswith(">>> ")
        text += ("\n```python\n" if code else "```\n\n") if code != inside else ""
        inside, text = code, text + part
    return text + ("```\n" if inside else "\n")


def _gauges() -> str:
    rows = [
        f"| `{name}` | `{gauge.variable}` | {gauge.observable.label.replace('|', chr(92) + '|')} |"
        for name, gauge in gauges.GAUGES.items()
    ]
    doc = _text(inspect.getdoc(gauges) or "")
    before, _, table = doc.partition("In words:")
    return "\n".join(
        [
            "## What can be read\n",
            before.strip(),
            "\n| observe | variable | |\n|---|---|---|",
            *rows,
            f"\n```text\n{dedent(table).strip()}\n```\n",
        ]
    )
