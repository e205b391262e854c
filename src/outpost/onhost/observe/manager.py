"""What systemd says of its units, and what it hands to daemons: asked on its own socket (org.freedesktop.systemd1(5)).

systemctl(1) asks the same there, and takes a tenth of a whole look to load, each time. Messages are as the D-Bus
specification has them, of the few types that these two questions need.
"""

from __future__ import annotations

import io
import socket
import struct

from outpost.onhost.observe.reading import said

SOCKET = "/run/systemd/private"
LOGIN = b"\0AUTH EXTERNAL 30\r\nBEGIN\r\n"
"""As root: its number's digits, in hexadecimal."""
OBJECT = "/org/freedesktop/systemd1"
MANAGER = "org.freedesktop.systemd1.Manager"
PROPERTIES = "org.freedesktop.DBus.Properties"
CALL, RETURN, FAILED = 1, 2, 3
HEADER = struct.Struct("<cBBBIII")
"""Byte order, type, flags, version; octets of the body, serial, octets of the fields."""
NUMBER = struct.Struct("<I")
PATH, INTERFACE, MEMBER, SIGNATURE = 1, 2, 3, 8
PATIENCE = 30.0


def told_by_systemd() -> tuple[list[str], list[str]]:
    """Units, each with its LoadState, ActiveState and SubState; variables of the environment."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(SOCKET)
            connection.sendall(LOGIN)
            with connection.makefile("rb") as answers:
                if not answers.readline().startswith(b"OK "):
                    raise ValueError("not let in")
                connection.sendall(call(1, MANAGER, "ListUnits"))
                connection.sendall(call(2, PROPERTIES, "Get", MANAGER, "Environment"))
                return units(answer(answers)), texts(answer(answers), 4)
    except (OSError, ValueError, struct.error):  # another systemd, or not ours to ask
        return said("systemctl list-units --all --no-legend --plain --full"), said(
            "systemctl show-environment"
        )


def call(serial: int, interface: str, member: str, *words: str) -> bytes:
    """A call of a method of systemd's whose arguments are texts."""
    body = b""
    for word in words:
        body += bytes(-len(body) % 4) + text(word)
    fields = b""
    given = ((PATH, b"o", OBJECT), (INTERFACE, b"s", interface), (MEMBER, b"s", member))
    for code, kind, value in given:
        fields += bytes(-len(fields) % 8) + bytes((code, 1)) + kind + b"\0" + text(value)
    if words:
        fields += bytes(-len(fields) % 8) + bytes((SIGNATURE, 1)) + b"g\0" + bytes((len(words),))
        fields += b"s" * len(words) + b"\0"
    header = HEADER.pack(b"l", CALL, 0, 1, len(body), serial, len(fields))
    return header + fields + bytes(-len(fields) % 8) + body


def text(value: str) -> bytes:
    return NUMBER.pack(len(value)) + value.encode("ascii") + b"\0"


def answer(stream: io.BufferedIOBase) -> bytes:
    """The body of the next answer.

    Raises:
        ValueError: It tells of an error, or is cut off.
    """
    while True:
        _, kind, _, _, size, _, above = HEADER.unpack(stream.read(HEADER.size))
        stream.read(above + -above % 8)
        body = stream.read(size)
        if kind == FAILED or len(body) < size:
            raise ValueError(body)
        if kind == RETURN:
            return body


def units(body: bytes) -> list[str]:
    """Name and three states of each, of an array of structures (ssssssouso)."""
    found, at = [], 8
    while at < len(body):
        words, at = strings(body, at + -at % 8, 7)
        _, at = strings(body, at + 4, 2)  # behind the number of a job
        found.append(" ".join((words[0], *words[2:5])))
    return found


def texts(body: bytes, at: int) -> list[str]:
    """An array of texts that begins there."""
    end = at + 4 + NUMBER.unpack_from(body, at)[0]
    found, at = [], at + 4
    while at < end:
        words, at = strings(body, at, 1)
        found += words
    return found


def strings(body: bytes, at: int, count: int) -> tuple[list[str], int]:
    """So many texts, one after the other; and where, as a number is, the next thing begins."""
    found = []
    for _ in range(count):
        (length,) = NUMBER.unpack_from(body, at)
        found.append(body[at + 4 : at + 4 + length].decode())
        at += length + 5
        at += -at % 4
    return found, at
