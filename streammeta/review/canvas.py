"""What every picture of a report has in common: size, type, colours, and how it becomes part of a page.

In HTML, every colour of the palette becomes a CSS variable, so that the same drawing is readable on a light and on a
dark page, and text stays text.
"""

import io
import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from streammeta.report import Figures

__all__ = ["INK", "PALETTE", "Picture", "draw", "svg"]

INK, FAINT = "#1f2329", "#c9ced6"  # text and axes; grid
PALETTE: Final = ("#0b62a4", "#d1660a", "#16836a", "#b3327a", "#7653b5", "#8a6d00", "#4a7d1c", "#a33a2c")
_SIZE = (4.2, 2.9)  # inches; small, so that text is readable where a phone shows it
_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.5,
    "text.color": INK,
    "text.parse_math": False,  # a learner's name may hold a dollar sign
    "xtick.color": INK,
    "ytick.color": INK,
}


class Picture(NamedTuple):
    """One drawing of a report."""

    name: str  # also of its file
    title: str
    text: str  # what it shows, for those who cannot see it, and how to read it
    draw: Callable[[Axes, Figures], bool]  # False: nothing to draw


def draw(picture: Picture, figures: Figures) -> Figure | None:
    """The drawing, or None where the report has nothing for it."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=_SIZE, layout="constrained")
        axes = figure.add_subplot()
        return figure if picture.draw(axes, figures) else None


def svg(figure: Figure, name: str) -> str:
    """The drawing as an SVG element that takes its colours from the page it stands in."""
    buffer = io.StringIO()
    with mpl.rc_context(_STYLE | {"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r'\1 aria-hidden="true"', text, count=1)
    text = re.sub(r'(id="|xlink:href="#|url\(#)', rf"\1{name}-", text)  # drawings of one page must not share names
    text = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font: \1 var(--font)", text)
    for at, colour in enumerate(PALETTE):
        text = text.replace(colour, f"var(--c{at})")
    return text.replace(INK, "var(--ink)").replace(FAINT, "var(--faint)")
