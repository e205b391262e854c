"""Ordinary mail passes unchanged: a rejection, a mark or a changed word is a false positive and fails the test."""

from __future__ import annotations

import subprocess
from email import message_from_bytes, policy
from secrets import token_hex

import pytest
from imap_tools import AND, Header

from outpost_lab import pace
from outpost_lab.post import PATIENCE, OfficeUser, Town
from tests.corpus import SENDER, ordinary

MARK = "X-Corpus"


def _body(raw: bytes) -> bytes:
    """The body, with any line ends."""
    return raw.replace(b"\r\n", b"\n").partition(b"\n\n")[2].rstrip(b"\n")


@pytest.mark.control("VIR-03", "DSN-10", "INP-05", "DOS-02")
def test_ordinary_mail_arrives_unharmed(town: Town) -> None:
    reader: OfficeUser = town.user("carol")
    run = token_hex(6)
    sent = {name: f"{MARK}: {run}-{name}\r\n".encode() + raw for name, raw in ordinary(reader.address)}
    assert len(sent) >= 30
    command = ["docker", "exec", "--interactive", town.stranger.container, "sendmail", "-i", "-f"]
    for raw in sent.values():
        subprocess.run(
            [*command, SENDER, "--", reader.address],
            input=raw.replace(b"\r\n", b"\n"),
            check=True,
        )
    arrived = _arrived(reader, run, len(sent))
    missing = sorted(set(sent) - set(arrived))
    assert not missing, f"refused or late: {missing}"
    for name, raw in arrived.items():
        seen = message_from_bytes(raw, policy=policy.compat32)
        wanted = message_from_bytes(sent[name], policy=policy.compat32)
        assert _body(raw) == _body(sent[name]), f"{name}: its content was changed"
        assert str(seen["Subject"]).split() == str(wanted["Subject"]).split(), (
            f"{name}: its subject was changed"
        )
        assert seen["X-Spam"] is None, f"{name}: marked as spam"
        assert str(seen["X-Office-Origin"]) == "Internet", f"{name}: {seen['X-Office-Origin']}"


def _arrived(reader: OfficeUser, run: str, number: int) -> dict[str, bytes]:
    """Messages of this run in the inbox, by their name in the corpus, waiting for all of them."""
    wait = pace.Patience(PATIENCE)
    with reader.mailbox() as mailbox:
        while True:
            criteria = AND(header=[Header(MARK, run)])
            uids = mailbox.uids(criteria)
            if len(uids) >= number or not wait.left:
                break
            mailbox.idle.wait(timeout=2)
        _, answers = mailbox.client.uid("FETCH", ",".join(uids), "(BODY.PEEK[])") if uids else ("", [])
        raws = [answer[1] for answer in answers if isinstance(answer, tuple)]
        found = {str(message_from_bytes(raw)[MARK]).partition("-")[2]: raw for raw in raws}
        mailbox.delete(uids)
    return found
