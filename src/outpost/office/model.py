"""The office as data: what one ``office.toml`` declares, frozen, with nothing derived twice.

Pure: no file, network or pyinfra access. Derivations that belong to one role live beside this module
(``dns``, ``mta``, ``store``, ``webmail``, ``base``), the graph of connections in ``flows``, the rules that
span several fields in ``checks``. Field descriptions and examples feed ``docs/reference/office.md``.
"""

from __future__ import annotations

import re
from datetime import date
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ByteSize, ConfigDict, Field

from outpost.office import ports
from outpost.office.tls import INTERMEDIATE, LEVELS, TlsLevel, TlsProfile

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network
IPInterface = IPv4Interface | IPv6Interface
Role = Literal["dns", "mta", "store", "webmail"]
ROLES: tuple[Role, ...] = ("dns", "mta", "store", "webmail")
Platform = Literal["machine", "vagrant", "docker"]
ZoneKind = Literal["internet", "partner", "servers", "users", "management"]
CertificateMode = Literal["acme", "office", "provided"]

_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
_LOCAL_PART = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")


def _fqdn(value: str) -> str:
    labels = value.split(".")
    if len(value) > 253 or len(labels) < 2 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError("not a fully qualified domain name in lower-case A-labels (RFC 1123, section 2.1)")
    if labels[-1].isdigit():
        raise ValueError("not a fully qualified domain name: it ends in a number, like an address")
    return value


def _label(value: str) -> str:
    if not _LABEL.fullmatch(value):
        raise ValueError(
            "not a host label: lower-case letters, digits and inner hyphens, 63 at most (RFC 1123)"
        )
    return value


def _mail_address(value: str) -> str:
    local, _, domain = value.rpartition("@")
    if not _LOCAL_PART.fullmatch(local) or ".." in local:
        raise ValueError(
            "not a mailbox address: its local part must be a lower-case dot-atom (RFC 5321, section 4.1.2)"
        )
    _fqdn(domain)
    return value


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return value


def _host_path(value: str) -> str:
    parts = value.removesuffix("/").split("/")
    if (
        parts[0]
        or len(parts) < 3
        or any(part in ("", ".", "..") for part in parts[1:])
        or re.search(r"[\s*?'\"\\]", value)
    ):
        raise ValueError("not the full path of a file; a directory ends in a slash")
    return value


def _proxy(value: str) -> str:
    if value and not re.fullmatch(r"http://[A-Za-z0-9.:\[\]-]+(:\d{1,5})?/?", value):
        raise ValueError("not the address of an HTTP proxy, http://HOST:PORT")
    return value


