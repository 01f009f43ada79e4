"""A panel without a browser: its task runs, its widgets are found by their class, and its fields are written into."""

import contextlib
import html
import re

from thermolab.lab.live.views import Lines, Scatter
from thermolab.lab.live.widgets import Panel

VIEWS = [Lines("T", "U"), Scatter("across", "along", equal=True)]


@contextlib.asynccontextmanager
async def shown(live, arms, views=VIEWS, **settings):
    """A panel whose task runs, as (panel, driver, news)."""
    panel = Panel(arms, views, **settings)
    async with live.driving(panel.driver, panel) as (news, _):
        yield panel, panel.driver, news


def controls(panel):
    """{CSS class: widget} of all that has one."""
    found, todo = {}, [panel.widget]
    while todo:
        widget = todo.pop()
        found |= dict.fromkeys(widget._dom_classes, widget)
        todo += getattr(widget, "children", ())
    return found


def text(widget):
    """What a reader sees of an HTML widget."""
    return html.unescape(re.sub(r"<[^>]+>", " ", widget.value))


def write(panel, name, text):
    """Writes into the field of a knob, as the page does."""
    panel._controls.knobs[name].field.value = text
