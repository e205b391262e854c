"""A re-apply while people work: their sessions stay open, and their messages arrive."""

from __future__ import annotations

import smtplib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest

from outpost.engine import run
from outpost.engine.run import Silent
from outpost.target import Target
from outpost_lab.instance import Instance, info
from outpost_lab.post import OfficeUser, Town, compose
from tests.lab.test_reapply import on

pytestmark = [pytest.mark.slow, pytest.mark.control("AVL-01")]


@contextmanager
def sending(sender: OfficeUser, reader: OfficeUser) -> Iterator[list[str]]:
    """Send a message about every second; yields the tokens of the accepted ones."""
    taken: list[str] = []
    refused: list[smtplib.SMTPResponseException] = []
    done = threading.Event()

    def work() -> None:
        while not done.wait(1):
            message, token = compose(sender.address, [reader.address])
            try:
                sender.send(message, [reader.address])
            except smtplib.SMTPResponseException as refusal:
                refused.append(refusal)  # a temporary refusal: the program keeps the message in its outbox
            except smtplib.SMTPServerDisconnected:
                continue  # a login during the reload: the program tries again
            else:
                taken.append(token)

    with ThreadPoolExecutor() as pool:
        working = pool.submit(work)
        try:
            yield taken
        finally:
            done.set()
        working.result()
    assert [refusal for refusal in refused if not 400 <= refusal.smtp_code < 500] == []


def test_a_reapply_drops_no_session_and_loses_no_message(lab: Instance, target: Target) -> None:
    town = Town(info(lab))
    alice, bob, carol = (town.user(name) for name in ("alice", "bob", "carol"))
    with ExitStack() as desk:
        reading = [desk.enter_context(user.mailbox()) for user in (alice, bob, carol)]
        writing = desk.enter_context(carol.submission())
        writing.ehlo("workstation.lan.test")
        assert writing.mail(carol.address)[0] == 250
        for host, file in (("store", "/etc/dovecot/dovecot.conf"), ("mta", "/etc/postfix/main.cf")):
            on(lab, host, f"echo '# by hand' >> {file}")
        with sending(alice, bob) as taken:
            outcome = run.apply(target, watcher=Silent())
        assert outcome.failed == {}
        assert "by hand" not in on(lab, "store", "tail -1 /etc/dovecot/dovecot.conf")
        assert "by hand" not in on(lab, "mta", "tail -1 /etc/postfix/main.cf")
        for mailbox in reading:
            assert mailbox.client.noop()[0] == "OK"
        message, token = compose(carol.address, [alice.address])
        assert writing.rcpt(alice.address)[0] == 250
        assert writing.data(message.as_bytes())[0] == 250
    alice.receive(token)
    assert taken
    for each in taken:
        bob.receive(each)
        assert bob.count(each) == 1
