"""Running the office: who gets in, what hosts take from elsewhere, logs, hours, backups, alarms, what may be tried, and its end."""

import re
from datetime import date
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from outpost.office import ports
from outpost.office.tables.topology import Accepted
from outpost.office.tables.values import (
    Account,
    Address,
    AgeRecipient,
    AlarmPath,
    Duration,
    FilePort,
    Fqdn,
    Line,
    MailAddress,
    MirrorUrl,
    Part,
    Proxy,
    RootKey,
    Server,
    Size,
    SshKey,
    counted,
    lasting,
    like,
    sized,
)


class Resolver(Part):
    """How the hosts' validating resolvers find names (`[resolver]`)."""

    forwarders: tuple[Address, ...] = Field(default=(), examples=[["198.51.100.53"]])
    """Resolvers to which all queries are forwarded. Empty: the hosts resolve from the root, which needs port 53 to
    the Internet."""
    trust_anchor: tuple[RootKey, ...] = Field(
        default=(),
        examples=[[". IN DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D"]],
    )
    """DS records of the root key (presentation format); empty: the Internet's, from Debian's dns-root-data."""


class Archive(Part):
    """Where packages come from (`[archive]`)."""

    mirror: MirrorUrl = Field(
        default="http://deb.debian.org/debian", examples=["http://deb.debian.org/debian"]
    )
    """Debian mirror."""
    security_mirror: MirrorUrl = Field(
        default="http://deb.debian.org/debian-security", examples=["http://deb.debian.org/debian-security"]
    )
    """Debian security mirror."""
    proxy: Proxy = Field(default="", examples=["http://192.0.2.9:3142"])
    """HTTP proxy for apt; needed by hosts that must not reach the Internet themselves (the store)."""


class Time(Part):
    """Clock sources (`[time]`)."""

    servers: tuple[Server, ...] = Field(
        default=("0.debian.pool.ntp.org", "1.debian.pool.ntp.org", "2.debian.pool.ntp.org"),
        min_length=1,
        examples=[["ntp.example.com", "192.0.2.123"]],
    )
    """NTP servers, names or addresses; at least three let a wrong one be outvoted."""


class Ssh(Part):
    """How administrators reach the hosts (`[ssh]`)."""

    user: Account = Field(default="root", examples=["admin"])
    """Account the controller logs in as. Any other than root needs sudo without a password: `USER ALL=(ALL:ALL)
    NOPASSWD: ALL` in `/etc/sudoers.d/outpost-admin`."""
    authorized_keys: tuple[SshKey, ...] = Field(
        default=(), min_length=1, examples=[["ssh-ed25519 AAAA… admin@controller"]]
    )
    """Public keys of the administrators: only these open SSH. Left out: each host keeps those that it has."""
    host_keys: dict[str, tuple[str, ...]] = Field(default={}, exclude=True)
    """Read from `known_hosts` beside the office file: the host keys that the administrator has compared; published as
    SSHFP (RFC 4255)."""


class Webmail(Part):
    """Webmail (`[webmail]`)."""

    open_to_internet: bool = False
    """Whether users may log in from the Internet; otherwise only from the users' zone."""


class Encryption(Part):
    """Who can read the office's secrets (`[secrets]`)."""

    recipients: tuple[AgeRecipient, ...] = Field(default=(), examples=[["age1…"]])
    """age public keys that `secrets.age` is encrypted to."""


class Logs(Part):
    """Where the hosts' logs go besides their own journals (`[logs]`)."""

    collector: Fqdn | None = Field(default=None, examples=["logs.example.com"])
    """Head office's collector, a RELP server with TLS (rsyslog's `imrelp`): the name that its certificate must carry,
    from an authority that Debian or `tls.trusted_authorities` trusts. The collector verifies the hosts' certificates
    with the authority that `./outpost secrets ca` prints. Not given: logs stay on the hosts, where an intruder can edit
    them."""
    addresses: tuple[Address, ...] = Field(default=(), examples=[["192.0.2.54", "2001:db8:0:4::54"]])
    """Where it is; without them its name is looked up, and must be outside the office's networks. Each host takes the
    first that a zone of its own leads to."""
    port: FilePort = Field(default=ports.SYSLOG_TLS, description="Its port.")


Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]


class Maintenance(Part):
    """When hosts may be changed (`[maintenance]`)."""

    read_only: tuple[Weekday, ...] = Field(default=(), examples=[["friday", "saturday"]])
    """Days (UTC) on which `apply` refuses without `--force`, because nobody could repair a fault."""
    upgrades_at: Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")] = "02:00"
    """Time of day (UTC) from which security updates are installed automatically, within half an hour."""
    accepted: tuple[Accepted, ...] = Field(default=(), examples=[["package cloud-init", "unit getty.target"]])
    """What is accepted on every host, for instance because their image has it. Written like `hosts.NAME.accepted`."""


class Closing(Part):
    """An office that is being closed (`[closing]`); `outpost decommission` writes it, step by step."""

    forward: MailAddress | None = Field(default=None, examples=["po-archive@example.com"])
    """Address that gets all mail of the office, instead of the mailboxes."""
    ended: bool = False
    """Whether the domain has no mail any more: null MX, no sender, no TLSA, no policies (RFC 7505)."""


