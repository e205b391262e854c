"""An account from beginning to end: created, its password changed, protected, disabled at once, and never reset by an apply."""

from __future__ import annotations

import base64
import re
import smtplib
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from email import message_from_bytes

import pytest
from imap_tools import AND
from imap_tools.errors import MailboxLoginError
from playwright.sync_api import Page, expect

from outpost.office import ports
from outpost.onhost.accounts import time_code
from outpost.target import ROOT
from outpost_lab import pace
from outpost_lab.instance import Instance
from outpost_lab.post import Neighbour, OfficeUser, compose
from tests.journeys.desk import change_password, idle, log_in, log_out, needs_browser, on_disk
from tests.journeys.test_junk import hand_over

pytestmark = [needs_browser, pytest.mark.slow]
OWN = "cobalt ravine tuba mosaic"
OTHER = "granite lemon otter viaduct"
MINUTE = 60.0


@dataclass
class Administrator:
    """An administrator at the controller."""

    lab: Instance

    def does(self, *words: str) -> str:
        """The output of a command, which must succeed."""
        command = [sys.executable, "-m", "outpost", *words, "--name", self.lab.name]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def administrator(lab: Instance) -> Administrator:
    return Administrator(lab)


@pytest.fixture(scope="module")
def erin(administrator: Administrator, lab: Instance, alice: OfficeUser) -> Iterator[OfficeUser]:
    """A new user with the first password that the command printed; it is in no file."""
    output = administrator.does("user", "add", "lab", "erin", "--full-name", "Erin Eaton", "--quota", "1GiB")
    (password,) = re.findall(r"first password of erin@\S+: (\S+)", output)
    assert password not in lab.office_file.read_text()
    yield replace(alice, address=f"erin@{lab.office.domain}", password=password)
    administrator.does("user", "remove", "lab", "erin")


def knows(user: OfficeUser, password: str) -> bool:
    """Whether a mail client can log in with that password."""
    try:
        with replace(user, password=password).mailbox():
            return True
    except MailboxLoginError:
        return False


@pytest.mark.control("AUT-02")
def test_a_first_password_is_good_for_choosing_another_and_nothing_else(
    lab: Instance, page: Page, site: str, erin: OfficeUser
) -> None:
    assert not knows(erin, erin.password)
    log_in(page, site, erin)
    expect(page.locator("#access-change")).to_be_visible()
    page.goto(f"{site}?_task=mail")  # no way around it
    expect(page.locator("#access-change")).to_be_visible()
    change_password(page, erin.password, "Myertor2026!")
    expect(page.locator("#messagestack")).to_contain_text("Too easy to guess")
    change_password(page, erin.password, OWN)
    page.wait_for_url(re.compile("_task=mail"))
    expect(page.locator("#messagestack")).to_contain_text("Password changed")
    expect(page.locator("#messagelist")).to_be_attached()
    assert on_disk(lab, OWN) == [], "webmail keeps the password"
    left_open = imap_session(replace(erin, password=OWN))
    page.goto(f"{site}?_task=settings&_action=plugin.access")
    change_password(page, OWN, OTHER)
    expect(page.locator("#messagestack")).to_contain_text("Password changed")
    assert ends(left_open)
    change_password(page, OTHER, OWN)  # the session in which it was changed continues
    expect(page.locator("#messagestack")).to_contain_text("Password changed")
    log_out(page)
    assert knows(erin, OWN)
    assert not knows(erin, erin.password)


@pytest.mark.control("AUT-02")
def test_an_apply_never_resets_a_users_own_password(administrator: Administrator, erin: OfficeUser) -> None:
    administrator.does("plan", "lab", "--limit", "store")  # exit code 0: nothing to change
    administrator.does("user", "quota", "lab", "erin", "2GiB")
    assert knows(erin, OWN)


