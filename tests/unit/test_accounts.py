"""Users' own passwords and settings on the store, without sockets and Dovecot: who may change what, and what a new first password makes invalid."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from unittest.mock import ANY

import pytest

from outpost.onhost.accounts import (
    RECOVERY,
    WRONG_CODES,
    Accounts,
    Chosen,
    ask_dovecot,
    end_sessions,
    time_code,
    token_hash,
)
from outpost.onhost.passkeys import Passkeys
from tests.awaiting import until

ALICE = "alice@po.example.com"
FIRST, GOOD = "{ARGON2ID}first", "cobalt ravine tuba mosaic"


class Browser:
    """Stands in for python3-fido2, which only the store has: the right answer repeats the number of the question."""

    def __init__(self) -> None:
        self.questions = 0

    def to_make(self, address: str, known: Iterable[str]) -> tuple[dict[str, Any], int]:
        options, kept = self.to_use(known)
        return options | {"user": address}, kept

    def to_use(self, known: Iterable[str]) -> tuple[dict[str, Any], int]:
        self.questions += 1
        return {"question": self.questions, "known": list(known)}, self.questions

    def made(self, kept: int, answer: str) -> str:
        self.check(kept, ["key"], answer)
        return "key"

    def check(self, kept: int, known: Iterable[str], answer: str) -> None:
        if json.loads(answer) != {"answer": kept} or "key" not in known:
            raise ValueError


@dataclass
class Desk:
    """An office's accounts, with a clock that the test turns and passwords in clear."""

    own: Path
    declared: Path
    now: float = 1_700_000_000.0
    ended: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.own.mkdir()
        self.used = self.own.with_name("used")
        self.used.mkdir()
        self.declare()
        words = self.declared.with_name("words.json")
        words.write_text('["myertor"]')
        self.accounts = Accounts(
            domain="po.example.com",
            words=words,
            declared=self.declared,
            own=self.own,
            used=self.used,
            session_seconds=3600,
            verify=self.verify,
            hash_password=lambda password: f"{{ARGON2ID}}{password}",
            draw=lambda text: f"data:{text}",
            ended=self.ended.append,
            passkeys=cast(Passkeys, Browser()),
            server=("store.po.example.com", 993, 465),
            profile="https://autoconfig.po.example.com/mail/apple.mobileconfig",
            clock=lambda: self.now,
        )

    def declare(
        self, hashed: str = FIRST, *, one_time: bool = True, factor_from: float | None = None
    ) -> None:
        mark = " one_time=yes" if one_time else ""
        mark += "" if factor_from is None else f" factor_from={factor_from:.0f}"
        self.declared.write_text(f"# accounts\n{ALICE}:{hashed}::::::userdb_quota_storage_size=1B{mark}\n")

    def verify(self, address: str, password: str, remote: str) -> bool:
        assert remote == "192.0.2.7"
        present = self.accounts._chosen(address).password or self.accounts._declared(address).hashed
        return present == f"{{ARGON2ID}}{password}"

    def ask(self, action: str, **fields: Any) -> dict[str, Any]:
        return self.accounts.answer({"do": action, "user": "Alice", **fields})

    def log_in(self, password: str, code: str = "") -> dict[str, Any]:
        return self.ask("login", password=password, remote="192.0.2.7", code=code)

    def settle(self) -> str:
        """A session of somebody who has chosen a password."""
        session = str(self.log_in("first")["session"])
        changed = self.ask("change", session=session, password="first", new=GOOD, remote="192.0.2.7")
        assert changed == {}
        return session

    def with_factor(self) -> tuple[str, str]:
        """A session and the second factor's secret, turned on a minute ago."""
        session = self.settle()
        request = {"session": session, "password": GOOD, "remote": "192.0.2.7"}
        secret = self.ask("begin_factor", name="telephone", **request)["secret"]
        assert "recovery" in self.ask("confirm_factor", session=session, code=self.code(secret))
        self.now += 60
        return session, secret

    def with_passkey(self) -> str:
        """A session of somebody whose only second factor is a passkey."""
        session = self.settle()
        begun = self.begin_passkey(session)
        assert begun == {"make_passkey": {"question": ANY, "known": [], "user": ALICE}}
        answer = json.dumps({"answer": begun["make_passkey"]["question"]})
        assert "recovery" in self.ask("confirm_passkey", session=session, code=answer)
        return session

    def begin_passkey(self, session: str, name: str = "laptop") -> dict[str, Any]:
        return self.ask("begin_passkey", session=session, password=GOOD, remote="192.0.2.7", name=name)

    def code(self, secret: str) -> str:
        return time_code(secret, int(self.now // 30))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "own", tmp_path / "users")


def test_a_first_password_is_good_for_choosing_another_and_nothing_else(desk: Desk) -> None:
    answer = desk.log_in("first")
    assert answer["must_change"] is True
    common = {"session": answer["session"], "password": "first", "remote": "192.0.2.7"}
    assert desk.ask("add_application", name="telephone", **common) == {"refused": "first"}
    assert desk.ask("begin_factor", name="telephone", **common) == {"refused": "first"}
    desk.ask("change", new=GOOD, **common)
    assert desk.log_in("first") == {"refused": "password"}
    assert desk.log_in(GOOD)["must_change"] is False


@pytest.mark.parametrize(
    "poor", ["short", "Summer2026!!Summer", "myertor-myertor-po", "alice-alice-alice", "first"]
)
def test_a_poor_password_is_refused_with_a_reason(desk: Desk, poor: str) -> None:
    session = desk.log_in("first")["session"]
    answer = desk.ask("change", session=session, password="first", new=poor, remote="192.0.2.7")
    assert answer["refused"] in ("too_short", "easy", "same")
    assert "session" in desk.log_in("first")


def test_a_change_needs_the_session_and_the_password(desk: Desk) -> None:
    session = desk.settle()
    other = {"new": "granite lemon otter viaduct", "remote": "192.0.2.7"}
    assert desk.ask("change", session=session, password="guess", **other) == {"refused": "password"}
    assert desk.ask("change", session="guess", password=GOOD, **other) == {"refused": "session"}
    assert "session" in desk.log_in(GOOD)


def test_a_guess_is_reported_with_its_place_and_without_the_password(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    request = {"do": "login", "user": "alice\nroot", "password": "guessed-it", "remote": "192.0.2.7"}
    assert desk.accounts.answer(request) == {"refused": "password"}
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert printed.startswith("<5>webmail login refused: wrong password, user=<alice?root@")
    assert "rip=192.0.2.7" in printed
    assert "guessed-it" not in printed


def test_a_change_ends_the_other_sessions(desk: Desk) -> None:
    session = desk.settle()
    other = desk.log_in(GOOD)["session"]
    assert (
        desk.ask(
            "change", session=session, password=GOOD, new="granite lemon otter viaduct", remote="192.0.2.7"
        )
        == {}
    )
    assert desk.ask("state", session=other) == {"refused": "session"}
    assert desk.ask("state", session=session)["factor"] is False


def test_a_login_whose_password_changes_while_it_is_checked_gets_no_session(desk: Desk) -> None:
    session = desk.settle()

    def verify(address: str, password: str, remote: str) -> bool:
        right = desk.verify(address, password, remote)
        desk.accounts.verify = desk.verify
        new = "granite lemon otter viaduct"
        assert desk.ask("change", session=session, password=GOOD, new=new, remote=remote) == {}
        return right

    desk.accounts.verify = verify
    assert desk.log_in(GOOD) == {"refused": "password"}
    assert len(desk.ask("state", session=session)["sessions"]) == 1


def test_new_passwords_are_hashed_one_at_a_time(desk: Desk) -> None:
    session, alone = desk.settle(), []

    def hash_password(password: str) -> str:
        alone.append(not desk.accounts.hashing.acquire(blocking=False))
        return f"{{ARGON2ID}}{password}"

    desk.accounts.hash_password = hash_password
    new = "granite lemon otter viaduct"
    assert desk.ask("change", session=session, password=GOOD, new=new, remote="192.0.2.7") == {}
    assert alone == [True]


def test_a_session_ends_with_its_day_and_with_the_logout(desk: Desk) -> None:
    session, other = desk.settle(), desk.log_in(GOOD)["session"]
    assert desk.ask("logout", session=session) == {}
    assert desk.ask("state", session=session) == {"refused": "session"}
    desk.now += 3600
    assert desk.ask("state", session=other) == {"refused": "session"}


def test_with_a_second_factor_the_password_is_not_enough(desk: Desk) -> None:
    _, secret = desk.with_factor()
    assert desk.log_in(GOOD) == {"refused": "code", "proven": ANY}
    wrong = "000000" if desk.code(secret) != "000000" else "111111"
    assert desk.log_in(GOOD, wrong) == {"refused": "code", "proven": ANY}
    assert "session" in desk.log_in(GOOD, desk.code(secret))


def test_only_the_code_is_typed_once_more_where_only_the_code_was_wrong(desk: Desk) -> None:
    session, secret = desk.with_factor()
    proven = desk.log_in(GOOD)["proven"]
    assert GOOD not in proven
    assert "proven" not in desk.log_in("guess")
    for elsewhere in ({"user": "bob"}, {"remote": "192.0.2.8"}):
        request = {"do": "login", "user": ALICE, "password": proven, "code": desk.code(secret)} | elsewhere
        desk.accounts.verify = lambda *_: False
        assert desk.accounts.answer({"remote": "192.0.2.7", **request}) == {"refused": "password"}
    desk.accounts.verify = desk.verify
    proven = desk.log_in(proven)["proven"]  # no code again
    assert "session" in desk.log_in(proven, desk.code(secret))
    desk.now += 60
    assert desk.log_in(proven, desk.code(secret)) == {"refused": "password"}, "it is good for one login"
    old = desk.log_in(GOOD)["proven"]
    desk.now += 301
    assert desk.log_in(old, desk.code(secret)) == {"refused": "password"}
    before = desk.log_in(GOOD)["proven"]
    request = {"session": session, "password": GOOD, "remote": "192.0.2.7"}
    assert desk.ask("change", new="granite lemon otter viaduct", **request) == {}
    assert desk.log_in(before, desk.code(secret)) == {"refused": "password"}, "the password is another now"


def test_several_devices_show_codes_and_each_is_removed_by_itself(desk: Desk) -> None:
    session, telephone = desk.with_factor()
    request = {"session": session, "password": GOOD, "remote": "192.0.2.7"}
    assert desk.ask("begin_factor", name="telephone", **request) == {"refused": "device_taken"}
    assert desk.ask("begin_factor", name=" \n", **request) == {"refused": "no_name"}
    tablet = desk.ask("begin_factor", name="tablet of Zoë", **request)["secret"]
    assert "recovery" in desk.ask("confirm_factor", session=session, code=desk.code(tablet))
    assert desk.ask("state", session=session)["devices"] == ["telephone", "tablet of Zoë"]
    desk.now += 60
    code = desk.code(tablet)
    assert "session" in desk.log_in(GOOD, code)
    assert desk.log_in(GOOD, code)["refused"] == "code", "a code is right once"
    assert "session" in desk.log_in(GOOD, desk.code(telephone))
    assert desk.ask("remove_factor", name="phone", **request) == {"refused": "unknown_device"}
    assert desk.ask("remove_factor", name="telephone", **request) == {}
    desk.now += 60
    assert desk.log_in(GOOD, desk.code(telephone))["refused"] == "code"
    assert "session" in desk.log_in(GOOD, desk.code(tablet))
    for number in range(4):
        more = desk.ask("begin_factor", name=f"device {number}", **request)["secret"]
        assert "recovery" in desk.ask("confirm_factor", session=session, code=desk.code(more))
    assert desk.ask("begin_factor", name="one more", **request) == {
        "refused": "devices_full",
        "args": {"most": 5},
    }


def test_a_telephone_sets_itself_up_by_a_picture(desk: Desk) -> None:
    """Thunderbird's "Export for Mobile" QR code, version 1: TLS is 3, a password 1."""
    session = desk.settle()
    request = {"session": session, "password": GOOD, "name": "telephone", "remote": "192.0.2.7"}
    made = desk.ask("add_application", full_name="Álice 'Al' Archer", **request)
    password, pictures = made["application_password"], made["pictures"]
    server = ["store.po.example.com", 993, 3, 1, ALICE, None, password]
    sending = ["store.po.example.com", 465, 3, 1, ALICE, password]
    shown = json.loads(pictures["thunderbird"].removeprefix("data:"))
    assert shown == [1, [1, 1], [0, *server], [[[0, *sending], [ALICE, "Álice 'Al' Archer"]]]]
    assert pictures["apple"] == "data:https://autoconfig.po.example.com/mail/apple.mobileconfig"


@pytest.mark.parametrize(
    ("line", "refused"),
    [
        (
            "FAIL\t1\tuser=a@b\treason=Too many wrong passwords: try again in 42 minutes.\n",
            {"refused": "shut", "args": {"minutes": 42}},
        ),
        ("FAIL\t1\tuser=a@b\n", {"refused": "password"}),
        ("FAIL\t1\tuser=reason=x in 9 minutes\n", {"refused": "password"}),
        ("OK\t1\tuser=a@b\treason=in 9 minutes\n", None),
    ],
)
def test_locked_out_users_read_for_how_long(
    tmp_path: Path, desk: Desk, line: str, refused: dict[str, Any] | None
) -> None:
    path = str(tmp_path / "auth")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def dovecot() -> None:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as requests:
                while not next(requests).startswith(b"AUTH"):
                    pass
                connection.sendall(b"VERSION\t1\t2\nDONE\n" + line.encode())

        answering = threading.Thread(target=dovecot)
        answering.start()
        desk.accounts.verify = lambda *credentials: ask_dovecot(path, *credentials)
        answer = desk.log_in("first")
        answering.join()
    assert answer == refused or (refused is None and "session" in answer)


def test_a_code_is_right_once(desk: Desk) -> None:
    _, secret = desk.with_factor()
    code = desk.code(secret)
    assert "session" in desk.log_in(GOOD, code)
    assert desk.log_in(GOOD, code)["refused"] == "code"


def test_codes_cannot_be_guessed(desk: Desk) -> None:
    _, secret = desk.with_factor()
    wrong = "000000" if desk.code(secret) != "000000" else "111111"
    for _ in range(WRONG_CODES):
        assert desk.log_in(GOOD, wrong)["refused"] == "code"
    desk.now += 299
    assert desk.log_in(GOOD, desk.code(secret)) == {
        "refused": "locked",
        "args": {"minutes": 6},
        "proven": ANY,
    }
    desk.now += 302  # an attempt that is refused meanwhile does not extend the time
    assert "session" in desk.log_in(GOOD, desk.code(secret))


def test_typing_errors_while_a_device_is_set_up_are_no_guesses(desk: Desk) -> None:
    """The user sees the secret. If wrong codes counted here, they would lock the first login with the new device."""
    session = desk.settle()
    begun = desk.ask("begin_factor", name="telephone", session=session, password=GOOD, remote="192.0.2.7")
    wrong = "000000" if desk.code(begun["secret"]) != "000000" else "111111"
    for _ in range(WRONG_CODES):
        refused = desk.ask("confirm_factor", session=session, code=wrong)
        assert refused == {"refused": "code_of_app"}
    codes = desk.ask("confirm_factor", session=session, code=desk.code(begun["secret"]))["recovery"]
    assert "session" in desk.log_in(GOOD, codes[0])


def test_a_device_that_nobody_confirms_is_forgotten(desk: Desk) -> None:
    session = desk.settle()
    request = {"session": session, "password": GOOD, "remote": "192.0.2.7"}
    secret = desk.ask("begin_factor", name="telephone", **request)["secret"]
    desk.now += 599
    assert desk.ask("confirm_factor", session=session, code="wrong") == {"refused": "code_of_app"}
    desk.now += 1
    assert desk.ask("confirm_factor", session=session, code=desk.code(secret)) == {"refused": "not_begun"}


def test_a_recovery_code_stands_for_the_telephone_once(desk: Desk) -> None:
    session = desk.settle()
    request = {"session": session, "password": GOOD, "remote": "192.0.2.7"}
    begun = desk.ask("begin_factor", name="telephone", **request)
    assert begun["picture"] == f"data:{begun['uri']}"
    codes = desk.ask("confirm_factor", session=session, code=desk.code(begun["secret"]))["recovery"]
    assert len(set(codes)) == RECOVERY
    assert codes[0].replace(" ", "") not in (desk.own / ALICE).read_text()
    assert "session" in desk.log_in(GOOD, codes[0])
    assert desk.log_in(GOOD, codes[0])["refused"] == "code"
    assert "session" in desk.log_in(GOOD, codes[1].replace(" ", ""))
    assert desk.ask("state", session=session)["recovery"] == RECOVERY - 2
    assert desk.ask("remove_factor", name="telephone", **request) == {}
    assert "recovery" not in (desk.own / ALICE).read_text()


@pytest.mark.control("AUT-07")
def test_what_a_thief_opened_ends_when_the_password_changes_or_the_second_factor_is_turned_on(
    desk: Desk,
) -> None:
    """Otherwise the user's programs stay logged in, and webmail works for the rest of the day."""
    session = desk.settle()
    assert desk.ended == [ALICE]
    made = {"session": session, "password": GOOD, "remote": "192.0.2.7"}
    thief = desk.log_in(GOOD)["session"]
    secret = desk.ask("begin_factor", name="telephone", **made)["secret"]
    assert desk.ask("confirm_factor", session=session, code="000000") == {"refused": "code_of_app"}
    assert desk.ended == [ALICE]
    assert "recovery" in desk.ask("confirm_factor", session=session, code=desk.code(secret))
    assert desk.ended == [ALICE, ALICE]
    assert desk.ask("state", session=thief) == {"refused": "session"}
    assert desk.ask("state", session=session)["factor"] is True


def test_the_page_answers_when_open_sessions_have_ended(tmp_path: Path) -> None:
    """Otherwise the connection of webmail's next page could be cut."""
    named = tmp_path / ALICE

    def kick() -> None:
        until(named.exists, "the account is named")
        named.unlink()

    kicker = threading.Thread(target=kick)
    kicker.start()
    end_sessions(tmp_path, ALICE)
    assert not named.exists()
    kicker.join()


def test_what_a_removed_password_opened_ends(desk: Desk) -> None:
    session = desk.settle()
    desk.ended.clear()
    made = {"session": session, "password": GOOD, "remote": "192.0.2.7"}
    assert "application_password" in desk.ask("add_application", name="Zoë's Handy (alt)\n", **made)
    assert desk.ask("state", session=session)["applications"][0]["name"] == "Zoë's Handy (alt)"
    assert desk.ask("remove_application", session=session, name="tablet") == {"refused": "unknown_name"}
    assert desk.ended == []
    assert desk.ask("remove_application", session=session, name="Zoë's Handy (alt)") == {}
    assert desk.ended == [ALICE]


def test_a_user_sees_when_a_password_was_last_used_until_it_is_removed(desk: Desk) -> None:
    session = desk.settle()
    made = {"session": session, "password": GOOD, "remote": "192.0.2.7"}
    for name in ("telephone", "tablet"):
        assert "application_password" in desk.ask("add_application", name=name, **made)
    hashed = Chosen.parse((desk.own / ALICE).read_text()).applications["telephone"]
    note = desk.used / "".join(sign for sign in hashed if sign.isalnum())  # as accounts.lua names it
    note.write_text("1")
    os.utime(note, (1_700_000_600, 1_700_000_600))
    assert {one["name"]: one["used"] for one in desk.ask("state", session=session)["applications"]} == {
        "telephone": 1_700_000_600,
        "tablet": None,
    }
    assert desk.ask("remove_application", session=session, name="telephone") == {}
    assert list(desk.used.iterdir()) == []


def test_the_codes_are_those_of_rfc_6238() -> None:
    secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"  # appendix B; its 8 digits end in these 6
    assert [time_code(secret, at // 30) for at in (59, 1111111109, 20000000000)] == [
        "287082",
        "081804",
        "353130",
    ]


def test_a_new_first_password_voids_what_was_chosen_and_an_apply_does_not(desk: Desk) -> None:
    session, _ = desk.with_factor()
    made = desk.ask("add_application", session=session, password=GOOD, name="telephone", remote="192.0.2.7")
    assert len(made["application_password"]) == 24
    desk.declare()  # the same apply again
    assert desk.ask("state", session=session) == {
        "must_change": False,
        "must_factor": False,
        "factor": True,
        "factor_from": None,
        "recovery": RECOVERY,
        "devices": ["telephone"],
        "applications": [{"name": "telephone", "made": int(desk.now), "used": None}],
        "sessions": ANY,
    }
    desk.declare("{ARGON2ID}second")
    assert desk.ask("state", session=session) == {"refused": "session"}
    assert desk.log_in(GOOD) == {"refused": "password"}
    assert desk.log_in("second")["must_change"] is True


def test_a_disabled_account_has_no_session(desk: Desk) -> None:
    session = desk.settle()
    desk.declare("")
    assert desk.ask("state", session=session) == {"refused": "password"}


def test_nothing_typed_leads_out_of_the_directory(desk: Desk) -> None:
    session = desk.settle()
    for name in ("../../etc/passwd", "..", ".alice@po.example.com", "alice@po.example.com\n"):
        assert (
            "refused" in desk.accounts.answer({"do": "state", "user": name, "session": session})
            or name.strip() == ALICE
        )


def test_what_is_kept_reads_back_and_holds_no_password(desk: Desk) -> None:
    session, _ = desk.with_factor()
    made = desk.ask(
        "add_application", session=session, password=GOOD, name="my telephone", remote="192.0.2.7"
    )
    text = (desk.own / ALICE).read_text()
    assert Chosen.parse(text).lines() == text
    assert session not in text
    assert made["application_password"] not in text
    assert (desk.own / ALICE).stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    "question", [{}, {"do": "login"}, {"do": "nothing"}, {"do": "state", "user": ALICE, "more": "1"}]
)
def test_what_is_no_request_is_refused(desk: Desk, question: dict[str, Any]) -> None:
    assert "refused" in desk.accounts.answer(question)


def test_a_required_second_factor_comes_before_anything_else_and_stays(desk: Desk) -> None:
    session = desk.settle()
    desk.declare(factor_from=desk.now + 60)
    assert desk.log_in(GOOD)["must_factor"] is False
    assert desk.ask("state", session=session)["factor_from"] == desk.now + 60
    desk.now += 60
    assert desk.log_in(GOOD)["must_factor"] is True
    request = {"session": session, "password": GOOD, "remote": "192.0.2.7"}
    assert desk.ask("add_application", name="tablet", **request) == {"refused": "factor_first"}
    secret = desk.ask("begin_factor", name="telephone", **request)["secret"]
    assert "recovery" in desk.ask("confirm_factor", session=session, code=desk.code(secret))
    assert desk.ask("state", session=session)["must_factor"] is False
    assert "application_password" in desk.ask("add_application", name="tablet", **request)
    assert desk.ask("remove_factor", name="telephone", **request) == {"refused": "factor_required"}
    another = desk.ask("begin_factor", name="new telephone", **request)["secret"]
    assert "recovery" in desk.ask("confirm_factor", session=session, code=desk.code(another))


@pytest.mark.parametrize(
    ("browser", "shown"),
    [("Firefox, Windows", "192.0.2.7 Firefox, Windows"), ("", "192.0.2.7")]
    + [(hostile, "192.0.2.7") for hostile in ("x\npassword {PLAIN}x", "x\r", "<b>", "x" * 41, "x\u2028y")],
)
def test_a_user_sees_which_browser_is_logged_in(desk: Desk, browser: str, shown: str) -> None:
    desk.settle()
    request = {"user": ALICE, "password": GOOD, "remote": "192.0.2.7", "browser": browser}
    session = desk.accounts.answer({"do": "login"} | request)["session"]
    assert [one["place"] for one in desk.ask("state", session=session)["sessions"] if one["this"]] == [shown]
    kinds = {line.partition(" ")[0] for line in (desk.own / ALICE).read_text().splitlines()}
    assert kinds == {"from", "password", "session"}
    assert desk.log_in(GOOD).keys() >= {"session"}


def test_who_has_a_first_password_chooses_another_before_the_second_factor(desk: Desk) -> None:
    desk.declare(factor_from=0)
    answer = desk.log_in("first")
    assert (answer["must_change"], answer["must_factor"]) == (True, True)
    request = {"session": answer["session"], "password": "first", "remote": "192.0.2.7"}
    refused = desk.ask("begin_factor", name="telephone", **request)
    assert refused == {"refused": "first"}


def test_a_user_sees_and_ends_sessions_that_were_left_open_elsewhere(desk: Desk) -> None:
    session = desk.settle()
    desk.now += 60
    elsewhere = desk.log_in(GOOD)["session"]
    mine, other = desk.ask("state", session=session)["sessions"]
    assert (mine["this"], other["this"]) == (True, False)
    assert other["place"] == "192.0.2.7"
    assert other["since"] == int(desk.now)
    assert token_hash(elsewhere) not in str(other), "what is shown opens nothing"
    assert desk.ask("end_session", session=session, id=other["id"]) == {}
    assert desk.ask("state", session=elsewhere) == {"refused": "session"}
    assert desk.ask("end_session", session=session, id=other["id"]) == {}
    assert len(desk.ask("state", session=session)["sessions"]) == 1


def test_a_session_shows_when_webmail_last_used_it(desk: Desk) -> None:
    session = desk.settle()
    elsewhere = desk.log_in(GOOD)["session"]
    began = int(desk.now)
    desk.now += 60
    assert [one["used"] for one in desk.ask("state", session=session)["sessions"]] == [began + 60, None]
    desk.ask("state", session=elsewhere)
    desk.now += 60
    assert [one["used"] for one in desk.ask("state", session=session)["sessions"]] == [
        began + 120,
        began + 60,
    ]
    desk.ask("logout", session=elsewhere)
    desk.ask("state", session=session)
    assert len(desk.accounts.seen[ALICE]) == 1, "ended sessions stay in memory"


def test_a_place_that_is_no_address_is_not_kept(desk: Desk) -> None:
    desk.accounts.verify = lambda *_: True
    desk.ask("login", password="first", remote="192.0.2.7\nfactor AAAA 0")
    assert "factor" not in (desk.own / ALICE).read_text()


def test_what_an_older_version_kept_is_read() -> None:
    old = "from x\nfactor AAAA 7\napplication hash my telephone\nsession hash 1700000000\n"
    assert Chosen.parse(old).factors == {"": ("AAAA", 7)}
    assert Chosen.parse(old).lines() == old


def test_a_passkey_is_a_second_factor(desk: Desk) -> None:
    session = desk.with_passkey()
    assert desk.ended == [ALICE, ALICE]  # the password's change, and the passkey's
    state = desk.ask("state", session=session)
    assert (state["devices"], state["factor"], state["recovery"]) == (["laptop"], True, RECOVERY)
    asked = desk.log_in(GOOD)
    assert asked == {"refused": "code", "proven": ANY, "use_passkey": {"question": ANY, "known": ["key"]}}
    right = json.dumps({"answer": asked["use_passkey"]["question"]})
    assert "session" in desk.log_in(asked["proven"], right)


def test_the_answer_of_a_passkey_is_good_once_for_the_last_question_and_for_minutes(desk: Desk) -> None:
    desk.with_passkey()
    asked = desk.log_in(GOOD)
    right = json.dumps({"answer": asked["use_passkey"]["question"]})
    wrong = desk.log_in(GOOD, '{"answer": 99}')
    assert wrong == {"refused": "passkey", "proven": ANY, "use_passkey": ANY}
    assert desk.log_in(GOOD, right)["refused"] == "passkey"  # the question before
    again = desk.log_in(GOOD)
    right = json.dumps({"answer": again["use_passkey"]["question"]})
    assert "session" in desk.log_in(GOOD, right)
    assert desk.log_in(GOOD, right)["refused"] == "passkey"  # replayed
    late = desk.log_in(GOOD)
    desk.now += 301
    right = json.dumps({"answer": late["use_passkey"]["question"]})
    assert desk.log_in(GOOD, right)["refused"] == "passkey"


def test_wrong_answers_of_passkeys_count_as_wrong_codes(desk: Desk) -> None:
    session, secret = desk.with_factor()
    answer = {"answer": desk.begin_passkey(session)["make_passkey"]["question"]}
    desk.ask("confirm_passkey", session=session, code=json.dumps(answer))
    for _ in range(WRONG_CODES):
        assert desk.log_in(GOOD, "{}")["refused"] == "passkey"
    assert desk.log_in(GOOD, desk.code(secret))["refused"] == "locked"
    assert desk.log_in(GOOD, "{}")["refused"] == "locked"


def test_a_passkey_needs_a_name_of_its_own_and_the_answer_to_its_question(desk: Desk) -> None:
    session, _ = desk.with_factor()
    assert desk.begin_passkey(session, "telephone") == {"refused": "device_taken"}
    assert desk.ask("confirm_passkey", session=session, code="{}") == {"refused": "not_begun"}
    desk.begin_passkey(session)
    assert desk.ask("confirm_passkey", session=session, code="{}") == {"refused": "passkey"}
    assert desk.ask("confirm_factor", session=session, code="{}") == {"refused": "not_begun"}
    assert desk.ask("state", session=session)["devices"] == ["telephone"]


def test_without_the_last_passkey_the_password_is_enough_again_if_the_office_allows_that(desk: Desk) -> None:
    session = desk.with_passkey()
    common = {"session": session, "password": GOOD, "remote": "192.0.2.7", "name": "laptop"}
    desk.declare(factor_from=desk.now + 60)
    assert desk.ask("remove_factor", **common) == {"refused": "factor_required"}
    desk.declare()
    assert desk.ask("remove_factor", **common) == {}
    assert "session" in desk.log_in(GOOD)


def test_a_users_file_keeps_passkeys(desk: Desk) -> None:
    desk.with_passkey()
    text = (desk.own / ALICE).read_text()
    assert "passkey key laptop\n" in text
    assert Chosen.parse(text).lines() == text
