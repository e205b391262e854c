"""A-IMAP: reading somebody else's mail by IMAP (essay 1.2)."""

import asyncio
import ssl
from collections.abc import Callable
from itertools import product

from outpost.office import ports
from outpost_lab.attack.catalogue import attack
from outpost_lab.attack.evidence import Evidence
from outpost_lab.attack.ground import Ground
from outpost_lab.attack.wire import Session, unverified


async def _log_in(ground: Ground, session: Session, name: str) -> str:
    """The tagged answer to a right LOGIN, or the last line before the end."""
    address = f"{name}@{ground.domain}"
    command = f'a LOGIN "{address}" "{ground.password(address)}"\r\n'
    await session.send(command.encode(), shown=f"LOGIN {name} (password)")
    return (await session.lines("a ", "* BYE", patience=30))[-1]


async def _imaps(ground: Ground, note: Callable[[str], None], trust: ssl.SSLContext) -> tuple[Session, str]:
    session = Session(await ground.lan.connect(ground.store, ports.IMAPS), note)
    await session.start_tls(ground.role("store").fqdn, trust)
    return session, await session.line()


@attack("9f")
async def imap_without_tls(ground: Ground, seen: Evidence) -> None:
    for port in (143, 110):
        try:
            streams = await ground.lan.connect(ground.store, port, patience=3)
        except (OSError, TimeoutError) as error:
            seen.check(True, f"port {port}: {type(error).__name__}")
            continue
        async with Session(streams, seen.session()) as session:
            await session.line()
            answer = await _log_in(ground, session, "carol")
            seen.check(not answer.startswith("a OK"), answer)
            seen.check(False, f"port {port} answers")


@attack("9g")
async def the_store_from_outside(ground: Ground, seen: Evidence) -> None:
    """Mailboxes have no address on the Internet, nor in the client's network."""
    addresses = {str(item) for role in ("store", "mta") for item in ground.role(role).all_addresses}
    wanted = ports.IMAPS, ports.SUBMISSIONS, ports.LMTP, ports.MANAGESIEVE
    tried = list(product((ground.internet, ground.client), addresses, wanted))
    answers = await asyncio.gather(*(ground.silence(*each, patience=1) for each in tried))
    for (vantage, address, port), why in zip(tried, answers, strict=True):
        if not why:
            seen.check(False, f"{vantage.name} reaches {address}:{port}")
    seen.check(True, "no port of the store can be reached")


@attack("9h")
async def malformed_imap(ground: Ground, seen: Evidence) -> None:
    lines = (b"a LOGIN {99999999999}\r\n", b"a LOGIN \"" + b"x" * 70000 + b"\" y\r\n", b"\0\xff\r\n", b"a AUTHENTICATE PLAIN\r\n\xff\xff\r\n",
             b"a " + b"(" * 5000 + b"\r\n", b"* BYE\r\n")  # fmt: skip
    for data in lines:
        session, _ = await _imaps(ground, seen.session(), unverified())
        async with session:
            await session.send(data)
            answer = await session.line()
            seen.check(not answer.startswith("a OK"), answer[:80] or "closed")
    session, greeting = await _imaps(ground, seen.session(), ground.trust)
    session.close()
    seen.check(greeting.startswith("* OK"), "greeted")


@attack("9i")
async def one_user_takes_all_sessions(ground: Ground, seen: Evidence) -> None:
    """Dave's program opens session after session and closes none; carol reads her mail meanwhile."""
    limit = ground.office.limits.imap_connections_per_user

    async def log_in(name: str) -> tuple[Session, str]:
        session, _ = await _imaps(ground, lambda _line: None, ground.trust)
        return session, await _log_in(ground, session, name)

    opened = []
    try:
        for _ in range(limit + 5):
            opened.append(await log_in("dave"))
        taken = sum(answer.startswith("a OK") for _, answer in opened)
        seen.note(f"(session {limit + 1}: {opened[limit][1]})")
        seen.check(taken <= limit, f"{taken} sessions of {limit + 5}")
        opened.append(await log_in("carol"))
        answer = opened[-1][1]
        seen.check(answer.startswith("a OK"), answer[:60])
    finally:
        for session, _ in opened:
            session.close()
