import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from references import listops_evaluator, listops_process

from lra_bench.data.cache import parameter_fingerprint, reading_from
from lra_bench.data.prepare import prepare
from lra_bench.errors import DataError, OptionError
from lra_bench.tasks.listops import SPLIT_CLASSES, ListOps
from lra_bench.tasks.listops_tokens import PAD, VOCABULARY, decode, encode
from lra_bench.tasks.random_stream import stream_state

FIXTURE = Path(__file__).parents[1] / "fixtures" / "listops_basic.tsv.gz"
# Golden: data under a published name never change. A change needs a new generator_version.
FIRST_200 = "38fd0c2b4f928c619ed3e2b81af806bea417b3188b029958751f2ad3378b2e82"
VOCABULARY_SHA256 = "6831da3000ad3638a811e234c64069d8ff7dc811f78c62f6db645af448100982"


def test_defaults_are_the_benchmark_s():
    task = ListOps()
    spec = task.spec
    assert task.split_sizes == {"train": 96_000, "validation": 2_000, "test": 2_000}
    assert (spec.task, spec.dataset) == ("listops", "listops-generated")
    assert spec.variant == "length501-1999-depth10-args10"
    assert (spec.num_classes, spec.vocab_size, spec.max_length, spec.chance) == (10, 16, 1_999, 0.1)
    assert spec.vocabulary[spec.pad_id] == "[PAD]"
    assert not spec.fixed_length
    assert not spec.paired


def test_prepared_examples_are_expressions_and_their_values(tmp_path):
    prepared = prepare(ListOps(), "validation", 200, root=tmp_path)
    for row, length in zip(prepared.dataset, prepared.lengths, strict=True):
        assert len(row["input_ids"]) == length
        assert 500 < length < 2_000
        assert listops_evaluator.evaluate(decode(row["input_ids"])) == row["label"]
    assert prepared.num_duplicates == 0


def test_examples_are_pinned(tmp_path):
    assert prepare(ListOps(), "train", 200, root=tmp_path).fingerprint == FIRST_200
    assert ListOps().spec.vocabulary_sha256 == VOCABULARY_SHA256


