"""A model's card: what it is, what it costs, how it was proved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from rich.console import Console
from rich.markup import escape

from lra_bench.building import model_options
from lra_bench.registry import Entry, Option
from lra_bench.report.numbers import binary_bytes, si
from lra_bench.report.proofs import proof_lines
from lra_bench.report.published import published_of

COUNTED_AT = (1024, 4096)
WIDTH, NUM_HEADS, FFN_DIM = 64, 2, 128
"""The sizes of the `lite` protocol, for one layer."""


def card(entry: Entry) -> dict[str, Any]:
    """Everything known of a model, as plain data."""
    content = entry_card(entry, model_options(entry))
    content["needs"] = _needs(entry)
    if counted := _counted(entry):
        content["counted"] = counted
    if proof := proof_lines(entry.name):
        content["proof"] = proof
    if published := published_of(entry.name):
        content["published"] = [asdict(score) for score in published]
    return content


def entry_card(entry: Entry, options: Mapping[str, Option]) -> dict[str, Any]:
    """What the catalog and the class say, of a model or a task."""
    content = {key: value for key, value in asdict(entry).items() if value not in ("", (), {}, None)}
    content["options"] = {
        option.name: {
            "default": entry.options.get(option.name, option.default),
            "type": _type_name(option.annotation),
        }
        for option in options.values()
    }
    return content


def _type_name(annotation: Any) -> str:
    """`int`, `float | None`, `Literal['a', 'b']`."""
    name = getattr(annotation, "__name__", "")
    return name if name in {"int", "float", "bool", "str"} else str(annotation).replace("typing.", "")


def _needs(entry: Entry) -> str:
    if entry.kind not in ("mixer", "encoder"):
        return ""
    needs = ["a longest length (its parameters or tables end there)" if entry.needs_max_length else ""]
    needs.append("" if entry.padding_invariant else "sequences of one length (padding changes its output)")
    needs.append("several seeds (random in eval)" if entry.stochastic_in_eval else "")
    return "; ".join(need for need in needs if need) or "nothing"


def _counted(entry: Entry) -> dict[str, str]:
    """By the closed form, which the tests hold to what is counted."""
    from lra_bench.validation.subject import Sizes, Subject

    if entry.kind not in ("mixer", "encoder") or not hasattr(entry.load(), "cost"):
        return {}
    options = {o.name: o.default for o in model_options(entry).values() if o.name != "parameter_match"}
    sizes = Sizes(WIDTH, NUM_HEADS, WIDTH // NUM_HEADS, max(COUNTED_AT), FFN_DIM)
    subject = Subject(entry, {**options, **entry.options}, sizes)
    base = replace(subject, entry=_baseline(), options={})
    lines = {}
    for length in COUNTED_AT:
        cost, other = subject.cost(length), base.cost(length)
        ratio = f", {cost.flops / other.flops:.2f} x the Transformer's" if entry.kind == "mixer" else ""
        lines[f"{length:,} tokens"] = (
            f"{si(cost.flops, 'FLOP')} forward{ratio}; "
            f"{binary_bytes(cost.activation_bytes)} kept for backward"
        )
    return lines


def _baseline() -> Entry:
    from lra_bench.registry import models

    return models.get("transformer")


def print_card(out: Console, entry: Entry) -> None:
    """A card to read: one screen for most models."""
    content = card(entry)
    kind = {"mixer": "a mixer in the standard block", "encoder": "a whole encoder"}.get(
        entry.kind, entry.kind
    )
    out.print(f"[bold]{escape(entry.name)}[/]  {escape(entry.family)}, {kind}")
    _line(out, "", entry.summary)
    if entry.formula:
        _line(out, "formula", entry.formula)
    if entry.paper:
        paper = entry.paper
        _line(out, "paper", f"{paper.title}. {paper.authors}, {paper.year}. {paper.link}")
    if entry.time or entry.memory:
        _line(out, "claimed", f"time {entry.time}; memory {entry.memory}")
    _block(out, f"counted, one layer of width {WIDTH}", content.get("counted", {}))
    _line(out, "needs", content["needs"])
    _line(out, "rules out", f"that {entry.rules_out}" if entry.rules_out else "")
    _line(out, "notes", entry.notes)
    _block(out, "options", {o.name: _option(o, entry) for o in model_options(entry).values()})
    _list(out, "known traps", entry.traps)
    _list(out, "where ours is not the paper's", entry.deviations)
    _line(out, "recall", entry.recall_limit)
    _block(out, "proved by", content.get("proof", {}))
    _block(out, "ladder", {rung.label: _rung(rung.model, rung.options) for rung in entry.ladder})
    if entry.ladder:
        _line(out, "", f"Run it: lra-bench run --ablate {entry.name} --task listops")
    _block(out, "published by others, under settings of their own", _published(entry.name))


def _published(name: str) -> dict[str, str]:
    """Source -> its scores, one line each."""
    lines: dict[str, list[str]] = {}
    for score in published_of(name):
        value = f"{score.accuracy_percent}" if score.accuracy_percent is not None else score.remark
        lines.setdefault(f"{score.source} ({score.setting})", []).append(f"{score.task} {value}")
    return {source: ", ".join(scores) for source, scores in lines.items()}


def _option(option: Option, entry: Entry) -> str:
    return f"{entry.options.get(option.name, option.default)}  ({_type_name(option.annotation)})"


def _rung(model: str, options: Any) -> str:
    return " ".join([model, *(f"{name}={value}" for name, value in options.items())])


def _line(out: Console, label: str, text: str) -> None:
    if text:
        out.print(f"  [bold]{label}[/]  {escape(text)}" if label else f"  {escape(text)}", soft_wrap=True)


def _block(out: Console, label: str, lines: Any) -> None:
    if lines:
        out.print(f"  [bold]{escape(label)}[/]")
        for name, text in lines.items():
            out.print(f"    {escape(str(name))}  [dim]{escape(str(text))}[/]", soft_wrap=True)


def _list(out: Console, label: str, lines: Any) -> None:
    if lines:
        out.print(f"  [bold]{escape(label)}[/]")
        for text in lines:
            out.print(f"    - {escape(text)}", soft_wrap=True)
