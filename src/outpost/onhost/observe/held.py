"""What keeps declared files from being replaced or opens them, and letting go of it."""

from __future__ import annotations

import collections.abc
import contextlib
import fcntl
import os
import struct

from outpost.onhost.observe.kept_answers import in_trees
from outpost.onhost.observe.places import COMMANDS, GUARDED, STATE_OF_DAEMONS, expanded
from outpost.onhost.observe.reading import named

IMMUTABLE, APPEND_ONLY = 0x10, 0x20  # chattr(1): i and a
GET_FLAGS, SET_FLAGS = 0x80086601, 0x40086602  # FS_IOC_GETFLAGS, FS_IOC_SETFLAGS of linux/fs.h, 64 bits
ACCESS_LISTS = ("system.posix_acl_access", "system.posix_acl_default")


def held(paths: set[str], places: collections.abc.Iterable[str]) -> list[str]:
    """Of these places: declared files, and directories on the way, that cannot be replaced, or that more may read than their mode says."""
    found = []
    for path in sorted(places):
        if path.startswith("/var/log") or not os.path.lexists(path) or os.path.islink(path):
            continue
        if path in paths and os.path.isfile(path) and os.stat(path).st_nlink > 1:
            found.append(f"linked\t{named(path)}\t")
        with contextlib.suppress(OSError):
            flags = attributes(path)
            names = [
                name for name, bit in (("immutable", IMMUTABLE), ("append-only", APPEND_ONLY)) if flags & bit
            ]
            if names:
                found.append(f"locked\t{named(path)}\t{', '.join(names)}")
        with contextlib.suppress(OSError):
            if set(ACCESS_LISTS) & set(os.listxattr(path)):
                found.append(f"acl\t{named(path)}\t")
    return found


def on_the_way(paths: set[str]) -> set[str]:
    """What must not keep declared files from being replaced."""
    above = (os.path.dirname(path) for path in paths)
    return {*paths, *above, *GUARDED, *expanded(STATE_OF_DAEMONS), *COMMANDS, "/usr/lib"}


def held_below_trees(paths: set[str]) -> list[str]:
    """The same, and all of /etc."""
    places = {path for path in on_the_way(paths) if in_trees(path)}
    for directory, _, names in os.walk("/etc"):
        places.update((directory, *(f"{directory}/{name}" for name in names)))
    return held(paths, places)


def held_elsewhere(paths: set[str]) -> list[str]:
    """Where a look at the files' mark does not tell."""
    return held(paths, {path for path in on_the_way(paths) if not in_trees(path)})


def attributes(path: str, wanted: int | None = None) -> int:
    """Attributes of a file on disk (chattr(1)), set first where they are given."""
    opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        if wanted is not None:
            fcntl.ioctl(opened, SET_FLAGS, struct.pack("l", wanted))
        return int(struct.unpack("l", fcntl.ioctl(opened, GET_FLAGS, struct.pack("l", 0)))[0])
    finally:
        os.close(opened)


def release(paths: list[str]) -> None:
    """Take away what keeps files and their directories from being replaced, and access lists."""
    for path in dict.fromkeys([*(os.path.dirname(path) for path in paths), *paths]):
        with contextlib.suppress(OSError):
            flags = attributes(path)
            if flags & (IMMUTABLE | APPEND_ONLY):
                attributes(path, flags & ~(IMMUTABLE | APPEND_ONLY))
        for name in ACCESS_LISTS if path in paths else ():
            with contextlib.suppress(OSError):
                os.removexattr(path, name)
        if path in paths and os.path.isfile(path) and os.stat(path).st_nlink > 1:
            import shutil  # what takes time to load

            status = os.stat(path)
            shutil.copy2(path, f"{path}.outpost-new")
            os.chown(f"{path}.outpost-new", status.st_uid, status.st_gid)
            os.replace(f"{path}.outpost-new", path)
