"""The test environment around the office: machines, names and addresses, read from ``templates/world/world.toml``."""

import tomllib
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

from jinja2 import Environment

from outpost import templates
from outpost.office.model import Office
from outpost.office.tables.topology import Host
from outpost.target import ROOT

WORLD = ROOT / "templates" / "world"
FIRST_NET = 77  # slot 0 is 10.77.0.0/16 and fd00:77::/32, slot 1 10.78.0.0/16 …
SLOTS = 256 - FIRST_NET
DATA: dict[str, Any] = tomllib.loads((WORLD / "world.toml").read_text())
ZONES: dict[str, int] = DATA["zones"]
"""The lab's zones → a number in their addresses; each zone is one Docker network of an instance."""
APT_CACHE_OCTET = 9
CONTROLLER_OCTET = 1


@dataclass(frozen=True)
class Machine:
    """A container of an instance: a host of the office, or a machine of the test environment.

    Attributes:
        role: The office's role (``mta``), or its task in the test environment (``headoffice``).
        addresses: Zone → (IPv4, IPv6), as text.
        users: Local parts of the mailboxes of its mail domain; empty: every local part is accepted.
        units: systemd units that are enabled on it.
        also_named: Zone → the name of its address there, instead of its host name.
    """

    name: str
    role: str
    fqdn: str
    image: str
    addresses: dict[str, tuple[str, str]]
    office: bool = False
    domain: str = ""
    users: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    also_named: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> tuple[tuple[str, str], ...]:
        """(name, address) pairs for the DNS: a name has the addresses of one zone only, its first one."""
        zones: dict[str, str] = {}
        for zone in sorted(self.addresses, key=lambda zone: zone != "wan"):
            zones.setdefault(self.also_named.get(zone, self.fqdn), zone)
        return tuple((name, address) for name, zone in zones.items() for address in self.addresses[zone])

    @property
    def outside_name(self) -> str:
        """The name of its Internet address, for MX records."""
        return self.also_named.get("wan", self.fqdn)

    @property
    def certificate_names(self) -> tuple[str, ...]:
        """Names that it may have in a certificate, its host name first."""
        return tuple(dict.fromkeys((self.fqdn, *self.also_named.values())))


def network(zone: str, slot: int) -> tuple[str, str]:
    """The IPv4 and IPv6 networks of a zone in an instance's slot."""
    number = ZONES[zone]
    return f"10.{FIRST_NET + slot}.{number}.0/24", f"fd00:{FIRST_NET + slot}:0:{number}::/64"


def address(zone: str, octet: int, slot: int) -> tuple[str, str]:
    """The IPv4 and IPv6 address in a zone that end in ``octet``, as decimal digits in both."""
    number = ZONES[zone]
    ipv6 = ip_address(f"fd00:{FIRST_NET + slot}:0:{number}::{octet}")
    return f"10.{FIRST_NET + slot}.{number}.{octet}", str(ipv6)


def shifted(text: str, slot: int) -> str:
    """Text with slot 0's addresses, changed to those of another slot."""
    return text.replace("10.77.", f"10.{FIRST_NET + slot}.").replace("fd00:77:", f"fd00:{FIRST_NET + slot}:")


def around(slot: int) -> tuple[Machine, ...]:
    """The test environment's machines in an instance's slot."""

    def machine(name: str, *, octet: int, zones: list[str], **entry: Any) -> Machine:
        addresses = {zone: address(zone, octet, slot) for zone in zones}
        lists = {key: tuple(value) for key, value in entry.items() if isinstance(value, list)}
        return Machine(name, addresses=addresses, **entry | lists)

    return tuple(machine(name, **entry) for name, entry in DATA["machines"].items())


def hosts(office: Office) -> tuple[Machine, ...]:
    """The office's hosts as containers that hold an empty Debian."""

    def machine(host: Host) -> Machine:
        addresses = {}
        for zone in host.addresses:
            ipv4, ipv6 = map(str, host.in_zone(zone))
            addresses[zone] = ipv4, ipv6
        own = host.name, host.role, host.fqdn
        return Machine(*own, "base", addresses, office=True, units=("ssh.service",))

    return tuple(map(machine, office.hosts))


def environment() -> Environment:
    """Jinja2 as the lab's templates expect it, with the types of DNS records."""
    made = templates.environment(WORLD)
    made.filters["rrtype"] = lambda value: "A" if ip_address(value).version == 4 else "AAAA"
    return made
