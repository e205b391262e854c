"""Work that others still have to do: such a check is pending, not failed. It prints what to enter where, and `verify` runs it again.

A check asks this only before it would fail, so it costs nothing in a complete office. A name that the parent delegates with a DS
and that cannot be validated is a fault, and stays one.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from typing import NoReturn

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import pytest
from dns.dnssec import make_ds
from dns.dnssecalgs import get_algorithm_cls_from_dnskey
from dns.rdtypes.ANY.DNSKEY import DNSKEY
from testinfra.host import Host as TestinfraHost

from outpost.keys.model import SigningKey
from outpost.office import Host, Office
from outpost.office.backup import STATE
from outpost.verification.live import PENDING
from tests.live.asking import ask, query

WAIT_FOR_OTHERS = {"outpost-certificate.service", "outpost-backup.service"}
"""Units that fail until others have done their part; TLS-04 and BKP-01 check their results."""


def pend(what: str) -> NoReturn:
    """End a check as pending."""
    pytest.skip(PENDING + what)


def unless_delegated(host: TestinfraHost, *zones: str) -> None:
    """End a check as pending where the parent of one of these zones has no DS of it yet; else return, and it may fail."""
    if waiting := undelegated(host, zones):
        pend(
            f"waits until {' and '.join(waiting)} {'is' if len(waiting) == 1 else 'are'} delegated and signed"
        )


def unless_backed_up(host: TestinfraHost, office: Office) -> None:
    """End a check as pending if the backup server has never stored a backup of this host."""
    if office.backup and not host.file(f"{STATE}/last.json").exists:
        pend(
            f"on the backup server {office.backup.server}, run what `./outpost backup OFFICE --other-end` prints"
        )


def undelegated(host: TestinfraHost, zones: Iterable[str]) -> dict[str, tuple[tuple[str, ...], int]]:
    """Zones without a DS in their parents, as the host's own resolver answers.

    Returns:
        Zone → the name servers that the parent names, and the TTL of the answer.
    """
    found = {}
    for zone in zones:
        servers = query(zone, "NS", recurse=True)
        servers.flags |= dns.flags.CD  # the parent's answer counts, signed or not
        trusted, named = ask(host, "127.0.0.1", [query(zone, "DS", recurse=True), servers])
        if trusted.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN) or _data(trusted, zone, "DS"):
            continue
        soa = [rrset for rrset in trusted.authority if rrset.rdtype == dns.rdatatype.SOA]
        remembered = min((rrset.ttl for rrset in soa), default=0)
        found[zone.rstrip(".")] = (tuple(sorted(_data(named, zone, "NS"))), remembered)
    return found


def _data(answer: dns.message.Message, name: str, rtype: str) -> list[str]:
    owner, kind = dns.name.from_text(name), dns.rdatatype.from_text(rtype)
    rrset = answer.get_rrset(answer.answer, owner, dns.rdataclass.IN, kind)
    return [record.to_text() for record in rrset or ()]


def entries(office: Office, zone: str, ds: Iterable[str]) -> str:
    """The records to enter in a zone's parent, in the right order."""
    apex = f"{zone.rstrip('.')}."
    servers = office.with_role("dns")
    named = [f"{apex} NS {server.fqdn}." for server in servers]
    glue = [
        f"{server.fqdn}. {'A' if address.version == 4 else 'AAAA'} {address}"
        for server in servers
        for address in office.addresses_of_kind(server, "internet")
        if f"{server.fqdn}.".endswith(f".{apex}")
    ]
    steps = [
        ("the name servers", named),
        ("their addresses (glue)", glue),
        ("then the key", [f"{apex} DS {data}" for data in ds]),
    ]
    return "\n".join(
        line
        for what, records in steps
        if records
        for line in (f"{what}:", *(f"    {entry}" for entry in records))
    )


def unknown_entries(
    ds: Iterable[str], served: Iterable[dns.rdata.Rdata], zone: str, kept: Iterable[SigningKey]
) -> list[str]:
    """DS records that a primary publishes for the parent zone, and that match no key-signing key in the office's secrets."""
    names = {key.id for key in kept if "ksk" in key.roles}
    keys = [key for key in served if isinstance(key, DNSKEY) and _name(key) in names]
    return sorted({*ds} - {make_ds(f"{zone}.", key, "SHA256").to_text() for key in keys})


def _name(key: DNSKEY) -> str:
    """A key's name in Knot: the SHA-1 of its public half, as GnuTLS makes it."""
    _, *public, _ = get_algorithm_cls_from_dnskey(key).public_cls.from_dnskey(key).to_pem().splitlines()
    return hashlib.sha1(base64.b64decode(b"".join(public)), usedforsecurity=False).hexdigest()


def pointers(office: Office, me: Host) -> dict[str, str]:
    """Name in the reverse zone → the PTR data that other servers expect for an MTA's Internet addresses."""
    own = office.dns.reverse
    return {
        f"{address.reverse_pointer}.": f"{me.fqdn}."
        for address in office.addresses_of_kind(me, "internet")
        if not any(address in network for network in own)
    }
