"""Forked processes: quick, apart from one another, and never waited for in vain."""

import os
import signal
import time

import pytest

from lra_bench.launch.fork_server import ForkServer, NoAnswerError, ProcessDiedError

COUNTER = {"value": 0}


def answer(connection):
    """In the forked process: counts, sleeps, dies, tells its environment."""
    import json

    while True:
        request = json.loads(connection.recv_bytes())
        if request["do"] == "count":
            COUNTER["value"] += 1
            reply = COUNTER["value"]
        elif request["do"] == "sleep":
            time.sleep(request["seconds"])
            reply = None
        elif request["do"] == "say":
            print("a last word", flush=True)
            raise ValueError("what went wrong")
        elif request["do"] == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        else:
            reply = os.environ.get(request["do"])
        connection.send_bytes(json.dumps(reply).encode())


@pytest.fixture(scope="module")
def server():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.path.dirname(__file__))
        with ForkServer(["test_fork_server"], {"A_COLOUR": "green"}) as one:
            yield one


@pytest.fixture
def child(server):
    process = server.start("test_fork_server:answer")
    yield process
    process.kill()


def test_children_share_nothing(server):
    first, second = (server.start("test_fork_server:answer") for _ in range(2))
    assert [first.ask({"do": "count"}), first.ask({"do": "count"}), second.ask({"do": "count"})] == [1, 2, 1]
    assert first.pid != second.pid
    first.close()
    assert second.ask({"do": "count"}) == 2
    second.close()


def test_the_environment_is_the_servers_own(child):
    assert child.ask({"do": "A_COLOUR"}) == "green"
    assert "A_COLOUR" not in os.environ


def test_a_death_is_told_with_its_cause(server):
    killed = server.start("test_fork_server:answer")
    with pytest.raises(ProcessDiedError, match="SIGKILL") as found:
        killed.ask({"do": "die"})
    assert found.value.code == -signal.SIGKILL
    failed = server.start("test_fork_server:answer")
    with pytest.raises(ProcessDiedError, match=r"(?s)a last word.*what went wrong") as found:
        failed.ask({"do": "say"})
    assert found.value.code == 1


def test_who_does_not_answer_is_ended(child):
    with pytest.raises(NoAnswerError, match=r"0\.2 s"):
        child.ask({"do": "sleep", "seconds": 60}, timeout_s=0.2)
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)


def test_everything_ends_with_the_server(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.path.dirname(__file__))
    with ForkServer(["test_fork_server"]) as server:
        pid = server.start("test_fork_server:answer").pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_server_that_can_not_start_says_so():
    with ForkServer(["no_such_module_here"]) as server, pytest.raises(ProcessDiedError, match="server"):
        server.start("test_fork_server:answer")
