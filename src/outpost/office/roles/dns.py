"""Name servers: Knot for the office's zones, signed on the first of them."""

from __future__ import annotations

from outpost.office.roles.role import NewHost, Role
from outpost.office.size import CgroupLimit

KNOT = "/var/lib/knot/outpost-backup"
"""Where the primary keeps a copy of its DNSSEC keys for the backup."""

DNS = Role(
    name="dns",
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
    kept=lambda office, host: ({"kind": "knot", "path": KNOT},) if host == office.with_role("dns")[0] else (),
)
