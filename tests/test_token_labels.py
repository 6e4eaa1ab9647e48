"""A label per token through the harness: loss, gradients, padding, pooling, scoring and the record."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch
from harness import toy_protocol, work
from torch import nn
from torch.nn import functional as F

from lra_bench import registry
from lra_bench.building import build_model
from lra_bench.cell import resolve_cell
from lra_bench.data.batches import Batch, BatchSource
from lra_bench.data.columns import ragged_column
from lra_bench.data.prepare import prepare
from lra_bench.data.task import IGNORED_LABEL, Task, TaskSpec
from lra_bench.evaluation import evaluate
from lra_bench.optimization import classification_loss, training_step
from lra_bench.tasks.recall import Recall

CPU = torch.device("cpu")


class Echo(Task):
    """Rows of 2 to 9 tokens; every odd token is labelled with itself, at least one in a row."""

    shard_size = 50
    card = {"kind": "task", "summary": "Odd tokens name themselves."}  # noqa: RUF012

    def __init__(self) -> None:
        self.split_sizes = {"train": 100, "validation": 50, "test": 50}

    @property
    def spec(self):
        return TaskSpec(
            task="test:Echo",
            dataset="echo-generated",
            variant="short",
            num_classes=8,
            vocabulary=tuple("abcdefgh-"),
            pad_id=8,
            max_length=9,
            fixed_length=False,
            chance=1 / 4,
            token_labels=True,
        )

    def parameters(self):
        return {}

    def examples(self, split, start, stop):
        rows = []
        for index in range(start, stop):
            rng = np.random.default_rng([len(split), index])
            row = rng.integers(0, 8, rng.integers(2, 10)).astype(np.uint8)
            row[0] |= 1
            rows.append(row)
        tokens, offsets = np.concatenate(rows), np.cumsum([0, *map(len, rows)])
        labels = np.where(tokens % 2, tokens.astype(np.int32), np.int32(IGNORED_LABEL))
        return pa.table(
            {"input_ids": ragged_column(tokens, offsets), "label": ragged_column(labels, offsets)}
        )


class Same(nn.Module):
    """In place of a mixer: tokens stay apart."""

    def forward(self, x, mask=None):
        return x


@pytest.fixture
def source(tmp_path):
    return BatchSource(prepare(Echo(), "test", root=tmp_path), Echo().spec)


def build(name="transformer", spec=None, **changes):
    architecture = toy_protocol().settings("x").architecture.model_copy(update={"dropout": 0.0, **changes})
    torch.manual_seed(0)
    return build_model(registry.models.get(name), {}, architecture, spec or Echo().spec)


def by_hand(logits, labels):
    """Sum of -log p over labelled tokens, and their number, one token at a time."""
    total, count = 0.0, 0
    for row, row_labels in zip(logits.detach().double(), labels.tolist(), strict=True):
        for scores, label in zip(row, row_labels, strict=True):
            if label != IGNORED_LABEL:
                total += float(torch.logsumexp(scores, 0) - scores[label])
                count += 1
    return total, count


def test_the_loss_is_the_mean_over_labelled_tokens(source):
    batch = source.batch(np.arange(20))
    logits = torch.randn(*batch.labels.shape, 8, generator=torch.Generator().manual_seed(0))
    total, count = by_hand(logits, batch.labels)
    assert 20 < count < batch.labels.numel()
    assert float(classification_loss(logits, batch.labels)) == pytest.approx(total / count, rel=1e-5)
    assert float(classification_loss(logits, batch.labels, "sum")) == pytest.approx(total, rel=1e-5)


def test_no_gradient_at_tokens_without_a_label(source):
    batch = source.batch(np.arange(20))
    logits = torch.randn(*batch.labels.shape, 8, requires_grad=True)
    classification_loss(logits, batch.labels).backward()
    at = logits.grad.abs().sum(-1)
    asked = batch.labels != IGNORED_LABEL
    assert (at[~asked] == 0).all()
    assert (at[asked] > 0).all()
    assert (~asked & batch.mask).any(), "some real tokens have no label"


def test_a_training_step_is_the_update_by_hand(source):
    """One step of plain gradient descent, with the loss written out over the labelled tokens."""
    batch = source.batch(np.arange(10))
    model, other = build(), build()
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    training_step(model, optimizer, batch, clip_norm=None, precision="fp32")
    asked = batch.labels != IGNORED_LABEL
    log_p = other.train()(*batch.inputs).log_softmax(-1)[asked]
    (-log_p[torch.arange(len(log_p)), batch.labels[asked]].mean()).backward()
    for (name, moved), old in zip(model.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(moved, old - 0.1 * old.grad, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_padding_reaches_no_real_token(source, pooling):
    batch = source.batch(np.arange(12))
    model = build(pooling=pooling).eval()
    logits = model(*batch.inputs)
    assert logits.shape == (*batch.input_ids.shape, 8)
    wider = F.pad(batch.input_ids, (0, 9 - batch.input_ids.shape[1]), value=8).where(batch.mask, 3)
    torch.testing.assert_close(model(wider, batch.mask)[batch.mask], logits[batch.mask], rtol=1e-4, atol=1e-5)
    for row in range(12):
        length = int(batch.mask[row].sum())
        alone = model(batch.input_ids[row : row + 1, :length], None)[0]
        torch.testing.assert_close(alone, logits[row, :length], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_a_token_s_logits_stand_at_its_place(source, pooling):
    """Without mixing, changing token j changes the logits at j and nowhere else, CLS vector or not."""
    model = build(pooling=pooling).eval()
    for block in model.sequence_encoder.encoder.blocks:
        block.mixer = Same()
    ids = torch.arange(8)[None]
    before = model(ids, None)
    for place in range(8):
        changed = ids.clone()
        changed[0, place] = (place + 3) % 8
        moved = (model(changed, None) - before).abs().sum(-1)[0] > 1e-6
        assert moved.tolist() == [other == place for other in range(8)]


def test_cls_pooling_lets_the_vector_take_part(source):
    batch = source.batch(np.arange(5))
    model = build(pooling="cls")
    classification_loss(model(*batch.inputs), batch.labels).backward()
    assert model.sequence_encoder.embedding.cls.grad.abs().sum() > 0


def test_scoring_counts_labelled_tokens(source):
    model = build().eval()
    results = [evaluate(model, source, batch_size=size, device=CPU, precision="fp32") for size in (50, 7, 1)]
    labels, predictions, total = [], [], 0.0
    for index in range(50):
        batch = source.batch(np.array([index]))
        logits = model(*batch.inputs)
        asked = batch.labels[0] != IGNORED_LABEL
        labels += batch.labels[0, asked].tolist()
        predictions += logits[0, asked].argmax(-1).tolist()
        total += by_hand(logits, batch.labels)[0]
    for result in results:
        assert result.n == len(labels) > 50
        assert result.labels.tolist() == labels
        assert result.predictions.tolist() == predictions
        assert result.correct == sum(np.equal(labels, predictions))
        assert result.loss == pytest.approx(total / len(labels), rel=1e-4)
    limited = evaluate(model, source, batch_size=10, device=CPU, precision="fp32", limit=20)
    assert limited.labels.tolist() == labels[: limited.n]
    assert limited.n == sum(int((source.batch(np.array([i])).labels >= 0).sum()) for i in range(20))


def test_own_tokens_are_learnt_in_padded_batches(source):
    """Batches padded with a token that has no label: the control that reads each token gets them all."""
    model = build("own_token")
    optimizer = torch.optim.Adam(model.parameters(), lr=0.3)
    for step in range(20):
        training_step(model, optimizer, source.training_batch(16, 0, step), clip_norm=None, precision="fp32")
    assert evaluate(model, source, batch_size=16, device=CPU, precision="fp32").accuracy == 1.0
    assert torch.equal(model.table.weight[8], torch.zeros(8)), "padding taught nothing"


def test_an_ignored_label_is_torch_s_own():
    labels = torch.tensor([[IGNORED_LABEL, 1]])
    logits = torch.randn(1, 2, 3)
    torch.testing.assert_close(
        classification_loss(logits, labels), F.cross_entropy(logits[0, 1:], labels[0, 1:])
    )


def test_where_labels_lie_does_not_weigh(source):
    """A row with one label and one with many: each labelled token counts alike, not each row."""
    ids = torch.tensor([[1, 0, 0, 0], [1, 3, 5, 7]])
    labels = torch.where(ids % 2 == 1, ids, IGNORED_LABEL)
    logits = torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(1))
    losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten().clamp(min=0), reduction="none")
    weights = torch.tensor([[1, 0, 0, 0], [1, 1, 1, 1]]).flatten() / 5
    torch.testing.assert_close(classification_loss(logits, labels), (losses * weights).sum())
    batch = Batch(ids, None, labels)
    assert len(batch) == 2


@pytest.fixture
def recall_record(tmp_path, monkeypatch):
    monkeypatch.setenv("LRA_BENCH_CACHE", str(tmp_path / "cache"))
    protocol = toy_protocol(
        budget__steps=60,
        budget__evaluate_every=30,
        evaluation__validation_examples=20,
        evaluation__test_examples=30,
        evaluation__train_examples=10,
        evaluation__batch_size=7,
        data__train_examples=200,
    )
    small = {"length": 8, "num_pairs": 2, "num_keys": 2, "num_values": 2, "num_noise": 1}
    cell = resolve_cell(
        "own_token",
        "recall",
        protocol=protocol,
        device="cpu",
        metrics=("accuracy",),
        assignments={f"task.{name}": value for name, value in small.items()},
    )
    return work(cell, tmp_path / "results"), Recall(**small)


def test_a_record_counts_labelled_tokens_in_every_split(recall_record):
    record, _ = recall_record
    assert record.status == "ok", record.reason
    accuracy = record.accuracy
    counts = {name: getattr(accuracy, name).n for name in ("best", "last", "validation", "train")}
    # Two queries in each of the 30, 20 and 10 sequences; the last in whole batches of 7.
    assert counts == {"best": 60, "last": 60, "validation": 40, "train": 28}
    for name in counts:
        score = getattr(accuracy, name)
        assert score.accuracy == score.correct / score.n <= 1
    at_best = next(point for point in accuracy.curve if point.step == accuracy.best.step)
    assert accuracy.validation.accuracy == pytest.approx(at_best.validation_accuracy)


def test_a_record_says_what_the_data_are(recall_record):
    record, task = recall_record
    assert record.task.chance == task.spec.chance == 0.5
    assert record.task.variant == task.spec.variant
    assert record.task.remarks == list(task.spec.remarks)
    assert record.task.splits["test"].examples == 30
