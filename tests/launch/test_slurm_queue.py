"""What is made of squeue's answers, with a squeue that says what the test wrote down."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lra_bench.launch.slurm_queue import GONE, SlurmQueue


class Squeue:
    def __init__(self, folder: Path) -> None:
        self.calls = folder / "calls"
        self._answer = folder / "answer"
        command = folder / "squeue"
        command.write_text(f'#!/bin/sh\necho "$@" >> {self.calls}\nexec cat {self._answer}\n')
        command.chmod(0o755)

    def says(self, *lines: str) -> None:
        self._answer.write_text("".join(f"{line}\n" for line in lines))

    def fails(self) -> None:
        self._answer.unlink()


@pytest.fixture
def squeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Squeue:
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return Squeue(tmp_path)


def states(queue: SlurmQueue, *job_ids: str) -> list[str | None]:
    """After one more answer."""
    queue._asked_at = float("-inf")
    return [queue.end_state(job_id) for job_id in job_ids]


def test_only_ends_are_ends(squeue: Squeue) -> None:
    queue = SlurmQueue()
    squeue.says("7_0|RUNNING", "7_1|PENDING", "7_2|OUT_OF_MEMORY", "9|NODE_FAIL", "7_3|COMPLETING")
    assert states(queue, "7_0", "7_1", "7_2", "9", "7_3") == [None, None, "OUT_OF_MEMORY", "NODE_FAIL", None]
    squeue.says("9|PENDING")  # SLURM has queued it again
    assert states(queue, "9") == [None]


def test_a_job_is_gone_when_two_answers_miss_it(squeue: Squeue) -> None:
    queue = SlurmQueue()
    squeue.says("8|RUNNING")
    queue.expect("7")
    assert states(queue, "7", "8") == [None, None], "it may not be listed yet"
    squeue.says()
    assert states(queue, "7", "8") == [GONE, None]
    assert states(queue, "8") == [GONE]


def test_no_answer_is_no_verdict(squeue: Squeue) -> None:
    queue = SlurmQueue()
    squeue.says("7|RUNNING")
    assert states(queue, "7") == [None]
    squeue.fails()
    for _ in range(3):
        assert states(queue, "7") == [None]


def test_many_questions_are_one_call(squeue: Squeue) -> None:
    queue = SlurmQueue(ask_every_s=3600)
    squeue.says("7|RUNNING")
    for number in range(50):
        queue.end_state(str(number))
    assert len(squeue.calls.read_text().splitlines()) == 1
