"""The filter learns from what a user moves into Junk and out of it with any mail client."""

from __future__ import annotations

import json
import logging
import random
import re
import subprocess
from email.message import EmailMessage
from functools import partial
from secrets import token_hex
from typing import Any

import pytest
from imap_tools import AND
from playwright.sync_api import Page, expect

from outpost_lab.instance import Instance
from outpost_lab.post import OfficeUser
from tests.awaiting import until
from tests.corpus import ordinary
from tests.journeys.desk import idle, log_in, needs_browser
from tests.journeys.test_traces import said_on

logger = logging.getLogger(__name__)
CONTROLLER = "/run/rspamd/controller.sock"
LEDGER = "/var/lib/outpost-learn/ledger.json"
FORGET = (
    "cd /; for key in $(redis-cli -s /run/redis/redis.sock --scan --pattern 'RS*') learned_ids BAYES_SPAM_keys BAYES_HAM_keys; "
    "do echo del $key; done | redis-cli -s /run/redis/redis.sock >/dev/null"
)
"""The numbers of all tokens that Bayes has learnt."""
JUNK = 6.0
"""The score from which a message goes into Junk (rspamd/local.d/actions.conf)."""


def learnt(lab: Instance) -> dict[str, int]:
    """How many messages of each kind Bayes has learnt; Rspamd's own answer is up to a minute old."""
    counts = said_on(
        lab, "mta", "redis-cli -s /run/redis/redis.sock hmget RS learns_spam learns_ham"
    ).splitlines()
    return dict(zip(("BAYES_SPAM", "BAYES_HAM"), (int(count or 0) for count in counts), strict=True))


def taught(lab: Instance, wanted: dict[str, int]) -> None:
    def state() -> bool:
        said_on(lab, "store", "systemctl start outpost-learn.service")
        return learnt(lab) == wanted

    until(state, f"Bayes has learnt {wanted}", seconds=60)


@pytest.mark.control("JNK-01")
def test_what_users_move_into_junk_and_out_of_it_is_what_the_filter_learns(
    lab: Instance, bob: OfficeUser
) -> None:
    said_on(lab, "store", f"rm -f {LEDGER}; systemctl start outpost-learn.service")
    before = learnt(lab)
    token = token_hex(8)
    words = (
        " ".join(f"{word}{token}" for word in ("cheap", "watches", "pills", "winner", "lottery", "now")) * 3
    )
    with bob.mailbox() as mailbox:
        mailbox.append(f"From: shop@internet.test\r\nSubject: {token}\r\n\r\n{words}\r\n".encode(), "INBOX")
        mailbox.folder.set("INBOX")
        mailbox.move(mailbox.uids(AND(subject=token)), "Junk")
        taught(lab, before | {"BAYES_SPAM": before["BAYES_SPAM"] + 1})
        mailbox.folder.set("Junk")
        mailbox.move(mailbox.uids(AND(subject=token)), "INBOX")
        taught(lab, before | {"BAYES_HAM": before["BAYES_HAM"] + 1})  # and it is no spam any more
        mailbox.folder.set("INBOX")
        mailbox.move(mailbox.uids(AND(subject=token)), "Junk")
        taught(lab, before | {"BAYES_SPAM": before["BAYES_SPAM"] + 1})
        mailbox.folder.set("Junk")
        mailbox.move(mailbox.uids(AND(subject=token)), "Trash")  # deleting a message teaches nothing
        said_on(lab, "store", "systemctl start outpost-learn.service")
        assert learnt(lab) == before | {"BAYES_SPAM": before["BAYES_SPAM"] + 1}
    assert said_on(lab, "store", "ls /var/lib/dovecot/learn") == ""


@pytest.mark.control("JNK-01")
def test_a_filter_that_is_down_keeps_no_user_from_moving_and_learns_later(
    lab: Instance, bob: OfficeUser
) -> None:
    before, token = learnt(lab), token_hex(8)
    words = (
        " ".join(f"{word}{token}" for word in ("crane", "drawing", "meeting", "site", "offer", "steel")) * 3
    )
    said_on(lab, "mta", "systemctl stop stunnel@learning.service")
    try:
        with bob.mailbox() as mailbox:
            mailbox.append(
                f"From: shop@internet.test\r\nSubject: {token}\r\n\r\n{words}\r\n".encode(), "INBOX"
            )
            mailbox.folder.set("INBOX")
            mailbox.move(mailbox.uids(AND(subject=token)), "Junk")
            mailbox.folder.set("Junk")
            assert len(mailbox.uids(AND(subject=token))) == 1
        said_on(lab, "store", "systemctl start outpost-learn.service")
        assert learnt(lab) == before
        assert said_on(lab, "store", "ls /var/lib/dovecot/learn").startswith(bob.address)
    finally:
        said_on(lab, "mta", "systemctl start stunnel@learning.service")
    taught(lab, before | {"BAYES_SPAM": before["BAYES_SPAM"] + 1})


LMTP = """
import smtplib, sys
with smtplib.LMTP("/run/dovecot/lmtp") as store:
    store.sendmail("", [sys.argv[1]], sys.stdin.buffer.read())
"""


