"""Evidence of one revision: its probe is asked cell by cell, each in a process of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from lra_bench.launch.fork_server import ForkServer, ProcessDiedError
from lra_bench.measure.machine import cpu_model
from lra_bench.regression.evidence import CellEvidence, Evidence, LearningRun, ModelLearning
from lra_bench.regression.rules import Rules

PROBE = "lra_bench.regression.probe"
Say = Callable[[str], None]


def probe_server(import_path: str | None = None) -> ForkServer:
    """A server whose children are probes of the installed revision, or of the one at `import_path`."""
    if import_path is None:
        return ForkServer([PROBE])
    rest = os.environ.get("PYTHONPATH")
    return ForkServer([PROBE], {"PYTHONPATH": os.pathsep.join(filter(None, (import_path, rest)))})


def ask_probe(server: ForkServer, request: Mapping[str, Any]) -> dict[str, Any]:
    """The answer of a fresh process: {"ok": ...} or {"reason": ...}, also where it died."""
    process = server.start(f"{PROBE}:serve")
    try:
        answer: dict[str, Any] = process.ask(request)
    except ProcessDiedError as error:
        return {"reason": str(error).splitlines()[0]}
    process.close()
    return answer


def learners(rules: Rules, models: Sequence[str]) -> list[str]:
    """Models whose training is checked as well."""
    chosen = rules.learning.models
    return [model for model in models if chosen is None or model in chosen]


def gather(
    server: ForkServer,
    rules: Rules,
    models: Sequence[str],
    *,
    seeds: int,
    revision: str,
    say: Say = lambda _: None,
) -> Evidence:
    """All evidence of a revision, training with so many seeds included.

    A cell that fails is part of it, with its reason.
    """
    cells, learned = [], []
    for model in models:
        for task in rules.tasks:
            say(f"{revision}: {model} on {task}")
            shared = {"model": model, "task": task, "protocol": rules.protocol}
            answer = ask_probe(server, {"do": "exact", **shared, "settings": rules.exact.settings})
            found = answer.get("ok") or {"failure": answer["reason"]}
            cells.append(CellEvidence(model=model, task=task, **found))
    for model in learners(rules, models):
        runs, failure = [], None
        for seed in range(seeds):
            say(f"{revision}: {model} learns, seed {seed + 1} of {seeds}")
            request = {"model": model, "task": rules.learning.task, "protocol": rules.protocol, "seed": seed}
            answer = ask_probe(server, {"do": "learn", **request, "settings": rules.learning.settings})
            if "ok" not in answer:
                failure = answer["reason"]
                break
            runs.append(LearningRun(**answer["ok"]))
        learned.append(ModelLearning(model=model, task=rules.learning.task, failure=failure, runs=runs))
    return Evidence(
        revision=revision, torch=torch.__version__, processor=cpu_model(), cells=cells, learning=learned
    )
