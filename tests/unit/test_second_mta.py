"""One MTA, two, one that retires: which records and peers change, and which route users' mail takes."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from outpost.converge.files import rendered
from outpost.keys.secrets_file import complete
from outpost.office import Office, ports
from outpost.office.dns import mail_exchangers
from outpost.office.flows import flows, listeners
from outpost.office.load import parse
from outpost.office.peering import OtherEnd
from roles.mta.defence import filter_facts
from roles.mta.view import MtaView
from roles.store.declare import RELAY_SOCKET
from roles.store.view import StoreView

ROOT = Path(__file__).resolve().parents[2]


def office(*, second: bool, retiring: bool = False) -> Office:
    data = tomllib.loads((ROOT / "inventory/lab/office.toml").read_text(encoding="utf-8"))
    data["tls"].pop("trusted_authorities")
    if second:
        zones = {"wan": 0, "client": 1, "core": 2, "mgmt": 4}
        addresses = {zone: [f"10.77.{net}.22", f"fd00:77:0:{net}::22"] for zone, net in zones.items()}
        data["hosts"]["mta2"] = {"role": "mta", "addresses": addresses, "retiring": retiring}
    found, problems = parse(data)
    assert found is not None
    assert problems == []
    return found


def exchangers(found: Office) -> set[str]:
    return {name for _, name in mail_exchangers(found)} - {"mx.myertor.test"}


def relay(found: Office) -> StoreView:
    return StoreView(found, found.host("store"))


def test_two_are_found_by_everybody() -> None:
    two = office(second=True)
    assert exchangers(two) == {"mta.po.myertor.test", "mta2.po.myertor.test"}
    assert [OtherEnd(two, peer).servers for peer in two.peers] == [
        ("mta.po.myertor.test", "mta2.po.myertor.test")
    ] * 2
    text = rendered(
        "store", "/etc/stunnel/relay.conf", store=relay(two), ports=ports, relay_socket=RELAY_SOCKET
    ).content.decode()
    assert text.index("connect = 10.77.2.21:10465") < text.index("connect = 10.77.2.22:10465")
    assert "checkHost = mta2.po.myertor.test" in text


def test_users_mail_is_taken_by_the_stores_certificate_only() -> None:
    """The MTAs accept the login that the store names, from each of the store's accounts."""
    two = office(second=True)
    listener = rendered(
        "store", "/etc/stunnel/relay.conf", store=relay(two), ports=ports, relay_socket=RELAY_SOCKET
    ).content.decode()
    services = [section.splitlines() for section in listener.split("\n[")[1:]]
    assert "accept = fd00:77:0:2::31:10466" in listener.splitlines()  # stunnel knows no brackets
    taken = [lines for lines in services if "client = yes" not in lines]
    assert [lines[0] for lines in taken] == ["dovecot-ipv4]", "dovecot-ipv6]"]
    for lines in taken:
        assert {"requireCert = yes", "checkHost = store.po.myertor.test", f"connect = {RELAY_SOCKET}"} <= set(
            lines
        )
    assert [
        lines for lines in services if "client = yes" in lines and f"accept = {RELAY_SOCKET}" not in lines
    ] == []
    assert {entry.address for entry in listeners(two, two.host("store")) if entry.port == ports.RELAY} == set(
        relay(two).relay_listeners
    )
    one = office(second=False)
    assert ports.RELAY not in {entry.port for entry in listeners(one, one.host("store"))}


def test_one_that_retires_is_given_nothing_and_keeps_its_ways_out() -> None:
    one, leaving = office(second=False), office(second=True, retiring=True)
    assert exchangers(leaving) == exchangers(one)
    assert relay(leaving).relays == relay(one).relays
    assert not relay(leaving).has_relay_listener
    ways = {(flow.destination.label, flow.port) for flow in flows(leaving) if flow.source.host == "mta2"}
    assert {("store", 24), ("Internet", 25), ("headoffice", 25), ("clientsite", 25)} - {
        ("headoffice", 25)
    } <= ways


@pytest.mark.parametrize(("second", "verdict"), [(False, "refuse"), (True, "tag")])
def test_a_notification_that_comes_to_the_other_mta_is_not_refused(second: bool, verdict: str) -> None:
    found = office(second=second)
    assert filter_facts(MtaView(found, found.host("mta")))["forged_bounce"] == verdict


def test_somebody_must_take_mail() -> None:
    data = tomllib.loads((ROOT / "inventory/lab/office.toml").read_text(encoding="utf-8"))
    data["tls"].pop("trusted_authorities")
    data["hosts"]["mta"]["retiring"] = True
    _, problems = parse(data)
    assert [problem.message for problem in problems] == ["every MTA retires: no host would accept mail"]


def test_the_second_gets_keys_and_the_first_keeps_its_own() -> None:
    before = complete(office(second=False)).secrets
    after = complete(office(second=True), before).secrets
    assert after.hosts["mta"] == before.hosts["mta"]
    assert after.public["mta"] == before.public["mta"]
    assert "mta2" in after.hosts
    assert "mta2" in after.backup
