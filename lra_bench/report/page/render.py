"""Lays the page out: one HTML file that asks nothing of any network."""

from __future__ import annotations

import base64
import hashlib
import re
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

from lra_bench.report.page.content import Content
from lra_bench.report.published_tables import HEADING, WARNING

if TYPE_CHECKING:
    from markupsafe import Markup

LEGEND = (
    "Test accuracy in per cent, mean over seeds; open a score for its interval, its runs and the command "
    "that repeats them. `-` not run, `OOM` out of memory, `T/O` time limit, `NaN` diverged, `n/a` not "
    "defined. Grey scores with (c) can't be told from chance, those with (k) are not above their task's best "
    "control. "
    "Models of a column that share a small letter can't be told apart."
)


_CODE = re.compile("`([^`]+)`")
"""As Markdown marks it, which notes are also written for."""

_ENCODED = str.maketrans({character: urllib.parse.quote(character, safe="") for character in '%#"&\t\r'})


@dataclass(frozen=True)
class Figure:
    """A plot on the page."""

    title: str
    svg: str


def page(content: Content, figures: Sequence[Figure] = ()) -> str:
    """The text of `index.html`; the same content gives the same bytes.

    Whatever comes from a record is escaped, and the page's policy lets no script run but its own, and nothing
    be fetched.
    """
    import jinja2
    from markupsafe import Markup, escape

    files = resources.files(__package__)
    style, script = ((files / name).read_text("utf-8") for name in ("page.css", "page.js"))
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (files / name).read_text("utf-8")),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    # Escaped first: what is between the marks stays text.
    environment.filters["code"] = lambda text: Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))
    policy = (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src '{_source(style)}'; script-src '{_source(script)}'"
    )
    sheets = [*content.sheets, *content.sessions]
    columns = dict.fromkeys(column.name for sheet in sheets for column in sheet.columns[1:])
    tasks = dict.fromkeys(c.name for sheet in sheets for c in sheet.columns if c.is_task)
    text = environment.get_template("page.html.j2").render(
        content=content,
        figures=[(figure.title, _as_image(figure.svg)) for figure in figures],
        devices=sorted({sheet.device for sheet in sheets}),
        protocols=sorted({sheet.protocol for sheet in sheets}),
        families=sorted({family for sheet in sheets for family in sheet.families}),
        tasks=list(tasks),
        columns=list(columns),
        legend=LEGEND,
        published_heading=HEADING,
        published_warning=WARNING,
        policy=Markup(policy),
        style=Markup(style),
        script=Markup(script),
    )
    return text.rstrip() + "\n"


def _source(text: str) -> str:
    """How a content security policy names an inline script or style: by its SHA-256."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _as_image(svg: str) -> Markup:
    """A reference that holds the image itself, for a double-quoted attribute; scripts in an image never run.

    As text and not as base64, which is a third longer: only what would end the attribute or the address, or
    start an entity, is encoded.
    """
    from markupsafe import Markup

    held = svg.translate(_ENCODED)
    return Markup("data:image/svg+xml," + " ".join(held.split("\n")))
