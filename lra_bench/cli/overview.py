"""What a person sees of a running sweep: a live overview on a terminal, plain lines otherwise."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table

from lra_bench.cli.progress import PHASES
from lra_bench.records import model_label
from lra_bench.report.numbers import duration, percent, roughly

if TYPE_CHECKING:
    from lra_bench.sweep.engine import Entry

REFRESH_PER_S = 2
SHOWN_RUNNING = 12


def entry_label(entry: Entry) -> str:
    """'linformer (rank=64) on listops, seed 0'"""
    cell = entry.cell
    role = {"control": " (control)", "trial": " (trial)"}.get(entry.item.role, "")
    rates = ""
    if entry.item.role == "trial":
        optimizer = cell.settings.optimizer
        rates = f", rate {optimizer.learning_rate:g}, decay {optimizer.weight_decay:g}"
    return f"{model_label(cell.model, cell.changed_options)}{role} on {cell.task}, seed {cell.seed}{rates}"


class Overview:
    """Draws a sweep's entries. Give `on_sweep` to the sweep and `on_worker` to the launcher."""

    def __init__(self, out: Console) -> None:
        self.out = out
        self._entries: Sequence[Entry] = ()
        self._at_once = 1
        self._doing: dict[str, str] = {}
        self._labels: dict[str, str] = {}
        self._lock = threading.Lock()
        self._started = time.monotonic()
        self._live: Live | None = None
        if out.is_terminal:
            self._live = Live(self, console=out, refresh_per_second=REFRESH_PER_S, transient=True)

    def watch(self, entries: Sequence[Entry], at_once: int) -> None:
        """The entries of the sweep, and how many run at once."""
        self._entries, self._at_once = entries, at_once

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def on_worker(self, run_id: str, event: Mapping[str, Any]) -> None:
        """An event of a cell that runs here; called from several threads."""
        kind = event["event"]
        if kind == "step":
            text = f"step {event['step']:,} of {event['steps']:,}"
            text += f", validation {percent(event['validation_accuracy'])}"
        elif kind == "phase":
            text = PHASES.get(event["phase"], event["phase"])
        elif kind == "prepare":
            text = f"preparing {event['split']} {event['done']:,} of {event['total']:,}"
        elif kind == "fit":
            text = f"{event['what']} {event['done']:,} of {event['total']:,}"
        elif kind in ("storage", "damaged", "warning"):
            self._line(f"{self._labels.get(run_id, run_id)}: {event['message']}", "yellow")
            text = f"waits {event['wait_s']:g} s to write" if kind == "storage" else ""
        else:
            return
        with self._lock:
            self._doing[run_id] = text

    def on_sweep(self, event: Mapping[str, Any]) -> None:
        """A change in the sweep itself."""
        kind = event["event"]
        if kind == "storage":
            self._line(f"{event['message']} Trying again in {event['wait_s']:g} s.", "yellow")
        elif kind == "stopping":
            self._line(f"Stopping ({event['why']}); what runs is asked to save.", "yellow")
        elif kind == "lost":
            self._line(f"lost     {self._named(event['entry'])}: {event['message']} Trying again.", "yellow")
        elif kind == "state":
            self._on_state(event["entry"])

    def _on_state(self, entry: Entry) -> None:
        label = entry_label(entry)
        with self._lock:
            self._doing.pop(entry.cell.run_id, None)
            self._labels[entry.cell.run_id] = label
        if entry.was_there:
            return
        if entry.state == "running" and self._live is None:
            self._line(f"start    {self._named(entry)}")
        elif entry.state == "elsewhere":
            self._line(f"elsewhere {self._named(entry)}: somebody else works on it")
        elif entry.is_settled:
            took = f", {duration(entry.took_s)}" if entry.took_s is not None else ""
            if entry.is_ok:
                score = percent(entry.accuracy) if entry.accuracy is not None else "measured"
                self._line(f"done     {self._named(entry)}: {score}{took}{self._position()}")
            else:
                status = entry.status or "failed"
                self._line(f"{status:8} {self._named(entry)}: {first_line(entry.reason)}{took}", "red")

    def _position(self) -> str:
        if self._live is not None or not self._entries:
            return ""
        settled = sum(one.is_settled for one in self._entries)
        left = self._left()
        return f"  [{settled} of {len(self._entries)}{f', {left} left' if left else ''}]"

    def _left(self) -> str:
        from lra_bench.sweep.pace import time_left_s

        left_s = time_left_s(self._entries, self._at_once)
        return roughly(left_s) if left_s else ""

    @staticmethod
    def _named(entry: Entry) -> str:
        return f"{entry_label(entry)} ({entry.cell.run_id})"

    def _line(self, text: str, style: str = "") -> None:
        self.out.print(escape(text), style=style or None, soft_wrap=True)

    def __rich__(self) -> RenderableType:
        entries = list(self._entries)
        count = {
            state: sum(one.state == state for one in entries)
            for state in ("done", "running", "elsewhere", "waiting", "failed")
        }
        bad = sum(one.state == "done" and one.status != "ok" for one in entries)
        settled = count["done"] + count["failed"]
        head = Table.grid(padding=(0, 1))
        left = self._left()
        parts = [
            f"[bold]{settled}[/] of {len(entries)} cells",
            f"{count['running']} running",
            f"{count['elsewhere']} elsewhere" if count["elsewhere"] else "",
            f"[red]{count['failed'] + bad} not ok[/]" if count["failed"] + bad else "",
            f"{duration(time.monotonic() - self._started)} so far",
            f"{left} left" if left else "",
        ]
        head.add_row(
            ProgressBar(total=max(len(entries), 1), completed=settled, width=30),
            ", ".join(filter(None, parts)),
        )
        rows = Table.grid(padding=(0, 2))
        running = [one for one in entries if one.state == "running"]
        with self._lock:
            doing = dict(self._doing)
        for one in running[:SHOWN_RUNNING]:
            ran = duration(time.monotonic() - one.since)
            rows.add_row(escape(entry_label(one)), escape(doing.get(one.cell.run_id, "starting")), ran)
        if len(running) > SHOWN_RUNNING:
            rows.add_row(f"and {len(running) - SHOWN_RUNNING} more", "", "")
        return Group(head, rows)


def first_line(text: str) -> str:
    """Of a reason; the rest is in the record or in the list at the end."""
    return text.splitlines()[0] if text else ""
