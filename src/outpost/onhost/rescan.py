"""Scans mailboxes again (VIR-04): a signature may be newer than the message. Runs on the store at night.

Each message of the last days is sent to the MTA's ClamAV (clamd(8), INSTREAM) over TLS, both ends with the office's certificates.
An infected message is moved from its mailbox into the quarantine, never deleted, and its owner gets a notice.
Only Python's own library: it runs where no package but Dovecot's is.
"""

import json
import os
import random
import re
import socket
import ssl
import stat
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from email.errors import MessageError
from email.header import decode_header, make_header
from email.parser import BytesHeaderParser
from itertools import islice
from pathlib import Path
from typing import Any

SETTINGS = Path("/etc/outpost/rescan.json")
MAIL = Path("/srv/mail")
QUARANTINE = ".quarantine"
TLS = Path("/etc/outpost/tls")
PATIENCE = 60.0
"""Seconds that a scan of one message may take."""
AT_ONCE = 3
"""Messages that are scanned at the same time: clamd has four threads (clamd.conf), and new mail needs one."""
BATCH = 100
PIECE = 1 << 16
"""Octets that clamd gets at once."""
LONGEST = 4096
"""Most octets of an answer."""
LONGEST_HEADER = 1 << 17
MOST_TAKEN = 100
"""Most messages that one night moves. More cannot be an outbreak: the scanner, or its host, gives false answers."""
MOST_OF_ONE = 20
"""Most messages that one night moves out of one mailbox; otherwise one user with a hundred infected messages ends the scan for everybody."""
MOST_FAILED = 20
"""After this number of messages in a row without a verdict, the scanner is tried with an honest message, to see whether it works at all. If it
does, the other messages of that mailbox are scanned after those of all others."""
TOO_LONG = "Heuristics.Limits.Exceeded.MaxScanTime"
"""What clamd calls a message that took too long (clamd.conf): the machine was slow, or other messages were."""
KEPT = threading.local()
"""Open connections by the scanner's name: a TLS handshake and a new relay cost more than a message."""
LDA = "/usr/lib/dovecot/dovecot-lda"


class UnavailableError(Exception):
    """The scanner cannot be asked."""


class NoVerdictError(UnavailableError):
    """The scanner answers, but has no verdict on this message."""


@dataclass(frozen=True)
class Scanner:
    """The address of a clamd, and the name that its certificate must have."""

    address: str
    port: int
    name: str

    def ask(self, *parts: bytes) -> str:
        """Send, and read the answer up to its NUL; each thread keeps its connection for the next question."""
        kept = KEPT.__dict__.pop(self.name, None)
        try:
            connection = kept or self._connect()
            answer = _exchange(connection, parts)
        except OSError as error:
            if kept is not None and not isinstance(error, TimeoutError):
                return self.ask(*parts)  # the kept connection was closed meanwhile: over another one
            kind = NoVerdictError if isinstance(error, TimeoutError) else UnavailableError
            raise kind(f"{self.name} [{self.address}]:{self.port}: {error}") from error
        if answer.endswith(b"\0"):
            setattr(KEPT, self.name, connection)
        return answer.rstrip(b"\0\n").decode(errors="replace")

    def _connect(self) -> ssl.SSLSocket:
        context = ssl.create_default_context(cafile=str(TLS / "ca.pem"))
        context.load_cert_chain(TLS / "host.pem", TLS / "host.key")
        plain = socket.create_connection((self.address, self.port), timeout=PATIENCE)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return context.wrap_socket(plain, server_hostname=self.name)

    def verdict(self, message: bytes) -> str:
        """The name of what is in a message; empty if nothing is. Without a verdict it raises `UnavailableError`."""
        pieces = (message[start : start + PIECE] for start in range(0, len(message), PIECE))
        answer = self.ask(
            b"zINSTREAM\0", *(struct.pack(">I", len(piece)) + piece for piece in pieces), struct.pack(">I", 0)
        )
        if answer == "stream: OK":
            return ""
        # a signature's name (clamd(8)); another text is the MTA's own, and would go into a user's mailbox and the journal
        found = re.fullmatch(r"stream: ([!-~]{1,200}) FOUND", answer)
        if found and found.group(1) != TOO_LONG:
            return found.group(1)
        if found or answer.endswith(" ERROR"):
            raise NoVerdictError(f"{self.name}: {answer[:200]!a}")
        raise UnavailableError(
            f"{self.name}: {answer[:200]!a}" if answer else f"{self.name}: closed the connection"
        )


