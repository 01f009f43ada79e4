"""Figures: theory as a line, measurement as markers with error bars, colours that a colour-blind reader can tell apart.

A plot function takes labelled data and axes and returns the figure; `show` puts a figure on the page with its number, caption
and alt text.
"""

from __future__ import annotations

import base64
import inspect
import io
from collections.abc import Sequence
from html import escape

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from thermolab import feedback
from thermolab.claims import few_seeds
from thermolab.words import _

COLOURS = sns.color_palette("colorblind").as_hex()
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_numbers: dict[str, int] = {}  # of this notebook's figures, by name, in the order in which they were first shown


def style() -> None:
    """The look of all figures: white ground in both themes of the lab, labels that can be read at half size."""
    sns.set_theme(context="notebook", style="ticks", palette=COLOURS, rc={"figure.constrained_layout.use": True})
    plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "figure.dpi": 100})


def panels(n: int, *, width: float = 4.6, height: float = 3.4, columns: int | None = None) -> tuple[Figure, Sequence[Axes]]:
    """n axes in a row, or in rows of `columns`; where there are several each has its letter, (a), (b), …"""
    columns = min(n, columns or n)
    rows = -(-n // columns)
    with plt.ioff():
        figure, axes = plt.subplots(rows, columns, figsize=(width * columns, height * rows), squeeze=False)
    for spare in axes.flat[n:]:
        spare.remove()
    for letter, ax in zip("abcdefghijkl" if n > 1 else "", axes.flat[:n], strict=False):
        ax.set_title(f"({letter})", loc="left", fontsize="medium")
    return figure, axes.flat[:n]


def show(figure: Figure, alt: str, name: str | None = None):
    """The figure as a picture with alt text, which is its caption too, for the last line of a cell. Closes the figure.

    name: by which `number` and the links of a verdict table know it: that of the calling function; "" for one without number.
    """
    from IPython.display import HTML

    name = inspect.currentframe().f_back.f_code.co_name if name is None else name
    title = f"<b>{_('Figure')} {_numbers.setdefault(name, len(_numbers) + 1)}.</b> " if name else ""
    alt, remark = _(alt), feedback.first_look(_preset())

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=144, facecolor="white")
    width = int(figure.get_figwidth() * 100)
    plt.close(figure)
    data = base64.b64encode(buffer.getvalue()).decode()
    picture = f'<img alt="{escape(alt)}" style="width: {width}px; max-width: 100%" src="data:image/png;base64,{data}">'
    caption = f"{title}{escape(alt)}{f' <em>{remark}</em>' if remark else ''}"
    place = f' id="{anchor(name)}"' if name else ""
    return HTML(
        f'<figure{place} style="margin: 0; max-width: max(40em, {width}px)">{picture}<figcaption>{caption}</figcaption></figure>'
    )


def number(name: str) -> int | None:
    """The number of the figure of that name on this notebook's page, None where it was not shown."""
    return _numbers.get(name)


def anchor(name: str) -> str:
    """The id of a figure's place on the page, to which a link goes."""
    return f"figure-{name.replace('_', '-')}"


def _preset() -> str:
    """What the notebook that is running says of how much it measures; "" outside one."""
    from IPython import get_ipython

    return str(getattr(get_ipython(), "user_ns", {}).get("preset", ""))


def mean_and_error(values) -> tuple[np.ndarray, np.ndarray | None]:
    """Mean over the dim "seed" and two standard errors (Student's t), or no error where there are no seeds."""
    values = values if isinstance(values, xr.DataArray) else xr.DataArray(values)
    if "seed" not in values.dims or values.sizes["seed"] < 2:
        return values.squeeze("seed").values if "seed" in values.dims else values.values, None
    rows = values.transpose(..., "seed").values
    pairs = np.array([few_seeds(row)[:2] for row in rows.reshape(-1, rows.shape[-1])]).reshape(*rows.shape[:-1], 2)
    return pairs[..., 0], 2 * pairs[..., 1]


def points(ax: Axes, x, values: xr.DataArray, *, index: int = 0, label: str | None = None, **settings) -> None:
    """Markers with error bars (two standard errors over seeds) in colour and marker number `index`."""
    y, error = mean_and_error(values)
    look = {
        "color": COLOURS[index % len(COLOURS)],
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": "none",
        "markersize": 5,
        "markerfacecolor": "none",  # hollow: series that agree stay visible behind each other
        "markeredgewidth": 1.3,
    }
    if "working point" in (label or ""):  # one point, on top of the curves that it belongs to
        look |= {"marker": "*", "markersize": 11, "markerfacecolor": COLOURS[index % len(COLOURS)], "zorder": 5}
    label = _(label) if label else label
    ax.errorbar(
        np.ravel(x),
        np.ravel(y),
        None if error is None else np.ravel(error),
        label=label,
        capsize=2,
        **(look | settings),
    )


