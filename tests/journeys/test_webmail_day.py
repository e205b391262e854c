"""A day in webmail, in German, on a telephone: what makes people call the administrator does not happen."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from email import message_from_bytes, policy
from pathlib import Path
from secrets import token_hex

import pytest
from imap_tools import AND
from playwright.sync_api import Browser, Page, expect

from outpost.onhost.accounts import time_code
from outpost_lab import pace
from outpost_lab.instance import Instance
from outpost_lab.post import Neighbour, OfficeUser, Town
from outpost_lab.post import compose as composed
from tests.journeys.desk import idle, log_in, log_out, needs_browser

pytestmark = [needs_browser, pytest.mark.slow]
BLOCK = b"Subject: filling\r\n\r\n" + b"0123456789abcdef\r\n" * (14 * 1024 * 1024 // 18)


@pytest.fixture
def telephone(browser: Browser) -> Page:
    context = browser.new_context(
        locale="de-DE",
        timezone_id="Europe/Berlin",
        viewport={"width": 390, "height": 844},
        is_mobile=True,
        has_touch=True,
    )
    page = context.new_page()
    page.set_default_timeout(30_000 * pace.load())
    return page


@pytest.fixture
def dave(town: Town) -> Iterator[OfficeUser]:
    """A user with a small mailbox, emptied of what the test put there."""
    user = town.user("dave")
    with user.mailbox() as mailbox:
        mailbox.client.create("Filling")
    yield user
    with user.mailbox() as mailbox:
        mailbox.client.delete("Filling")
        for folder in ("Sent", "Drafts"):
            mailbox.folder.set(folder)
            mailbox.delete(mailbox.uids())


@pytest.fixture
def carol(town: Town) -> OfficeUser:
    """The user whose webmail is German."""
    return town.user("carol")


def fill(user: OfficeUser, folder: str) -> None:
    """Append to a folder until the store refuses."""
    with user.mailbox() as mailbox:
        for block in (BLOCK, BLOCK[: 1024 * 1024], BLOCK[: 32 * 1024], BLOCK[:1024]):
            while mailbox.client.append(folder, "", "", block)[0] == "OK":
                pass


def compose(page: Page, site: str, to: OfficeUser, text: str) -> None:
    page.goto(f"{site}?_task=mail&_action=compose")
    idle(page)
    page.locator("#compose_to input").press_sequentially(f"{to.address},")
    page.fill("#compose-subject", text)
    page.fill("#composebody", text)


def send(page: Page) -> None:
    """By the button that a telephone shows."""
    page.locator(".send:visible").first.click()


def count(user: OfficeUser, folder: str, token: str) -> int:
    with user.mailbox() as mailbox:
        mailbox.folder.set(folder)
        return len(mailbox.uids(AND(subject=token)))


@pytest.mark.control("DOS-08")
def test_a_full_mailbox_sends_and_keeps_a_copy_until_there_is_no_room_at_all(
    telephone: Page, site: str, dave: OfficeUser, bob: OfficeUser
) -> None:
    fill(dave, "Filling")
    log_in(telephone, site, dave)
    idle(telephone)
    first, second = f"first {token_hex(6)}", f"second {token_hex(6)}"
    compose(telephone, site, bob, first)
    telephone.fill("#composebody", f"{first}\n" * 200)  # larger than what is left
    send(telephone)
    telephone.wait_for_url(re.compile(r"_task=mail(?!.*_action=compose)"))
    bob.receive(first)
    assert count(dave, "Sent", first) == 1

    fill(dave, "Sent")
    compose(telephone, site, bob, second)
    send(telephone)
    box = telephone.get_by_role("dialog")
    expect(box).to_contain_text("Ihr Postfach ist voll, die Nachricht ist nicht gesendet")
    expect(telephone.locator("#messagestack")).not_to_contain_text("erfolgreich")
    box.get_by_role("button").last.click()
    assert telephone.input_value("#composebody") == second
    telephone.select_option("select[name=_store_target]", value="", force=True)
    send(telephone)
    telephone.wait_for_url(re.compile(r"_task=mail(?!.*_action=compose)"))
    bob.receive(second)
    assert count(bob, "INBOX", second) == 1, "it was sent twice"


@pytest.mark.control("WEB-03")
def test_a_session_that_ended_at_send_leaves_message_and_attachments_and_says_so(
    lab: Instance, telephone: Page, site: str, carol: OfficeUser, bob: OfficeUser, tmp_path: Path
) -> None:
    token = token_hex(6)
    text = f"Grüße {token}"
    plan = tmp_path / "Kranplan Süd.txt"
    plan.write_text(f"{text}\n" * 50)
    log_in(telephone, site, carol)
    idle(telephone)
    compose(telephone, site, bob, text)
    telephone.set_input_files("input[type=file][name='_attachments[]']", str(plan))
    expect(telephone.locator("#messagestack")).to_contain_text(
        "Nachricht als Entwurf gespeichert", timeout=30_000 * pace.load()
    )
    in_front = "button => button.contains(document.elementFromPoint(...(({x, y, width, height}) => [x + width / 2, y + height / 2])(button.getBoundingClientRect())))"
    assert telephone.locator(".send:visible").first.evaluate(in_front), "the message lies on Send"
    assert count(carol, "Drafts", token) == 1
    telephone.wait_for_function("!rcmail.busy")
    end = lab.container("webmail").exec_run(["systemctl", "restart", "php8.4-fpm.service"])
    assert end.exit_code == 0  # ends all sessions
    send(telephone)
    box = telephone.get_by_role("dialog")
    expect(box).to_contain_text("Ihre Sitzung ist beendet, die Nachricht ist nicht gesendet")
    with telephone.context.expect_page() as opened:
        box.get_by_role("link", name="Neu anmelden").click()
    again = opened.value
    again.fill("#rcmloginuser", carol.address.partition("@")[0])
    again.fill("#rcmloginpwd", carol.password)
    again.click("#rcmloginsubmit")
    idle(again)
    expect(again.locator("#messagelist tbody tr", has_text=text)).to_be_visible()
    assert telephone.input_value("#composebody") == text  # what was typed is there until the page is closed
    box.get_by_role("button").last.click()
    send(telephone)  # and the page only shows what to do
    expect(box).to_contain_text("Ihre Sitzung ist beendet")
    with carol.mailbox() as mailbox:
        mailbox.folder.set("Drafts")
        (draft,) = mailbox.fetch(AND(subject=token))
        assert [found.payload for found in draft.attachments] == [plan.read_bytes()]
        mailbox.delete([str(draft.uid)])
    assert count(bob, "INBOX", token) == 0


def test_send_waits_for_a_draft_that_is_being_saved(
    telephone: Page, site: str, carol: OfficeUser, bob: OfficeUser
) -> None:
    text = f"At once {token_hex(6)}"
    log_in(telephone, site, carol)
    idle(telephone)
    compose(telephone, site, bob, text)
    telephone.evaluate(
        "() => { rcmail.command('savedraft'); document.querySelector('button.send').click();"
        " document.querySelector('button.send').click(); }"
    )
    telephone.wait_for_url(re.compile(r"_task=mail(?!.*_action=compose)"))
    bob.receive(text)
    assert count(bob, "INBOX", text) == 1
    assert count(carol, "Sent", text) == 1
    assert count(carol, "Drafts", text) == 0


def test_the_largest_file_is_sent_and_a_larger_one_is_refused_with_the_limit(
    telephone: Page, site: str, carol: OfficeUser, bob: OfficeUser, tmp_path: Path
) -> None:
    token = token_hex(6)
    text = f"Große Pläne {token}"
    large, largest = tmp_path / "zu groß.bin", tmp_path / "größtes.bin"
    large.write_bytes(b"\0" * 25 * 1024 * 1024)
    largest.write_bytes(bytes(range(256)) * (17 * 4096))
    log_in(telephone, site, carol)
    idle(telephone)
    compose(telephone, site, bob, text)
    chosen = "input[type=file][name='_attachments[]']"
    telephone.set_input_files(chosen, str(large))
    expect(telephone.locator("#messagestack")).to_contain_text("Maximalgröße von 18")
    telephone.set_input_files(chosen, str(largest))
    done = telephone.locator("#attachment-list li:not(.uploading)", has_text="größtes.bin")
    expect(done).to_be_attached(timeout=60_000 * pace.load())
    send(telephone)
    telephone.wait_for_url(re.compile(r"_task=mail(?!.*_action=compose)"), timeout=120_000 * pace.load())
    bob.receive(token)
    with bob.mailbox() as mailbox:
        (arrived,) = mailbox.fetch(AND(subject=token))
        assert [len(found.payload) for found in arrived.attachments] == [largest.stat().st_size]
        mailbox.delete([str(arrived.uid)])
    assert count(carol, "Sent", token) == 1


def test_a_long_word_in_a_subject_is_read_whole(
    telephone: Page, site: str, carol: OfficeUser, bob: OfficeUser
) -> None:
    message, token = composed(bob.address, [carol.address])
    message.replace_header("Subject", f"Donaudampfschifffahrtsgesellschaftskapitänsmütze {token}")
    bob.send(message, [carol.address])
    carol.receive(token)
    log_in(telephone, site, carol)
    idle(telephone)
    telephone.locator("#messagelist tbody tr", has_text=token).click()
    subject = telephone.frame_locator("#messagecontframe").locator("#message-header .subject")
    expect(subject).to_contain_text(token)
    assert subject.evaluate("text => text.scrollWidth <= text.clientWidth + 1"), "wider than the telephone"


def test_a_folder_that_a_telephone_renamed_is_named_as_gone(
    telephone: Page, site: str, carol: OfficeUser
) -> None:
    old, new = f"Alt {token_hex(4)}", f"Neu {token_hex(4)}"
    with carol.mailbox() as mailbox:
        mailbox.folder.create(old)
        mailbox.folder.subscribe(old, True)
    log_in(telephone, site, carol)
    idle(telephone)
    with carol.mailbox() as mailbox:
        mailbox.folder.rename(old, new)
    stack = telephone.locator("#messagestack")
    try:
        telephone.evaluate("folder => rcmail.list_mailbox(folder)", old)
        expect(stack).to_contain_text("Diesen Ordner gibt es nicht mehr")
        telephone.goto(f"{site}?_task=mail&_mbox={old}")
        expect(stack).to_contain_text("Diesen Ordner gibt es nicht mehr")
        telephone.goto(f"{site}?_task=settings&_action=edit-folder&_framed=1")
        telephone.fill("[name=_name]", new)
        telephone.locator("button.submit").click()
        expect(stack).to_contain_text("Einen Ordner mit diesem Namen gibt es schon")
        expect(stack).not_to_contain_text("Mailbox")
    finally:
        with carol.mailbox() as mailbox:
            mailbox.folder.delete(new)


def test_an_absence_note_names_its_author(
    lab: Instance, telephone: Page, site: str, carol: OfficeUser, stranger: Neighbour
) -> None:
    message, _ = composed(stranger.address, [carol.address])
    subject = f"Abwesend {token_hex(6)}"
    log_in(telephone, site, carol)
    idle(telephone)
    telephone.goto(f"{site}?_task=settings&_action=plugin.managesieve-vacation")
    telephone.fill("[name=vacation_subject]", subject)
    telephone.fill("[name=vacation_reason]", "Ab Montag bin ich wieder da. Grüße")
    telephone.select_option("[name=vacation_status]", "on")
    telephone.locator(".submit:visible").first.click()
    try:
        expect(telephone.locator("#messagestack")).to_contain_text("Abwesenheitsnotiz gespeichert")
        stranger.send(message, [carol.address])
        note = message_from_bytes(stranger.receive(subject), policy=policy.default)
        (author,) = note["From"].addresses
        assert (author.display_name, author.addr_spec) == ("Carol Cooper", carol.address)
        assert "Grüße" in note.get_content()
    finally:
        lab.container("store").exec_run(
            [
                "sh",
                "-c",
                "doveadm sieve deactivate -u $0; doveadm sieve delete -u $0 roundcube",
                carol.address,
            ]
        )


@pytest.mark.parametrize(("first", "last"), [("2030-12-23", "2030-01-06"), ("", "2026-01-06")])
def test_an_absence_with_the_wrong_year_is_not_saved(
    telephone: Page, site: str, carol: OfficeUser, first: str, last: str
) -> None:
    page = telephone
    log_in(page, site, carol)
    idle(page)
    page.goto(f"{site}?_task=settings&_action=plugin.managesieve-vacation")
    page.fill("[name=vacation_datefrom]", first)
    page.keyboard.press("Escape")
    page.fill("[name=vacation_dateto]", last)
    page.keyboard.press("Escape")
    page.fill("[name=vacation_reason]", "Frohe Weihnachten")
    page.select_option("[name=vacation_status]", "on")
    page.locator(".submit:visible").first.click()
    expect(page.locator("#messagestack")).to_contain_text("Nicht gespeichert: Der letzte Tag der Abwesenheit")
    expect(page.locator("[name=vacation_reason]")).to_have_value("Frohe Weihnachten")


def test_a_link_to_a_message_that_left_junk_says_so(
    telephone: Page, site: str, carol: OfficeUser, bob: OfficeUser
) -> None:
    """As those of the weekly list of junk are, when somebody opens one a second time."""
    message, token = composed(bob.address, [carol.address])
    with carol.mailbox() as mailbox:
        mailbox.client.append("Junk", "", "", message.as_bytes())
        mailbox.folder.set("Junk")
        (uid,) = mailbox.uids(AND(subject=token))
    link = f"{site}?_task=mail&_action=show&_mbox=Junk&_uid={uid}"
    telephone.goto(link)
    telephone.fill("#rcmloginuser", carol.address)
    telephone.fill("#rcmloginpwd", carol.password)
    telephone.click("#rcmloginsubmit")
    idle(telephone)
    expect(telephone.locator("#message-header")).to_contain_text(token)
    telephone.evaluate("rcmail.command('plugin.markasjunk.not_junk')")
    telephone.wait_for_url(lambda url: "_action=show" not in url)
    assert count(carol, "INBOX", token) == 1
    telephone.goto(link)
    expect(telephone.locator("body")).to_contain_text("Diese Nachricht wurde verschoben oder gelöscht")
    expect(telephone.locator("body")).not_to_contain_text(re.compile("Serverfehler", re.IGNORECASE))


def test_the_stores_folders_have_german_names(telephone: Page, site: str, carol: OfficeUser) -> None:
    page = telephone
    log_in(page, site, carol)
    idle(page)
    lists = {
        "?_task=mail": "#mailboxlist a",
        "?_task=settings&_action=folders": "#subscription-table a",
        "?_task=settings&_action=plugin.managesieve-action&_framed=1": "[name='_action_mailbox[0]'] option",
    }
    for path, entries in lists.items():
        page.goto(f"{site}{path}")
        page.wait_for_load_state("networkidle")
        names = {text.strip() for text in page.locator(entries).all_text_contents()}
        assert {"Spam", "Gesperrt", "Domains", "Archiv"} <= names, path
        assert not {"Blocked", "Archive"} & names, path


NAME = """O"Brien's <b>📱</b> Müller & Söhne"""