def _to_address(value: object) -> object:
    try:
        return ip_address(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError("not an IP address") from None


def _to_network(value: object) -> object:
    try:
        return ip_network(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError("not an IP network; the bits behind its prefix must be zero") from None


def _one_role(value: object) -> object:
    several = (
        value
        if isinstance(value, list | tuple)
        else re.split(r"[,+/ ]+", value)
        if isinstance(value, str)
        else []
    )
    if len(several) > 1:
        raise ValueError("two roles on one host; a role that is broken into must not hand over another")
    return value


REFUSED_ATTACHMENTS = tuple(
    (  # noqa: SIM905 (readable as lines, not as a column)
        "7z accda accde ace action ade adp ahk alz apk app appcontent-ms appimage appinstaller application appref-ms "
        "appx appxbundle arc arj asp aspx asx au3 b64 bas bat bgi bhx bz2 cab cdxml chm class cmd cnt com command cpio "
        "cpl csh deb desktop diagcab diagcfg diagpkg dll dmg docm dotm egg elf exe fileloc fxp gadget grp hlp hpj hqx "
        "hta htc img inetloc inf ins iqy iso isp its jar jnlp js jse ksh lha library-ms lnk lz lzh lzma mcf mda mdb mde "
        "mdt mdw mdz mim mof mpkg msc msh msh1 msh1xml msh2 msh2xml mshxml msi msix msixbundle msp mst msu nsh ocx one "
        "onepkg ops osd pcd pif pkg pl plg potm ppa ppam ppkg ppsm pptm prf printerexport ps1 ps1xml ps2 ps2xml psc1 "
        "psc2 psd1 psdm1 psm1 pst py pyc pyo pyw pyz pyzw qcow2 r00 r01 rar rdp reg rev rpm scf scpt scr sct search-ms "
        "searchconnector-ms settingcontent-ms sh shar shb shs sit sitx sldm slk swf sys tbz tbz2 terminal theme "
        "themepack udf udl url uue vb vbe vbp vbs vdi vhd vhdx vmdk vsmacros vsto vstx vsw vxd wbt webloc webpnp website "
        "wim wll wms wmz ws wsb wsc wsf wsh xar xbap xla xlam xll xlsm xltm xlw xnk xxe z zoo zst"
    ).split()
)
"""Windows runs, mounts or installs these at a double click (Outlook blocks most of them), or no scanner here opens them."""

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _to_seconds(value: object) -> object:
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"(\d+)([smhd])", value)
    if not match:
        raise ValueError("not a duration: a number with s, m, h or d, like 90s or 30d")
    return int(match[1]) * _UNITS[match[2]]


Fqdn = Annotated[str, AfterValidator(_fqdn)]
HostLabel = Annotated[str, AfterValidator(_label)]
MailAddress = Annotated[str, AfterValidator(_mail_address)]
HostPath = Annotated[str, AfterValidator(_host_path)]
Proxy = Annotated[str, AfterValidator(_proxy)]
Address = Annotated[IPAddress, BeforeValidator(_to_address)]
Network = Annotated[IPNetwork, BeforeValidator(_to_network)]
FilePort = Annotated[int, Field(ge=1, le=65535)]
Duration = Annotated[int, BeforeValidator(_to_seconds), Field(ge=1)]
"""Seconds; the file may say `90s`, `15m`, `6h` or `30d`."""


class Part(BaseModel):
    """Base of every table in the office file: frozen, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Zone(Part):
    """A network with one level of trust (`[zones.NAME]`)."""

    name: str = Field(description="Set from the table's name.", exclude=True)
    kind: ZoneKind = Field(
        description="How much its machines are trusted: the Internet is hostile, a partner is untrusted, "
        "servers talk only along declared flows, users reach the store and webmail, management reaches SSH.",
        examples=["servers"],
    )
    networks: tuple[Network, ...] = Field(
        min_length=1,
        description="Its networks, IPv4 and IPv6. For the Internet's zone: the network on the office's own outer side.",
        examples=[["192.0.2.0/28", "2001:db8:0:1::/64"]],
    )

    @property
    def families(self) -> frozenset[int]:
        """IP versions (4, 6) that the zone carries."""
        return frozenset(network.version for network in self.networks)


class Host(Part):
    """A machine with exactly one role (`[hosts.NAME]`)."""

    name: HostLabel = Field(description="Set from the table's name.", exclude=True, examples=["mta1"])
    domain: str = Field(description="Set from the office's domain.", exclude=True)
    role: Annotated[Role, BeforeValidator(_one_role)] = Field(
        description="What the machine does; never more than one role, so that one break-in or breakdown stays one.",
        examples=["mta"],
    )
    addresses: dict[str, tuple[Address, ...]] = Field(
        description="Per zone one IPv4 and one IPv6 address (as far as the zone carries both).",
        examples=[{"core": ["192.0.2.21", "2001:db8:0:2::21"]}],
    )
    platform: Platform | None = Field(
        default=None, description="What this machine is, where it is not what the office's `platform` says."
    )
    ssh: str = Field(
        default="",
        description="How the controller reaches it, `user@address:port` (a port that is forwarded to 22: sshd itself listens "
        "there); empty means the management address, as `ssh.user`.",
        examples=["root@192.0.2.21:22"],
    )
    retiring: bool = Field(
        default=False,
        description="For an MTA beside another: it is given no new mail (no MX, no peer's next hop, none of the users') and "
        "delivers what it has. Take it out of the file when `outpost queue` shows nothing of it.",
    )
    certificates: CertificateMode | None = Field(
        default=None,
        description="Where its public certificate comes from, if not from where `tls.certificates` says.",
        examples=["office"],
    )
    local: tuple[HostPath, ...] = Field(
        default=(),
        description="Files of this host's own, written there by hand: no apply touches them, no plan reports them. A path that "
        "ends in a slash is everything below it. systemd, sshd, sysctl and Rspamd read such files in their own directories; "
        "nginx in `/etc/nginx/conf.d`; Unbound, chrony, Dovecot and Knot read those that are named here by full path and end in `.conf`. "
        "Postfix has no such place: what it lacks belongs into this file.",
        examples=[["/etc/nginx/conf.d/headers.conf", "/etc/systemd/system/knot.service.d/local.conf"]],
    )

    def keeps(self, path: str) -> bool:
        """Whether a file is one of the host's own."""
        return any(path == own or (own.endswith("/") and path.startswith(own)) for own in self.local)

    def local_conf(self, directory: str) -> tuple[str, ...]:
        """The host's own configuration files below a daemon's directory, for that daemon to read."""
        return tuple(path for path in self.local if path.startswith(directory) and path.endswith(".conf"))

    @property
    def fqdn(self) -> str:
        """The host's name in the DNS; also its EHLO and certificate name."""
        return f"{self.name}.{self.domain}"

    def in_zone(self, zone: str) -> tuple[IPAddress, ...]:
        """Addresses in one zone, IPv4 first; empty where the host has none."""
        return tuple(sorted(self.addresses.get(zone, ()), key=lambda address: address.version))

    @property
    def all_addresses(self) -> tuple[IPAddress, ...]:
        """Every address of the host, zone after zone in the order of the file."""
        return tuple(address for zone in self.addresses for address in self.in_zone(zone))


class User(Part):
    """A person with a mailbox (`[[users]]`)."""

    address: MailAddress = Field(
        description="The mailbox, in the office's domain.", examples=["alice@po.example.com"]
    )
    full_name: str = Field(
        default="", description="Shown in webmail and address books.", examples=["Alice Archer"]
    )
    quota: ByteSize | None = Field(
        default=None,
        description="Mailbox size; `limits.mailbox_quota` where it is not given.",
        examples=["2GiB"],
    )
    disabled: bool = Field(
        default=False,
        description="Whether the account is shut: no login on any path, open sessions end, filters redirect nothing; mail "
        "is still delivered and kept.",
    )
    forward: tuple[MailAddress, ...] = Field(
        default=(),
        description="Addresses outside that get a copy of everything delivered; the mailbox keeps its own. Copies leave "
        "under this user's address and with an ARC seal, and count as the redirects of a filter do.",
        examples=[["alice@example.net"]],
    )
    send_as: tuple[MailAddress, ...] = Field(
        default=(),
        description="Further addresses of the office that this user may send from, besides aliases and shared mailboxes "
        "they belong to.",
        examples=[["site@po.example.com"]],
    )

    @property
    def name(self) -> str:
        """The local part."""
        return self.address.partition("@")[0]


class Alias(Part):
    """An address that stands for several mailboxes (`[[aliases]]`)."""

    address: MailAddress = Field(
        description="The alias, in the office's domain.", examples=["site@po.example.com"]
    )
    members: tuple[MailAddress, ...] = Field(
        min_length=1,
        description="Users or other aliases of this office.",
        examples=[["alice@po.example.com", "bob@po.example.com"]],
    )
    inside_only: bool = Field(
        default=False,
        description="Whether only the office's own users may write to it (`550 5.7.1` to everybody else).",
    )


class SharedMailbox(Part):
    """A mailbox that several people read and nobody logs in to (`[[shared]]`)."""

    address: MailAddress = Field(
        description="The mailbox, in the office's domain.", examples=["tenders@po.example.com"]
    )
    members: tuple[MailAddress, ...] = Field(
        default=(),
        description="Users who read, file, delete and send from it. They find it below `Shared/` among their folders.",
        examples=[["alice@po.example.com", "bob@po.example.com"]],
    )
    readers: tuple[MailAddress, ...] = Field(default=(), description="Users who read it, and nothing else.")
    quota: ByteSize | None = Field(
        default=None, description="Its size; `limits.mailbox_quota` where it is not given.", examples=["2GiB"]
    )

    @property
    def folder(self) -> str:
        """Its name below ``Shared/``; a dot would be a folder within a folder."""
        return self.address.partition("@")[0].replace(".", "-")


class Peer(Part):
    """Another mail system with a route and listener of its own (`[[peers]]`): head office, the client."""

    name: HostLabel = Field(
        description="Short name, used for the route, its listener and its reports.", examples=["headoffice"]
    )
    domains: tuple[Fqdn, ...] = Field(
        min_length=1, description="Recipient domains routed to it.", examples=[["example.com"]]
    )
    zone: str = Field(description="The zone it is reached in.", examples=["wan"])
    relays: tuple[Address, ...] = Field(
        min_length=1,
        description="Addresses its mail comes from; only they reach its listener.",
        examples=[["198.51.100.25"]],
    )
    next_hop: Fqdn = Field(description="Host name its mail is sent to.", examples=["mx.example.com"])
    port: FilePort = Field(default=25, description="Port at the next hop.")
    listen: FilePort = Field(
        default=2525,
        description="Port of the listener kept for it on the MTA: a flood on port 25 must not reach it. "
        "25 only where its zone is not the Internet's.",
    )
    tls: Literal["verify", "dane", "fingerprint"] = Field(
        description="How the next hop proves itself: `verify` (certificate with its name from a trusted authority), "
        "`dane` (TLSA records, RFC 7672) or `fingerprint` (a key agreed on beforehand, `fingerprints`). There is no "
        "opportunistic choice: mail waits rather than travel in clear.",
        examples=["verify"],
    )
    fingerprints: tuple[Annotated[str, Field(pattern=r"^[0-9A-F]{2}(:[0-9A-F]{2}){31}$")], ...] = Field(
        default=(),
        description='With `tls = "fingerprint"`: SHA-256 of the next hop\'s public key (DER), upper-case pairs with colons; '
        "two while it changes its key.",
        examples=[
            [
                "3A:5F:0C:19:6E:2B:84:D7:90:11:C3:AE:52:F8:67:4D:BB:08:E1:36:7C:9A:25:D0:4F:83:16:EA:5B:70:C2:9D",
            ]
        ],
    )
    backup_mx: bool = Field(
        default=False,
        description="Whether its next hop is also this office's MX of last resort (MX 20). It must know the office's recipients: "
        "`outpost peer OFFICE NAME` prints them with the rest of its side.",
    )
    lifetime: Duration | None = Field(
        default=None,
        description="How long mail waits for it before it returns to its sender; at most `link.queue_lifetime`, which it is by "
        "default. For a route whose mail is worthless late.",
        examples=["2d"],
    )
    concurrency: int = Field(
        default=4,
        ge=1,
        le=10,
        description="Messages on their way to it at the same time. One for a satellite or a modem: four that share a thin "
        "line all end late, and all of them begin again when it breaks.",
    )
    retry: Duration = Field(
        default=60,
        description="How often the next hop is looked at while mail waits for it. It costs one connection, no message; as soon as "
        "it answers, all that waits goes at once, whatever each message's own back-off is.",
        examples=["5m"],
    )
    large: ByteSize | None = Field(
        default=None,
        description="Users' mail from this size on, and to this peer alone, waits for `large_hours`. The queue says so, and "
        "`outpost queue --release` lets it go at once.",
        examples=["5MiB"],
    )
    large_hours: Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$")] = Field(
        default="19:00-06:00",
        description="Hours (UTC) in which large mail crosses the line.",
        examples=["19:00-06:00"],
    )


