"""Zones and hosts: matching addresses, and all roles that an office needs."""

from collections.abc import Iterator, Sequence
from functools import partial
from urllib.parse import urlsplit

from outpost.office.checks.rule import ends, nearest, rule, unreached
from outpost.office.dns import CLIENT_SETUP
from outpost.office.model import Office
from outpost.office.problems import Problem
from outpost.office.role import every_role, serves
from outpost.office.tables.topology import Host, Zone, parted
from outpost.office.tables.values import IPAddress, IPNetwork


@rule()
def _zones_apart(office: Office) -> Iterator[Problem]:
    left = _overlapping(office)
    # one finding for all that it overlaps
    while wrong := max(left, key=lambda found: len(left[found]), default=None):
        others = left.pop(wrong)
        left = {found: kept for found, all_of in left.items() if (kept := all_of - {wrong})}
        listed = ", ".join(f"{network} of zone {name}" for name, network in sorted(others, key=str))
        remedy = "give each zone networks of its own: trust goes by address"
        yield Problem(f"zones.{wrong[0]}.networks", str(wrong[1]), f"overlaps {listed}", remedy)


def _overlapping(office: Office) -> dict[tuple[str, IPNetwork], set[tuple[str, IPNetwork]]]:
    """Networks that overlap others, by zone and network; of two equal candidates the later one comes first."""
    every = [(zone.name, network) for zone in office.zones.values() for network in zone.networks][::-1]
    found = {one: {other for other in every if other != one and other[1].overlaps(one[1])} for one in every}
    return {one: others for one, others in found.items() if others}


@rule("zones")
def _zones_wanted(office: Office) -> Iterator[Problem]:
    if any(zone not in office.zones for host in office.hosts for zone in host.addresses):
        return  # its table is missing: that is reported
    for kind, why in (
        ("internet", "mail comes from there"),
        ("servers", "the hosts' links cross it"),
        ("management", "SSH is open only there"),
        ("users", "people read mail there"),
    ):
        if not any(zone.kind == kind for zone in office.zones.values()):
            yield Problem("zones", ", ".join(office.zones), f"no zone of kind {kind}", f"declare one: {why}")


def _elsewhere(zone: Zone, hosts: Sequence[Host]) -> list[int]:
    """IP versions in which every host of a zone is outside its networks: then the zone is wrong."""
    found = []
    standing = [host.addresses[zone.name] for host in hosts if zone.name in host.addresses]
    for version in (4, 6):
        there = [a for addresses in standing for a in addresses if a.version == version]
        if len(there) < len(standing) and version not in zone.families:
            continue
        if len(there) > 1 and not any(address in network for address in there for network in zone.networks):
            found.append(version)
    return found


@rule("zones")
def _hosts_in_zones(office: Office) -> Iterator[Problem]:
    reported = {name for name, _ in _overlapping(office)}
    wrong = {zone.name: _elsewhere(zone, office.hosts) for zone in office.zones.values()}
    for name, versions in wrong.items():
        none = [net for net in office.zones[name].networks if net.version in versions]
        if versions and name not in reported:
            message = "the network contains no host's address of this zone"
            remedy = "correct the network, or the hosts' addresses"
            if not none:
                message = f"no IPv{versions[0]} network, and the hosts have IPv{versions[0]} addresses there"
                remedy = "add the network, or remove these addresses"
            shown = none or office.zones[name].networks
            yield Problem(f"zones.{name}.networks", ", ".join(map(str, shown)), message, remedy)
    unknown: dict[str, list[str]] = {}
    for host in office.hosts:
        field = f"hosts.{host.name}.addresses"
        if not any(host.addresses.values()):
            remedy = f"give it an address in one of {', '.join(office.zones)}"
            yield Problem(field, "{}", "the host is in no zone", remedy)
        for zone_name, addresses in host.addresses.items():
            zone = office.zones.get(zone_name)
            if zone is None:
                unknown.setdefault(zone_name, []).append(host.name)
                continue
            judged = tuple(a for a in addresses if a.version not in wrong[zone_name])
            if judged or not wrong[zone_name]:
                networks = tuple(net for net in zone.networks if net.version not in wrong[zone_name])
                yield from _addresses_fit(f"{field}.{zone_name}", judged, networks)
    for zone_name, names in unknown.items():
        also = f", which {', '.join(names)} have" if len(names) > 1 else ""
        remedy = f"use one of {', '.join(office.zones)}{nearest(zone_name, list(office.zones))}"
        yield Problem(f"hosts.{names[0]}.addresses.{zone_name}", "", f"no such zone{also}", remedy)


HOST_NAME_MAX = 64
"""Longest host name of Linux (gethostname(2))."""


