"""The store can send clamd a message or a ping, and nothing else, in any spelling."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from outpost.onhost import scanning


class Clamd:
    """A socket that records its input and answers it."""

    def __init__(self, path: Path) -> None:
        self.path, self.received = path, b""
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(str(path))
        self.server.listen()
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                self._answer(self.server.accept()[0])

    def _answer(self, line: socket.socket) -> None:
        received = b""
        with line:
            while more := line.recv(4096):
                self.received += more
                received += more
                if received.endswith((b"PING\0", b"PING\n", b"\0\0\0\0")):
                    line.sendall(b"PONG\0" if b"PING" in received else b"stream: OK\0")
                    return


@pytest.fixture
def clamd(tmp_path: Path) -> Iterator[Clamd]:
    made = Clamd(tmp_path / "clamd.ctl")
    yield made
    made.server.close()


def response(clamd: Clamd, data: bytes) -> bytes:
    """The answers to a client that sends this and closes."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(data)
        ours.shutdown(socket.SHUT_WR)
        with suppress(EOFError):
            scanning.relay(theirs, str(clamd.path))
        theirs.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: ours.recv(4096), b""))


PART = struct.pack(">I", 5) + b"hello"
END = struct.pack(">I", 0)


@pytest.mark.parametrize(("data", "answer"), [(b"zPING\0", b"PONG\0"), (b"nPING\n", b"PONG\0")])
def test_a_ping_is_answered(clamd: Clamd, data: bytes, answer: bytes) -> None:
    assert response(clamd, data) == answer


@pytest.mark.parametrize("command", [b"zINSTREAM\0", b"nINSTREAM\n"])
def test_a_message_is_scanned_and_no_other_command_behind_it(clamd: Clamd, command: bytes) -> None:
    answer = response(clamd, command + PART + PART + END + b"zSHUTDOWN\0" + b"zPING\0")
    assert answer == b"stream: OK\0UNKNOWN COMMAND\0"
    assert clamd.received == command + PART + PART + END


def test_a_peer_that_is_silent_after_an_answer_is_not_waited_for(
    clamd: Clamd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanning, "NEXT", 0.01)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(b"zPING\0")
        scanning.relay(theirs, str(clamd.path))  # the other end stays open
        assert ours.recv(4096) == b"PONG\0"


def test_one_connection_carries_many_messages(clamd: Clamd) -> None:
    message = b"zINSTREAM\0" + PART + END
    assert response(clamd, message * 3 + b"zPING\0") == b"stream: OK\0" * 3 + b"PONG\0"
    assert clamd.received == message * 3 + b"zPING\0"


@pytest.mark.parametrize(
    "data",
    [
        b"zSHUTDOWN\0", b"nSHUTDOWN\n", b"SHUTDOWN", b"zSCAN /etc/passwd\0", b"nCONTSCAN /\n", b"zIDSESSION\0zPING\0", b"zRELOAD\0",
        b"zFILDES\0", b"zSTATS\0", b"PING", b"xPING\0", b"zping\0", b"zPING \0", b"\0", b"zPINGzPING\0", b"zINSTREAMS\0", b"", b"z" * 99,
    ],
)  # fmt: skip
def test_no_other_command_reaches_it(clamd: Clamd, data: bytes) -> None:
    assert response(clamd, data) in (b"", b"UNKNOWN COMMAND\0")
    assert clamd.received == b""


@pytest.mark.parametrize(
    "data", [b"zINSTREAM\0" + PART[:6], b"zINSTREAM\0", b"zINSTREAM\0" + struct.pack(">I", 2**32 - 1) + b"x"]
)
def test_a_message_that_breaks_off_ends_without_a_verdict(clamd: Clamd, data: bytes) -> None:
    assert response(clamd, data) == b""


@pytest.mark.parametrize("behind", [b"", b" /etc/hostname\r\n", b"x" * 100_000])
def test_data_behind_a_refused_command_does_not_lose_the_answer(behind: bytes, tmp_path: Path) -> None:
    """Unread octets at the end reset the connection; stunnel sees the reset first and drops the answer."""
    ours, theirs = socket.socketpair()
    with ours:
        with (
            theirs,
            subprocess.Popen(
                [sys.executable, scanning.__file__, str(tmp_path / "none")], stdin=theirs.fileno()
            ) as relay,
        ):
            theirs.close()
            ours.sendall(b"nIDSESSION" + behind)
            ours.shutdown(socket.SHUT_WR)
            assert relay.wait() == 0
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        assert b"".join(iter(lambda: ours.recv(4096), b"")) == b"UNKNOWN COMMAND\0"