class Smarthost(Part):
    """A relay that carries all Internet mail (`[smarthost]`); without it the MTA delivers by MX itself."""

    host: Fqdn = Field(description="Its host name.", examples=["relay.provider.example"])
    port: FilePort = Field(default=25, description="Its port; 465 means TLS from the first byte.")
    user: str = Field(
        default="",
        pattern=r"^[^\s:]*$",
        description="The login that it wants of the office (RFC 4954), if it does not go by address; the password is a "
        "secret: `outpost secrets smarthost OFFICE`. It is said to a relay that has proven its name, and to no other.",
        examples=["site@provider.example"],
    )


class Link(Part):
    """The office's line to the Internet (`[link]`)."""

    rate_kbit: int = Field(
        default=1544, ge=64, description="Rate in kbit/s; the case study's T1 carries 1544."
    )
    shaped_percent: int = Field(
        default=90,
        ge=0,
        le=100,
        description="How much of it the MTA's mail may fill outwards; 0: no shaping. Below 100 the queue forms on the MTA, "
        "where names and peers go first, and not in the provider's modem: 1389 of 1544 kbit/s leave the others 155.",
    )
    queue_lifetime: Duration = Field(
        default=5 * 86400,
        description="How long mail waits in the queue before it returns to its sender (RFC 5321, section 4.5.4.1: four to five "
        "days at least).",
        examples=["5d"],
    )
    delay_warning: Duration = Field(
        default=4 * 3600,
        description="After this time a sender is told that a message still waits (RFC 3464, `Action: delayed`), once.",
        examples=["4h"],
    )
    retry_soonest: Duration = Field(
        default=30, description="First wait after an attempt that failed; each later one is twice as long."
    )
    retry_latest: Duration = Field(
        default=1800,
        description="Longest wait between two attempts. A peer that answers again is noticed sooner (`retry` of the peer), and "
        "with one of the Internet's zone all that waits for the Internet.",
        examples=["30m"],
    )


