"""From every zone to every host and port, and outwards: exactly what the flow graph allows can be reached.

One prober stands in the network of each machine of the lab, the office's hosts among them; it tries both families,
TCP and UDP, on every port that a flow names or that anything is known to listen on.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest

from outpost.office import Office
from outpost.office.flows import Flow, Where, flows
from outpost.office.tables.values import IPAddress
from outpost_lab import engine, pace
from outpost_lab.instance import Instance

PROBER = Path(__file__).with_name("prober.py")
# Besides the ports of flows: those of mail, web, name, database and management daemons.
TEMPTING_TCP = (
    21, 23, 24, 80, 110, 111, 143, 389, 587, 783, 873, 953, 995, 2000, 2525, 3306, 5432, 6379, 8080, 8953, 9000, 10025,
    11211, 11332, 11333, 11334, 12345, 19999,
)  # fmt: skip
TEMPTING_UDP = (69, 111, 123, 161, 323, 514, 853, 11335)
OUTSIDE_TCP = (22, 25, 53, 80, 443, 465, 853, 3142, 6514)

Target = tuple[str, str, int]


def stands_in(end: Where, address: IPAddress) -> bool:
    """Whether an end of a flow covers an address."""
    if end.is_internet:
        return not any(address in network for network in end.beyond)
    return any(address in network for network in end.networks)


def allowed(office: Office, source: IPAddress, target: Target) -> bool:
    """Whether the graph allows a machine at `source` to reach a target, through both packet filters."""
    protocol, destination, port = target[0], ip_address(target[1]), target[2]
    matching = [flow for flow in flows(office) if flow.protocol == protocol and flow.port == port]
    out = _host_at(office, source) is None or any(
        flow.source.host == _host_at(office, source)
        and stands_in(flow.source, source)
        and stands_in(flow.destination, destination)
        for flow in matching
    )
    into = _host_at(office, destination) is None or any(
        _leads(flow, source, destination) for flow in matching
    )
    return out and into


def _leads(flow: Flow, source: IPAddress, destination: IPAddress) -> bool:
    return (
        flow.destination.host is not None
        and stands_in(flow.source, source)
        and any(destination in network for network in flow.destination.networks)
    )


def _host_at(office: Office, address: IPAddress) -> str | None:
    return next((host.name for host in office.hosts if address in host.all_addresses), None)


def pid(lab: Instance, machine: str) -> int:
    """The first process of a machine, whose network its prober enters."""
    found: int = engine.connect().containers.get(lab.container_name(machine)).attrs["State"]["Pid"]
    return found


def probe(process: int, targets: list[Target], *, seconds: float = 1.5) -> set[Target]:
    """The targets that can be reached from a machine's network."""
    command = [
        "nsenter",
        f"--net=/proc/{process}/ns/net",
        sys.executable,
        "-I",
        str(PROBER),
        str(seconds * pace.load()),
    ]
    done = subprocess.run(
        command,
        input=json.dumps(targets),
        capture_output=True,
        text=True,
        check=True,
        timeout=120 * pace.load(),
    )
    return {tuple(target) for target in json.loads(done.stdout)}


def source_for(lab: Instance, machine: str, target: IPAddress) -> IPAddress | None:
    """The machine's own address on the link of a target; None where they share none."""
    office = lab.office
    zone = next(
        (zone for zone in office.zones.values() if any(target in network for network in zone.networks)), None
    )
    addresses = lab.machine(machine).addresses.get(zone.name, ()) if zone else ()
    return next(
        (each for each in map(ip_address, map(str, addresses)) if each.version == target.version), None
    )


def ports_of(office: Office) -> tuple[set[int], set[int]]:
    """TCP and UDP ports worth trying."""
    named = {
        protocol: {flow.port for flow in flows(office) if flow.protocol == protocol}
        for protocol in ("tcp", "udp")
    }
    return named["tcp"] | set(TEMPTING_TCP), named["udp"] | set(TEMPTING_UDP)


