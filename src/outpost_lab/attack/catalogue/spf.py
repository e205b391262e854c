"""A-SPF: writing in somebody else's name (essay 3.1.4)."""

import base64

from outpost_lab.attack import content
from outpost_lab.attack.catalogue import attack, words
from outpost_lab.attack.catalogue.dsn import filtered
from outpost_lab.attack.evidence import Evidence
from outpost_lab.attack.ground import Ground, compose, token
from outpost_lab.attack.wire import Reply

REFUSED = ("550 5.7.", "553 5.7.", "554 5.7.", "451 4.7.", "550 5.1.8")


@attack("4c")
async def a_colleagues_name_on_a_free_address(ground: Ground, seen: Evidence) -> None:
    colleague, address = ground.office.users[0].full_name, ground.someone()
    assert colleague, "the lab's users have names"
    free = "director.office@internet.test"
    authors = {
        "her name": f'"{colleague}" <{free}>',
        "and a title": f'"Dr. {colleague} (Director)" <{free}>',
        "in a comment": f"{free} ({colleague})",
        "in letters that look alike": f"{colleague.translate(str.maketrans('Aceo', 'Асео'))} <{free}>",
        "one letter of another script, and a title": (
            f'"{colleague.translate(str.maketrans("ceo", "сео"))}, Head of the Project Office" <{free}>'
        ),
        "with an accent": f"{colleague[:2]}\u0301{colleague[2:]} <{free}>",
        "in bold letters": f"{''.join(chr(0x1D3BF + ord(each)) if each.isupper() else each for each in colleague)} <{free}>",
        "in other letters of the same script": f"{colleague.translate(str.maketrans('Aac', 'ɑɑᴄ'))} <{free}>",
        "in one other script": f"{colleague.translate(str.maketrans('Acehilor', 'Асеһіӏог'))} <{free}>",
        "with a letter that resembles none": f"{chr(0x2C80)}{colleague[1:]} <{free}>",
        "in black squares": f"{''.join(chr(0x1F12F + ord(each)) if each.isupper() else each for each in colleague)} <{free}>",
        "in one word": f"{colleague.replace(' ', '')} <{free}>",
        "in one word, and a title": f"{colleague.replace(' ', '')} (Director) <{free}>",
        "with a hyphen": f"{colleague.replace(' ', chr(0x2010))} <{free}>",
        "behind a letter that stands for eighteen": f'"\ufdfa {colleague}" <{free}>',
        "in base64 that ends twice": f"=?utf-8?B?{base64.b64encode(colleague.encode()).decode().rstrip('=')}====?= <{free}>",
        "no brackets": f"{colleague} {free}",
        "name of a group": f"{colleague}: {free};",
        "letters that look alike in Punycode": f"director@{ground.domain.replace('o', 'о').encode('idna').decode()}",
        "invisible letters in it": f"{colleague[:2]}\u200b{colleague[2:]} <{free}>",
        "written backwards": f"\u202e{colleague[::-1]} <{free}>",
        "her address": f'"{address}" <{free}>',
        "another sign for @": f"{address.replace('@', chr(0xFF20))} <{free}>",
        "a group": f"{colleague}: {address};",
        "a peer's subdomain": f"director@mail.{ground.office.peers[0].domains[0]}",
        "blanks in the address": address.replace("@", " @ ").replace(".", " . "),
    }
    taken = {}
    for what, author in authors.items():
        mark, recipient = token(), ground.reader()
        message = compose(author, recipient, mark, subject="Urgent payment")
        answer = await ground.mail(seen, free, recipient, message)
        if answer.good:
            taken[what] = mark
        else:
            seen.expect(answer, "554 5.7.1", "550 5.7.1")
    await ground.settled(patience=60)
    for what, mark in taken.items():
        head = r"sed '/^\r\{0,1\}$/q'"
        found = await ground.on_store(f"cat $(grep -rlsF {mark} /srv/mail) /dev/null | {head}")
        subject = next((line for line in found.splitlines() if line.lower().startswith("subject:")), "")
        marked = "Urgent payment" in subject and subject.strip() != "Subject: Urgent payment"
        seen.check(marked, f"{what}: delivered as {subject or '(not found)'}")