@rule("hosts", "domain")
def _names_fit(office: Office) -> Iterator[Problem]:
    longest = max(office.hosts, key=lambda host: len(host.fqdn))
    if (over := len(longest.fqdn) - HOST_NAME_MAX) > 0:
        message = f"{longest.fqdn} has {len(longest.fqdn)} characters, and Linux takes {HOST_NAME_MAX} in a host's name"
        remedy = f"shorten the domain, or the name of the host, by {over}"
        yield Problem("domain", office.domain, message, remedy)


LOCAL_PLACES = ("/etc/", "/usr/", "/root/", "/home/", "/var/spool/cron/", "/run/systemd/")
OUTPOST_OWN = ("/etc/outpost/", "/usr/local/lib/outpost/")


@rule()
def _local_files(office: Office) -> Iterator[Problem]:
    for host in office.hosts:
        for index, path in enumerate(host.local):
            wrong = partial(Problem, f"hosts.{host.name}.local[{index}]", path)
            if path.startswith(OUTPOST_OWN) or f"{path}/".startswith(OUTPOST_OWN):
                remedy = "choose a path outside it, near the daemon that reads the file"
                yield wrong("this directory belongs to Outpost", remedy)
            elif not path.startswith(LOCAL_PLACES):
                remedy = f"put local files below {', '.join(LOCAL_PLACES)}"
                yield wrong("Outpost compares no files there", remedy)
            elif path in ("/etc/", "/usr/local/", "/root/"):
                remedy = "name the files, or a directory of their own"
                yield wrong("Outpost would report no change by hand there any more", remedy)


def _addresses_fit(
    field: str, addresses: tuple[IPAddress, ...], networks: tuple[IPNetwork, ...]
) -> Iterator[Problem]:
    wanted = {network.version for network in networks}
    wrong = partial(Problem, field, ", ".join(map(str, addresses)))
    if not addresses:
        remedy = f"give one of each of {', '.join(map(str, networks))}, or remove the key"
        yield wrong("no address", remedy)
        return
    counts = {version: sum(address.version == version for address in addresses) for version in (4, 6)}
    for version, count in counts.items():
        if count > 1:
            yield wrong(f"{count} IPv{version} addresses", "give one address of each family")
        elif count == 0 and version in wanted and max(counts.values()) <= 1:
            message = f"no IPv{version} address though the zone carries IPv{version}"
            yield wrong(message, f"add one of the zone's IPv{version} network")
        elif count and version not in wanted:
            message = f"an IPv{version} address in a zone without IPv{version}"
            yield wrong(message, "use the family of the zone's networks")
    for address in addresses:
        if what := ends(address, networks):
            remedy = "use one between the first and the last"
            yield Problem(field, str(address), f"{what}: no host can have it", remedy)
        if address.version in wanted and not any(address in network for network in networks):
            remedy = f"use an address in {', '.join(map(str, networks))}"
            yield Problem(field, str(address), "outside the zone's networks", remedy)


@rule()
def _addresses_unique(office: Office) -> Iterator[Problem]:
    owner: dict[IPAddress, str] = {}
    for host in office.hosts:
        for zone, addresses in host.addresses.items():
            for address in addresses:
                if owner.get(address, host.name) != host.name:
                    taken = f"{owner[address]} has this address already"
                    message = f"{taken}, so two roles would share one machine"
                    remedy = "give every host its own address"
                    yield Problem(f"hosts.{host.name}.addresses.{zone}", str(address), message, remedy)
                owner.setdefault(address, host.name)


@rule()
def _first_boot(office: Office) -> Iterator[Problem]:
    """What `outpost machines seed` needs from the file."""
    taken = {address for host in office.hosts for address in host.all_addresses}
    for zone in office.zones.values():
        field = f"zones.{zone.name}.gateways"
        for address in zone.gateways:
            if address in taken:
                message = "a host of the office has this address"
                yield Problem(field, str(address), message, "give the router's address")
            elif what := ends(address, zone.networks):
                message = f"{what}: no router can have it"
                yield Problem(field, str(address), message, "give the router's address")
            elif not any(address in network for network in zone.networks):
                remedy = f"give the router's address in {', '.join(map(str, zone.networks))}"
                yield Problem(field, str(address), "outside the zone's networks", remedy)
        if len({address.version for address in zone.gateways}) < len(zone.gateways):
            message = "two addresses of one IP version"
            yield Problem(field, ", ".join(map(str, zone.gateways)), message, "give one of each IP version")
    owner: dict[str, str] = {}
    for host in office.hosts:
        for name, mac in host.macs.items():
            field = f"hosts.{host.name}.macs.{name}"
            if name not in host.addresses:
                remedy = f"use one of {', '.join(host.addresses)}"
                yield Problem(field, mac, "the host has no address in this zone", remedy)
            if mac in owner:
                message = f"{owner[mac]} has this hardware address already"
                yield Problem(field, mac, message, "give each card its own")
            owner.setdefault(mac, f"{host.name}.{name}")


