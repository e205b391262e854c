"""A-DSN: making the office send notifications to people who never wrote (essay 3.1.1)."""

import asyncio
from collections import Counter
from collections.abc import Callable
from functools import partial

from imap_tools import AND

from outpost.errors import OutpostError
from outpost.office import ports
from outpost_lab.attack import content
from outpost_lab.attack.catalogue import attack
from outpost_lab.attack.evidence import Evidence
from outpost_lab.attack.ground import LINE, SINK, Ground, compose, token
from outpost_lab.attack.wire import Reply, Session

SESSIONS = 12


@attack("1a")
async def forged_senders_to_unknown_recipients(ground: Ground, seen: Evidence) -> None:
    victim = ground.victim()

    async def one() -> list[tuple[str, Reply]]:
        async with await ground.smtp(seen) as session:
            await session.say(f"MAIL FROM:<{victim}>")
            unknown = [f"RCPT TO:<nobody-{number}@{ground.domain}>" for number in range(12)]
            replies = await session.say_all(unknown)
            if any(reply.code == 250 for _, reply in replies):
                await session.message(compose(victim, f"nobody@{ground.domain}", token()))
            return replies

    sessions = await asyncio.gather(*(one() for _ in range(SESSIONS)))
    refused = [exchange for session in sessions for exchange in session]
    seen.expect_all(refused, "550 5.1.1", "450 4.7.1", "421 4.7.0")
    codes = Counter(reply.code for _, reply in refused)
    seen.check(codes[421] > 0, f"{codes[550]} refusals, {codes[421]} times cut off")
    await ground.settled()
    await ground.nothing_at(victim, seen)


@attack("1j")
async def recipients_that_the_store_cannot_read(ground: Ground, seen: Evidence) -> None:
    """The MTA must not accept what the store refuses: the bounce would go to a sender who may be forged."""
    victim, local, domain = ground.victim(), ground.someone(2).partition("@")[0], ground.domain
    tags = [b"\x01", b"\x7f", b"\x80", "é".encode(), b"\x85", b"\xff"]
    tags += [b"a..b", b"a.", b"x" * 60, b"a\x0bb", b"(c)", b"["]
    forms = [f"{local}+".encode() + tag + f"@{domain}".encode() for tag in tags]
    forms += [f'"{local}{more}"@{domain}'.encode() for more in ("+a b", '+\\"', "+\t")]

    async def ask(session: Session, sender: str, recipient: bytes) -> None:
        await session.say(f"MAIL FROM:<{sender}>")
        await session.send(b"RCPT TO:<" + recipient + b">\r\n")
        answer = await session.reply()
        seen.expect(answer, "501 5.1.3", "553 5.6.7", "500 5.5.2", "550 5.1.1")
        if answer.good:
            await session.message(compose(sender, local, token()))
        else:
            await session.say("RSET")

    for recipient in forms:
        async with await ground.smtp(seen, ground.stranger) as session:
            await ask(session, victim, recipient)
    async with await ground.submission(seen, "carol") as session:
        for recipient in forms[:3]:
            await ask(session, f"carol@{domain}", recipient)
    await ground.settled()
    await ground.nothing_at(victim, seen)


@attack("1b")
async def a_full_mailbox_is_known_at_rcpt(ground: Ground, seen: Evidence) -> None:
    user = ground.user("dave")
    mebibyte = b"0123456789abcdef" * 64 * 1024
    filling = compose(user.address, user.address, token())

    def fill() -> int:
        taken = 0
        with user.mailbox() as box:
            for size in (14, 1):
                for _ in range(14):
                    try:
                        box.append(filling + mebibyte * size, "Archive")
                    except Exception:  # the store uses its own text for it: over quota
                        break
                    taken += size
        return taken

    def empty() -> None:
        with user.mailbox() as box:
            for folder in ("Archive", "INBOX"):
                box.folder.set(folder)
                box.delete(box.uids(AND(all=True)))

    filled = await asyncio.to_thread(fill)
    seen.note(f"(filled the mailbox of {user.address} by IMAP: {filled} MiB)")
    victim, mark = ground.victim(), token()
    try:
        # folded lines: Postfix would cut longer ones
        message = compose(victim, user.address, token()) + LINE * 2**15
        seen.expect(await ground.mail(seen, victim, user.address, message), "250")
        await ground.settled()
        async with await ground.smtp(seen, ground.stranger) as session:
            answer = await session.envelope(victim, user.address)
            seen.expect(answer, "452 4.2.2", "552 5.2.2")
            seen.expect(await session.say(f"RCPT TO:<{ground.someone(2)}>"), "250")
            if answer.code == 250:
                await session.message(compose(victim, user.address, mark) + b"x" * 76 * 1000)
        await ground.nothing_at(victim, seen)
    finally:
        await asyncio.to_thread(empty)


TRACE = "".join(
    f"Received: from hop{n}.invalid by hop{n + 1}.invalid; Tue, 3 Nov 2026 10:00:{n % 60:02} +0000\r\n"
    for n in range(120)
).encode()


async def _refused(
    ground: Ground, seen: Evidence, made: Callable[[bytes], bytes], expected: tuple[str, ...]
) -> None:
    """Variants of an ordinary message with a forged sender: none is accepted, and none is returned."""
    victim, mark = ground.victim(), token()
    message = made(compose(victim, ground.reader(), mark))
    seen.expect(await ground.mail(seen, victim, ground.reader(), message), *expected)
    await ground.nothing_at(victim, seen)
    await ground.settled()
    await ground.undelivered(mark, seen)


