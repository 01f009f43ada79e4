"""What the page does by itself: its looks (page.css), names for the sliders, and whether somebody sees it (page.js).

Widgets cannot say these things. The script travels in the panel, so it is there wherever the panel is, and never in a file.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

import ipywidgets as w

HERE = Path(__file__).parent


def page() -> w.HTML:
    """An invisible widget that gives the panel around it looks and script."""
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    # an image that is none: the one way in which HTML that is put into a page starts a script
    start = f'<img src="data:," alt="" hidden onerror="{escape(script)}">'
    return w.HTML(f"<style>{style}</style>{start}", layout={"height": "0", "margin": "0", "overflow": "hidden"})