def line(ax: Axes, x, y, *, index: int | None = None, label: str | None = None, **settings) -> None:
    """A theory line, in colour number `index` or black."""
    order, label = np.argsort(np.ravel(x)), _(label) if label else label
    look = {"color": "0.15" if index is None else COLOURS[index % len(COLOURS)], "linewidth": 1.3}
    ax.plot(np.ravel(x)[order], np.ravel(y)[order], label=label, **(look | settings))


def panel(
    ax: Axes | None,
    points_of: dict,
    lines: dict | None = None,
    *,
    x: str,
    y: str,
    log: str = "",
    title: str = "",
    legend: str = "best",
) -> Figure:
    """One panel: {label: (x, values)} as markers with error bars, {label: (x, y)} as theory lines, axes with units.

    A line has the colour of the markers of the same name, and the legend calls all of these "theory"; otherwise it is black with
    a dash of its own.
    Without axes it becomes a figure of its own. log: "x", "y" or "xy"; legend: its place as matplotlib takes it, "" for none.
    """
    ax = panels(1, width=6)[1][0] if ax is None else ax
    for i, (name, (where, values)) in enumerate(points_of.items()):
        points(ax, where, values, index=i, label=name)
    for i, (name, (where, value)) in enumerate((lines or {}).items()):
        if name in points_of:
            line(ax, where, value, index=list(points_of).index(name))
        else:
            line(ax, where, value, label=name, linestyle=("-", "--", ":")[i % 3])
    if set(points_of) & set(lines or {}):
        line(ax, [], [], label="theory")
    label(ax, x, y, log=log, title=title, legend=legend)
    return ax.figure


def categories(ax: Axes, series: dict[str, dict], *, y: str, legend: str = "best") -> None:
    """{label: {category: values}} as markers with error bars, the categories side by side on the x axis; label "" for none."""
    names = list(dict.fromkeys(name for values in series.values() for name in values))
    for i, (text, values) in enumerate(series.items()):
        shift = 0.2 * (i - (len(series) - 1) / 2)
        for name, value in values.items():
            points(ax, [names.index(name) + shift], value, index=i, label=text if text and name == next(iter(values)) else None)
    ax.set_xticks(range(len(names)), names, **({"rotation": 40, "ha": "right"} if max(map(len, names)) > 9 else {}))
    label(ax, "", y, legend=legend)


def heat_map(ax: Axes, values, rows: Sequence[str], columns: Sequence[str], *, label: str, limits=(0.0, 1.0), title="") -> None:
    """A matrix [rows, columns] as coloured squares with their values; label: what the colour bar shows, from … to `limits`."""
    low, high = limits
    sns.heatmap(
        np.asarray(values), vmin=low, vmax=high, cmap="viridis", ax=ax, annot=True, fmt=".2f", annot_kws={"size": "x-small"},
        xticklabels=list(columns), yticklabels=list(rows), cbar_kws={"label": label},
    )  # fmt: skip
    ax.tick_params(length=0, rotation=0)
    ax.set_title(title)


def label(ax: Axes, x: str, y: str, *, log: str = "", title: str = "", legend: str = "best") -> None:
    """Axis labels with their units, logarithmic axes ("x", "y" or "xy"), title and legend."""
    ax.set(xlabel=_(x), ylabel=_(y), title=_(title))
    for name in log:
        values = [np.asarray(getattr(line, f"get_{name}data")(), float) for line in ax.get_lines()]
        if values and not any((v > 0).any() for v in values):
            continue  # nothing that a logarithmic axis could show
        getattr(ax, f"set_{name}scale")("log")
        axis = getattr(ax, f"{name}axis")
        if name == "y":
            _keep_in_view(ax)
        low, high = axis.get_view_interval()
        # below two decades 1, 2, 5 are labelled too, above they are the minor ticks: all eight take half the time of a figure
        short, (one, *between) = high < 100 * low, (1.0, 2.0, 5.0)
        axis.set_major_locator(LogLocator(subs=(one, *between) if short else (one,)))
        axis.set_minor_locator(NullLocator() if short else LogLocator(subs=between))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    if legend and ax.get_legend_handles_labels()[0]:
        ax.legend(fontsize="small", loc=legend)


def _keep_in_view(ax: Axes) -> None:
    """A logarithmic axis ends a third of a decade below the lowest marker or line, and cuts bars that reach down to 0."""
    caps = [cap for bars in ax.containers for cap in bars[1]]
    shown = [np.asarray(line.get_ydata(), float) for line in ax.get_lines() if line not in caps]
    shown = np.concatenate([np.zeros(0), *(values[values > 0] for values in shown)])
    if len(shown) and ax.get_ylim()[0] < shown.min() / 3:
        ax.set_ylim(bottom=shown.min() / 2)
