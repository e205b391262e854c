"""What users teach the filter: whose lessons count, how many, and what happens to lessons that no filter accepts."""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from outpost.onhost import learn
from outpost.onhost.learn import Filter, Ledger, UnavailableError, answered, moved, teach
from outpost.target import ROOT
from outpost.templates import environment, render

BOB, CAROL, DAVE = (f"{name}@po.myertor.test" for name in ("bob", "carol", "dave"))
LEARNT = "Results for file: stdin (0.09 seconds) success = true;"
KNOWN = 'error = "<m1@x> has been already learned as spam, ignore it";'
Lessons = list[tuple[str, str, bytes]]


@pytest.fixture
def mail(tmp_path: Path) -> Path:
    for name in ("bob", "carol", "dave", ".former"):
        (tmp_path / "mail" / name / "Maildir/cur").mkdir(parents=True)
    return tmp_path / "mail"


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    (tmp_path / "spool").mkdir()
    return tmp_path / "spool"


@pytest.fixture
def settings(spool: Path) -> dict[str, Any]:
    places = [
        {"address": f"192.0.2.{number}", "name": f"mta{number}", "spam": 1, "ham": 2} for number in (1, 2)
    ]
    return {"filters": places, "spool": str(spool), "largest": 100, "domain": "po.myertor.test"}


@pytest.fixture
def lessons(monkeypatch: pytest.MonkeyPatch) -> Lessons:
    """The requests to both MTAs; they learn everything."""
    requests: Lessons = []

    def ask(self: Filter, verdict: str, message: bytes) -> str:
        requests.append((self.name, verdict, message))
        return LEARNT

    monkeypatch.setattr(Filter, "learn", ask)
    return requests


def ledger(**differs: Any) -> Ledger:
    usual: dict[str, Any] = {"daily": 25, "alone": 100, "day": "2026-11-30", "answered": time.time()}
    return Ledger(**usual | differs)


def put(spool: Path, name: str, text: bytes = b"text\n") -> Path:
    (spool / name).write_bytes(text)
    return spool / name


def test_every_mta_learns_what_a_user_moved(
    settings: dict[str, Any], spool: Path, mail: Path, lessons: Lessons
) -> None:
    put(spool, f"{BOB}.spam.x1")
    put(spool, f"{BOB}.ham.x2", b"z" * 1000)
    kept = ledger()
    assert teach(settings, kept, mail)["learnt"] == 2
    assert sorted(lessons) == sorted(
        (mta, verdict, message)
        for mta in ("mta1", "mta2")
        for verdict, message in (("spam", b"text\n"), ("ham", b"z" * 100))
    )
    assert kept.taught == {BOB: 2}
    assert list(spool.iterdir()) == []


