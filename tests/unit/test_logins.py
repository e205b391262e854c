"""The store's login policy: guessers are locked out; owners and their colleagues are not."""

from __future__ import annotations

import json
import threading
from http.client import HTTPConnection
from pathlib import Path

import pytest

from outpost.onhost.logins import PLACES, REFUSE, REMEMBERED, Handler, Logins, Server, account, say

HOME, ELSEWHERE = "10.0.0.1", "192.0.2.66"


class Office(Logins):
    """The decisions, with a clock that only the test moves."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__("po.test", failures=6, ban=900, clock=lambda: self.now)

    def guess(self, login: str, remote: str, times: int, word: str = "w") -> None:
        for number in range(times):
            if self.allow(login, remote) != REFUSE:
                self.report(login, remote, f"{word}{number}", success=False)


@pytest.fixture
def logins() -> Office:
    return Office()


def test_an_account_shuts_after_so_many_different_passwords_and_opens_again(logins: Office) -> None:
    logins.guess("a@po.test", ELSEWHERE, 5)
    assert logins.allow("a@po.test", ELSEWHERE) > 0
    logins.guess("a@po.test", ELSEWHERE, 20)
    assert logins.allow("a@po.test", ELSEWHERE) == REFUSE
    assert logins.shut("a@po.test", ELSEWHERE) == 15
    logins.now = 870
    assert (logins.shut("a@po.test", ELSEWHERE), logins.shut("b@po.test", HOME)) == (1, 0)
    logins.now = 901
    assert logins.shut("a@po.test", ELSEWHERE) == 0
    assert logins.allow("a@po.test", ELSEWHERE) == 0


def test_it_stays_locked_when_the_guesser_changes_the_address(logins: Office) -> None:
    for number in range(6):
        logins.report("a@po.test", f"192.0.2.{number}", f"w{number}", success=False)
    assert logins.allow("A", "198.51.100.9") == REFUSE


def test_its_owner_goes_on_where_he_has_logged_in_before(logins: Office) -> None:
    logins.report("a@po.test", HOME, "right", success=True)
    logins.guess("a@po.test", ELSEWHERE, 20)
    assert logins.allow("a@po.test", HOME) == 0


def test_guesses_at_many_names_keep_the_service_neither_busy_nor_without_memory(
    logins: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many networks guess at many unknown names; two accounts were guessed at, one of them long ago."""
    tidied: list[float] = []
    forget = Logins._forget

    def tidy(self: Logins, now: float) -> None:
        tidied.append(now)
        forget(self, now)

    monkeypatch.setattr(Logins, "_forget", tidy)
    logins.guess("before@po.test", ELSEWHERE, 6)
    for number in range(3 * REMEMBERED):
        if number == 2 * REMEMBERED:
            logins.guess("a@po.test", ELSEWHERE, 6)
        logins.report(f"n{number}@po.test", f"2001:db8:{number // 50:x}::1", "w", success=False)
    assert len(logins.wrong) <= 2 * REMEMBERED
    assert 0 < len(tidied) < 10
    assert logins.allow("a@po.test", HOME) == REFUSE
    logins.now = 901
    logins.room = 0
    logins.report("x@po.test", HOME, "w", success=False)
    assert len(logins.wrong) == 2


def test_even_there_guessing_ends(logins: Office) -> None:
    logins.report("a@po.test", HOME, "right", success=True)
    logins.guess("a@po.test", HOME, 20)
    assert logins.allow("a@po.test", HOME) == REFUSE


def test_colleagues_behind_the_same_address_go_on(logins: Office) -> None:
    logins.guess("a@po.test", HOME, 20)
    assert logins.allow("b@po.test", HOME) == 0


def test_one_old_password_again_and_again_counts_once(logins: Office) -> None:
    for _ in range(500):
        logins.report("a@po.test", HOME, "old", success=False)
    assert logins.allow("a@po.test", HOME) == 0


