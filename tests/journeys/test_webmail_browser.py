"""Webmail as a person uses it: Chromium on the LAN, which trusts the office's authority and ignores no error."""

from __future__ import annotations

import re
import subprocess
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from secrets import token_hex
from urllib.parse import quote

import pytest
from imap_tools import AND, Header
from imap_tools.imap_utf7 import utf7_encode
from playwright.sync_api import Browser, Locator, Page, Playwright, Response, expect
from playwright.sync_api import Error as BrowserError

from outpost_lab import pace
from outpost_lab.attack.content import acting_html
from outpost_lab.instance import Instance
from outpost_lab.post import Neighbour, OfficeUser, Town, compose
from roles.webmail.view import WebmailView
from tests.awaiting import until
from tests.journeys.desk import (
    desk_addresses,
    idle,
    launch,
    log_in,
    log_out,
    needs_browser,
    on_disk,
    open_message,
)

TRACKER = "https://tracker.internet.test/pixel.png"

pytestmark = needs_browser


def test_user_logs_in_reads_writes_and_logs_out(
    lab: Instance, page: Page, site: str, alice: OfficeUser, bob: OfficeUser, tmp_path: Path
) -> None:
    question, token = compose(bob.address, [alice.address], "When is the crane due?\n")
    bob.send(question, [alice.address])
    alice.receive(token)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))

    log_in(page, site, alice)
    open_message(page, token)
    expect(page.frame_locator("#messagecontframe").locator("#messagebody")).to_contain_text(
        "When is the crane due?"
    )
    for name in ("Reply", "Delete", "Archive", "Junk"):  # as read below the icon, also of plugins' buttons
        label = page.locator("#layout-content .toolbar").get_by_text(name, exact=True).first
        assert (label.bounding_box() or {"width": 0})["width"] > 10, name
    page.screenshot(path=str(tmp_path / "reading.png"))

    answer = f"answer-{token_hex(8)}"
    plan = tmp_path / "crane.txt"
    plan.write_text(f"Crane plan {answer}\n" * 50)
    idle(page)
    page.click("#taskmenu a.compose")
    page.locator("#compose_to input").press_sequentially("bob")  # the office's address book completes it
    page.locator("#rcmKSearchpane li", has_text=bob.address).first.click()
    page.fill("#compose-subject", answer)
    page.fill("#composebody", f"At seven. {answer}")
    page.set_input_files("input[type=file][name='_attachments[]']", str(plan))
    expect(page.locator("#attachment-list li:not(.uploading)", has_text="crane.txt")).to_be_visible()
    page.screenshot(path=str(tmp_path / "writing.png"))
    page.click("button.send")
    page.wait_for_url(re.compile(r"_task=mail(?!.*_action=compose)"))

    arrived = bob.search(AND(subject=answer))
    assert arrived.from_ == alice.address
    assert [attachment.payload for attachment in arrived.attachments] == [plan.read_bytes()]
    trace = "\n".join(arrived.obj.get_all("Received", []))
    assert not any(str(address) in trace for address in desk_addresses(lab)), "the reader's own address leaks"
    with alice.mailbox() as mailbox:
        mailbox.folder.set("Sent")
        assert len(mailbox.uids(AND(subject=answer))) == 1
    log_out(page)
    page.screenshot(path=str(tmp_path / "leaving.png"))
    assert [text for text in complaints if re.search("Content.Security.Policy|Error", text)] == []


def test_a_word_of_the_text_finds_its_message(
    page: Page, site: str, alice: OfficeUser, bob: OfficeUser
) -> None:
    word = f"gantry{token_hex(6)}"
    wanted, token = compose(bob.address, [alice.address], f"The {word} comes on Monday.\n")
    other, unwanted = compose(bob.address, [alice.address], "The hoist comes on Tuesday.\n")
    for message, mark in ((wanted, token), (other, unwanted)):
        bob.send(message, [alice.address])
        alice.receive(mark)
    log_in(page, site, alice)
    idle(page)
    page.fill("#mailsearchform", word)
    page.press("#mailsearchform", "Enter")
    expect(page.locator("#messagelist tbody tr", has_text=unwanted)).to_have_count(0)
    expect(page.locator("#messagelist tbody tr", has_text=token)).to_be_visible()


