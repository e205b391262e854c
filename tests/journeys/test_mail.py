"""Mail in every direction of the case study, by real clients, arrives once, complete, and only where it should."""

from __future__ import annotations

import hashlib
import os
import re
import smtplib
from email import message_from_bytes, policy
from email.message import EmailMessage
from ipaddress import ip_address, ip_network

import pytest
from imap_tools import AND

from outpost_lab.post import Correspondent, Neighbour, OfficeUser, Town, compose

INSIDE = ("alice", "bob")
OUTSIDE = ("head_office", "client_site", "stranger")


def someone(town: Town, name: str) -> Correspondent:
    """A user by local part, a neighbour by its kind."""
    return town.user(name) if name in INSIDE else getattr(town, name)


@pytest.mark.parametrize(
    ("sender", "recipient"),
    [("alice", "bob"), *(("alice", name) for name in OUTSIDE), *((name, "alice") for name in OUTSIDE)],
)
def test_mail_arrives_with_its_attachment_intact(town: Town, sender: str, recipient: str) -> None:
    author, reader = someone(town, sender), someone(town, recipient)
    drawing = os.urandom(200_000)
    message, token = compose(author.address, [reader.address])
    message.add_attachment(drawing, maintype="application", subtype="octet-stream", filename="drawing.dwg")
    author.send(message, [reader.address])
    arrived = message_from_bytes(reader.receive(token), policy=policy.default)
    assert isinstance(arrived, EmailMessage)
    (attachment,) = arrived.iter_attachments()
    content = attachment.get_payload(decode=True)
    assert isinstance(content, bytes)
    assert hashlib.sha256(content).digest() == hashlib.sha256(drawing).digest()
    assert reader.count(token) == 1


def test_mail_reaches_only_the_mailbox_it_was_meant_for(
    town: Town, alice: OfficeUser, bob: OfficeUser
) -> None:
    message, token = compose(alice.address, [bob.address])
    alice.send(message, [bob.address])
    bob.receive(token)
    assert [town.user(name).count(token) for name in ("alice", "carol", "dave")] == [0, 0, 0]


def test_an_alias_reaches_each_of_its_members_once(town: Town, stranger: Neighbour) -> None:
    group = f"office@{town.info['domain']}"
    message, token = compose(stranger.address, [group])
    stranger.send(message, [group])
    for name in INSIDE:
        town.user(name).receive(token)
        assert town.user(name).count(token) == 1


def test_a_subaddress_reaches_its_user(town: Town, stranger: Neighbour, bob: OfficeUser) -> None:
    detailed = f"bob+site@{town.info['domain']}"
    message, token = compose(stranger.address, [detailed])
    stranger.send(message, [detailed])
    bob.receive(token)


def test_success_is_reported_to_a_user_who_asks(alice: OfficeUser, bob: OfficeUser) -> None:
    message, token = compose(alice.address, [bob.address])
    alice.send(message, [bob.address], notify="SUCCESS,FAILURE")
    bob.receive(token)
    report = alice.search(AND(from_="MAILER-DAEMON", text=token))
    assert re.search(r"^Action: (relayed|delivered|expanded)", _delivery_status(report.obj), re.MULTILINE)


def test_failure_is_reported_to_the_user_with_its_reason(alice: OfficeUser) -> None:
    nobody = "nobody-by-this-name@myertor.test"
    message, token = compose(alice.address, [nobody])
    alice.send(message, [nobody])
    report = alice.search(AND(from_="MAILER-DAEMON", text=token))
    status = _delivery_status(report.obj)
    assert "Action: failed" in status
    assert re.search(r"^Status: 5\.1\.1", status, re.MULTILINE)
    assert nobody in status


def test_an_unknown_recipient_is_refused_before_the_message_is_taken(town: Town, alice: OfficeUser) -> None:
    unknown = f"nobody@{town.info['domain']}"
    message, _ = compose(alice.address, [unknown])
    with pytest.raises((smtplib.SMTPRecipientsRefused, smtplib.SMTPDataError)) as refusal:
        alice.send(message, [unknown])
    assert "550" in str(refusal.value)


def test_a_user_cannot_send_as_another(alice: OfficeUser, bob: OfficeUser) -> None:
    message, _ = compose(bob.address, [bob.address])
    with pytest.raises(smtplib.SMTPException, match=r"553.*5\.7\.1"), alice.submission() as session:
        session.send_message(message, bob.address, [bob.address])


def test_a_wrong_password_opens_nothing(alice: OfficeUser) -> None:
    intruder = OfficeUser(alice.address, "not-the-password", alice.server, alice.at, alice.authority)
    with pytest.raises(smtplib.SMTPAuthenticationError, match="535"), intruder.submission():
        pass


@pytest.mark.control("DSN-13")
def test_the_trace_is_whole_and_shows_nothing_of_the_inside(
    town: Town, alice: OfficeUser, stranger: Neighbour
) -> None:
    message, token = compose(alice.address, [stranger.address])
    alice.send(message, [stranger.address])
    arrived = message_from_bytes(stranger.receive(token), policy=policy.default)
    trace = arrived.get_all("Received", [])
    assert any(f"mta.{town.info['domain']}" in field for field in trace), trace
    inner = [
        ip_network(f"{address}/{24 if ip_address(address).version == 4 else 64}", strict=False)
        for host in town.info["hosts"].values()
        for zone, addresses in host["addresses"].items()
        if zone != "wan"
        for address in addresses
    ]
    shown = [
        ip_address(found) for field in trace for found in re.findall(r"\[(?:IPv6:)?([0-9a-f.:]+)\]", field)
    ]
    assert not [address for address in shown if any(address in network for network in inner)], trace
    assert not [
        field for field in trace if re.search(r"with L?E?SMTPS?A\b|authenticated", field, re.IGNORECASE)
    ], trace


def _delivery_status(report: object) -> str:
    """The machine-readable part of a delivery status notification (RFC 3464)."""
    parts = [part for part in report.walk() if part.get_content_type() == "message/delivery-status"]  # type: ignore[attr-defined]
    return "\n".join(str(block) for part in parts for block in part.get_payload())