def test_spraying_many_accounts_ends_but_not_for_those_who_belong_there(logins: Office) -> None:
    logins.report("z@po.test", HOME, "right", success=True)
    for number in range(30):
        logins.report(f"u{number}@po.test", HOME, "Spring2026", success=False)
    assert logins.allow("fresh@po.test", HOME) == REFUSE
    assert logins.shut("fresh@po.test", HOME) == 15
    assert logins.allow("z@po.test", HOME) == 0
    assert logins.allow("fresh@po.test", ELSEWHERE) == 0


def test_a_restart_keeps_the_places_of_owners(tmp_path: Path) -> None:
    def service(now: float) -> Logins:
        return Logins("po.test", failures=6, ban=900, clock=lambda: now, path=tmp_path / "known.json")

    service(1.0).report("a@po.test", HOME, "right", success=True)
    restarted = service(2.0)
    for number in range(12):
        restarted.report("a@po.test", ELSEWHERE, f"w{number}", success=False)
    assert restarted.allow("a@po.test", ELSEWHERE) == REFUSE
    assert restarted.allow("a@po.test", HOME) == 0


@pytest.mark.parametrize("damaged", ["{", "[1]", '[["a", "b", "c"]]', "null"])
def test_a_damaged_file_stops_nobody(tmp_path: Path, damaged: str) -> None:
    (tmp_path / "known.json").write_text(damaged)
    logins = Logins("po.test", failures=6, ban=900, path=tmp_path / "known.json")
    assert logins.allow("a@po.test", HOME) == 0


def test_an_ipv6_place_is_its_network(logins: Office) -> None:
    logins.report("a@po.test", "2001:db8::1", "right", success=True)
    logins.guess("a@po.test", ELSEWHERE, 20)
    assert logins.allow("a@po.test", "2001:db8::2:3:4:5") == 0
    assert logins.allow("a@po.test", "2001:db8:0:1::1") == REFUSE


def test_a_neighbour_in_the_same_ipv6_network_locks_nobody_out(logins: Office) -> None:
    logins.report("a@po.test", "2001:db8::1", "right", success=True)
    logins.guess("a@po.test", "2001:db8::bad", 20)
    assert logins.allow("a@po.test", "2001:db8::1") == 0
    assert logins.shut("a@po.test", "2001:db8::1") == 0
    assert logins.allow("a@po.test", "2001:db8::bad") == REFUSE


def test_places_of_one_account_are_bounded(logins: Office) -> None:
    for number in range(PLACES + 5):
        logins.now = float(number)
        logins.report("a@po.test", f"10.1.0.{number}", "right", success=True)
    assert len(logins.known) == PLACES
    assert ("a@po.test", "10.1.0.0") not in logins.known


@pytest.mark.control("LOG-01")
def test_a_name_that_strangers_choose_begins_no_line_of_the_journal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    say(4, "login shut: a\n<1>sshd: Accepted\u2028publickey\x1b[2K, 12")
    assert capsys.readouterr().err == "<4>login shut: a?<1>sshd: Accepted?publickey?[2K, 12\n"


TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:0FA1 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 1
   1: 0100007F:C350 0100007F:0FA1 01 00000000:00000000 00:00000000 00000000   107        0 2
   2: 0100007F:C351 0100007F:0FA1 06 00000000:00000000 00:00000000 00000000     0        0 3
"""


@pytest.mark.parametrize(("port", "uid"), [(50000, 107), (50001, None), (50002, None)])
def test_the_table_of_connections_says_who_asks(port: int, uid: int | None) -> None:
    assert account(port, TCP) == uid


@pytest.mark.control("AUT-03")
def test_only_dovecot_and_root_use_the_login_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any daemon of the store that was broken into could report wrong passwords of everybody."""
    monkeypatch.setattr(Handler, "logins", Logins("po.test", failures=6, ban=900), raising=False)

    def ask(port: int) -> int:
        connection = HTTPConnection("127.0.0.1", port)
        connection.request(
            "POST", "/?command=allow", json.dumps({"login": "a@po.test", "remote": "192.0.2.1"})
        )
        status: int = json.load(connection.getresponse())["status"]
        return status

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert ask(server.server_address[1]) == 0
        monkeypatch.setattr(Server, "asking", frozenset())
        with pytest.raises(ConnectionError):
            ask(server.server_address[1])
        server.shutdown()
