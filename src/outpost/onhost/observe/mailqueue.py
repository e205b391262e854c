"""Mail that somebody has put on hold: neither the policy service, nor the filter's verdict, nor `outpost queue --hold`."""

from __future__ import annotations

import contextlib
import os

from outpost.onhost.observe.reading import opened

HOLD = "/var/spool/postfix/hold"
NOTED = ("/var/lib/outpost-policy/large", "/var/lib/outpost/on-hold")
"""A file by the name of each message that the policy service, or an administrator by `outpost queue`, put on hold."""
REFUSED = b"X-Office-Held:"
"""Stands in what the filter refused of a backup MX's mail; milters' fields are at either end of a queue file (milter_header_checks)."""
PIECE = 128 * 1024


def on_hold() -> list[str]:
    """One for each message; nothing where no queue is."""
    noted: set[str] = set()
    waiting: list[str] = []
    with contextlib.suppress(FileNotFoundError):
        waiting = os.listdir(HOLD)
    for place in NOTED if waiting else ():
        with contextlib.suppress(OSError):
            noted.update(os.listdir(place))
    return [
        f"held\tmail queue\t{name}" for name in sorted(set(waiting) - noted) if not _refused(f"{HOLD}/{name}")
    ]


def _refused(path: str) -> bool:
    try:
        with open(opened(path), "rb") as file:
            start = file.read(PIECE)
            file.seek(max(PIECE, os.fstat(file.fileno()).st_size - PIECE))
            return REFUSED in start or REFUSED in file.read()
    except FileNotFoundError:  # it has gone meanwhile
        return True
    except OSError:  # no message
        return False
