"""The graph of flows: who may open a connection to whom, on which port, and why.

The only source for the packet filters in and out, for each role's listener contract, for the reachability
tests and for the README's diagram. What is not here is refused (invariant 5; control NET-01).
"""

from collections.abc import Iterator
from ipaddress import ip_network
from itertools import product
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from outpost.office import ports
from outpost.office.certificates import AcmeView, acme_hosts
from outpost.office.model import Office
from outpost.office.tables.topology import Host, RoleName, Zone, ZoneKind
from outpost.office.tables.values import IPAddress, IPNetwork, address_in

Protocol = Literal["tcp", "udp"]
BOTH: tuple[Protocol, ...] = ("udp", "tcp")


class Where(NamedTuple):
    """One end of a flow.

    Attributes:
        label: Name for people: a host, a zone, a peer or a service outside.
        networks: Its networks; a host's addresses are /32 and /128. Empty for the Internet: any address outside the networks
        of `beyond`.
        beyond: The office's inner networks, for the Internet's end only.
        host: The host's name, where the end is one of the office's hosts.
    """

    label: str
    networks: tuple[IPNetwork, ...] = ()
    beyond: tuple[IPNetwork, ...] = ()
    host: str | None = None

    @property
    def is_internet(self) -> bool:
        """Whether this end is any address outside the office."""
        return not self.networks


class Flow(NamedTuple):
    """Permission to open connections from one end to a port of the other.

    Attributes:
        zone: The zone it crosses; for a link between hosts of no common zone, the destination's.
        why: Reason in one clause; it becomes the comment of the filter rule.
    """

    source: Where
    destination: Where
    protocol: Protocol
    port: int
    zone: str
    why: str


class Listener(NamedTuple):
    """A socket that a host must have; a host may have only the sockets of its contract."""

    address: IPAddress
    port: int
    protocol: Protocol
    why: str


def flows(office: Office) -> tuple[Flow, ...]:
    """Every permitted flow of the office, in the order of a message's path: names, mail in, mail out, users, upkeep."""
    families = (
        _names, _mail_in, _mail_inside, _mail_out, _users, _certificates, _time, _keeping
    )  # fmt: skip
    return tuple(flow for family in families for flow in family(office))


def inbound(office: Office, host: Host) -> tuple[Flow, ...]:
    return tuple(flow for flow in flows(office) if flow.destination.host == host.name)


def outbound(office: Office, host: Host) -> tuple[Flow, ...]:
    return tuple(flow for flow in flows(office) if flow.source.host == host.name)


def listeners(office: Office, host: Host) -> tuple[Listener, ...]:
    """Each socket that flows to this host need, without duplicates and loopback."""
    found: dict[tuple[IPAddress, int, Protocol], Listener] = {}
    for flow in inbound(office, host):
        for network in flow.destination.networks:
            socket = network.network_address, flow.port, flow.protocol
            found.setdefault(socket, Listener(*socket, flow.why))
    return tuple(found.values())


def inner_networks(office: Office) -> tuple[IPNetwork, ...]:
    """Networks of every zone that is not the Internet's."""
    return tuple(
        network for zone in office.zones.values() if zone.kind != "internet" for network in zone.networks
    )


def _single(addresses: tuple[IPAddress, ...]) -> tuple[IPNetwork, ...]:
    return tuple(ip_network(address) for address in addresses)


def _internet(office: Office) -> Where:
    return Where("Internet", beyond=inner_networks(office))


def _everyone_in(zone: Zone) -> Where:
    return Where(zone.name, networks=zone.networks)


def _at(host: Host, zone: str) -> Where:
    """A host as seen from a zone: its addresses in it, or all its addresses if it has none there and is reached by routing."""
    return Where(host.name, networks=_single(host.in_zone(zone) or host.all_addresses), host=host.name)


def _into(source: Where, host: Host, zone: str, port: int, why: str, protocol: Protocol = "tcp") -> Flow:
    return Flow(source, _at(host, zone), protocol, port, zone, why)


def _between(
    office: Office, source: Host, destination: Host, port: int, why: str, protocol: Protocol = "tcp"
) -> Flow:
    here, there = (
        Where(host.name, networks=_single(office.link_addresses(host, other)), host=host.name)
        for host, other in ((source, destination), (destination, source))
    )
    target = office.link_addresses(destination, source)[0]
    zone = next(zone for zone, addresses in destination.addresses.items() if target in addresses)
    return Flow(here, there, protocol, port, zone, why)