class Limits(Part):
    """Sizes and counts (`[limits]`), each with its arithmetic."""

    message_size: ByteSize = Field(
        default=ByteSize(25 * 1024**2),
        description="Largest message, encoded (base64 adds a third: 25 MiB carry 18 MiB of files). One such message "
        "to 50 recipients at one destination takes 2 min 16 s of a 1544 kbit/s line; as 50 copies it would take nearly two hours.",
        examples=["25MiB"],
    )
    scan_size: ByteSize = Field(
        default=ByteSize(64 * 1024**2),
        description="Largest message the filters read whole; must not be below `message_size`, or large mail passes unscanned.",
        examples=["64MiB"],
    )
    queue_volume: ByteSize = Field(
        default=ByteSize(4 * 1024**3),
        description="Room of the mail queue; must hold at least 20 of the largest messages.",
        examples=["4GiB"],
    )
    mailbox_quota: ByteSize = Field(
        default=ByteSize(2 * 1024**3), description="Default size of a mailbox.", examples=["2GiB"]
    )
    recipients_per_message: int = Field(
        default=50,
        ge=1,
        le=1000,
        description="Recipients a user may name in one message (strangers: RFC 5321's 100 at least).",
    )
    connections_per_client: int = Field(
        default=20, ge=1, description="Simultaneous SMTP sessions from one address on port 25."
    )
    connections_per_minute: int = Field(
        default=60, ge=1, description="New SMTP sessions a minute from one address on port 25."
    )
    imap_connections_per_user: int = Field(
        default=20, ge=4, description="Simultaneous IMAP sessions of one user from one address."
    )
    messages_per_minute: int = Field(
        default=120,
        ge=1,
        description="Messages a minute from one address on port 25 (`450 4.7.1`). 120 of 75 KiB fill a 1544 kbit/s line "
        "for 48 s of that minute, so one sender alone cannot keep it full.",
    )
    client_recipients_per_minute: int = Field(
        default=600,
        ge=100,
        description="Recipients a minute from one address on port 25; a stranger may name 100 in one message "
        "(RFC 5321, section 4.5.3.1.8).",
    )
    mailbox_messages: int = Field(
        default=100,
        ge=10,
        description="Messages from strangers that one mailbox takes in ten minutes (`450 4.7.1`, so that honest mail comes "
        "again), half of them from one network (/24, /64). 100 messages of 288 KiB are 28 MiB: a mail bomb holds a quarter of a 1544 kbit/s line, not all of it.",
    )
    user_recipients: int = Field(
        default=300,
        ge=10,
        description="Recipients one user may send to in an hour; then the account is held and the postmaster told. "
        "300 recipients of 100 KiB take 2 min 39 s of a 1544 kbit/s line; a stolen password sends no more spam than that.",
    )
    user_hold: Duration = Field(
        default=3600,
        description="How long an account that went over `user_recipients` stays held (`450 4.7.1`).",
        examples=["1h"],
    )
    message_budget: ByteSize = Field(
        default=ByteSize(256 * 1024**2),
        description="Size of one message of a user times the destinations it crosses the line to (`552 5.3.4`). "
        "256 MiB take 23 minutes of 1544 kbit/s; 25 MiB to 50 domains would take nearly two hours.",
        examples=["256MiB"],
    )
    same_signature: int = Field(
        default=100,
        ge=10,
        description="How often in an hour strangers may bring the very same signed message (DKIM replay). A list that "
        "writes to each member separately brings it once for each: keep it above the number of users.",
    )
    mime_depth: int = Field(
        default=20, ge=5, description="Parts within parts of one message; a forward of a forward has four."
    )
    header_bytes: ByteSize = Field(
        default=ByteSize(64 * 1024),
        description="Header of one message; the largest honest ones (long lists of recipients, many hops) have about 30 KiB.",
        examples=["64KiB"],
    )
    redirects: int = Field(
        default=4, ge=0, description="Addresses that one user's filters may send a copy of a message to."
    )
    alias_members: int = Field(
        default=200,
        ge=1,
        description="Mailboxes that one recipient may stand for, through aliases of aliases. The copies stay inside; "
        "200 of the largest messages are 5 GiB of the store's disk.",
    )
    login_failures: int = Field(
        default=10,
        ge=3,
        description="Different wrong passwords for one account in `login_ban`, from wherever they come, before it answers no "
        "more to that place. The same wrong password again (a telephone that kept an old one) counts once. "
        "10 in 15 minutes are 960 a day: a password that the rules accept lasts for centuries.",
    )
    login_ban: Duration = Field(
        default=900,
        description="How long an account answers nothing to a place it was attacked from. Its owner's usual places "
        "go on working, and so do colleagues behind the same address.",
        examples=["15m"],
    )


Verdict = Literal["refuse", "tag", "accept"]


class Policy(Part):
    """What mail may look like (`[policy]`). `refuse` answers 554 in the session, `tag` marks and delivers."""

    forged_own: Verdict = Field(
        default="refuse",
        description="Mail from outside whose From header is an address of the office, unless the office itself signed it "
        "(DKIM): so one's own words come back from a list or a forwarder, and nobody else's do.",
    )
    forged_peer: Verdict = Field(
        default="refuse",
        description="The same for peers' addresses on mail that comes neither from their relays nor with their signature.",
    )
    impersonation: Verdict = Field(
        default="tag",
        description="Mail from outside that shows a user's name, or an address of the office, as the name of another "
        "address. Not refused by default: people write from their private addresses.",
    )
    forged_bounce: Verdict = Field(
        default="refuse",
        description="Notifications about messages the office did not send. Those it sent are remembered for ten days "
        "(a queue gives up after five), by the MTA that sent them: with two of them `refuse` is only `tag`.",
    )
    disowned: Literal["refuse", "junk"] = Field(
        default="refuse",
        description="Mail that fails DMARC where its domain asks for rejection, and that no trusted sealer vouches for. RFC 9989, "
        "section 5.4, would not refuse it for that alone: mailing lists that change what they send on lose their way here. `junk` "
        "delivers it into Junk; forged mail of banks, too.",
    )
    external_subject: str = Field(
        default="",
        max_length=40,
        pattern=r"^[ -~]*$",
        description="Put before the subject of mail from outside; empty: only the header `X-Office-Origin` says it, which "
        "leaves signatures whole.",
        examples=["[external]"],
    )
    impersonation_subject: str = Field(
        default="[Not from inside the office]",
        max_length=40,
        pattern=r"^[ -~]*$",
        description="Put before the subject of mail that is tagged as an impersonation.",
    )
    refused_attachments: tuple[str, ...] = Field(
        default=REFUSED_ATTACHMENTS,
        description="File name endings that no message may carry, in archives neither. Programs, scripts, shortcuts, disk "
        "images, documents with macros, and archives in which the scanner does not see everything (RAR, 7z, bzip2): an ordinary "
        "zip archive is taken. Content of such a kind is refused under any name.",
        examples=[["exe", "js", "iso"]],
    )
    refused_at_top: tuple[str, ...] = Field(
        default=("htm", "html", "mht", "mhtml", "shtml", "svg", "svgz", "xht", "xhtml"),
        description="Endings refused as an attachment of its own but not inside an archive: pages that imitate a login. "
        "The text of a message may of course be HTML.",
    )
    encrypted_archives: Literal["refuse", "accept"] = Field(
        default="refuse",
        description="Archives and Office documents with a password: no scanner sees into them. A PDF with one is taken: banks "
        "and authorities send them.",
    )
    macros: Literal["refuse", "accept"] = Field(
        default="refuse", description="Office documents that contain a program, whatever their name."
    )