def _exchange(connection: ssl.SSLSocket, parts: tuple[bytes, ...]) -> bytes:
    connection.sendall(b"".join(parts))
    answer = b""
    while len(answer) < LONGEST and not answer.endswith(b"\0"):
        more = connection.recv(LONGEST)
        if not more:
            raise ConnectionResetError("the scanner closed the connection")
        answer += more
    return answer


def messages(mail: Path, since: float) -> Iterator[Path]:
    """Files of messages that came (or were moved) after a UNIX time; mailboxes of former users are left out."""
    for top in sorted(mail.iterdir()):
        if top.name in (QUARANTINE, ".former") or not top.is_dir():
            continue
        for directory, _, names in os.walk(top):
            if Path(directory).name not in ("cur", "new"):
                continue
            for name in names:
                path = Path(directory, name)
                with suppress(FileNotFoundError):
                    status = path.lstat()
                    # a FIFO, or a link to one, would block the scan for ever
                    if stat.S_ISREG(status.st_mode) and status.st_ctime >= since:
                        yield path


def take_out(message: Path, mail: Path) -> Path:
    """Move a message into the quarantine, below its mailbox's name; Dovecot notices at its next scan."""
    owner = message.relative_to(mail).parts[0]
    place = mail / QUARANTINE / owner
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    target = place / message.name.partition(":")[0]
    message.rename(target)
    return target


def notice(message: bytes, found: str, settings: dict[str, Any], owner: str) -> str:
    """The message to the owner of a mailbox, in both languages of the guide: the store does not know which one the owner
    reads."""
    # no structure is parsed: nested fields or parts of a stranger would end the scan for everybody
    headers = BytesHeaderParser().parsebytes(message[:LONGEST_HEADER])
    sender, subject, date = (_shown(headers.get(name, "unknown")) for name in ("From", "Subject", "Date"))
    return (
        f"From: {settings['organisation']} <{settings['postmaster']}>\n"
        f"To: <{owner}>\nSubject: A message was removed from your mailbox / Nachricht entfernt\nAuto-Submitted: auto-generated\n"
        "MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n"
        f"It contains {found}, which the virus scanner did not know when the message arrived.\n\n"
        f"  From:     {sender}\n  Subject:  {subject}\n  Date:     {date}\n\n"
        "If you have opened its attachment, turn that device off and call your administrator. The message was\n"
        f"kept: write to {settings['postmaster']} if you need it.\n\n"
        f"Die Nachricht oben enthält {found}. Der Virenscanner kannte das noch nicht, als sie ankam. Wenn Sie ihren Anhang geöffnet haben,\n"
        "schalten Sie das Gerät aus und rufen Sie Ihren Administrator an. Die Nachricht wird aufbewahrt: Schreiben Sie an\n"
        f"{settings['postmaster']}, wenn Sie sie brauchen.\n"
    )


def _shown(field: object) -> str:
    """A field's words on one line; as they are where they cannot be decoded (RFC 2047)."""
    text = str(field)[:1000]
    with suppress(ValueError, LookupError, MessageError):
        text = str(make_header(decode_header(text)))
    return "".join(sign if sign.isprintable() else " " for sign in " ".join(text.split()))[:200]


def notify(text: str, owner: str) -> None:
    """Put a notice into a mailbox, however full."""
    done = subprocess.run([LDA, "-d", owner, "-o", "quota_enforce=no"], input=text.encode(), check=False)
    if done.returncode:
        sys.stderr.write(f"<3>rescan: {owner} got no notice, {LDA} ended with {done.returncode}\n")