def hand_over(lab: Instance, address: str, message: str) -> None:
    """Deliver a message by LMTP, as the MTA does."""
    program = ["python3", "-I", "-c", LMTP, address]
    subprocess.run(
        ["docker", "exec", "-i", lab.container_name("store"), *program], input=message.encode(), check=True
    )


def moved(user: OfficeUser, token: str, source: str, target: str) -> None:
    with user.mailbox() as mailbox:
        mailbox.folder.set(source)
        mailbox.move(mailbox.uids(AND(subject=token)), target)


def proven_from(lab: Instance, user: OfficeUser, author: str) -> tuple[str, str]:
    """Deliver ordinary mail of a proven author; returns the folder where it lands, and the token in its subject."""
    token = f"outpost-{token_hex(8)}"
    message = f"X-Office-Author: {author}\r\nFrom: Pest <{author}>\r\nSubject: {token}\r\n\r\nAgain.\r\n"
    hand_over(lab, user.address, message)
    with user.mailbox() as mailbox:
        for name in ("INBOX", "Junk"):
            mailbox.folder.set(name)
            if mailbox.uids(AND(subject=token)):
                return name, token
    return "nowhere", token


@pytest.mark.control("JNK-04")
def test_who_is_taken_out_of_junk_stays_out_of_it_where_dmarc_proves_the_author(
    lab: Instance, bob: OfficeUser
) -> None:
    author = f"news-{token_hex(6)}@internet.test"

    def delivered(proof: str, name: str = "News", address: str = author) -> str:
        """Deliver a message that the MTA marked as spam; returns the token in its subject."""
        token = f"outpost-{token_hex(8)}"
        message = f"X-Spam: Yes\r\n{proof}From: {name} <{address}>\r\nSubject: {token}\r\n\r\nNews.\r\n"
        hand_over(lab, bob.address, message)
        return token

    def folder(token: str) -> list[str]:
        found = []
        with bob.mailbox() as mailbox:
            for name in ("INBOX", "Junk"):
                mailbox.folder.set(name)
                found += [name] * len(mailbox.uids(AND(subject=token)))
        return found

    proven, forged = f"X-Office-Author: {author}\r\n", "Authentication-Results: mta; spf=pass smtp.mailfrom=dmarc=pass@x\r\n"  # fmt: skip
    first = delivered(proven)
    assert folder(first) == ["Junk"]
    moved(bob, first, "Junk", "INBOX")
    assert folder(delivered(proven)) == ["INBOX"]
    assert folder(delivered(forged)) == ["Junk"]
    # Dovecot takes the first of the two addresses for the author, Rspamd the second
    other = f"X-Office-Author: other-{author}\r\n"
    assert folder(delivered(other, name=author, address=f"other-{author}")) == ["Junk"]
    moved(bob, first, "INBOX", "Junk")
    assert folder(delivered(proven)) == ["Junk"]


@pytest.mark.control("JNK-05")
def test_whom_a_user_blocks_lands_in_junk_until_the_user_unblocks(lab: Instance, bob: OfficeUser) -> None:
    pest = f"pest-{token_hex(6)}@internet.test"

    def delivered(author: str) -> str:
        """The folder in which an author's ordinary mail arrives."""
        folder, token = proven_from(lab, bob, author)
        if folder == "INBOX":
            moved(bob, token, "INBOX", "Junk/Blocked" if author == pest else "Trash")
        return folder

    before = learnt(lab)
    assert delivered(pest) == "INBOX"  # and moved into Junk/Blocked
    assert delivered(pest.replace("pest", "Pest")) == "Junk"
    assert delivered(f"other-{pest}") == "INBOX"
    with bob.mailbox() as mailbox:
        mailbox.folder.set("Junk/Blocked")
        mailbox.move(mailbox.uids(AND(from_=pest)), "Archive")
    assert delivered(pest) == "INBOX"
    said_on(lab, "store", "systemctl start outpost-learn.service")
    assert learnt(lab) == before, "who is not wanted is no spammer"


@pytest.mark.control("JNK-05")
def test_a_whole_domain_is_blocked_but_not_who_was_taken_out_of_junk(lab: Instance, bob: OfficeUser) -> None:
    domain = f"pest-{token_hex(6)}.example"

    delivered = partial(proven_from, lab, bob)
    folder, first = delivered(f"shop@{domain}")
    assert folder == "INBOX"
    moved(bob, first, "INBOX", "Junk/Blocked/Domains")
    assert delivered(f"anybody@{domain.upper()}")[0] == "Junk"
    folder, wanted = delivered(f"friend@{domain}")
    assert folder == "Junk"
    moved(bob, wanted, "Junk", "INBOX")
    assert delivered(f"friend@{domain}")[0] == "INBOX"
    assert delivered(f"shop@{domain}")[0] == "Junk"
    moved(bob, first, "Junk/Blocked/Domains", "INBOX")
    assert delivered(f"shop@{domain}")[0] == "INBOX"