class Dns(Part):
    """The office's zones (`[dns]`)."""

    reverse: tuple[Network, ...] = Field(
        default=(),
        description="Networks whose reverse zones are delegated to the office; prefixes end on an octet (IPv4) or a "
        "nibble (IPv6), as the delegation does.",
        examples=[["192.0.2.0/24", "2001:db8:40::/48"]],
    )
    ttl: Duration = Field(
        default=3600,
        description="How long others may keep a record. Every rollover waits two of them before it goes on.",
        examples=["1h"],
    )
    signature_lifetime: Duration = Field(
        default=14 * 86400,
        description="How long a DNSSEC signature is valid; renewed at half of it, so the zone outlasts that long "
        "without its primary (14d: a week).",
        examples=["14d"],
    )
    zsk_lifetime: Duration = Field(
        default=30 * 86400,
        description="Age at which the zone-signing key rolls, by itself (RFC 6781, section 4.1.1).",
        examples=["30d"],
    )
    ksk_lifetime: Duration = Field(
        default=365 * 86400,
        description="Age at which the key that the parent's DS names rolls. It goes on by itself once the parent shows "
        "the new DS; a parent that does not read CDS (RFC 8078) must be given it by hand.",
        examples=["365d"],
    )
    propagation: Duration = Field(
        default=900,
        description="Time for a change to reach every name server of the office, with a margin.",
        examples=["15m"],
    )
    parent_propagation: Duration = Field(
        default=86400,
        description="Time the parent's servers and caches may still show the old DS after the new one was seen; "
        "at least the TTL of the DS record there.",
        examples=["1d"],
    )
    parent_interval: Duration = Field(
        default=3600,
        description="How often the parent is asked for the new DS while a key rolls.",
        examples=["1h"],
    )
    dkim_lifetime: Duration = Field(
        default=180 * 86400,
        description="Age at which `outpost rotate due` begins a new pair of DKIM keys.",
        examples=["180d"],
    )
    dkim_retention: Duration = Field(
        default=14 * 86400,
        description="How long an old DKIM key stays published after the last signature with it: at least `link.queue_lifetime`, "
        "for mail that waited is checked when it arrives. As long it then stands revoked (empty `p=`, RFC 6376, section 3.6.1).",
        examples=["14d"],
    )


class Resolver(Part):
    """How the hosts' validating resolvers find names (`[resolver]`)."""

    forwarders: tuple[Address, ...] = Field(
        default=(),
        description="Resolvers asked for everything; empty: recurse from the root, which needs port 53 outwards.",
    )
    trust_anchor: tuple[str, ...] = Field(
        default=(),
        description="DS records of the root key (presentation format); empty: the Internet's, from Debian's dns-root-data.",
        examples=[[". IN DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D"]],
    )


class Archive(Part):
    """Where packages come from (`[archive]`)."""

    mirror: str = Field(default="http://deb.debian.org/debian", description="Debian mirror.")
    security_mirror: str = Field(
        default="http://deb.debian.org/debian-security", description="Debian security mirror."
    )
    proxy: Proxy = Field(
        default="",
        description="HTTP proxy for apt; needed by hosts that must not reach the Internet themselves (the store).",
        examples=["http://192.0.2.9:3142"],
    )


class Time(Part):
    """Clock sources (`[time]`)."""

    servers: tuple[str, ...] = Field(
        default=("0.debian.pool.ntp.org", "1.debian.pool.ntp.org", "2.debian.pool.ntp.org"),
        min_length=1,
        description="NTP servers, names or addresses; at least three let a wrong one be outvoted.",
    )


class Scanner(Part):
    """Content checks on the MTA (`[scanner]`)."""

    signatures: Literal["freshclam", "local"] = Field(
        default="freshclam",
        description="ClamAV's signatures: fetched by freshclam, or only the local test signature (lab).",
    )
    mirror: str = Field(
        default="",
        description="Private mirror for freshclam; empty: ClamAV's own.",
        examples=["https://clam.example.com"],
    )
    network_checks: bool = Field(
        default=True, description="Whether Rspamd may ask block lists and other services on the network."
    )
    trusted_sealers: tuple[Fqdn, ...] = Field(
        default=(),
        description="Domains of forwarders and mailing lists whose ARC seal (RFC 8617) is believed: what they saw pass DMARC "
        "is not refused because their own changes broke the signature. Peers' domains are among them by themselves.",
        examples=[["lists.example.org"]],
    )


class TrustedAuthority(Part):
    """A certificate authority the hosts trust besides Debian's (a PEM file named in `tls.trusted_authorities`)."""

    name: str = Field(description="File name beside office.toml.")
    pem: str = Field(description="Its content, read when the office is loaded.", repr=False)


class ProvidedCertificate(Part):
    """A public certificate that an authority issued by hand (`HOST.pem` beside office.toml)."""

    host: str = Field(description="The host whose key it certifies.")
    pem: str = Field(description="Certificate and chain, read when the office is loaded.", repr=False)