def _links(office: Office, source: str, destination: str, services: dict[int, str]) -> Iterator[Flow]:
    """Services that each host of one role uses on each host of another."""
    for here, there in product(office.with_role(source), office.with_role(destination)):
        for port, why in services.items():
            yield _between(office, here, there, port, why)


def _names(office: Office) -> Iterator[Flow]:
    for server in office.with_role("dns"):
        for zone in office.zones.values():
            if zone.name not in server.addresses and zone.kind != "internet":
                continue
            source = _internet(office) if zone.kind == "internet" else _everyone_in(zone)
            for protocol in BOTH:
                yield _into(source, server, zone.name, ports.DNS, "answer for the office's zones", protocol)
    primary, *secondaries = office.with_role("dns")
    for secondary in secondaries:
        for protocol in BOTH:
            yield _between(office, primary, secondary, ports.DNS, "notify of a changed zone", protocol)
            yield _between(office, secondary, primary, ports.DNS, "transfer of a zone, TSIG-signed", protocol)


def _mail_in(office: Office) -> Iterator[Flow]:
    for mta in office.with_role("mta"):
        for zone in office.zones_of_kind("internet"):
            yield _into(_internet(office), mta, zone.name, ports.SMTP, "mail from the Internet")
        for peer in office.peers:
            source = Where(peer.name, networks=_single(peer.relays))
            why = f"mail from {peer.name}, a listener of its own"
            yield _into(source, mta, peer.zone, peer.listen, why)


def _mail_inside(office: Office) -> Iterator[Flow]:
    if len(office.mail_servers) > 1:
        relay = {ports.RELAY: "users' submissions, to an MTA that answers"}
        yield from _links(office, "store", "store", relay)
    delivery = {ports.LMTP: "delivery into mailboxes", ports.QUOTA_STATUS: "whether a mailbox has room"}
    yield from _links(office, "mta", "store", delivery)
    services = {
        ports.SUBMISSION_RELAY: "users' submissions, already authenticated",
        ports.SCANNER: "scanning mailboxes again",
        ports.LEARN_SPAM: "learning from what users moved into Junk",
        ports.LEARN_HAM: "learning from what is no junk",
    }
    yield from _links(office, "store", "mta", services)


def _mail_out(office: Office) -> Iterator[Flow]:
    for mta in office.with_role("mta"):
        for zone in office.zones_of_kind("internet"):
            here, port = _at(mta, zone.name), office.smarthost.port if office.smarthost else ports.SMTP
            yield Flow(here, _internet(office), "tcp", port, zone.name, "mail to the Internet")
            if not office.smarthost:
                why = "MTA-STS policies of the domains mail goes to"
                yield Flow(here, _internet(office), "tcp", ports.HTTPS, zone.name, why)
        for peer in office.peers:
            # Its owner chooses the addresses of its name; in the Internet's zone the office cannot list them.
            zone = office.zones[peer.zone]
            target = Where(peer.name, networks=_single(peer.relays))
            if zone.kind == "internet":
                target = _internet(office)
            yield Flow(_at(mta, peer.zone), target, "tcp", peer.port, peer.zone, f"mail to {peer.name}")


def _served(office: Office, kind: ZoneKind, role: RoleName, services: dict[int, str]) -> Iterator[Flow]:
    """Services of each host of a role for everybody in zones of a kind."""
    for host, zone in product(office.with_role(role), office.zones_of_kind(kind)):
        source = _internet(office) if kind == "internet" else _everyone_in(zone)
        for port, why in services.items():
            yield _into(source, host, zone.name, port, why)


def _users(office: Office) -> Iterator[Flow]:
    mail = {
        ports.IMAPS: "reading mail",
        ports.SUBMISSIONS: "sending mail",
        ports.MANAGESIEVE: "managing filters",
    }
    yield from _served(office, "users", "store", mail)
    redirect = {ports.HTTP: "redirect from HTTP to HTTPS"}
    pages = {ports.HTTPS: "webmail and client set-up"} | redirect
    yield from _served(office, "users", "webmail", pages)
    public = {ports.HTTPS: "MTA-STS policy and client set-up"}
    public |= redirect if office.webmail.open_to_internet else {}
    yield from _served(office, "internet", "webmail", public)
    services = {
        ports.IMAPS: "webmail reads with the user's login",
        ports.SUBMISSIONS: "webmail sends with the user's login",
        ports.MANAGESIEVE: "webmail manages the user's filters",
        ports.ACCOUNTS: "webmail logs in and changes passwords",
    }
    yield from _links(office, "webmail", "store", services)
    yield from _served(office, "users", "groupware", {ports.HTTPS: "calendars and contacts"})
    yield from _links(office, "groupware", "store", {ports.CALENDARS: "whether a login opens calendars"})