def in_list(page: Page, folder: str) -> Locator:
    """The folder in the list, with the number of its unread messages if there are any."""
    return page.locator("#mailboxlist a").filter(has_text=re.compile(rf"^\s*{folder}\s*\d*\s*$"))


@pytest.fixture
def carol(town: Town) -> OfficeUser:
    """Somebody whose browser is German. Webmail keeps the language of a user's first login."""
    return town.user("carol")


def test_a_browser_in_german_gets_german(browser: Browser, site: str, carol: OfficeUser) -> None:
    context = browser.new_context(locale="de-DE")
    page = context.new_page()
    page.goto(site)
    expect(page.locator("label[for=rcmlogincode]")).to_have_text("Code, falls eingerichtet")
    expect(page.locator("#rcmloginsubmit")).to_have_text("Anmelden")
    page.fill("#rcmloginuser", "nobody")
    page.fill("#rcmloginpwd", "wrong")
    page.click("#rcmloginsubmit")
    expect(page.locator("#messagestack")).to_contain_text("Die Anmeldung ist fehlgeschlagen")
    page.goto(f"{site}guide.html")
    expect(page.locator("h1")).to_contain_text("Mail bei")
    guide = page.inner_text("body")
    log_in(page, site, carol)
    idle(page)
    for folder in ("Spam", "Gesendet", "Gelöscht"):  # the guide names what is on the screen
        expect(in_list(page, folder)).to_be_visible()
        assert folder in guide


@pytest.mark.parametrize(
    ("languages", "page_language", "guide_language"),
    [
        ("rm, rm-CH;q=0.9, de;q=0.8, en;q=0.7", "de", "de"),
        ("gsw-CH,de-CH;q=0.9,en;q=0.5", "de", "de"),
        ("fr-CH,fr;q=0.9,en;q=0.8,de;q=0.7", "fr", "en"),
        ("no,de;q=0.5", "nn", "de"),
        ("en-US,en;q=0.9,de;q=0.8", "en", "en"),
        ("tlh, den", "en", "en"),
    ],
)
def test_a_browser_gets_the_first_of_its_languages_that_there_is(
    browser: Browser, site: str, languages: str, page_language: str, guide_language: str
) -> None:
    context = browser.new_context(extra_http_headers={"Accept-Language": languages})
    page = context.new_page()
    for path, expected in (("", page_language), ("guide.html", guide_language)):
        page.goto(f"{site}{path}")
        assert page.evaluate("document.documentElement.lang") == expected


def test_a_browser_in_british_english_reads_the_words_of_the_guide(
    page: Page, site: str, alice: OfficeUser, bob: OfficeUser
) -> None:
    """Roundcube itself uses other words: Spam, Deleted Items."""
    message, token = compose(bob.address, [alice.address])
    bob.send(message, [alice.address])
    alice.receive(token)
    page.goto(f"{site}guide.html")
    guide = page.inner_text("body")
    log_in(page, site, alice)
    idle(page)
    for folder in ("Junk", "Sent", "Trash"):
        expect(in_list(page, folder)).to_be_visible()
        assert folder in guide
    open_message(page, token)
    expect(page.locator("#messagetoolbar a.junk, #toolbar-menu a.junk").first).to_have_text("Junk")