FORM_THEN_PAGE = """async ([page, form]) => {
  await fetch(page, {method: "POST", body: new URLSearchParams(form), redirect: "manual"});
  return (await fetch(page)).text();
}"""
"""What somebody gets who has the session's cookie and asks for the page after its user has sent a form."""


@pytest.mark.control("AUT-06")
def test_access_is_set_up_in_german_with_names_as_people_type_them(
    telephone: Page, browser: Browser, site: str, town: Town
) -> None:
    page, user = telephone, town.user("dave")
    access = f"{site}?_task=settings&_action=plugin.access"
    log_in(page, site, user)
    idle(page)
    page.goto(access)
    page.on("dialog", lambda dialog: dialog.accept())
    name = page.locator("#access-add_application-name")
    name.press_sequentially("x" * 50)
    expect(name).to_have_value("x" * 40)  # the store keeps no more of it
    page.fill("#access-add_application-password", "mistyped")
    name.fill(NAME)
    page.click("#access-add_application button[type=submit]")
    expect(page.locator("#messagestack")).to_contain_text("Das Passwort ist nicht richtig")
    expect(name).to_have_value(NAME)  # it is not typed again
    page.fill("#access-add_application-password", user.password)
    page.click("#access-add_application button[type=submit]")
    expect(page.locator(".boxinformation")).to_contain_text(f"Das Passwort für {NAME}")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    token = page.locator("#access-add_application input[name=_token]").get_attribute("value")
    form = {"_do": "add_application", "_password": user.password, "_name": "copied", "_token": token}
    fetched = page.evaluate(FORM_THEN_PAGE, [access, form])
    assert "copied" in fetched, "the password was made"
    assert "access-secret" not in fetched, "a request without the name of the result got the password"
    page.evaluate(FORM_THEN_PAGE, [access, form | {"_do": "remove_application"}])
    page.fill("#access-begin_factor-password", user.password)
    page.fill("#access-begin_factor-name", NAME)
    page.click("#access-begin_factor button[type=submit]")
    secret = page.locator(".access-secret").inner_text().replace(" ", "")
    assert page.locator(".access-qr").evaluate("picture => picture.naturalWidth") > 100
    with page.expect_request(lambda request: request.is_navigation_request()) as reloaded:
        page.reload()  # a telephone does so when its user comes back from the app
    assert reloaded.value.method == "GET", "the form is sent again"
    for _ in range(2):  # the code can be entered, and who has not scanned the key reads how to get another
        expect(page.locator(".access-secret, .access-qr, .access-uri")).to_have_count(0)
        expect(page.get_by_text("Der Schlüssel wird nur einmal angezeigt.")).to_be_visible()
        page.fill("#access-confirm_factor-code", "000000")
        page.click("#access-confirm_factor button[type=submit]")
        expect(page.locator("#messagestack")).to_contain_text("Geben Sie den neuesten Code")
    page.fill("#access-confirm_factor-code", time_code(secret, int(time.time() // 30)))
    page.click("#access-confirm_factor button[type=submit]")
    recovery = page.locator(".access-secret").inner_text().split("\n")
    assert len(recovery) == 8
    assert all(re.fullmatch(r"\d{5}( \d{5}){3}", one) for one in recovery), "one code is one line"
    try:
        other = browser.new_context(locale="de-DE", viewport={"width": 1280, "height": 800}).new_page()
        log_in(other, site, user)
        for code in ("000000", recovery[0].upper()):  # telephones begin with a capital letter
            expect(other.locator("#rcmloginpwd")).to_have_count(0)
            other.fill("#rcmlogincode", code)
            with other.expect_navigation():
                other.click("#rcmloginsubmit")
        idle(other)
        log_out(other)
        log_in(other, site, user)
        other.fill("#rcmlogincode", recovery[0])  # each code is valid once
        with other.expect_navigation():
            other.click("#rcmloginsubmit")
        expect(other.locator("#messagestack")).to_contain_text("Geben Sie den neuesten Code")
        other.fill("#rcmlogincode", recovery[1])
        other.click("#rcmloginsubmit")
        idle(other)
        page.reload()
        expect(page.get_by_text(re.compile("Unbenutzte Wiederherstellungscodes: 6"))).to_be_visible()
        expect(page.locator(".access-secret")).to_have_count(0)
        expect(
            page.get_by_text(re.compile("Chrome, Linux seit .*, zuletzt benutzt .* \\(diese Sitzung\\)"))
        ).to_be_visible()
        page.get_by_role("button", name="Diese Sitzung beenden").last.click()
        expect(page.locator("#messagestack")).to_contain_text("Sitzung beendet")
    finally:
        page.goto(access)
        page.locator("#access-remove_application button").click()
        expect(page.locator("#messagestack")).to_contain_text(f"Passwort für {NAME} entfernt.")
        page.fill("#access-remove_factor-password", user.password)
        page.locator("#access-remove_factor button").click()
        expect(page.locator("#messagestack")).to_contain_text(f"{NAME} entfernt: kein zweiter Faktor mehr.")
