"""One shell on a host, kept open: a check costs a round trip, not a login.

testinfra's own backends start a process, or a channel, for every property of every file. This one starts
``sh`` once a host and sends it commands; each answer comes back with its exit status, output and errors,
framed by their lengths.
"""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from testinfra.backend.base import BaseBackend, CommandResult
from typing_extensions import override

from outpost.errors import OutpostError
from outpost.transport.answers import line
from outpost.transport.fetching import HEAD, MOST, Answer
from outpost.transport.remote import failure

_PRELUDE = Path(__file__).with_suffix(".sh").read_bytes()
PATIENCE = 900.0
"""Seconds for a command. A host that was taken over would keep the checks of all others waiting."""
_ANSWER = re.compile(rb"answer (\d{1,9}) (\d{1,3}) (\d{1,12}) (\d{1,12})\n")


class Shell:
    """A ``sh`` at the other end of a command, such as ``docker exec -i HOST sh`` or ``ssh HOST sh``.

    Args:
        command: What starts it; it reads a script from standard input.

    Raises:
        OutpostError: From any method: it could not be started, or has ended.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        self._lock = threading.RLock()
        self._numbers = itertools.count()
        self._process: subprocess.Popen[bytes] | None = None
        self._unreached: OutpostError | None = None

    def run(self, command: str) -> Answer:
        with self._lock:
            if self._unreached:  # it was waited for once
                raise self._unreached
            process, number = self._started(), next(self._numbers)
            self._write(process, f"outpost_run {number} {_quoted(command)}\n".encode())
            timer = threading.Timer(PATIENCE, process.kill)
            timer.start()
            try:
                return self._read(process, number)
            except OutpostError as error:
                self._unreached = error if number == 0 or not timer.is_alive() else None
                raise
            finally:
                timer.cancel()

    def close(self) -> None:
        """End it; what it kept on the host goes with it."""
        with self._lock:
            if self._process is not None:
                self._process.communicate()
                self._process = None

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            self._write(self._process, _PRELUDE)
        return self._process

    def _write(self, process: subprocess.Popen[bytes], script: bytes) -> None:
        assert process.stdin is not None
        try:
            process.stdin.write(script)
            process.stdin.flush()
        except BrokenPipeError:
            pass  # the reader sees the end, and says what the far end said

    def _read(self, process: subprocess.Popen[bytes], number: int) -> Answer:
        assert process.stdout is not None
        header = _ANSWER.fullmatch(process.stdout.readline(HEAD))
        if header is None or int(header[1]) != number:
            raise self._ended(process)
        status, length, errors = (int(field) for field in header.groups()[1:])
        if length + errors > MOST:
            raise self._ended(process)
        output = process.stdout.read(length + errors)
        if len(output) != length + errors:
            raise self._ended(process)
        return status, output[:length], output[length:]

    def _ended(self, process: subprocess.Popen[bytes]) -> OutpostError:
        process.kill()
        process.wait()
        assert process.stderr is not None
        said = os.read(process.stderr.fileno(), 65536)  # ended, so all that is left is in the pipe
        self._process = None
        text = said.decode(errors="replace")
        if known := failure("the host", text):
            return known
        last = (text.strip().splitlines() or ["it said nothing"])[-1]
        message = f"the shell on the host ended: {line(last)} ({' '.join(self._command[:4])} …)"
        return OutpostError(message, "check that the host is up")


class ShellBackend(BaseBackend):  # type: ignore[misc]  # testinfra is untyped
    """testinfra over a kept shell."""

    NAME = "outpost"

    def __init__(
        self, hostname: str, carry_out: Callable[[str, bool], Answer], *args: Any, **kwargs: Any
    ) -> None:
        self._carry_out = carry_out
        super().__init__(hostname, *args, **kwargs)

    @override
    def get_encoding(self) -> str:
        return "UTF-8"  # of Debian's hosts; testinfra would ask each

    @override
    def run(self, command: str, *args: str, live: bool = False, **_: Any) -> CommandResult:
        text = self.get_command(command, *args)
        status, output, errors = self._carry_out(text, live)
        return self.result(status, self.encode(text), output, errors)


def _quoted(command: str) -> str:
    return "'" + command.replace("'", "'\\''") + "'"
