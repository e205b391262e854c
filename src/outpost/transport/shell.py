"""Commands for a host over one open connection: each costs a round trip, and a list of them only one.

testinfra's own backends start a process, or a channel, for every property of every file. This one starts `outpost.onhost.asked`
once a host and sends it commands; each answer comes back with its exit status, output and errors, framed by their lengths.
"""

import inspect
import itertools
import math
import os
import re
import shlex
import subprocess
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from testinfra.backend.base import BaseBackend, CommandResult
from typing_extensions import override

from outpost.errors import OutpostError
from outpost.onhost import asked
from outpost.transport.answers import MOST, as_argument, line
from outpost.transport.remote import failure

Answer = tuple[int, bytes, bytes]
"""Exit status, standard output, standard error."""
PATIENCE = 900.0
"""Seconds for a command. Otherwise a compromised host would delay the checks of all others."""
HEAD = 200
"""Most bytes of the line before an answer: more than its four numbers take."""
_PROGRAM = f"{inspect.getsource(asked)}\nserve()\n"
_ANSWER = re.compile(rb"(\d{1,9}) (-?\d{1,6}) (\d{1,12}) (\d{1,12})\n")


class Shell:
    """Shells started by a command such as ``docker exec -i HOST sh -s`` or ``ssh HOST sh -s``.

    Args:
        command: What starts one; it reads a script from standard input.
        most: Bytes of all answers together over one connection; it ends before an answer that goes beyond them.

    Raises:
        OutpostError: From any method: it could not be started, or has ended.
    """

    def __init__(self, command: Sequence[str], most: float = math.inf) -> None:
        self._most = most
        self._command = as_argument(command, f"exec python3 -IS -c {shlex.quote(_PROGRAM)}")
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._process: subprocess.Popen[bytes] | None = None
        self._waiting: dict[int, Future[Answer]] = {}
        self._unreached: OutpostError | None = None

    def run(self, command: str) -> Answer:
        coming = self.ask(command)
        process = self._process
        try:
            return coming.result(PATIENCE)
        except TimeoutError:
            if process is not None:
                process.kill()
            self._unreached = coming.exception()  # type: ignore[assignment]  # no other is set
            raise self._unreached from None  # type: ignore[misc]

    def ask(self, command: str) -> Future[Answer]:
        """Send a command; its answer comes when it has ended on the host."""
        with self._lock:
            if self._unreached:  # an earlier command has waited for the host already
                raise self._unreached
            if self._process is None:
                self._process = subprocess.Popen(
                    self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
                )
                self._waiting = {}
                threading.Thread(target=self._read, args=(self._process, self._waiting), daemon=True).start()
            number, text = next(self._numbers), command.encode()
            coming = self._waiting[number] = Future()
            assert self._process.stdin is not None
            # the reading thread notices the end, and reports the host's errors
            with suppress(BrokenPipeError):
                self._process.stdin.write(b"%d %d\n%s" % (number, len(text), text))
                self._process.stdin.flush()
            return coming

    def close(self) -> None:
        """Send no more commands: the connection ends after the last one. A later command gets a new connection."""
        with self._lock:
            if self._process is not None:
                _hang_up(self._process)
                self._process = None

    def _read(self, process: subprocess.Popen[bytes], waiting: dict[int, Future[Answer]]) -> None:
        """Pass on answers until a line is not an answer."""
        assert process.stdout is not None
        answered, left = False, self._most
        while head := _ANSWER.fullmatch(process.stdout.readline(HEAD)):
            number, status, length, errors = map(int, head.groups())
            if number not in waiting or length + errors > min(MOST, left):
                break
            left -= length + errors
            data = process.stdout.read(length + errors)
            if len(data) < length + errors:
                break
            answered = True
            waiting.pop(number).set_result((status, data[:length], data[length:]))
        error = self._ended(process)
        with self._lock:
            _hang_up(process)
            if self._process is process:
                self._process = None
            # a new connection to a host that died fails as well, and each takes as long as ssh's timeout
            if not answered:
                self._unreached = error
        for coming in waiting.values():
            coming.set_exception(error)

    def _ended(self, process: subprocess.Popen[bytes]) -> OutpostError:
        process.kill()
        process.wait()
        assert process.stderr is not None
        rest = os.read(process.stderr.fileno(), 65536)  # it has ended, so the rest is in the pipe
        text = rest.decode(errors="replace")
        if known := failure("the host", text):
            return known
        last = (text.strip().splitlines() or ["no message"])[-1]
        message = f"the shell on the host ended: {line(last)} ({' '.join(self._command[:4])} …)"
        return OutpostError(message, "check that the host is up")


def _hang_up(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.close()


class ShellBackend(BaseBackend):  # type: ignore[misc]  # testinfra is untyped
    """testinfra's backend over an open shell."""

    NAME = "outpost"

    def __init__(
        self, hostname: str, carry_out: Callable[[str, bool], Answer], *args: Any, **kwargs: Any
    ) -> None:
        self._carry_out = carry_out
        super().__init__(hostname, *args, **kwargs)

    @override
    def get_encoding(self) -> str:
        return "UTF-8"  # properties of Debian's hosts; testinfra would ask each host

    @override
    def run(self, command: str, *args: str, live: bool = False, **_: Any) -> CommandResult:
        text = self.get_command(command, *args)
        status, output, errors = self._carry_out(text, live)
        return self.result(status, self.encode(text), output, errors)
