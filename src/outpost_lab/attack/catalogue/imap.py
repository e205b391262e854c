"""A-IMAP: reading somebody's mail on the way in (essay 1.2)."""

from __future__ import annotations

import asyncio

from outpost.office import ports
from outpost_lab.attack.evidence import Evidence
from outpost_lab.attack.ground import Ground
from outpost_lab.attack.registry import attack
from outpost_lab.attack.weakness import Weakness, edited
from outpost_lab.attack.wire import Session, unverified

OPEN_143 = Weakness(
    role="store",
    what="port 143 open, cleartext logins allowed",
    keeps=("/etc/dovecot/dovecot.conf", "/etc/nftables.conf"),
    steps="sed -i -z -E 's/(service imap-login \\{\\n  # [^\\n]*\\n  inet_listener imap \\{\\n    port = )0/\\1143/; "
    "s/\\nssl = required\\n/\\nssl = yes\\nauth_allow_cleartext = yes\\n/' /etc/dovecot/dovecot.conf; "
    "sed -i -E 's/tcp dport 993/tcp dport { 143, 993 }/' /etc/nftables.conf",
    activate="nft -f /etc/nftables.conf; doveadm reload; systemctl restart dovecot",
)


async def _line(session: Session) -> str:
    line = (await asyncio.wait_for(session.reader.readline(), 10)).decode(errors="replace").rstrip()
    session.note(f"S: {line[:200]}")
    return line


async def _ask(session: Session, command: str, *, told: str | None = None) -> str:
    """A tagged command and its tagged answer."""
    await session.send(f"a {command}\r\n".encode(), told=told or command[:200])
    while True:
        line = await _line(session)
        if not line or line.startswith(("a ", "* BYE")):
            return line


@attack("9f", without=OPEN_143)
async def imap_without_tls(ground: Ground, seen: Evidence) -> None:
    for port in (143, 110):
        try:
            streams = await ground.lan.connect(ground.store, port, patience=3)
        except (OSError, TimeoutError) as error:
            seen.check(
                held=True, expected="no clear-text port", observed=f"port {port}: {type(error).__name__}"
            )
            continue
        async with Session(streams, seen.session()) as session:
            await _line(session)
            said = await _ask(
                session,
                f"LOGIN carol@{ground.domain} {ground.password(f'carol@{ground.domain}')}",
                told="LOGIN carol (password)",
            )
            seen.check(not said.startswith("a OK"), "no login without TLS", said)
            seen.check(held=False, expected="no clear-text port", observed=f"port {port} answers")


@attack("9g")
async def the_store_from_outside(ground: Ground, seen: Evidence) -> None:
    """Mailboxes have no address on the Internet, nor in the client's network."""
    host = ground.role("store")
    for vantage in (ground.internet, ground.client):
        for address in (*host.all_addresses, *ground.role("mta").all_addresses):
            for port in (ports.IMAPS, ports.SUBMISSIONS, ports.LMTP, ports.MANAGESIEVE):
                try:
                    streams = await vantage.connect(str(address), port, patience=1)
                except (OSError, TimeoutError):
                    continue
                streams[1].close()
                seen.check(
                    held=False, expected="out of reach", observed=f"{vantage.name} reaches {address}:{port}"
                )
    seen.check(held=True, expected="out of reach", observed="no port of the store can be reached")


@attack("9h")
async def malformed_imap(ground: Ground, seen: Evidence) -> None:
    lines = (b"a LOGIN {99999999999}\r\n", b"a LOGIN \"" + b"x" * 70000 + b"\" y\r\n", b"\0\xff\r\n", b"a AUTHENTICATE PLAIN\r\n\xff\xff\r\n",
             b"a " + b"(" * 5000 + b"\r\n", b"* BYE\r\n")  # fmt: skip
    for data in lines:
        async with Session(await ground.lan.connect(ground.store, ports.IMAPS), seen.session()) as session:
            await session.start_tls(ground.role("store").fqdn, unverified())
            await _line(session)
            await session.send(data)
            said = await _line(session)
            seen.check(not said.startswith("a OK"), "NO, BAD or the end", said[:80] or "closed")
    async with Session(await ground.lan.connect(ground.store, ports.IMAPS), seen.session()) as session:
        await session.start_tls(ground.role("store").fqdn, ground.trust)
        seen.check((await _line(session)).startswith("* OK"), "the next client is greeted", "greeted")


@attack("9i", without=edited("store", "mail_max_userip_connections = 0", "/etc/dovecot/dovecot.conf",
                            "s/^mail_max_userip_connections = .*/mail_max_userip_connections = 0/", "doveadm reload && sleep 1"))  # fmt: skip
async def one_user_takes_all_sessions(ground: Ground, seen: Evidence) -> None:
    """Dave's program opens session after session and closes none; carol reads her mail meanwhile."""
    limit = ground.office.limits.imap_connections_per_user

    async def log_in(name: str) -> tuple[Session, str]:
        session = Session(await ground.lan.connect(ground.store, ports.IMAPS), lambda _line: None)
        await session.start_tls(ground.role("store").fqdn, ground.trust)
        await session.reader.readline()
        secret = ground.password(f"{name}@{ground.domain}")
        await session.send(f'a LOGIN "{name}@{ground.domain}" "{secret}"\r\n'.encode())
        answer = ""
        while not answer.startswith(("a ", "* BYE")):
            answer = (await asyncio.wait_for(session.reader.readline(), 30)).decode().rstrip()
            if not answer:
                break
        return session, answer

    opened = []
    try:
        for _ in range(limit + 5):
            opened.append(await log_in("dave"))
        taken = sum(answer.startswith("a OK") for _, answer in opened)
        seen.note(f"(session {limit + 1}: {opened[limit][1]})")
        seen.check(taken <= limit, f"{limit} sessions at most", f"{taken} sessions of {limit + 5}")
        opened.append(await log_in("carol"))
        answer = opened[-1][1]
        seen.check(answer.startswith("a OK"), "a colleague logs in meanwhile", answer[:60])
    finally:
        for session, _ in opened:
            session.close()
