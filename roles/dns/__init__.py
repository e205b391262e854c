"""Name servers: Knot for the office's zones, signed on the first of them."""

from __future__ import annotations

from typing import Any

from outpost.office.dns import reverse_zone
from outpost.office.model import Office
from outpost.office.role import NewHost, Role
from outpost.office.size import CgroupLimit
from outpost.office.tables.topology import Host

KNOT = "/var/lib/knot/outpost-backup"
"""Where the primary keeps a copy of its DNSSEC keys for the backup."""


def _watching(office: Office, host: Host) -> dict[str, Any]:
    reverse = (reverse_zone(office, network).name for network in office.dns.reverse)
    return {"zones": [office.domain, *reverse] if host.role == "dns" else []}


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
    disk=3072,
    memory=lambda _size: 512,
    limits=lambda _size: {"knot.service": CgroupLimit(512, 64)},
    watched=("zone_signatures",),
    watching=_watching,
    kept=lambda office, host: ({"kind": "knot", "path": KNOT},) if host == office.with_role("dns")[0] else (),
)
