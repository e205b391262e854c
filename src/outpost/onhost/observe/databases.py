"""What databases of daemons do by themselves: triggers and views of SQLite, functions of Redis; no package here brings any."""

from __future__ import annotations

import collections.abc
import contextlib
import itertools
import os

from outpost.onhost.observe.reading import named

TOP, DEEP = "/var/lib", 2
ENDINGS = (".db", ".sqlite", ".sqlite3")
MOST = 10_000
"""Triggers and views of one database that are named."""
MAGIC = b"SQLite format 3\0"
PATIENCE = 5.0
"""Seconds for a daemon that writes."""


def functions(listed: list[str]) -> list[str]:
    """Libraries that somebody loaded into Redis: they outlive its restart, and nothing here brings any.

    Args:
        listed: As FUNCTION LIST has them.
    """
    names = (name for label, name in itertools.pairwise(listed) if label == "library_name")
    return [f"function\tredis-server.service\t{named(name)}" for name in names]


def triggers() -> list[str]:
    """One for each trigger and view: each account that writes the database runs it."""
    found = []
    for path in _databases(TOP, DEEP):
        with contextlib.suppress(FileNotFoundError):  # a copy that was made for a backup goes meanwhile
            with open(path, "rb") as file:
                if file.read(len(MAGIC)) != MAGIC:
                    continue
            import hashlib  # what takes time to load, and not every host has one
            import sqlite3

            with contextlib.closing(
                sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=PATIENCE)
            ) as database:
                rows = database.execute(
                    "SELECT type, name, sql FROM sqlite_master WHERE type IN ('trigger', 'view') LIMIT ?",
                    (MOST,),
                )
                for kind, name, sql in rows:
                    digest = hashlib.sha256(str(sql).encode(errors="replace")).hexdigest()[:16]
                    found.append(f"trigger\t{named(path)}\t{kind} {digest} {named(str(name))}")
    return found


def _databases(top: str, deep: int) -> collections.abc.Iterator[str]:
    with contextlib.suppress(FileNotFoundError), os.scandir(top) as entries:
        for entry in entries:
            if entry.name.endswith(ENDINGS) and entry.is_file():
                yield entry.path
            elif deep and entry.is_dir():
                yield from _databases(entry.path, deep - 1)
