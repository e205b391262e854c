"""Checks logins for calendars. The web server of the groupware host asks before each request, and Dovecot decides.

It speaks HTTP on a local socket behind stunnel, which accepts only the groupware host. The answer is yes, with the user's
address (``X-Login``), or no. So that host gets neither hashes nor access to Dovecot's own protocol. The request has the
client's address: guesses count together with those of mail programs (AUT-03). Only passwords that are valid for IMAP are
valid for calendars.
"""

from __future__ import annotations

import base64
import json
import os
import re
import socket
import socketserver
import sys
from collections.abc import Callable
from functools import partial
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_address
from pathlib import Path
from typing import Any

SETTINGS = Path("/etc/outpost/davlogins.json")
LONGEST = 1024
"""About the most octets of a login or a password: longer ones do not exist."""
PATIENCE = 35
"""Seconds for Dovecot's answer; it delays guessers."""
LOGIN = re.compile(r"[^\s/@\x00-\x1f\x7f]{1,64}@[a-zA-Z0-9.-]{1,255}")


class UnavailableError(Exception):
    """Logins cannot be checked now."""


def credentials(header: str) -> tuple[str, str] | None:
    """Login and password of an Authorization header (RFC 7617); None if they cannot be right."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic" or len(encoded) > 2 * LONGEST:
        return None
    try:
        login, colon, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except ValueError:
        return None
    return (login, password) if colon and login and password and "\0" not in login + password else None


def ask_dovecot(path: str, login: str, password: str, remote: str) -> str:
    """The address that a password is right for, by Dovecot's authentication protocol; empty if it is wrong."""
    response = base64.b64encode(f"\0{login}\0{password}".encode()).decode()
    request = f"AUTH\t1\tPLAIN\tprotocol=dav\tsecured\tnologin\trip={remote}\tresp={response}\n"
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(path)
            connection.sendall(f"VERSION\t1\t2\nCPID\t{os.getpid()}\n{request}".encode())
            for line in connection.makefile(encoding="utf-8"):
                kind, *fields = line.rstrip("\n").split("\t")
                if kind in ("OK", "FAIL") and fields[:1] == ["1"]:
                    found = dict(field.partition("=")[::2] for field in fields[1:])
                    if "temp" in found or found.get("code") == "temp_fail":
                        raise UnavailableError("Dovecot cannot decide")
                    return found.get("user", "") if kind == "OK" else ""
    except (OSError, ValueError) as error:
        raise UnavailableError(str(error)) from error
    raise UnavailableError("Dovecot does not answer")


class Handler(BaseHTTPRequestHandler):
    """One connection from the web server."""

    protocol_version = "HTTP/1.1"
    timeout = 75
    verify: Callable[[str, str, str], str]
    realm: str

    def do_GET(self) -> None:
        """Answer 204 with ``X-Login``, 401, or 503 if Dovecot cannot decide."""
        given = credentials(self.headers.get("Authorization", ""))
        try:
            # TLS-10: Python accepts any text as an address's zone; a compromised groupware host would add parameters to Dovecot's question
            remote = str(ip_address(self.headers.get("X-Real-IP", "").partition("%")[0]))
            login = self.verify(*given, remote) if given else ""
        except (UnavailableError, ValueError) as error:
            say(3, f"calendar logins: {error}")
            self._answer(503)
            return
        if LOGIN.fullmatch(login):
            self._answer(204, "X-Login", login.lower())
            return
        if given:
            refused(given[0], remote)
        self._answer(401, "WWW-Authenticate", f'Basic realm="{self.realm}", charset="UTF-8"')

    def _answer(self, status: int, name: str = "", value: str = "") -> None:
        self.send_response_only(status)
        if name:
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name in the base class)
        """Dovecot's log and the lines above are enough."""


class Server(socketserver.ThreadingUnixStreamServer):
    """Answers in parallel: Dovecot delays guessers, and nobody else should wait for that."""

    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has hung up needs no traceback for each of its connections."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def refused(login: str, remote: str) -> None:
    """Log a guess in the form that raises an alarm (`outpost.onhost.watch`). A `>` in the name would end it there."""
    say(5, f"calendar login refused: user=<{login[:120].replace('>', '?')}>, rip={remote}")


def say(priority: int, line: str) -> None:
    """A line for the journal, with its priority (sd-daemon(3)); strangers choose the name in it."""
    sys.stderr.write(f"<{priority}>{''.join(sign if sign.isprintable() else '?' for sign in line)}\n")


def main() -> None:
    settings = json.loads(SETTINGS.read_text(encoding="utf-8"))
    Handler.realm = settings["realm"]
    Handler.verify = staticmethod(partial(ask_dovecot, settings["auth"]))
    path = Path(settings["socket"])
    path.unlink(missing_ok=True)
    with Server(str(path), Handler) as server:
        path.chmod(0o660)
        server.serve_forever()


if __name__ == "__main__":
    main()