class Acme(Part):
    """The authority that issues certificates by ACME (`[acme]`, RFC 8555), proven by DNS-01 on the office's name servers."""

    directory: str = Field(
        default="https://acme-v02.api.letsencrypt.org/directory",
        pattern=r"^https://[a-z0-9.-]+(:[0-9]+)?/\S*$",
        description="Its directory; the default is Let's Encrypt.",
        examples=["https://acme-staging-v02.api.letsencrypt.org/directory"],
    )
    contact: MailAddress | None = Field(
        default=None,
        description="Where it writes to when something is wrong; empty: security@ the office's domain.",
        examples=["security@po.example.com"],
    )
    proxy: Proxy = Field(
        default="",
        description="HTTP proxy (CONNECT) to it, for hosts that must not reach the Internet themselves (the store).",
        examples=["http://192.0.2.9:8888"],
    )


class Tls(Part):
    """Encryption and certificates (`[tls]`)."""

    profile: TlsProfile = Field(
        default="intermediate",
        description="Mozilla's profile for users and strangers (ports 25, 993, 465, 4190 and 443): `intermediate` is TLS 1.2 "
        "and 1.3 with forward secrecy and authenticated ciphers. `old` is the one lever for clients that cannot do that, "
        "Outlook on Windows 7 without KB3140245, the mail program of Android 4.4, scanners and copiers of that age: TLS 1.0 "
        "and 1.1 and AES-CBC come in beside it. It costs full marks at every judge (internet.nl, sslyze), so take it back with "
        "the last such client. The links between the hosts and to the peers do not follow it.",
        examples=["old"],
    )

    certificates: CertificateMode = Field(
        default="office",
        description="Where the certificates come from that users and strangers see: `acme` (`[acme]`; fetched and renewed "
        "by each host), `office` (the office's own authority, for users who trust it), `provided` (an authority that is "
        "asked by hand: `HOST.pem` beside office.toml, for the key of `outpost secrets csr`). A host may differ.",
    )
    issuer: Fqdn = Field(
        default="letsencrypt.org",
        description="The authority's name in CAA records (RFC 8659) where `certificates` is `acme` or `provided`: nobody "
        "else may issue for these names.",
        examples=["letsencrypt.org"],
    )
    key_lifetime: Duration = Field(
        default=365 * 86400,
        description="Age at which `outpost rotate due` switches a public key to the next one, whose TLSA record has been "
        "published since the last switch. Certificates are renewed far more often, with the same key.",
        examples=["365d"],
    )
    provided: tuple[ProvidedCertificate, ...] = Field(
        default=(), exclude=True, description="Read from `HOST.pem` beside the office file."
    )
    trusted_authorities: tuple[TrustedAuthority, ...] = Field(
        default=(),
        description="PEM files beside office.toml whose authorities the hosts trust too.",
        examples=[["world-ca.pem"]],
    )
    mta_sts: Literal["none", "testing", "enforce"] = Field(
        default="testing",
        description="Mode of the published MTA-STS policy (RFC 8461): `testing` first, `enforce` once reports are clean.",
    )

    @property
    def level(self) -> TlsLevel:
        """What users and strangers may use."""
        return LEVELS[self.profile]

    @property
    def links(self) -> TlsLevel:
        """What the office's hosts and its peers use among themselves."""
        return INTERMEDIATE


class Ssh(Part):
    """How administrators reach the hosts (`[ssh]`)."""

    user: str = Field(default="root", description="Account the controller logs in as.")
    authorized_keys: tuple[str, ...] = Field(
        default=(),
        description="Public keys of the administrators.",
        examples=[["ssh-ed25519 AAAA… admin@controller"]],
    )
    host_keys: dict[str, tuple[str, ...]] = Field(
        default={},
        exclude=True,
        description="Read from `known_hosts` beside the office file: the host keys that the administrator has "
        "compared; published as SSHFP (RFC 4255).",
    )


class Webmail(Part):
    """Webmail (`[webmail]`)."""

    open_to_internet: bool = Field(
        default=False,
        description="Whether users may log in from the Internet; else only from the users' zone.",
    )


class Logs(Part):
    """Where the hosts' logs go besides their own journals (`[logs]`)."""

    collector: Fqdn | None = Field(
        default=None,
        description="Head office's collector, a RELP server with TLS (rsyslog's `imrelp`): the name that its certificate must "
        "carry, from an authority that Debian or `tls.trusted_authorities` trusts. The hosts show theirs, which `outpost "
        "secrets ca` lets it judge. Not given: logs stay on the hosts, where whoever breaks in can edit them.",
        examples=["logs.example.com"],
    )
    addresses: tuple[Address, ...] = Field(
        default=(),
        description="Where it is; without them its name is looked up, and must be outside the office's networks. Each host "
        "takes the first that a zone of its own leads to.",
        examples=[["192.0.2.54", "2001:db8:0:4::54"]],
    )
    port: FilePort = Field(default=ports.SYSLOG_TLS, description="Its port.")


Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]


class Maintenance(Part):
    """When hosts may be changed (`[maintenance]`)."""

    read_only: tuple[Weekday, ...] = Field(
        default=(),
        description="Days (UTC) on which `apply` refuses unless it is told `--anyway`: nobody is there to mend it.",
        examples=[["friday", "saturday"]],
    )
    upgrades_at: Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")] = Field(
        default="02:00",
        description="Time of day (UTC) from which security upgrades install themselves, within half an hour.",
    )


class Closing(Part):
    """An office that is being closed (`[closing]`); `outpost decommission` writes it, step by step."""

    forward: MailAddress | None = Field(
        default=None,
        description="Where mail for every address of the office goes, instead of into its mailboxes.",
        examples=["po-archive@example.com"],
    )
    ended: bool = Field(
        default=False,
        description="Whether the domain is out of mail: null MX, no sender, no TLSA, no policies (RFC 7505).",
    )


