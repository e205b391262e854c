"""The store's login policy: guessers are shut out, owners and their colleagues are not."""

from __future__ import annotations

import pytest

from outpost.onhost.logins import REFUSE, Logins

HOME, ELSEWHERE = "10.0.0.1", "192.0.2.66"


class Office(Logins):
    """The decisions with a clock that stands still unless told."""

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
    logins.now = 901
    assert logins.allow("a@po.test", ELSEWHERE) == 0


def test_it_stays_shut_when_the_guesser_changes_his_address(logins: Office) -> None:
    for number in range(6):
        logins.report("a@po.test", f"192.0.2.{number}", f"w{number}", success=False)
    assert logins.allow("A", "198.51.100.9") == REFUSE


def test_its_owner_goes_on_where_he_has_logged_in_before(logins: Office) -> None:
    logins.report("a@po.test", HOME, "right", success=True)
    logins.guess("a@po.test", ELSEWHERE, 20)
    assert logins.allow("a@po.test", HOME) == 0


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
    assert logins.allow("z@po.test", HOME) == 0
    assert logins.allow("fresh@po.test", ELSEWHERE) == 0
