"""A role as one value, which the rest of the product reads wherever it depends on the role of a host."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Any, Literal, NamedTuple

from outpost.office.model import Office
from outpost.office.problems import Problem
from outpost.office.size import EVERY_HOST, CgroupLimit, Size
from outpost.office.tables.topology import ROLE_NAMES, Host, RoleName, ZoneKind

Duty = Literal["names", "transport", "mailboxes", "browsers", "calendars"]
"""The tasks for which an office needs hosts: DNS, SMTP, the users' mail and passwords, webmail, calendars and contacts."""


class NewHost(NamedTuple):
    """A host of this role in the office that `outpost new` writes.

    Attributes:
        name: Its name.
        number: The last part of its addresses, where a network has room for it.
        zones: The zones in which it has addresses.
        note: The comment beside it in the office file.
    """

    name: str
    number: int
    zones: tuple[str, ...]
    note: str


class Shown(NamedTuple):
    """How hosts of a role show their public certificate.

    Attributes:
        unit: The daemon that shows it.
        ports: The ports at which it does, by TLS from the first octet or after STARTTLS.
        probe: Port and options for `openssl s_client`, to ask for it.
        zone: The kind of zone in which the probe asks.
        labels: Further names on it, below the office's domain.
    """

    unit: str
    ports: Callable[[Office], tuple[int, ...]]
    probe: str
    zone: ZoneKind = "users"
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Role:
    """A role.

    Attributes:
        name: As the office file says it.
        trust: Its place in the order of trust, in which hosts are set up and changed.
        hosts: Its hosts in a new office.
        published: Kinds of zones whose addresses its hosts' names carry in the DNS, in this order.
        duties: The office's tasks for its hosts.
        optional: Whether an office may have no host of it.
        fits: Finds what is wrong with an office's hosts of this role.
        disk: MiB that a host needs without mail.
        memory: MiB that a host should have; its daemons' limits together are more, because they are never all reached.
        processors: Processors that a virtual machine of it gets.
        limits: The most that each unit may use (control DOS-11).
        kernel: Kernel setting → value, where the kernel is the host's own (sysctl.d(5)).
        data: Directories of people's data: mounted without programs, setuid and devices.
        watched: What its hosts monitor besides what every host does (`outpost.onhost.watch`).
        watching: Settings of those, for every host of the office: a host without the role gets the same keys.
        shown: Its public certificate; None where it has none.
        kept: What a backup keeps of a host, besides its SSH host keys (`outpost.onhost.backup` says what each kind means),
            whose it is and comes back as (BKP-02).
        restored: Shell that runs after the apply of a host that was restored.
        owners: Accounts that own what comes back, with their homes.
        erased: Where its hosts hold what is the office's: erased when the office is closed.
        stopped: Units that are stopped before that.
        reloads: Directory or start of a path → the unit whose daemon reads what is there.
        programs: Daemons that hold its ports, as `ss` prints them.
        guide: The page for users that its hosts show, in a language (`en`).
        traced: Whether messages pass through its hosts' journals.
    """

    name: RoleName
    trust: int
    hosts: tuple[NewHost, ...]
    published: Callable[[Office], tuple[ZoneKind, ...]]
    disk: int
    memory: Callable[[Size], int]
    limits: Callable[[Size], dict[str, CgroupLimit]]
    kernel: Callable[[Size], dict[str, int]] = lambda _size: {}
    processors: int = 1
    duties: tuple[Duty, ...] = ()
    optional: bool = False
    fits: Callable[[Office, tuple[Host, ...]], Iterable[Problem]] = lambda _office, _hosts: ()
    data: tuple[str, ...] = ()
    watched: tuple[str, ...] = ()
    watching: Callable[[Office, Host], dict[str, Any]] = lambda _office, _host: {}
    shown: Shown | None = None
    kept: Callable[[Office, Host], tuple[dict[str, Any], ...]] = lambda _office, _host: ()
    restored: Callable[[Office, Host], tuple[str, ...]] = lambda _office, _host: ()
    owners: dict[str, str] = field(default_factory=dict)
    erased: tuple[str, ...] = ()
    stopped: tuple[str, ...] = ()
    reloads: dict[str, str] = field(default_factory=dict)
    programs: tuple[str, ...] = ()
    guide: Callable[[Office, str], str] | None = None
    traced: bool = False


@cache
def every_role() -> dict[RoleName, Role]:
    """Name → role, in the order of trust."""
    found: list[Role] = [import_module(f"roles.{name}").ROLE for name in ROLE_NAMES]
    return {role.name: role for role in sorted(found, key=lambda role: role.trust)}


def role_of(host: Host) -> Role:
    return every_role()[host.role]


def serves(host: Host, duty: Duty) -> bool:
    return duty in role_of(host).duties


def serving(office: Office, duty: Duty) -> tuple[Host, ...]:
    """Hosts that have a duty, in the order of the file; the first one is the primary where that matters (DNS)."""
    return tuple(host for host in office.hosts if serves(host, duty))


def cgroup_limits(role: RoleName, size: Size) -> dict[str, CgroupLimit]:
    """Unit → limit, for the daemons of a host (control DOS-11)."""
    return EVERY_HOST | every_role()[role].limits(size)