class Backup(Part):
    """What is kept elsewhere in case a host is lost (`[backup]`): encrypted on the host, append-only for it, at head office."""

    server: Address = Field(
        description="Address of the machine that keeps it, reached by SSH. In one of the office's zones each host must stand "
        "in that zone; elsewhere it is reached by routing.",
        examples=["198.51.100.61"],
    )
    port: FilePort = Field(default=22, description="Port of its SSH server.")
    host_keys: tuple[Annotated[str, Field(pattern=r"^(ssh-ed25519|ecdsa-sha2-\S+|ssh-rsa) \S+$")], ...] = (
        Field(
            min_length=1,
            description="Its SSH host keys, compared with its console: `TYPE KEY` as in `known_hosts`.",
            examples=[["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI…"]],
        )
    )
    account: str = Field(
        default="",
        pattern=r"^([a-z][a-z0-9-]{0,30})?$",
        description="Account there that is the office's alone; empty: `outpost-` and the office's name.",
        examples=["outpost-po"],
    )
    directory: str = Field(
        default="",
        pattern=r"^(/[A-Za-z0-9._-]+)*$",
        description="Where it keeps the repositories; empty: `/srv/outpost/` and the office's name.",
        examples=["/srv/outpost/po"],
    )
    every: Duration = Field(
        default=3600,
        description="Time between two backups of a host. What a lost disk costs is what came since the last one: at most this "
        "long, `jitter`, and the time a backup takes.",
        examples=["1h"],
    )
    jitter: Duration = Field(
        default=600,
        description="Up to this much later, at random, so that hosts and offices do not begin together.",
        examples=["10m"],
    )
    oldest: Duration = Field(
        default=6 * 3600,
        description="Age of the last backup that is an alarm, and at which `verify` fails; more than `every` and `jitter` together.",
        examples=["6h"],
    )
    line_percent: int = Field(
        default=25,
        ge=0,
        le=100,
        description="How much of `link.rate_kbit` one host's backup may fill; 0: all it gets. 25 % of 1544 kbit/s carry 170 MB "
        "an hour beside the mail.",
    )
    hourly: int = Field(
        default=48, ge=1, description="How many of the last hours keep an archive, at the other end."
    )
    daily: int = Field(default=14, ge=0, description="How many days keep one.")
    weekly: int = Field(default=8, ge=0, description="How many weeks keep one.")
    monthly: int = Field(default=18, ge=0, description="How many months keep one.")


class Alarms(Part):
    """What a host tells when it needs a human, and whom, past the mail queue (`[alarms]`)."""

    tell: tuple[Annotated[str, Field(pattern=r"^(smtps?|https?)://[^\s/?]+\S*$")], ...] = Field(
        default=(),
        description="Paths, each tried: `smtp://RELAY/?to=ADDRESS&from=ADDRESS` hands a message to another organisation's "
        "server over verified TLS (`smtps` for TLS from the first byte), `https://…` is a webhook that gets JSON. Hosts without an "
        "address on the Internet need one that is an address in the administrators' zone. Empty: alarms stand in the journal only.",
        examples=[["smtp://192.0.2.25/?to=admin@example.com&from=outpost@example.com"]],
    )
    every: Duration = Field(default=300, description="How often each host looks at itself.", examples=["5m"])
    queue_age: Duration = Field(
        default=2 * 3600,
        description="Mail that has waited longer is an alarm, before its sender is told (`link.delay_warning`).",
        examples=["2h"],
    )
    certificate_age: Duration = Field(
        default=14 * 86400,
        description="A certificate that ends within this time: it should have been renewed by then.",
        examples=["14d"],
    )
    signature_age: Duration = Field(
        default=3 * 86400, description="DNSSEC signatures that end within this time.", examples=["3d"]
    )
    virus_age: Duration = Field(
        default=2 * 86400, description="Age of the newest virus signatures.", examples=["2d"]
    )
    disk_percent: int = Field(
        default=85, ge=50, le=99, description="How full a volume may be, in bytes or inodes."
    )
    wrong_logins: int = Field(
        default=50, ge=1, description="Wrong passwords within ten minutes, over all accounts."
    )


class Attack(Part):
    """Whether the office agrees to be attacked by its own administrators (`[attack]`)."""

    consent_until: date | None = Field(
        default=None,
        description="Last day on which `./outpost attack` may be run against this office; never without it (the lab needs none). "
        "Attacks that take something down stay in the lab all the same.",
        examples=["2026-12-31"],
    )


class ExplainedMessage(Part):
    """What a daemon of this office writes though nothing is wrong (`[[verification.explained]]`)."""

    says: Annotated[str, AfterValidator(_pattern)] = Field(
        description="Regular expression that finds the line: `DAEMON: MESSAGE` as in the journal, each number written as `N`.",
        examples=["^chronyd: Source N.N.N.N offline"],
    )
    why: str = Field(
        min_length=10,
        description="Why nobody has to look at it.",
        examples=["the site's power is off at night"],
    )


class Verification(Part):
    """What the live checks may do and what they accept (`[verification]`)."""

    canary: MailAddress | None = Field(
        default=None,
        description="User whose mailbox gets a verification's own messages, which it removes again; empty: the postmaster.",
        examples=["canary@po.example.com"],
    )
    correspondents: tuple[MailAddress, ...] = Field(
        default=(),
        description="Addresses on the Internet whose servers are asked, up to RCPT, whether they would take mail from the office: "
        "nothing is sent. The peers' postmasters are asked in any case.",
        examples=[["postmaster@example.org"]],
    )
    explained: tuple[ExplainedMessage, ...] = Field(
        default=(),
        description="Warnings and errors in this office's journals that are no fault.",
    )


class Encryption(Part):
    """Who can read the office's secrets (`[secrets]`)."""

    recipients: tuple[str, ...] = Field(
        default=(), description="age public keys that `secrets.age` is encrypted to.", examples=[["age1…"]]
    )