def _certificates(office: Office) -> Iterator[Flow]:
    for host in acme_hosts(office):
        proxy = AcmeView(office, host).proxy
        yield from _fetching(office, host, proxy, (office.acme.directory,), "certificates")
        for name_server in office.with_role("dns"):
            yield _between(office, host, name_server, ports.DNS, "proving names to the certificate authority")


def _time(office: Office) -> Iterator[Flow]:
    for zone, server, host in product(
        office.zones_of_kind("servers"), office.with_role("timeserver"), office.hosts
    ):
        if host != server and host.in_zone(zone.name) and server.in_zone(zone.name):
            yield _into(_at(host, zone.name), server, zone.name, ports.NTP, "the clock", "udp")


def _keeping(office: Office) -> Iterator[Flow]:
    for host in office.hosts:
        for zone in office.zones_of_kind("management"):
            yield _into(_everyone_in(zone), host, zone.name, ports.SSH, "administration")
        resolvers = tuple(map(str, office.resolver.forwarders)) or ("",)
        for protocol in BOTH:
            yield from _outside(office, host, resolvers, protocol, ports.DNS, "resolving names")
        if office.backup:
            server, port = str(office.backup.server), office.backup.port
            yield from _outside(office, host, (server,), "tcp", port, "backup at head office")
        yield from _outside(office, host, office.time.servers, "udp", ports.NTP, "the clock")
        if office.logs.collector:
            places = tuple(map(str, office.logs.addresses)) or (office.logs.collector,)
            yield from _outside(office, host, places, "tcp", office.logs.port, "logs to head office")
        yield from _telling(office, host)
        mirrors = (office.archive.mirror, office.archive.security_mirror)
        yield from _fetching(office, host, office.archive.proxy, mirrors, "packages and upgrades")
    if office.scanner.signatures == "freshclam":
        for mta in office.with_role("mta"):
            yield from _outside(office, mta, ("",), "tcp", ports.HTTPS, "virus signatures")


SCHEMES = {"smtp": ports.SMTP, "smtps": ports.SUBMISSIONS, "https": ports.HTTPS, "http": ports.HTTP}
"""Scheme of a URL → the port where the URL has none."""


def _url_port(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or SCHEMES[parts.scheme]


def _fetching(office: Office, host: Host, proxy: str, urls: tuple[str, ...], why: str) -> Iterator[Flow]:
    """To the servers of URLs: through a proxy if there is one, else anywhere outside."""
    for port in sorted({_url_port(url) for url in ((proxy,) if proxy else urls)}):
        yield from _outside(office, host, (urlsplit(proxy).hostname or "",), "tcp", port, why)


def _telling(office: Office, host: Host) -> Iterator[Flow]:
    """Alarms; only hosts on the Internet may send them to a name."""
    for path in office.alarms.tell:
        server = urlsplit(path).hostname or ""
        if address_in(server) or office.addresses_of_kind(host, "internet"):
            yield from _outside(office, host, (server,), "tcp", _url_port(path), "alarms")


def _outside(
    office: Office, host: Host, servers: tuple[str, ...], protocol: Protocol, port: int, why: str
) -> Iterator[Flow]:
    """From a host to services outside the office: to an address if it is known, else anywhere outside."""
    addresses = [address for server in servers if (address := address_in(server))]
    for address in addresses:
        around = (each for each in office.zones.values() if any(address in net for net in each.networks))
        zone = next((each.name for each in around), "")
        if zone and zone not in host.addresses:
            continue  # in the network of a zone without this host: another server of the list serves it
        there = Where(str(address), networks=_single((address,)))
        yield Flow(_at(host, zone), there, protocol, port, zone or "outside", why)
    if len(addresses) < len(servers):
        yield Flow(_at(host, ""), _internet(office), protocol, port, "outside", why)