@needs_browser
@pytest.mark.control("JNK-06")
def test_a_digest_leads_to_each_message_in_junk_and_from_there_to_the_inbox(
    lab: Instance, page: Page, site: str, bob: OfficeUser
) -> None:
    token = f"outpost-{token_hex(8)}"
    message = f"X-Spam: Yes\r\nFrom: https://evil.test/ <shop@internet.test>\r\nSubject: {token} www.evil.test\r\n\r\nBuy.\r\n"
    hand_over(lab, bob.address, message)
    said_on(lab, "store", "systemctl start outpost-digest.service")
    with bob.mailbox() as mailbox:
        (digest, *_) = list(mailbox.fetch(AND(subject="Junk of the last week"), reverse=True, limit=1))
    _, _, rest = digest.text.partition(token)
    link = re.search(r"https://\S+", rest)
    assert link is not None
    assert link[0].startswith(site), "a stranger's subject became a link"
    assert not re.search(r"https://evil|www\.evil", digest.text)
    log_in(page, site, bob)
    idle(page)
    page.goto(link[0])
    expect(page.locator("#message-header")).to_contain_text(token)
    idle(page)
    page.locator("a.notjunk, .button.notjunk").first.click()
    until(lambda: bob.count(token) == 1, "the message is in the inbox", seconds=60)


# Before and after -------------------------------------------------------------------------------------------------

SELLING = (
    """
act now and save on brand watches|limited offer for valued customers|your account has won a prize|claim the reward today
cheap medication without prescription|lose weight in ten days|work from home and earn thousands|guaranteed loan approval
click below to verify the payment|exclusive discount on replica handbags|dear beneficiary of the late minister|casino bonus waiting
no risk investment in crypto coins|hot singles near your town|reply with bank details for transfer|lowest price on toner cartridges
increase traffic to the website|search engine ranking guaranteed|you have been selected by our partner|order before midnight
""".strip()
    .replace("\n", "|")
    .split("|")
)
WORKING = (
    """
the crane comes on Monday at seven|please send the drawing of level three|concrete for the east wall is ordered|minutes of the site meeting
the steel delivery is late by two days|attached the revised schedule|can we meet at the gate at nine|invoice for scaffolding in May
the inspector asked for the test report|rain stopped the roof work|the subcontractor needs the key|safety briefing for new people
measurements of the foundation differ|the client wants a second offer|lunch on Thursday with the team|holiday list for July
the pump on site two is broken|who signs the acceptance|reinforcement plan from the engineer|parking for the lorries is settled
""".strip()
    .replace("\n", "|")
    .split("|")
)


def written(phrases: list[str], chance: random.Random, sender: str) -> bytes:
    message = EmailMessage()
    picked = chance.sample(phrases, 5)
    message["From"], message["To"] = (
        f"{chance.choice(('Kim', 'Lee', 'Pat'))} <{sender}>",
        "bob@po.myertor.test",
    )
    message["Subject"], message["Message-ID"] = picked[0], f"<{token_hex(8)}@internet.test>"
    message["Date"] = "Mon, 30 Nov 2026 12:00:00 +0000"
    message.set_content("Hello,\n\n" + ".\n".join(picked[1:]) + f".\n\nRegards, {token_hex(4)}\n")
    return message.as_bytes()


def filtered(lab: Instance, command: str, messages: list[bytes]) -> list[dict[str, Any]]:
    """What Rspamd says of each message."""
    found = []
    for message in messages:
        done = subprocess.run(
            ["docker", "exec", "-i", lab.container_name("mta"), "rspamc", f"--connect={CONTROLLER}", "--json", command],
            input=message, capture_output=True, check=True,
        )  # fmt: skip
        found.append(json.loads(done.stdout))
    return found


@pytest.mark.slow
@pytest.mark.control("JNK-01", "JNK-02")
def test_two_hundred_messages_of_each_kind_make_the_difference(lab: Instance) -> None:
    chance = random.Random(21)  # noqa: S311  # repeatable on purpose
    spam = [written(SELLING, chance, "shop@internet.test") for _ in range(240)]
    ham = [written(WORKING, chance, "peter@internet.test") for _ in range(200)]
    unknown = {"spam": spam[200:], "ham": [message for _, message in ordinary("bob@po.myertor.test")]}

    def scores(kind: str) -> list[float]:
        results = filtered(lab, "symbols", unknown[kind])
        return [
            sum(float(each["score"]) for name, each in one["symbols"].items() if name.startswith("BAYES"))
            for one in results
        ]

    said_on(lab, "mta", FORGET)
    try:
        assert set(scores("spam")) | set(scores("ham")) == {0}
        filtered(lab, "learn_spam", spam[:150])
        filtered(lab, "learn_ham", ham)
        assert set(scores("spam")) == {0}, "too few of one kind have no weight"
        filtered(lab, "learn_spam", spam[150:200])
        after = {kind: scores(kind) for kind in unknown}
        logger.info("Bayes: %s", json.dumps(after))
        assert sum(score > 3 for score in after["spam"]) >= 0.9 * len(after["spam"])
        assert not [score for score in after["ham"] if score >= JUNK / 2]
        assert max(after["spam"]) < JUNK, (
            "Bayes alone moves nothing into Junk: what one has taught is bounded"
        )
    finally:
        said_on(lab, "mta", FORGET)
