"""Teaches the filter what users moved into Junk and out of it (JNK-01). Runs on the store, every two minutes.

Dovecot leaves a copy of each such message in the spool (``sieve/learn``), named ``USER.spam.…`` or ``USER.ham.…``. It goes to every MTA's
Rspamd by TLS, both ends with the office's certificates, and leaves the spool when all of them have answered. The user's move is
long done: a failure here costs one lesson and nothing else. Bayes needs as many examples of mail that is not junk,
and few are moved out of it: so it also learns, several times a day, messages that users have answered. How much one user may
teach is bounded (JNK-02). Only Python's own library.
"""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import stat
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

SETTINGS = Path("/etc/outpost/learn.json")
LEDGER = Path("/var/lib/outpost-learn/ledger.json")
MAIL = Path("/srv/mail")
TLS = Path("/etc/outpost/tls")
PATIENCE = 60.0
"""Seconds without an octet."""
LONGEST = 4096
"""Most octets of an answer."""
LEARNT = "success = true"
KEPT = 3 * 86400
"""Seconds that a lesson waits for an MTA that does not answer."""
PAUSE = 6 * 3600
"""Seconds between two searches for answered messages."""
NAMED = re.compile(r"(?P<user>[^/.][^/]{0,319})\.(?P<verdict>spam|ham)\.[A-Za-z0-9]{1,64}", re.DOTALL)


class UnavailableError(Exception):
    """The filter did not answer."""


@dataclass(frozen=True)
class Filter:
    """Where an MTA's Rspamd accepts lessons, and the name that its certificate must have."""

    address: str
    name: str
    spam: int
    ham: int

    def learn(self, verdict: str, message: bytes) -> str:
        """Teach one message; returns the output that Rspamd's client would print."""
        context = ssl.create_default_context(cafile=str(TLS / "ca.pem"))
        context.load_cert_chain(TLS / "host.pem", TLS / "host.key")
        port = self.spam if verdict == "spam" else self.ham
        try:
            answer = answered_to(message, self.address, port, context, self.name)
        except OSError as error:
            raise UnavailableError(f"{self.name} [{self.address}]:{port}: {error}") from error
        text = " ".join(answer.decode(errors="replace").split())
        if not re.search(rf"{LEARNT}|\berror = |HTTP error: ", text):
            raise UnavailableError(f"{self.name}: {text[:200] or 'closed the connection'}")
        return text


def answered_to(message: bytes, address: str, port: int, context: ssl.SSLContext, name: str) -> bytes:
    """Send a message that ends with our close_notify, and read the answer to its end.

    Python's own sockets close both ways at once, and lose a quick answer. This code waits for the answer first.
    """
    came, goes = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(came, goes, server_hostname=name)
    answer = b""
    with socket.create_connection((address, port), timeout=PATIENCE) as line:

        def receive() -> None:
            line.sendall(goes.read())
            if more := line.recv(1 << 16):
                came.write(more)
            else:
                came.write_eof()

        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                receive()
        tls.write(message)
        with suppress(ssl.SSLWantReadError):
            tls.unwrap()
        while len(answer) < LONGEST:
            try:
                answer += tls.read(LONGEST)
            except ssl.SSLWantReadError:
                receive()
            except ssl.SSLZeroReturnError:
                break
    return answer


@dataclass
class Ledger:
    """How much each user has taught.

    Attributes:
        daily: What one user may teach in a day.
        alone: What one user may teach beyond what all others have taught: less than Bayes needs to have any weight.
        answered: When answered messages were last searched for; a UNIX time.
    """

    daily: int
    alone: int
    day: str = ""
    today: Counter[str] = field(default_factory=Counter)
    taught: Counter[str] = field(default_factory=Counter)
    answered: float = 0.0

    @classmethod
    def read(cls, path: Path, *, daily: int, alone: int, day: str) -> Ledger:
        """Read what was stored; nothing if it cannot be read."""
        ledger = cls(daily, alone, day)
        with suppress(OSError, ValueError, TypeError, AttributeError):
            written = json.loads(path.read_text(encoding="utf-8"))
            ledger.taught = Counter({str(user): int(count) for user, count in written["taught"].items()})
            ledger.answered = float(written["answered"])
            if written["day"] == day:
                ledger.today = Counter({str(user): int(count) for user, count in written["today"].items()})
        return ledger

    def write(self, path: Path) -> None:
        partial = path.with_suffix(".new")
        written = {name: getattr(self, name) for name in ("day", "today", "taught", "answered")}
        partial.write_text(json.dumps(written) + "\n", encoding="utf-8")
        partial.replace(path)

    def admits(self, user: str) -> bool:
        own = self.taught[user]
        return self.today[user] < self.daily and own < self.alone + self.taught.total() - own

    def count(self, user: str) -> None:
        self.today[user] += 1
        self.taught[user] += 1


