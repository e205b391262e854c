"""A machine on a host's network announces itself as a router, or as the owner of the host's addresses: the host ignores it."""

from __future__ import annotations

import subprocess
from ipaddress import ip_address

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


CLAIM = """
import socket, struct, sys

target = socket.inet_pton(socket.AF_INET6, sys.argv[1])
neighbour = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
neighbour.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
asked = socket.inet_pton(socket.AF_INET6, "ff02::1:ff00:0")[:13] + target[13:]
interfaces = [number for number, name in socket.if_nameindex() if name != "lo"]
for number in interfaces:
    neighbour.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, asked + struct.pack("@I", number))
print("claims", flush=True)
while True:
    packet = neighbour.recv(1500)
    if packet[0] != 135 or packet[8:24] != target:
        continue
    for number in interfaces:
        neighbour.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, number)
        neighbour.sendto(struct.pack(">BBHI", 136, 0, 0, 1 << 29) + target, ("ff02::1", 0, 0, number))
"""
"""Answers each question for that address (RFC 4861, section 4.4)."""
DETECT = "for i in /proc/sys/net/ipv6/conf/*/accept_dad; do echo 1 > $i; done"


def taken(lab: Instance) -> bool:
    """Whether a neighbour can take a new address from the store."""
    mine = on(lab, "workstation", "ip -6 -o address show scope global | head -1").split()[3].partition("/")[0]
    device = on(lab, "store", f"ip -6 route get {mine}").partition(" dev ")[2].split()[0]
    address = str(ip_address(mine) + 0xDAD)
    claiming = ["docker", "exec", "--interactive", lab.container_name("workstation"), "timeout", "60"]
    with subprocess.Popen([*claiming, "python3", "-c", CLAIM, address], stdout=subprocess.PIPE) as neighbour:
        assert neighbour.stdout is not None
        assert neighbour.stdout.readline() == b"claims\n"
        try:
            on(lab, "store", f"ip -6 address add {address}/128 dev {device}")
            shown = f"ip -6 -o address show dev {device} to {address}"
            until(
                lambda: "tentative" not in (now := on(lab, "store", shown)) or "dadfailed" in now,
                "the kernel has decided", seconds=30,
            )  # fmt: skip
            return "dadfailed" in on(lab, "store", shown)
        finally:
            on(lab, "store", f"ip -6 address delete {address}/128 dev {device}")
            on(lab, "workstation", f"pkill -f '{address}$'")


@pytest.mark.control("NET-02", "SYS-02")
def test_no_neighbour_takes_an_address_that_a_host_is_given(lab: Instance) -> None:
    assert not taken(lab)


@pytest.mark.slow
@pytest.mark.control("NET-02", "SYS-02")
def test_without_the_kernels_setting_a_neighbour_takes_it(lab: Instance) -> None:
    """The positive control."""
    on(lab, "store", DETECT)
    try:
        assert taken(lab)
    finally:
        on(lab, "store", AGAIN)
