"""Groupware: calendars, contacts and tasks (CalDAV, CardDAV), with neither mail nor passwords. Optional."""

from collections.abc import Iterator

from outpost.office import ports
from outpost.office.model import Office
from outpost.office.problems import Problem
from outpost.office.role import Role, Shown
from outpost.office.size import MIB, CgroupLimit, Size
from outpost.office.tables.topology import Host

STORAGE = "/var/lib/radicale"
"""Everybody's calendars and address books, and those of former users."""
CACHE = "/var/cache/radicale"
"""What Radicale can make again; no backup has it."""
ENTRY = 10 * MIB
"""Largest request: an event with its attachments, or a contact with its picture."""
ENTRIES = 20_000
"""Most events, tasks and contacts of one user."""


def _limits(size: Size) -> dict[str, CgroupLimit]:
    return {
        # request bodies wait in memory (WEB-06)
        "nginx.service": CgroupLimit(512, 32),
        # each process may hold a request and the text it is converted to
        "radicale.service": CgroupLimit(512 + workers(size) * 6 * ENTRY // MIB, 32 + 2 * workers(size)),
    }


def workers(size: Size) -> int:
    """Processes, each of which answers one request at a time: one that hangs can be ended, a thread cannot."""
    return max(8, size.users // 25)


def _fits(office: Office, hosts: tuple[Host, ...]) -> Iterator[Problem]:
    if len(hosts) > 1:
        yield Problem(
            f"hosts.{hosts[1].name}.role",
            "groupware",
            "a second host for calendars: calendars are not replicated",
            "keep one (a lost one is rebuilt from its backup)",
        )
    for host in hosts:
        if office.addresses_of_kind(host, "internet"):
            yield Problem(
                f"hosts.{host.name}.addresses",
                "",
                "calendars are reached from the users' zone, and the host sees passwords on their way to the store",
                "give it an address in the users' and the servers' zone, and none in the Internet's",
            )


ROLE = Role(
    name="groupware",
    trust=35,
    hosts=(),  # a new office has no such host
    published=lambda _office: ("users",),
    duties=("calendars",),
    optional=True,
    fits=_fits,
    disk=4096,
    memory=lambda _size: 1024,
    limits=_limits,
    shown=Shown(unit="nginx.service", ports=lambda _office: (ports.HTTPS,), probe="443"),
    kept=lambda _office, _host: ({"kind": "copy", "path": STORAGE, "owner": "radicale"},),
    owners={"radicale": STORAGE},
    erased=(STORAGE, CACHE, "/etc/radicale"),
    stopped=("nginx.service", "radicale.socket", "radicale.service"),
    reloads={"/etc/nginx/": "nginx.service", "/etc/radicale/": "radicale.service"},
    programs=("nginx",),
)
