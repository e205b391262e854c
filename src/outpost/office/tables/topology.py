"""Networks by trust, and the machines that stand in them (`[zones]`, `[hosts]`)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from outpost.office.tables.values import Address, HostLabel, IPAddress, Mac, Network, Part, Size, like
from outpost.target import ROOT

ROLE_NAMES = tuple(sorted({file.parent.name for file in (ROOT / "roles").glob("*/declare.py")} - {"base"}))
"""The names of the packages below `roles/`, from the directory: the model imports none of them (docs/adr/0033)."""
if TYPE_CHECKING:
    RoleName = str
else:
    RoleName = Literal[ROLE_NAMES]
Platform = Literal["machine", "vagrant", "docker"]
ZoneKind = Literal["internet", "partner", "servers", "users", "management"]
CertificateMode = Literal["acme", "office", "provided"]


def _host_path(value: str) -> str:
    root, *parts = value.removesuffix("/").split("/")
    odd = {"", ".", ".."} & {*parts} or re.search(r"[\s*?'\"\\]", value)
    if root or len(parts) < 2 or odd:
        raise ValueError("not the full path of a file; a directory ends in a slash")
    return value


def _one_role(value: object) -> object:
    several = re.split(r"[,+/ ]+", value) if isinstance(value, str) else value
    if isinstance(several, list | tuple) and len(several) > 1:
        raise ValueError("two roles on one host: a break-in into one must not reach the other")
    return value


FOUND = re.compile(
    r"(account|conffile|database|environment of daemons|file|group|kernel setting|listener|mode|mount|"
    r"network (address|link|namespace|neighbour|policy|route|rule)"
    r"|package|packet filter (rules of )?table|running|traffic control|unit) [\w/.:@,+=~\[\]\\ -]+"
)
"""A plan's name for a thing on a host (`outpost.onhost.observe.facts.words`)."""


Accepted = Annotated[
    str, like(FOUND.pattern, "not kind and name of one thing as a plan prints them: file /etc/cron.d/vendor")
]
HostPath = Annotated[str, AfterValidator(_host_path)]
_PORT = r"([1-9]\d{0,3}|[1-5]\d{4}|6([0-4]\d{3}|5([0-4]\d\d|5([0-2]\d|3[0-5]))))"
LOGIN = rf"^(([a-z_][a-z0-9_-]{{0,31}}@)?([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]|[0-9A-Fa-f:]+)(:{_PORT})?)?$"
"""`user@address:port`; user and port may be missing."""


def parted(login: str) -> tuple[str, str, int]:
    """User (may be empty), address and port of `user@address:port`."""
    user, _, rest = login.rpartition("@")
    found = re.fullmatch(r"(\[[^\]]+\]|[^:]*)(?::(\d{1,5}))?", rest)
    return (user, found[1].strip("[]"), int(found[2] or 22)) if found else (user, rest, 22)


class Zone(Part):
    """A network with one level of trust (`[zones.NAME]`)."""

    name: HostLabel = Field(description="Set from the table's name.", exclude=True, examples=["lan"])
    kind: ZoneKind = Field(examples=["servers"])
    """How much its machines are trusted: the Internet is hostile, a partner is untrusted, servers talk only along
    declared flows, users reach the store and webmail, management reaches SSH."""
    networks: tuple[Network, ...] = Field(min_length=1, examples=[["192.0.2.0/28", "2001:db8:0:1::/64"]])
    """Its networks, IPv4 and IPv6. For the Internet's zone: the network on the office's own outer side."""
    gateways: tuple[Address, ...] = Field(default=(), examples=[["192.0.2.1", "2001:db8:0:1::1"]])
    """Its routers, at most one of each IP version. `outpost machines` gives new machines their default routes by
    it; a host that is set up keeps the routes that it has."""
    port: str = Field(
        default="",
        pattern=r"^([A-Za-z][A-Za-z0-9_-]{0,14}(\.([1-9]\d{0,2}|[1-3]\d{3}|40[0-8]\d|409[0-4]))?)?$",
        examples=["eno1.20"],
    )
    """For `outpost machines up`: the network interface of the server that carries this zone, `eno2`, or a VLAN on it,
    `eno1.20`. Empty: the zone stays within the server."""

    @property
    def families(self) -> frozenset[int]:
        """IP versions (4, 6) that the zone carries."""
        return frozenset(network.version for network in self.networks)


