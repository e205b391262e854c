"""If one host is down, the others work, and no accepted mail is lost (AVL-01, F27, F28, F31)."""

from __future__ import annotations

import imaplib
import smtplib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import dns.message
import dns.query
import dns.rcode
import pytest
from imap_tools import AND

from outpost_lab import pace
from outpost_lab.instance import Instance
from outpost_lab.post import Neighbour, OfficeUser, Town, compose
from tests.awaiting import on_host

BACK_WITHIN = 150.0
"""Seconds after a host's return in which what waited for it is delivered: a minute of Postfix's back-off, twice."""

# every unit of it is up, not only its container
SETTLED = on_host("systemctl is-system-running --wait | grep -qx running", 90)


def on(lab: Instance, host: str, script: str) -> None:
    subprocess.run(["docker", "exec", lab.container_name(host), "sh", "-euc", script], check=True)


@contextmanager
def down(lab: Instance, machine: str) -> Iterator[None]:
    """Stop the machine; afterwards start it and wait until its boot is complete."""
    container = lab.container_name(machine)
    subprocess.run(["docker", "stop", "--time", "20", container], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["docker", "start", container], check=True, capture_output=True)
        subprocess.run(["docker", "exec", container, "sh", "-c", SETTLED], check=True)


def killed(lab: Instance, machine: str) -> None:
    """Kill all processes of the machine at once; then start it and wait until its boot is complete."""
    container = lab.container_name(machine)
    for command in ("kill", "start"):
        subprocess.run(["docker", command, container], check=True, capture_output=True)
    subprocess.run(["docker", "exec", container, "sh", "-c", SETTLED], check=True)


@pytest.mark.control("AVL-01", "DSN-01")
def test_while_the_store_is_down_mail_is_taken_and_waits(
    lab: Instance, town: Town, stranger: Neighbour, alice: OfficeUser
) -> None:
    """Mail for known recipients is accepted and queued, unknown ones are refused, and all of it arrives later."""
    message, token = compose(stranger.address, [alice.address])
    unknown = f"nobody@{town.info['domain']}"
    lost, lost_token = compose(stranger.address, [unknown])
    with down(lab, "store"):
        stranger.send(message, [alice.address])
        mta = lab.container_name("mta")
        waits = on_host(f"postqueue -p | grep -q {alice.address}", 60)
        subprocess.run(["docker", "exec", mta, "sh", "-c", waits], check=True)
        stranger.send(lost, [unknown])
        report = stranger.receive(lost_token)
        assert b"550" in report
        assert b"5.1.1" in report
    alice.receive(token, patience=BACK_WITHIN)
    assert alice.count(token) == 1


@pytest.mark.control("AVL-04")
def test_a_search_index_that_a_loss_of_power_damaged_is_made_again(
    lab: Instance, alice: OfficeUser, bob: OfficeUser
) -> None:
    """The kernel keeps running here, so the end of the file is removed as on machines that lost their power under load."""
    message, token = compose(bob.address, [alice.address], "The Turmdrehkran is due on Thursday.\n")
    bob.send(message, [alice.address])
    alice.receive(token)

    def found() -> int:
        with alice.mailbox() as mailbox:
            return len(mailbox.uids(AND(subject=token, text="Turmdrehkran")))

    assert found() == 1
    on(
        lab,
        "store",
        f"truncate --size=-4096 /srv/mail/{alice.address.partition('@')[0]}/Maildir/fts-flatcurve/*/postlist.glass",
    )
    with pytest.raises(imaplib.IMAP4.abort):
        found()
    killed(lab, "store")
    assert found() == 1


@pytest.mark.control("DSN-01", "AVL-01")
def test_a_store_that_has_lost_an_account_returns_no_mail(
    lab: Instance, stranger: Neighbour, alice: OfficeUser
) -> None:
    """The MTA knows the recipient and has accepted the message. A refusal by the store is then an error, which a person corrects."""
    message, token = compose(stranger.address, [alice.address])
    accounts = "/etc/dovecot/users"

    on(lab, "store", f"cp -p {accounts} /run/accounts; sed -i '/^{alice.address}:/d' {accounts}")
    try:
        # Dovecot reads the file once a second
        on(lab, "store", on_host(f"! doveadm user {alice.address} >/dev/null 2>&1", 30))
        stranger.send(message, [alice.address])
        on(lab, "mta", on_host(f"postqueue -j | grep {alice.address} | grep -q delay_reason", 60))
    finally:
        on(lab, "store", f"cat /run/accounts > {accounts}; rm /run/accounts")
        on(lab, "store", on_host(f"doveadm user {alice.address} >/dev/null 2>&1", 30))
        on(lab, "mta", "postqueue -f")
    alice.receive(token, patience=BACK_WITHIN)


