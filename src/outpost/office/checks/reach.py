"""Services that hosts need elsewhere, and whether one of their zones leads there."""

import re
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

from outpost.office.certificates import mode
from outpost.office.checks.rule import ends, placed, rule
from outpost.office.model import Office
from outpost.office.problems import Problem
from outpost.office.tables.topology import Host
from outpost.office.tables.values import IPAddress, address_in


@rule()
def _elsewhere(office: Office) -> Iterator[Problem]:
    """Services for the hosts must not run on one of the office's own hosts."""
    hosts = {str(address): host for host in office.hosts for address in host.all_addresses}
    hosts |= {host.fqdn: host for host in office.hosts}
    if office.smarthost and office.smarthost.host == office.domain:
        message = "the office's own domain: mail would return to the office: a mail loop"
        yield Problem("smarthost.host", office.domain, message, "name a machine outside")
    networks = [network for zone in office.zones.values() for network in zone.networks]
    named: list[tuple[str, object, str]] = [
        *((f"resolver.forwarders[{i}]", a, "it would ask itself") for i, a in enumerate(office.resolver.forwarders)),
        *((f"time.servers[{i}]", a, "it would ask itself for the time") for i, a in enumerate(office.time.servers)),
        *((f"logs.addresses[{i}]", a, "an intruder on the host could change its log") for i, a in enumerate(office.logs.addresses)),
        ("logs.collector", office.logs.collector, "an intruder on the host could change its log"),
        ("backup.server", office.backup and office.backup.server, "a backup would be lost with the host that it is for"),
        ("smarthost.host", office.smarthost and office.smarthost.host, "mail would return to the office: a mail loop"),
        ("archive.proxy", urlsplit(office.archive.proxy).hostname, "a host has one role"),
        ("acme.proxy", urlsplit(office.acme.proxy).hostname, "a host has one role"),
        *((f"alarms.tell[{i}]", urlsplit(path).hostname, "its alarms would be lost with it") for i, path in enumerate(office.alarms.tell)),
    ]  # fmt: skip
    for field, value, why in named:
        if value and (host := hosts.get(str(value))):
            message = f"{host.name} of this office has this address: {why}"
            yield Problem(field, str(value), message, "name a machine outside")
        address = address_in(str(value))
        if address and (what := ends(address, networks)):
            yield Problem(field, str(value), f"{what}: no machine can have it", "name a machine")


@rule("zones", "hosts")
def _reachable_services(office: Office) -> Iterator[Problem]:
    """A forwarder or proxy in one of the office's zones serves only hosts of that zone."""
    yield from _none_reached(office, "resolver.forwarders", office.resolver.forwarders, "add a forwarder")


def _none_reached(
    office: Office, field: str, given: tuple[IPAddress, ...], remedy: str, hint: str = ""
) -> Iterator[Problem]:
    """Hosts that none of the addresses serves."""
    for host in office.hosts if given else ():
        if placed(office, host) and not any(_reached(office, host, address) for address in given):
            message, better = f"{host.name} is in none of their zones", f"{remedy} that {host.name} reaches"
            yield Problem(field, ", ".join(map(str, given)), message, f"{better}{hint}")


def _reached(office: Office, host: Host, address: IPAddress) -> bool:
    """Whether a zone of the host leads to an address, or routing does: it is in none of the office's zones."""
    zones = [zone.name for zone in office.zones.values() if any(address in net for net in zone.networks)]
    return not zones or any(zone in host.addresses for zone in zones)


@rule("zones", "hosts", "logs")
def _collector_reached(office: Office) -> Iterator[Problem]:
    given = office.logs.addresses
    if office.logs.collector:
        hint = "; all hosts are in the management zone"
        yield from _none_reached(office, "logs.addresses", given, "add an address", hint)
    elif given:
        remedy = "give logs.collector, the name in its certificate"
        yield Problem("logs.addresses", ", ".join(map(str, given)), "the collector has no name", remedy)


