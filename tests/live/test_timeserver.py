"""Promises of a time server; the lab's office has none."""

from __future__ import annotations

import pytest
from testinfra.host import Host as TestinfraHost

from outpost.office import Host, Office
from outpost.target import Target
from roles.timeserver.view import TimeView
from tests.live.conftest import reach

pytestmark = [pytest.mark.role("timeserver"), pytest.mark.daemons("chrony")]

ASK = """
import socket, sys
client = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
client.settimeout(5)
client.sendto(b"\\x23" + bytes(47), (sys.argv[1], 123))
answer = client.recv(512)
print(len(answer), answer[0] & 7, answer[0] >> 6)
"""
"""Prints how long the answer is, its mode (4: a server's), and its leap indicator (3: not synchronised)."""


@pytest.fixture
def view(office: Office, me: Host) -> TimeView:
    return TimeView(office, me)


@pytest.mark.control("TIM-01")
def test_every_host_of_the_office_gets_the_time(
    me: Host, office: Office, view: TimeView, target: Target, pytestconfig: pytest.Config
) -> None:
    """Every host of the office gets the time from this host."""
    for client in office.hosts:
        if client != me and office.addresses_of_kind(client, "servers"):
            for network in view.addresses:
                output = reach(target, office, client, pytestconfig).check_output(
                    "python3 -I -c %s %s", ASK, str(network.network_address)
                )
                assert output.split()[:2] == ["48", "4"]
                assert output.split()[2] != "3", f"{me.name} is not synchronised"


@pytest.mark.control("NET-01")
def test_other_clients_get_no_time(host: TestinfraHost, office: Office, view: TimeView) -> None:
    """Only the declared clients get the time from this host.

    chrony itself is asked, because the packet filter would drop other queries.
    """
    assert {
        host.check_output("chronyc accheck %s", str(network.network_address)) for network in view.clients
    } == {"208 Access allowed"}
    clients = {network.network_address for network in view.clients}
    others = {net[-2] for zone in office.zones.values() for net in zone.networks} - clients
    assert {host.check_output("chronyc accheck %s", str(address)) for address in others} == {
        "209 Access denied"
    }
