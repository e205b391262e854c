"""What every host needs in any role, derived from the office: packet filter, resolver, clock, SSH.

Pure. `BaseView` is what the templates of the base role are rendered with.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import collapse_addresses, ip_network

from outpost.office import ports
from outpost.office.flows import Flow, Where, inbound, listeners, outbound
from outpost.office.model import Office
from outpost.office.role import role_of, serving
from outpost.office.size import STRANGERS, Size, size_of
from outpost.office.tables.topology import Host, ZoneKind, parted
from outpost.office.tables.values import IPAddress, IPNetwork, address_in


@dataclass(frozen=True)
class HostView:
    """A host, and its office."""

    office: Office
    me: Host

    @property
    def size(self) -> Size:
        """The sizes from which the limits of its daemons are derived."""
        return size_of(self.office)

    def listens(self, port: int) -> tuple[IPAddress, ...]:
        """Addresses on which the role listens on a port, from its contract; never a wildcard."""
        here = (entry.address for entry in listeners(self.office, self.me) if entry.port == port)
        return tuple(dict.fromkeys(here))

    @staticmethod
    def socket(address: IPAddress, port: int) -> str:
        """An address and a port, as daemons write them."""
        return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


class FrontView(HostView):
    """A host that users' programs reach by HTTPS, and that asks the store about their logins."""

    @property
    def name(self) -> str:
        """The host name that users type."""
        return self.me.fqdn

    @property
    def addresses(self) -> tuple[IPAddress, ...]:
        """Addresses of the role contract: its web server listens on these only, never on a wildcard."""
        return self.listens(ports.HTTPS)

    @property
    def store(self) -> Host:
        """The only host that knows passwords; users cannot choose another (REL-07)."""
        return serving(self.office, "mailboxes")[0]

    @property
    def store_addresses(self) -> tuple[IPAddress, ...]:
        """The store's addresses that this host can reach."""
        return self.office.link_addresses(self.store, self.me)


