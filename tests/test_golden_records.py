"""Records as earlier versions wrote them: still read, and still saying the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lra_bench.bench.analysis import time_ratio
from lra_bench.bench.records import read_session
from lra_bench.errors import DataError
from lra_bench.record_store import read_record
from lra_bench.report.leaderboard import leaderboard
from lra_bench.report.reproduction import command_of

GOLDEN = Path(__file__).parent / "golden_records"


def test_a_run_record_of_schema_1() -> None:
    record = read_record(GOLDEN / "run_schema1.json")
    assert (record.model.name, record.task.name, record.status) == ("linformer", "listops", "ok")
    assert record.accuracy is not None
    assert (record.accuracy.best.correct, record.accuracy.best.n) == (815, 2000)
    assert record.flops is not None
    assert record.flops.step == 4_795_908_096
    assert command_of(record).startswith("lra-bench run --model linformer --task listops --protocol quick")
    (board,) = leaderboard([record]).boards
    assert board.rows[0].scores[0].text.startswith("40.8 (38.6 to 42.9; n=1)")


def test_a_session_from_before_cells_had_several_processes() -> None:
    session = read_session(GOLDEN / "session")
    assert session.record.processes == 1
    cell = session.find("linformer", 1024, False)
    assert cell is not None
    assert cell.peak_memory is not None
    assert cell.peak_memory.peak_bytes == 34_695_660
    ratio = time_ratio(cell)
    assert ratio is not None
    # The middle of the five quotients in the file, and its least and greatest.
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((0.614618, 0.602012, 0.892628), abs=1e-6)


def test_a_schema_of_the_future_is_refused_by_name(tmp_path: Path) -> None:
    content = json.loads((GOLDEN / "run_schema1.json").read_text("utf-8"))
    path = tmp_path / "future.json"
    path.write_text(json.dumps(content | {"schema": 2}), "utf-8")
    with pytest.raises(DataError, match=r"future\.json: schema 2 is not known"):
        read_record(path)
