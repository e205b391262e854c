"""The lab's DNS above the office: a signed root, ``test.``, the peers' domains, the reverse zones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from outpost.lab import keys, world
from outpost.lab.instance import Instance
from outpost.lab.material import credentials, environment
from outpost.lab.paths import WORLD
from outpost.lab.world import Machine

STORAGE = "/var/lib/knot"


@dataclass(frozen=True)
class Zone:
    """A zone of the lab's root server.

    Attributes:
        name: With the final dot.
        file: Base name of its files.
        template: Base name of its template.
        parent: Zone that delegates it.
    """

    name: str
    file: str
    template: str
    parent: str


ROOT_ZONE = Zone(name=".", file="root", template="registry", parent="")


@dataclass(frozen=True)
class Delegation:
    """A zone as its parent shows it: name, DS data, and servers with their addresses."""

    zone: str
    ds: tuple[str, ...]
    servers: tuple[tuple[str, str], ...] = ()


def zones(instance: Instance) -> tuple[Zone, ...]:
    """Every zone of the root server, parents first."""
    ipv4, ipv6 = (f"{name}." for name in _reverse(instance.slot))
    return (
        ROOT_ZONE,
        Zone("test.", "test", "registry", "."),
        *(
            Zone(f"{machine.domain}.", machine.domain, "domain", "test.")
            for machine in _mail_servers(instance)
        ),
        Zone(ipv4, "reverse4", "reverse", "."),
        Zone(ipv6, "reverse6", "reverse", "."),
    )


def trust_anchor(instance: Instance) -> list[str]:
    """DS records of the root's key, in presentation format."""
    return [f". IN DS {_ds(instance, ROOT_ZONE)}"]


def files(instance: Instance, office_ds: Iterable[str]) -> list[tuple[str, bytes]]:
    """Zone files and the keys that the server imports: (path, content)."""
    result = []
    for zone in zones(instance):
        result.append((f"{STORAGE}/{zone.file}.zone", zone_file(instance, zone, office_ds)))
        key = _key_file(instance, zone)
        keys.ec_key(key)
        result.append((f"{STORAGE}/import/{zone.file}.pem", key.read_bytes()))
    return result


def parent_of_office(instance: Instance) -> Zone:
    """The zone that delegates the office's."""
    above = f"{instance.office.domain.partition('.')[2]}."
    return next(zone for zone in zones(instance) if zone.name == above)


def zone_file(instance: Instance, zone: Zone, office_ds: Iterable[str]) -> bytes:
    """The unsigned content of a zone.

    Args:
        instance: Whose zone.
        zone: Which.
        office_ds: DS data of the office's zone (``key tag, algorithm, digest type, digest``).
    """
    mail = next((machine for machine in _mail_servers(instance) if f"{machine.domain}." == zone.name), None)
    context = {
        "names": _names(instance, zone),
        "children": [
            Delegation(child.name, (_ds(instance, child),))
            for child in zones(instance)
            if child.parent == zone.name
        ],
        "delegations": [],
        "pointers": _pointers(instance, zone),
    }
    if mail:
        context["mail"] = {"fqdn": mail.outside_name, "tlsa": keys.tlsa(credentials(instance, mail)[0])}
    if zone == parent_of_office(instance):
        context["delegations"] = [
            Delegation(f"{instance.office.domain}.", tuple(office_ds), _office_servers(instance))
        ]
    template = environment().get_template(
        str((WORLD / "root/var/lib/knot" / f"{zone.template}.zone.j2").relative_to(WORLD))
    )
    return template.render(context).encode()


def _mail_servers(instance: Instance) -> tuple[Machine, ...]:
    return tuple(machine for machine in world.around(instance.slot) if machine.domain)


def _names(instance: Instance, zone: Zone) -> list[tuple[str, str]]:
    """Address records of the world's machines in a zone; the root needs only its own server's, as glue."""
    mail = {f"{machine.domain}." for machine in _mail_servers(instance)}
    found = []
    for machine in world.around(instance.slot):
        for name, address in machine.names:
            home = next((item for item in mail if f"{name}.".endswith(f".{item}")), "test.")
            if home == zone.name or (zone.name == "." and machine.role == "root"):
                found.append((name, address))
    return found


def _office_servers(instance: Instance) -> tuple[tuple[str, str], ...]:
    return tuple(
        (host.fqdn, str(item)) for host in instance.office.with_role("dns") for item in host.in_zone("wan")
    )


def _pointers(instance: Instance, zone: Zone) -> list[tuple[str, str]]:
    if zone.template != "reverse":
        return []
    pairs = [
        (address, machine.also_named.get(place, machine.fqdn))
        for machine in instance.machines
        for place, addresses in machine.addresses.items()
        for address in addresses
    ]
    owners = ((f"{ip_address(address).reverse_pointer}.", name) for address, name in pairs)
    return [(owner, name) for owner, name in owners if owner.endswith(f".{zone.name}")]


def _reverse(slot: int) -> tuple[str, str]:
    """Names of the reverse zones of a slot's 10.N.0.0/16 and fd00:N::/32."""
    ipv4, ipv6 = (ip_address(item).reverse_pointer for item in world.address("wan", 1, slot))
    return ipv4.split(".", 2)[2], ipv6.split(".", 24)[24]


def _key_file(instance: Instance, zone: Zone) -> Path:
    return instance.directory / "world" / "dnssec" / f"{zone.file}.pem"


def _ds(instance: Instance, zone: Zone) -> str:
    return keys.ds(zone.name, keys.ec_key(_key_file(instance, zone)))
