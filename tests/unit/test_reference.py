"""Generated pages are current, and describe every key."""

from __future__ import annotations

import re

import pytest

from outpost.evidence import reference
from outpost.target import INVENTORY


@pytest.mark.parametrize("page", reference.pages(), ids=lambda page: page.path.name)
def test_page_is_current(page: reference.Page) -> None:
    assert page.is_current(), f"run ./outpost reference: {page.path.name} does not show the model as it is"


def test_every_key_has_a_meaning() -> None:
    rows = [line for line in reference.office_reference().splitlines() if line.startswith("| `")]
    assert len(rows) > 50
    assert [row for row in rows if re.search(r"\|\s*\|$", row)] == []


def test_every_key_of_the_shipped_offices_is_in_the_reference() -> None:
    text = reference.office_reference()
    for file in INVENTORY.glob("*/office.toml"):
        keys = set(re.findall(r"^([a-z_]+)(?:\.[a-z_]+)* =", file.read_text(), flags=re.MULTILINE))
        assert [key for key in keys if f"`{key}`" not in text] == []


def test_the_diagram_shows_every_host_and_the_ways_of_mail() -> None:
    office = reference.case_study()
    drawn = reference.diagram(office)
    for host in office.hosts:
        assert f"{host.name}[" in drawn
    assert "Internet -->|SMTP 25| mta" in drawn
    assert "mta -->|LMTP 24| store" in drawn
