"""A-DNS: copying the zone, borrowing the resolver, aiming answers at others (essay 4.0)."""

import asyncio
import socket
from contextlib import suppress

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype

from outpost.office.tables.topology import Host
from outpost_lab.attack.catalogue import attack
from outpost_lab.attack.evidence import Evidence
from outpost_lab.attack.ground import Ground
from outpost_lab.attack.wire import Session, Vantage


def _servers(ground: Ground) -> list[tuple[Host, str]]:
    addresses, hosts = ground.office.addresses_of_kind, ground.office.with_role("dns")
    return [(host, str(addresses(host, "internet")[0])) for host in hosts]


def _udp(vantage: Vantage) -> socket.socket:
    made = vantage.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setblocking(False)
    return made


async def ask_tcp(vantage: Vantage, server: str, question: dns.message.Message) -> dns.message.Message | None:
    """An answer over TCP; None if there is none."""
    with suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
        async with Session(await vantage.connect(server, 53, patience=5)) as session, asyncio.timeout(10):
            session.writer.write(question.to_wire(prepend_length=True))
            length = int.from_bytes(await session.reader.readexactly(2), "big")
            return dns.message.from_wire(await session.reader.readexactly(length), one_rr_per_rrset=True)
    return None


@attack("9a")
async def copying_the_zone(ground: Ground, seen: Evidence) -> None:
    for host, server in _servers(ground):
        for rtype in (dns.rdatatype.AXFR, dns.rdatatype.IXFR):
            question = dns.message.make_query(ground.domain, rtype)
            if rtype == dns.rdatatype.IXFR:
                serial = dns.rrset.from_text(f"{ground.domain}.", 0, "IN", "SOA", ". . 1 1 1 1 1")
                question.authority.append(serial)
            answer = await ask_tcp(ground.internet, server, question)
            status = dns.rcode.to_text(answer.rcode()) if answer else "no answer"
            records = len(answer.answer) if answer else 0
            seen.note(observed := f"{host.name} {dns.rdatatype.to_text(rtype)}: {status}, {records} records")
            seen.check(records <= 1, observed)


@attack("9b")
async def borrowing_the_name_server(ground: Ground, seen: Evidence) -> None:
    for host, server in (*_servers(ground), (ground.role("mta"), ground.edge)):
        answer = await ask_tcp(ground.internet, server, dns.message.make_query("internet.test", "MX"))
        recursive = answer and (answer.flags & dns.flags.RA or answer.answer)
        status = dns.rcode.to_text(answer.rcode()) if answer else "no answer"
        seen.check(not recursive, f"{host.name}: {status}")


@attack("9d")
async def many_fast_questions(ground: Ground, seen: Evidence) -> None:
    host, server = _servers(ground)[0]
    loop, truncated, answers = asyncio.get_running_loop(), 0, 0
    with _udp(ground.internet) as made, suppress(TimeoutError):
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**21)
        # by IPv4 from a separate address, so that no other test is limited
        if source := ground.internet.fresh_source():
            made.bind((source, 0))
        for number in range(600):
            question = dns.message.make_query(ground.domain, "MX", use_edns=False)
            question.id = number
            await loop.sock_sendto(made, question.to_wire(), (server, 53))
        while True:
            data = await asyncio.wait_for(loop.sock_recv(made, 4096), 1.5)
            truncated += bool(dns.message.from_wire(data, ignore_trailing=True).flags & dns.flags.TC)
            answers += 1
    whole = answers - truncated
    seen.note(f"{host.name}: 600 questions, {whole} answers, {truncated} truncated")
    seen.check(whole < 400, f"{whole} whole answers to 600 questions")
    seen.check(truncated > 0, f"{truncated} truncated")


@attack("9e")
async def small_question_large_answer(ground: Ground, seen: Evidence) -> None:
    question = dns.message.make_query(ground.domain, "ANY", use_edns=0, payload=4096, want_dnssec=True)
    wire, loop = question.to_wire(), asyncio.get_running_loop()
    for host, server in _servers(ground):
        with _udp(ground.internet) as made:
            await loop.sock_sendto(made, wire, (server, 53))
            try:
                length = len(await asyncio.wait_for(loop.sock_recv(made, 65535), 3))
                observed = f"{len(wire)} bytes became {length} (x{length / len(wire):.0f})"
            except TimeoutError:
                length, observed = 0, "no answer"
        seen.check(length <= 1232, f"{host.name}: {observed}")
