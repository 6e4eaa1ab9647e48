import numpy as np
import pytest
import torch

from lra_bench.data import loading
from lra_bench.data.cache import data_root
from lra_bench.data.loading import load_task
from lra_bench.errors import DataError, OptionError, UsageError

NAME = "lra_bench.tasks.listops:ListOps"
SHORT = {"min_length": 8, "max_length": 33, "train_size": 130, "validation_size": 20, "test_size": 10}


@pytest.fixture
def short(tmp_path):
    return load_task(NAME, cache_dir=tmp_path, **SHORT)


def test_splits_are_datasets(short):
    assert [len(split) for split in (short.train, short.validation, short.test)] == [130, 20, 10]
    assert short.train.column_names == ["input_ids", "label"]
    assert len(short.dataset("train", 7)) == 7
    assert short.spec.max_length == 32
    assert short.options["max_length"] == 33
    assert short.options["max_depth"] == 10
    assert short.entry.kind == "task"


def test_splits_are_prepared_on_first_use_and_once(short, tmp_path, monkeypatch):
    assert not list(tmp_path.iterdir())
    short.prepared("test")
    monkeypatch.setattr(loading, "prepare", None)
    assert short.prepared("test") is short.prepared("test", 10)


def test_a_loader_is_enough_for_a_trainer(short):
    loader = short.loader("train", 32)
    vocab_size, num_classes, pad_id = short.spec.vocab_size, short.spec.num_classes, short.spec.pad_id
    model = torch.nn.EmbeddingBag(vocab_size, num_classes, padding_idx=pad_id)
    seen = 0
    for batch in loader:
        torch.nn.functional.cross_entropy(model(batch.input_ids), batch.labels).backward()
        seen += len(batch)
    assert seen == 130
    assert len(loader) == 5


def test_training_is_shuffled_anew_each_epoch_and_evaluation_never(short):
    def labels(loader):
        return torch.cat([batch.labels for batch in loader]).tolist()

    in_order = short.train["label"]
    loader = short.loader("train", 32, seed=3)
    first, second = labels(loader), labels(loader)
    assert first != second
    assert sorted(first) == sorted(second) == sorted(in_order)
    again = short.loader("train", 32, seed=3)
    again.epoch = 1
    assert labels(again) == second
    assert labels(short.loader("train", 32, seed=4)) != first
    assert labels(short.loader("train", 32, shuffle=False)) == list(in_order)
    for _ in range(2):
        assert labels(short.loader("test", 4)) == list(short.test["label"])


def test_loader_options_reach_the_batches(short):
    (batch,) = short.loader("test", 10, padding="max", max_length=20)
    assert batch.input_ids.shape == (10, 20)
    (batch,) = short.loader("test", 10, count=3, multiple_of=32)
    assert batch.input_ids.shape == (3, 32)


def test_the_data_folder_is_the_one_given(tmp_path, monkeypatch):
    monkeypatch.delenv("LRA_BENCH_DATA", raising=False)
    with pytest.raises(DataError, match="LRA_BENCH_DATA"):
        load_task(NAME, source="official")
    with pytest.raises(DataError, match=str(tmp_path)):
        load_task(NAME, source="official", data_dir=tmp_path)
    assert data_root() is None


def test_mistakes_are_explained(short):
    with pytest.raises(UsageError, match="max_length"):
        load_task(NAME, max_lenght=3)
    with pytest.raises(OptionError, match="max_args"):
        load_task(NAME, max_args=1)
    with pytest.raises(UsageError, match="Did you mean test"):
        short.dataset("tset")
    with pytest.raises(DataError, match="11 test examples"):
        short.dataset("test", 11)
    with pytest.raises(OptionError, match="batch_size"):
        short.loader("test", 0)


def test_examples_read_through_the_library_are_those_of_the_batches(short):
    (batch,) = short.loader("test", 10)
    for row, ids, keep in zip(short.test, batch.input_ids, batch.mask, strict=True):
        assert row["input_ids"] == ids[keep].tolist()
    assert np.array_equal(short.prepared("test").lengths, batch.mask.sum(1).numpy())
