"""HTTPS requests from a host itself, which needs only openssl: any name, at any of its addresses."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from http.client import HTTPMessage, HTTPResponse
from ipaddress import IPv4Address, IPv6Address
from typing import cast

from testinfra.host import Host as TestinfraHost

from outpost_lab import pace

_ASK = (
    "echo %s | base64 -d | timeout %s openssl s_client -quiet -verify_return_error -verify_quiet "
    "-CAfile /etc/outpost/tls/ca.pem -CApath /etc/ssl/certs -connect %s -servername %s -verify_hostname %s 2>&1"
)


@dataclass(frozen=True)
class Answer:
    """An HTTP answer."""

    status: int
    headers: HTTPMessage
    body: str


class RefusedError(AssertionError):
    """The connection ended without an answer."""


class _Received(io.BytesIO):
    """Bytes with the interface of a socket, for HTTPResponse."""

    def makefile(self, *_: object) -> io.BytesIO:
        return self


def browse(
    host: TestinfraHost,
    at: IPv4Address | IPv6Address,
    name: str,
    path: str = "/",
    *,
    method: str = "GET",
    requested: str | None = None,
    headers: str = "",
    body: str = "",
) -> Answer:
    """One request in a connection of its own, its certificate verified.

    Args:
        name: Name in the handshake (SNI), and in the request unless `requested` is given.
        headers: Further header lines, each ended by CRLF.

    Raises:
        RefusedError: There was no answer.
    """
    length = f"Content-Length: {len(body.encode())}\r\n" if body else ""
    request = f"{method} {path} HTTP/1.1\r\nHost: {requested or name}\r\nConnection: close\r\n{length}{headers}\r\n{body}"
    encoded = base64.b64encode(request.encode()).decode()
    socket = f"[{at}]:443" if at.version == 6 else f"{at}:443"
    done = host.run(_ASK, encoded, f"{20 * pace.load():.0f}", socket, name, name)
    start = done.stdout_bytes.find(b"HTTP/1.")
    if start < 0:
        raise RefusedError(done.stdout.strip() or "the connection was closed")
    response = HTTPResponse(cast("object", _Received(done.stdout_bytes[start:])), method=method)  # type: ignore[arg-type]
    response.begin()
    return Answer(response.status, response.headers, response.read().decode(errors="replace"))
