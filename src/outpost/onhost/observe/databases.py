"""What databases of daemons do by themselves: triggers and views of SQLite, functions of Redis; no package here brings any."""

from __future__ import annotations

import collections.abc
import contextlib
import itertools
import os

from outpost.onhost.observe.reading import BlindError, ended, named

TOP, DEEP = "/var/lib", 2
ENDINGS = (".db", ".sqlite", ".sqlite3")
TRIGGERS = "SELECT type, name, sql FROM sqlite_master WHERE type IN ('trigger', 'view') LIMIT ?"
MOST, LONGEST = 10_000, 1 << 18
"""Triggers and views of one database that are named, and octets of all that is said of it."""
MAGIC = b"SQLite format 3\0"
PATIENCE = 5.0
"""Seconds for a daemon that writes."""
MEMORY = 1 << 30
"""Octets of address space for the process that reads one."""


def functions(listed: list[str]) -> list[str]:
    """Libraries that somebody loaded into Redis: they outlive its restart, and nothing here brings any."""
    names = (name for label, name in itertools.pairwise(listed) if label == "library_name")
    return [f"function\tredis-server.service\t{named(name)}" for name in names]


def triggers() -> list[str]:
    """One for each trigger and view: each account that writes the database runs it."""
    return [f"trigger\t{named(path)}\t{line}" for path in _databases(TOP, DEEP) for line in _as_owner(path)]


# SYS-01: without it root parses a database that a daemon's account made.
def _as_owner(path: str) -> list[str]:
    """What a process says of a database that has the rights of the account that could have made it, and no others."""
    import hashlib  # what takes time to load, and not every host has one
    import resource
    import sqlite3

    said = os.memfd_create("triggers")
    if not (child := os.fork()):
        with contextlib.suppress(BaseException):
            path = os.path.realpath(path)  # of wtmpdb, for one
            above, file = os.stat(os.path.dirname(path)), os.lstat(path)
            owner = above if above.st_uid else file
            if not os.geteuid():
                os.setgroups([])
                os.setresgid(owner.st_gid, owner.st_gid, owner.st_gid)
                os.setresuid(owner.st_uid, owner.st_uid, owner.st_uid)
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            with open(path, "rb") as stream:
                if stream.read(len(MAGIC)) != MAGIC:
                    os._exit(0)
            with contextlib.closing(
                sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=PATIENCE)
            ) as database:
                room = LONGEST
                for kind, name, sql in database.execute(TRIGGERS, (MOST,)):
                    digest = hashlib.sha256(str(sql).encode(errors="replace")).hexdigest()[:16]
                    line = f"{kind} {digest} {named(str(name))}\n".encode()
                    if (room := room - len(line)) < 0:
                        os._exit(1)
                    os.write(said, line)
            os._exit(0)
        os._exit(1)
    late, status = ended(child)
    try:
        lines = os.pread(said, LONGEST, 0).decode(errors="replace").split("\n")[:-1]
    finally:
        os.close(said)
    if (late or status) and os.path.lexists(path):  # a copy that was made for a backup goes meanwhile
        raise BlindError(
            f"its owner's rights do not suffice to read {named(path)}, or it is damaged, or has too many triggers"
        )
    return [line.replace("\t", " ") for line in lines]


def _databases(top: str, deep: int) -> collections.abc.Iterator[str]:
    with contextlib.suppress(FileNotFoundError), os.scandir(top) as entries:
        for entry in entries:
            if entry.name.endswith(ENDINGS) and entry.is_file():
                yield entry.path
            elif deep and entry.is_dir():
                yield from _databases(entry.path, deep - 1)
