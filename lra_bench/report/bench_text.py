"""Tables of a session for people: text from records made harmless, and columns that fit a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

GAP = 3
"""Blanks between two columns."""
WRAPPED = 30
"""Columns that the last column of a table needs at least; it wraps."""

_MARKUP = re.compile(
    r"[`\[\]~]"  # code, links, strikethrough
    r"|<(?=[A-Za-z/!?])"  # HTML, but no '<= 1,024'
    r"|\*(?=\S)|(?<=\S)\*"  # emphasis, but no mark that stands alone
    r"|(?<![^\W_])_|_(?![^\W_])"  # the same, but not within a word
)


def plain(text: str) -> str:
    """One printable line. Control characters in a record must not reach a terminal or end a row."""
    return "".join(character if character.isprintable() else " " for character in text)


def markdown_text(text: str) -> str:
    """Plain text in Markdown: it shows as it is written. Bars are left to whoever builds a table."""
    return _MARKUP.sub(lambda found: "\\" + found[0], plain(text))


def side_by_side(rows: Sequence[dict[str, str]], width: int) -> Iterator[list[dict[str, str]]]:
    """A table in parts of at most `width` columns of text, each with the first column again.

    A part has at least one column beside the first, however wide that is.
    """
    from rich.cells import cell_len

    if not rows:
        return
    first, *others = rows[0]
    widths = {name: max(cell_len(text) for text in (name, *(row[name] for row in rows))) for name in rows[0]}
    part: list[str] = []
    used = widths[first] + 1
    for name in others:
        needed = widths[name] + GAP
        if name == others[-1]:
            needed = min(needed, WRAPPED + GAP)
        if part and used + needed > width:
            yield [{column: row[column] for column in (first, *part)} for row in rows]
            part, used = [], widths[first] + 1
        part.append(name)
        used += needed
    yield [{column: row[column] for column in (first, *part)} for row in rows]
