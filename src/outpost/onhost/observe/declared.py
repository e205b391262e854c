"""What the office declares for this host: its records, its contract, and its local files."""

from __future__ import annotations

import json
import os
import re

from outpost.onhost.observe.reading import content

TYPE_CHECKING = False
if TYPE_CHECKING:  # loading it takes a fiftieth of a scan
    import typing

STATE = "/var/lib/outpost"
APPLIED = f"{STATE}/applied"
KNOWN = f"{STATE}/known"
"""What was explained or accepted among the states at the end of the last apply."""
VERIFIED = f"{STATE}/verified"
"""Touched when every program was the package's version."""
RECORD = re.compile(r"[\w-][\w.-]*")
CONTRACT = "/etc/outpost/contract.json"
LOCAL: list[str] = []
"""Files that the office file leaves to this host; a path with a slash at its end covers everything below it."""


def records() -> tuple[dict[str, list[str]], set[str]]:
    """What the last apply installed: unit → its files, and all paths."""
    units: dict[str, list[str]] = {}
    paths: set[str] = set()
    # SYS-08: the controller reads records the same way and compares them with the declaration; otherwise a record that only this program
    # sees, because of its name or its line ends, would hide the files that it names.
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


def contract_of(path: str) -> dict[str, typing.Any]:
    """What the office declares for this host; nothing if there is none yet."""
    try:
        return dict(json.loads(content(path)))
    except (OSError, ValueError):
        return {}
