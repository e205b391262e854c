"""Mailboxes scanned again, without clamd: which messages are scanned, which are removed, and the notice to the owner."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from outpost.onhost import rescan
from outpost.onhost.rescan import NoVerdictError, Scanner, UnavailableError, messages, notice, take_out

SETTINGS = {
    "scanners": [{"address": "192.0.2.1", "port": 1, "name": "mta"}],
    "days": 14,
    "largest": 1000,
    "domain": "po.example",
    "organisation": "PO",
    "postmaster": "postmaster@po.example",
}


@pytest.fixture
def mail(tmp_path: Path) -> Path:
    for place in ("bob/Maildir/cur", "bob/Maildir/.Sent/new", ".quarantine/bob", ".former/eve/Maildir/cur"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "1.M1.host,S=5:2,S").write_bytes(b"text\n")
    (tmp_path / "bob/Maildir/dovecot.index").write_bytes(b"index")
    return tmp_path


def test_every_folder_of_present_users_is_scanned_and_nothing_else(mail: Path) -> None:
    found = {str(path.relative_to(mail).parent) for path in messages(mail, 0)}
    assert found == {"bob/Maildir/cur", "bob/Maildir/.Sent/new"}


def test_no_fifo_keeps_the_scan_waiting(mail: Path) -> None:
    os.mkfifo(mail / "bob/Maildir/cur/pipe")
    (mail / "bob/Maildir/cur/link").symlink_to("pipe")
    assert [path.name for path in messages(mail, 0)] == ["1.M1.host,S=5:2,S"] * 2


def test_what_is_older_than_signatures_need_is_left_alone(mail: Path) -> None:
    newest = max(path.stat().st_ctime for path in messages(mail, 0))
    assert list(messages(mail, newest + 1)) == []


def test_what_is_found_is_kept_elsewhere(mail: Path) -> None:
    message = mail / "bob/Maildir/cur/1.M1.host,S=5:2,S"
    (mail / ".quarantine/bob/1.M1.host,S=5:2,S").unlink()
    kept = take_out(message, mail)
    assert not message.exists()
    assert kept == mail / ".quarantine/bob/1.M1.host,S=5"
    assert kept.read_bytes() == b"text\n"


@pytest.mark.parametrize(
    ("answer", "found"), [("stream: OK", ""), ("stream: Eicar-Test-Signature FOUND", "Eicar-Test-Signature")]
)
def test_a_verdict_is_what_clamd_says(monkeypatch: pytest.MonkeyPatch, answer: str, found: str) -> None:
    monkeypatch.setattr(Scanner, "ask", lambda _self, *_parts: answer)
    assert Scanner("192.0.2.1", 1, "mta").verdict(b"text\n") == found


@pytest.mark.parametrize("answer", ["", "INSTREAM size limit exceeded. ERROR"])
def test_no_verdict_is_not_a_clean_one(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    monkeypatch.setattr(Scanner, "ask", lambda _self, *_parts: answer)
    with pytest.raises(UnavailableError):
        Scanner("192.0.2.1", 1, "mta").verdict(b"text\n")


def test_a_message_that_is_read_just_then_stays_for_the_next_night(
    mail: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def seen_meanwhile(message: Path, below: Path) -> Path:
        message.rename(message.with_name(f"{message.name}R"))
        return take_out(message, below)

    monkeypatch.setattr(Scanner, "ask", lambda _self, *_parts: "stream: Eicar-Test-Signature FOUND")
    monkeypatch.setattr(rescan, "take_out", seen_meanwhile)
    monkeypatch.setattr(rescan, "MAIL", mail)
    place = {"address": "192.0.2.1", "port": 1, "name": "mta"}
    rescan.rescan({"scanners": [place], "days": 1, "largest": 100})
    captured = capsys.readouterr()
    assert "which moved" in captured.err
    assert "0 removed" in captured.out


def test_a_notice_carries_no_line_of_the_strangers_making() -> None:
    hostile = b"From: a@b.example\r\nSubject: hello\r\n =?utf-8?q?=0A=0AClick_here?=\r\n\r\nx"
    settings = {"organisation": "Office", "postmaster": "postmaster@po.example"}
    head, _, body = notice(hostile, "Virus", settings, "bob@po.example").partition("\n\n")
    assert "Click" not in head
    assert not any(line.startswith("Click") for line in body.splitlines())


def test_settings_are_where_the_role_puts_them() -> None:
    assert str(rescan.SETTINGS) == "/etc/outpost/rescan.json"


def test_a_scanner_that_finds_something_everywhere_takes_out_no_more(
    mail: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a compromised MTA could empty every mailbox in one night."""
    for number in range(10):
        (mail / f"bob/Maildir/cur/{number}.M2.host,S=5:2,S").write_bytes(b"text\n")
    monkeypatch.setattr(rescan, "MAIL", mail)
    monkeypatch.setattr(rescan, "MOST_TAKEN", 3)
    monkeypatch.setattr(Scanner, "verdict", lambda _self, _message: "Eicar")
    monkeypatch.setattr(rescan, "notify", lambda *_: None)
    with pytest.raises(UnavailableError, match="check the MTA"):
        rescan.rescan(SETTINGS)
    assert len(list(messages(mail, 0))) == 12 - 3


