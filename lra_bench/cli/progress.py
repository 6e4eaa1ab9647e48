"""Live progress of a run: bars on a terminal, plain lines otherwise."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self, TextIO

from tqdm import tqdm

from lra_bench.report.numbers import duration, percent, roughly

PLAIN_INTERVAL_S = 10.0

PHASES = {
    "flops": "Counting FLOPs",
    "memory": "Measuring peak memory",
    "time": "Measuring step time",
    "train": "Training",
    "score": "Scoring the test set",
    "wait": "Another process works on this cell; waiting for it",
    "wait for the device": "Others work on this device; waiting for a turn",
}


class Reporter:
    """Turns events into bars or lines on `stream`. Call it with each event; use it as a context."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.live = stream.isatty()
        self.bar: tqdm[Any] | None = None
        self.label = ""
        self.last_line = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def _line(self, text: str) -> None:
        line = f"{self.label}: {text}" if self.label else text
        if self.live:
            tqdm.write(line, file=self.stream)
        else:
            print(line, file=self.stream, flush=True)

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None


class RunReporter(Reporter):
    """Of a run."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self.title = ""

    def __call__(self, event: Mapping[str, Any]) -> None:
        handler = getattr(self, f"_on_{event['event']}", None)
        if handler is not None:
            handler(event)

    def _on_cell(self, event: Mapping[str, Any]) -> None:
        self._close()
        cell = event["cell"]
        self.label = cell.model
        if event["finished"]:
            self._line("already finished; showing its record")
        elif cell.model_entry.is_control:
            self._line("a control, so that scores have something to stand beside")

    def _on_warning(self, event: Mapping[str, Any]) -> None:
        self._line(event["message"])

    def _on_prepare(self, event: Mapping[str, Any]) -> None:
        self._advance(f"preparing {event['split']}", event["done"], event["total"], "")

    def _on_prepared(self, _event: Mapping[str, Any]) -> None:
        self._close()

    def _on_phase(self, event: Mapping[str, Any]) -> None:
        self._close()
        self._line(PHASES[event["phase"]])

    def _on_measured(self, event: Mapping[str, Any]) -> None:
        found = event.get("time")
        if found:
            self._line(f"{duration(found['median_s'])} a step")

    def _on_fit(self, event: Mapping[str, Any]) -> None:
        self._advance(event["what"], event["done"], event["total"], "")

    def _on_step(self, event: Mapping[str, Any]) -> None:
        loss = "" if event["loss"] is None else f"loss {event['loss']:.3f}, "
        text = f"{loss}validation {percent(event['validation_accuracy'])}"
        if not self.live and event["elapsed_s"]:  # a bar shows rate and time left by itself
            rate = event["step"] / event["elapsed_s"]
            left = (event["steps"] - event["step"]) / rate
            text += f", {rate:.3g} steps/s" + (f", {duration(left)} left" if left else "")
        self._advance("training", event["step"], event["steps"], text, force=event["evaluated"])

    def _advance(self, what: str, done: int, total: int, text: str, force: bool = False) -> None:
        if self.live:
            title = f"{self.label}: {what}"
            if self.bar is None or self.title != title:
                self._close()
                self.title = title
                self.bar = tqdm(total=total, desc=title, file=self.stream, leave=False, initial=done)
            self.bar.set_postfix_str(text, refresh=False)
            self.bar.update(done - self.bar.n)
            return
        now = time.monotonic()
        quiet_for = now - self.last_line
        if done == total or quiet_for > PLAIN_INTERVAL_S or (force and quiet_for > 1):
            self.last_line = now
            self._line(f"{what} {done:,} of {total:,}" + (f", {text}" if text else ""))


class SessionReporter(Reporter):
    """Of a measuring session: cells done, what is being measured, and the time left."""

    def __call__(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "finished":
            self._line(f"{event['session']} is complete; showing it (--new measures again)")
            return
        if event["event"] == "wait":
            self._line("Others work on this device; waiting for a turn")
            return
        name = f"{event['model']} {event['length']:,}" + (" compiled" if event["compiled"] else "")
        left = "" if event["left_s"] is None else f", {roughly(event['left_s'])} left"
        if event["reason"]:
            self._line(f"{name}: {event['what']} ({event['reason']})")
        elif self.live:
            if self.bar is None:
                form = "{n_fmt}/{total_fmt} cells |{bar}| {postfix}"
                self.bar = tqdm(total=event["total"], file=self.stream, leave=False, bar_format=form)
            self.bar.update(event["done"] - self.bar.n)
            self.bar.set_postfix_str(f"{name}: {event['what']}{left}")
        elif time.monotonic() - self.last_line > PLAIN_INTERVAL_S:
            self.last_line = time.monotonic()
            self._line(f"{event['done']} of {event['total']} cells, {name}: {event['what']}{left}")