class Backup(Part):
    """Backups in case a host is lost (`[backup]`): encrypted on the host and stored at head office, where the host can
    only add to them."""

    server: Address = Field(examples=["198.51.100.61"])
    """Address of the backup server, reached by SSH. If it is in one of the office's zones, each host needs an address
    in that zone; otherwise it is reached by routing."""
    port: FilePort = Field(default=22, description="Port of its SSH server.")
    host_keys: tuple[SshKey, ...] = Field(min_length=1, examples=[["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI…"]])
    """Its SSH host keys, compared with its console: `TYPE KEY` as in `known_hosts`."""
    account: Annotated[
        str, like("(?!root$).*", "root is not the office's alone: its keys open the whole server")
    ] = Field(default="", pattern=r"^([a-z][a-z0-9-]{0,30})?$", examples=["outpost-po"])
    """Account there that is the office's alone; empty: `outpost-` and the office's name."""
    directory: Annotated[
        str, like(r"((?!/\.{1,2}(/|$))/[A-Za-z0-9._-]+)*", "not a full path of letters, digits, . _ and -")
    ] = Field(default="", examples=["/srv/outpost/po"])
    """Where it keeps the repositories; empty: `/srv/outpost/` and the office's name."""
    every: Duration = lasting("1h")
    """Time between two backups of a host. A lost disk loses what came since the last backup: at most this time,
    plus `jitter` and the time that a backup takes."""
    jitter: Duration = lasting("10m")
    """Random delay of up to this long, so that hosts and offices do not start together."""
    oldest: Duration = lasting("6h")
    """Age of the last backup at which an alarm is sent and `verify` fails; more than `every` and `jitter`
    together."""
    quota: Size = sized("20GiB", ge=10_000_000)
    """Space on the backup server for the archives of each host; the store gets twice the size of all mailboxes besides. A host that needs more
    is refused, and sends an alarm: without a quota one compromised host fills the disk for all. Run `./outpost backup OFFICE --other-end` after a
    change."""
    line_percent: int = counted(25, least=0, most=100)
    """Share of `link.rate_kbit` that one host's backup may use; 0: no limit. 25 % of 1544 kbit/s carry 170 MB an hour
    beside the mail."""
    hourly: int = counted(48, "How many hourly archives the backup server keeps.", most=100_000)
    daily: int = counted(14, "How many daily ones.", least=0, most=100_000)
    weekly: int = counted(8, "How many weekly ones.", least=0, most=100_000)
    monthly: int = counted(18, "How many monthly ones.", least=0, most=100_000)


class Alarms(Part):
    """When a host sends an alarm, and by which paths, past the mail queue (`[alarms]`)."""

    tell: tuple[AlarmPath, ...] = Field(
        default=(), examples=[["smtp://192.0.2.25/?to=admin@example.com&from=outpost@example.com"]]
    )
    """Paths of alarms; every one is used. `smtp://RELAY/?to=ADDRESS&from=ADDRESS` sends a message to another
    organisation's server over verified TLS (`smtps` for TLS from the first byte); `https://…` is a webhook that gets
    JSON. Hosts without an address on the Internet need a path to an address in the administrators' zone. Empty:
    alarms are written to the journal only."""
    every: Duration = lasting("5m", "How often each host checks itself.")
    queue_age: Duration = lasting("2h")
    """An alarm is sent about mail that has waited longer than this, before its sender gets a notice
    (`link.delay_warning`)."""
    certificate_age: Duration = lasting("14d")
    """An alarm is sent about a certificate that ends within this time; it should have been renewed by then."""
    signature_age: Duration = lasting("3d", "The same for DNSSEC signatures.")
    virus_age: Duration = lasting("2d")
    """An alarm is sent when the newest virus signatures are older than this."""
    logs_age: Duration = lasting("15m")
    """An alarm is sent when the collector of `[logs]` has not accepted the host's lines for this long."""
    disk_percent: int = counted(85, least=50, most=99)
    """An alarm is sent when a volume is fuller than this, in bytes or inodes."""
    wrong_logins: int = counted(50, most=100_000)
    """An alarm is sent when more accounts than this got a wrong password within ten minutes; each counts once for
    each address. One account that was locked (`limits.login_failures`) is an alarm in any case."""


class Attack(Part):
    """Whether the office agrees to be attacked by its own administrators (`[attack]`)."""

    consent_until: date | None = Field(default=None, examples=["2026-12-31"])
    """Last day on which `./outpost attack` may run against this office; never without it (the lab needs none).
    Attacks that take a service down run in the lab only."""


def _pattern(value: str) -> str:
    try:
        everything = re.search(value, "")
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    if everything:
        raise ValueError("finds every line, so no warning would be reported")
    return value


class ExplainedMessage(Part):
    """What a daemon of this office writes though nothing is wrong (`[[verification.explained]]`)."""

    says: Annotated[str, AfterValidator(_pattern)] = Field(
        max_length=300, examples=["^chronyd: Source N.N.N.N offline"]
    )
    """Regular expression that finds the line: `DAEMON: MESSAGE` as in the journal, each number written as `N`."""
    why: Line = Field(min_length=10, examples=["the site's power is off at night"])
    """Why it is harmless."""


class Verification(Part):
    """What the live checks may do and what they accept (`[verification]`)."""

    canary: MailAddress | None = Field(default=None, examples=["canary@po.example.com"])
    """User whose mailbox gets a verification's own messages, which it removes again; empty: the postmaster."""
    correspondents: tuple[MailAddress, ...] = Field(default=(), examples=[["postmaster@example.org"]])
    """Addresses on the Internet whose servers are asked, up to RCPT, whether they would accept mail from the office;
    nothing is sent. The peers' postmasters are always asked."""
    explained: tuple[ExplainedMessage, ...] = ()
    """Warnings and errors in this office's journals that are harmless."""