@rule("zones", "hosts", "alarms")
def _alarms_leave(office: Office) -> Iterator[Problem]:
    """Every host sends its own alarms: a host that is not on the Internet needs a path to an address near it."""
    for host in office.hosts:
        if not placed(office, host) or not office.alarms.tell or office.addresses_of_kind(host, "internet"):
            continue
        networks = [network for zone in host.addresses for network in office.zones[zone].networks]
        addresses = [address for path in office.alarms.tell if (address := _literal(path)) is not None]
        if not any(address in network for address in addresses for network in networks):
            message = f"{host.name} is not on the Internet and reaches none of them"
            remedy = (
                "add a relay or webhook by its address in a zone of that host, best in the administrators'"
            )
            yield Problem("alarms.tell", ", ".join(office.alarms.tell), message, remedy)
    for index, path in enumerate(office.alarms.tell):
        if path.startswith("http:") and _literal(path) is None:
            remedy = "write https:// for a name"
            yield Problem(f"alarms.tell[{index}]", path, "not encrypted, and it crosses the Internet", remedy)
        parameters = parse_qs(urlsplit(path).query)
        people = [value for name in ("to", "from") for value in parameters.get(name, ())]
        if path.startswith("smtp") and not (
            {"to", "from"} <= parameters.keys() and all(re.fullmatch(r"[!-~]+@[!-~]+", one) for one in people)
        ):
            message = "the sender (from) or the recipient (to) is missing, or is not a mail address"
            remedy = "write smtp://RELAY/?to=ADDRESS&from=ADDRESS"
            yield Problem(f"alarms.tell[{index}]", path, message, remedy)


def _literal(url: str) -> IPAddress | None:
    return address_in(urlsplit(url).hostname or "")


@rule("hosts", "zones", "backup")
def _backup_fits(office: Office) -> Iterator[Problem]:
    """Every host must reach the backup server, and the allowed age of a backup must exceed the time between two backups."""
    backup = office.backup
    if backup is None:
        return
    around = [(n.prefixlen, z) for z in office.zones.values() for n in z.networks if backup.server in n]
    _, zone = max(around, key=lambda found: found[0], default=(0, None))
    for host in office.hosts:
        if zone and placed(office, host) and zone.name not in host.addresses:
            message = f"{host.name} has no address in its zone {zone.name}"
            remedy = f"give {host.name} one there, or name a server that is reached by routing"
            yield Problem("backup.server", str(backup.server), message, remedy)
    if backup.oldest <= backup.every + backup.jitter:
        message = f"two backups may lie {backup.every + backup.jitter} s apart (every and jitter)"
        remedy = f"give more than {backup.every + backup.jitter}s"
        yield Problem("backup.oldest", f"{backup.oldest}s", message, remedy)


@rule("hosts", "zones", "acme")
def _certificates_come(office: Office) -> Iterator[Problem]:
    given = {item.host for item in office.tls.provided}
    for host in office.hosts:
        chosen = mode(office, host)
        field = f"hosts.{host.name}.certificates"
        if not placed(office, host):
            continue
        if chosen == "acme" and not office.addresses_of_kind(host, "internet") and not office.acme.proxy:
            message = f"{host.name} has no address on the Internet, so it cannot ask the authority"
            remedy = 'name a proxy in acme.proxy, or give the host certificates = "office"'
            yield Problem(field, "acme", message, remedy)
        if chosen == "provided" and host.name not in given:
            message = f"no certificate in {host.name}.pem beside office.toml"
            remedy = f"put it there with its chain; its request: ./outpost secrets csr OFFICE {host.name}"
            yield Problem(field, "provided", message, remedy)


def awaits_certificate(problem: Problem) -> bool:
    """Whether only a certificate is missing that an authority issues by hand."""
    return problem.value == "provided" and problem.field.endswith(".certificates")
