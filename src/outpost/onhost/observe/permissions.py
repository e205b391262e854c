"""Modes, owners, capabilities and mounts."""

from __future__ import annotations

import contextlib
import functools
import grp
import os
import pwd
import re
import stat

from outpost.onhost.observe.places import (
    DATABASE,
    FOR_PEOPLE,
    GUARDED,
    LISTED,
    PASSING,
    SPECIAL,
    STATE_OF_DAEMONS,
    expanded,
)
from outpost.onhost.observe.reading import content, named, said

MOUNTED = ("/dev/shm", "/srv/mail", "/tmp", "/var/tmp")


def modes() -> list[str]:
    found = []
    for path in (
        *GUARDED,
        *(place for place in expanded(STATE_OF_DAEMONS) if stat.S_ISDIR(os.lstat(place).st_mode)),
    ):
        with contextlib.suppress(OSError, KeyError):
            status = os.lstat(path)
            found.append(
                f"mode\t{named(path)}\t{status.st_mode if stat.S_ISLNK(status.st_mode) else status.st_mode & 0o7777:o} {owner(status.st_uid)} {group(status.st_gid)}"
            )
    for line in content("/proc/self/mounts").splitlines():
        _, target, _, options, *_ = line.split(" ")
        if target in MOUNTED:
            kept = [word for word in options.split(",") if word in ("ro", "rw", "noexec", "nosuid", "nodev")]
            found.append(f"mount\t{target}\t{','.join(kept)}")
        elif not re.match(r"/(proc(?!/\d)|sys|dev|run|var/lib/docker)(/|$)", target):
            found.append(f"mounted\t{target}\t")
    return found


@functools.cache
def owner(number: int) -> str:
    return pwd.getpwuid(number).pw_name


@functools.cache
def group(number: int) -> str:
    return grp.getgrgid(number).gr_name


USUAL = r"-user root -group root \( -type f \( -perm 644 -o -perm 755 -o -perm 444 -o -perm 555 \) -o -type d -perm 755 \)"


def special(declared: set[str], listed: list[str]) -> list[str]:
    """Files and directories that find(1) picked, with mode, owner and group."""
    return [
        f"special\t{named(path)}\t{rest}"
        for rest, _, path in (line.replace("\1", "\n").partition("|") for line in listed)
        if path not in declared and path not in GUARDED and not PASSING.search(path)
    ]


def special_elsewhere(declared: set[str], listed: list[str]) -> list[str]:
    """The same outside `TREES`, where find(1) picks what an account may start as well."""
    return special(declared, [line for line in listed if int(line.partition(" ")[0], 8) & 0o6002])


def capable_elsewhere(listed: list[str]) -> list[str]:
    """Programs there that give rights to each account that starts them (capabilities(7)); find(1) does not know these."""
    paths = (line.replace("\1", "\n").partition("|")[2] for line in listed)
    return [found for path in paths for found in capability(path)]


def capability(path: str) -> list[str]:
    with contextlib.suppress(OSError):
        value = os.getxattr(path, "security.capability", follow_symlinks=False)
        return [f"capability\t{named(path)}\t{value.hex()}"]
    return []


def privileges(declared: set[str], *trees: str) -> list[str]:
    """Below these `TREES`: programs that run as somebody else, what others than root may write or only some may read, and capabilities."""
    wanted = rf"{SPECIAL} -o ! -type l ! \( {USUAL} \)"
    places = [(" ".join(trees), wanted), *([(DATABASE, SPECIAL)] if "/usr" in trees else [])]
    looks = (rf"find {where} -xdev \( {what} \) {LISTED}" for where, what in places)
    found = special(declared, [line for look in looks for line in said(look)])
    for top in (*trees, *([DATABASE] if "/usr" in trees else [])):
        for directory, inner, names in os.walk(top):
            inner[:] = [name for name in inner if f"{directory}/{name}" not in FOR_PEOPLE]
            for name in names:
                found += capability(f"{directory}/{name}")
    return found