def test_a_fresh_process_with_another_hash_seed_has_the_same_ids_and_examples(tmp_path):
    """In the released code the ids followed Python's string hashes, so a reloaded model saw other tokens."""
    script = (
        "import json; from pathlib import Path; from lra_bench.data.prepare import prepare;"
        "from lra_bench.tasks.listops import ListOps; task = ListOps();"
        f"prepared = prepare(task, 'train', 200, root=Path({str(tmp_path)!r}));"
        "print(json.dumps([task.spec.vocabulary, task.spec.vocabulary_sha256, prepared.fingerprint,"
        " prepared.dataset[0]['input_ids']]))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    vocabulary, vocabulary_sha256, fingerprint, first = json.loads(done.stdout)
    assert tuple(vocabulary) == VOCABULARY
    assert vocabulary_sha256 == VOCABULARY_SHA256
    assert fingerprint == FIRST_200
    assert first == ListOps().examples("train", 0, 1).column("input_ids")[0].as_py()


def test_one_and_two_workers_make_the_same_data(tmp_path):
    task = ListOps(train_size=5_001)
    prepared = [prepare(task, "train", workers=n, root=tmp_path / str(n)) for n in (1, 2)]
    assert prepared[0].fingerprint == prepared[1].fingerprint
    assert prepared[0].num_examples == 5_001


@pytest.mark.parametrize(("shortest", "longest"), [(4, 4), (4, 8), (9, 32), (65, 256)])
def test_no_expression_is_in_two_splits_however_short(tmp_path, shortest, longest):
    def task(seed):
        options = {"min_length": shortest - 1, "max_length": longest + 1, "seed": seed}
        return ListOps(**options, train_size=3_000, validation_size=500, test_size=500)

    splits = [prepare(task(0), split, root=tmp_path) for split in SPLIT_CLASSES]
    splits.append(prepare(task(1), "test", root=tmp_path))  # of another seed
    train, validation, test, other_test = splits
    for a, b in [(train, validation), (train, test), (validation, test), (train, other_test)]:
        assert a.num_shared_with(b) == 0
    assert train.lengths.min() >= shortest
    assert train.lengths.max() <= longest
    if longest <= 8:
        assert train.num_duplicates > 500  # there are not as many expressions
        assert test.num_shared_with(other_test) > 0
    if longest == 256:
        assert train.num_duplicates == 0


def test_splits_are_where_the_hash_says():
    task = ListOps(min_length=8, max_length=33)
    for split, (first, stop) in SPLIT_CLASSES.items():
        for ids in task.examples(split, 0, 100).column("input_ids").to_pylist():
            code = listops_process.fnv1a(ids)
            assert first <= int(stream_state(np.uint64(code), 0)) >> 61 < stop


@pytest.mark.parametrize("length", [4, 32, 64, 256, 1_999, 8_192])
def test_options_for_length_give_that_longest_length(length):
    task = ListOps(**ListOps.options_for_length(length, {}))
    assert task.spec.max_length == length
    task.examples("test", 0, 5)
    if length == 1_999:
        assert task.parameters() == ListOps().parameters()


def test_the_longest_length_is_reached():
    lengths = ListOps(**ListOps.options_for_length(32, {})).examples("train", 0, 2_000)["input_ids"]
    assert max(map(len, lengths)) == 32


def test_options_for_length_keep_what_is_set():
    options = ListOps.options_for_length(100, {"min_length": 90, "seed": 3, "max_length": 7})
    assert options == {"min_length": 90, "seed": 3, "max_length": 101}


@pytest.mark.parametrize(
    ("length", "options"),
    [(3, {}), (0, {}), (100, {"min_length": 100}), (5_000, {"max_depth": 4}), (1_000_000, {})],
)
def test_lengths_that_cannot_be_are_refused(length, options):
    with pytest.raises(OptionError):
        ListOps.options_for_length(length, options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_depth": 1}, "max_depth=1.*Raise max_depth"),
        ({"max_depth": 4}, "Raise max_depth"),
        ({"max_args": 2}, "Raise max_depth or max_args"),
        ({"min_length": 4, "max_length": 6, "max_args": 2}, "widen the range"),
        ({"min_length": 0}, "min_length=0"),
        ({"min_length": 10, "max_length": 11}, "max_length=11"),
        ({"max_args": 1}, "max_args=1"),
        ({"max_depth": 0}, "max_depth=0"),
        ({"seed": -1}, "seed=-1"),
        ({"train_size": 0}, "train_size=0"),
        ({"source": "elsewhere"}, "source='elsewhere'"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_any_work(options, words):
    with pytest.raises(OptionError, match=words):
        ListOps(**options)


def test_every_setting_that_shapes_examples_is_in_the_fingerprint():
    tasks = [
        ListOps(),
        ListOps(min_length=400),
        ListOps(max_length=1_900),
        ListOps(max_depth=9),
        ListOps(max_args=9),
        ListOps(seed=1),
    ]
    assert len({parameter_fingerprint(task) for task in tasks}) == len(tasks)
    assert parameter_fingerprint(ListOps(test_size=20_000)) == parameter_fingerprint(tasks[0])


def test_inspectors_show_an_example():
    inspectors = ListOps().inspectors()
    ids = [*encode("[MAX 4 [SM 2 9 ] ]"), PAD, PAD]
    assert inspectors["decode"](ids) == "[MAX 4 [SM 2 9 ] ]"
    assert inspectors["evaluate"](np.array(ids[:-2], np.uint8)) == 4
    assert inspectors["with_parentheses"](ids[:-2]) == "( ( ( [MAX 4 ) ( ( ( [SM 2 ) 9 ) ] ) ) ] )"


def official(folder, compressed=True):
    folder.mkdir(parents=True)
    for name in ("basic_train", "basic_val", "basic_test"):
        if compressed:
            shutil.copy(FIXTURE, folder / f"{name}.tsv.gz")
        else:
            (folder / f"{name}.tsv").write_bytes(gzip.decompress(FIXTURE.read_bytes()))


SIZES = {"train_size": 12, "validation_size": 12, "test_size": 12}


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("place", ["listops-1000", "lra_release/lra_release/listops-1000", "."])
def test_official_files_are_read_where_the_release_has_them(tmp_path, place, compressed):
    official(tmp_path / "data" / place, compressed)
    with reading_from(tmp_path / "data"):
        task = ListOps(source="official", **SIZES)
    prepared = prepare(task, "validation", root=tmp_path / "cache")
    assert task.spec.dataset == "listops-official"
    assert task.spec.variant == "basic"
    assert task.spec.vocabulary == ListOps().spec.vocabulary
    assert prepared.num_examples == 12
    for row in prepared.dataset:
        assert listops_evaluator.evaluate(decode(row["input_ids"])) == row["label"]


def test_other_official_files_are_other_data(tmp_path):
    official(tmp_path / "a")
    official(tmp_path / "b")
    first = (tmp_path / "b" / "basic_test.tsv.gz").read_bytes()
    (tmp_path / "b" / "basic_test.tsv.gz").write_bytes(gzip.compress(gzip.decompress(first)[:-30]))
    fingerprints = []
    for name in ("a", "b"):
        with reading_from(tmp_path / name):
            fingerprints.append(parameter_fingerprint(ListOps(source="official", **SIZES)))
    assert fingerprints[0] != fingerprints[1]


def test_official_files_that_are_missing_or_short_are_explained(tmp_path, monkeypatch):
    monkeypatch.delenv("LRA_BENCH_DATA", raising=False)
    with pytest.raises(DataError, match="LRA_BENCH_DATA"):
        ListOps(source="official")
    official(tmp_path / "listops-1000")
    with reading_from(tmp_path):
        task = ListOps(source="official")
        with pytest.raises(DataError, match=r"12 rows, expected 2,000.*validation_size=12"):
            prepare(task, "validation", root=tmp_path / "cache")
        tight = ListOps(source="official", max_length=600, min_length=100, **SIZES)
        with pytest.raises(DataError, match="Set max_length to at least"):
            prepare(tight, "validation", root=tmp_path / "cache")
        (tmp_path / "listops-1000" / "basic_val.tsv.gz").unlink()
        with pytest.raises(DataError, match=r"Expected .*basic_val\.tsv"):
            ListOps(source="official")
    with pytest.raises(OptionError, match="own lengths"):
        ListOps.options_for_length(100, {"source": "official"})
