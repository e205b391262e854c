"""What the webmail role derives from the office."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from outpost.office import Office
from outpost.office.load import parse
from roles.webmail.view import FORM_ROOM, WebmailView

ROOT = Path(__file__).resolve().parents[2]


def view_of(**changes: Any) -> WebmailView:
    """The lab's webmail, with tables of its office file changed."""
    data = tomllib.loads((ROOT / "inventory/lab/office.toml").read_text(encoding="utf-8"))
    data["tls"].pop("trusted_authorities", None)
    office, problems = parse(data | changes)
    assert isinstance(office, Office)
    assert problems == []
    return WebmailView(office, office.host("webmail"))


def zones(view: WebmailView, *, webmail_only: bool) -> set[str]:
    """Zones in which it listens."""
    chosen = view.webmail_addresses if webmail_only else view.addresses
    return {zone for zone, addresses in view.me.addresses.items() if set(addresses) & set(chosen)}


def test_users_reach_webmail_and_the_internet_reaches_the_policy_only() -> None:
    view = view_of()
    assert zones(view, webmail_only=True) == {"lan"}
    assert zones(view, webmail_only=False) == {"lan", "wan"}


def test_the_office_can_open_webmail_to_the_internet() -> None:
    assert zones(view_of(webmail={"open_to_internet": True}), webmail_only=True) == {"lan", "wan"}


@pytest.mark.parametrize("size", ["1MiB", "25MiB", "50MiB"])
def test_the_largest_file_fits_into_the_largest_message(size: str) -> None:
    view = view_of(limits={"message_size": size})
    limit = int(view.office.limits.message_size)
    lines = -(-view.file_size // 57)  # base64: 57 bytes make a line of 76 characters and its end
    assert limit - 100 < lines * 78 <= limit + 78
    assert view.request_size == view.file_size + FORM_ROOM


def test_users_are_offered_the_senders_that_the_mta_accepts() -> None:
    aliases = [
        {"address": "site@po.myertor.test", "members": ["crane@po.myertor.test", "carol@po.myertor.test"]},
        {"address": "crane@po.myertor.test", "members": ["bob@po.myertor.test"]},
    ]
    view = view_of(aliases=aliases)
    assert view.shared_addresses == {
        "bob@po.myertor.test": ("site@po.myertor.test", "crane@po.myertor.test"),
        "carol@po.myertor.test": ("site@po.myertor.test",),
    }
    assert view.people["crane@po.myertor.test"] == "crane"
    assert view.people["alice@po.myertor.test"] == "Alice Archer"


def test_names_cannot_leave_their_php_string() -> None:
    assert WebmailView.php("Site 'A'\\") == "Site \\'A\\'\\\\"
