"""Removes messages that the MTA delivered a second time because the store was killed at the wrong moment (QUE-02). Runs on the store, hourly.

Dovecot stores a message first and remembers its transfer then (again.sieve). Killed between the two, it accepts the same message
again. Two messages are such a pair if they have the same address, text and transfer, and came by two deliveries of the store. The
transfer is our MTA's trace line with its queue id, or the name that our MTA computes from the whole message and its origin. Strangers
can write neither; their trace lines and Message-IDs prove nothing. A copy that its user made has the same delivery. The first
message stays; one that somebody has read, answered or marked is never removed. Only Python's own library.
"""

import os
import re
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from email.parser import BytesHeaderParser
from pathlib import Path

MAIL = Path("/srv/mail")
WITHIN = 3 * 3600.0
"""Seconds: the timer runs every hour, and an interrupted delivery is tried again within an hour at the latest."""
HEADER = 1 << 17
"""Octets: no message's header is longer (header_size_limit)."""


def recent(mail: Path, since: float) -> Iterator[Path]:
    """Messages that came (or were moved) after a UNIX time; mailboxes of former users are left out."""
    for top in mail.iterdir():
        if top.name.startswith(".") and top.name != ".shared":
            continue
        for directory, _, names in os.walk(top):
            here = Path(directory)
            if here.name in ("cur", "new") and here.stat().st_mtime >= since:
                yield from (path for name in names if _changed(path := here / name) >= since)


def _changed(path: Path) -> float:
    try:
        return path.stat().st_ctime
    except FileNotFoundError:  # a new flag is a new name
        return 0.0


def traces(message: Path) -> tuple[str, str, tuple[str, ...]]:
    """The store's delivery, its address, and the name of the transfer; empty if it did not come by LMTP."""
    with message.open("rb") as file:
        # only the header: a stranger's nested fields below it would end the run for everybody
        header = BytesHeaderParser().parsebytes(file.read(HEADER))
    lines = [" ".join(str(line).split()) for line in header.get_all("Received", [])]
    address = str(header.get("Delivered-To", ""))
    if len(lines) < 2 or " with LMTP " not in lines[0] or not address:
        return "", "", ()
    return lines[0], address, tuple(filter(None, (lines[1], str(header.get("X-Office-Transfer", "")))))


def given_twice(messages: Iterator[Path]) -> Iterator[Path]:
    """The later one of each pair in one folder, if it may be removed."""
    found: dict[tuple[Path, str, str], dict[str, Path]] = defaultdict(dict)
    for message in messages:
        try:
            delivery, address, names = traces(message)
        except FileNotFoundError:
            continue
        for name in names:
            found[message.parent.parent, address, name][delivery] = message
    gone: set[Path] = set()
    for deliveries in found.values():
        # the name begins with the time
        first, *others = sorted(deliveries.values(), key=lambda path: path.name)
        gone |= {other for other in others if untouched(other) and text(other) == text(first)}
    yield from sorted(gone)


def text(message: Path) -> bytes | None:
    """The text below the header; nothing to compare with if it has moved meanwhile."""
    try:
        return re.split(rb"\r?\n\r?\n", message.read_bytes(), maxsplit=1)[-1]
    except FileNotFoundError:
        return None


def untouched(message: Path) -> bool:
    """Whether nobody has given it a flag."""
    return not message.name.partition(":2,")[2]


def main() -> int:
    """Remove them, and log it in the journal."""
    for message in given_twice(recent(MAIL, time.time() - WITHIN)):
        message.unlink(missing_ok=True)
        sys.stderr.write(f"<5>twice: {message.relative_to(MAIL)} was delivered before: the copy is removed\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
