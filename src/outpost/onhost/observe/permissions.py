"""Modes, owners, capabilities and mounts."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import re
import stat

from outpost.onhost.observe.kept_answers import TREES
from outpost.onhost.observe.places import GUARDED, PASSING, PROGRAMS, STATE_OF_DAEMONS, expanded
from outpost.onhost.observe.reading import said

MOUNTED = ("/dev/shm", "/srv/mail", "/tmp", "/var/tmp")


def modes() -> list[str]:
    found = []
    for path in (
        *GUARDED,
        *(place for place in expanded(STATE_OF_DAEMONS) if stat.S_ISDIR(os.lstat(place).st_mode)),
    ):
        with contextlib.suppress(OSError, KeyError):
            status = os.lstat(path)
            owner, group = pwd.getpwuid(status.st_uid).pw_name, grp.getgrgid(status.st_gid).gr_name
            found.append(f"mode\t{path}\t{status.st_mode & 0o7777:o} {owner} {group}")
    for line in said("findmnt --raw --noheadings --output TARGET,OPTIONS"):
        target, options = line.split(" ", 1)
        if target in MOUNTED:
            kept = [word for word in options.split(",") if word in ("ro", "rw", "noexec", "nosuid", "nodev")]
            found.append(f"mount\t{target}\t{','.join(kept)}")
        elif not re.match(r"/(proc|sys|dev|run|var/lib/docker)(/|$)", target):
            found.append(f"mounted\t{target}\t")
    return found


SPECIAL = r"-type f -perm /6000 -o -type f -perm -0002 -o -type d -perm -0002 ! -perm -1000"
USUAL = r"-user root -group root \( -type f \( -perm 644 -o -perm 755 -o -perm 444 -o -perm 555 \) -o -type d -perm 755 \)"
ELSEWHERE = ("/proc", "/sys", "/dev", "/run", "/tmp", "/var/tmp", "/srv/mail", "/var/lib/docker")


def special(declared: set[str], places: str, wanted: str) -> list[str]:
    """Files and directories that find(1) picks, with mode, owner and group."""
    return [
        f"special\t{path}\t{rest}"
        for rest, _, path in (
            line.partition("|") for line in said(f"find {places} \\( {wanted} \\) -printf '%m %u %g|%p\\n'")
        )
        if path not in declared and path not in GUARDED and not PASSING.search(path)
    ]


def privileges(declared: set[str]) -> list[str]:
    """Of `TREES`: programs that run as somebody else, what others than root may write or only some may read, and capabilities."""
    found = special(declared, f"{' '.join(TREES)} -xdev", rf"{SPECIAL} -o ! -type l ! \( {USUAL} \)")
    for top in (*expanded(PROGRAMS), "/usr/local", "/opt"):
        for directory, _, names in os.walk(top):
            for name in names:
                with contextlib.suppress(OSError):
                    value = os.getxattr(f"{directory}/{name}", "security.capability", follow_symlinks=False)
                    found.append(f"capability\t{directory}/{name}\t{value.hex()}")
    return found


def privileges_elsewhere(declared: set[str]) -> list[str]:
    """Of all the rest: programs that run as somebody else, and what anybody may write."""
    pruned = " -o ".join(f"-path {top}" for top in (*ELSEWHERE, *TREES))
    return special(declared, rf"/ -xdev \( {pruned} \) -prune -o", SPECIAL)