HOSTILE = [
    b"From: " + b"(" * 5000,
    b"Subject: =?utf-8?b?/?=",
    b"Subject: =?x-none?q?a?=",
    b"Date: \xff\xfe\x1b]52;c;eA==\x07",
    b"From: =?utf-8?b?" + b"7aCA" * 200 + b"?=",
    b"".join(b"Content-Type: multipart/mixed; boundary=a%d\n\n--a%d\n" % (n, n) for n in range(2000)),
]
"""Headers and parts at which Python's parsers fail, or that another program would obey."""


@pytest.mark.parametrize("header", HOSTILE)
def test_no_message_can_end_the_night_by_its_notice(header: bytes) -> None:
    text = notice(header + b"\r\n\r\nx", "Eicar", SETTINGS, "bob@po.example")
    assert "\x1b" not in text
    assert text.encode().startswith(b"From: PO <postmaster@po.example>\n")


def test_a_message_without_a_verdict_leaves_the_others_scanned(
    mail: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (mail / "bob/Maildir/.Sent/new/1.M1.host,S=5:2,S").write_bytes(b"makes it fail\n")
    monkeypatch.setattr(rescan, "MAIL", mail)
    monkeypatch.setattr(rescan, "notify", lambda *_: None)
    answers = {True: "Can't allocate memory ERROR", False: "stream: Eicar-Test-Signature FOUND"}
    monkeypatch.setattr(Scanner, "ask", lambda _self, *parts: answers[b"fail" in b"".join(parts)])
    assert not rescan.rescan(SETTINGS)
    assert "1 removed" in capsys.readouterr().out


def test_a_scanner_that_has_no_verdict_on_anything_is_broken(
    mail: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rescan, "MAIL", mail)
    monkeypatch.setattr(rescan, "MOST_FAILED", 2)

    def slow(_self: Scanner, _message: bytes) -> str:
        raise NoVerdictError("timed out")

    monkeypatch.setattr(Scanner, "verdict", slow)
    with pytest.raises(UnavailableError, match="one after the other"):
        rescan.rescan(SETTINGS)


def test_one_mailbox_without_verdicts_does_not_end_the_night(
    mail: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stranger, or its user by IMAP, can put any message there; the others there are scanned, too, but last."""
    for number in range(10):
        (mail / f"bob/Maildir/cur/{number}.M2.host,S=5:2,S").write_bytes(b"makes it fail\n")
        (mail / f"bob/Maildir/.Sent/new/{number}.M3.host,S=5:2,S").write_bytes(b"infected\n")
    (mail / "zoe/Maildir/cur").mkdir(parents=True)
    (mail / "zoe/Maildir/cur/1.M1.host").write_bytes(b"infected\n")
    monkeypatch.setattr(rescan, "MAIL", mail)
    monkeypatch.setattr(rescan, "MOST_FAILED", 2)
    monkeypatch.setattr(rescan, "BATCH", 1)
    monkeypatch.setattr(rescan, "notify", lambda *_: None)

    def answer(_self: Scanner, *parts: bytes) -> str:
        sent = b"".join(parts)
        if b"fail" in sent:
            return "Can't allocate memory ERROR"
        return "stream: Eicar FOUND" if b"infected" in sent else "stream: OK"

    monkeypatch.setattr(Scanner, "ask", answer)
    assert not rescan.rescan(SETTINGS)
    assert not list((mail / "zoe/Maildir/cur").iterdir())
    assert [path.name for path in (mail / "bob/Maildir/.Sent/new").iterdir()] == ["1.M1.host,S=5:2,S"]
    output = capsys.readouterr()
    assert "11 removed, 0 too large to scan, 10 without a verdict" in output.out
    assert output.err.index("to zoe") < output.err.rindex("to bob")


def test_a_scan_that_took_too_long_removes_no_message(
    mail: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rescan, "MAIL", mail)
    answer = "stream: Heuristics.Limits.Exceeded.MaxScanTime FOUND"
    monkeypatch.setattr(Scanner, "ask", lambda _self, *_parts: answer)
    assert not rescan.rescan(SETTINGS)
    assert "0 removed, 0 too large to scan, 2 without a verdict" in capsys.readouterr().out


def test_one_mailbox_full_of_viruses_does_not_end_the_night(
    mail: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (mail / "zoe/Maildir/cur").mkdir(parents=True)
    (mail / "zoe/Maildir/cur/1.M1.host").write_bytes(b"text\n")
    for number in range(10):
        (mail / f"bob/Maildir/cur/{number}.M2.host,S=5:2,S").write_bytes(b"text\n")
    monkeypatch.setattr(rescan, "MAIL", mail)
    monkeypatch.setattr(rescan, "MOST_OF_ONE", 3)
    monkeypatch.setattr(Scanner, "verdict", lambda _self, _message: "Eicar")
    monkeypatch.setattr(rescan, "notify", lambda *_: None)
    assert not rescan.rescan(SETTINGS)
    assert len(list(messages(mail, 0))) == 12 - 3


@pytest.mark.parametrize("name", ["x\r\n<3>forged", "a\0b", "call +1 900 555", "x" * 300])
def test_the_scanner_writes_no_text_of_its_own_into_a_mailbox(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(Scanner, "ask", lambda _self, *_parts: f"stream: {name} FOUND")
    with pytest.raises(UnavailableError):
        Scanner("192.0.2.1", 1, "mta").verdict(b"text\n")
