"""What hosts need elsewhere, and whether a zone of theirs leads there."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from urllib.parse import parse_qs, urlsplit

from outpost.office.checks.rule import Rule, placed
from outpost.office.model import Office
from outpost.office.problems import Problem
from outpost.office.tables.values import IPAddress


def _elsewhere(office: Office) -> Iterator[Problem]:
    """What the hosts take from others, or leave with them, is not one of themselves."""
    hosts = {str(address): host for host in office.hosts for address in host.all_addresses}
    hosts |= {host.fqdn: host for host in office.hosts}
    named: list[tuple[str, object, str]] = [
        *((f"resolver.forwarders[{i}]", a, "it asks them itself: a circle") for i, a in enumerate(office.resolver.forwarders)),
        *((f"time.servers[{i}]", a, "it takes the time from there itself: a circle") for i, a in enumerate(office.time.servers)),
        *((f"logs.addresses[{i}]", a, "a log that is kept where it is written helps nobody") for i, a in enumerate(office.logs.addresses)),
        ("logs.collector", office.logs.collector, "a log that is kept where it is written helps nobody"),
        ("backup.server", office.backup and office.backup.server, "a backup would be lost with the host that it is for"),
        ("smarthost.host", office.smarthost and office.smarthost.host, "mail would come back: a circle"),
        ("archive.proxy", urlsplit(office.archive.proxy).hostname, "a host does one thing"),
        ("acme.proxy", urlsplit(office.acme.proxy).hostname, "a host does one thing"),
    ]  # fmt: skip
    for field, value, why in named:
        if value and (host := hosts.get(str(value))):
            yield Problem(
                field, str(value), f"that is {host.name}, of this office: {why}", "name a machine outside"
            )


def _reachable_services(office: Office) -> Iterator[Problem]:
    """A forwarder or proxy in one of the office's zones serves only hosts of that zone."""
    for host in office.hosts:
        if not placed(office, host):
            continue
        zones = [office.zones[zone] for zone in host.addresses]
        own = [network for zone in zones for network in zone.networks]
        inside = [
            address
            for address in office.resolver.forwarders
            if any(address in network for zone in office.zones.values() for network in zone.networks)
        ]
        outside = len(office.resolver.forwarders) > len(inside)
        if inside and not outside and not any(address in network for address in inside for network in own):
            yield Problem(
                "resolver.forwarders",
                ", ".join(map(str, inside)),
                f"{host.name} is in none of their zones",
                f"add a forwarder that {host.name} reaches",
            )


def _collector_reached(office: Office) -> Iterator[Problem]:
    logs = office.logs
    if logs.addresses and not logs.collector:
        yield Problem(
            "logs.addresses",
            ", ".join(map(str, logs.addresses)),
            "a collector without a name",
            "give logs.collector, the name in its certificate",
        )
    if not logs.collector or not logs.addresses:
        return
    every = [network for zone in office.zones.values() for network in zone.networks]
    for host in office.hosts:
        if not placed(office, host):
            continue
        own = [network for zone in host.addresses for network in office.zones[zone].networks]
        if not any(
            any(address in network for network in own) or not any(address in network for network in every)
            for address in logs.addresses
        ):
            yield Problem(
                "logs.addresses",
                ", ".join(map(str, logs.addresses)),
                f"{host.name} is in none of their zones",
                f"add an address that {host.name} reaches; all hosts are in the management zone",
            )


def _alarms_leave(office: Office) -> Iterator[Problem]:
    """Every host tells its own alarms: one that is not on the Internet needs a path to an address near it."""
    for host in office.hosts:
        if not placed(office, host) or not office.alarms.tell or office.addresses_of_kind(host, "internet"):
            continue
        networks = [network for zone in host.addresses for network in office.zones[zone].networks]
        addresses = [address for path in office.alarms.tell if (address := _literal(path)) is not None]
        if not any(address in network for address in addresses for network in networks):
            yield Problem(
                "alarms.tell",
                ", ".join(office.alarms.tell),
                f"{host.name} is not on the Internet and reaches none of them",
                "add a relay or webhook by its address in a zone of that host, the administrators' best",
            )
    for index, path in enumerate(office.alarms.tell):
        if path.startswith("http:") and _literal(path) is None:
            yield Problem(
                f"alarms.tell[{index}]", path, "in clear across the Internet", "write https:// for a name"
            )
        asked = parse_qs(urlsplit(path).query)
        if path.startswith("smtp") and not (asked.get("to") and asked.get("from")):
            yield Problem(
                f"alarms.tell[{index}]",
                path,
                "a message from nobody, or to nobody",
                "write smtp://RELAY/?to=ADDRESS&from=ADDRESS",
            )


def _literal(url: str) -> IPAddress | None:
    try:
        return ip_address(urlsplit(url).hostname or "")
    except ValueError:
        return None


RULES: tuple[Rule, ...] = (
    (_elsewhere, set()),
    (_reachable_services, {"zones", "hosts"}),
    (_collector_reached, {"zones", "hosts", "logs"}),
    (_alarms_leave, {"zones", "hosts", "alarms"}),
)
