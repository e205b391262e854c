"""Name servers: Knot for the office's zones, signed on the first of them."""

from collections.abc import Iterator
from typing import Any

from outpost.office.dns import reverse_zone
from outpost.office.model import Office
from outpost.office.problems import Problem
from outpost.office.role import NewHost, Role
from outpost.office.size import CgroupLimit
from outpost.office.tables.topology import Host

KNOT = "/var/lib/knot/outpost-backup"
"""Where the primary keeps a copy of its DNSSEC keys for the backup."""


def _watching(office: Office, host: Host) -> dict[str, Any]:
    reverse = (reverse_zone(office, network).name for network in office.dns.reverse)
    return {"zones": [office.domain, *reverse] if host.role == "dns" else []}


def _fits(_office: Office, hosts: tuple[Host, ...]) -> Iterator[Problem]:
    if len(hosts) == 1:
        message = "only one name server: if it fails, nobody can resolve the domain (RFC 2182)"
        yield Problem(f"hosts.{hosts[0].name}.role", "dns", message, "declare a second host with role dns")


def _restored(office: Office, host: Host) -> tuple[str, ...]:
    bring = f"knotc --blocking --timeout 120 zone-restore +backupdir {KNOT} +nozonefile"
    line = f"[ ! -d {KNOT} ] || {{ chown -R knot:knot {KNOT}; {bring}; rm -rf {KNOT}; }}"
    return (line,) if host == office.with_role("dns")[0] else ()


ROLE = Role(
    name="dns",
    trust=10,
    hosts=(
        NewHost("ns1", 11, ("wan", "core", "mgmt"), "primary name server: signs the zones"),
        NewHost(
            "ns2", 12, ("wan", "core", "mgmt"), "better on another site: two behind one line fail together"
        ),
    ),
    published=lambda _office: ("internet",),
    duties=("names",),
    fits=_fits,
    disk=3072,
    memory=lambda _size: 512,
    limits=lambda _size: {"knot.service": CgroupLimit(512, 64)},
    watched=("zone_signatures",),
    watching=_watching,
    kept=lambda office, host: ({"kind": "knot", "path": KNOT},) if host == office.with_role("dns")[0] else (),
    restored=_restored,
    reloads={"/etc/knot/": "knot.service"},
    programs=("knotd",),
)
