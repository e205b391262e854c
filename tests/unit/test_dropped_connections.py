"""A program that hangs up before it has its answer costs the journal no traceback."""

from __future__ import annotations

import socket
import socketserver

import pytest

from outpost.onhost import accounts, davlogins, logins

QUESTION = b"POST /?command=allow HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"


@pytest.mark.parametrize(
    ("service", "question"),
    [(accounts, b""), (davlogins, b"GET / HTTP/1.1\r\nX-Real-IP: ::1\r\n\r\n"), (logins, QUESTION)],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_dropped_connection_is_no_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], service: object, question: bytes
) -> None:
    monkeypatch.setattr(logins.Handler, "logins", logins.Logins("po.test", 6, 60), raising=False)
    monkeypatch.setattr(davlogins.Handler, "realm", "po.test", raising=False)
    kind: type[socketserver.ThreadingTCPServer] = service.Server  # type: ignore[attr-defined]
    server = kind.__new__(kind)
    server.RequestHandlerClass = service.Handler  # type: ignore[attr-defined]
    here, there = socket.socketpair()
    there.sendall(question)
    there.close()
    server.process_request_thread(here, ("", 0))
    assert capsys.readouterr().err == ""
    server.finish_request = None  # type: ignore[assignment]
    server.process_request_thread(socket.socketpair()[0], ("", 0))
    assert "TypeError" in capsys.readouterr().err, "a mistake of ours is still shown"
