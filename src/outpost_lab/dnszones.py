"""The lab's DNS above the office: a signed root, ``test.``, the peers' domains, the reverse zones."""

from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from outpost.office.dns import reverse_zone
from outpost_lab import keys, world
from outpost_lab.instance import Instance
from outpost_lab.world import Machine

STORAGE = "/var/lib/knot"
REGISTRY = f"{STORAGE}/registry"
"""Where the parent keeps the DS records of the office's zones; its zone files include them."""


class Zone(NamedTuple):
    """A zone of the lab's root server, with the base names of its files and of its template.

    Attributes:
        name: With the final dot.
        trusted: Whether the parent's DS is that of its key; one zone of the test environment is forged on purpose.
    """

    name: str
    file: str
    template: str
    parent: str
    trusted: bool = True


ROOT_ZONE = Zone(name=".", file="root", template="registry", parent="")


class Child(NamedTuple):
    """A zone of the office, and the zone of the test environment that delegates it."""

    name: str
    parent: Zone
    servers: tuple[tuple[str, str], ...]

    @property
    def ds_file(self) -> str:
        """Where the parent keeps its DS records; the name that dnssec-cds(1) expects."""
        return f"{REGISTRY}/dsset-{self.name}"


def zones(instance: Instance) -> tuple[Zone, ...]:
    """Every zone of the root server, parents first."""
    ipv4, ipv6 = (f"{name}." for name in _reverse(instance.slot))
    return (
        ROOT_ZONE,
        Zone("test.", "test", "registry", "."),
        Zone("forged.test.", "forged", "forged", "test.", trusted=False),
        *(Zone(name, mail.domain, "domain", "test.") for name, mail in _mail_servers(instance).items()),
        Zone(ipv4, "reverse4", "reverse", "."),
        Zone(ipv6, "reverse6", "reverse", "."),
    )


def trust_anchor(instance: Instance) -> list[str]:
    """DS records of the root's key, in presentation format."""
    return [f". IN DS {_ds(instance, ROOT_ZONE)}"]


def files(instance: Instance) -> list[tuple[str, bytes]]:
    """Zone files and the keys that the server imports: (path, content)."""
    result = [(child.ds_file, b"; nothing here yet\n") for child in children(instance)]
    for zone in zones(instance):
        result.append((f"{STORAGE}/{zone.file}.zone", zone_file(instance, zone)))
        key = _key_file(instance, zone)
        keys.ec_key(key)
        result.append((f"{STORAGE}/import/{zone.file}.pem", key.read_bytes()))
    return result


def children(instance: Instance) -> tuple[Child, ...]:
    """The office's zones that the test environment delegates: its domain, then its reverse zones."""
    if not instance.delegated:
        return ()
    office, name_servers = instance.office, instance.office.with_role("dns")
    servers = tuple((host.fqdn, str(item)) for host in name_servers for item in host.in_zone("wan"))

    def parent(name: str) -> Zone:
        above = [zone for zone in zones(instance) if zone.name == "." or name.endswith(f".{zone.name}")]
        return max(above, key=lambda zone: len(zone.name))

    names = (f"{office.domain}.", *(reverse_zone(office, network).name for network in office.dns.reverse))
    return tuple(Child(name, parent(name), servers) for name in names)


def zone_file(instance: Instance, zone: Zone) -> bytes:
    context = {
        "names": _names(instance, zone),
        "children": [
            {"zone": child.name, "ds": [_ds(instance, child if child.trusted else ROOT_ZONE, child.name)]}
            for child in zones(instance)
            if child.parent == zone.name
        ],
        "delegations": [child for child in children(instance) if child.parent == zone],
        "pointers": _pointers(instance, zone),
    }
    if mail := _mail_servers(instance).get(zone.name):
        context["mail"] = {"fqdn": mail.outside_name, "tlsa": keys.tlsa(instance.credentials(mail)[0])}
    template = world.environment().get_template(f"root/var/lib/knot/{zone.template}.zone.j2")
    return template.render(context).encode()


def _mail_servers(instance: Instance) -> dict[str, Machine]:
    """The test environment's mail servers by the zones of their domains."""
    return {f"{machine.domain}.": machine for machine in world.around(instance.slot) if machine.domain}


def _names(instance: Instance, zone: Zone) -> list[tuple[str, str]]:
    """Address records of the test environment's machines in a zone; the root needs only its own server's, as glue."""
    mail, found = _mail_servers(instance), []
    for machine in world.around(instance.slot):
        for name, address in machine.names:
            home = next((item for item in mail if f"{name}.".endswith(f".{item}")), "test.")
            if home == zone.name or (zone.name == "." and machine.role == "root"):
                found.append((name, address))
    return found


def _pointers(instance: Instance, zone: Zone) -> list[tuple[str, str]]:
    held = tuple(f".{child.name}" for child in children(instance))
    return [
        (owner, machine.also_named.get(place, machine.fqdn))
        for machine in instance.machines
        for place, addresses in machine.addresses.items()
        for owner in (f"{ip_address(address).reverse_pointer}." for address in addresses)
        if owner.endswith(f".{zone.name}") and not owner.endswith(held)
    ]


def _reverse(slot: int) -> tuple[str, str]:
    """Names of the reverse zones of a slot's 10.N.0.0/16 and fd00:N::/32."""
    ipv4, ipv6 = (ip_address(item).reverse_pointer for item in world.address("wan", 1, slot))
    return ipv4.split(".", 2)[2], ipv6.split(".", 24)[24]


def _key_file(instance: Instance, zone: Zone) -> Path:
    return instance.directory / "world" / "dnssec" / f"{zone.file}.pem"


def _ds(instance: Instance, zone: Zone, name: str = "") -> str:
    """The DS of a zone's key, under that name."""
    return keys.ds(name or zone.name, keys.ec_key(_key_file(instance, zone)))
