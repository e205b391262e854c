"""A new office file from a few answers: what an office of five hosts needs, with addresses counted from its networks."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import ClassVar

from outpost.errors import OutpostError
from outpost.office.tables.values import IPNetwork

INVENTORY_FILE = '''"""The office's hosts over SSH, host keys pinned in known_hosts beside this file."""

from pathlib import Path as _Path

from outpost.hosts import ssh as _ssh

office = _ssh(_Path(__file__).resolve().parent)
'''


@dataclass(frozen=True)
class Plan:
    """The answers.

    Attributes:
        people: Address and full name of each user.
        rate_kbit: The line to the Internet.
        proxy: An apt proxy that the hosts use; empty: they reach Debian's mirrors.
        acme_proxy: A proxy by which the store reaches the certificate authority; empty: the office certifies it.
    """

    name: str
    organisation: str
    domain: str
    postmaster: str
    wan: tuple[IPNetwork, ...]
    core: tuple[IPNetwork, ...]
    lan: tuple[IPNetwork, ...]
    mgmt: tuple[IPNetwork, ...]
    people: tuple[tuple[str, str], ...]
    certificates: str = "acme"
    rate_kbit: int = 10_000
    proxy: str = ""
    acme_proxy: str = ""
    ssh_user: str = "root"
    authorized_keys: tuple[str, ...] = field(default=())

    hosts: ClassVar[tuple[tuple[str, str, tuple[str, ...], str], ...]] = (
        ("ns1", "dns", ("wan", "core", "mgmt"), "           # primary name server: signs the zones"),
        ("ns2", "dns", ("wan", "core", "mgmt"), "           # better on another site: two behind one line fail together"),
        ("mta", "mta", ("wan", "core", "mgmt"), "           # the only door for mail; holds no password"),
        ("store", "store", ("core", "lan", "mgmt"), "         # mailboxes and accounts; no address on the Internet"),
        ("webmail", "webmail", ("wan", "core", "lan", "mgmt"), "       # users' browsers; keeps neither mail nor passwords"),
    )  # fmt: skip
    numbers: ClassVar[dict[str, int]] = {"ns1": 11, "ns2": 12, "mta": 21, "store": 31, "webmail": 41}
    """The last part of each host's addresses, where a network has room for it."""

    def addresses(self, host: str, zone: str) -> str:
        """A host's addresses in a zone, counted from its networks, as TOML."""
        found = []
        for network in self.networks(zone):
            place = self.numbers[host]
            if network.num_addresses <= max(self.numbers.values()) + 1:
                place = 2 + list(self.numbers).index(host)  # 1 is the router's
            if place >= network.num_addresses - 1:
                raise OutpostError(
                    f"{network} has no room for {host} and a router", "give a larger network: /28 holds an office"
                )  # fmt: skip
            found.append(str(network[place]))
        return json.dumps(found)

    def networks(self, zone: str) -> tuple[IPNetwork, ...]:
        """The networks of a zone."""
        found: tuple[IPNetwork, ...] = getattr(self, zone)
        return found

    @staticmethod
    def listed(networks: tuple[IPNetwork, ...]) -> str:
        """Networks as TOML."""
        return json.dumps([str(network) for network in networks])


def networks(text: str, what: str) -> tuple[IPNetwork, ...]:
    """The networks in a comma-separated answer.

    Raises:
        OutpostError: One is none.
    """
    found = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        try:
            found.append(ip_network(part))
        except ValueError as error:
            raise OutpostError(
                f"{what} {part}: {error}", "write it like 192.0.2.0/28 or 2001:db8:1::/64"
            ) from None
    if not found:
        raise OutpostError(f"no network for {what}", "write it like 192.0.2.0/28,2001:db8:1::/64")
    return tuple(found)


def public_keys(home: Path) -> tuple[str, ...]:
    """The administrator's own SSH public keys."""
    files = sorted((home / ".ssh").glob("id_*.pub"))
    return tuple(file.read_text(encoding="utf-8").strip() for file in files)


def write(directory: Path, text: str) -> None:
    """A new office directory.

    Raises:
        OutpostError: There is an office already.
    """
    file = directory / "office.toml"
    if file.exists():
        raise OutpostError(f"{file} is there already", "choose another name, or edit it")
    directory.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    (directory / "ssh.py").write_text(INVENTORY_FILE, encoding="utf-8")
    (directory / "known_hosts").touch()
