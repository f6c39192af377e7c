"""The drawing style of every figure: one set of colours, sizes and fonts, and SVG text with a description in words.

Colours are CSS variables with a fallback, so that one drawing serves light, dark and paper. Nothing here changes
matplotlib's global state for longer than one drawing.
"""

import io
import json
import re
import textwrap
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from scanwise.phrases import printable, short_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from scanwise.records import FloatArray

WIDTH = 5.0  # inches; 360 units, so that on a phone of 390 px a unit is about a pixel
SIZE = 11.5  # of text, in those units
INK, SOFT, GRID, PAPER = "#1b1f24", "#59636e", "#d0d5da", "#fefefe"
SERIES = ("#0067a5", "#c24d00", "#00795a", "#a3467a", "#7a6000", "#5a5f66")  # told apart by the colour-blind
VARIABLES = {INK: "ink", SOFT: "soft", GRID: "line", PAPER: "paper"} | {
    color: f"c{index}" for index, color in enumerate(SERIES, 1)
}
MARKERS, DASHES = "osD^vP", ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)))
MOST_POINTS = 60  # of a line, that can be read off
MANY_CLASSES = 8  # from here on, curves and cells are too many to label one by one


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure of this size in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


@contextmanager
def styled_figure(height: float, width: float = WIDTH) -> "Iterator[Figure]":
    """A figure in the house style; the style holds inside the block alone."""
    import matplotlib as mpl

    style: dict[str, Any] = {
        "svg.fonttype": "none", "svg.hashsalt": "scanwise", "text.parse_math": False, "axes.unicode_minus": True,
        "font.size": SIZE, "font.family": "DejaVu Sans", "axes.titlesize": SIZE, "axes.titlelocation": "left",
        "legend.frameon": False, "legend.fontsize": SIZE, "legend.borderaxespad": 0.2, "axes.labelsize": SIZE,
        "xtick.labelsize": SIZE, "ytick.labelsize": SIZE, "lines.linewidth": 1.8, "axes.axisbelow": True,
        "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": GRID, "grid.linewidth": 0.6,
        "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": SOFT, "xtick.color": SOFT, "ytick.color": SOFT,
        "xtick.labelcolor": INK, "ytick.labelcolor": INK, "axes.facecolor": "none", "figure.facecolor": "none",
    }  # fmt: skip
    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        mpl.rcParams.update(style)  # type: ignore[arg-type]
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the browser has the font; we only measure
        yield new_figure(width, height)


@dataclass(frozen=True, slots=True)
class Readout:
    """Points of a line whose values a page shows under the pointer.

    Attributes:
        axes: that the line is drawn in.
        title: of the line.
        x: (n,) in the units of the axes.
        y: (n,)
        texts: n values in words.
    """

    axes: "Axes"
    title: str
    x: "FloatArray"
    y: "FloatArray"
    texts: "Sequence[str]"


def render_svg(figure: "Figure", name: str, title: str, about: str, readouts: "Sequence[Readout]" = ()) -> str:
    """Draw as SVG text: ids of its own, colours as variables, title and description for those who cannot see it."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<!--.*?-->\n?|<metadata>.*?</metadata>\n?", "", text, flags=re.DOTALL)
    text = re.sub(r"<[^>]+>", lambda tag: _adapt_tag(tag[0], name), text)
    head = f'<svg role="img" aria-labelledby="{name}-title {name}-about" '
    words = f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-about">{escape(about)}</desc>'
    opening, rest = text.removeprefix("<svg ").split(">", 1)
    opening = re.sub(r'(?:width|height)="[^"]*pt" ?', "", opening)
    return printable(f"{head}{_points_of(figure, readouts)}{opening}>{words}{rest}", lines=True)


def _points_of(figure: "Figure", readouts: "Sequence[Readout]") -> str:
    """The attribute with the places and values of these points, in the units of the drawing."""
    size = figure.get_size_inches()
    if not readouts or not isinstance(size, np.ndarray):
        return ""
    width, height = 72 * size
    lines = []
    for line in readouts:
        shown = np.unique(np.linspace(0, len(line.x) - 1, min(len(line.x), MOST_POINTS)).round().astype(int))
        pixels = line.axes.transData.transform(np.column_stack([line.x, line.y])[shown])
        places = figure.transFigure.inverted().transform(pixels)
        points = [
            [round(float(x * width), 1), round(float((1 - y) * height), 1), line.texts[row]]
            for row, (x, y) in zip(shown.tolist(), places, strict=True)
            if np.isfinite(x) and np.isfinite(y)
        ]
        lines.append([printable(line.title), points])
    return f'data-points="{escape(json.dumps(lines, ensure_ascii=False, separators=(",", ":")))}" '


def _adapt_tag(tag: str, name: str) -> str:
    """One tag with ids of its own and colours as variables; what stands between tags is left alone."""
    tag = re.sub(r' id="([^"]+)"', rf' id="{name}-\1"', tag)
    tag = re.sub(r'(url\(#|href="#)', rf"\1{name}-", tag)
    tag = tag.replace("xlink:href", "href").replace(' xmlns:xlink="http://www.w3.org/1999/xlink"', "")
    tag = tag.replace("'DejaVu Sans'", "system-ui, sans-serif")
    for color, variable in VARIABLES.items():
        tag = tag.replace(color, f"var(--{variable}, {color})")
    return tag


def shorten(text: str, width: int) -> str:
    text = printable(text)
    return text if len(text) <= width else text[: width - 1] + "…"


def shorten_all(texts: "Sequence[str]", width: int) -> list[str]:
    """Names that stand beside each other, shortened such that they can be told apart."""
    return short_names([printable(text) for text in texts], width)


def wrap_label(text: str, width: int) -> str:
    """At most two lines."""
    return "\n".join(textwrap.wrap(printable(text), width, max_lines=2, placeholder="…")) or " "