class Host(Part):
    """A machine with exactly one role (`[hosts.NAME]`)."""

    judged_elsewhere = frozenset({"domain"})
    name: HostLabel = Field(description="Set from the table's name.", exclude=True, examples=["mta1"])
    domain: str = Field(description="Set from the office's domain.", exclude=True)
    role: Annotated[RoleName, BeforeValidator(_one_role)] = Field(examples=["mta"])
    """The task of the host: exactly one, so that a break-in or a breakdown stays on one host."""
    addresses: dict[str, tuple[Address, ...]] = Field(examples=[{"core": ["192.0.2.21", "2001:db8:0:2::21"]}])
    """One IPv4 and one IPv6 address for each zone (as far as the zone has both)."""
    macs: dict[str, Mac] = Field(default={}, examples=[{"core": "52:54:00:12:34:56"}])
    """Hardware address of its card in a zone, for `outpost machines seed`. Left out: one is made from the names, and
    you give it to the virtual card."""
    memory: Size | None = Field(default=None, ge=256 * 1024**2, examples=["2GiB"])
    """For `outpost machines up`: memory of the virtual machine, if it differs from what the role needs for this number of users."""
    disk: Size | None = Field(default=None, ge=2 * 1024**3, examples=["200GiB"])
    """For `outpost machines up`: size of its disk, if it differs from what role and quotas need. A disk can only grow."""
    server: str = Field(default="", max_length=300, pattern=LOGIN, examples=["root@192.0.2.5"])
    """For `outpost machines up`: the server that runs it, as `--on` names it. Empty: every server that `--on` names. With it
    you place some of the hosts on a second server."""
    platform: Platform | None = None
    """Kind of this machine, where it differs from the office's `platform`."""
    ssh: str = Field(default="", max_length=300, pattern=LOGIN, examples=["root@192.0.2.21:22"])
    """How the controller connects to it, `user@address:port` (a port that is forwarded to 22: sshd itself listens
    there). Empty: the management address, as `ssh.user`."""
    retiring: bool = False
    """For one of two MTAs: it gets no new mail (no MX, no peer's next hop, no users' mail) and delivers what it has.
    Remove the host from the file when `./outpost queue` shows none of its mail."""
    certificates: CertificateMode | None = Field(default=None, examples=["office"])
    """Source of its public certificate, where it differs from `tls.certificates`."""
    local: tuple[HostPath, ...] = Field(
        default=(),
        examples=[["/etc/nginx/conf.d/headers.conf", "/etc/systemd/system/knot.service.d/local.conf"]],
    )
    """Files that you write on this host by hand: no apply changes them and no plan reports them. A path that ends in
    a slash means everything below it. systemd, sshd, sysctl and Rspamd read such files in their own directories,
    nginx in `/etc/nginx/conf.d`. Unbound, chrony, Dovecot and Knot read those that are named here by full path and
    end in `.conf`. Postfix cannot read any: what it lacks belongs into this file."""

    accepted: tuple[Accepted, ...] = Field(
        default=(), examples=[["account vendor", "file /etc/cron.d/vendor"]]
    )
    """Things on this host that neither Debian, a package nor this file explains, and that you accept. Write them as a
    plan prints them, without the cause. A later change of one is drift again."""
    refused: tuple[Accepted, ...] = Field(default=(), examples=[["account ghost"]])
    """Things that this host had before its first apply and that must be removed. Write them as a plan prints them."""

    def keeps(self, path: str) -> bool:
        """Whether a file belongs to the host."""
        return any(path == own or (own.endswith("/") and path.startswith(own)) for own in self.local)

    def local_conf(self, directory: str) -> tuple[str, ...]:
        """The host's local files below a daemon's directory, for that daemon to read."""
        return tuple(path for path in self.local if path.startswith(directory) and path.endswith(".conf"))

    @property
    def fqdn(self) -> str:
        """The host's name in the DNS; also its EHLO and certificate name."""
        return f"{self.name}.{self.domain}"

    def in_zone(self, zone: str) -> tuple[IPAddress, ...]:
        """Addresses in one zone, IPv4 first; empty if the host has none."""
        return tuple(sorted(self.addresses.get(zone, ()), key=lambda address: address.version))

    @property
    def all_addresses(self) -> tuple[IPAddress, ...]:
        """Every address of the host, zone after zone in the order of the file."""
        return tuple(address for zone in self.addresses for address in self.in_zone(zone))


class Tang(Part):
    """A tang server at head office (`[[disks.tang]]`): without it nobody opens the encrypted disks of a stolen server."""

    url: str = Field(
        max_length=300,
        pattern=r"^https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?(/[A-Za-z0-9._~%/+-]*)?$",
        examples=["http://198.51.100.9:8080"],
    )
    """Where the site's server reaches it. The protocol needs no TLS."""
    thumbprint: str = Field(
        pattern=r"^[A-Za-z0-9_-]{43}$", examples=["ZeNZoza5LgU5rYD_dfnf5V_pKlONlUY3-Y84Qi9auMI"]
    )
    """Of its signing key, as `tang-show-keys 8080` prints it there."""


# STO-01: whether mail at rest is encrypted is chosen here
class Disks(Part):
    """Encrypted disks of the guests of `outpost machines up` (`[disks]`); without this table none is encrypted."""

    encrypted: tuple[HostLabel, ...] = Field(min_length=1, max_length=100, examples=[["mta1", "store1"]])
    """Hosts whose disks are encrypted. The others start with the server, whether head office is reached or not."""
    tang: tuple[Tang, ...] = Field(default=(), max_length=8)
    """Servers of which one opens the disks when the site's server starts. While none answers, the encrypted guests stay
    off, and the server tries again every 30 seconds. Empty, and without `tpm`: they stay off until somebody runs
    `outpost machines up`, which sends the passphrase."""
    tpm: bool = False
    """The server's TPM 2.0 opens the disks, too, without head office. It protects disks without their server: stolen alone,
    returned, or thrown away. A thief of the whole server can read them."""
