"""A-BOF: probing commands, overlong and malformed input, ambiguous ends of data (essay 3.1.2)."""

import asyncio
import base64
import random
import re
from functools import partial

from outpost_lab.attack.catalogue import attack, words
from outpost_lab.attack.evidence import Evidence
from outpost_lab.attack.ground import HELLO, Ground, compose, token
from outpost_lab.attack.wire import CLOSED, SILENT, Reply, Session, catching, unverified

AT_ONCE = 16
ENDINGS = {name: ending.encode() for name, ending in words()["2g"]["endings"].items()}


@attack("2r")
async def guessing_recipients_in_many_sessions(ground: Ground, seen: Evidence) -> None:
    """Each session ends after ten guesses; a network that continues in other sessions learns no more."""
    limit, each = ground.office.limits.unknown_recipients, 8
    sessions = (limit + 60) // each

    async def one(number: int) -> list[Reply]:
        async with await ground.smtp(seen) as session:
            await session.say("MAIL FROM:<guesser@internet.test>")
            guesses = [f"RCPT TO:<g{number}-{guess}@{ground.domain}>" for guess in range(each)]
            return [reply for _, reply in await session.say_all([*guesses, f"RCPT TO:<{ground.someone()}>"])]

    answers = [reply for replies in await asyncio.gather(*map(one, range(sessions))) for reply in replies]
    named = sum(reply.code in (250, 550) for reply in answers)
    seen.check(named <= limit * 6 // 5 + sessions, f"{named} of {len(answers)}")
    async with await ground.smtp(seen) as session:
        await session.say("MAIL FROM:<guesser@internet.test>")
        for guess in range(each):  # the limit refills with time: first use up what has come back
            if (await session.say(f"RCPT TO:<last{guess}@{ground.domain}>")).code == 450:
                break
        seen.expect(await session.say(f"RCPT TO:<{ground.someone()}>"), "450 4.7.1")


async def _memory(ground: Ground) -> int:
    """Resident memory of the MTA's largest smtpd, in kB."""
    return int(await ground.on_mta("ps -C smtpd,postscreen -o rss= | sort -n | tail -n 1") or 0)


@attack("2c")
async def a_mebibyte_of_address(ground: Ground, seen: Evidence) -> None:
    async with await ground.smtp(seen) as session:
        await session.say("NOOP")
        before = await _memory(ground)
        await session.send(b"MAIL FROM:<" + b"a" * 2**20 + b"@internet.test>\r\n")
        seen.expect(await session.reply(), "501 5.1.7", "500 5.5.2", "421", "closed")
        growth = await _memory(ground) - before
        seen.check(growth < 10 * 1024, f"{growth} kB more")
    await ground.greeted(seen, ground.internet)


@attack("2f")
async def zeros_and_high_bytes(ground: Ground, seen: Evidence) -> None:
    for line in (b"MA\0IL FROM:<>", b"\xff\xfe\xfd", b"MAIL FROM:<\0@internet.test>", b"RCPT TO:<\xff\xff>"):
        async with await ground.smtp(seen) as session:
            await session.send(line + b"\r\n")
            seen.expect(await session.reply(), "500", "501", "502", "503", "553", "221", "closed")


@attack("2g")
async def smuggled_messages(ground: Ground, seen: Evidence) -> None:
    """One message with a second one inside, behind an end of data that only some servers recognise."""
    sent: dict[str, tuple[str, str]] = {}
    for name, ending in ENDINGS.items():
        victim, first, second = ground.victim(), token(), token()
        inner = f"MAIL FROM:<{ground.someone(1)}>\r\nRCPT TO:<{ground.reader()}>\r\nDATA\r\n".encode()
        inner += compose(ground.someone(1), ground.reader(), second)
        async with await ground.smtp(seen, ground.stranger) as session:
            await session.envelope(victim, ground.reader())
            if (await session.say("DATA")).code != 354:
                seen.check(held=False, observed="no DATA")
                continue
            outer = compose(victim, ground.reader(), first).rstrip()
            await session.send(outer + ending + inner + b"\r\n.\r\n")
            replies = [await session.reply()]
            await session.send(b"QUIT\r\n")
            while (more := await session.reply()).code not in (CLOSED, SILENT, 221):
                replies.append(more)
        extra = sum(reply.code in (250, 354) for reply in replies[1:])
        seen.check(not extra, f"{name}: {replies[0].brief}, then {extra} more")
        if name in ("LF.CRLF", "LF.LF", "CRLF.LF"):
            seen.expect(replies[0], "550 5.5.2", "521 5.5.2")
        sent[name] = first, second
    await ground.settled()
    for name, (first, second) in sent.items():
        # the text may arrive as part of the first message
        found = f"grep -rlsF --include='*,S=*' {second} /srv/mail | xargs -r grep -LF {first} | wc -l"
        alone = (await ground.on_store(found)).strip()
        seen.check(alone == "0", f"{name}: {alone} with the second text alone")


@attack("2i")
async def talking_before_the_greeting(ground: Ground, seen: Evidence) -> None:
    # a client that has passed once is not tested again
    newcomer = await ground.newcomer() if ground.info else None
    edge = ground.edge6 if newcomer else ground.edge
    async with await ground.smtp(seen, address=edge, source=newcomer, greeting=False) as session:
        await session.send(b"EHLO robot.hostile.test\r\n")
        replies = [await session.reply(patience=8), await session.reply(patience=2)]
        lines = ["MAIL FROM:<>", f"RCPT TO:<{ground.someone()}>"]
        replies += [reply for _, reply in await session.say_all(lines)]
        final = next((reply for reply in replies if reply.code >= 400 or reply.code == CLOSED), replies[-1])
        seen.expect(final, "550 5.5.1", "521 5.5.1", "521 5.7.1", "closed")


@attack("2k")
async def commands_injected_behind_starttls(ground: Ground, seen: Evidence) -> None:
    async with await ground.smtp(seen) as session:
        await session.send(b"STARTTLS\r\nNOOP injected\r\n")
        answer = await session.reply()
        if answer.code != 220:
            seen.expect(answer, "554", "501", "503", "closed")
            return
        try:
            await session.start_tls(ground.role("mta").fqdn, unverified())
            early = await session.reply(patience=2.0)
            seen.check(early.code in (SILENT, CLOSED), early.brief)
        except (OSError, TimeoutError) as error:
            seen.check(True, f"handshake refused: {type(error).__name__}")


async def _fuzz(ground: Ground, seen: Evidence, sessions: int, seed: int) -> None:
    """Random sessions from a seed: the same number of sessions gives the same commands."""
    # not for secrets, but for the same commands every time
    chance = random.Random(seed)  # noqa: S311
    verbs = [b"EHLO x.test", b"HELO y", b"MAIL FROM:<a@internet.test>", b"RCPT TO:<" + ground.someone().encode() + b">", b"DATA",
             b"RSET", b"NOOP", b"VRFY a", b"EXPN b", b"HELP", b"AUTH PLAIN =", b"STARTTLS", b"XCLIENT ADDR=::1", b"XFORWARD NAME=x",
             b"BDAT 4 LAST", b"QUIT", b"."]  # fmt: skip

    def mangled(line: bytes) -> bytes:
        kind, at = chance.randrange(8), chance.randrange(len(line) + 1)
        return (
            line,
            line[:at] + chance.randbytes(chance.randrange(1, 40)) + line[at:],
            line * chance.randrange(1, 60),
            line[:at],
            line.replace(b"<", b"<" * chance.randrange(1, 400)),
            line + b" " + chance.randbytes(chance.randrange(0, 3000)),
            line.replace(b":", b"\0"),
            bytes(reversed(line)),
        )[kind]

    turn = asyncio.Semaphore(AT_ONCE)

    async def one(lines: list[bytes]) -> int:
        async with turn:
            try:
                source = ground.internet.fresh_source()
                streams = await ground.internet.connect(ground.edge, 25, source=source, patience=30)
                async with Session(streams, patience=6) as session:
                    await session.reply(patience=10)
                    for line in lines:
                        await session.send(line)
                        if (await session.reply(patience=0.25)).code == CLOSED:
                            break
                return len(lines)
            except (OSError, TimeoutError):
                return 0

    ends = (b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"")
    plans = [
        [mangled(chance.choice(verbs)) + chance.choice(ends) for _ in range(chance.randrange(1, 9))]
        for _ in range(sessions)
    ]
    counts = await asyncio.gather(*map(one, plans))
    seen.note(f"({sessions} sessions from seed {seed}, {sum(counts)} lines)")
    answered = sum(map(bool, counts))
    seen.check(answered > sessions * 0.9, f"{answered} of {sessions} sessions spoke")
    await ground.greeted(seen, ground.internet)


attack("2m")(partial(_fuzz, sessions=300, seed=4))
attack("2n")(partial(_fuzz, sessions=10_000, seed=5))


@attack("2o")
async def huge_headers_and_deep_nesting(ground: Ground, seen: Evidence) -> None:
    victim = ground.victim()
    many = "".join(f"X-Padding-{number}: {'y' * 900}\r\n" for number in range(400))
    deep = b"Content-Type: text/plain\r\n\r\ncore\r\n"
    for level in range(120):
        head = b'Content-Type: multipart/mixed; boundary="b%d"\r\n\r\n--b%d\r\n' % (level, level)
        deep = head + deep + b"--b%d--\r\n" % level
    start = f"From: {victim}\r\nTo: {ground.someone()}\r\nSubject: deep\r\nDate: Tue, 3 Nov 2026 10:00:00 +0000\r\nMIME-Version: 1.0\r\n"
    for message in {
        "360 kB of header": compose(victim, ground.someone(), token(), extra=many),
        "120 levels of MIME": start.encode() + deep,
        "20,000 uuencoded files": compose(victim, ground.someone(), token()) + b"begin 644 a\r\n" * 20_000,
        "20,000 uuencoded files in base64": start.encode()
        + b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + base64.encodebytes(b"begin 644 a\r\n" * 20_000).replace(b"\n", b"\r\n"),
        "3000 fields that name an author": compose(
            victim, ground.someone(), token(), extra="Sender: x\r\n" * 3000
        ),
        "1000 authors": compose(f"{victim}{f', {victim}' * 999}", ground.someone(), token()),
    }.values():
        reply = await ground.mail(seen, victim, ground.reader(), message)
        seen.expect(reply, "554 5.7.1", "552 5.", "554 5.6.", "550 5.")
    await ground.nothing_at(victim, seen)


LONG = 20_000


@attack("2q")
async def fields_that_take_minutes_to_read(ground: Ground, seen: Evidence) -> None:
    """Fields whose processing once took the square or cube of their length; three messages at once, more than the filter has workers."""
    plain = compose("x@internet.test", ground.someone(), token())
    kind = b"Content-Type: text/plain; charset=utf-8"
    messages = [
        plain.replace(kind, f'Content-Type: application/octet-stream;\r\n name="{"." * LONG}x"'.encode()),
        plain.replace(kind, f"Content-Type: application/octet-stream;\r\n name{' ' * LONG}".encode()),
        plain.replace(b"From: ", f"From: {'(' * LONG}".encode(), 1),
    ]

    async def one(message: bytes) -> float:
        return (await ground.mail(seen, "x@internet.test", ground.reader(), message)).seconds

    idle = await one(plain)
    seen.in_time(max(await asyncio.gather(*map(one, messages))), 5, idle, "judged after")


@attack("2s")
async def a_message_with_a_nul(ground: Ground, seen: Evidence) -> None:
    message = compose("x@internet.test", ground.someone(), token()) + b"one\0two\r\n"
    seen.expect(await ground.mail(seen, "x@internet.test", ground.reader(), message), "550 5.", "554 5.")


@attack("2p")
async def a_user_lets_the_office_smuggle(ground: Ground, seen: Evidence) -> None:
    """What a user's program wrote between two real line ends must not become a line end elsewhere."""
    own = f"carol@{ground.domain}"
    async with catching(ground.internet) as caught:

        async def arrived() -> int:
            return len(caught)

        for name, ending in ENDINGS.items():
            async with await ground.submission(seen, "carol") as session:
                await session.envelope(own, f"x@{HELLO}")
                if (await session.say("DATA")).code != 354:
                    seen.check(held=False, observed=f"{name}: no DATA")
                    continue
                text = compose(own, f"x@{HELLO}", token()).rstrip() + ending
                smuggled = text + b"MAIL FROM:<smuggled@internet.test>\r\n.\r\n"
                await session.send(smuggled, shown=f"(a message with {name})")
                seen.note(f"{name}: {(await session.reply()).brief}")
        await ground.settled()
        await ground.until(arrived, patience=5)
    stray = sum(bool(re.search(rb"(?<!\r)\n|\r(?!\n)", message)) for message in caught)
    seen.check(not stray, f"{stray} of {len(caught)} messages with one")