@pytest.mark.control("QUE-01", "AVL-01")
def test_mail_inside_leaves_when_the_store_answers_again_and_waits_for_no_back_off(
    lab: Instance, stranger: Neighbour, alice: OfficeUser
) -> None:
    """Postfix itself would retry in an hour here. The probe of the routes does it within a minute."""
    message, token = compose(stranger.address, [alice.address])
    back_off = "minimal_backoff_time=1h maximal_backoff_time=2h"

    on(lab, "mta", f"cp -p /etc/postfix/main.cf /root/main.aside; postconf {back_off}; postfix reload")
    try:
        on(lab, "store", "systemctl stop dovecot")
        stranger.send(message, [alice.address])
        on(lab, "mta", on_host("postqueue -j | grep -q '\"deferred\".*alice@'", 90))
        on(lab, "mta", "systemctl start outpost-routes")
        on(lab, "mta", "postqueue -j | grep -q alice@")  # the message stays while the store does not answer
    finally:
        on(lab, "store", "systemctl start dovecot")
        on(lab, "mta", "cat /root/main.aside > /etc/postfix/main.cf; rm /root/main.aside")
    alice.receive(token, patience=BACK_WITHIN)
    on(lab, "mta", "postfix reload")
    assert alice.count(token) == 1


@pytest.mark.control("AVL-01")
def test_while_the_mta_is_down_users_read_and_are_asked_to_try_again(
    lab: Instance, alice: OfficeUser, bob: OfficeUser, stranger: Neighbour
) -> None:
    """IMAP works, a submission gets a temporary refusal, and mail from outside waits on the senders' servers."""
    message, _ = compose(alice.address, [bob.address])
    incoming, token = compose(stranger.address, [alice.address])
    with down(lab, "mta"):
        with alice.mailbox() as mailbox:
            assert mailbox.folder.exists("INBOX")
        with pytest.raises((smtplib.SMTPException, OSError)) as refusal:
            alice.send(message, [bob.address])
        assert not [code for code in ("550", "554", "552") if code in str(refusal.value)], str(refusal.value)
        stranger.send(incoming, [alice.address])
    # the stranger's server would try again later: make it do so now
    subprocess.run(["docker", "exec", stranger.container, "postqueue", "-f"], check=True)
    alice.receive(token, patience=BACK_WITHIN)


@pytest.mark.control("AVL-01", "DNS-08")
@pytest.mark.parametrize(("gone", "left"), [("ns1", "ns2"), ("ns2", "ns1")])
def test_while_one_name_server_is_down_the_other_answers_and_mail_flows(
    lab: Instance, town: Town, stranger: Neighbour, alice: OfficeUser, gone: str, left: str
) -> None:
    """The zone is answered with authority by the one that is left."""
    message, token = compose(stranger.address, [alice.address])
    with down(lab, gone):
        question = dns.message.make_query(town.info["domain"], "MX", want_dnssec=True)
        answer = dns.query.udp(
            question, town.info["hosts"][left]["addresses"]["wan"][0], timeout=5 * pace.load()
        )
        assert answer.rcode() == dns.rcode.NOERROR
        assert {rrset.rdtype.name for rrset in answer.answer} == {"MX", "RRSIG"}
        stranger.send(message, [alice.address])
        alice.receive(token)


@pytest.mark.control("AVL-01")
def test_while_webmail_is_down_mail_and_imap_go_on(lab: Instance, alice: OfficeUser, bob: OfficeUser) -> None:
    """Webmail is a client like others."""
    message, token = compose(alice.address, [bob.address])
    with down(lab, "webmail"):
        alice.send(message, [bob.address])
        bob.receive(token)