@pytest.mark.control("AUT-07")
def test_disabling_an_account_ends_every_session_within_a_minute(
    administrator: Administrator, page: Page, site: str, erin: OfficeUser
) -> None:
    user = replace(erin, password=OWN)
    log_in(page, site, user)
    idle(page)
    reading, sending, filtering = imap_session(user), smtp_session(user), sieve_session(user)
    assert all(map(answers, (reading, sending, filtering)))
    administrator.does("user", "disable", "lab", "erin")
    for session in (reading, sending, filtering):  # a minute at most, as `ends` waits
        assert ends(session), f"{session} is still open"
    assert page_ends(page, site)
    assert not knows(erin, OWN)
    log_in(page, site, user)
    expect(page.locator("#messagestack")).to_contain_text("Login failed")
    administrator.does("user", "enable", "lab", "erin")
    assert knows(erin, OWN)
    page.goto(f"{site}?_task=mail")  # the session that was open stays closed
    expect(page.locator("#rcmloginuser")).to_be_visible()


@pytest.mark.control("AUT-06")
def test_with_a_second_factor_a_stolen_password_opens_nothing(
    page: Page, site: str, erin: OfficeUser
) -> None:
    user = replace(erin, password=OWN)
    log_in(page, site, user)
    idle(page)
    page.goto(f"{site}?_task=settings&_action=plugin.access")
    page.fill("#access-add_application-password", OWN)
    page.fill("#access-add_application-name", "telephone")
    page.click("#access-add_application button[type=submit]")
    telephone = page.locator(".access-secret").inner_text().strip()
    expect(page.locator(".access-qr")).to_have_count(2)  # Thunderbird for Android, and Apple's profile
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator(".access-copy").click()
    expect(page.locator(".access-copy")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == telephone
    page.fill("#access-begin_factor-password", OWN)
    page.fill("#access-begin_factor-name", "telephone of Erin")
    page.click("#access-begin_factor button[type=submit]")
    assert page.locator(".access-qr").evaluate("picture => picture.naturalWidth") > 100
    secret = page.locator(".access-secret").inner_text().replace(" ", "")
    page.fill("#access-confirm_factor-code", "1")
    page.click(
        "#access-confirm_factor button[type=submit]"
    )  # a wrong code keeps the form, and shows the secret no more
    expect(page.locator("#access-confirm_factor")).to_be_visible()
    expect(page.locator(".access-secret, .access-qr, .access-uri")).to_have_count(0)
    page.fill("#access-confirm_factor-code", time_code(secret, int(time.time() // 30) - 1))
    page.click("#access-confirm_factor button[type=submit]")
    expect(page.locator("#access-remove_factor")).to_be_visible()
    recovery = page.locator(".access-secret").inner_text().split("\n")
    log_out(page)

    assert not knows(user, OWN)
    assert knows(user, telephone)
    assert answers(smtp_session(replace(user, password=telephone)))
    with pytest.raises(ConnectionRefusedError):
        sieve_session(replace(user, password=telephone))
    log_in(page, site, user)
    expect(page.locator("#messagestack")).to_contain_text("Enter the newest code")
    expect(page.locator("#rcmloginpwd")).to_have_count(0)  # the password is not typed again
    expect(page.locator("#rcmlogincode")).to_be_focused()
    page.fill("#rcmlogincode", "1")
    page.click("#rcmloginsubmit")
    expect(page.locator("#messagestack")).to_contain_text("Enter the newest code")
    page.fill("#rcmlogincode", time_code(secret, int(time.time() // 30)))
    page.click("#rcmloginsubmit")
    idle(page)
    log_out(page)
    log_in(page, site, user)
    page.fill("#rcmlogincode", recovery[0])  # the telephone is lost
    page.click("#rcmloginsubmit")
    idle(page)
    left_open = imap_session(replace(user, password=telephone))
    page.goto(f"{site}?_task=settings&_action=plugin.access")
    expect(page.get_by_text(re.compile(r"made .+, last used .+"))).to_have_count(1)
    expect(page.get_by_text("Unused recovery codes: 7.")).to_be_visible()
    expect(page.get_by_text("(this session)")).to_have_count(1)
    elsewhere = page.context.browser.new_context().new_page()  # type: ignore[union-attr]
    log_in(elsewhere, site, user)
    elsewhere.fill("#rcmlogincode", recovery[1])
    elsewhere.click("#rcmloginsubmit")
    idle(elsewhere)
    page.reload()
    others = page.get_by_role("button", name="End this session")
    before = others.count()
    others.last.click()
    expect(others).to_have_count(before - 1)
    assert page_ends(elsewhere, site)
    page.get_by_role(
        "button", name="Remove telephone", exact=True
    ).click()  # the browser asks, and nobody confirms
    assert knows(user, telephone)
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Remove telephone", exact=True).click()
    expect(page.get_by_role("button", name="Remove telephone", exact=True)).to_have_count(0)
    assert not knows(user, telephone)
    assert ends(left_open)
    page.fill("#access-begin_factor-password", OWN)
    page.fill("#access-begin_factor-name", "tablet")
    page.click("#access-begin_factor button[type=submit]")
    tablet = page.locator(".access-secret").inner_text().replace(" ", "")
    page.fill("#access-confirm_factor-code", time_code(tablet, int(time.time() // 30)))
    page.click("#access-confirm_factor button[type=submit]")
    page.fill("#access-remove_factor-password", OWN)
    page.get_by_role("button", name="Remove telephone of Erin").click()
    expect(page.locator("#messagestack")).to_contain_text("telephone of Erin removed")
    expect(page.get_by_role("button", name="Remove tablet")).to_be_visible()
    log_out(page)


@pytest.mark.control("AUT-06")
def test_a_passkey_replaces_the_code_and_another_computer_has_none(
    administrator: Administrator, page: Page, site: str, erin: OfficeUser
) -> None:
    user, stack = replace(erin, password=OWN), page.locator("#messagestack")
    administrator.does("user", "reset-factor", "lab", "erin")
    laptop = page.context.new_cdp_session(page)
    laptop.send("WebAuthn.enable")
    kind = {"protocol": "ctap2", "transport": "internal", "automaticPresenceSimulation": True}
    own = laptop.send("WebAuthn.addVirtualAuthenticator", {"options": kind})
    log_in(page, site, user)
    idle(page)
    page.goto(f"{site}?_task=settings&_action=plugin.access")
    page.fill("#access-begin_passkey-password", OWN)
    page.fill("#access-begin_passkey-name", "laptop")
    page.click("#access-begin_passkey button[type=submit]")
    page.get_by_role("button", name="Make the passkey now").click()
    expect(page.get_by_role("button", name="Remove laptop")).to_be_visible()
    expect(page.get_by_text("Unused recovery codes: 8.")).to_be_visible()
    log_out(page)

    assert not knows(user, OWN)
    log_in(page, site, user)
    expect(stack).to_contain_text("Use your passkey, or enter a code")
    page.get_by_role("button", name="Use your passkey").click()
    idle(page)
    log_out(page)

    laptop.send("WebAuthn.clearCredentials", own)  # as on a computer that has no passkey of hers
    log_in(page, site, user)
    page.get_by_role("button", name="Use your passkey").click()
    expect(stack).to_contain_text("The browser has given no passkey")
    page.fill("#rcmlogincode", "{}")
    page.click("#rcmloginsubmit")
    expect(stack).to_contain_text("The passkey was not accepted")
    expect(page.locator("#rcmloginuser")).to_be_visible()


@pytest.mark.control("AUT-06")
def test_an_office_that_requires_a_second_factor(
    administrator: Administrator, lab: Instance, page: Page, site: str, erin: OfficeUser
) -> None:
    user = replace(erin, password=OWN)
    administrator.does("user", "reset-factor", "lab", "erin")
    assert knows(user, OWN)
    before = lab.office_file.read_text()
    try:
        lab.office_file.write_text(before + '\n[policy]\nsecond_factor = "required"\n')
        administrator.does("apply", "lab", "--limit", "store", "--yes", "--no-verify")
        assert not knows(user, OWN)
        log_in(page, site, user)
        expect(page.locator("#access-begin_factor")).to_be_visible()
        page.goto(f"{site}?_task=mail")  # no way around it
        expect(page.locator("#access-begin_factor")).to_be_visible()
        page.fill("#access-begin_factor-password", OWN)
        page.fill("#access-begin_factor-name", "telephone")
        page.click("#access-begin_factor button[type=submit]")
        secret = page.locator(".access-secret").inner_text().replace(" ", "")
        page.fill("#access-confirm_factor-code", time_code(secret, int(time.time() // 30)))
        page.click("#access-confirm_factor button[type=submit]")
        expect(page.get_by_text("Unused recovery codes: 8.")).to_be_visible()
        expect(page.locator("#access-remove_factor")).to_have_count(0)
        page.goto(f"{site}?_task=mail")
        idle(page)
        log_out(page)
        assert not knows(user, OWN)
    finally:
        lab.office_file.write_text(before)
        administrator.does("apply", "lab", "--limit", "store", "--yes", "--no-verify")
        administrator.does("user", "reset-factor", "lab", "erin")
    assert knows(user, OWN)


@pytest.mark.control("AUT-03")
def test_a_locked_out_user_reads_for_how_long(lab: Instance, page: Page, site: str, erin: OfficeUser) -> None:
    """The answer does not reveal which accounts exist: an unknown name gets the same."""
    stack = page.locator("#messagestack")
    try:
        for name in ("erin", "nobody-of-that-name"):
            user = replace(erin, address=f"{name}@{lab.office.domain}")
            for number in range(lab.office.limits.login_failures):
                log_in(page, site, user, f"guess number {number}")
                expect(stack).to_contain_text("Login failed", timeout=MINUTE * 1000)  # guessers wait
            log_in(page, site, user, OWN)
            expect(stack).to_contain_text(
                re.compile(r"Too many wrong passwords: try again in [1-9]\d* minutes")
            )
    finally:
        lab.container("store").exec_run(["systemctl", "restart", "outpost-logins.service"])
    assert knows(erin, OWN)


def test_a_new_first_password_voids_everything_that_was_chosen(
    administrator: Administrator, page: Page, site: str, erin: OfficeUser
) -> None:
    output = administrator.does("user", "passwd", "lab", "erin")
    (password,) = re.findall(r"first password of erin@\S+: (\S+)", output)
    assert not knows(erin, OWN)
    log_in(page, site, erin, password)  # no code: the telephone may be lost
    change_password(page, password, OTHER)
    expect(page.locator("#messagestack")).to_contain_text("Password changed")
    assert knows(erin, OTHER)


@pytest.mark.control("SPO-02")
def test_a_shared_mailbox_is_its_members_and_nobody_elses(
    administrator: Administrator,
    erin: OfficeUser,
    alice: OfficeUser,
    bob: OfficeUser,
    lab: Instance,
    page: Page,
    site: str,
) -> None:
    administrator.does("shared", "add", "lab", "tenders", "alice", "--reader", "bob")
    try:
        address = f"tenders@{lab.office.domain}"
        offer, token = compose(bob.address, [address])
        bob.send(offer, [address])
        for user, listed in ((alice, True), (bob, True), (replace(erin, password=OTHER), False)):
            with user.mailbox() as mailbox:
                assert mailbox.folder.exists("Shared/tenders") is listed, user.address
        arrived = shared_message(alice, token)
        with bob.mailbox() as mailbox:
            mailbox.folder.set("Shared/tenders")
            mailbox.delete(mailbox.uids(AND(subject=token)))  # a message that a reader deletes stays
        assert shared_message(alice, token) == arrived
        junk = f"X-Spam: Yes\r\nFrom: shop@internet.test\r\nSubject: {token[::-1]}\r\n\r\nBuy.\r\n"
        hand_over(lab, address, junk)
        assert shared_message(alice, token[::-1]), "JNK-02: members see what the filter took for junk"
        with alice.mailbox() as mailbox:
            _, (_, limits) = mailbox.client.getquotaroot("Shared/tenders")
            most = int(lab.office.limits.mailbox_quota) // 1024
            assert re.search(rf"Shared \(STORAGE \d+ {most}\b", str(limits)), "DOS-14"
        answer, _ = compose(address, [bob.address])
        with alice.submission() as session:
            assert session.send_message(answer, address, [bob.address]) == {}
        log_in(page, site, alice)
        idle(page)
        page.goto(f"{site}?_task=mail&_action=compose&_reply_uid={arrived}&_mbox=Shared%2Ftenders")
        idle(page)
        assert f"<{address}>" in page.locator("#_from option:checked").inner_text()
        page.click("button.send")
        page.wait_for_url(re.compile(r"_task=mail(?!.*_action=compose)"))
        log_out(page)
        with (
            bob.mailbox() as mailbox
        ):  # readers of the shared mailbox see the answer, and the address that it was sent from
            mailbox.folder.set("Shared/tenders")
            (seen,) = (found for found in mailbox.fetch(AND(subject=token)) if found.uid != arrived)
            assert seen.from_ == address
        with (
            bob.submission() as session,
            pytest.raises(smtplib.SMTPRecipientsRefused, match="not owned by user"),
        ):
            session.send_message(answer, address, [bob.address])
    finally:
        administrator.does("shared", "remove", "lab", "tenders")


def shared_message(user: OfficeUser, token: str) -> str:
    """The UID of a message in the shared mailbox, which is waited for."""
    wait = pace.Patience(MINUTE)
    while wait.left:
        with user.mailbox() as mailbox:
            mailbox.folder.set("Shared/tenders")
            if found := mailbox.uids(AND(subject=token)):
                return found[0]
            mailbox.idle.wait(timeout=5)
    raise AssertionError(f"{token} did not come")


@pytest.mark.control("ARC-01")
def test_a_forwarded_copy_is_sealed_and_the_mailbox_keeps_its_own(
    administrator: Administrator, erin: OfficeUser, head: Neighbour, stranger: Neighbour
) -> None:
    administrator.does("user", "forward", "lab", "erin", stranger.address)
    message, token = compose(head.address, [erin.address])
    head.send(message, [erin.address])
    copy = message_from_bytes(stranger.receive(token))
    assert copy["ARC-Seal"], "the next system cannot see what it was when it came"
    assert copy["Return-Path"] == f"<{erin.address}>"  # under the first sender's name SPF would refuse it
    assert replace(erin, password=OTHER).count(token) == 1


# Open sessions --------------------------------------------------------------------------------------------------


@dataclass
class Session:
    """An authenticated session that a program keeps open.

    Attributes:
        noop: The command that shows whether the connection is open.
    """

    name: str
    connection: ssl.SSLSocket
    noop: bytes


def imap_session(user: OfficeUser) -> Session:
    raw = connect(user, ports.IMAPS)
    raw.recv(4096)
    say(raw, f'a LOGIN {user.address} "{user.password}"', b"a OK")
    return Session("IMAP", raw, b"b NOOP\r\n")


def smtp_session(user: OfficeUser) -> Session:
    raw = connect(user, ports.SUBMISSIONS)
    raw.recv(4096)
    raw.sendall(b"EHLO desk.test\r\n")
    raw.recv(4096)
    say(raw, f"AUTH PLAIN {plain(user)}", b"235 ")
    return Session("submission", raw, b"NOOP\r\n")


def sieve_session(user: OfficeUser) -> Session:
    raw = socket.create_connection((user.at, ports.MANAGESIEVE), timeout=MINUTE * pace.load())
    raw.recv(4096)
    raw.sendall(b"STARTTLS\r\n")
    raw.recv(4096)
    wrapped = user.tls.wrap_socket(raw, server_hostname=user.server)
    wrapped.recv(4096)
    say(wrapped, f'AUTHENTICATE "PLAIN" "{plain(user)}"', b"OK")
    return Session("managesieve", wrapped, b"NOOP\r\n")


def connect(user: OfficeUser, port: int) -> ssl.SSLSocket:
    raw = socket.create_connection((user.at, port), timeout=MINUTE * pace.load())
    return user.tls.wrap_socket(raw, server_hostname=user.server)


def plain(user: OfficeUser) -> str:
    return base64.b64encode(f"\0{user.address}\0{user.password}".encode()).decode()


def say(connection: ssl.SSLSocket, line: str, wanted: bytes) -> None:
    connection.sendall(line.encode() + b"\r\n")
    reply = connection.recv(4096)
    if wanted not in reply:
        raise ConnectionRefusedError(reply.decode(errors="replace"))


def page_ends(page: Page, site: str) -> bool:
    """Whether webmail asks for a login again; waits until it does."""
    wait = pace.Patience(MINUTE)
    while wait.left:
        page.goto(f"{site}?_task=mail")
        if page.locator("#rcmloginuser").is_visible():
            return True
        page.wait_for_timeout(1000)
    return False


def answers(session: Session) -> bool:
    """Whether the server still carries out commands."""
    session.connection.sendall(session.noop)
    return re.search(rb"^(b OK|250|OK)", session.connection.recv(4096), re.MULTILINE) is not None


def ends(session: Session) -> bool:
    """Whether the server closes the connection; waits for it."""
    try:
        while session.connection.recv(4096):
            pass
    except (ConnectionError, ssl.SSLError):
        return True
    except TimeoutError:
        return False
    return True
