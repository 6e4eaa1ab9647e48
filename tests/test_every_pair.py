"""Every model on every task, end to end: data, batch, a training step. None is only in a table."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from harness import toy_protocol
from small_data import write_small_data

from lra_bench import registry
from lra_bench.building import build_model
from lra_bench.cell import resolve_cell
from lra_bench.data.batches import BatchSource
from lra_bench.data.prepare import prepare
from lra_bench.evaluation import evaluate
from lra_bench.optimization import build_optimizer, training_step

OPTIONS = {
    "listops": {"min_length": 16, "max_length": 64},
    "text": {"max_length": 96},
    "retrieval": {"max_length": 96},
    "pathx": {"size": 32},  # the same code with fewer pixels; its 16,384 tokens are run elsewhere
    "recall": {"length": 128},
}
COUNT = 4

PAIRS = [
    (task.name, model.name)
    for task in registry.tasks
    for model in registry.models
    if not model.tasks or task.name in model.tasks
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory):
    root = tmp_path_factory.mktemp("small")
    write_small_data(root / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LRA_BENCH_DATA", str(root / "data"))
        patch.setenv("LRA_BENCH_CACHE", str(root / "cache"))
        yield root


WIDTH = 16
"""The least that every variant can have: GroupBERT's groups are of 16 channels."""


def test_every_task_has_pairs() -> None:
    assert {task for task, _ in PAIRS} == set(registry.tasks.names())


@pytest.mark.parametrize(("task", "model"), PAIRS)
def test_a_step_on_real_batches(task: str, model: str, data) -> None:
    assignments = {f"task.{name}": value for name, value in OPTIONS.get(task, {}).items()}
    assignments["architecture.dim"] = WIDTH
    cell = resolve_cell(model, task, protocol=toy_protocol(), device="cpu", assignments=assignments)
    entry = cell.model_entry
    built = cell.build_task()
    splits = {split: prepare(built, split, COUNT) for split in ("train", "test")}
    if entry.kind == "estimator":
        estimator = entry.load()(built.spec, **cell.model_options)
        estimator.fit(splits["train"])
        scores = estimator.log_probabilities(splits["test"])
        assert scores.shape == (COUNT, built.spec.num_classes)
        assert np.allclose(np.exp(scores).sum(axis=1), 1)
        return
    torch.manual_seed(0)
    built_model = build_model(entry, cell.model_options, cell.settings.architecture, built.spec)
    optimizer = build_optimizer(built_model, cell.settings.optimizer, torch.device("cpu"))
    sources = {split: BatchSource(prepared, built.spec) for split, prepared in splits.items()}
    before = [parameter.detach().clone() for parameter in built_model.parameters()]
    batch = sources["train"].training_batch(COUNT, seed=0, step=0)
    loss = training_step(built_model, optimizer, batch, clip_norm=1.0, precision="fp32")
    assert torch.isfinite(loss)
    changed = [not torch.equal(old, new) for old, new in zip(before, built_model.parameters(), strict=True)]
    assert any(changed)
    result = evaluate(
        built_model, sources["test"], batch_size=2, device=torch.device("cpu"), precision="fp32"
    )
    assert result.n >= COUNT
    assert np.isfinite(result.loss)
    assert set(result.predictions.tolist()) <= set(range(built.spec.num_classes))
