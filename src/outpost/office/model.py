"""The office as data: what one ``office.toml`` declares, frozen; each value is derived once.

Pure: no file, network or pyinfra access. Its tables are in ``tables``, by subject. Derivations that belong to one role
are in its package below ``roles/``, the graph of connections in ``flows``, the rules that span several fields in ``checks``.
"""

from collections.abc import Iterator
from ipaddress import ip_interface
from typing import Annotated

from pydantic import AfterValidator, Field

from outpost.office.tables.operation import (
    Alarms,
    Archive,
    Attack,
    Backup,
    Closing,
    Encryption,
    Logs,
    Maintenance,
    Resolver,
    Ssh,
    Time,
    Verification,
    Webmail,
)
from outpost.office.tables.policy import Limits, Policy, Scanner
from outpost.office.tables.recipients import Alias, SharedMailbox, User
from outpost.office.tables.routes import Link, Peer, Smarthost
from outpost.office.tables.tls import Acme, Dns, Tls
from outpost.office.tables.topology import Disks, Host, Platform, RoleName, Zone, ZoneKind
from outpost.office.tables.values import Fqdn, HostLabel, IPAddress, IPInterface, Line, MailAddress, Part

SCHEMA = 1
"""The newest schema of the office file that this version knows (docs/stability.md says when it grows)."""


NEVER_PUBLIC = {"local", "localhost", "invalid", "onion", "arpa"}
"""Top-level domains in which no mail domain can be (RFC 2606, 3172, 6761, 6762, 7686)."""


def _public(domain: str) -> str:
    if (top := domain.rpartition(".")[2]) in NEVER_PUBLIC:
        raise ValueError(f"no mail domain: .{top} is reserved, and no server finds it")
    return domain