@rule("zones", "domain")
def _hosts_reached(office: Office) -> Iterator[Problem]:
    """A host needs an address where its clients are, and where administrators come from."""
    why = {
        "internet": ("the Internet's", "other mail systems reach it only there"),
        "users": ("the users'", "people reach it only there"),
        "management": ("the management", "sshd listens only there"),
    }
    for host in office.hosts:
        given = host.addresses
        if not (given and all(given.values()) and given.keys() <= office.zones.keys()):
            continue  # that is reported
        for kind, zones in unreached(office, host):
            named, reason = why[kind]
            message, remedy = f"no address in {named} zone: {reason}", f"give it one in {' or '.join(zones)}"
            yield Problem(f"hosts.{host.name}.addresses", ", ".join(host.addresses), message, remedy)


@rule()
def _hosts_by_themselves(office: Office) -> Iterator[Problem]:
    """Keys of one host must not name another host, or contradict each other."""
    addresses = {str(address): host.name for host in office.hosts for address in host.all_addresses}
    logins: dict[tuple[str, int], str] = {}
    labels = ("localhost", "mta-sts", *CLIENT_SETUP)
    for host in office.hosts:
        field = f"hosts.{host.name}"
        _, place, port = parted(host.ssh)
        if host.ssh and addresses.get(place, host.name) != host.name:
            message, remedy = f"an address of {addresses[place]}", f"write an address of {host.name}"
            yield Problem(f"{field}.ssh", host.ssh, message, remedy)
        elif host.ssh and logins.setdefault((place, port), host.name) != host.name:
            message = f"{logins[place, port]} is reached there"
            yield Problem(f"{field}.ssh", host.ssh, message, "give each host an address or a port of its own")
        for index, thing in enumerate(host.refused):
            if thing in (*host.accepted, *office.maintenance.accepted):
                remedy = "remove it from one of the two"
                yield Problem(f"{field}.refused[{index}]", thing, "accepted, too", remedy)
        if host.retiring and not serves(host, "transport"):
            yield Problem(f"{field}.retiring", "true", "only an MTA can retire", "remove it")
        if host.name in labels:
            message = f"another host answers under {host.fqdn}"
            yield Problem(field, host.role, message, "give the host another name")


@rule()
def _ports_apart(office: Office) -> Iterator[Problem]:
    """What `outpost machines up` needs from the file."""
    carries: dict[str, str] = {}
    for zone in office.zones.values():
        field, (card, _, vlan) = f"zones.{zone.name}.port", zone.port.partition(".")
        if card.startswith("zone-") or card == "lo":
            remedy = "name one that `ip link` prints there"
            yield Problem(field, zone.port, "not the name of a network card", remedy)
        for other, name in carries.items():
            if zone.port == other or (card == other.partition(".")[0] and not (vlan and "." in other)):
                remedy = "give each zone an interface or a VLAN of its own: eno1.10, eno1.20"
                yield Problem(field, zone.port, f"{other} carries zone {name}", remedy)
        if zone.port:
            carries[zone.port] = zone.name


@rule("hosts")
def _disks(office: Office) -> Iterator[Problem]:
    if office.disks is None:
        return
    for index, name in enumerate(office.disks.encrypted):
        if name not in office.hosts_by_name:
            guess = nearest(name, list(office.hosts_by_name))
            remedy = f"use some of {', '.join(office.hosts_by_name)}{guess}"
            yield Problem(f"disks.encrypted[{index}]", name, "no such host", remedy)
    own = {name: host.name for host in office.hosts for name in (host.fqdn, *map(str, host.all_addresses))}
    for index, tang in enumerate(office.disks.tang):
        if waits := own.get(urlsplit(tang.url).hostname or ""):
            message = f"{waits} is a host of this office: it is stolen with the disks that it opens"
            yield Problem(f"disks.tang[{index}].url", tang.url, message, "name a tang server at head office")


@rule("hosts")
def _roles_present(office: Office) -> Iterator[Problem]:
    for name, role in every_role().items():
        if hosts := office.with_role(name):
            yield from role.fits(office, hosts)
        elif not role.optional:
            remedy = f'declare one: [hosts.NAME] with role = "{name}"'
            yield Problem("hosts", "", f"no host has the role {name}", remedy)
