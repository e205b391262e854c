"""A-AMP: one message that becomes many (essay 3.1.6)."""

import asyncio
import time

from outpost_lab.attack.catalogue import attack
from outpost_lab.attack.evidence import Evidence
from outpost_lab.attack.ground import LINE, Ground, compose, token
from outpost_lab.attack.wire import CLOSED, taken_and_last


@attack("6a")
async def fifty_recipients_are_one_transaction(ground: Ground, seen: Evidence) -> None:
    own, mark = f"carol@{ground.domain}", token()
    count = min(50, ground.office.limits.recipients_per_message)
    domain = "internet.test"
    async with await ground.submission(seen, "carol") as session:
        await session.say(f"MAIL FROM:<{own}>")
        replies = await session.say_all([f"RCPT TO:<reader-{number}@{domain}>" for number in range(count)])
        seen.expect_all(replies, "250")
        seen.expect(await session.message(compose(own, f"team@{domain}", mark) + LINE * 15000), "250")
    await ground.settled(patience=60)
    files = f"grep -rlF {mark} /var/mail/{domain}"
    for _ in range(60):  # that server needs some time to write fifty files
        arrived = len((await ground.on("internet", files)).split())
        if arrived >= count:
            break
        await asyncio.sleep(0.5)
    trace = await ground.on("internet", f"{files} | xargs -r grep -hoE 'with E?SMTPS? id [0-9A-Za-z]+'")
    transactions = {line.split()[-1] for line in trace.splitlines()}
    received = await ground.on(  # trace lines of earlier servers have other ids
        "internet",
        "journalctl --quiet --no-pager -o cat -t postfix/smtpd --since=-5min | grep -oE '^[0-9A-Za-z]+: client='",
    )
    own_ids = transactions & {line.partition(":")[0] for line in received.splitlines()}
    seen.check(arrived == count, f"{arrived} have it")
    seen.check(len(own_ids) == 1, f"{len(own_ids)} transactions")
    await ground.on("internet", f"{files} | xargs -r rm")


@attack("6c")
async def a_thousand_recipients_from_a_user(ground: Ground, seen: Evidence) -> None:
    cap = ground.office.limits.recipients_per_message
    async with await ground.submission(seen, "carol") as session:
        await session.say(f"MAIL FROM:<carol@{ground.domain}>")
        replies = []
        for number in range(1100):
            replies.append(await session.say(f"RCPT TO:<reader-{number}@internet.test>"))
            if replies[-1].code in (CLOSED, 421) or sum(not reply.good for reply in replies) > 20:
                break
        await session.say("RSET")
    taken, beyond = taken_and_last(replies)
    seen.check(taken <= cap, f"{taken} recipients taken")
    seen.expect(beyond, "452 4.5.3", "451 4.5.3", "550 5.5.3")


@attack("6d")
async def lists_are_expanded_for_members_only(ground: Ground, seen: Evidence) -> None:
    """The office's aliases have few members; no address of an outsider expands beyond the limit."""
    settings = await ground.on_mta("postconf -h virtual_alias_expansion_limit virtual_alias_recursion_limit")
    expansion, recursion = (int(word) for word in settings.split())
    seen.check(expansion <= 200, f"{expansion}")
    seen.check(recursion <= 10, f"{recursion}")
    members = (len(ground.office.expand(alias.address)) for alias in ground.office.all_aliases)
    largest = max(members, default=0)
    seen.check(largest <= expansion, f"the largest has {largest} members")


@attack("6f")
async def a_large_message_to_many_destinations(ground: Ground, seen: Evidence) -> None:
    """Bytes times destinations is the cost of a message on the line (AMP-05)."""
    budget = int(ground.office.limits.message_budget)
    size = int(ground.office.limits.message_size) - 2**20
    count = min(budget // size + 5, ground.office.limits.recipients_per_message)
    async with await ground.submission(seen, "carol") as session:
        own = f"carol@{ground.domain}"
        recipients = [f"RCPT TO:<reader@domain{number}.internet.test>" for number in range(count)]
        reply = await session.while_good(f"MAIL FROM:<{own}> SIZE={size}", *recipients)
        if reply.good:
            body = compose(own, "list@internet.test", token()) + LINE * (size // len(LINE) - 100)
            reply = await session.message(body, patience=180)
        seen.expect(reply, "552 5.3.4", "452 5.3.4", "451 4.7.1", "450 4.7.1")
    await ground.drop_mail_to("internet.test")


@attack("6b")
async def a_large_message_over_the_line(ground: Ground, seen: Evidence) -> None:
    """Three MiB leave no faster than the line carries them, and other users of the line do not wait (AMP-03)."""
    own, reader, mark, size = f"carol@{ground.domain}", ground.victim(), token(), 3 * 2**20
    async with await ground.submission(seen, "carol") as session:
        message = compose(own, reader, mark) + LINE * (size // len(LINE))
        seen.expect(await session.deliver(own, reader, message), "250")
    started = time.monotonic()
    await ground.until(lambda: ground.sink(reader), patience=120)
    took = time.monotonic() - started
    rate = size * 8 / 1000 / took
    seen.check(rate <= ground.office.link.rate_kbit, f"{size >> 20} MiB in {took:.0f} s: {rate:.0f} kbit/s")