ENGLISH_IN_GERMAN = r"""
require "/etc/roundcube/config.inc.php";
$texts = [];
include "/var/lib/roundcube/plugins/office/texts/de_DE.inc";
function keys($file) {
    $labels = $messages = [];
    if (is_file($file)) {
        include $file;
    }
    return array_keys($labels + $messages);
}
$places = ["" => ["/usr/share/roundcube/program/localization/%s/labels.inc", "/usr/share/roundcube/program/localization/%s/messages.inc"]];
foreach ($config["plugins"] as $plugin) {
    $places["$plugin."] = ["/var/lib/roundcube/plugins/$plugin/localization/%s.inc"];
}
$read = $missing = [];
foreach ($places as $prefix => $files) {
    foreach ($files as $file) {
        $english = keys(sprintf($file, "en_US"));
        $read = [...$read, ...$english];
        foreach (array_diff($english, keys(sprintf($file, "de_DE"))) as $key) {
            $missing[] = $prefix . $key;
        }
    }
}
echo count($read), " ", implode(" ", array_diff($missing, array_keys($texts)));
"""


def test_no_text_of_webmail_is_without_a_german_one(lab: Instance) -> None:
    """Roundcube shows English where a language lacks a text."""
    code, output = lab.container("webmail").exec_run(["php", "-r", ENGLISH_IN_GERMAN])
    assert code == 0, output
    count, *missing = output.decode().split()
    assert int(count) > 800
    assert missing == []


def test_a_message_is_kept_when_the_session_ended_at_send(
    lab: Instance, page: Page, site: str, alice: OfficeUser, bob: OfficeUser
) -> None:
    text = f"An hour of typing {token_hex(8)}"
    log_in(page, site, alice)
    idle(page)
    page.click("#taskmenu a.compose")
    page.locator("#compose_to input").press_sequentially(f"{bob.address},")
    page.fill("#compose-subject", text)
    page.fill("#composebody", text)
    webmail = lab.container("webmail")
    assert (
        webmail.exec_run(["systemctl", "restart", "php8.4-fpm.service"]).exit_code == 0
    )  # ends all sessions
    page.click("button.send")
    expect(page.get_by_role("dialog")).to_contain_text(
        "Your session has ended, and the message was not sent."
    )
    assert page.input_value("#composebody") == text
    assert page.input_value("#compose-subject") == text


INVITATION = """BEGIN:VCALENDAR
VERSION:2.0
METHOD:REQUEST
BEGIN:VTIMEZONE
TZID:W. Europe Standard Time
BEGIN:STANDARD
DTSTART:16010101T030000
TZOFFSETFROM:+0200
TZOFFSETTO:+0100
END:STANDARD
END:VTIMEZONE
BEGIN:VEVENT
UID:{token}
SEQUENCE:3
ORGANIZER;CN="Müller; Peter":MAILTO:{organiser}
ATTENDEE;PARTSTAT=NEEDS-ACTION;RSVP=TRUE:MAILTO:{attendee}
DTSTART;TZID=W. Europe Standard Time:20261203T090000
DTEND;TZID=W. Europe Standard Time:20261203T100000
SUMMARY:Crane <img src=x onerror=alert(1)>\\, {token}
LOCATION:Gate 3
END:VEVENT
END:VCALENDAR
"""


def invited(
    attendee: OfficeUser, organiser: Neighbour, calendar: str = INVITATION, method: str = "REQUEST"
) -> tuple[EmailMessage, str]:
    """An invitation as Outlook sends it, with its own name of the time zone, and the calendar as an alternative to the text."""
    message, token = compose(organiser.address, [attendee.address], "You are invited.\n")
    text = calendar.format(token=token, organiser=organiser.address, attendee=attendee.address)
    message.add_alternative(text.replace("\n", "\r\n"), subtype="calendar", params={"method": method})
    return message, token