@attack("4e")
async def a_peers_name_from_elsewhere(ground: Ground, seen: Evidence) -> None:
    for peer in ground.office.peers:
        sender = f"director@{peer.domains[0]}"
        message = compose(sender, ground.reader(), token())
        seen.expect(await ground.mail(seen, sender, ground.reader(), message, ground.internet), *REFUSED)
        message = compose(sender, ground.reader(), token())
        seen.expect(await ground.mail(seen, "x@internet.test", ground.reader(), message), *REFUSED)


@attack("4i")
async def forged_authentication_results(ground: Ground, seen: Evidence) -> None:
    recipient, mark = ground.reader(), token()
    forged = f"Authentication-Results: {ground.role('mta').fqdn}; dmarc=pass header.from=bank.example (forged-{mark})\r\n"
    message = compose("stranger@internet.test", recipient, mark, extra=forged)
    answer = await ground.mail(seen, "stranger@internet.test", recipient, message)
    await ground.settled()
    left = await ground.delivered(f"forged-{mark}")
    seen.check(answer.code >= 500 or left == 0, f"{answer.brief}; {left} delivered with it")


@attack("4g")
async def one_signed_message_replayed(ground: Ground, seen: Evidence) -> None:
    """A message that head office's or our own key has signed stays valid, no matter who sends it again."""
    sender, recipient = "stranger@internet.test", ground.reader()
    message = compose(sender, recipient, token())
    answers: list[Reply] = []
    async with await ground.smtp(seen, ground.stranger) as session:
        while len(answers) < 150 and (not answers or answers[-1].good):
            answers.append(await session.deliver(sender, recipient, message))
    seen.check(not answers[-1].good, f"{len(answers)} sent, last: {answers[-1].brief}")


@attack("4j")
async def a_bounce_for_mail_never_sent(ground: Ground, seen: Evidence) -> None:
    for sender in ("", "mailer-daemon@internet.test"):
        mark, recipient = token(), ground.reader()
        bounce = content.bounce(recipient, mark, compose(recipient, "nobody@internet.test", mark))
        answer = await ground.mail(seen, sender, recipient, bounce)
        if not answer.good:
            seen.expect(answer, "554 5.7.1", "550 5.7.1")
            continue
        await ground.settled()
        found = await ground.on_store(f"cat $(grep -rlsF {mark} /srv/mail) /dev/null | head -n 40")
        seen.check("X-Office-Bounce" in found, "marked", "delivered as it is")


@attack("4k")
async def an_absence_in_a_colleagues_name(ground: Ground, seen: Evidence) -> None:
    """Carol's filter answers strangers as Bob, in each way that Sieve has to set an author."""
    recipient = f"carol@{ground.domain}"
    victims = {}
    try:
        for what, script in words()["4k"]["scripts"].items():
            observed = script.format(**ground.words)
            await filtered(ground, seen, f'require "vacation"; vacation :handle "{token()}" {observed};')
            victims[what] = victim = ground.victim()
            reply = await ground.mail(seen, victim, recipient, compose(victim, recipient, token()))
            seen.expect(reply, "250")
            await ground.settled()
        for what, victim in victims.items():
            got = await ground.sink(victim)
            seen.check(got == 0, f"{got} answers under {what}")
    finally:
        await filtered(ground, seen, "")


@attack("4l")
async def a_message_that_another_makes_vanish(ground: Ground, seen: Evidence) -> None:
    """An attacker who knows the Message-ID and the trace lines of a message sends first; the honest message still arrives."""
    recipient, name = f"carol@{ground.domain}", token()
    trace = f"Received: from a.internet.test by mx.internet.test with ESMTP id {name}; Tue, 3 Nov 2026 10:00:00 +0000\r\n"
    forged = f"X-Office-Transfer: {name}\r\nReceived: from x by {ground.role('mta').fqdn} with ESMTPS id {name}; x\r\n"
    marks = []
    for sender, more in (*[("x@internet.test", forged)] * 2, ("stranger@internet.test", "")):
        marks.append(token())
        message = compose(sender, recipient, marks[-1], extra=trace)
        lines = [line for line in message.split(b"\r\n") if not line.lower().startswith(b"message-id:")]
        message = f"{more}Message-ID: <{name}@internet.test>\r\n".encode() + b"\r\n".join(lines)
        seen.expect(await ground.mail(seen, sender, recipient, message), "250")
    await ground.settled()
    for mark in marks:
        got = await ground.delivered(mark, "carol")
        seen.check(got == 1, f"{got} times")
