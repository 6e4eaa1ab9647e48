"""A small leaderboard with a measuring session, made from one record."""

from __future__ import annotations

from synthetic_session import cell, session

from lra_bench.bench.records import Session
from lra_bench.records import RunRecord
from lra_bench.report.board import Leaderboard
from lra_bench.report.leaderboard import leaderboard


def records_of(base: RunRecord) -> list[RunRecord]:
    found = []
    for number, (name, accuracy) in enumerate({"transformer": 0.8, "fnet": 0.7, "local": 0.6}.items()):
        content = base.model_dump(by_alias=True)
        content["run_id"], content["model"]["name"] = str(number), name
        content["accuracy"]["best"] |= {"accuracy": accuracy, "n": 1000, "correct": round(1000 * accuracy)}
        found.append(RunRecord.model_validate(content))
    return found


def measured(base: RunRecord) -> Session:
    cells = [
        cell("transformer", 64, own_s=1.0, peak_bytes=100, flops=10),
        cell("fnet", 64, own_s=0.5, reference_s=1.0, peak_bytes=25, flops=10),
        cell("local", 64, own_s=2.0, reference_s=1.0, peak_bytes=100_000, flops=10),
    ]
    one = session(cells)
    same = {"device": base.device, "protocol_sha256": base.protocol.sha256}
    return one.model_copy(update={"record": one.record.model_copy(update=same)})


def board_of(base: RunRecord) -> Leaderboard:
    return leaderboard(records_of(base), sessions=[measured(base)])
