"""Generated offices: everything that the rules of an office file accept can be generated."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

from hypothesis import strategies as st

LABEL = st.from_regex(r"[a-z][a-z0-9]{0,8}(-[a-z0-9]{1,6})?", fullmatch=True)
TOP = st.sampled_from(
    ("example", "example.com", "xn--bro-hoa.example", "co.uk.example", "test", "a.b.c.d.example.net")
)
PERSON = st.sampled_from(
    ("anna", "jean-luc", "x", "maria.de.la.cruz", "j_smith", "a1", "very-long-name-of-somebody-who-has-one")
)
NAME = st.sampled_from(
    (
        "",
        "Zoë Müller",
        "O'Brien, Pat",
        'Ann "Nan" Lee',
        "李雷",
        "Dr. A & B <c>",
        "$HOME `id` {{x}}",
        "%u ${local} \\n",
    )
)
FAMILIES = st.sampled_from(((4,), (6,), (4, 6)))
ZONES = {
    "wan": ("internet", 10),
    "core": ("servers", 11),
    "lan": ("users", 12),
    "mgmt": ("management", 13),
    "site": ("partner", 14),
}
STANDS = {
    "dns": ("wan", "core", "mgmt"),
    "mta": ("wan", "core", "mgmt"),
    "store": ("core", "lan", "mgmt"),
    "webmail": ("wan", "core", "lan", "mgmt"),
}


def _networks(zone: str, families: tuple[int, ...]) -> list[str]:
    third = ZONES[zone][1]
    return [f"198.18.{third}.0/24" if version == 4 else f"2001:db8:{third}::/64" for version in families]


def _addresses(zone: str, families: tuple[int, ...], number: int) -> list[str]:
    return [str(ip_network(network)[number]) for network in _networks(zone, families)]


@st.composite
def offices(draw: st.DrawFn) -> dict[str, Any]:
    """The data of an office file, which is usually valid."""
    families = draw(FAMILIES)
    domain = f"{draw(LABEL)}.{draw(TOP)}"
    zones = ["wan", "core", "lan", "mgmt", *(["site"] if draw(st.booleans()) else [])]
    roles = ["dns", "dns", *["mta"] * draw(st.integers(1, 2)), "store", "webmail"]
    names = draw(st.lists(LABEL, min_size=len(roles), max_size=len(roles), unique=True))
    hosts = {}
    for number, (name, role) in enumerate(zip(names, roles, strict=True), 20):
        stands = (*STANDS[role], *(["site"] if role == "mta" and "site" in zones else []))
        hosts[name] = {
            "role": role,
            "addresses": {zone: _addresses(zone, families, number) for zone in stands},
        }
    people = draw(st.lists(PERSON, min_size=1, max_size=6, unique=True))
    addresses = [f"{person}@{domain}" for person in people]
    some = st.lists(st.sampled_from(addresses), min_size=1, unique=True)
    users = [
        {
            "address": address,
            "full_name": draw(NAME),
            "disabled": number > 0 and draw(st.booleans()),
            **({"forward": ["elsewhere@example.org"]} if draw(st.booleans()) else {}),
            **({"quota": "64MiB"} if draw(st.booleans()) else {}),
        }
        for number, address in enumerate(addresses)
    ]
    found: dict[str, Any] = {
        "name": draw(LABEL), "organisation": draw(NAME) or "Site", "domain": domain, "platform": draw(st.sampled_from(("machine", "docker"))),
        "postmaster": addresses[0], "users": users, "hosts": hosts,
        "zones": {zone: {"kind": ZONES[zone][0], "networks": _networks(zone, families)} for zone in zones},
        "aliases": [
            {"address": f"list{number}@{domain}", "members": draw(some), "inside_only": draw(st.booleans())}
            for number in range(draw(st.integers(0, 3)))
        ],
        "shared": [
            {"address": f"room{number}@{domain}", "members": draw(some)} for number in range(draw(st.integers(0, 2)))
        ],
        "link": {"rate_kbit": draw(st.integers(64, 10**6)), "shaped_percent": draw(st.integers(0, 100))},
        "limits": {"message_size": f"{draw(st.integers(1, 60))}MiB", "redirects": draw(st.integers(1, 9))},
        "tls": {
            "certificates": draw(st.sampled_from(("office", "acme"))), "profile": draw(st.sampled_from(("intermediate", "old"))),
            "mta_sts": draw(st.sampled_from(("none", "testing", "enforce"))),
        },
        "ssh": {"user": draw(st.sampled_from(("root", "admin", "debian")))},
        "webmail": {"open_to_internet": draw(st.booleans())},
        "archive": {"proxy": f"http://{_bracketed(_addresses('mgmt', families, 9)[0])}:3142"},
        "policy": {
            "impersonation": draw(st.sampled_from(("refuse", "tag", "accept"))), "forged_own": draw(st.sampled_from(("refuse", "tag", "accept"))),
            "external_subject": draw(st.sampled_from(("", "[external]"))), "macros": draw(st.sampled_from(("refuse", "accept"))),
        },
        "scanner": {"signatures": draw(st.sampled_from(("freshclam", "local"))), "network_checks": draw(st.booleans())},
    }  # fmt: skip
    if found["tls"]["certificates"] == "acme":
        found["acme"] = {"proxy": f"http://{_bracketed(_addresses('mgmt', families, 8)[0])}:8888"}
    if draw(st.booleans()):
        found["smarthost"] = {
            "host": "relay.example.net",
            "port": draw(st.sampled_from((25, 465, 587))),
            **({"user": "site@example.net"} if draw(st.booleans()) else {}),
        }
    found["peers"] = [
        {
            "name": f"peer{number}",
            "domains": [f"peer{number}.example.org", f"sub.peer{number}.example.org"],
            "zone": "wan",
            "relays": [f"203.0.113.{number + 1}" if 4 in families else f"2001:db8:ffff::{number + 1}"],
            "next_hop": f"mx.peer{number}.example.org",
            "listen": 2525 + number,
            "tls": draw(st.sampled_from(("verify", "dane"))),
            "concurrency": draw(st.integers(1, 10)),
            **({"large": "5MiB"} if draw(st.booleans()) else {}),
        }
        for number in range(draw(st.integers(0, 4)))
    ]
    if draw(st.booleans()):
        found["logs"] = {"collector": "logs.example.org", "addresses": _addresses("mgmt", families, 54)}
    if draw(st.booleans()):
        key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJv1QyRzs1wX9b6gUO1oO4vH0J8mY9k8W7m3gqkq5a0D"
        found["backup"] = {"server": _addresses("mgmt", families, 61)[0], "host_keys": [key]}
    if draw(st.booleans()):
        found["alarms"] = {"tell": [f"http://{_bracketed(_addresses('mgmt', families, 2)[0])}:8025/alarms"]}
    return found


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