@dataclass(frozen=True)
class Lesson:
    """A message, who says what it is, and whether it is a copy that is deleted once it is learnt."""

    message: Path
    user: str
    verdict: str
    spooled: bool = True


def moved(spool: Path, mail: Path) -> Iterator[Lesson]:
    """The messages in the spool, the oldest first. Messages whose user has no mailbox are deleted."""
    waiting = [(path.lstat(), path) for path in spool.iterdir() if not path.name.startswith("tmp.")]
    for _, path in sorted((entry.st_mtime, path) for entry, path in waiting if stat.S_ISREG(entry.st_mode)):
        named = NAMED.fullmatch(path.name)
        if named and (mail / named["user"].partition("@")[0]).is_dir():
            yield Lesson(path, named["user"], named["verdict"])
        else:
            path.unlink()


def answered(mail: Path, domain: str, since: float) -> Iterator[Lesson]:
    """Messages in inboxes that were answered after a UNIX time: a file's name ends with its flags, and a new flag is a new name."""
    for home in sorted(mail.iterdir()):
        inbox = home / "Maildir/cur"
        if home.name.startswith(".") or not inbox.is_dir():
            continue
        for message in inbox.iterdir():
            with suppress(FileNotFoundError):
                if "R" in message.name.partition(":2,")[2] and message.lstat().st_ctime >= since:
                    yield Lesson(message, f"{home.name}@{domain}", "ham", spooled=False)


def read(message: Path, largest: int) -> bytes:
    """The beginning of a regular file."""
    with os.fdopen(os.open(message, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        return file.read(largest) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else b""


def teach(settings: dict[str, Any], ledger: Ledger, mail: Path = MAIL) -> dict[str, int]:
    """Send what is in the spool, and what was answered; returns counts of the outcomes."""
    filters = [Filter(**place) for place in settings["filters"]]
    down: set[str] = set()
    done = {"learnt": 0, "not learnt": 0, "beyond a user's limit": 0}
    lessons = [*moved(Path(settings["spool"]), mail)]
    now = time.time()
    if now - ledger.answered > PAUSE:
        lessons += answered(mail, settings["domain"], max(ledger.answered, now - KEPT))
        ledger.answered = now
    for lesson in lessons:
        if not ledger.admits(lesson.user):
            done["beyond a user's limit"] += 1
            answers, finished = [], True
        else:
            try:
                message = read(lesson.message, settings["largest"])
            except OSError:  # a new flag is a new name
                continue
            answers = _answers(filters, down, lesson.verdict, message)
            finished = len(answers) == len(filters)
            if finished:
                ledger.count(lesson.user)
                done["learnt" if any(LEARNT in answer for answer in answers) else "not learnt"] += 1
        if lesson.spooled and (finished or lesson.message.lstat().st_mtime < now - KEPT):
            lesson.message.unlink()
    return done


def _answers(filters: list[Filter], down: set[str], verdict: str, message: bytes) -> list[str]:
    """The answers of the filters; one that failed is not asked again in this run."""
    answers = []
    for each in filters:
        if each.name in down:
            continue
        try:
            answers.append(each.learn(verdict, message))
        except UnavailableError as error:
            down.add(each.name)
            sys.stderr.write(f"<4>learn: {error}; the next run tries again\n")
    return answers


def main() -> int:
    """``learn`` teaches; ``learn ping`` asks each filter with an empty message, from which it learns nothing."""
    settings = json.loads(SETTINGS.read_text(encoding="utf-8"))
    if sys.argv[1:] == ["ping"]:
        for place in settings["filters"]:
            for verdict in ("spam", "ham"):
                sys.stdout.write(f"{Filter(**place).learn(verdict, b'')}\n")
        return 0
    ledger = Ledger.read(
        LEDGER, daily=settings["daily"], alone=settings["alone"], day=f"{datetime.now(UTC):%Y-%m-%d}"
    )
    try:
        done = teach(settings, ledger)
    finally:
        ledger.write(LEDGER)
    if any(done.values()):
        sys.stdout.write("<5>" + "; ".join(f"{count} {what}" for what, count in done.items()) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
