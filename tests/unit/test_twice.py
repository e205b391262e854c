"""Duplicates on a store after a crash: which message is the duplicate, and which messages are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from outpost.onhost.twice import given_twice, recent

MESSAGE = """\
Return-Path: <head@ho.test>
Delivered-To: {to}
Received: from mta.po.test ([10.0.2.21])
\tby store.po.test with LMTP id {delivery}; Mon, 2 Nov 2026 08:00:0{second} +0000
Received: from mx.ho.test by mta.po.test with ESMTPS id {entry}; Mon, 2 Nov 2026 07:59:59 +0000
{before}{transfer}Message-ID: <{name}@ho.test>
Subject: Tender

{text}
"""
FIRST = {
    "to": "bob@po.test",
    "delivery": "one",
    "second": "0",
    "entry": "4gVx",
    "before": "",
    "transfer": "",
    "name": "1",
    "text": "text",
}
SECOND = FIRST | {"delivery": "two", "second": "7"}
THERE = "Received: by mx.ho.test id 5hW; Mon, 2 Nov 2026 07:59:58 +0000\n"


@pytest.fixture
def mail(tmp_path: Path) -> Path:
    for folder in ("cur", "new", ".Archive/cur", ".Archive/new"):
        (tmp_path / "bob/Maildir" / folder).mkdir(parents=True)
    return tmp_path


def put(mail: Path, name: str, message: dict[str, str]) -> None:
    (mail / "bob/Maildir" / name).write_text(MESSAGE.format(**message))


def test_a_message_of_many_parts_within_parts_stops_nothing(mail: Path) -> None:
    """A stranger sends one: Python's parser of parts raises RecursionError, and no pair would be found for hours."""
    nested = "".join(f"--a{n}\nContent-Type: multipart/mixed; boundary=a{n + 1}\n\n" for n in range(2000))
    put(
        mail,
        "new/5.M3.store",
        FIRST | {"before": "Content-Type: multipart/mixed; boundary=a0\n", "text": nested},
    )
    test_of_one_transfer_delivered_twice_the_later_message_goes(mail, "cur/1.M1.store:2,S", {})


@pytest.mark.parametrize("first", ["cur/1.M1.store:2,S", "new/1.M1.store"])
@pytest.mark.parametrize("more", [{}, {"transfer": "X-Office-Transfer: abc\n", "before": THERE}])
def test_of_one_transfer_delivered_twice_the_later_message_goes(
    mail: Path, first: str, more: dict[str, str]
) -> None:
    put(mail, first, FIRST | more)
    put(mail, "new/7.M2.store", SECOND | more | ({"entry": "4gVy"} if more else {}))
    assert [path.name for path in given_twice(recent(mail, 0))] == ["7.M2.store"]


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("new/7.M2.store", FIRST),  # a copy that its user made
        ("new/7.M2.store", SECOND | {"entry": "4gVy"}),  # a user sent it a second time
        ("new/7.M2.store", SECOND | {"entry": "4gVy", "transfer": "X-Office-Transfer: other\n"}),
        ("new/7.M2.store", SECOND | {"to": "bob+tender@po.test"}),
        # a stranger knows Message-ID and trace lines of a message
        ("new/7.M2.store", SECOND | {"entry": "4gVy", "before": THERE}),
        ("new/7.M2.store", SECOND | {"text": "another text, below lines that its sender wrote"}),
        (".Archive/new/7.M2.store", SECOND),
        ("cur/7.M2.store:2,S", SECOND),  # somebody has read it
    ],
)
def test_anything_else_stays(mail: Path, name: str, other: dict[str, str]) -> None:
    put(mail, "new/1.M1.store", FIRST)
    put(mail, name, other)
    assert list(given_twice(recent(mail, 0))) == []


def test_what_did_not_come_by_lmtp_stays(mail: Path) -> None:
    for name in ("1.M1.store", "7.M2.store"):
        (mail / "bob/Maildir/new" / name).write_text("Subject: saved by its user\n\ntext\n")
    assert list(given_twice(recent(mail, 0))) == []


def test_only_what_is_recent_is_read(mail: Path) -> None:
    put(mail, "new/1.M1.store", FIRST)
    newest = max(path.stat().st_ctime for path in recent(mail, 0))
    assert list(recent(mail, newest + 1)) == []
