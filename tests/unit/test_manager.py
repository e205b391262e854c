"""What systemd says on its own socket is understood, or else systemctl is asked; the lab compares both."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from outpost.onhost.observe import manager
from outpost.onhost.observe.manager import FAILED, NUMBER, RETURN, call, text, told_by_systemd

SIGNAL = 4
UNITS: tuple[tuple[str | int, ...], ...] = (
    ("a.service", "A", "loaded", "active", "running", "", "/x", 7, "restart", "/job/7"),
    ("b@c.timer", "", "masked", "failed", "failed", "", "/y", 0, "", "/"),
)
VARIABLES = ("A=1=2", "LANG=C.UTF-8")


def written(*words: str | int) -> bytes:
    """One after the other, each where its kind begins."""
    said = b""
    for word in words:
        said += bytes(-len(said) % 4) + (NUMBER.pack(word) if isinstance(word, int) else text(word))
    return said


def structures() -> bytes:
    said = b""
    for unit in UNITS:
        said += bytes(-len(said) % 8) + written(*unit)
    return NUMBER.pack(len(said)) + bytes(4) + said


def message(kind: int, body: bytes) -> bytes:
    """With a field of its header that nobody needs."""
    fields = b"\x05\x01u\0" + NUMBER.pack(1) + b"\x08\x01g\0\x01s\0"
    start = b"l" + bytes((kind, 0, 1)) + NUMBER.pack(len(body)) + NUMBER.pack(9) + NUMBER.pack(len(fields))
    return start + fields + bytes(-len(fields) % 8) + body


LISTED = message(RETURN, structures())
GIVEN = message(RETURN, b"\x02as\0" + NUMBER.pack(len(written(*VARIABLES))) + written(*VARIABLES))
CONVERSATIONS = {
    "both answers": b"OK 0123\r\n" + LISTED + GIVEN,
    "something else between": b"OK 0123\r\n" + LISTED + message(SIGNAL, b"") + GIVEN,
    "nobody let in": b"REJECTED EXTERNAL\r\n",
    "an error": b"OK 0123\r\n" + message(FAILED, text("no")),
    "cut off": b"OK 0123\r\n" + LISTED[:-9],
    "cut off in between": b"OK 0123\r\n" + LISTED,
}


@pytest.mark.parametrize("conversation", CONVERSATIONS)
def test_what_systemd_says_is_understood_or_systemctl_is_asked(
    conversation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manager, "SOCKET", str(tmp_path / "private"))
    monkeypatch.setattr(manager, "said", lambda command: [command.split()[1]])
    heard = b""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(manager.SOCKET)
        listening.listen()

        def serve() -> None:
            nonlocal heard
            connection, _ = listening.accept()
            with connection:
                connection.sendall(CONVERSATIONS[conversation])
                connection.shutdown(socket.SHUT_WR)
                while octets := connection.recv(4096):
                    heard += octets

        server = threading.Thread(target=serve)
        server.start()
        told = told_by_systemd()
        server.join()
    if conversation in ("both answers", "something else between"):
        assert told == (
            ["a.service loaded active running", "b@c.timer masked failed failed"],
            list(VARIABLES),
        )
        asked = call(1, manager.MANAGER, "ListUnits") + call(
            2, manager.PROPERTIES, "Get", manager.MANAGER, "Environment"
        )
        assert heard == manager.LOGIN + asked
    else:
        assert told == (["list-units"], ["show-environment"])


def test_without_its_socket_systemctl_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manager, "SOCKET", str(tmp_path / "none"))
    monkeypatch.setattr(manager, "said", lambda command: [command.split()[1]])
    assert told_by_systemd() == (["list-units"], ["show-environment"])