for id_, made, expected in (
    ("1e", lambda plain: plain + content.eicar() + b"\r\n", ("554 5.7.1",)),
    ("1f", lambda plain: TRACE + plain, ("554 5.4.0", "550 5.4.0", "554 5.4.6")),
    ("1h", lambda plain: plain + content.gtube() + b"\r\n", ("554 5.7.1", "550 5.7.1")),
):
    attack(id_)(partial(_refused, made=made, expected=expected))


SCRIPT = 'require "vacation"; vacation :days 1 :subject "away" "I am on leave.";'
ENDS = ("OK", "NO", "BYE")
"""Beginnings of the last line of a ManageSieve answer (RFC 5804, section 1.3)."""


async def authenticate(ground: Ground, session: Session, name: str) -> None:
    command = f'AUTHENTICATE "PLAIN" "{ground.secret(name)}"\r\n'
    await session.send(command.encode(), shown=f"AUTHENTICATE PLAIN (as {name})")


async def filtered(ground: Ground, seen: Evidence, script: str) -> None:
    """Make a script carol's active filter by ManageSieve (RFC 5804); an empty script removes it."""
    put = f'PUTSCRIPT "attack" {{{len(script)}+}}\r\n{script}\r\n', 'SETACTIVE "attack"\r\n'
    gone = 'SETACTIVE ""\r\n', 'DELETESCRIPT "attack"\r\n'
    streams = await ground.lan.connect(ground.store, ports.MANAGESIEVE)
    async with Session(streams, seen.session()) as session:
        await session.lines(*ENDS)
        await session.send(b"STARTTLS\r\n")
        await session.lines(*ENDS)
        await session.start_tls(ground.role("store").fqdn, ground.trust)
        await session.lines(*ENDS)
        await authenticate(ground, session, "carol")
        for command in ("", *(put if script else gone)):
            if command:
                await session.send(command.encode())
            if not (lines := await session.lines(*ENDS))[-1].startswith("OK"):
                raise OutpostError(f"ManageSieve: {lines[-1]}")


@attack("1g")
async def automatic_replies(ground: Ground, seen: Evidence) -> None:
    """Carol is away. Her answer goes once to each person who wrote to her, and never to robots, lists and bounces."""
    await filtered(ground, seen, SCRIPT)
    recipient = f"carol@{ground.domain}"
    silent = {
        "a list": "List-Id: <team.internet.test>\r\nPrecedence: list\r\n",
        "a robot": "Auto-Submitted: auto-generated\r\n",
        "bulk mail": "Precedence: bulk\r\n",
    }
    victims: dict[str, str] = {}
    person = ground.victim()
    try:
        for name, extra in {**silent, "a person": "", "the same person again": "", "a bounce": ""}.items():
            sender = "" if name == "a bounce" else person if "person" in name else ground.victim()
            victims[name] = sender
            message = compose(sender or "someone@internet.test", recipient, token(), extra=extra)
            seen.expect(await ground.mail(seen, sender, recipient, message), "250")
        await ground.settled()
        await ground.until(lambda: ground.sink(person), patience=10)  # her answer to the person
        await ground.settled()
        got = await ground.sink(person)
        seen.check(got == 1, f"{got} answers")
        for name in silent:
            got = await ground.sink(victims[name])
            seen.check(got == 0, f"{got} answers to {name}")
    finally:
        await filtered(ground, seen, "")


KEPT = "/root/outpost-attack-kept"


@attack("1i")
async def who_is_behind_an_alias(ground: Ground, seen: Evidence) -> None:
    """An alias has dave as a member, whom the store does not know for a moment. The bounce must not reveal the member."""
    alias, member, store = ground.office.all_aliases[0], f"dave@{ground.domain}", ground.role("store")
    hidden = next(iter(ground.office.expand(alias.address))).partition("@")[0]
    await ground.on_mta(
        f"set -e; mkdir -m 0700 {KEPT}; cp -a /etc/postfix/aliases /etc/postfix/notices {KEPT}; cd /etc/postfix; "
        f"sed -i 's/^{alias.address} .*/{alias.address} {member}/' aliases; "
        f"{{ grep -E '{hidden}@' {KEPT}/notices | sed 's/{hidden}@/dave@/g'; cat {KEPT}/notices; }} > notices; "
        "systemctl reload postfix.service; sleep 1"
    )
    await ground.on_store(f"cp -a /etc/dovecot/users {KEPT}; sed -i '/^{member}:/d' /etc/dovecot/users")
    victim = ground.victim()
    box = f"/var/mail/{SINK}/{victim.partition('@')[0]}/new"
    try:
        message = compose(victim, alias.address, token())
        seen.expect(await ground.mail(seen, victim, alias.address, message), "250")
        await ground.until(lambda: ground.sink(victim), patience=40)
        notice = await ground.on("internet", f"cat {box}/* 2>/dev/null | sed '1,/^$/d'")
    finally:
        users = "/etc/dovecot/users"
        back = f"cp -a {KEPT} {users}.new && mv {users}.new {users}; rm {KEPT}"
        await ground.on_store(f"[ ! -e {KEPT} ] || {{ {back}; }}")
        back = f"cp -a {KEPT}/aliases {KEPT}/notices /etc/postfix/; rm -r {KEPT}"
        await ground.on_mta(f"{back}; systemctl reload postfix.service; sleep 1")
    seen.check(alias.address in notice, f"{len(notice)} octets")
    link = map(str, ground.office.link_addresses(store, ground.role("mta")))
    observed = [word for word in (member, store.fqdn, *link) if word in notice]
    seen.check(not observed, "nothing internal", f"it shows {', '.join(observed)}")
    for line in notice.splitlines()[:60]:
        seen.note(f"notice: {line}")