def test_a_cancelled_date_of_a_series_leaves_no_doubt_about_the_others(
    page: Page, site: str, alice: OfficeUser, stranger: Neighbour
) -> None:
    cancelled = INVITATION.replace("METHOD:REQUEST", "METHOD:CANCEL").replace(
        "SEQUENCE:3", "SEQUENCE:4\nRECURRENCE-ID:20261203T080000Z"
    )
    message, token = invited(alice, stranger, cancelled, "CANCEL")
    stranger.send(message, [alice.address])
    alice.receive(token)
    log_in(page, site, alice)
    idle(page)
    open_message(page, token)
    shown = page.frame_locator("#messagecontframe").locator(".invitation")
    expect(shown).to_contain_text(re.compile("(Cancelled|Abgesagt): Crane"))
    expect(shown).to_contain_text(re.compile("only this date of a series|nur dieser Termin einer Reihe"))
    expect(shown.get_by_role("button")).to_have_count(0)


@pytest.mark.control("WEB-07", "WEB-10")
def test_an_invitation_is_shown_and_answered(
    browser: Browser, site: str, carol: OfficeUser, stranger: Neighbour
) -> None:
    message, token = invited(carol, stranger)
    stranger.send(message, [carol.address])
    carol.receive(token)
    context = browser.new_context(
        locale="de-DE", timezone_id="Europe/Berlin", viewport={"width": 390, "height": 844}
    )
    page = context.new_page()
    log_in(page, site, carol)
    idle(page)
    page.locator("#messagelist tbody tr", has_text=token).click()
    shown = page.frame_locator("#messagecontframe").locator(".invitation")
    expect(shown).to_contain_text(f"Einladung: Crane <img src=x onerror=alert(1)>, {token}")
    expect(shown).to_contain_text("Do 2026-12-03 09:00 – 10:00")
    expect(shown).to_contain_text("Wo: Gate 3")
    expect(shown).to_contain_text(f"Müller, Peter <{stranger.address}>")
    expect(shown).not_to_contain_text("nicht der Absender")
    assert shown.evaluate("box => box.scrollWidth <= box.clientWidth + 1"), "wider than the telephone"
    shown.get_by_role("button", name="Zusagen").click()
    expect(page.locator("#messagestack")).to_contain_text(f"Ihre Antwort ging an {stranger.address}")
    answer = message_from_bytes(stranger.receive(f"UID:{token}"), policy=policy.default)
    assert answer["From"].addresses[0].addr_spec == carol.address
    (calendar,) = (part for part in answer.walk() if part.get_content_type() == "text/calendar")
    assert calendar.get_param("method") == "REPLY"
    lines = calendar.get_content().replace("\r\n", "\n").replace("\n ", "").splitlines()
    assert {"METHOD:REPLY", f"UID:{token}", "SEQUENCE:3", f"ORGANIZER:mailto:{stranger.address}"} <= set(
        lines
    )
    (attendee,) = (line for line in lines if line.startswith("ATTENDEE"))
    assert attendee.endswith(f"PARTSTAT=ACCEPTED:mailto:{carol.address}")
    with carol.mailbox() as mailbox:
        mailbox.folder.set("Sent")
        (copy,) = mailbox.fetch(AND(header=Header("Message-ID", str(answer["Message-ID"]))))
    assert f"UID:{token}" in copy.obj.as_string()


@pytest.mark.control("WEB-10")
def test_who_invites_in_the_name_of_another_is_named_as_not_the_sender(
    page: Page, site: str, alice: OfficeUser, bob: OfficeUser, stranger: Neighbour
) -> None:
    message, token = invited(alice, stranger)
    message.replace_header("From", bob.address)
    bob.send(message, [alice.address])
    alice.receive(token)
    log_in(page, site, alice)
    open_message(page, token)
    shown = page.frame_locator("#messagecontframe").locator(".invitation")
    expect(shown).to_contain_text("The organiser is not the sender of this message.")


def test_http_leads_to_https(page: Page, site: str) -> None:
    page.goto(site.replace("https://", "http://"))
    assert page.url.startswith(site)
    expect(page.locator("#rcmloginuser")).to_be_visible()


