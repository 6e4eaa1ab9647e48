"""What a leaderboard is once it is made: boards of rows, and the forms they are written in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from lra_bench.bench.records import Session
from lra_bench.report.bench_text import plain
from lra_bench.report.numbers import tuning_label
from lra_bench.report.published_tables import (
    HEADING,
    WARNING,
    published_accuracy_tables,
    published_training_tables,
)
from lra_bench.report.scoring import PARAMETER_MARK, TaskScore
from lra_bench.report.speed import speed_note
from lra_bench.report.table import Table, markdown_table

if TYPE_CHECKING:
    import pandas as pd

LEGEND = (
    "Accuracy in per cent with its 95 % interval; n is the number of seeds. `-` not run, `OOM` out of "
    "memory, `T/O` time limit, `NaN` diverged, `n/a` not defined, `speed only` measured without training. "
    "`(c)` not distinguishable from chance, `(k)` not above the task's best control, "
    "`(?)` no control beside it. "
    "Models of a column that share a small letter can't be told apart (t-test over paired examples and "
    "seeds, corrected by Holm for all pairs, 5 %); only models with two seeds or more are compared. "
    f"Parameters are relative to the Transformer's without embeddings; `!` above {PARAMETER_MARK:.2f}. "
    "Controls stand first."
)
PARETO = "Pareto"
TRIALS = "trials"


class Group(NamedTuple):
    """What all cells of a board share."""

    device: str
    protocol: str
    sha256: str
    data_changes: str
    other_changes: str
    precision: str
    compiled: bool
    tuning_trials: int = 0
    """Settings tried for each model: what was tuned never stands beside what was not."""

    @property
    def changes(self) -> str:
        """What differs from the protocol as it is."""
        tuned = tuning_label(self.tuning_trials)
        return ", ".join(filter(None, [self.data_changes, self.other_changes, tuned]))


@dataclass(frozen=True)
class Row:
    """One line of a board: a model."""

    cells: list[str]
    control: bool
    label: str
    family: str
    scores: list[TaskScore]
    """One for each task column."""

    @property
    def short_cells(self) -> list[str]:
        """Cells without intervals; the scores stand after the three of the model."""
        after = 3 + len(self.scores)
        ratios = [text.partition(" (")[0] for text in self.cells[after:]]
        return [*self.cells[:3], *(score.short for score in self.scores), *ratios]


@dataclass
class Board:
    """A table for one protocol on one device."""

    title: str
    group: Group
    ranks: bool
    columns: list[str]
    rows: list[Row]
    details_columns: list[str]
    details: list[list[str]]
    notes: list[str] = field(default_factory=list)
    speed: Session | None = None
    """Where its columns of time, memory and FLOPs come from."""
    further: list[Table] = field(default_factory=list)

    def markdown(self) -> str:
        parts = [f"## {self.title}", markdown_table(self.columns, [row.cells for row in self.rows])]
        parts += self.notes
        parts += [
            "<details><summary>Cells</summary>\n",
            markdown_table(self.details_columns, self.details),
            "</details>",
        ]
        for table in self.further:
            if table.rows:
                lines = markdown_table(table.columns, (row.values() for row in table.rows))
                body = "\n\n".join(filter(None, (table.note, lines)))
                parts.append(f"<details><summary>{table.title}</summary>\n\n{body}\n\n</details>")
        return "\n\n".join(parts)

    def latex(self) -> str:
        """A table in the manner of booktabs, as wide as a page of one column: means without intervals.

        Where the protocol ranks, a column's best score is bold. What the notes say stands above as comments.
        """
        rows = [
            {name: cell.replace(" (c)", "†").replace(" (k)", "‡") for name, cell in row.items()}
            for row in self._short_rows()
        ]
        caption = "Test accuracy in %, mean over seeds; † not above chance, ‡ not above the best control. "
        if self.speed is not None:
            caption += speed_note(self.speed, self.group.compiled)
        comments = [f"% {plain(note)}" for note in self.notes]
        table = Table(self.title, caption.replace("`", ""), rows)
        return "\n".join([*comments, table.latex(bold=self._best() if self.ranks else set(), compact=True)])

    def short_markdown(self) -> str:
        """The table alone, without intervals."""
        rows = self._short_rows()
        return markdown_table(list(rows[0]), [list(row.values()) for row in rows])

    def _short_rows(self) -> list[dict[str, str]]:
        """By column, without family and Pareto, for where there is no room."""
        left_out = {"family", PARETO}
        return [
            {
                name: cell
                for name, cell in zip(self.columns, row.short_cells, strict=True)
                if name not in left_out
            }
            for row in self.rows
        ]

    def _best(self) -> set[tuple[int, str]]:
        """(row, column) of the greatest mean in each task's column, controls left out."""
        best: dict[str, tuple[float, int]] = {}
        for index, row in enumerate(self.rows):
            for score in row.scores:
                if score.summary is not None and not row.control:
                    mean = score.summary.mean
                    if score.column not in best or mean > best[score.column][0]:
                        best[score.column] = (mean, index)
        return {(index, column) for column, (_, index) in best.items()}


@dataclass
class Leaderboard:
    """All boards of a set of records."""

    boards: list[Board]

    def markdown(self) -> str:
        head = "# Leaderboard\n\nGenerated by `lra-bench leaderboard`; do not edit."
        if not self.boards:
            return f"{head}\n\nNo records yet.\n"
        others = [*published_accuracy_tables(), *published_training_tables()]
        published = [f"## {HEADING}", WARNING, *(table.markdown(level=3) for table in others)]
        boards = [board.markdown() for board in self.boards]
        return "\n\n".join([head, LEGEND, *boards, *published]) + "\n"

    def latex(self) -> str:
        """All boards, ready to paste."""
        head = "% Generated by lra-bench leaderboard. Needs \\usepackage{booktabs}."
        return "\n\n".join([head, *(board.latex() for board in self.boards)]) + "\n"

    def score_rows(self) -> list[dict[str, Any]]:
        """One flat dictionary for each model and task of each board: what the tables say, as numbers."""
        return [
            {
                "device": board.group.device,
                "protocol": board.group.protocol,
                "protocol_sha256": board.group.sha256,
                "changes": board.group.changes,
                "precision": board.group.precision,
                "compiled": board.group.compiled,
                "model": row.label,
                "family": row.family,
                "control": row.control,
                "task": score.column,
                "dataset": score.dataset,
                "chance": score.chance,
                "mean": score.summary and score.summary.mean,
                "low": score.summary and score.summary.low,
                "high": score.summary and score.summary.high,
                "seeds": score.summary.seeds if score.summary else 0,
                "failed": score.failed,
                "status": score.status,
                "verdict": score.verdict,
                "letters": score.letters,
                "runs": " ".join(score.run_ids),
            }
            for board in self.boards
            for row in board.rows
            for score in row.scores
        ]

    def frame(self) -> pd.DataFrame:
        """`score_rows` as a frame: the long form."""
        import pandas as pd

        return pd.DataFrame(self.score_rows())

    def wide_frame(self) -> pd.DataFrame:
        """Mean accuracies, one row for each model of each board and one column for each task."""
        index = ["device", "protocol", "changes", "precision", "compiled", "model", "family", "control"]
        frame = self.frame()
        if frame.empty:
            return frame
        return frame.pivot_table(index=index, columns="task", values="mean", sort=False).reset_index()