class Office(Part):
    """One project office: the content of ``inventory/<office>/office.toml``."""

    schema_version: int = Field(default=1, ge=1, le=SCHEMA, alias="schema", examples=[1])
    """Version of this file's schema."""
    name: HostLabel = Field(description="Short name of the office.", examples=["po"])
    organisation: Line = Field(min_length=1, examples=["Myertor project office"])
    """Shown to users (webmail, client set-up)."""
    domain: Annotated[Fqdn, AfterValidator(_public)] = Field(examples=["po.myertor.test"])
    """Its mail domain; the names of the hosts are below it."""
    platform: Platform = "machine"
    """Kind of the hosts. A container can neither set the clock nor load kernel modules."""
    postmaster: MailAddress = Field(examples=["maria@po.example.com"])
    """User who gets postmaster, abuse and the hosts' own mail (RFC 2142)."""
    zones: dict[str, Zone] = Field(description="Networks by trust.", min_length=1)
    hosts_by_name: dict[str, Host] = Field(alias="hosts", description="The machines.", min_length=1)
    disks: Disks | None = Field(default=None, description="Encrypted disks of a site's server.")
    users: tuple[User, ...] = Field(min_length=1, description="People with a mailbox.")
    aliases: tuple[Alias, ...] = Field(default=(), description="Addresses that stand for several mailboxes.")
    shared: tuple[SharedMailbox, ...] = Field(default=(), description="Mailboxes that several people read.")
    peers: tuple[Peer, ...] = ()
    """Mail systems with a route and listener of their own."""
    smarthost: Smarthost | None = Field(default=None, description="Relay for Internet mail.")
    link: Link = Field(default=Link(), description="The line to the Internet.")
    limits: Limits = Field(default=Limits(), description="Sizes and counts.")
    policy: Policy = Field(default=Policy(), description="Which mail is refused or tagged.")
    dns: Dns = Field(default=Dns(), description="The office's zones.")
    resolver: Resolver = Field(default=Resolver(), description="Name resolution on the hosts.")
    archive: Archive = Field(default=Archive(), description="Package sources.")
    time: Time = Field(default=Time(), description="Clock sources.")
    scanner: Scanner = Field(default=Scanner(), description="Content checks.")
    tls: Tls = Field(default=Tls(), description="Certificates.")
    acme: Acme = Field(default=Acme(), description="The authority that issues them.")
    ssh: Ssh = Field(default=Ssh(), description="Administrators' access.")
    webmail: Webmail = Field(default=Webmail(), description="Webmail.")
    logs: Logs = Field(default=Logs(), description="Where logs go.")
    maintenance: Maintenance = Field(default=Maintenance(), description="When hosts may be changed.")
    backup: Backup | None = None
    """Backups at head office; without this table there are none."""
    alarms: Alarms = Field(default=Alarms(), description="When hosts send alarms, and to which paths.")
    closing: Closing = Field(default=Closing(), description="The end of the office.")
    attack: Attack = Field(default=Attack(), description="Consent to attacks.")
    verification: Verification = Verification()
    """Settings of the live checks."""
    secrets: Encryption = Field(default=Encryption(), description="Readers of secrets.age.")

    @property
    def hosts(self) -> tuple[Host, ...]:
        """Every host, in the order of the file."""
        return tuple(self.hosts_by_name.values())

    def host(self, name: str) -> Host:
        return self.hosts_by_name[name]

    def with_role(self, role: RoleName) -> tuple[Host, ...]:
        """Hosts of one role, in the order of the file; the first is the primary where that matters (DNS)."""
        return tuple(host for host in self.hosts if host.role == role)

    @property
    def mail_servers(self) -> tuple[Host, ...]:
        """MTAs that get mail, the first one first; an MTA that retires only delivers what it has."""
        return tuple(host for host in self.with_role("mta") if not host.retiring)

    def zones_of_kind(self, kind: ZoneKind) -> tuple[Zone, ...]:
        """Zones of one kind, in the order of the file."""
        return tuple(zone for zone in self.zones.values() if zone.kind == kind)

    def link_addresses(self, host: Host, other: Host) -> tuple[IPAddress, ...]:
        """Addresses at which `other` reaches `host`: in a shared zone, servers' zones first; without one all of them."""
        order: tuple[ZoneKind, ...] = ("servers", "management", "users", "partner", "internet")
        shared = [zone for zone in host.addresses if zone in other.addresses and zone in self.zones]
        nearest = min(shared, key=lambda zone: order.index(self.zones[zone].kind), default=None)
        return host.in_zone(nearest) if nearest else host.all_addresses

    def platform_of(self, host: Host) -> Platform:
        """The kind of a host: its own setting, else the office's."""
        return host.platform or self.platform

    def interfaces(self, host: Host, zone: str) -> tuple[IPInterface, ...]:
        """Addresses of a host in a zone, each with the length of the zone's network it lies in."""
        return tuple(
            ip_interface(f"{address}/{network.prefixlen}")
            for address in host.in_zone(zone)
            for network in self.zones[zone].networks
            if address in network
        )

    def addresses_of_kind(self, host: Host, kind: ZoneKind) -> tuple[IPAddress, ...]:
        """Addresses of a host in zones of one kind."""
        return tuple(address for zone in self.zones_of_kind(kind) for address in host.in_zone(zone.name))

    @property
    def core(self) -> Zone:
        return self.zones_of_kind("servers")[0]

    @property
    def mailboxes(self) -> tuple[str, ...]:
        """Every address with a mailbox: the users', then the shared ones."""
        return (*(user.address for user in self.users), *(mailbox.address for mailbox in self.shared))

    @property
    def canary(self) -> str:
        """The mailbox that a verification uses."""
        return self.verification.canary or self.postmaster

    def quota(self, owner: User | SharedMailbox) -> int:
        """The size of a mailbox in bytes."""
        return int(owner.quota if owner.quota is not None else self.limits.mailbox_quota)

    @property
    def senders(self) -> dict[str, tuple[str, ...]]:
        """Address → the logins that may send from it (SPO-02): its own, its members, and users with it in `send_as`."""
        allowed: dict[str, tuple[str, ...]] = {user.address: (user.address,) for user in self.users}
        allowed |= {mailbox.address: mailbox.members for mailbox in self.shared}
        for address, mailboxes in self.expanded.items():
            reached = dict.fromkeys(login for mailbox in mailboxes for login in allowed.get(mailbox, ()))
            allowed[address] = tuple(reached)
        for user in self.users:
            for address in user.send_as:
                allowed[address] = tuple(dict.fromkeys((*allowed.get(address, ()), user.address)))
        return {address: logins for address, logins in allowed.items() if logins}

    @property
    def all_aliases(self) -> tuple[Alias, ...]:
        """Declared aliases, and RFC 2142's role names, which lead to the postmaster if the file does not declare them."""
        taken = {alias.address for alias in self.aliases} | set(self.mailboxes)
        roles = (f"{name}@{self.domain}" for name in ROLE_ADDRESSES)
        missing = (address for address in roles if address not in taken)
        return self.aliases + tuple(Alias(address=each, members=(self.postmaster,)) for each in missing)

    @property
    def same_signature(self) -> int:
        """How often strangers may bring one signed message: a list may write to every user separately, and once more."""
        return self.limits.same_signature or max(100, 2 * len(self.users))

    @property
    def alias_members(self) -> int:
        """Mailboxes that one recipient may stand for: a group may have all of them. In steps, as in main.cf."""
        return self.limits.alias_members or max(200, -(-len(self.mailboxes) // 50) * 50)

    @property
    def backup_relays(self) -> tuple[IPAddress, ...]:
        """Addresses from which strangers' mail comes by way of a backup MX."""
        return tuple(address for peer in self.peers if peer.backup_mx for address in peer.relays)

    @property
    def expanded(self) -> dict[str, tuple[str, ...]]:
        """Every alias with the mailboxes that it stands for."""
        return dict(self._expand(*(alias.address for alias in self.all_aliases)))

    def expand(self, address: str) -> tuple[str, ...]:
        """The mailboxes that an alias or user address stands for, without duplicates, in declaration order."""
        ((_, found),) = self._expand(address)
        return found

    def _expand(self, *addresses: str) -> Iterator[tuple[str, tuple[str, ...]]]:
        members = {alias.address: alias.members for alias in self.all_aliases}
        members |= {address: () for address in self.mailboxes if address not in members}
        mailboxes = frozenset(self.mailboxes)
        for address in addresses:
            reached = {address: None}
            pending = [address]
            while pending:
                new = dict.fromkeys(each for each in members[pending.pop(0)] if each not in reached)
                reached |= new
                pending += new
            yield address, tuple(each for each in reached if each in mailboxes)

    def to_json(self) -> str:
        """The value for pyinfra's ``debug-inventory`` and ``--json``: the name, not the whole file."""
        return f"<office {self.domain}>"


ROLE_ADDRESSES = (
    "postmaster", "abuse", "hostmaster", "webmaster", "security", "root", "tls-reports", "dmarc-reports",
)  # fmt: skip
"""Local parts that always lead to somebody (RFC 2142; DMARC and TLS reports; the hosts' own mail)."""
