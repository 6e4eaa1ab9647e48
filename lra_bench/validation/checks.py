"""All checks by name, and the proof of one subject: every check, none of which stops the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lra_bench.validation import behaviour, costs, gradients, speed
from lra_bench.validation.finding import Finding, failed
from lra_bench.validation.subject import Subject

Check = Callable[[Subject], Finding]

CHECKS: dict[str, Check] = {
    "shapes": behaviour.shapes,
    "layers": behaviour.layers,
    "longest length": behaviour.too_long,
    "padding": behaviour.padding,
    "full mask": behaviour.full_mask,
    "empty rows": behaviour.empty_rows,
    "causality": behaviour.causality,
    "determinism": behaviour.determinism,
    "state": behaviour.state,
    "bf16": behaviour.bfloat16,
    "parameters": gradients.every_parameter,
    "gradients": gradients.by_differences,
    "FLOPs": costs.flops,
    "bytes": costs.bytes_kept,
    "FLOPs growth": costs.flops_growth,
    "bytes growth": costs.bytes_growth,
    "speed": speed.against_softmax,
}

COMPILED: dict[str, Check] = {"compile": behaviour.compiled}
"""Takes some ten seconds a model, and needs a C++ compiler."""


@dataclass(frozen=True)
class Outcome:
    """A check that was run."""

    check: str
    finding: Finding
    seconds: float


def prove(subject: Subject, *, compiled: bool = False) -> Iterator[Outcome]:
    """Runs every check; an error within one is its failure."""
    for name, check in {**CHECKS, **(COMPILED if compiled else {})}.items():
        start = time.perf_counter()
        try:
            finding = check(subject)
        except Exception as error:
            first = (str(error).strip().splitlines() or [""])[0]
            finding = failed(f"{type(error).__name__}: {first}")
        yield Outcome(name, finding, time.perf_counter() - start)
