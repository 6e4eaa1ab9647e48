import gzip
from pathlib import Path

import numpy as np
import pytest
from references import listops_evaluator

from lra_bench.errors import DataError
from lra_bench.tasks.listops import ListOps, evaluate_ids
from lra_bench.tasks.listops_tokens import VOCABULARY, decode, encode, with_parentheses
from lra_bench.tasks.listops_tsv import TsvFile, write_tsv

OFFICIAL = Path(__file__).parents[1] / "fixtures" / "listops_basic.tsv.gz"


def read_all(path):
    """[(ids, value), ...]"""
    opened = TsvFile(path)
    tokens, offsets, values = opened.read(0, len(opened))
    return [(tokens[offsets[i] : offsets[i + 1]], int(values[i])) for i in range(len(opened))]


def check_file(path, tmp_path):
    """Reads an official file as Python would and writes the same bytes."""
    with gzip.open(path) as stream:
        raw = stream.read()
    header, *lines = raw.decode().split("\r\n")
    assert header == "Source\tTarget"
    assert lines.pop() == ""
    examples = read_all(path)
    assert len(examples) == len(lines)
    for (ids, value), line in zip(examples, lines, strict=True):
        source, target = line.split("\t")
        assert decode(ids).split() == source.replace("(", "").replace(")", "").split()
        assert value == int(target) == listops_evaluator.evaluate(source)
        assert with_parentheses(ids) == source
    write_tsv(tmp_path / "again.tsv", examples)
    assert (tmp_path / "again.tsv").read_bytes() == raw
    return len(lines)


def test_official_rows_round_trip_to_the_byte(tmp_path):
    assert check_file(OFFICIAL, tmp_path) == 12


def test_the_whole_official_sample_round_trips_to_the_byte(reference_data, tmp_path):
    assert check_file(reference_data / "listops_reference" / "basic_sample.tsv.gz", tmp_path) == 400


def test_generated_examples_round_trip(tmp_path):
    table = ListOps(min_length=1, max_length=100).examples("train", 0, 300)
    ids = [np.array(row, dtype=np.uint8) for row in table.column("input_ids").to_pylist()]
    labels = table.column("label").to_pylist()
    write_tsv(tmp_path / "a.tsv", zip(ids, labels, strict=True))
    again = read_all(tmp_path / "a.tsv")
    assert [value for _, value in again] == labels
    for (read, _), written in zip(again, ids, strict=True):
        assert np.array_equal(read, written)
        text = with_parentheses(written)
        assert text == listops_evaluator.official_text(listops_evaluator.parse(decode(written)))
        assert np.array_equal(encode(text), written)
    with gzip.open(tmp_path / "a.tsv.gz", "wb") as stream:
        stream.write((tmp_path / "a.tsv").read_bytes())
    assert len(read_all(tmp_path / "a.tsv.gz")) == 300


def test_parts_of_a_file_are_read_alone():
    whole = read_all(OFFICIAL)
    tokens, offsets, values = TsvFile(OFFICIAL).read(3, 5)
    assert np.array_equal(tokens, np.concatenate([whole[3][0], whole[4][0]]))
    assert offsets.tolist() == [0, len(whole[3][0]), len(tokens)]
    assert values.tolist() == [whole[3][1], whole[4][1]]


