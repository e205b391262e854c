"""A mailbox warns before it is full, its search finds words, and it has the usual IMAP extensions."""

from __future__ import annotations

from secrets import token_hex

import pytest
from imap_tools import AND, MailMessageFlags

from outpost_lab import pace
from outpost_lab.instance import Instance
from outpost_lab.post import OfficeUser, Town, compose
from tests.awaiting import until
from tests.corpus import DOCX, office_document, pdf_of
from tests.journeys.test_traces import said_on

EXPECTED = frozenset(
    [
        "IDLE",
        "CONDSTORE",
        "QRESYNC",
        "ENABLE",
        "ESEARCH",
        "SORT",
        "THREAD=REFERENCES",
        "UIDPLUS",
        "UNSELECT",
        "MOVE",
        "NAMESPACE",
        "QUOTA",
        "ID",
        "LIST-EXTENDED",
        "LIST-STATUS",
        "SPECIAL-USE",
        "NOTIFY",
        "SNIPPET=FUZZY",
        "BINARY",
        "LITERAL+",
        "SAVEDATE",
    ]
)
"""The parts of RFC 9051 and its extensions that Thunderbird, Apple's Mail, Outlook and K-9 use."""
BLOCK = b"Subject: filling\r\n\r\n" + b"0123456789abcdef\r\n" * (3 * 1024**2 // 18)
PATIENCE = 60.0


def test_programs_find_the_extensions_they_use(alice: OfficeUser) -> None:
    with alice.mailbox() as mailbox:
        _, capabilities = mailbox.client.capability()
    assert set(capabilities[0].decode().split()) >= EXPECTED


def test_a_search_finds_part_of_a_word_in_the_text(alice: OfficeUser, bob: OfficeUser) -> None:
    message, token = compose(bob.address, [alice.address], "The Turmdrehkran is due on Thursday.\n")
    bob.send(message, [alice.address])
    alice.receive(token)
    with alice.mailbox() as mailbox:
        assert len(mailbox.uids(AND(subject=token, text="mdrehkra"))) == 1
        assert mailbox.uids(AND(subject=token, text="mdrehkrx")) == []


def test_a_search_finds_words_however_they_are_typed(alice: OfficeUser, bob: OfficeUser) -> None:
    text = "Kräuterbäcker in der Hauptstraße: Maß und Größe, was kostet Rødgrød, naïve invoices\n"
    message, token = compose(bob.address, [alice.address], text)
    bob.send(message, [alice.address])
    alice.receive(token)
    with alice.mailbox() as mailbox:
        for typed in (
            "krauterbacker", "KRÄUTERBÄCKER", "äuterb", "hauptstrasse", "HAUPTSTRASSE", "strasse", "mass", "grosse",
            "GRÖSSE", "rodgrod", "NAIVE", "invoice", "was", "was kostet",
        ):  # fmt: skip
            assert len(mailbox.uids(AND(subject=token, text=typed), charset="UTF-8")) == 1, typed
        assert mailbox.uids(AND(subject=token, text="krauterbackerx")) == []


@pytest.mark.control("STO-04")
def test_a_search_finds_words_of_attachments(alice: OfficeUser, bob: OfficeUser) -> None:
    word, other = f"kran{token_hex(6)}", f"turm{token_hex(6)}"
    message, token = compose(bob.address, [alice.address], "Both are attached.\n")
    message.add_attachment(
        pdf_of(f"the {word} is due"), maintype="application", subtype="pdf", filename="a.pdf"
    )
    document = office_document(f"<w:document><w:t>the {other}</w:t></w:document>")
    maintype, _, subtype = DOCX.partition("/")
    message.add_attachment(document, maintype=maintype, subtype=subtype, filename="b.docx")
    bob.send(message, [alice.address])
    alice.receive(token)
    with alice.mailbox() as mailbox:
        for found in (word, other, other[3:-1]):
            assert len(mailbox.uids(AND(text=found))) == 1
        assert mailbox.uids(AND(text=f"{word}x")) == []


@pytest.mark.control("DOS-08")
@pytest.mark.control("DOS-14")
def test_a_message_of_a_million_words_neither_stops_nor_fills_the_index(
    lab: Instance, alice: OfficeUser, bob: OfficeUser
) -> None:
    """Parts of words take many times the text: the indexer ended for lack of memory, and later messages were never found."""

    def size() -> int:
        place = f"/srv/mail/{alice.address.partition('@')[0]}/Maildir"
        return int(said_on(lab, "store", f"du --summarize --block-size=1M {place}").split()[0])

    since, before = said_on(lab, "store", "date +%s").strip(), size()
    many = "\n".join(token_hex(15) for _ in range(100_000))
    for text in (many, "The Giraffenhals is due on Thursday.\n"):
        message, token = compose(bob.address, [alice.address], text)
        bob.send(message, [alice.address])
        alice.receive(token)
    with alice.mailbox() as mailbox:
        until(
            lambda: len(mailbox.uids(AND(subject=token, text="affenhal"))) == 1,
            "the next message is found",
            seconds=PATIENCE,
        )
    failed = f"journalctl --quiet --unit=dovecot --since=@{since} --grep='indexer.*(Fatal|memory)' || true"
    assert not said_on(lab, "store", failed).strip()
    assert size() - before < 100, "MiB: STO-04"


def test_a_mailbox_that_fills_up_warns_at_80_and_at_95_per_cent(lab: Instance, town: Town) -> None:
    (small,) = [user for user in lab.office.users if lab.office.quota(user) == 64 * 1024**2]
    user = town.user(small.name)
    with user.mailbox() as mailbox:
        mailbox.folder.create("Filling")
        try:
            for percent, blocks in ((80, 18), (95, 3)):
                for _ in range(blocks):
                    mailbox.append(BLOCK, "Filling", flag_set=[MailMessageFlags.SEEN])
                assert warning(user, percent), f"no warning at {percent} %"
        finally:
            mailbox.folder.delete("Filling")
            mailbox.folder.set("INBOX")
            mailbox.delete(mailbox.uids(AND(subject="Your mailbox is")))


def warning(user: OfficeUser, percent: int) -> bool:
    """Wait for the warning; returns whether it has come."""
    wait = pace.Patience(PATIENCE)
    with user.mailbox() as mailbox:
        while wait.left:
            if mailbox.uids(AND(subject=f"Your mailbox is {percent} % full")):
                return True
            mailbox.idle.wait(timeout=5)
    return False
