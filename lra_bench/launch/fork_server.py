"""Child processes that start in milliseconds: forked from a server that has its imports done already.

A process that imports torch takes seconds to start. One that is forked from such a process does not, and
is as much a process of its own: nothing that one does reaches another. The server never runs an
operation, so no thread and no device is alive in it when it forks. `environment` gives a server another
import path: that of another revision, for example.

Messages are JSON, one request and one answer at a time; several threads may ask. Unix only.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from types import TracebackType
from typing import IO, Any, Self

from lra_bench.errors import LraBenchError
from lra_bench.launch.import_path import import_environment

_MESSAGE_BYTES = 65_536
STOP_GRACE_S = 5.0


class ProcessDiedError(LraBenchError):
    """A forked process ended without an answer."""

    def __init__(self, code: int, log: str) -> None:
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        super().__init__(f"The process {how}." + (f"\n{log}" if log else ""))
        self.code = code
        """As in `subprocess`: negative for a signal."""


class NoAnswerError(LraBenchError):
    """A forked process did not answer in time; it was killed."""


class ForkServer:
    """A process with imports done, from which others are forked. Use as a context: all end with it.

    Args:
        preload: modules to import before the first fork.
        environment: variables that differ from this process's own.
    """

    def __init__(self, preload: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                # -P: as in `local`, the working folder must not hide the installed package.
                [sys.executable, "-P", "-m", __name__, str(theirs.fileno()), *preload],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, **import_environment(), **(environment or {})},
                start_new_session=True,  # Ctrl-C reaches this process alone, which decides what to do
            )
        self._children: list[ForkedProcess] = []
        self._one_at_a_time = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self._children:
            child.kill()
        self._control.close()
        try:
            self._process.wait(STOP_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def start(self, target: str) -> ForkedProcess:
        """Forks a process that runs `package.module:function`, which is given a `Connection`."""
        ours, theirs = socket.socketpair()
        log = tempfile.TemporaryFile()  # noqa: SIM115 - the process object closes it
        with theirs:
            answer = self._request({"do": "fork", "target": target}, [theirs.fileno(), log.fileno()])
        child = ForkedProcess(self, answer["pid"], Connection(ours.detach()), log)
        self._children.append(child)
        return child

    def exit_code(self, pid: int) -> int:
        """Waits for a child's end."""
        return int(self._request({"do": "wait", "pid": pid})["code"])

    def _request(self, message: Mapping[str, Any], files: Sequence[int] = ()) -> Any:
        try:
            with self._one_at_a_time:
                socket.send_fds(self._control, [json.dumps(message).encode()], list(files))
                data = self._control.recv(_MESSAGE_BYTES)
        except OSError:
            data = b""
        if not data:
            raise ProcessDiedError(self._process.wait(), "The fork server is gone; its error is above.")
        return json.loads(data)


class ForkedProcess:
    """One forked process: `ask` it, then `close` it."""

    def __init__(self, server: ForkServer, pid: int, connection: Connection, log: IO[bytes]) -> None:
        self.pid = pid
        self._server = server
        self._connection = connection
        self._log = log
        self._ended = False

    def ask(self, message: Mapping[str, Any], timeout_s: float | None = None) -> Any:
        """Sends a request and waits for its answer.

        Raises:
            NoAnswerError: none came in time. ProcessDiedError: the process has ended. Either way it is gone.
        """
        try:
            self._connection.send_bytes(json.dumps(message).encode())
            if not self._connection.poll(timeout_s):
                self.kill()
                raise NoAnswerError(f"no answer within {timeout_s:g} s")
            return json.loads(self._connection.recv_bytes())
        except (EOFError, OSError):
            log = self._log_tail()
            raise ProcessDiedError(self._reap(), log) from None

    def close(self) -> None:
        """Lets the process end by itself and waits for it."""
        if not self._ended:
            self._connection.close()
            self._reap()

    def kill(self) -> None:
        """Ends the process, whatever it does."""
        if not self._ended:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self._reap()

    def _reap(self) -> int:
        self._ended = True
        try:
            return self._server.exit_code(self.pid)
        finally:
            self._connection.close()
            self._log.close()

    def _log_tail(self) -> str:
        self._log.seek(0)
        return "\n".join(self._log.read().decode("utf-8", "replace").strip().splitlines()[-15:])


def _serve(control: socket.socket) -> None:
    while True:
        data, files, _, _ = socket.recv_fds(control, _MESSAGE_BYTES, 2)
        if not data:
            return
        message = json.loads(data)
        if message["do"] == "wait":
            _, status = os.waitpid(message["pid"], 0)
            answer = {"code": os.waitstatus_to_exitcode(status)}
        else:
            pid = os.fork()
            if pid == 0:
                control.close()
                _run(message["target"], *files)
            for descriptor in files:
                os.close(descriptor)
            answer = {"pid": pid}
        control.sendall(json.dumps(answer).encode())


def _run(target: str, connection: int, log: int) -> None:
    """The forked process, from here to its end."""
    code = 1
    try:
        for stream in (1, 2):
            os.dup2(log, stream)
        os.close(log)
        module, _, function = target.partition(":")
        getattr(importlib.import_module(module), function)(Connection(connection))
        code = 0
    except EOFError:
        code = 0  # the asking side has closed
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        # Not sys.exit: what the server registered to be done at its end is not ours to do.
        os._exit(code)


def main() -> None:
    """Entry point of the server."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in sys.argv[2:]:
        importlib.import_module(name)
    import gc

    gc.freeze()  # what is there now need not be copied when a child collects
    _serve(socket.socket(fileno=int(sys.argv[1])))


if __name__ == "__main__":
    main()
