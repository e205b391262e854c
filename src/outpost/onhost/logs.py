"""Sends a host's log to head office, line by line, and loses none: the journal on disk is the queue.

It reads the journal behind the last line that the collector has acknowledged, sends what follows by RELP over TLS, and notes
how far the collector has come only when it says so. Whatever fails on either side, the same lines are sent again. No other
state exists that could lose one (docs/adr/0017).

What a program writes of itself (name, priority, text) is hostile: it is bounded, one line, and stops nothing. Who wrote it is
what the journal itself noted (``_UID``, ``_SYSTEMD_UNIT``…); it stands in the line's structured data (docs/adr/0027).

RELP (https://rsyslog.readthedocs.io/en/latest/whitepapers/): a frame is ``NUMBER COMMAND LENGTH DATA LF``; the answer to
number 7 is ``7 rsp LENGTH 200 OK…``. Only Python's own library.
"""

import json
import os
import re
import select
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

SETTINGS = Path("/etc/outpost/logs.json")
SENT = Path("/var/lib/outpost-logs/sent")
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
CERTIFICATE, KEY = "/etc/outpost/tls/host.pem", "/etc/outpost/tls/host.key"
CLAIMED = ("MESSAGE", "PRIORITY", "SYSLOG_FACILITY", "SYSLOG_IDENTIFIER")
TRUSTED = ("_UID", "_SYSTEMD_UNIT", "_COMM", "_EXE", "_TRANSPORT")
"""What the journal itself records about the writer, which no writer can set (systemd.journal-fields(7))."""
FIELDS = ",".join((*CLAIMED, "_PID", *TRUSTED))
AT_ONCE = 128
"""Most lines under way: a link with 600 ms carries them at 200 lines a second."""
LONGEST = 8192
LOOKED_UP = 16
"""Most messages of a portion that are longer than journalctl prints in JSON (4096 bytes) and are read separately."""
MEMORY = 64 * 1024 * 1024
"""Most bytes for reading one of them: a program may write an entry of 700 MB."""
PATIENCE = 30.0
"""Seconds without an answer after which a connection is closed."""
PAUSES = (1.0, 5.0, 15.0, 30.0)
"""Seconds between attempts; the last value is repeated."""


class BrokenError(Exception):
    """The collector, or the way to it, does not work."""


SD_ID = "journal@32473"
"""For structured data; 32473 is the enterprise number for those that have none (RFC 5612)."""
LONG = re.compile(rb'"MESSAGE" ?: ?null')
TOO_LONG = "(no message, or one that is too long: see the journal of the host)"
CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
"""Characters that would start another line at the collector, or that a terminal there obeys."""


@dataclass(frozen=True)
class Line:
    """An entry of the journal: its cursor, its time in microseconds since 1970, and its text in the form of RFC 5424."""

    cursor: str
    at: int
    text: bytes

    @classmethod
    def parse(cls, entry: dict[str, Any], host: str) -> "Line":
        """Text from journalctl's JSON; text that is not UTF-8 is a list of bytes."""

        def field(name: str, default: str) -> str:
            value = entry.get(name)
            if isinstance(value, list) and value and not isinstance(value[0], int):
                value = value[0]  # a field that was written twice
            if isinstance(value, list):
                value = bytes(value).decode(errors="replace")
            return value if isinstance(value, str) and value else default

        def number(name: str, default: int) -> int:
            return int(found[0]) if (found := re.fullmatch("[0-9]{1,9}", field(name, ""))) else default

        at = int(entry["__REALTIME_TIMESTAMP"])
        moment = f"{datetime.fromtimestamp(at / 1e6, UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
        rank = 8 * min(number("SYSLOG_FACILITY", 3), 23) + min(number("PRIORITY", 6), 7)
        name = "".join(sign for sign in field("SYSLOG_IDENTIFIER", "-") if "!" <= sign <= "~")[:48] or "-"
        trusted = " ".join(f'{key}="{_quoted(value)}"' for key in TRUSTED if (value := field(key, "")))
        data = f"[{SD_ID} {trusted}]" if trusted else "-"
        head = f"<{rank}>1 {moment} {host} {name} {number('_PID', 0) or '-'} - {data} "
        message = CONTROL.sub(lambda sign: f"\\x{ord(sign[0]):02x}", field("MESSAGE", TOO_LONG))
        return cls(str(entry["__CURSOR"]), at, _cut(head + message))

    @classmethod
    def of(cls, raw: bytes, host: str, before: "Line | None") -> "Line | None":
        """An entry from a line of journalctl's output; a line that cannot be read is replaced by a note, and the next ones follow."""
        entry: Any = None
        with suppress(Exception):  # any error: the lines after it count
            entry = json.loads(raw)
            return cls.parse(entry, host)
        place = entry.get("__CURSOR") if isinstance(entry, dict) else None
        place = place if isinstance(place, str) and place else before.cursor if before else ""
        at = before.at if before else int(time.time() * 1e6)
        entry = f"<44>1 - {host} outpost-logs - - - an entry of the journal cannot be read: {raw[:400]!a}"
        return cls(place, at, entry.encode()) if place else None


