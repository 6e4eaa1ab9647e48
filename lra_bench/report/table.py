"""One table, whatever it is written as. Plain text in, so that no cell can break a format."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "†": r"\textdagger{}",
    "‡": r"\textdaggerdbl{}",
}


@dataclass(frozen=True)
class Table:
    """A title, a sentence that says how to read it, and rows of equal keys: the columns."""

    title: str
    note: str
    rows: list[dict[str, str]]

    @property
    def columns(self) -> list[str]:
        return list(self.rows[0]) if self.rows else []

    def markdown(self, level: int = 2) -> str:
        """With a heading of `level`; without a line end."""
        body = markdown_table(self.columns, (row.values() for row in self.rows))
        return "\n\n".join(part for part in (f"{'#' * level} {self.title}", self.note, body) if part)

    def latex(self, bold: Collection[tuple[int, str]] = (), *, compact: bool = False) -> str:
        """A floating table in the manner of booktabs; needs \\usepackage{booktabs}.

        bold: cells to print so, as row number and column.
        compact: in small type with narrow gaps and a first column that wraps, for many columns.
        """
        columns = ("p{3.6cm}" if compact else "l") + "r" * (len(self.columns) - 1)
        lines = [
            r"\begin{table}",
            r"\centering",
            r"\setlength{\belowcaptionskip}{4pt}",
            *([r"\scriptsize", r"\setlength{\tabcolsep}{2.5pt}"] if compact else []),
            rf"\caption{{{latex_text(self.title)}. {latex_text(self.note)}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            _latex_line(self.columns),
            r"\midrule",
            *(self._latex_row(number, row, bold) for number, row in enumerate(self.rows)),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
        return "\n".join(lines)

    def _latex_row(self, number: int, row: dict[str, str], bold: Collection[tuple[int, str]]) -> str:
        cells = [
            rf"\textbf{{{latex_text(cell)}}}" if (number, column) in bold else latex_text(cell)
            for column, cell in row.items()
        ]
        return " & ".join(cells) + r" \\"


def markdown_table(columns: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    """A table without a line end; bars and line ends within a cell can't break it."""
    lines = [_markdown_line(columns), _markdown_line("---" for _ in columns)]
    return "\n".join([*lines, *(_markdown_line(row) for row in rows)])


def latex_text(text: str) -> str:
    """Plain text as LaTeX."""
    return "".join(_LATEX.get(character, character) for character in text).replace("\n", " ")


def _markdown_line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _latex_line(cells: Iterable[str]) -> str:
    return " & ".join(latex_text(cell) for cell in cells) + r" \\"
