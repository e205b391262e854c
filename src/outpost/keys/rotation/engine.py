"""Common parts of all rotations: the office with its secrets, one writer at a time, reasons to wait, answers of its name servers."""

import fcntl
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rdata
import dns.rdatatype

from outpost.engine import run
from outpost.errors import OutpostError
from outpost.keys import secrets_file
from outpost.keys.model import Secrets
from outpost.office import load
from outpost.office.dns import Record
from outpost.office.model import Office
from outpost.office.role import serving
from outpost.office.tables.topology import Host
from outpost.target import Target, shown

Report = Callable[[str], None]
Rows = list[tuple[str, str, str]]
"""Key, stage, and what comes next, as `--status` shows them."""


class NotYetError(OutpostError):
    """The next step would break what others rely on now."""


@dataclass
class Desk:
    """An office whose keys are being changed.

    Attributes:
        report: Called with each step that is done, in a clause.
        now: The clock.
        remedy: What to do once the cause of a failed apply is corrected.
    """

    target: Target
    report: Report
    via: str | None = None
    watcher: run.Watcher = field(default_factory=run.Silent)
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    remedy: str = "run the same command again"

    def __post_init__(self) -> None:
        self.office: Office = load(self.target.data)
        self.secrets: Secrets = secrets_file.read(self.target.data)

    def keep(self, changed: Secrets) -> None:
        """Write changed secrets, before any host gets them."""
        secrets_file.write(self.target.data, changed, self.office.secrets.recipients)
        self.secrets = changed

    def change(self, **changes: Any) -> None:
        """The same secrets with these fields changed."""
        self.keep(self.secrets.model_copy(update=changes))

    def apply(self, hosts: tuple[Host, ...]) -> None:
        names = tuple(host.name for host in hosts)
        outcome = run.apply(self.target, limit=names, connector=self.via, watcher=self.watcher)
        outcome.expect_success(self.remedy)


def spoken(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def usable(desk: Desk, seen: datetime) -> datetime:
    """When a record may be relied on that every name server shows since then: resolvers may have cached that it did not exist."""
    return seen + timedelta(seconds=2 * desk.office.dns.ttl)


def expect_usable(desk: Desk, what: str, seen: datetime) -> None:
    """Refuse to rely on that record any earlier."""
    until = usable(desk, seen)
    if desk.now() < until:
        raise NotYetError(
            f"{what} was seen at every name server at {spoken(seen)}; resolvers may have cached for {desk.office.dns.ttl} s that it "
            "did not exist, and Outpost waits twice that",
            f"run this command again in {(until - desk.now()).total_seconds():.0f} s, after {spoken(until)}",
        )


@contextmanager
def desk(
    target: Target, report: Report, *, via: str | None = None, watcher: run.Watcher | None = None
) -> Iterator[Desk]:
    """Lock the office, so that only one rotation runs on it."""
    with (target.data / ".rotation.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            problem = f"another rotation of {shown(target.data)} is running"
            raise OutpostError(problem, "wait until it has finished") from None
        yield Desk(target, report, via, watcher or run.Silent())


PATIENCE = 3.0  # seconds that a server has for its answer


def missing(office: Office, records: Iterable[Record]) -> tuple[str, ...]:
    """Where these records are not shown yet, in words (``ns2: 2026q4-rsa._domainkey.… TXT``); empty means nowhere.

    Record sets are compared whole: an old record beside the new one is not what is declared.
    """
    wanted: dict[tuple[str, str], set[dns.rdata.Rdata]] = {}
    for record in records:
        data = dns.rdata.from_text("IN", record.type, record.data)
        wanted.setdefault((record.name, record.type), set()).add(data)
    return tuple(
        f"{server.name}: {name} {rtype}"
        for server in serving(office, "names")
        for (name, rtype), data in wanted.items()
        if ask(office, server, name, rtype) != data
    )


def ask(office: Office, server: Host, name: str, rtype: str) -> set[dns.rdata.Rdata] | None:
    """A record set from one server's authoritative answer; None if the server does not answer."""
    query = dns.message.make_query(name, rtype)
    query.flags &= ~dns.flags.RD
    # on the Internet if it has an address there, else in the management network
    outside = office.addresses_of_kind(server, "internet")
    for address in map(str, (*outside, *office.addresses_of_kind(server, "management"))):
        try:
            answer = dns.query.tcp(query, address, timeout=PATIENCE)
        except (dns.exception.DNSException, OSError, EOFError):
            continue
        if not answer.flags & dns.flags.AA:
            return None
        sets = [rrset for rrset in answer.answer if rrset.rdtype == dns.rdatatype.from_text(rtype)]
        return {rdata for rrset in sets for rdata in rrset}
    return None
