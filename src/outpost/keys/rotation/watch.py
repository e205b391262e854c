"""What the office's authoritative name servers show, each asked at its own address."""

from collections.abc import Iterable

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rdata
import dns.rdatatype

from outpost.office.dns import Record
from outpost.office.model import Office
from outpost.office.roles import serving
from outpost.office.tables.topology import Host

PATIENCE = 3.0  # seconds that a server has for its answer


def missing(office: Office, records: Iterable[Record]) -> tuple[str, ...]:
    """Where these records are not shown yet, in words (``ns2: 2026q4-rsa._domainkey.… TXT``); empty means nowhere.

    Record sets are compared whole: an old record beside the new one is not what is declared.
    """
    wanted: dict[tuple[str, str], set[dns.rdata.Rdata]] = {}
    for record in records:
        wanted.setdefault((record.name, record.type), set()).add(_rdata(record))
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
    for address in addresses(office, server):
        try:
            answer = dns.query.tcp(query, address, timeout=PATIENCE)
        except (dns.exception.DNSException, OSError, EOFError):
            continue
        if not answer.flags & dns.flags.AA:
            return None
        sets = [rrset for rrset in answer.answer if rrset.rdtype == dns.rdatatype.from_text(rtype)]
        return {rdata for rrset in sets for rdata in rrset}
    return None


def addresses(office: Office, server: Host) -> tuple[str, ...]:
    """The address for questions to a server: on the Internet if it has one, else in the management network."""
    outside = office.addresses_of_kind(server, "internet")
    return tuple(map(str, (*outside, *office.addresses_of_kind(server, "management"))))


def _rdata(record: Record) -> dns.rdata.Rdata:
    return dns.rdata.from_text("IN", record.type, record.data)
