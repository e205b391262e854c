"""The flow graph keeps the promises that the packet filters and listeners are made from."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from outpost.office import Office
from outpost.office.flows import Flow, flows, inbound, listeners, outbound
from outpost.office.load import parse

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", params=["lab", "harbour"])
def office(request: pytest.FixtureRequest) -> Office:
    data = tomllib.loads((ROOT / f"inventory/{request.param}/office.toml").read_text(encoding="utf-8"))
    data["tls"].pop("trusted_authorities", None)
    office, problems = parse(data)
    assert office is not None
    assert problems == []
    return office


def ports_from_the_internet(office: Office) -> set[tuple[str, int]]:
    return {(flow.destination.label, flow.port) for flow in flows(office) if flow.source.is_internet}


def test_the_internet_reaches_names_mail_and_the_policy_page_only(office: Office) -> None:
    assert ports_from_the_internet(office) == {("ns1", 53), ("ns2", 53), ("mta", 25), ("webmail", 443)}


def test_the_store_is_reached_by_users_webmail_the_mta_and_administrators_only(office: Office) -> None:
    sources = {flow.source.label for flow in inbound(office, office.host("store"))}
    assert sources == {"mta", "webmail", "lan", "mgmt"}


def test_only_the_mta_sends_mail_outwards(office: Office) -> None:
    senders = {
        flow.source.label for flow in flows(office) if flow.port in (25, 465) and not flow.destination.host
    }
    assert senders == {"mta"}


def test_users_reach_neither_the_mta_nor_port_25_anywhere(office: Office) -> None:
    from_users = [flow for flow in flows(office) if flow.source.label == "lan"]
    assert {flow.destination.label for flow in from_users} == {"store", "webmail"}
    assert 25 not in {flow.port for flow in from_users}


def test_ssh_comes_from_management_only(office: Office) -> None:
    into_hosts = [flow for flow in flows(office) if flow.port == 22 and flow.destination.host]
    assert {flow.source.label for flow in into_hosts} == {"mgmt"}


def test_each_host_reaches_its_backup_and_the_machine_that_keeps_it_reaches_none(office: Office) -> None:
    kept = [flow for flow in flows(office) if flow.why == "backup at head office"]
    if office.backup is None:
        assert kept == []
        return
    assert [flow.source.host for flow in kept] == [host.name for host in office.hosts]
    assert {str(flow.destination.networks[0].network_address) for flow in kept} == {str(office.backup.server)}


def test_each_peer_has_a_listener_that_only_it_reaches(office: Office) -> None:
    for peer in office.peers:
        into = [flow for flow in inbound(office, office.host("mta")) if flow.source.label == peer.name]
        assert [flow.port for flow in into] == [peer.listen]
        assert {network.network_address for network in into[0].source.networks} == set(peer.relays)


def test_both_ends_of_a_link_are_the_same_flow(office: Office) -> None:
    for host in office.hosts:
        for flow in outbound(office, host):
            if flow.destination.host:
                assert flow in inbound(office, office.host(flow.destination.host))


def test_every_flow_says_why_and_has_addresses_of_one_host_or_one_zone(office: Office) -> None:
    def ends(flow: Flow) -> bool:
        return all(bool(end.networks) != bool(end.beyond) for end in (flow.source, flow.destination))

    assert all(flow.why and ends(flow) for flow in flows(office))


def test_no_host_listens_for_another_role(office: Office) -> None:
    contract = {
        "dns": {22, 53},
        "mta": {22, 25, 2525, 10465, 11335, 11336, 13310},
        "store": {22, 24, 465, 993, 4190, 10024, 10443},
        "webmail": {22, 80, 443},
    }
    for host in office.hosts:
        assert {listener.port for listener in listeners(office, host)} == contract[host.role]
