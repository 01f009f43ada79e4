"""Executed notebooks as HTML pages that need no network: formulas become MathML, pictures are embedded."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import nbformat
from jinja2 import DictLoader, Environment, PackageLoader, pass_context
from markupsafe import Markup
from math_core import LatexError, LatexToMathML
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from pygments.formatters import HtmlFormatter

from thermolab.lab import layout, saved
from thermolab.lab.params import UserError

CELLS = """{% extends 'basic/index.html.j2' %}
{% block codecell %}
{%- if 'solution' in cell.metadata.tags -%}
<details class="solution"><summary>Solution</summary>{{ super() }}</details>
{%- else -%}{{ super() }}{%- endif -%}
{% endblock %}
{% block input_group %}<div{% if cell.metadata.folded %} class="folded"{% endif %}>{{ super() }}</div>{% endblock %}"""


def body(path: Path) -> str:
    """The cells of an executed notebook, or a Markdown file, as HTML. Widgets are left out; their static twins stay.

    Code that is not for students is of class `folded`: a switch on the page shows it.
    """
    notebook = _read(path)
    saved.without_widgets(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [_offline(o) for o in cell.outputs]
            cell.metadata["folded"] = not layout.is_open(cell)
    options = {"exclude_input_prompt": True, "exclude_output_prompt": True}
    templates = {"template_name": "basic", "template_file": "cells", "extra_loaders": [DictLoader({"cells": CELLS})]}
    exporter = HTMLExporter(filters={"markdown2html": markdown}, **options, **templates)
    return exporter.from_notebook_node(notebook)[0]


def page(template: str, **content) -> str:
    """A whole page from one of the templates; `content` holds title, file, pages, footer and the template's own."""
    return _environment().get_template(template).render(style=Markup(_style()), **content)


def title(path: Path) -> str:
    """The first heading of a notebook or a Markdown file, its name if there is none."""
    texts = (c.source for c in _read(path).cells if c.cell_type == "markdown")
    found = re.search(r"^# (.+)", "\n".join(texts), flags=re.MULTILINE)
    return found[1].strip() if found else path.stem


def _read(path: Path):
    if path.suffix == ".md":
        return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(path.read_text(encoding="utf-8"))])
    return nbformat.read(path, as_version=4)


def mathml(formula: str, display: bool = False) -> str:
    """A LaTeX formula as MathML, which browsers draw by themselves. Raises UserError for one that is not LaTeX.

    >>> mathml("x")
    '<math><mi>x</mi></math>'
    """
    try:
        return LatexToMathML(fancy_error=False).convert_with_local_state(formula.strip(), displaystyle=display)
    except LatexError as error:
        raise UserError(f"the formula {formula.strip()} cannot be drawn: {error}") from None


class _Renderer(IPythonRenderer):
    """nbconvert's Markdown, with formulas converted in place of left for a script."""

    def inline_math(self, body):
        return mathml(body)

    def block_math(self, body):
        return f'<span class="formula">{mathml(body, display=True)}</span>'

    def latex_environment(self, name, body):
        return self.block_math(rf"\begin{{{name}}}{body}\end{{{name}}}")


@pass_context
def markdown(context, source: str) -> str:
    """The filter that turns a Markdown cell into HTML."""
    attachments = context.get("cell", {}).get("attachments", {})
    renderer = _Renderer(escape=False, attachments=attachments)
    return MarkdownWithMath(renderer=renderer).render(source)


def _offline(output):
    """An output whose LaTeX, if it has any, is MathML."""
    formula = output.get("data", {}).pop("text/latex", None)
    if formula:
        output.data["text/html"] = mathml(formula.replace(r"\displaystyle", "").strip().strip("$"), display=True)
    return output


@cache
def _environment() -> Environment:
    return Environment(loader=PackageLoader("thermolab.lab"), autoescape=True, trim_blocks=True)


@cache
def _style() -> str:
    own = (Path(__file__).parent / "templates" / "style.css").read_text(encoding="utf-8")
    light, dark = (HtmlFormatter(style=name).get_style_defs(".highlight") for name in ("xcode", "github-dark"))
    plain = ".highlight, .highlight pre { background: none; }"
    return f"{own}\n{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n{plain}"