def test_webmail_is_usable_on_a_telephone_and_by_keyboard(
    browser: Browser, site: str, alice: OfficeUser, tmp_path: Path
) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    page = context.new_page()
    page.set_default_timeout(20_000 * pace.load())
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(site)
    expect(page.locator("#rcmloginuser")).to_be_focused()
    page.keyboard.type(alice.address.partition("@")[0])
    page.keyboard.press("Tab")
    page.keyboard.type(alice.password)
    page.keyboard.press("Enter")
    idle(page)
    expect(page.locator("#messagelist")).to_be_visible(timeout=20_000 * pace.load())
    pages = (
        "?_task=mail",
        "?_task=mail&_action=compose",
        "?_task=settings&_action=plugin.access",
        "guide.html",
    )
    page.goto(f"{site}.well-known/change-password")  # as password managers do
    expect(page.locator("#access-change-password")).to_be_visible()
    for number, path in enumerate(pages):
        page.goto(f"{site}{path}")
        page.screenshot(path=str(tmp_path / f"telephone-{number}.png"))
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, (
            f"{path} is wider than the screen"
        )
    assert [text for text in complaints if "Content Security Policy" in text] == []


@pytest.mark.control("SPO-02")
def test_user_is_offered_the_senders_that_the_mta_accepts(
    lab: Instance, page: Page, site: str, bob: OfficeUser
) -> None:
    log_in(page, site, bob)
    idle(page)
    page.click("#taskmenu a.compose")
    expect(page.locator("#_from")).to_be_visible()
    offered = page.locator("#_from option").all_text_contents()
    (webmail,) = lab.office.with_role("webmail")
    (user,) = (user for user in lab.office.users if user.address == bob.address)
    assert offered[0] == f"{user.full_name} <{user.address}>"
    assert {entry.rpartition("<")[2].rstrip(">") for entry in offered} == {
        user.address,
        *WebmailView(lab.office, webmail).shared_addresses.get(user.address, ()),
    }


def test_user_finds_filters_and_absence_notes_of_the_store(page: Page, site: str, alice: OfficeUser) -> None:
    log_in(page, site, alice)
    idle(page)
    page.goto(f"{site}?_task=settings&_action=plugin.managesieve-vacation")
    expect(page.locator("textarea[name=vacation_reason]")).to_be_visible()
    expect(page.locator("#messagestack .error")).to_have_count(0)


@pytest.mark.control("WEB-06")
def test_nothing_of_a_session_stays_on_the_host(
    lab: Instance, page: Page, site: str, alice: OfficeUser, bob: OfficeUser
) -> None:
    canary = f"canary-{token_hex(12)}"
    message, token = compose(bob.address, [alice.address], f"{canary}\n" * 400)
    bob.send(message, [alice.address])
    alice.receive(token)
    log_in(page, site, alice)
    open_message(page, token)
    expect(page.frame_locator("#messagecontframe").locator("#messagebody")).to_contain_text(canary)
    session = next(
        cookie["value"] for cookie in page.context.cookies() if cookie["name"] == "roundcube_sessid"
    )
    assert on_disk(lab, alice.address.partition("@")[0]), "the search finds nothing at all: it proves nothing"
    assert on_disk(lab, alice.password) == [], "a password in clear, while logged in"
    log_out(page)
    for text in (canary, token, alice.password):
        assert on_disk(lab, text) == []
    assert [file for file in on_disk(lab, "roundcube") if session in file] == []


@pytest.mark.control("WEB-07", "WEB-01")
def test_hostile_mail_runs_no_script_and_fetches_nothing(
    page: Page, site: str, alice: OfficeUser, stranger: Neighbour
) -> None:
    message, token = hostile_message(stranger.address, alice.address)
    stranger.send(message, [alice.address])
    alice.receive(token)
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    log_in(page, site, alice)
    open_message(page, token)
    body = page.frame_locator("#messagecontframe")
    expect(body.locator("#messagebody")).to_contain_text("Invoice attached")
    body.locator("#messagebody a").first.hover()
    frames = [frame.evaluate("[typeof window.owned, document.title]") for frame in page.frames]
    assert all(kind == "undefined" and title != "owned" for kind, title in frames)
    assert [url for url in requests if not url.startswith((site, "data:", "blob:", "about:"))] == []
    # The same search finds a request once the user loads the pictures.
    with page.expect_request(TRACKER):
        body.locator("#remote-objects-message a, #remote-objects-message button").first.click()
    log_out(page)


