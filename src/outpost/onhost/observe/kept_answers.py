"""Caches answers that depend on files alone, under one mark of all those files."""

import collections.abc
import contextlib
import json
import os
import stat
import time

from outpost.onhost.observe import KEY, places
from outpost.onhost.observe.declared import APPLIED, KNOWN, LOCAL
from outpost.onhost.observe.places import expanded
from outpost.onhost.observe.reading import Begun

KEPT = "/run/outpost/observed"
"""Cached answers, each sealed, with the mark of their files. Only root can read them, because some contain daemons' keys; a boot removes them."""
DAY = 24 * 3600
TOUCHED = b"\0"
USR = "/usr"
"""A tree with a mark of its own: only packages change it."""
TICK = 0.1
"""Seconds; many times a tick of the clock that gives files their times."""
MARKED = (
    *(place for place in (*places.WATCHED, *places.PACKAGES_OWN, APPLIED) if not place.startswith(places.TREES)),
    *(f"/home/*/{name}" for name in places.HOMES), *places.MERGED, *places.SINGLE, *places.UNSCANNED, f"{places.DATABASE}/info", "/run/systemd/systemd-units-load",
)  # fmt: skip
"""With `TREES`: files there are unchanged since an earlier scan as long as none was touched. systemd touches
the last whenever it reads units."""
DATABASES = (
    "/etc/localtime", "/var/lib/apt/extended_states", "/var/lib/dpkg/arch", "/var/lib/dpkg/diversions", "/var/lib/dpkg/info", "/var/lib/dpkg/statoverride",
    "/usr/share/zoneinfo/Etc/UTC", "/var/lib/dpkg/status", "/var/lib/outpost/packages",
)  # fmt: skip
"""Files of packages and of this program: they are replaced as a whole. The clock's zone and UTC are where no walk goes."""


def kept(
    name: str,
    mark: str,
    ask: collections.abc.Callable[[], collections.abc.Iterable[str]],
    lasting: collections.abc.Callable[[list[str]], bool] | None = None,
) -> list[str]:
    """An earlier scan's answer with the same mark, else a new one. Without a mark it is not cached.

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
    """An answer that was cached with the office's secret; nothing if somebody has changed it."""
    with contextlib.suppress(OSError):
        with open(f"{KEPT}/{name}", "rb") as stream:
            seal, _, what = stream.read().partition(b"\n")
        if seal and seal == sealed(name, what):
            return what
    return b""


def keep(name: str, what: bytes) -> None:
    """Store an answer; nothing if the place cannot be written, or the caller has no secret."""
    seal = sealed(name, what)
    if not seal:
        return
    with contextlib.suppress(OSError):
        os.makedirs(KEPT, mode=0o700, exist_ok=True)
        new = f"{KEPT}/.{name}.{os.getpid()}"
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
            stream.write(seal + b"\n" + what)
        os.replace(new, f"{KEPT}/{name}")


def sealed(name: str, what: bytes) -> bytes:
    """BLAKE2 with a key (RFC 7693); empty if the caller has none."""
    key = os.environ.get(KEY, "").encode()[:64]
    if not key:
        return b""
    import hashlib

    return hashlib.blake2b(name.encode() + b"\0" + what, key=key).hexdigest().encode()


class Marking:
    """The mark of files; its computation starts at once.

    It differs when a file below `TREES`, or of `MARKED`, came, went or was touched in any way: content, mode, owner,
    attributes, access lists, capabilities and links set ctime, which nobody can choose (inode(7)). Of `FOR_PEOPLE` only the
    directory itself counts; therefore the mark also changes each day.
    """

    def __init__(self) -> None:
        there = [
            place
            for place in (*places.TREES, *expanded(MARKED))
            if os.path.lexists(place) and not places.PASSING.search(place)
        ]
        self._walks = _walk(*(place for place in there if place != USR)), _walk(USR)

    def marks(self) -> tuple[str, str]:
        """Of all, and of /usr alone. Empty if a file was touched a moment ago: another change could fall into the same tick of the clock."""
        rest, usr = map(_digest, self._walks)
        beside = "\n".join((str(time.time() // DAY), *map(identity, DATABASES), *LOCAL))
        of_all = f"{rest} {usr}\n{beside}\n{identity(KNOWN)}" if rest and usr else ""
        return of_all, f"{usr}\n{beside}" if usr else ""


def _walk(*tops: str) -> Begun:
    """Path, inode and ctime of each file there, with `TOUCHED` at the end if it changed a moment ago."""
    people = [word for place in places.FOR_PEOPLE for word in ("-o", "-path", place)]
    just = ("(", "-newerct", f"@{time.time() - TICK:.3f}", "-printf", r"\0\n", "-o", "-printf", r"\n", ")")
    return Begun(
        "find", *tops, "(", "-type", "d", "(", "-false", *people, ")", "-prune", "-o", "-true", ")",
        "-printf", "%p %i %C@", *just, LC_ALL="C", TZ="UTC",
    )  # fmt: skip


def _digest(walk: Begun) -> str:
    """Empty if a file was touched a moment ago, or the walk did not end."""
    import hashlib

    found = walk.output()
    return hashlib.sha256(found).hexdigest() if found and not walk.late and TOUCHED not in found else ""


def mark_with(mark: str, script: str, beside: collections.abc.Iterable[str]) -> str:
    """A mark for the answers of a script that only reads files.

    Args:
        beside: Files that it reads elsewhere; of directories only owner and mode; globs are expanded.
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
    return path in places.TREES or path.startswith(tuple(f"{top}/" for top in places.TREES))
