"""Answers that come from files alone, kept from one look to the next under one mark of all those files."""

from __future__ import annotations

import collections.abc
import contextlib
import json
import os
import stat
import time

from outpost.onhost.observe.declared import APPLIED, KNOWN, LOCAL
from outpost.onhost.observe.places import (
    FOR_PEOPLE,
    HOMES,
    PACKAGES_OWN,
    SINGLE,
    TREES,
    UNSCANNED,
    WATCHED,
    expanded,
)
from outpost.onhost.observe.reading import Begun

KEPT = "/run/outpost/observed"
"""Answers that come from files alone, each with the mark of those files; gone with the next boot."""
DAY = 24 * 3600
TOUCHED = b"\0"
TICK = 0.1
"""Seconds, many ticks of the clock that files get their times from."""
MARKED = (
    *(place for place in (*WATCHED, *PACKAGES_OWN, APPLIED) if not place.startswith(TREES)),
    *(f"/home/*/{name}" for name in HOMES), *SINGLE, *UNSCANNED, "/run/systemd/systemd-units-load",
)  # fmt: skip
"""With `TREES`: what can be seen of files there is known from an earlier look as long as none was touched. systemd touches
the last whenever it reads units."""
DATABASES = (
    "/var/lib/apt/extended_states", "/var/lib/dpkg/arch", "/var/lib/dpkg/diversions", "/var/lib/dpkg/info", "/var/lib/dpkg/statoverride",
    "/var/lib/dpkg/status", KNOWN, "/var/lib/outpost/packages",
)  # fmt: skip
"""Of packages and of this program: replaced as a whole when they change."""


def kept(
    name: str,
    mark: str,
    ask: collections.abc.Callable[[], collections.abc.Iterable[str]],
    lasting: collections.abc.Callable[[list[str]], bool] | None = None,
) -> list[str]:
    """The answer of an earlier look that bears the same mark, else a new one. Without a mark it is never kept.

    Args:
        lasting: Whether an answer stays true as long as the mark does.
    """
    if not mark:
        return list(ask())
    with contextlib.suppress(ValueError):
        before, lines = json.loads(own(name) or b"[0, 0]")
        if before == mark:
            return list(lines)
    lines = list(ask())
    if not lasting or lasting(lines):
        keep(name, json.dumps([mark, lines]).encode())
    return lines


def own(name: str) -> bytes:
    """What root itself, and nobody else, has kept."""
    file = f"{KEPT}/{name}"
    try:
        if os.stat(file).st_uid == os.geteuid():
            with open(file, "rb") as stream:
                return stream.read()
    except OSError:
        pass
    return b""


def keep(name: str, what: bytes) -> None:
    """For `own`; nothing where the place cannot be written to."""
    with contextlib.suppress(OSError):
        os.makedirs(KEPT, mode=0o700, exist_ok=True)
        new = f"{KEPT}/.{name}.{os.getpid()}"
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
            stream.write(what)
        os.replace(new, f"{KEPT}/{name}")


def forget(name: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(f"{KEPT}/{name}")


class Marking:
    """The mark of files, which is on its way from the start.

    It differs when a file below `TREES`, or of `MARKED`, came, went or was touched in any way: content, mode, owner,
    attributes, access lists, capabilities and links set ctime, which nobody can choose (inode(7)). Of `FOR_PEOPLE`, and of
    what Python compiled for packages, only that there is as much as before; so with each day it is another one, too.

    What an earlier walk found is looked at again name by name: where no directory was touched there is nothing beside it, and
    to read directories is a third of a walk.
    """

    def __init__(self) -> None:
        self._places = [place for place in (*TREES, *expanded(MARKED)) if os.path.lexists(place)]
        known, _, self._before = own("walk").partition(b"\n")
        self._digest, *places = known.decode().split("\t")
        same = ("-files0-from", f"{KEPT}/paths", "-maxdepth", "0")
        self._looking = _find(*same) if places == self._places else self._walk()

    def mark(self) -> str:
        """Empty where a file was touched a moment ago: it could be touched once more in the same tick of the clock."""
        looked = self._looking.said()
        if looked != self._before and not self._walking:
            looked = self._walk().said()
        if not looked or TOUCHED in looked:
            return ""
        if looked != self._before:
            import hashlib

            self._digest = hashlib.sha256(looked).hexdigest()
            with contextlib.suppress(OSError):
                os.replace(f"{KEPT}/.paths.{os.getpid()}", f"{KEPT}/paths")
            keep("walk", "\t".join((self._digest, *self._places)).encode() + b"\n" + looked)
        return "\n".join((self._digest, str(time.time() // DAY), *map(identity, DATABASES), *LOCAL))

    _walking = False

    def _walk(self) -> Begun:
        self._walking = True
        people = [word for place in FOR_PEOPLE for word in ("-o", "-path", place)]
        compiled = ("-name", "__pycache__", "!", "-path", "/usr/local/*")
        with contextlib.suppress(OSError):
            os.makedirs(KEPT, mode=0o700, exist_ok=True)
        return _find(
            *self._places, "(", "-type", "d", "(", *compiled, *people, ")", "-prune", "-o", "-true", ")",
            "-fprint0", f"{KEPT}/.paths.{os.getpid()}",
        )  # fmt: skip


def _find(*which: str) -> Begun:
    """Path, inode and ctime of each file that find(1) chooses, and `TOUCHED` behind it where that was a moment ago."""
    just = ("-newerct", f"@{time.time() - TICK:.3f}", "-printf", r"\0")
    return Begun("find", *which, "-printf", r"%p %i %C@\n", *just, LC_ALL="C", TZ="UTC")


def mark_of_files() -> str:
    """The same, waited for."""
    return Marking().mark()


def mark_with(mark: str, script: str, beside: collections.abc.Iterable[str]) -> str:
    """A mark for what a script says that looks at files alone.

    Args:
        mark: Of the files.
        beside: What it looks at elsewhere; of directories only who may do what in them; what a star stands for is looked at each by itself.
    """
    now = time.time() - TICK
    words = [script]
    for path in expanded(tuple(beside)):
        followed = os.path.realpath(path)
        if followed == path and in_trees(path):
            continue  # its mark is that of the files
        for status in filter(None, map(status_of, (path, followed))):
            directory = stat.S_ISDIR(status.st_mode)
            if not directory and status.st_ctime > now:
                return ""
            words.append(
                f"{path} {status.st_dev} {status.st_ino} {status.st_mode} {status.st_uid} {status.st_gid} "
                + ("" if directory else f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}")
            )
    return "\n".join((mark, *words)) if mark else ""


def status_of(path: str) -> os.stat_result | None:
    with contextlib.suppress(OSError):
        return os.lstat(path)
    return None


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
