"""Evidence of one revision: its probe is asked cell by cell, each in a process of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from lra_bench.launch.fork_server import ForkServer, ProcessDiedError
from lra_bench.measure.machine import available_cores, cpu_model
from lra_bench.regression.evidence import CellEvidence, Evidence, LearningRun, ModelLearning
from lra_bench.regression.rules import Rules

PROBE = "lra_bench.regression.probe"
Say = Callable[[str], None]


def probe_server(import_path: str | None = None, *, threads: int = 1) -> ForkServer:
    """A server whose children are probes of the installed revision, or of the one at `import_path`."""
    environment = {"OMP_NUM_THREADS": str(threads)}
    if import_path is not None:
        rest = os.environ.get("PYTHONPATH")
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (import_path, rest)))
    return ForkServer([PROBE], environment)


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

    A cell that fails is part of it, with its reason. Probes run side by side, as many as there are cores for
    their threads: nothing here is timed.
    """

    def exact(model: str, task: str) -> CellEvidence:
        say(f"{revision}: {model} on {task}")
        request = {"do": "exact", "model": model, "task": task, "protocol": rules.protocol}
        answer = ask_probe(server, {**request, "settings": rules.exact.settings})
        return CellEvidence(model=model, task=task, **(answer.get("ok") or {"failure": answer["reason"]}))

    def learn(model: str, seed: int) -> LearningRun | str:
        say(f"{revision}: {model} learns, seed {seed + 1} of {seeds}")
        request = {"do": "learn", "model": model, "task": rules.learning.task, "protocol": rules.protocol}
        answer = ask_probe(server, {**request, "seed": seed, "settings": rules.learning.settings})
        return LearningRun(**answer["ok"]) if "ok" in answer else str(answer["reason"])

    with ThreadPoolExecutor(max(1, available_cores() // rules.threads)) as pool:
        cells = [pool.submit(exact, model, task) for model in models for task in rules.tasks]
        trained = {
            model: [pool.submit(learn, model, seed) for seed in range(seeds)]
            for model in learners(rules, models)
        }
        learned = []
        for model, started in trained.items():
            runs = [one.result() for one in started]
            failure = next((run for run in runs if isinstance(run, str)), None)
            kept = [run for run in runs if isinstance(run, LearningRun)]
            learned.append(ModelLearning(model=model, task=rules.learning.task, failure=failure, runs=kept))
        return Evidence(
            revision=revision,
            torch=torch.__version__,
            processor=cpu_model(),
            cells=[one.result() for one in cells],
            learning=learned,
        )
