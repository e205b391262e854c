"""After a loss of power, search indexes that may be damaged are removed; nothing else is (AVL-04)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from outpost.converge.files import rendered
from roles.store.declare import UNWRITTEN

INDEX = "fts-flatcurve/current.1/postlist.glass"
CRASHED = 1_800_000_000
LATE, EARLY = CRASHED - UNWRITTEN // 2, CRASHED - 2 * UNWRITTEN


class Store:
    """A directory like the store's, and the program."""

    def __init__(self, root: Path) -> None:
        self.mail, self.mark, self.program = root / "mail", root / "in-use", root / "search"
        self.mail.mkdir()
        given: dict[str, Any] = {"mail": str(self.mail), "mark": str(self.mark), "unwritten": UNWRITTEN}
        self.program.write_bytes(rendered("store", "/usr/local/lib/outpost/search", **given).content)

    def run(self, what: str) -> None:
        subprocess.run(["/bin/sh", str(self.program), what], check=True, timeout=60)

    def file(self, path: str, changed: int) -> Path:
        made = self.mail / path
        made.parent.mkdir(parents=True, exist_ok=True)
        made.write_text("x")
        os.utime(made, (changed, changed))
        return made


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_after_a_loss_of_power_only_indexes_that_were_being_written_are_removed(store: Store) -> None:
    removed = [
        store.file(f"{place}/{INDEX}", changed)
        for place, changed in (
            ("alice/Maildir", CRASHED),
            ("bob/Maildir/.Archive", LATE),
            ("bob/Maildir/.two\nlines; touch $HOME/x", LATE),
            (".shared/.info", LATE),
        )
    ]
    kept = [
        store.file(path, changed)
        for path, changed in (
            (f"carol/Maildir/{INDEX}", EARLY),
            (f"alice/Maildir/.Old/{INDEX}", EARLY),
            ("alice/Maildir/cur/1.M1P1.store", CRASHED),
            ("alice/Maildir/dovecot.index.log", CRASHED),
            (f"alice/Maildir/cur/{INDEX}", CRASHED),
            ("alice/Maildir/.fts-flatcurve/cur/1.M1P1.store", CRASHED),
        )
    ]
    store.run("start")
    assert all(file.exists() for file in (*kept, *removed)), "the first start knows of no loss"
    store.run("start")
    assert [file for file in removed if file.exists()] == []
    assert [file for file in kept if not file.exists()] == []
    assert not any(file.parents[1].exists() for file in removed), "an empty index is left"


def test_after_a_clean_stop_every_index_is_kept(store: Store) -> None:
    index = store.file(f"alice/Maildir/{INDEX}", CRASHED)
    for what in ("start", "stop", "start"):
        store.run(what)
    assert index.exists()


def test_a_store_without_mail_starts(store: Store) -> None:
    store.run("start")
    store.run("start")
    assert store.mark.exists()
