"""A-REL: sending through the office without a right to (essay 3.1.5)."""

import asyncio
import time

from outpost.office import ports
from outpost_lab.attack.catalogue import attack, words
from outpost_lab.attack.catalogue.dsn import ENDS, authenticate
from outpost_lab.attack.evidence import Evidence
from outpost_lab.attack.ground import Ground, compose, token
from outpost_lab.attack.probe import percentile
from outpost_lab.attack.wire import Reply, Session, plain, unverified


@attack("5a")
async def address_tricks(ground: Ground, seen: Evidence) -> None:
    forms = [form.format(**ground.words) for form in words()["5a"]["forms"]]

    async def some(part: list[str], sender: str) -> list[tuple[str, Reply]]:
        async with await ground.smtp(seen) as session:
            await session.say(f"MAIL FROM:<{sender}>")
            return [(form, await session.say(f"RCPT TO:<{form}>")) for form in part]

    parts = [forms[at : at + 4] for at in range(0, len(forms), 4)]
    work = (some(part, sender) for part in parts for sender in ("", "x@internet.test"))
    seen.expect_all(
        [pair for answer in await asyncio.gather(*work) for pair in answer],
        "554 5.7.1", "550 5.1.1", "501 5.1.3", "550 5.7.1", "553 5.1.", "555 5.5.4", "501 5.5.4", "504 5.5.2",
    )  # fmt: skip


@attack("5b")
async def relaying_by_a_peers_listener(ground: Ground, seen: Evidence) -> None:
    """A peer may write from its own domains to the office, but not send to others."""
    peer = next(peer for peer in ground.office.peers if peer.zone == "client" or peer.listen == 25)
    edge = str(ground.role("mta").in_zone(peer.zone)[0])
    async with await ground.smtp(seen, ground.client, address=edge, port=peer.listen) as session:
        await session.starttls(ground.role("mta").fqdn, unverified(), "mx.steeltec.test")
        await session.say(f"MAIL FROM:<client@{peer.domains[0]}>")
        other = f"head@{ground.office.peers[0].domains[0]}"
        for recipient in ("victim@internet.test", other, f"v%internet.test@{ground.domain}"):
            seen.expect(await session.say(f"RCPT TO:<{recipient}>"), "554 5.7.1", "550 5.1.1")
        await session.say("RSET")
        reply = await session.envelope(ground.someone(), ground.someone(1))
        seen.expect(reply, "550 5.7.1", "553 5.7.1", "554 5.7.1")


@attack("5c")
async def a_password_before_tls(ground: Ground, seen: Evidence) -> None:
    answer = await ground.last_reply(seen, "AUTH PLAIN AGEAYg==", vantage=ground.internet)
    seen.expect(answer, "503 5.5.1", "502 5.5.", "538", "530")
    async with asyncio.TaskGroup() as group:
        for port in (25, 587, 143, 110):
            group.create_task(ground.out_of_reach(seen, ground.lan, ground.store, port, f"port {port}"))
    streams = await ground.lan.connect(ground.store, ports.MANAGESIEVE)
    async with Session(streams, seen.session(), patience=5) as session:
        greeting = "\n".join(await session.lines(*ENDS))
        seen.check('"SASL" ""' in greeting, greeting[:200])
        await authenticate(ground, session, "carol")
        lines = "\n".join(await session.lines(*ENDS))
        seen.check(lines.startswith(("NO", "BYE")), lines[:100])


@attack("5d")
async def submission_without_a_login(ground: Ground, seen: Evidence) -> None:
    async with await ground.submission(seen) as session:
        for line in (f"MAIL FROM:<{ground.someone()}>", "MAIL FROM:<>", "VRFY alice"):
            seen.expect(await session.say(line), "530 5.7.0", "503 5.5.1", "502 5.5.1")
    for vantage in (ground.internet, ground.client, ground.lan):
        address, where = str(ground.role("mta").in_zone("core")[0]), f"from {vantage.name} it"
        await ground.out_of_reach(seen, vantage, address, ports.SUBMISSION_RELAY, where)


@attack("5e")
async def guessing_passwords(ground: Ground, seen: Evidence) -> None:
    """Guesses at one account slow down, wherever they come from; a colleague behind the same address keeps working."""

    async def guess(number: int) -> tuple[Reply, float]:
        async with await ground.submission(seen) as session:
            secret = plain(f"dave@{ground.domain}", f"guess-number-{number}")
            started = time.monotonic()
            await session.send(f"AUTH PLAIN {secret}\r\n".encode(), shown=f"AUTH PLAIN (guess {number})")
            return await session.reply(patience=60), time.monotonic() - started

    waits: list[float] = []
    attempts = asyncio.gather(*map(guess, range(12)))
    for _ in range(4):  # a colleague
        started = time.monotonic()
        async with await ground.submission(seen, "carol"):
            waits.append(time.monotonic() - started)
    guesses = await attempts
    named = [(f"guess {number}", reply) for number, (reply, _) in enumerate(guesses)]
    seen.expect_all(named, "535 5.7.8", "421", "454", "closed")
    # another guess alone: the earlier ones may have waited for each other
    reply, seconds = await guess(len(guesses))
    # the store measures its two seconds by its own clock
    seen.check(seconds >= 1.5, f"one more guess waited {seconds:.1f} s: {reply.brief}")
    seen.check(percentile(waits, 0.95) < 5, f"in {max(waits):.1f} s at most")


@attack("5g")
async def a_stolen_account_sends_spam(ground: Ground, seen: Evidence) -> None:
    """From the LAN with dave's password, to hundreds of strangers."""
    own, mark, sent = f"dave@{ground.domain}", token(), 0
    async with await ground.submission(seen, "dave") as session:
        for number in range(30):
            await session.say(f"MAIL FROM:<{own}>")
            spammed = (f"RCPT TO:<spam-{number}-{each}@internet.test>" for each in range(20))
            replies = [await session.say(line) for line in spammed]
            taken = sum(reply.good for reply in replies)
            last = await session.message(compose(own, "list@internet.test", mark)) if taken else replies[-1]
            sent += taken if last.good else 0
            if not last.good:
                break
    seen.check(not last.good, f"{sent} recipients, last: {last.brief}")
    if not last.good:
        await ground.on_mta("systemctl restart outpost-policy.service")
        async with await ground.submission(seen, "dave") as session:
            seen.expect(await session.envelope(own, "spam@internet.test"), "450 4.7.1")
    await ground.drop_mail_to("spam-")


@attack("5h")
async def a_pc_straight_to_the_internet(ground: Ground, seen: Evidence) -> None:
    for name in ("internet", "headoffice"):
        address = str(ground.info["world"][name]["addresses"]["wan"][0])
        await ground.out_of_reach(seen, ground.lan, address, 25, f"{name}, to a PC,")
    forwards = await ground.on_store("nft list chain inet outpost forward | grep -c 'policy drop'")
    seen.check(forwards.strip() == "1", f"policy drop: {forwards.strip()}")
