"""Every registered model learns associative recall, or its card says why its mechanism can't.

Outside the default suite: `pytest -m learns -n 2 --evidence learned.json`, minutes a model. The budget is
the same for all: 256 tokens, 8 pairs of 16 keys and 16 values, 16 queries; two layers of width 64; at
most 1,000 steps of 64 fresh sequences at a constant rate of 1e-3 after 20 steps of warm-up. Solved is
95 % of the queries of 256 unseen sequences; training stops there. Chance is 12.5 %.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from references.cases import KINDS
from torch import Tensor

from lra_bench import protocol as protocols
from lra_bench.building import build_model, resolve_model_options
from lra_bench.data.batches import Batch
from lra_bench.data.task import IGNORED_LABEL
from lra_bench.mixer import CONTRACT_ARGUMENTS
from lra_bench.optimization import build_optimizer, training_step
from lra_bench.registry import Entry, models
from lra_bench.tasks.recall import Recall

STEPS, BATCH_SIZE, WARMUP_STEPS, CHECK_EVERY = 1000, 64, 20, 50
LEARNING_RATE = 1e-3
VALIDATION = 256
SOLVED = 0.95
MIXING = [entry for entry in models if entry.kind in KINDS]


def sequences(task: Recall, split: str, start: int, stop: int) -> tuple[Tensor, Tensor]:
    """input_ids and labels, both (b, n) int64."""
    table = task.examples(split, start, stop)
    rows = (np.stack(table.column(name).to_numpy(zero_copy_only=False)) for name in ("input_ids", "label"))
    input_ids, labels = (torch.from_numpy(row.astype(np.int64)) for row in rows)
    return input_ids, labels


def accuracy(model: torch.nn.Module, input_ids: Tensor, labels: Tensor) -> float:
    model.eval()
    with torch.no_grad():
        guesses = torch.cat([model(part, None).argmax(-1) for part in input_ids.split(BATCH_SIZE)])
    model.train()
    asked = labels != IGNORED_LABEL
    return float((guesses[asked] == labels[asked]).double().mean())


def learn(entry: Entry, **given: Any) -> dict[str, Any]:
    """Trains until the task is solved or the budget is spent."""
    task = Recall(length=256, num_pairs=8, num_keys=16, num_values=16, num_queries=16)
    settings = protocols.load("quick").settings("recall")
    options = resolve_model_options(entry, given, CONTRACT_ARGUMENTS)
    torch.manual_seed(0)
    model = build_model(entry, options, settings.architecture, task.spec).train()
    optimizer = build_optimizer(model, settings.optimizer, torch.device("cpu"))
    unseen = sequences(task, "validation", 0, VALIDATION)
    best, step, start = 0.0, 0, time.process_time()
    for step in range(1, STEPS + 1):
        input_ids, labels = sequences(task, "train", (step - 1) * BATCH_SIZE, step * BATCH_SIZE)
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, step / WARMUP_STEPS)
        batch = Batch(input_ids, None, labels)
        training_step(model, optimizer, batch, clip_norm=1.0, precision="fp32")
        if step % CHECK_EVERY == 0:
            best = max(best, accuracy(model, *unseen))
            if best >= SOLVED:
                break
    seconds = time.process_time() - start
    return {"solved": best >= SOLVED, "accuracy": round(best, 4), "steps": step, "cpu_s": round(seconds)}


@pytest.mark.learns
@pytest.mark.parametrize("entry", MIXING, ids=lambda entry: entry.name)
def test_learns_recall(entry: Entry, evidence: Callable[..., None]) -> None:
    found = learn(entry)
    evidence(entry.name, "learns", found)
    if entry.recall_limit:
        assert not found["solved"], "its card says that it can't, and it can"
    else:
        assert found["solved"], found