def rescan(settings: dict[str, Any]) -> bool:
    """Scan what is due; whether that was all of it."""
    scanners = [Scanner(**place) for place in settings["scanners"]]
    since = time.time() - settings["days"] * 86400
    scanned = skipped = failed = left = 0
    taken = Counter[str]()
    for message, data, found in _scanned(scanners, messages(MAIL, since), settings["largest"]):
        owner = message.relative_to(MAIL).parts[0]
        if isinstance(found, UnavailableError):
            failed += 1
            sys.stderr.write(f"<4>rescan: no verdict on {message}: {found}\n")
            continue
        if found is None:
            skipped += 1
            continue
        scanned += 1
        if not found:
            continue
        if taken.total() == MOST_TAKEN:
            raise UnavailableError(
                f"{found} in more than {taken.total()} messages: no more are removed; check the MTA"
            )
        if taken[owner] == MOST_OF_ONE:
            left += 1
            continue
        try:
            kept = take_out(message, MAIL)
        except FileNotFoundError:  # a flag is a new name: somebody has just read it, or deleted it
            sys.stderr.write(
                f"<4>rescan: {found} in a message to {owner}, which moved; the next run scans it again\n"
            )
            continue
        taken[owner] += 1
        sys.stderr.write(f"<4>rescan: {found} in a message to {owner}, now {kept}\n")
        if not owner.startswith("."):
            address = f"{owner}@{settings['domain']}"
            notify(notice(data, found, settings, address), address)
    sys.stdout.write(
        f"{scanned} messages scanned, {taken.total()} removed, {skipped} too large to scan, {failed} without a verdict\n"
    )
    if left:
        sys.stderr.write(
            f"<3>rescan: {left} more infected messages are still in mailboxes from which {MOST_OF_ONE} were removed\n"
        )
    return not failed and not left


def _scanned(
    scanners: list[Scanner], due: Iterator[Path], largest: int
) -> Iterator[tuple[Path, bytes, str | UnavailableError | None]]:
    """Each message with what is in it; None where it is too large. Its bytes are kept only where something was found."""
    failed = 0
    slow: set[str] = set()
    last: list[Path] = []

    def scan(message: Path) -> tuple[Path, bytes, str | UnavailableError | None] | None:
        if message.relative_to(MAIL).parts[0] in slow:
            last.append(message)
            return None
        try:
            if message.stat().st_size > largest:
                return message, b"", None
            data = message.read_bytes()
            found = _first_verdict(scanners, data)
        except FileNotFoundError:
            return None
        # somebody may have made one message that has no verdict: the others are still scanned
        except NoVerdictError as error:
            return message, b"", error
        return message, data if found else b"", found

    with ThreadPoolExecutor(AT_ONCE) as pool:
        while some := list(islice(due, BATCH)) or last:
            if some is last:
                # by chance, so that the mailbox with most of them does not take the rest of the night from another one
                random.shuffle(last)
                due, last, slow = iter(last), [], set()
                continue
            for scanned in filter(None, pool.map(scan, some)):
                yield scanned
                failed = failed + 1 if isinstance(scanned[2], NoVerdictError) else 0
                if failed >= MOST_FAILED:
                    try:
                        _first_verdict(scanners, b"\n")
                    except UnavailableError as error:
                        raise UnavailableError(
                            f"no verdict on {failed} messages one after the other"
                        ) from error
                    # VIR-04: a user can fill a mailbox with messages that have no verdict: it must not end the scan for everybody
                    owner, failed = scanned[0].relative_to(MAIL).parts[0], 0
                    slow.add(owner)


def _first_verdict(scanners: list[Scanner], message: bytes) -> str:
    for scanner in scanners[:-1]:
        try:
            return scanner.verdict(message)
        except UnavailableError as error:
            sys.stderr.write(f"<5>rescan: {error}\n")
    return scanners[-1].verdict(message)


def main() -> int:
    """``rescan`` scans; ``rescan ping`` asks each scanner whether it is there."""
    settings = json.loads(SETTINGS.read_text(encoding="utf-8"))
    try:
        if sys.argv[1:] == ["ping"]:
            for place in settings["scanners"]:
                sys.stdout.write(Scanner(**place).ask(b"zPING\0") + "\n")
        elif not rescan(settings):
            return 1
    except UnavailableError as error:
        sys.stderr.write(f"<3>rescan: {error}; the next run tries again\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
