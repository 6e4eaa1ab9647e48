import hashlib
import json
import logging
import os
import struct
import subprocess
import sys
import threading

import numpy as np
import pyarrow as pa
import pytest
from datasets import arrow_writer

from lra_bench import files
from lra_bench.data.cache import data_root, reading_from, split_folder
from lra_bench.data.columns import ragged_column
from lra_bench.data.prepare import prepare
from lra_bench.errors import DataError, OptionError


def expected_fingerprint(task, split, count):
    """The documented bytes, example by example."""
    hasher = hashlib.sha256()
    for i in range(count):
        hasher.update(struct.pack("<q", task.label(i)))
        for index in (i, i + 1) if task.paired else (i,):
            tokens = task.tokens(split, index)
            code = "B" if task.dtype == "uint8" else "i"
            hasher.update(struct.pack(f"<q{len(tokens)}{code}", len(tokens), *tokens.tolist()))
    return hasher.hexdigest()


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "int32"])
def test_examples_and_fingerprint_are_as_documented(counting_task, tmp_path, fixed, paired, dtype):
    task = counting_task(fixed=fixed, paired=paired, dtype=dtype)
    prepared = prepare(task, "train", 230, root=tmp_path)
    assert prepared.fingerprint == expected_fingerprint(task, "train", 230)
    assert prepared.num_examples == len(prepared.dataset) == 230
    assert prepared.lengths.tolist() == [task.length(i) for i in range(230)]
    for i in (0, 99, 100, 229):
        row = prepared.dataset[i]
        assert row["input_ids"] == task.tokens("train", i).tolist()
        assert row["label"] == task.label(i)
        if paired:
            assert row["input_ids_2"] == task.tokens("train", i + 1).tolist()


def test_fingerprint_depends_neither_on_workers_nor_on_shards(counting_task, tmp_path):
    fingerprints = {
        prepare(
            counting_task(shard_size=size), "train", workers=workers, root=tmp_path / f"{size}{workers}"
        ).fingerprint
        for size, workers in [(100, 1), (100, 2), (100, 4), (7, 2), (1_050, 1), (5_000, 1)]
    }
    assert fingerprints == {expected_fingerprint(counting_task(), "train", 1_050)}


def test_memory_of_the_file_is_used_without_a_copy(counting_task, tmp_path):
    before = pa.total_allocated_bytes()
    prepared = prepare(counting_task(), "train", 1_050, root=tmp_path)
    prepared = prepare(counting_task(), "train", 1_050, root=tmp_path)
    column = prepared.tokens()
    assert not column[3].flags.writeable
    assert not column[3].flags.owndata
    assert pa.total_allocated_bytes() - before < 100_000


def test_a_larger_count_reuses_the_shards(counting_task, tmp_path):
    task = counting_task()
    prepare(task, "train", 150, root=tmp_path, workers=1)
    assert task.built == [0, 100]
    prepared = prepare(task, "train", 320, root=tmp_path, workers=1)
    assert task.built == [0, 100, 200, 300]
    assert prepared.fingerprint == expected_fingerprint(task, "train", 320)
    assert prepare(task, "train", 5, root=tmp_path).fingerprint == expected_fingerprint(task, "train", 5)
    assert len(task.built) == 4


def test_splits_of_other_sizes_share_all_but_the_last_shard(counting_task, tmp_path):
    small = counting_task(sizes={"train": 130, "validation": 1, "test": 1})
    large = counting_task(sizes={"train": 260, "validation": 1, "test": 1})
    prepare(small, "train", root=tmp_path)
    for _ in range(2):
        assert prepare(large, "train", root=tmp_path).fingerprint == expected_fingerprint(large, "train", 260)
        assert prepare(small, "train", root=tmp_path).fingerprint == expected_fingerprint(small, "train", 130)
    assert sorted(large.built) == [100, 200]
    assert sorted(small.built) == [0, 100]


def test_an_interrupted_preparation_goes_on(counting_task, tmp_path):
    task = counting_task()
    task.fail_at = 500
    with pytest.raises(RuntimeError, match="power"):
        prepare(task, "train", root=tmp_path, workers=1)
    folder = split_folder(task, "train", tmp_path)
    kept = {int(path.stem.split("-")[1]) * 100 for path in folder.glob("*.json")}
    assert {0, 100, 200, 300, 400} <= kept < set(range(0, 1_050, 100))
    assert not [name for name in os.listdir(folder) if name.endswith(".tmp")]
    task.fail_at, task.built = None, []
    assert prepare(task, "train", root=tmp_path).fingerprint == expected_fingerprint(task, "train", 1_050)
    assert set(task.built) == set(range(0, 1_050, 100)) - kept