class Session:
    """A connection to the collector, with certificates of both sides verified."""

    def __init__(self, settings: dict[str, Any]) -> None:
        context = ssl.create_default_context(cafile=AUTHORITIES)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(CERTIFICATE, KEY)
        raw = socket.create_connection((settings["address"], settings["port"]), timeout=PATIENCE)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.socket = context.wrap_socket(raw, server_hostname=settings["collector"])
        self.answers: BinaryIO = self.socket.makefile("rb")
        self.number = 0
        self._exchange([(b"open", b"relp_version=0\nrelp_software=outpost\ncommands=syslog")])

    def send(self, lines: list[Line]) -> None:
        """Send lines; returns when the collector has acknowledged all of them."""
        self._exchange([(b"syslog", line.text) for line in lines])

    def _exchange(self, commands: list[tuple[bytes, bytes]]) -> None:
        waiting = set()
        frames = b""
        for command, data in commands:
            self.number = self.number % 999_999_999 + 1
            waiting.add(self.number)
            frames += b"%d %s %d %s\n" % (self.number, command, len(data), data)
        self.socket.sendall(frames)
        while waiting:
            number, code = self._answer()
            if code != b"200":
                raise BrokenError(f"it answers {code.decode(errors='replace')}")
            waiting.discard(number)

    def _answer(self) -> tuple[int, bytes]:
        head = b""
        while head.count(b" ") < 3 and not head.endswith(b"\n") and len(head) < 100:
            sign = self.answers.read(1)
            if not sign:
                raise BrokenError("it closed the connection")
            head += sign
        words = head.split()
        if len(words) < 3 or not words[0].isdigit() or not words[2].isdigit() or words[1] != b"rsp":
            raise BrokenError(
                "it closed the connection" if b"serverclose" in words else "it does not speak RELP"
            )
        length = int(words[2])
        if length > 65536:
            raise BrokenError("its answer is too long")
        data = self.answers.read(length + (0 if head.endswith(b"\n") else 1))
        return int(words[0]), data[:3]

    def close(self) -> None:
        """Close at once: the lines that count are acknowledged."""
        self.socket.close()


def journal(after: tuple[str, int] | None, host: str) -> Iterator[list[Line]]:
    """Entries of the journal after a cursor and new ones, in portions, until nothing has come for a while.

    Then it ends, because journalctl keeps following old files after somebody has moved the journal away.
    """
    place = ["--no-tail"] if after is None else [f"--after-cursor={after[0]}"]
    # without --all: that bounds each field
    command = ["journalctl", "--follow", "--quiet", "--output=json", f"--output-fields={FIELDS}", *place]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as reading:
        assert reading.stdout is not None
        pipe, rest = reading.stdout.fileno(), b""
        last = Line(after[0], after[1], b"") if after else None
        while True:
            if not select.select([pipe], [], [], PATIENCE)[0]:
                reading.terminate()
                return
            data = os.read(pipe, 65536)
            if not data:
                raise BrokenError("journalctl has ended")
            *whole, rest = (rest + data).split(b"\n")
            lines: list[Line] = []
            looked_up = 0
            for each in whole:
                raw = each
                if LONG.search(raw) and looked_up < LOOKED_UP:
                    looked_up += 1
                    raw = _with_message(raw)
                if raw and (line := Line.of(raw, host, last)):
                    lines.append(line)
                    last = line
            for start in range(0, len(lines), AT_ONCE):
                yield lines[start : start + AT_ONCE]


def _with_message(raw: bytes) -> bytes:
    """An entry with its whole message, if that is longer than journalctl prints in JSON; cut, and in bounded memory."""
    with suppress(Exception):
        entry = json.loads(raw)
        limit = ["prlimit", f"--data={MEMORY}", "--cpu=5"]
        cursor = f"--cursor={entry['__CURSOR']}"
        reading = [*limit, "journalctl", "--quiet", "--all", "--output=cat", cursor, "--lines=+1"]
        with subprocess.Popen(
            reading, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            assert process.stdout is not None
            entry["MESSAGE"] = process.stdout.read(LONGEST).decode(errors="replace")
            process.kill()
        return json.dumps(entry).encode()
    return raw


def _cut(text: str) -> bytes:
    """As many of its characters as fit into a line's octets."""
    return text.encode(errors="replace")[:LONGEST].decode(errors="ignore").encode()


def _quoted(value: str) -> str:
    """A value of structured data (RFC 5424, section 6.3.3), bounded."""
    return CONTROL.sub("?", re.sub(r'([\\"\]])', r"\\\1", value[:256]))


def recalled(path: Path = SENT) -> tuple[str, int] | None:
    """The cursor and time of the last line that the collector has."""
    try:
        cursor, at = path.read_text(encoding="ascii").split()
        return cursor, int(at)
    except (OSError, ValueError):
        return None


def remember(line: Line, path: Path = SENT) -> None:
    """Write it completely or not at all."""
    fresh = path.with_suffix(".new")
    fresh.write_text(f"{line.cursor}\n{line.at}\n", encoding="ascii")
    fresh.replace(path)


def deliver(lines: list[Line], session: Session | None, settings: dict[str, Any]) -> Session:
    """Send lines until the collector has them, for as long as it takes; returns the connection for the next ones."""
    attempt = 0
    while True:
        try:
            session = session or Session(settings)
            session.send(lines)
        except (OSError, BrokenError) as error:
            if session is not None:
                session.close()
                session = None
            if attempt in (1, len(PAUSES)):  # not for a connection that was only idle too long
                problem = str(error) or type(error).__name__
                sys.stderr.write(f"<4>{settings['collector']}: {problem}; lines wait in the journal\n")
            time.sleep(PAUSES[min(attempt, len(PAUSES) - 1)])
            attempt += 1
        else:
            if attempt > 1:
                sys.stderr.write(f"<5>{settings['collector']}: has accepted all lines that waited\n")
            return session


def main() -> None:
    settings = json.loads(SETTINGS.read_text(encoding="utf-8"))
    session: Session | None = None
    while True:
        for lines in journal(recalled(), settings["host"]):
            session = deliver(lines, session, settings)
            remember(lines[-1])


if __name__ == "__main__":
    main()