def hostile_message(sender: str, recipient: str) -> tuple[EmailMessage, str]:
    """Mail with active content of every kind that has worked in some browser."""
    message, token = compose(sender, [recipient], "Invoice attached.\n")
    message.add_alternative(acting_html(TRACKER), subtype="html")
    return message, token


@pytest.mark.control("WEB-08", "AUT-04")
def test_wrong_password_is_refused_with_the_readers_address_in_the_log(
    lab: Instance, page: Page, site: str, alice: OfficeUser
) -> None:
    answers: list[Response] = []
    page.on("response", lambda answer: answers.append(answer))
    log_in(page, site, alice, f"wrong-{token_hex(8)}")
    expect(page.locator("#messagestack")).to_contain_text("Login failed")
    assert [
        answer.status
        for answer in answers
        if "_action=login" in answer.url or answer.request.method == "POST"
    ] == [401]
    (webmail,) = lab.office.with_role("webmail")
    journal = ["journalctl", "--identifier=roundcube", "--lines=20", "--output=cat"]
    log = subprocess.run(
        ["docker", "exec", lab.container_name(webmail.name), *journal],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    sources = re.findall(r"Failed login for alice from (\S+) ", log)
    assert sources
    assert sources[-1] in desk_addresses(lab)


@pytest.mark.control("WEB-03")
def test_login_changes_the_session_and_a_stolen_old_one_is_worthless(
    page: Page, site: str, alice: OfficeUser
) -> None:
    page.goto(site)
    before = {cookie["value"] for cookie in page.context.cookies()}
    log_in(page, site, alice)
    expect(page.locator("#messagelist")).to_be_attached()
    after = {cookie["value"] for cookie in page.context.cookies()}
    assert before
    assert not before & after
    kept = page.context.cookies()
    log_out(page)
    page.context.clear_cookies()
    page.context.add_cookies(kept)  # type: ignore[arg-type]  # what cookies() gives is what add_cookies() takes
    page.goto(f"{site}?_task=mail")
    expect(page.locator("#rcmloginuser")).to_be_visible()


def test_browser_without_the_offices_authority_refuses_the_site(
    lab: Instance, playwright: Playwright, site: str, tmp_path: Path
) -> None:
    """Positive control of the tests above: the certificate is verified."""
    stranger = launch(lab, playwright, tmp_path)
    with pytest.raises(BrowserError, match="ERR_CERT_AUTHORITY_INVALID"):
        stranger.new_page().goto(site)
    stranger.close()


def test_a_filter_into_a_folder_with_an_umlaut_delivers_there(
    lab: Instance, page: Page, site: str, alice: OfficeUser, bob: OfficeUser
) -> None:
    folder = f"Gebühren {token_hex(4)}"
    with alice.mailbox() as mailbox:
        mailbox.folder.create(folder)
        mailbox.folder.subscribe(folder, True)
    try:
        log_in(page, site, alice)
        idle(page)
        page.goto(f"{site}?_task=settings&_action=plugin.managesieve-action&_framed=1&_nav=hide")
        page.fill("input[name=_name]", folder)
        page.select_option("select[name=_join]", "any")
        page.select_option("select[name='_action_type[0]']", "fileinto")
        page.select_option("select[name='_action_mailbox[0]']", label=folder)
        page.locator("button.submit, input.submit").first.click()
        page.wait_for_load_state("networkidle")
        message, token = compose(bob.address, [alice.address])
        bob.send(message, [alice.address])

        def filed() -> list[str]:
            with alice.mailbox() as mailbox:
                mailbox.folder.set(folder)
                return mailbox.uids(AND(subject=token))

        until(filed, "the message is in its folder", seconds=60)
        with alice.mailbox() as mailbox:
            assert [found.name for found in mailbox.folder.list() if "&" in found.name] == []
    finally:
        lab.container("store").exec_run(
            [
                "sh",
                "-c",
                f"doveadm sieve delete -u {alice.address} roundcube; doveadm sieve deactivate -u {alice.address}",
            ]
        )
        with alice.mailbox() as mailbox:
            mailbox.folder.delete(folder)


def test_a_filter_follows_a_folder_that_webmail_renames(
    lab: Instance, page: Page, site: str, alice: OfficeUser, bob: OfficeUser
) -> None:
    token = token_hex(4)
    old, new, other = f"Prüfung (alt) {token}", f"Geprüft $1 {token}", f"Prüfung (alt) {token}, fertig"
    filters = f"""require ["fileinto", "copy"];
if header :contains "subject" "crane" {{ fileinto :copy "{old}/Nord"; }} else {{ fileinto "{old}"; }}
if false {{ fileinto "{other}"; }}
"""
    store = ["docker", "exec", "-i", lab.container_name("store"), "doveadm", "sieve"]
    with alice.mailbox() as mailbox:
        mailbox.folder.create(old)
        mailbox.folder.create(f"{old}/Nord")
    try:
        put = [*store, "put", "-a", "-u", alice.address, "roundcube"]
        subprocess.run(put, input=filters, text=True, capture_output=True, check=True)
        log_in(page, site, alice)
        idle(page)
        name = quote(utf7_encode(old).decode())
        page.goto(f"{site}?_task=settings&_action=edit-folder&_mbox={name}&_framed=1")
        page.fill("[name=_name]", new)
        with page.expect_navigation():
            page.locator("button.submit").click()
        get = [*store, "get", "-u", alice.address, "roundcube"]
        kept = subprocess.run(get, text=True, capture_output=True, check=True).stdout
        for folder in (f'"{new}/Nord"', f'"{new}"', f'"{other}"'):
            assert folder in kept
        message, subject = compose(bob.address, [alice.address])
        bob.send(message, [alice.address])

        def filed() -> list[str]:
            with alice.mailbox() as mailbox:
                mailbox.folder.set(new)
                return mailbox.uids(AND(subject=subject))

        until(filed, "the message is in the renamed folder", seconds=60)
        with alice.mailbox() as mailbox:
            assert not mailbox.folder.exists(old)
    finally:
        for command in (["deactivate", "-u", alice.address], ["delete", "-u", alice.address, "roundcube"]):
            subprocess.run([*store, *command], capture_output=True, check=False)
        with alice.mailbox() as mailbox:
            for folder in [found.name for found in mailbox.folder.list() if token in found.name][::-1]:
                mailbox.folder.delete(folder)


def test_a_signature_for_a_shared_address_leaves_the_default_sender(
    page: Page, site: str, bob: OfficeUser
) -> None:
    log_in(page, site, bob)
    idle(page)
    page.goto(f"{site}?_task=settings&_action=identities")
    rows = page.locator("#identities-table tbody tr")
    expect(rows.nth(1)).to_be_visible()
    shared = next(text for text in rows.all_text_contents() if f"<{bob.address}>" not in text)
    rows.filter(has_text=shared.strip()).first.click()
    frame = page.frame_locator("#preferences-frame")
    frame.locator("[name=_signature]").fill("Tenders, SteelTec site")
    frame.locator("button.submit, input.submit").first.click()
    expect(page.locator("#messagestack .confirmation")).to_be_visible()
    page.goto(f"{site}?_task=mail&_action=compose")
    assert f"<{bob.address}>" in page.locator("#_from option:checked").inner_text()