def damage_every_way(path):
    """(what, bytes) of a damaged shard. Examples lie in the second half, of which every byte is tried."""
    whole = path.read_bytes()
    yield "empty", b""
    yield "half", whole[: len(whole) // 2]
    yield "garbage", b"\x00" * len(whole)
    half = len(whole) // 2
    for position in [*range(0, half, 7), *range(half, len(whole))]:
        yield position, whole[:position] + bytes([whole[position] ^ 0x10]) + whole[position + 1 :]


def test_any_flipped_byte_is_noticed_and_made_anew(counting_task, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(files, "_flush", lambda path: None)  # a thousand flushes to the disk take long
    task = counting_task(sizes={"train": 3, "validation": 1, "test": 1})
    expected = prepare(task, "train", root=tmp_path).fingerprint
    folder = split_folder(task, "train", tmp_path)
    (path,) = folder.glob("*.arrow")
    whole = path.read_bytes()
    rebuilt = 0
    for what, damaged in damage_every_way(path):
        path.write_bytes(damaged)
        caplog.clear()
        assert prepare(task, "train", root=tmp_path, workers=1).fingerprint == expected, what
        # Bytes that are no example's content (padding, names of the schema's metadata) may differ.
        if caplog.records:
            rebuilt += 1
            assert "damaged" in caplog.text
            assert str(path) in caplog.text
    # At the least: 3 labels and their tokens.
    assert rebuilt >= 3 * 8 + sum(map(task.length, range(3)))
    path.write_bytes(whole)


def test_the_damaged_shard_alone_is_made_anew(counting_task, tmp_path, caplog):
    task = counting_task()
    expected = prepare(task, "train", root=tmp_path).fingerprint
    (folder,) = {path.parent for path in tmp_path.rglob("*.arrow")}
    (folder / "shard-00003.arrow").write_bytes(b"")
    (folder / "shard-00005.json").write_text("{")
    (folder / "shard-00007.json").unlink()
    task.built.clear()
    with caplog.at_level(logging.WARNING):
        assert prepare(task, "train", root=tmp_path).fingerprint == expected
    assert sorted(task.built) == [300, 500, 700]
    assert sorted(record.args[0].name for record in caplog.records) == [
        "shard-00003.arrow",
        "shard-00005.arrow",
    ]


def test_a_generator_that_changed_without_a_new_version_is_reported(counting_task, tmp_path, caplog):
    prepare(counting_task(), "test", root=tmp_path)
    (path,) = tmp_path.rglob("*.arrow")
    path.write_bytes(b"")
    prepare(counting_task(shift=1), "test", root=tmp_path)
    assert "generator_version" in caplog.text


def test_progress_counts_examples_to_the_end(counting_task, tmp_path):
    calls = []
    prepare(counting_task(), "train", 250, root=tmp_path, progress=lambda *call: calls.append(call))
    assert calls == [(100, 250), (200, 250), (250, 250)]


def test_warm_up_comes_once_before_the_first_examples_and_only_if_needed(counting_task, tmp_path):
    task = counting_task()
    prepare(task, "train", root=tmp_path, workers=4)
    assert task.warmed == 1
    again = counting_task()
    prepare(again, "train", root=tmp_path)
    assert again.warmed == 0


def test_threads_see_where_sources_are(counting_task, tmp_path):
    class Asking(counting_task):
        def examples(self, split, start, stop):
            assert threading.current_thread() is not threading.main_thread()
            assert data_root() == tmp_path / "sources"
            return super().examples(split, start, stop)

    with reading_from(tmp_path / "sources"):
        prepare(Asking(), "test", root=tmp_path)


@pytest.mark.parametrize(("count", "workers", "name"), [(0, 1, "count"), (-1, 1, "count"), (1, 0, "workers")])
def test_counts_below_one_are_refused(counting_task, tmp_path, count, workers, name):
    with pytest.raises(OptionError, match=name):
        prepare(counting_task(), "test", count, workers=workers, root=tmp_path)


def test_counts_beyond_the_split_are_refused(counting_task, tmp_path):
    with pytest.raises(DataError, match="31 test examples were asked for, the split has 30"):
        prepare(counting_task(), "test", 31, root=tmp_path)


def broken(column, value):
    table = {
        "input_ids": ragged_column(np.arange(60, dtype=np.uint8) % 50, np.arange(31) * 2),
        "label": pa.array(np.arange(30) % 7),
    }
    return pa.table({**table, column: value})


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (broken("label", pa.array(np.arange(30) % 7 - 1)), "labels must lie in 0..6"),
        (broken("label", pa.array(np.arange(30) % 8)), "labels must lie in 0..6"),
        (broken("input_ids", ragged_column(np.full(30, 51, np.uint8), np.arange(31))), "0..50"),
        (
            broken("input_ids", ragged_column(np.ones(29, np.uint8), np.minimum(np.arange(31), 29))),
            "1..40",
        ),
        (broken("input_ids", ragged_column(np.full(41 * 30, 1, np.uint8), np.arange(31) * 41)), "1..40"),
        (broken("label", pa.array(np.arange(30) % 7)).slice(1), "expected 30 rows, found 29"),
        (broken("label", pa.array(np.arange(30) % 7)).drop(["label"]), "columns"),
    ],
)
def test_a_task_that_breaks_its_contract_is_stopped(counting_task, tmp_path, table, words):
    task = counting_task()
    task.examples = lambda split, start, stop: table
    with pytest.raises(DataError, match=words):
        prepare(task, "test", root=tmp_path)
    assert not list(tmp_path.rglob("*.*"))


