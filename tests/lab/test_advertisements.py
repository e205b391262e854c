"""A machine on a host's network announces itself as a router: the host ignores it."""

from __future__ import annotations

import pytest

from outpost.onhost.observe import OBSERVER
from outpost_lab.instance import Instance
from tests.awaiting import until
from tests.lab.test_reapply import on

ADVERTISE = """
import socket, struct

router = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
router.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
for number, name in socket.if_nameindex():
    if name != "lo":
        router.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, number)
        router.sendto(struct.pack(">BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0), ("ff02::1", 0, 0, number))
"""
BELIEVE = (
    "for i in /proc/sys/net/ipv6/conf/*/accept_ra; do echo 1 > $i; done; "
    "nft insert rule inet outpost inbound icmpv6 type nd-router-advert accept"
)
AGAIN = "nft -f /etc/nftables.conf; /usr/lib/systemd/systemd-sysctl; ip -6 route flush proto ra"


def advertise(lab: Instance) -> None:
    """Announce a new router on the users' network."""
    on(lab, "workstation", f"python3 - <<'END-OF-PROGRAM'\n{ADVERTISE}\nEND-OF-PROGRAM\n")


def learned(lab: Instance) -> str:
    """Routes that the store has from advertisements."""
    return on(lab, "store", "ip -6 route show proto ra")


@pytest.mark.control("NET-02", "SYS-02")
def test_a_host_takes_no_route_from_a_router_advertisement(lab: Instance) -> None:
    def dropped() -> int:
        rules = on(lab, "store", "nft list chain inet outpost inbound | grep nd-router-advert")
        return int(rules.partition("packets ")[2].split()[0])

    before = dropped()
    advertise(lab)
    until(lambda: dropped() > before, "the packet filter drops the advertisement", seconds=30)
    assert learned(lab) == ""


@pytest.mark.slow
@pytest.mark.control("NET-02", "SYS-02")
def test_without_both_defences_the_host_takes_the_route_and_the_plan_names_it(lab: Instance) -> None:
    """The positive control."""
    on(lab, "store", BELIEVE)
    try:
        advertise(lab)
        until(lambda: "default" in learned(lab), "the route is there", seconds=30)
        assert "learned" in on(lab, "store", f"{OBSERVER} look")
    finally:
        on(lab, "store", AGAIN)
    assert learned(lab) == ""