def targets_of(lab: Instance, machine: str) -> list[Target]:
    """Every address and port of the office's hosts, and of its neighbours outside, other than the machine's own."""
    tcp, udp = ports_of(lab.office)
    own = {str(address) for addresses in lab.machine(machine).addresses.values() for address in addresses}
    targets: list[Target] = []
    for host in lab.office.hosts:
        for address in map(str, host.all_addresses):
            if address not in own:
                targets += [("tcp", address, port) for port in sorted(tcp)]
                targets += [("udp", address, port) for port in sorted(udp)]
    if machine in {host.name for host in lab.office.hosts}:
        hosts = {host.name for host in lab.office.hosts}
        for other in lab.machines:
            if other.name in hosts:
                continue
            for address in (str(each) for addresses in other.addresses.values() for each in addresses):
                targets += [("tcp", address, port) for port in OUTSIDE_TCP]
                targets += [("udp", address, port) for port in (53, 123)]
    return targets


def vantages(lab: Instance) -> list[str]:
    """Machines to probe from: at least one in each zone."""
    return [machine.name for machine in lab.machines if machine.addresses]


@pytest.mark.control("NET-01", "NET-03")
def test_every_zone_reaches_what_the_flows_allow_and_nothing_else(lab: Instance) -> None:
    office, machines = lab.office, vantages(lab)
    hosts = {host.name for host in office.hosts}
    plan = {machine: targets_of(lab, machine) for machine in machines}
    processes = {machine: pid(lab, machine) for machine in machines}
    with ThreadPoolExecutor(len(machines)) as pool:
        found = dict(
            zip(machines, pool.map(lambda name: probe(processes[name], plan[name]), machines), strict=True)
        )
    open_ports, closed_ports, tried = [], [], 0
    for machine in machines:
        expected = set()
        for target in plan[machine]:
            source = source_for(lab, machine, ip_address(target[1]))
            if source is not None and allowed(office, source, target):
                expected.add(target)
        inside = {target for target in expected if _host_at(office, ip_address(target[1]))}
        if missing := inside - found[machine]:  # a busy machine may have been slow: try again, with more time
            missing -= probe(processes[machine], sorted(missing), seconds=8)
        closed_ports += [f"{machine} -> {target}" for target in sorted(missing)]
        open_ports += [f"{machine} -> {target}" for target in sorted(found[machine] - expected)]
        tried += len(plan[machine])
        assert machine not in hosts or expected, f"no flow begins at {machine}: nothing positive was tried"
    assert tried > 5000
    assert not open_ports
    assert not closed_ports


@contextmanager
def way(process: int, destination: str, gateway: str) -> Iterator[None]:
    """A route through a machine that must not forward, or to a host's address in another zone."""
    enter = ["nsenter", f"--net=/proc/{process}/ns/net", "ip", "-6" if ":" in destination else "-4", "route"]
    subprocess.run([*enter, "replace", destination, "via", gateway], check=True)
    try:
        yield
    finally:
        subprocess.run([*enter, "del", destination], check=False)


@pytest.mark.control("NET-02", "NET-04")
@pytest.mark.parametrize("family", [4, 6])
def test_a_stranger_does_not_reach_a_hosts_inner_addresses_through_its_outer_one(
    lab: Instance, family: int
) -> None:
    """A machine in the Internet's zone sends packets for inner addresses to the host that has them."""
    mta = lab.office.with_role("mta")[0]
    outer = next(str(address) for address in mta.in_zone("wan") if address.version == family)
    process = pid(lab, "attacker")
    for zone, port in (("core", 10465), ("mgmt", 22), ("client", 25)):
        inner = next(str(address) for address in mta.in_zone(zone) if address.version == family)
        with way(process, inner, outer):
            assert probe(process, [("tcp", inner, port)]) == set(), (
                f"{inner} port {port} answers on the Internet's side"
            )
    store = next(
        str(address) for address in lab.office.host("store").in_zone("core") if address.version == family
    )
    with way(process, store, outer):
        assert probe(process, [("tcp", store, 993)]) == set(), "the MTA forwards"


@pytest.mark.control("NET-01")
@pytest.mark.parametrize("family", [4, 6])
def test_the_store_and_a_pc_do_not_reach_the_internet_even_with_a_route(lab: Instance, family: int) -> None:
    """The store is stopped by its own packet filter, not by a missing route."""
    internet = next(
        str(address)
        for address in lab.machine("internet").addresses["wan"]
        if ip_address(str(address)).version == family
    )
    for machine, zone, neighbour in (("store", "core", "mta"), ("workstation", "lan", "webmail")):
        gateway = next(
            str(address)
            for address in lab.machine(neighbour).addresses[zone]
            if ip_address(str(address)).version == family
        )
        process = pid(lab, machine)
        with way(process, internet, gateway):
            assert probe(process, [("tcp", internet, port) for port in (25, 80, 443)]) == set()
