"""Passwords that may be set, and those that may not (AUT-02)."""

from __future__ import annotations

from pathlib import Path

import pytest

from outpost.keys.secrets_file import new_password
from outpost.office import Office, load
from outpost.onhost.passwords import Objection, complaint
from roles.store.view import office_words

pytestmark = pytest.mark.control("AUT-02")

HARBOUR = Path(__file__).resolve().parents[2] / "inventory" / "harbour"


@pytest.fixture(scope="module")
def office() -> Office:
    return load(HARBOUR)


def refused(password: str, office: Office, address: str = "") -> Objection | None:
    """The check that the store makes when a user chooses a password (`outpost.onhost.accounts`)."""
    return complaint(password, words=office_words(office) | {address})


@pytest.mark.parametrize(
    "password",
    [
        "short",
        "elevenchars",
        "password1234",
        "P@ssw0rd2026!!",
        "Summer2026!!Summer",
        "qwertyuiop123",
        "1qaz2wsx3edc",
        "123456789012",
        "aaaaaaaaaaaa",
        "abcabcabcabc",
        "drowssap12345",
        "correct horse battery staple",
        "x" * 300,
    ],
)
def test_what_guessers_try_first_is_refused(office: Office, password: str) -> None:
    assert refused(password, office)


def test_what_the_office_is_made_of_is_refused(office: Office) -> None:
    first = office.users[0]
    for password in (
        f"{office.domain}2026",
        f"{first.name}{first.name}2026!",
        f"{office.organisation}!1".ljust(12, "1"),
        f"Welcome-{office.hosts[0].name}-{office.hosts[-1].name}",
    ):
        assert refused(password, office, first.address), password


@pytest.mark.parametrize(
    "password",
    ["lamp bridge copper violin", "hG7$kd02Lpq9xz", "tRuck-onion-wavelet", "Käsekuchen überm Zaun"],
)
def test_good_ones_pass(office: Office, password: str) -> None:
    assert not refused(password, office)


def test_the_passwords_outpost_makes_pass(office: Office) -> None:
    assert not [password for password in (new_password() for _ in range(50)) if refused(password, office)]
