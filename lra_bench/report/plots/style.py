"""The look of all figures: a family has a colour, a model within it a marker and a dash pattern.

Colours are those of Okabe and Ito, 'Color universal design' (2008), which people with the common kinds of
colour blindness tell apart, an olive and two greys; markers tell models apart without any colour.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lra_bench import registry
from lra_bench.errors import UsageError
from lra_bench.files import atomic_path, write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FAMILY_COLOURS = {
    "exact": "#000000",
    "sparse": "#0072b2",
    "learned_sparse": "#56b4e9",
    "low_rank": "#d55e00",
    "kernel": "#e69f00",
    "memory": "#009e73",
    "layer": "#cc79a7",
    "convolution": "#7a7a00",
    "state_space": "#f0e442",
    "control": "#9a9a9a",
    "external": "#5a5a5a",
}
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "p", "h")
DASHES = ("-", "--", "-.", ":")
FORMATS = ("svg", "png")
SVG_METADATA: Any = {"Date": None}
SETTINGS: Any = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.5,
    "figure.dpi": 100,
    "savefig.dpi": 160,
    # One name: every piece of text in an SVG repeats the whole list of fonts.
    "font.sans-serif": ["DejaVu Sans"],
    # The same figure must be the same bytes: ids from a fixed salt, text as text.
    "svg.hashsalt": "lra-bench",
    "svg.fonttype": "none",
}

_TAG = re.compile(r"<[^>]*>", re.DOTALL)
_GROUP_ID = re.compile(r'<g id="[^"]*"')
"""Nothing refers to a group; what is referred to are paths and clips."""
_STYLE = re.compile(r' style="([^"]*)"')
_RULES_END = "</style>"
_LONG_NUMBER = re.compile(r"(?<![\w.])[1-9]\d*\.\d{3,}(?!\w)")
"""From 1 on: of smaller ones, every digit may count."""


@dataclass(frozen=True)
class Look:
    """How one model is drawn."""

    colour: str
    marker: str
    dashes: str

    def of_line(self) -> dict[str, Any]:
        """Arguments for `Axes.plot`."""
        edge = "#8a8000" if self.colour == FAMILY_COLOURS["state_space"] else self.colour
        return {
            "color": edge,
            "marker": self.marker,
            "linestyle": self.dashes,
            "markerfacecolor": self.colour,
            "markeredgecolor": edge,
        }


def look_of(model: str) -> Look:
    """The look of a registered model, by its family and its place within it; others share one colour."""
    families = {entry.name: entry.family for entry in registry.models}
    if model not in families:
        # Not by Python's hash, which differs between processes.
        place = sum(model.encode())
        return Look(FAMILY_COLOURS["external"], MARKERS[place % len(MARKERS)], DASHES[place % len(DASHES)])
    family = families[model]
    place = [name for name, other in families.items() if other == family].index(model)
    colour = FAMILY_COLOURS.get(family, FAMILY_COLOURS["external"])
    return Look(colour, MARKERS[place % len(MARKERS)], DASHES[place % len(DASHES)])


@contextmanager
def styled() -> Iterator[None]:
    """Within it, matplotlib draws in our style, without a display."""
    import matplotlib as mpl

    mpl.use("agg")
    with mpl.rc_context(SETTINGS):
        yield


def svg_text(figure: Figure) -> str:
    """The figure as SVG without what nobody sees: indentation, digits below a hundredth of a point, names of
    groups, and styles said again and again.

    The same figure gives the same text.
    """
    import io

    held = io.StringIO()
    with styled():
        figure.savefig(held, format="svg", metadata=SVG_METADATA, bbox_inches="tight")
    lean = _TAG.sub(lambda tag: _LONG_NUMBER.sub(_rounded, tag[0]), held.getvalue())
    lean = _with_classes(_GROUP_ID.sub("<g", lean))
    return "\n".join(line.strip() for line in lean.splitlines()) + "\n"


def _with_classes(svg: str) -> str:
    """Every style that occurs more than once as a class, in the order in which they occur."""
    counts = Counter(_STYLE.findall(svg))
    repeated = [style for style, count in counts.items() if count > 1]
    classes = {style: f"s{number}" for number, style in enumerate(repeated)}
    rules = "".join(f"\n.{name}{{{style}}}" for style, name in classes.items())

    def shorter(style: re.Match[str]) -> str:
        return f' class="{classes[style[1]]}"' if style[1] in classes else style[0]

    return _STYLE.sub(shorter, svg).replace(_RULES_END, f"{rules}\n{_RULES_END}", 1)


def _rounded(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


def save(figure: Figure, path: Path) -> None:
    """Writes SVG or PNG, by the ending; the same figure gives the same bytes.

    Raises:
        UsageError: another ending.
    """
    ending = path.suffix.removeprefix(".")
    if ending not in FORMATS:
        raise UsageError(
            f"{path}: figures are written as {' or '.join(FORMATS)}; choose one of these endings."
        )
    if ending == "svg":
        write_atomically(path, svg_text(figure))
        return
    with styled(), atomic_path(path) as temporary, temporary.open("wb") as file:
        figure.savefig(file, format=ending, metadata={"Software": None}, bbox_inches="tight")