def test_a_cache_that_cannot_be_written_is_named(counting_task, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(DataError, match=r"Cannot write .*cache"):
        prepare(counting_task(), "test", root=tmp_path / "cache")


def test_a_disk_that_fills_up_leaves_no_final_file(counting_task, tmp_path, monkeypatch):
    class FullDisk(arrow_writer.ArrowWriter):
        def write_table(self, *args, **kwargs):
            super().write_table(*args, **kwargs)
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(arrow_writer, "ArrowWriter", FullDisk)
    with pytest.raises(DataError, match=r"Cannot write .*shard-00000.*No space left"):
        prepare(counting_task(), "test", root=tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_duplicates_within_and_between_splits_are_counted(counting_task, tmp_path):
    task = counting_task(fixed=True)  # 50 different examples
    prepared = prepare(task, "train", 230, root=tmp_path)
    other = prepare(task, "test", 10, root=tmp_path)
    assert prepared.num_duplicates == 180
    assert other.num_duplicates == 0
    assert prepared.num_shared_with(other) == 10
    assert prepare(counting_task(), "train", 40, root=tmp_path).num_duplicates == 0


def test_pairs_that_divide_the_same_tokens_differently_are_no_duplicates(counting_task, tmp_path):
    class Divided(counting_task):
        """(1), (2, 1) and (1, 2), (1)."""

        def column(self, split, start, stop):
            values, middle = ([1, 1, 2], 1) if start == 0 else ([2, 1, 1], 2)
            return ragged_column(np.array(values, np.uint8), np.array([0, middle, 3]))

    task = Divided(paired=True, sizes={"train": 2, "validation": 1, "test": 1})
    prepared = prepare(task, "train", root=tmp_path)
    assert prepared.num_duplicates == 0


SCRIPT = """
import os, sys, time
from pathlib import Path
from lra_bench.data.prepare import prepare
from lra_bench.tasks.listops import ListOps

class Slow(ListOps):
    shard_size = 20
    def examples(self, split, start, stop):
        time.sleep(0.02)
        if start == int(sys.argv[2]):
            os._exit(9)
        return super().examples(split, start, stop)

task = Slow(min_length=16, max_length=64, train_size=390)
print(prepare(task, "train", root=Path(sys.argv[1]), workers=2).fingerprint)
"""


def start(root, exit_at=-1):
    command = [sys.executable, "-P", "-c", SCRIPT, str(root), str(exit_at)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_killed_and_simultaneous_processes_do_no_harm(tmp_path):
    killed = start(tmp_path / "a", exit_at=200)
    killed.communicate(timeout=120)
    assert killed.returncode == 9
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("shard-*.json")}
    assert len(kept) >= 8
    processes = [start(tmp_path / "a"), start(tmp_path / "a"), start(tmp_path / "b")]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    assert len({fingerprint for fingerprint, _ in outputs}) == 1
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    records = [json.loads(path.read_text()) for path in sorted((tmp_path / "a").rglob("shard-*.json"))]
    assert [record["examples"] for record in records] == [20] * 19 + [10]
