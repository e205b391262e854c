"""What a look at the machines makes of what it sees: what is in the way is bad, and names its remedy."""

from __future__ import annotations

import pytest

from outpost.office import Office, load
from outpost.preflight import Finding, judge
from outpost.target import INVENTORY

NOW = 1_700_000_000.0


@pytest.fixture(scope="module")
def office() -> Office:
    return load(INVENTORY / "harbour")


def facts(office: Office, name: str, **changed: str) -> list[tuple[str, str]]:
    """What a fresh machine says, with something changed."""
    said = {"release": "debian 13", "clock": str(int(NOW)), "memory": "8192"} | changed
    addresses = [("address", str(address)) for address in office.host(name).all_addresses]
    return [*said.items(), *addresses, ("port", "tcp 22 sshd"), ("outbound", "mx.example.org")]


def seen(office: Office, name: str, said: list[tuple[str, str]]) -> list[Finding]:
    return [found for found in judge(office, office.host(name), said, now=NOW) if found.level != "good"]


@pytest.mark.parametrize("name", ["ns1", "mta", "store", "webmail"])
def test_a_fresh_machine_is_ready(office: Office, name: str) -> None:
    assert seen(office, name, facts(office, name)) == []


@pytest.mark.parametrize(
    ("name", "changed", "more", "level", "words"),
    [
        ("ns1", {"release": "debian 12"}, [], "bad", "debian 12"),
        ("ns1", {"release": "ubuntu 24.04"}, [], "bad", "ubuntu"),
        ("ns1", {"clock": str(int(NOW) - 90)}, [], "note", "90 s behind"),
        ("mta", {"memory": "900"}, [], "note", "900 MiB"),
        ("mta", {}, [("port", "tcp 25 exim4")], "bad", "25/tcp by exim4"),
        ("webmail", {}, [("port", "tcp 443 apache2")], "bad", "443/tcp by apache2"),
    ],
)
def test_what_is_in_the_way_is_named(
    office: Office, name: str, changed: dict[str, str], more: list[tuple[str, str]], level: str, words: str
) -> None:
    (found,) = seen(office, name, facts(office, name, **changed) + more)
    assert found.level == level
    assert words in found.seen
    assert found.remedy


def test_a_missing_address_and_a_shut_port_25_are_named(office: Office) -> None:
    said = [
        fact
        for fact in facts(office, "mta")
        if fact[0] != "outbound" and fact[1] != str(office.host("mta").all_addresses[0])
    ]
    missing, shut = seen(office, "mta", said)
    assert (missing.level, shut.level) == ("bad", "note")
    assert str(office.host("mta").all_addresses[0]) in missing.seen


def test_ports_that_are_not_the_offices_do_not_matter(office: Office) -> None:
    assert seen(office, "ns1", [*facts(office, "ns1"), ("port", "tcp 631 cupsd")]) == []
