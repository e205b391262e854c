"""Accounts, groups, and who has a password."""

from __future__ import annotations

import contextlib
import grp
import hashlib
import pathlib
import pwd


def accounts() -> list[str]:
    locked = {}
    found = []
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/etc/shadow").read_text().splitlines():
            name, password, *_ = line.split(":")
            locked[name] = "password" if password[:1] not in ("!", "*") else "locked"
            digest = hashlib.sha256(line.encode()).hexdigest()[:16]
            found.append(f"shadow\t{name}\t{digest}{' locked' * (locked[name] == 'locked')}")
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/etc/gshadow").read_text().splitlines():
            name, password, keepers, *_ = line.split(":")
            if password.strip("!*") or keepers:
                found.append(f"keeper\t{name}\t{keepers or 'whoever has its password'}")
    for entry in pwd.getpwall():
        state = locked.get(entry.pw_name, "locked")
        found.append(
            f"account\t{entry.pw_name}\t{entry.pw_uid}:{entry.pw_gid}:{entry.pw_dir}:{entry.pw_shell}:{state}"
        )
    for group in grp.getgrall():
        found.append(f"group\t{group.gr_name}\t{group.gr_gid}")
        found.extend(f"member\t{group.gr_name}\t{member}" for member in group.gr_mem)
    return found
