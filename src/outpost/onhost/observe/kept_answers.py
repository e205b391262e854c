"""Answers that come from files alone, kept from one look to the next under one mark of all those files."""

from __future__ import annotations

import collections.abc
import contextlib
import hashlib
import json
import os
import pathlib
import subprocess
import time

from outpost.onhost.observe.declared import APPLIED, LOCAL
from outpost.onhost.observe.known import KNOWN
from outpost.onhost.observe.places import HOMES, PACKAGES_OWN, SINGLE, UNSCANNED, WATCHED, expanded

KEPT = pathlib.Path("/run/outpost/observed")
"""Answers that come from files alone, each with the mark of those files; gone with the next boot."""
TICK = 0.1
"""Seconds, many ticks of the clock that files get their times from."""
TREES = ("/etc", "/opt", "/root", "/usr")
"""What can be seen of files below these is known from an earlier look as long as none was touched, nor any of `MARKED`."""
MARKED = (
    *(place for place in (*WATCHED, *PACKAGES_OWN, str(APPLIED)) if not place.startswith(TREES)),
    *(f"/home/*/{name}" for name in HOMES), *SINGLE, *UNSCANNED,
)  # fmt: skip
DATABASES = (
    "/var/lib/apt/extended_states", "/var/lib/dpkg/arch", "/var/lib/dpkg/diversions", "/var/lib/dpkg/info", "/var/lib/dpkg/statoverride",
    "/var/lib/dpkg/status", str(KNOWN),
)  # fmt: skip
"""Of packages and of this program: replaced as a whole when they change."""


def kept(name: str, mark: str, ask: collections.abc.Callable[[], collections.abc.Iterable[str]]) -> list[str]:
    """The answer of an earlier look that bears the same mark, else a new one. Without a mark it is never kept."""
    if not mark:
        return list(ask())
    file = KEPT / name
    with contextlib.suppress(OSError, ValueError):
        if os.stat(file).st_uid == os.geteuid():  # root's own
            before, lines = json.loads(file.read_bytes())
            if before == mark:
                return list(lines)
    lines = list(ask())
    with contextlib.suppress(OSError):
        KEPT.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = KEPT / f".{name}.{os.getpid()}"
        new.touch(mode=0o600)
        new.write_text(json.dumps([mark, lines]))
        new.replace(file)
    return lines


def mark_of_files() -> str:
    """A mark that differs when a file below `TREES`, or of `MARKED`, came, went or was touched in any way.

    Content, mode, owner, attributes, access lists, capabilities and links set ctime, which nobody can choose (inode(7)).
    Empty where one was touched a moment ago: it could be touched once more in the same tick of the clock.
    """
    looked = subprocess.run(
        ["find", *TREES, *expanded(MARKED), "-printf", r"%p %D %i %m %U %G %s %C@\n", "-newerct", f"@{time.time() - TICK:.3f}", "-printf", r"\0"],
        capture_output=True,
        check=False,
        env={"LC_ALL": "C", "PATH": "/usr/bin:/bin", "TZ": "UTC"},
    ).stdout  # fmt: skip
    if not looked or b"\0" in looked:
        return ""
    found = hashlib.sha256(looked)
    words = [*map(identity, DATABASES), *LOCAL]
    found.update("\n".join(words).encode())
    return found.hexdigest()


def identity(path: str) -> str:
    try:
        status = os.stat(path)
    except OSError:
        return f"{path} ?"
    return (
        f"{path} {status.st_dev} {status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
    )


def in_trees(path: str) -> bool:
    return path in TREES or path.startswith(tuple(f"{top}/" for top in TREES))