@pytest.mark.parametrize("ending", ["\n", "\r\n", ""])
def test_line_ends_and_a_missing_last_one_are_fine(tmp_path, ending):
    line_end = ending or "\n"
    path = tmp_path / "a.tsv"
    path.write_bytes(f"Source\tTarget{line_end}[MAX 1 2 ]\t2{line_end}7\t7{ending}".encode())
    assert [(decode(ids), value) for ids, value in read_all(path)] == [("[MAX 1 2 ]", 2), ("7", 7)]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("[MAX 1 2 ] 2", "no tab"),
        ("[MAX 1 2 ]\t1", "does not have the value"),
        ("[MED 1 2 ]\t2", "does not have the value"),
        ("[MAX 1 2 ]\t12", "not a single digit"),
        ("[MAX 1 2 ]\t", "not a single digit"),
        ("[MAX 1 2 ]\tx", "not a single digit"),
        ("[MAX 1 2 ]\t2\t2", "not a single digit"),
        ("[AVG 1 2 ]\t1", "a token other than"),
        ("[MAX 1 12 ]\t2", "a token other than"),
        ("[MAXX 1 2 ]\t2", "a token other than"),
        ("[MAX 1 2 X\t2", "a token other than"),
        ("MAX 1 2 ]\t2", "a token other than"),
        ("[MAX 1 2\t2", "brackets"),
        ("[MAX 1 2 ] ]\t2", "brackets"),
        ("1 ]\t1", "brackets"),
        ("1 2\t2", "brackets"),
        ("[MAX ]\t2", "brackets"),
        ("[MAX 1 2 ] 3\t2", "brackets"),
        ("\t2", "brackets"),
        ("", "no tab"),
    ],
)
def test_wrong_rows_are_named_by_line(tmp_path, row, words):
    path = tmp_path / "basic_val.tsv"
    path.write_text(f"Source\tTarget\n[MIN 1 2 ]\t1\n{row}\n[MIN 1 2 ]\t1\n")
    with pytest.raises(DataError, match=rf"basic_val\.tsv, line 3: .*{words}"):
        read_all(path)
    assert len(TsvFile(path).read(0, 1)[2]) == 1
    with pytest.raises(DataError, match="line 3"):
        TsvFile(path).read(1, 3)


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"[MAX 1 2 ]\t2\n", b"Source,Target\n", b"Source\tTarget\tX\n"]
)
def test_other_headers_are_refused(tmp_path, content):
    (tmp_path / "a.tsv").write_bytes(content)
    with pytest.raises(DataError, match="line 1: expected the header"):
        TsvFile(tmp_path / "a.tsv")


def test_a_file_with_a_header_alone_is_empty(tmp_path):
    (tmp_path / "a.tsv").write_text("Source\tTarget\n")
    assert len(TsvFile(tmp_path / "a.tsv")) == 0


def test_unreadable_files_are_refused(tmp_path):
    whole = OFFICIAL.read_bytes()
    for content in (whole[: len(whole) // 2], b"no gzip"):
        (tmp_path / "a.tsv.gz").write_bytes(content)
        with pytest.raises(DataError, match="Cannot read"):
            TsvFile(tmp_path / "a.tsv.gz")
    with pytest.raises(DataError, match="Cannot read"):
        TsvFile(tmp_path / "missing.tsv")


def test_tokens_are_a_constant():
    assert (*"0123456789", "[MIN", "[MAX", "[MED", "[SM", "]", "[PAD]") == VOCABULARY
    assert encode("( ( ( [SM 4 ) 9 ) ] )").tolist() == [13, 4, 9, 14]
    assert decode([13, 4, 9, 14, 15, 15]) == "[SM 4 9 ]"
    with pytest.raises(DataError, match=r"'\[SUM'"):
        encode("[SUM 1 2 ]")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[MED 1 2 ]", 1),
        ("[MED 1 9 2 ]", 2),
        ("[MED 9 8 1 2 ]", 5),
        ("[SM 9 9 ]", 8),
        ("[MIN 3 [MAX 2 7 ] ]", 3),
    ],
)
def test_evaluation_by_hand(text, value):
    assert evaluate_ids(encode(text)) == listops_evaluator.evaluate(text) == value


@pytest.mark.parametrize("text", ["", "[MAX 1 2", "]", "1 2", "[MAX ]"])
def test_what_is_no_expression_has_no_value(text):
    with pytest.raises(DataError, match="well-formed"):
        evaluate_ids(encode(text))
