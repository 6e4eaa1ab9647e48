import hashlib
import struct

import numpy as np
import pyarrow as pa
import pytest

from lra_bench.data.columns import fixed_column, ragged_column
from lra_bench.data.hashing import update_with_examples
from lra_bench.errors import DataError


def digest(table):
    hasher = hashlib.sha256()
    update_with_examples(hasher, table)
    return hasher.hexdigest()


def test_rows_of_one_length_and_of_many_are_hashed_alike():
    tokens = np.arange(12, dtype=np.uint8).reshape(4, 3)
    labels = pa.array([3, 2, 1, 0])
    fixed = pa.table({"input_ids": fixed_column(tokens), "label": labels})
    ragged = pa.table({"input_ids": ragged_column(tokens.reshape(-1), np.arange(5) * 3), "label": labels})
    written = b"".join(
        struct.pack("<qq3B", label, 3, *row) for label, row in zip([3, 2, 1, 0], tokens.tolist(), strict=True)
    )
    assert digest(fixed) == digest(ragged) == hashlib.sha256(written).hexdigest()
    longer = ragged_column(np.append(tokens.reshape(-1), 7).astype(np.uint8), np.array([0, 3, 6, 9, 13]))
    assert digest(pa.table({"input_ids": longer, "label": labels})) != digest(fixed)


def test_labels_of_tokens_are_a_sequence():
    table = pa.table(
        {
            "input_ids": ragged_column(np.array([5, 6, 7], np.uint8), np.array([0, 1, 3])),
            "label": ragged_column(np.array([-100, 1, 2], np.int32), np.array([0, 1, 3])),
        }
    )
    written = struct.pack("<qiqB", 1, -100, 1, 5) + struct.pack("<qiiqBB", 2, 1, 2, 2, 6, 7)
    assert digest(table) == hashlib.sha256(written).hexdigest()


def test_a_boundary_between_sequences_counts():
    def pair(first, second):
        columns = [ragged_column(np.array(row, np.uint8), np.array([0, len(row)])) for row in (first, second)]
        return pa.table({"input_ids": columns[0], "input_ids_2": columns[1], "label": pa.array([0])})

    assert digest(pair([1, 2], [3])) != digest(pair([1], [2, 3]))


def test_missing_labels_are_refused():
    table = pa.table({"input_ids": fixed_column(np.zeros((2, 2), np.uint8)), "label": pa.array([1, None])})
    with pytest.raises(DataError, match="missing"):
        digest(table)