FAMILIES = ((4, "ip"), (6, "ip6"))
SPECIAL_USE = ("test", "invalid", "onion", "home.arpa")
"""Top-level names that Unbound answers itself (RFC 6761, RFC 8375)."""
PRIVATE = tuple(map(ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")))
"""Addresses that anybody may use behind a router (RFC 1918, RFC 4193)."""
INNER: tuple[ZoneKind, ...] = ("servers", "users", "management")


class BaseView:
    """One host of an office as the base role sees it."""

    def __init__(self, office: Office, me: Host) -> None:
        self.office, self.me = office, me
        arriving, leaving = inbound(office, me), outbound(office, me)

        # Packet filter --------------------------------------------------------------------------------------

        self.inbound = tuple(filter_rules(arriving))
        """Filter rules for connections to the host."""
        self.outbound = tuple(filter_rules(leaving))
        """Filter rules for connections from the host."""
        strangers = any(flow.port == ports.SMTP and flow.source.is_internet for flow in arriving)
        self.crowded_from = STRANGERS // 4 if strangers else 0
        """Sessions of strangers on port 25 from which on each client gets few: a quarter of all; 0 means no such port."""
        self.echo = tuple(
            f'{name} saddr {_set(networks)} {kind} type echo-request accept comment "administrators ping"'
            for (version, name), kind in zip(FAMILIES, ("icmp", "icmpv6"), strict=True)
            if (networks := _of(version, _networks(office, "management")))
        )
        """Filter rules that let only administrators ping the host."""
        zones = [zone for zone in office.zones.values() if zone.name in me.addresses]
        own = [network for zone in zones if zone.kind != "internet" for network in zone.networks]
        families = ((name, _of(version, own)) for version, name in FAMILIES)
        self.own_networks = tuple((name, _listed(found)) for name, found in families if found)
        """For each family the networks of the host's zones (without the Internet's), as the content of a set."""

        # Resolver and names ---------------------------------------------------------------------------------

        def reached(server: IPAddress | str, port: int) -> bool:
            """Whether a flow leads there: a server in a zone without this host serves others."""
            if (address := address_in(str(server))) is None:
                return True  # a name: the flow to any outside address covers it
            there = ip_network(address)
            return any(flow.port == port and there in flow.destination.networks for flow in leaving)

        known = office.resolver.forwarders
        self.forwarders = tuple(address for address in known if reached(address, ports.DNS))
        """Resolvers that this host can reach; empty if it resolves from the root itself."""
        self.private_networks = _networks(office, *INNER)
        """Inner networks: names outside the office may not point there."""
        domains = [office.domain, *(domain for peer in office.peers for domain in peer.domains)]
        used = {domain.partition(".")[2] and domain for domain in domains}
        opened = (name for name in SPECIAL_USE if any(each.endswith(f".{name}") for each in used))
        self.opened_zones = tuple(f"{name}." for name in opened)
        """Special-use names that are real here, because the office or a peer uses them."""
        outer = _networks(office, "internet")
        self.private_internet = any(net.network_address in private for net in outer for private in PRIVATE)
        """Whether the office's outer side has private addresses, as behind a NAT router or in the lab."""
        self.hosts_file = tuple(
            (str(address), f"{host.fqdn} {host.name}")
            for host in (me, *(host for host in office.hosts if host != me))
            for address in office.link_addresses(host, me)
        )
        """Addresses and names of the office's hosts: this host first, then the others with the addresses that it reaches."""

        # Clock, SSH, platform -------------------------------------------------------------------------------

        self.time_servers = tuple(server for server in office.time.servers if reached(server, ports.NTP))
        logs = office.logs
        near = (address for address in logs.addresses if reached(address, logs.port))
        self.collector = str(next(near, logs.collector))
        """Where this host sends its logs: the first address that a flow leads to, else the collector's name."""
        self.ssh_addresses = office.addresses_of_kind(me, "management")
        """Where sshd listens: the host's management addresses."""
        self.admin = parted(me.ssh)[0] or office.ssh.user
        self.is_machine = office.platform_of(me) != "docker"
        """Whether clock and kernel belong to the host; a container has those of its machine."""
        self.kernel = role_of(me).kernel(size_of(office))
        """Kernel settings of its role."""


def _networks(office: Office, *kinds: ZoneKind) -> tuple[IPNetwork, ...]:
    """Networks of the zones of some kinds, kind after kind."""
    return tuple(net for kind in kinds for zone in office.zones_of_kind(kind) for net in zone.networks)


def filter_rules(flows: Iterable[Flow]) -> Iterator[str]:
    """nftables rules for flows, one per family, each with the flow's reason as its comment.

    Flows with the same port and reason become one rule if possible.
    """
    merged: dict[tuple[Where, Where, int, str], set[str]] = {}
    for flow in flows:
        # without their labels equal addresses compare equal
        source, destination = (end._replace(label="", host=None) for end in (flow.source, flow.destination))
        merged.setdefault((source, destination, flow.port, flow.why), set()).add(flow.protocol)
    for (source, destination, port, why), protocols in merged.items():
        for version, name in FAMILIES:
            origin = _end(name, "saddr", source, version)
            target = _end(name, "daddr", destination, version)
            if origin and target:
                yield f'{origin} {target} {_port(protocols, port)} accept comment "{why}"'


def _port(protocols: set[str], port: int) -> str:
    if len(protocols) == 1:
        return f"{min(protocols)} dport {port}"
    return f"meta l4proto {{ {', '.join(sorted(protocols))} }} th dport {port}"


def _end(family: str, side: str, end: Where, version: int) -> str | None:
    """A match on one end; None if it has no address of the family."""
    if end.networks:
        networks = _of(version, end.networks)
        return f"{family} {side} {_set(networks)}" if networks else None
    beyond = _of(version, end.beyond)
    if beyond:
        return f"{family} {side} != {_set(beyond)}"
    return f"meta nfproto {'ipv4' if version == 4 else 'ipv6'}"


def _of(version: int, networks: Iterable[IPNetwork]) -> tuple[IPNetwork, ...]:
    same = [network for network in networks if network.version == version]
    return tuple(collapse_addresses(same))  # type: ignore[type-var]  # one family each


def _set(networks: Iterable[IPNetwork]) -> str:
    return f"{{ {_listed(networks)} }}"


def _listed(networks: Iterable[IPNetwork]) -> str:
    return ", ".join(
        str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)
        for network in networks
    )


NOTHING_RUNS = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 (the places themselves)
"""Directories where everybody may write."""
UNUSED_MODULES = (
    "cramfs", "dccp", "firewire-core", "freevxfs", "hfs", "hfsplus", "jffs2", "rds", "sctp", "tipc", "udf", "usb-storage",
    # tables of iptables-legacy(8): nft(8) lists neither them nor their rules, which also stay when the program is gone
    *(f"{kind}_{name}" for kind in ("iptable", "ip6table") for name in ("filter", "mangle", "nat", "raw", "security")),
    "arptable_filter", "ebtable_broute", "ebtable_filter", "ebtable_nat",
)  # fmt: skip
"""Kernel modules that no role uses and that the kernel loads on demand."""
