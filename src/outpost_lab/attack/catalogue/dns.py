"""A-DNS: copying the zone, borrowing the resolver, aiming answers at others (essay 4.0)."""

from __future__ import annotations

import asyncio
import socket

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype

from outpost.office.tables.topology import Host
from outpost_lab.attack.evidence import Evidence
from outpost_lab.attack.ground import Ground
from outpost_lab.attack.registry import attack
from outpost_lab.attack.weakness import edited
from outpost_lab.attack.wire import Vantage

KNOT = "/etc/knot/knot.conf"


def _servers(ground: Ground) -> list[tuple[Host, str]]:
    return [
        (host, str(ground.office.addresses_of_kind(host, "internet")[0]))
        for host in ground.office.with_role("dns")
    ]


async def ask_tcp(vantage: Vantage, server: str, question: dns.message.Message) -> dns.message.Message | None:
    """An answer over TCP; None where there is none."""
    try:
        reader, writer = await vantage.connect(server, 53, patience=5)
        wire = question.to_wire()
        writer.write(len(wire).to_bytes(2, "big") + wire)
        length = int.from_bytes(await asyncio.wait_for(reader.readexactly(2), 5), "big")
        answer = await asyncio.wait_for(reader.readexactly(length), 5)
        writer.close()
        return dns.message.from_wire(answer, one_rr_per_rrset=True)
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return None


@attack("9a", without=edited("dns", "the ACL of zone transfers (a key and an address)", KNOT,
                            "0,/^    key: transfer\\n/s//&/; /^acl:/,/^[a-z]*:/{/key:/d; s/address: .*/address: [ 0.0.0.0\\/0, ::\\/0 ]/}",
                            "knotc reload && sleep 1"))  # fmt: skip
async def copying_the_zone(ground: Ground, seen: Evidence) -> None:
    for host, server in _servers(ground):
        for rtype in (dns.rdatatype.AXFR, dns.rdatatype.IXFR):
            question = dns.message.make_query(ground.domain, rtype)
            if rtype == dns.rdatatype.IXFR:
                question.authority.append(
                    dns.rrset.from_text(f"{ground.domain}.", 0, "IN", "SOA", ". . 1 1 1 1 1")
                )
            answer = await ask_tcp(ground.internet, server, question)
            said = dns.rcode.to_text(answer.rcode()) if answer else "no answer"
            records = len(answer.answer) if answer else 0
            seen.note(f"{host.name} {dns.rdatatype.to_text(rtype)}: {said}, {records} records")
            seen.check(
                records <= 1,
                "no records",
                f"{host.name} {dns.rdatatype.to_text(rtype)}: {said}, {records} records",
            )


@attack("9b")
async def borrowing_the_name_server(ground: Ground, seen: Evidence) -> None:
    targets = [*_servers(ground), (ground.role("mta"), ground.door)]
    for host, server in targets:
        answer = await ask_tcp(ground.internet, server, dns.message.make_query("internet.test", "MX"))
        if answer is None:
            seen.check(held=True, expected="no recursion", observed=f"{host.name}: no answer")
            continue
        recursive = bool(answer.flags & dns.flags.RA) or bool(answer.answer)
        seen.check(
            not recursive, "REFUSED, no recursion", f"{host.name}: {dns.rcode.to_text(answer.rcode())}"
        )


@attack(
    "9d",
    without=edited(
        "dns",
        "response rate limiting",
        KNOT,
        "s/, mod-rrl\\/default//; s/mod-rrl\\/default, //",
        "knotc reload && sleep 1",
    ),
)
async def many_fast_questions(ground: Ground, seen: Evidence) -> None:
    host, server = _servers(ground)[0]
    made = ground.internet.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**21)
    # by IPv4 from an address of its own, so that nobody else is limited
    if source := ground.internet.fresh_source():
        made.bind((source, 0))
    loop = asyncio.get_running_loop()
    truncated = whole = 0
    try:
        for number in range(600):
            question = dns.message.make_query(ground.domain, "MX", use_edns=False)
            question.id = number
            await loop.sock_sendto(made, question.to_wire(), (server, 53))
        while True:
            data = await asyncio.wait_for(loop.sock_recv(made, 4096), 1.5)
            answer = dns.message.from_wire(data, ignore_trailing=True)
            if answer.flags & dns.flags.TC:
                truncated += 1
            else:
                whole += 1
    except TimeoutError:
        pass
    finally:
        made.close()
    seen.note(f"{host.name}: 600 questions, {whole} answers, {truncated} truncated")
    seen.check(whole < 400, "most are dropped or truncated", f"{whole} whole answers to 600 questions")
    seen.check(
        truncated > 0, "some are truncated, so that real resolvers come by TCP", f"{truncated} truncated"
    )


@attack("9e")
async def small_question_large_answer(ground: Ground, seen: Evidence) -> None:
    for host, server in _servers(ground):
        made = ground.internet.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.setblocking(False)
        loop = asyncio.get_running_loop()
        try:
            question = dns.message.make_query(
                ground.domain, "ANY", use_edns=0, payload=4096, want_dnssec=True
            )
            wire = question.to_wire()
            await loop.sock_sendto(made, wire, (server, 53))
            data = await asyncio.wait_for(loop.sock_recv(made, 65535), 3)
            factor = len(data) / len(wire)
            seen.check(
                len(data) <= 1232,
                "1232 bytes at most",
                f"{host.name}: {len(wire)} bytes became {len(data)} (x{factor:.0f})",
            )
        except TimeoutError:
            seen.check(held=True, expected="1232 bytes at most", observed=f"{host.name}: no answer")
        finally:
            made.close()