class Office(Part):
    """One project office: the content of ``inventory/<office>/office.toml``."""

    name: HostLabel = Field(description="Short name of the office.", examples=["po"])
    organisation: str = Field(
        description="Shown to users (webmail, client set-up).", examples=["Myertor project office"]
    )
    domain: Fqdn = Field(
        description="Its mail domain; host names stand below it.", examples=["po.myertor.test"]
    )
    platform: Platform = Field(
        default="machine",
        description="What the hosts are; a container cannot steer the clock or load kernel modules.",
    )
    postmaster: MailAddress = Field(
        description="User who gets postmaster, abuse and the hosts' own mail (RFC 2142).",
        examples=["maria@po.example.com"],
    )
    zones: dict[str, Zone] = Field(description="Networks by trust.")
    hosts_by_name: dict[str, Host] = Field(alias="hosts", description="The machines.")
    users: tuple[User, ...] = Field(min_length=1, description="People with a mailbox.")
    aliases: tuple[Alias, ...] = Field(default=(), description="Addresses that stand for several mailboxes.")
    shared: tuple[SharedMailbox, ...] = Field(default=(), description="Mailboxes that several people read.")
    peers: tuple[Peer, ...] = Field(
        default=(), description="Mail systems with a route and listener of their own."
    )
    smarthost: Smarthost | None = Field(default=None, description="Relay for Internet mail.")
    link: Link = Field(default=Link(), description="The line to the Internet.")
    limits: Limits = Field(default=Limits(), description="Sizes and counts.")
    policy: Policy = Field(default=Policy(), description="What mail may look like.")
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
    backup: Backup | None = Field(default=None, description="What is kept elsewhere; without it nothing is.")
    alarms: Alarms = Field(default=Alarms(), description="What needs a human, and whom it is told.")
    closing: Closing = Field(default=Closing(), description="The end of the office.")
    attack: Attack = Field(default=Attack(), description="Consent to attacks.")
    verification: Verification = Field(
        default=Verification(), description="What the live checks do and accept."
    )
    secrets: Encryption = Field(default=Encryption(), description="Readers of secrets.age.")

    @property
    def hosts(self) -> tuple[Host, ...]:
        """Every host, in the order of the file."""
        return tuple(self.hosts_by_name.values())

    def host(self, name: str) -> Host:
        """The host of that name.

        Raises:
            KeyError: No such host.
        """
        return self.hosts_by_name[name]

    def with_role(self, role: Role) -> tuple[Host, ...]:
        """Hosts of one role, in the order of the file; the first is the primary where that matters (DNS)."""
        return tuple(host for host in self.hosts if host.role == role)

    @property
    def mail_servers(self) -> tuple[Host, ...]:
        """MTAs that are given mail, the first one first; those that retire only deliver what they have."""
        return tuple(host for host in self.with_role("mta") if not host.retiring)

    def zones_of_kind(self, kind: ZoneKind) -> tuple[Zone, ...]:
        """Zones of one kind, in the order of the file."""
        return tuple(zone for zone in self.zones.values() if zone.kind == kind)

    def peers_in(self, zone: str) -> tuple[Peer, ...]:
        """Peers reached in one zone."""
        return tuple(peer for peer in self.peers if peer.zone == zone)

    def link_addresses(self, host: Host, other: Host) -> tuple[IPAddress, ...]:
        """Addresses at which `other` reaches `host`: in a zone they share, servers' zones first; else all of them."""
        shared = [zone for zone in host.addresses if zone in other.addresses and zone in self.zones]
        shared.sort(
            key=lambda zone: ("servers", "management", "users", "partner", "internet").index(
                self.zones[zone].kind
            )
        )
        return host.in_zone(shared[0]) if shared else host.all_addresses

    def platform_of(self, host: Host) -> Platform:
        """What a host is: as it says itself, else as the office says."""
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
        """The servers' zone."""
        return self.zones_of_kind("servers")[0]

    @property
    def mailboxes(self) -> tuple[str, ...]:
        """Every address with a mailbox: the users', then the shared ones."""
        return (*(user.address for user in self.users), *(mailbox.address for mailbox in self.shared))

    @property
    def canary(self) -> str:
        """The mailbox that a verification writes to."""
        return self.verification.canary or self.postmaster

    def quota(self, owner: User | SharedMailbox) -> int:
        """The size of a mailbox in bytes."""
        return int(owner.quota if owner.quota is not None else self.limits.mailbox_quota)

    @property
    def senders(self) -> dict[str, tuple[str, ...]]:
        """Address to the logins that may send from it (SPO-02): one's own, its members, and who is named in `send_as`."""
        allowed: dict[str, tuple[str, ...]] = {user.address: (user.address,) for user in self.users}
        allowed |= {mailbox.address: mailbox.members for mailbox in self.shared}
        for alias in self.all_aliases:
            reached = dict.fromkeys(
                login for address in self.expand(alias.address) for login in allowed.get(address, ())
            )
            allowed[alias.address] = tuple(reached)
        for user in self.users:
            for address in user.send_as:
                allowed[address] = tuple(dict.fromkeys((*allowed.get(address, ()), user.address)))
        return {address: logins for address, logins in allowed.items() if logins}

    @property
    def all_aliases(self) -> tuple[Alias, ...]:
        """Declared aliases, and RFC 2142's role names pointing at the postmaster where the file does not declare them."""
        taken = {alias.address for alias in self.aliases} | set(self.mailboxes)
        roles = (f"{name}@{self.domain}" for name in ROLE_NAMES)
        return self.aliases + tuple(
            Alias(address=address, members=(self.postmaster,)) for address in roles if address not in taken
        )

    @property
    def backup_relays(self) -> tuple[IPAddress, ...]:
        """Addresses from which strangers' mail comes by way of a backup MX."""
        return tuple(address for peer in self.peers if peer.backup_mx for address in peer.relays)

    def expand(self, address: str) -> tuple[str, ...]:
        """The mailboxes that an alias or user address stands for, without duplicates, in declaration order.

        Raises:
            KeyError: The office knows no such recipient.
        """
        members = {alias.address: alias.members for alias in self.all_aliases}
        found: dict[str, None] = {}
        seen: set[str] = set()
        pending = [address]
        while pending:
            current = pending.pop(0)
            if current in seen:
                continue
            seen.add(current)
            if current in members:
                pending.extend(members[current])
            elif current in self.mailboxes:
                found[current] = None
            else:
                raise KeyError(current)
        return tuple(found)

    def to_json(self) -> str:
        """What pyinfra's ``debug-inventory`` and ``--json`` show for it: the name, not the whole file."""
        return f"<office {self.domain}>"


ROLE_NAMES = (
    "postmaster",
    "abuse",
    "hostmaster",
    "webmaster",
    "security",
    "root",
    "tls-reports",
    "dmarc-reports",
)
"""Local parts that always reach somebody (RFC 2142; DMARC and TLS reports; the hosts' own mail)."""