def test_what_one_mta_did_not_hear_waits_and_the_other_is_asked_on(
    settings: dict[str, Any], spool: Path, mail: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filters: list[str] = []

    def ask(self: Filter, _verdict: str, _message: bytes) -> str:
        filters.append(self.name)
        if self.name == "mta1":
            raise UnavailableError("mta1: refused")
        return KNOWN

    monkeypatch.setattr(Filter, "learn", ask)
    put(spool, f"{BOB}.spam.x1")
    put(spool, f"{BOB}.spam.x2")
    kept = ledger()
    teach(settings, kept, mail)
    assert filters == ["mta1", "mta2", "mta2"]
    assert len(list(spool.iterdir())) == 2
    assert kept.taught == {}
    long_ago = time.time() - learn.KEPT - 60
    for lesson in spool.iterdir():
        os.utime(lesson, (long_ago, long_ago))
    teach(settings, kept, mail)
    assert list(spool.iterdir()) == []


def test_one_user_teaches_so_much_a_day(
    settings: dict[str, Any], spool: Path, mail: Path, lessons: Lessons
) -> None:
    for number in range(5):
        put(spool, f"{BOB}.spam.x{number}")
    put(spool, f"{CAROL}.spam.x1")
    done = teach(settings, ledger(daily=3), mail)
    assert (done["learnt"], done["beyond a user's limit"]) == (4, 2)
    assert len(lessons) == 2 * 4
    assert list(spool.iterdir()) == []


def test_one_user_alone_never_reaches_what_bayes_needs() -> None:
    kept = ledger(daily=10_000)
    for _ in range(1000):
        if kept.admits(BOB):
            kept.count(BOB)
    assert kept.taught[BOB] == 100
    kept.count(CAROL)
    assert kept.admits(BOB)


def test_the_ledger_comes_back_and_a_new_day_begins_at_none(tmp_path: Path) -> None:
    place = tmp_path / "ledger.json"
    kept = ledger()
    kept.count(BOB)
    kept.write(place)
    again = Ledger.read(place, daily=25, alone=100, day="2026-11-30")
    assert again == kept
    tomorrow = Ledger.read(place, daily=25, alone=100, day="2026-12-01")
    assert (tomorrow.today, tomorrow.taught) == ({}, {BOB: 1})


@pytest.mark.parametrize("text", ["", "[]", "null", '{"taught": 3}', '{"taught": {"a": []}}', "{" * 5000])
def test_a_ledger_that_cannot_be_read_begins_at_none(tmp_path: Path, text: str) -> None:
    place = tmp_path / "ledger.json"
    place.write_text(text)
    assert Ledger.read(place, daily=1, alone=1, day="x").taught == {}


def test_what_nobody_with_a_mailbox_taught_goes(spool: Path, mail: Path) -> None:
    for name in (
        "eve@po.myertor.test.spam.x",
        f"{BOB}.virus.x",
        f"{BOB}.spam",
        "x",
        ".former.spam.x",
        "..spam.x",
    ):
        put(spool, name)
    put(spool, "tmp.x1")
    os.mkfifo(spool / f"{BOB}.spam.fifo")
    (spool / f"{BOB}.spam.link").symlink_to("/etc/passwd")
    assert [lesson.message.name for lesson in moved(spool, mail)] == []
    assert {path.name for path in spool.iterdir()} == {"tmp.x1", f"{BOB}.spam.fifo", f"{BOB}.spam.link"}


def test_answered_messages_are_no_junk(mail: Path) -> None:
    for home, name in (("bob", "1.host,S=5:2,RS"), ("bob", "2.host:2,S"), ("carol", "3.host:2,R"), (".former", "4.host:2,R")):  # fmt: skip
        (mail / home / "Maildir/cur" / name).write_text("text")
    found = list(answered(mail, "po.myertor.test", 0))
    assert {(lesson.user, lesson.message.name, lesson.verdict) for lesson in found} == {
        (BOB, "1.host,S=5:2,RS", "ham"),
        (CAROL, "3.host:2,R", "ham"),
    }
    assert list(answered(mail, "po.myertor.test", time.time() + 60)) == []


def test_answered_messages_stay_and_are_not_searched_for_each_time(
    settings: dict[str, Any], mail: Path, lessons: Lessons
) -> None:
    message = mail / "dave/Maildir/cur/1.host:2,R"
    message.write_text("text")
    kept = ledger(answered=0.0)
    teach(settings, kept, mail)
    teach(settings, kept, mail)
    assert len(lessons) == 2
    assert message.exists()
    assert kept.taught == {DAVE: 1}


@pytest.fixture
def spooling(tmp_path: Path, spool: Path) -> Path:
    program = tmp_path / "learn"
    context = {"spool": spool, "largest": 100, "waiting": 5, "domain": "po.myertor.test"}
    program.write_text(
        render(environment(ROOT / "templates/store"), "usr/local/lib/outpost/sieve/learn.j2", context)
    )
    return program


def moves(program: Path, verdict: str, user: str, message: bytes = b"text\n", author: str = "") -> None:
    command = ["sh", str(program), verdict, user, author]
    done = subprocess.run(command, input=message, check=True, capture_output=True, env={"PATH": os.environ["PATH"], "HOME": str(program.parent)})  # fmt: skip
    assert done.stdout + done.stderr == b""  # Dovecot would report it


def is_allowed(program: Path, author: str) -> bool:
    text = (ROOT / "templates/store/usr/local/lib/outpost/sieve/allowed.j2").read_text(encoding="utf-8")
    command = ["sh", "-c", text, "allowed", author]
    return subprocess.run(command, check=False, env={"PATH": os.environ["PATH"], "HOME": str(program.parent)}).returncode == 0  # fmt: skip


def test_an_author_who_was_taken_out_of_junk_is_allowed_until_put_back(spooling: Path) -> None:
    for author in ("shop@example.net", "news@example.net"):
        moves(spooling, "ham", BOB, author=author)
    assert is_allowed(spooling, "Shop@Example.net")
    assert not is_allowed(spooling, "hop@example.net")
    assert not is_allowed(spooling, "shop@exampleXnet")
    moves(spooling, "spam", BOB, author="SHOP@example.net")
    assert not is_allowed(spooling, "shop@example.net")
    assert is_allowed(spooling, "news@example.net")


@pytest.mark.parametrize("author", ["", "@", "a@b@c", "a", "a b@c", "a@c\nd@e", "-e@c*", "$(id)@c", ".*@.*"])
def test_what_is_no_address_is_never_allowed(spooling: Path, author: str) -> None:
    moves(spooling, "ham", BOB, author="shop@example.net")
    before = (spooling.parent / "allowed").read_text()
    moves(spooling, "ham", BOB, author=author)
    assert (spooling.parent / "allowed").read_text() == before
    assert not is_allowed(spooling, author)


def test_the_newest_five_hundred_authors_are_kept(spooling: Path) -> None:
    place = spooling.parent / "allowed"
    place.write_text("".join(f"a{number}@example.net\n" for number in range(600)))
    moves(spooling, "ham", BOB, author="shop@example.net")
    kept = place.read_text().splitlines()
    assert (len(kept), kept[0], kept[-1]) == (500, "a101@example.net", "shop@example.net")


def filter_of(program: Path) -> list[str]:
    """The three lists that the delivery's filter uses: blocked authors, blocked domains, and authors who are allowed in such a domain."""
    _, _, rule = (program.parent / "blocked.sieve").read_text().partition("anyof")
    lists = re.findall(r"\[.*?\]", rule, re.DOTALL)
    return [one.replace("\n", "") for one in lists]


def test_whom_a_user_blocks_is_in_the_filter_alone_or_with_the_whole_domain(
    spooling: Path, spool: Path
) -> None:
    moves(spooling, "block", BOB, author="pest@example.net")
    moves(spooling, "block_domain", BOB, author="Shop@Bad.example")
    assert filter_of(spooling) == ['["?", "pest@example.net"]', '["?", "Bad.example"]', '["?"]']
    moves(spooling, "ham", BOB, author="friend@bad.example")
    assert filter_of(spooling)[2] == '["?", "friend@bad.example"]'
    moves(spooling, "block_domain", BOB, author="friend@bad.example")  # meant for this author, too
    assert filter_of(spooling)[1:] == ['["?", "bad.example"]', '["?"]']
    moves(spooling, "unblock_domain", BOB, author="other@BAD.example")
    moves(spooling, "unblock", BOB, author="Pest@example.net")
    assert filter_of(spooling) == ['["?"]'] * 3
    assert [path.name for path in spool.iterdir() if "block" in path.name] == []


def test_nobody_blocks_the_whole_office(spooling: Path) -> None:
    moves(spooling, "block_domain", BOB, author="carol@PO.myertor.test")
    assert not (spooling.parent / "domains").exists()
    moves(spooling, "block_domain", BOB, author="carol@head.po.myertor.test")
    assert filter_of(spooling)[1] == '["?", "head.po.myertor.test"]'


@pytest.mark.parametrize("author", ["a@b]{}stop;", 'a"]@c', "a@c\nd@e", "@c", "a@", "a@b@c"])
def test_no_author_becomes_a_part_of_the_filter(spooling: Path, author: str) -> None:
    for verdict in ("block", "block_domain"):
        moves(spooling, verdict, BOB, author=author)
    assert not (spooling.parent / "blocked.sieve").exists()


def test_a_copy_waits_under_its_users_name(spooling: Path, spool: Path, mail: Path) -> None:
    moves(spooling, "spam", BOB, b"a" * 1_000_000)
    moves(spooling, "ham", BOB)
    found = {(lesson.user, lesson.verdict, lesson.message.stat().st_size) for lesson in moved(spool, mail)}
    assert found == {(BOB, "spam", 100), (BOB, "ham", 5)}
    assert {path.stat().st_mode & 0o777 for path in spool.iterdir()} == {0o600}


def test_one_user_fills_nothing_and_hinders_nobody(spooling: Path, spool: Path) -> None:
    for _ in range(9):
        moves(spooling, "spam", BOB)
    moves(spooling, "spam", CAROL)
    names = sorted(path.name.partition(".spam")[0] for path in spool.iterdir())
    assert names == [BOB] * 5 + [CAROL]


@pytest.mark.parametrize("user", ["../eve", "a/b@po.myertor.test", ""])
def test_no_name_leads_out_of_the_spool(spooling: Path, spool: Path, user: str) -> None:
    moves(spooling, "spam", user)
    assert [path for path in spool.parent.rglob("*.spam.*") if path.parent != spool] == []


def test_no_spool_delays_no_move(spooling: Path, spool: Path) -> None:
    spool.rmdir()
    moves(spooling, "spam", BOB)
