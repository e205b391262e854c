"""What the office declares for this host: its records, its contract, and the files that it leaves to the host."""

from __future__ import annotations

import os
import re

from outpost.onhost.observe.reading import content

STATE = "/var/lib/outpost"
APPLIED = f"{STATE}/applied"
KNOWN = f"{STATE}/known"
"""What is explained or accepted of the states at the end of the last apply."""
VERIFIED = f"{STATE}/verified"
"""Touched when every program was its package's."""
RECORD = re.compile(r"[\w-][\w.-]*")
CONTRACT = "/etc/outpost/contract.json"
LOCAL: list[str] = []
"""Files that the office file leaves to this host; a path with a slash at its end is everything below it."""


def records() -> tuple[dict[str, list[str]], set[str]]:
    """What the last apply put here: unit → its files, and all paths."""
    units: dict[str, list[str]] = {}
    paths: set[str] = set()
    # SYS-08: read as the controller reads them, which compares each with what is declared; without it a record that only this program
    # sees, by its name or by another end of line than LF, hides what it names.
    for record in os.listdir(APPLIED) if os.path.isdir(APPLIED) else ():
        if not RECORD.fullmatch(record) or record.endswith(".new"):
            continue
        lines = content(f"{APPLIED}/{record}").split("\n")
        own = [line[5:] for line in lines if line.startswith("path ")]
        paths.update(own)
        for line in lines:
            if line.startswith("unit "):
                units.setdefault(line[5:], []).extend(own)
    return units, paths


def is_local(path: str) -> bool:
    return any(path == own or (own.endswith("/") and path.startswith(own)) for own in LOCAL)
