"""Accounts, groups, and who has a password."""

import grp
import hashlib
import os
import pwd

from outpost.onhost.observe.reading import content

DYNAMIC = range(61184, 65520)
"""Users of systemd's DynamicUser=, while the unit runs (nss-systemd(8)); one that is in a file is an ordinary account."""


def entries(path: str) -> list[tuple[str, str, str]]:
    """Name, password and whole line of each entry; other lines are left out."""
    lines = content(path).split("\n")
    return [(*line.split(":")[:2], line) for line in lines if line.count(":") > 2]  # type: ignore[misc]


def accounts() -> list[str]:
    locked = {}
    found = []
    for name, password, line in entries("/etc/shadow"):
        locked[name] = "password" if password[:1] not in ("!", "*") else "locked"
        digest = hashlib.sha256(os.fsencode(line)).hexdigest()[:16]
        found.append(f"shadow\t{name}\t{digest}{' locked' * (locked[name] == 'locked')}")
    for name, password, line in entries("/etc/gshadow"):
        keepers = line.split(":")[2]
        if password.strip("!*") or keepers:
            found.append(f"keeper\t{name}\t{keepers or 'any account that knows its password'}")
    named = {name for file in ("/etc/passwd", "/etc/group") for name, _, _ in entries(file)}
    for entry in pwd.getpwall():
        if entry.pw_uid in DYNAMIC and entry.pw_name not in named:
            continue
        own = f"{entry.pw_uid}:{entry.pw_gid}:{entry.pw_dir}:{entry.pw_shell}"
        found.append(f"account\t{entry.pw_name}\t{own}:{locked.get(entry.pw_name, 'locked')}")
    for group in grp.getgrall():
        if group.gr_gid in DYNAMIC and group.gr_name not in named:
            continue
        found.append(f"group\t{group.gr_name}\t{group.gr_gid}")
        found.extend(f"member\t{group.gr_name}\t{member}" for member in group.gr_mem)
    return found
