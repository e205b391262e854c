"""A user's calendars and contacts, by the requests that clients send; in a lab whose office has them."""

from __future__ import annotations

import base64
import http.client
import re
import threading
from dataclasses import dataclass, replace
from secrets import token_hex
from urllib.parse import quote, unquote
from xml.etree.ElementTree import fromstring

import pytest
from imap_tools.errors import MailboxLoginError

from outpost.office import Host
from outpost.onhost.accounts import token_hash
from outpost.recovery import backup
from outpost.target import Target
from outpost_lab import pace, trust
from outpost_lab.instance import Instance
from outpost_lab.post import OfficeUser, Town
from roles.groupware import STORAGE
from roles.store import OWN
from tests.awaiting import until
from tests.lab.test_certificates import on
from tests.lab.test_restore import lose, outpost, settled

pytestmark = pytest.mark.slow

EVENT = """BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//Outpost//test
BEGIN:VEVENT
UID:{token}
DTSTAMP:20261130T120000Z
DTSTART:20261201T090000Z
DTEND:20261201T100000Z
SUMMARY:Site meeting {token}
END:VEVENT
END:VCALENDAR
""".replace("\n", "\r\n")
HOME_SET = (
    '<propfind xmlns="DAV:"><prop><current-user-principal/><resourcetype/><displayname/></prop></propfind>'
)
IN_2030 = """<C:calendar-query xmlns="DAV:" xmlns:C="urn:ietf:params:xml:ns:caldav"><prop><getetag/></prop>
<C:filter><C:comp-filter name="VCALENDAR"><C:comp-filter name="VEVENT"><C:time-range start="20300101T000000Z" end="20300102T000000Z"/>
</C:comp-filter></C:comp-filter></C:filter></C:calendar-query>"""
SYNC = '<sync-collection xmlns="DAV:"><sync-token>{}</sync-token><sync-level>1</sync-level><prop><getetag/></prop></sync-collection>'


@pytest.fixture(scope="module")
def dav(lab: Instance) -> Host:
    found = lab.office.with_role("groupware")
    if not found:
        pytest.skip("this lab's office has no calendars: add a host with role groupware to its office.toml")
    return found[0]


@dataclass(frozen=True)
class Program:
    """A program on the LAN with a user's login."""

    user: OfficeUser

    def ask(self, method: str, path: str, body: str = "", **headers: str) -> tuple[int, str]:
        """Status and body."""
        status, _, content = self.exchange(method, path, body, **headers)
        return status, content

    def exchange(self, method: str, path: str, body: str = "", **headers: str) -> tuple[int, str, str]:
        """Status, entity tag and body; `If_Match` is the header If-Match."""
        connection = http.client.HTTPSConnection(
            self.user.at, context=self.user.tls, timeout=120 * pace.load()
        )
        given = base64.b64encode(f"{self.user.address}:{self.user.password}".encode()).decode()
        connection.request(
            method,
            path,
            body.encode() or None,
            {"Host": self.user.server, "Authorization": f"Basic {given}"}
            | {name.replace("_", "-"): value for name, value in headers.items()},
        )
        answer = connection.getresponse()
        content = answer.read().decode()
        connection.close()
        return answer.status, answer.getheader("ETag", ""), content


@pytest.fixture
def programs(town: Town, dav: Host, lab: Instance) -> dict[str, Program]:
    at = str(lab.office.addresses_of_kind(dav, "users")[0])
    return {
        name: Program(replace(town.user(name), server=dav.fqdn, at=at)) for name in ("alice", "bob", "dave")
    }


def dealt_with(lab: Instance, *machines: str) -> None:
    """Mark warnings as dealt with that were caused by a deliberate fault (LOG-01)."""
    for machine in machines:
        on(lab, machine, "touch /var/lib/outpost/applied")


@pytest.mark.control("CAL-01")
def test_an_entry_is_kept_for_its_owner_and_nobody_else(programs: dict[str, Program]) -> None:
    alice, bob, token = programs["alice"], programs["bob"], token_hex(8)
    home = f"/{alice.user.address}/calendar/"
    status, content = alice.ask("PROPFIND", "/", HOME_SET, Depth="0")
    assert status == 207
    assert f"/{alice.user.address}/" in content.replace("%40", "@")
    _, before = alice.ask("REPORT", home, SYNC.format(""))
    assert alice.ask("PUT", f"{home}{token}.ics", EVENT.format(token=token))[0] == 201
    assert token in alice.ask("GET", f"{home}{token}.ics")[1]
    since = before.partition("<sync-token>")[2].partition("</sync-token>")[0]
    assert f"{token}.ics" in alice.ask("REPORT", home, SYNC.format(since))[1]
    for method, path in (("GET", f"{home}{token}.ics"), ("PROPFIND", home), ("DELETE", home), ("GET", home)):
        assert bob.ask(method, path)[0] == 403
    assert bob.ask("PUT", f"{home}x.ics", EVENT.format(token="x"))[0] == 403
    moved = f"https://{alice.user.server}{home}moved-{token}.ics"
    assert alice.ask("MOVE", f"{home}{token}.ics", Destination=moved)[0] == 201
    assert alice.ask("DELETE", f"{home}moved-{token}.ics")[0] == 200
    assert alice.ask("GET", f"{home}moved-{token}.ics")[0] == 404


@pytest.mark.control("CAL-03")
def test_an_event_that_repeats_each_second_keeps_nobody_waiting_for_long(
    programs: dict[str, Program], lab: Instance, dav: Host
) -> None:
    alice, bob, token = programs["alice"], programs["bob"], token_hex(8)
    home, other = (f"/{program.user.address}/calendar/" for program in (alice, bob))
    # Radicale counts from here to the requested time, for hours
    endless = EVENT.replace("20261201", "19001201").replace("SUMMARY", "RRULE:FREQ=SECONDLY\r\nSUMMARY")
    assert alice.ask("PUT", f"{home}{token}.ics", endless.format(token=token))[0] == 201
    try:
        asked: list[int] = []
        asking = threading.Thread(
            target=lambda: asked.append(alice.ask("REPORT", home, IN_2030, Depth="1")[0])
        )
        asking.start()
        assert bob.ask("PUT", f"{other}{token}.ics", EVENT.format(token=token))[0] == 201
        asking.join()
        assert asked[0] >= 500  # the answer of Radicale, or of nginx
    finally:
        alice.ask("DELETE", f"{home}{token}.ics")
        dealt_with(lab, dav.name)


@pytest.mark.control("CAL-04")
def test_a_full_calendar_takes_nothing_more_until_something_is_deleted(
    programs: dict[str, Program], lab: Instance, dav: Host
) -> None:
    alice, bob = programs["alice"], programs["bob"]
    token = token_hex(6)
    place = f"/{alice.user.address}/calendar"
    bulk = f"{STORAGE}/collection-root{place}/.{token}.bulk"  # Radicale reads no hidden file
    assert alice.ask("PUT", f"{place}/{token}.ics", EVENT.format(token=token))[0] == 201
    on(lab, dav.name, f"runuser -u radicale -- fallocate -l {int(lab.office.limits.calendar_quota)} {bulk}")
    try:
        assert alice.ask("PUT", f"{place}/{token}-2.ics", EVENT.format(token=f"{token}-2"))[0] == 507
        assert alice.ask("GET", f"{place}/{token}.ics")[0] == 200
        assert bob.ask("PUT", f"{place}/{token}-3.ics", EVENT.format(token=f"{token}-3"))[0] == 403
        theirs = f"/{bob.user.address}/calendar/{token}.ics"
        assert bob.ask("PUT", theirs, EVENT.format(token=f"{token}-4"))[0] == 201
        assert bob.ask("DELETE", theirs)[0] == 200
        assert alice.ask("DELETE", f"{place}/{token}.ics")[0] == 200
    finally:
        on(lab, dav.name, f"rm -f {bulk}")
    assert alice.ask("PUT", f"{place}/{token}-2.ics", EVENT.format(token=f"{token}-2"))[0] == 201
    assert alice.ask("DELETE", f"{place}/{token}-2.ics")[0] == 200


@pytest.mark.control("CAL-01")
def test_the_offices_calendar_is_everybodys(programs: dict[str, Program]) -> None:
    alice, bob, token = programs["alice"], programs["bob"], token_hex(8)
    entry = f"/office/calendar/{token}.ics"
    assert alice.ask("PUT", entry, EVENT.format(token=token))[0] == 201
    assert token in bob.ask("GET", entry)[1]
    assert alice.ask("DELETE", "/office/calendar/")[0] == 403
    assert bob.ask("DELETE", entry)[0] == 200
    assert "Alice Archer" in bob.ask("GET", "/office/directory/")[1]


@pytest.mark.control("CAL-01")
@pytest.mark.parametrize("name", ["plan", "Kräne 2", "📅", "a%b", "a+b&c", "e%C3%BC"])
def test_an_entry_is_listed_under_the_path_that_a_program_gave_it(
    programs: dict[str, Program], name: str
) -> None:
    """Apple names an entry after its identifier, which may have any character."""
    alice, token = programs["alice"], token_hex(8)
    home = f"/{alice.user.address}/calendar/"
    path = f"{home}{quote(f'{name} {token}')}.ics"
    assert alice.ask("PUT", path, EVENT.format(token=token))[0] == 201
    listed = re.findall("<href>([^<]*)</href>", alice.ask("REPORT", home, SYNC.format(""))[1])
    (found,) = (href for href in listed if token in href)
    assert unquote(found) == unquote(path)
    assert token in alice.ask("GET", found)[1]
    assert alice.ask("DELETE", found)[0] == 200


@pytest.mark.control("CAL-01")
@pytest.mark.parametrize(
    ("place", "lines"),
    [
        ("contacts/{}.vcf", ["PHOTO:data:image/jpeg;base64,/9j/4AAQ", "NICKNAME:Joe,Joey"]),  # Thunderbird
        ("contacts/{}.vcf", ["URL:https://maps.example/@52.5,13.4,15z", "NOTE:a\\, b\\; c\\nd"]),
        (
            "calendar/{}.ics",
            ["X-APPLE-STRUCTURED-LOCATION;VALUE=URI;X-APPLE-RADIUS=70;X-TITLE=Gate 3:geo:52.5,13.4"],
        ),
        ("calendar/{}.ics", ["X-ALT-DESC;FMTTYPE=text/html:<p>At seven, at the gate; bring boots</p>"]),
    ],
    ids=["picture", "url", "place", "html"],
)
def test_an_entry_comes_back_whole(programs: dict[str, Program], place: str, lines: list[str]) -> None:
    """vobject, with which Radicale writes, ends a value at a comma."""
    alice, token = programs["alice"], token_hex(8)
    entry = EVENT.format(token=token)
    if "contacts" in place:
        entry = f"BEGIN:VCARD\r\nVERSION:4.0\r\nUID:{token}\r\nFN:Joe\r\nEND:VCARD\r\n"
    head, end, _ = entry.rpartition("END:VEVENT" if "calendar" in place else "END:VCARD")
    tail = entry[len(head) :]
    assert end
    path = f"/{alice.user.address}/{place.format(token)}"
    assert alice.ask("PUT", path, head + "".join(f"{line}\r\n" for line in lines) + tail)[0] == 201
    try:
        kept = alice.ask("GET", path)[1].replace("\r\n ", "").split("\r\n")
        assert [line for line in lines if line not in kept] == []
    finally:
        alice.ask("DELETE", path)


@pytest.mark.control("CAL-03")
def test_an_invitation_with_what_xml_cannot_contain_hides_no_other_entry(
    programs: dict[str, Program],
) -> None:
    alice, token = programs["alice"], token_hex(8)
    home = f"/{alice.user.address}/calendar/"
    hostile = EVENT.format(token=token).replace("SUMMARY:", "SUMMARY:\x01\ufffe\uffff]]>")
    assert alice.ask("PUT", f"{home}{token}.ics", hostile)[0] == 201
    try:
        status, content = alice.ask(
            "REPORT",
            home,
            IN_2030.replace("<getetag/>", "<C:calendar-data/>")
            .replace("20300101", "20261201")
            .replace("20300102", "20261202"),
        )
        assert status == 207
        fromstring(content)
    finally:
        alice.ask("DELETE", f"{home}{token}.ics")


@pytest.mark.control("CAL-02", "AUT-04")
def test_a_login_without_its_domain_is_the_same_user(programs: dict[str, Program]) -> None:
    alice = programs["alice"]
    short = Program(replace(alice.user, address=alice.user.address.partition("@")[0].upper()))
    assert short.ask("PROPFIND", f"/{alice.user.address}/", HOME_SET, Depth="0")[0] == 207


@pytest.mark.control("AUT-06", "CAL-02")
def test_with_a_second_factor_only_a_programs_password_opens_calendars_until_it_is_removed(
    programs: dict[str, Program], lab: Instance
) -> None:
    dave, made = programs["dave"], token_hex(12)
    telephone = Program(replace(dave.user, password=made))
    assert telephone.ask("PROPFIND", "/", HOME_SET, Depth="0")[0] == 401
    file = f"{OWN}/{dave.user.address}"
    chosen = f"""cd /; test ! -e {file} || exit 1
        {{ sed -n 's/^{dave.user.address}:\\([^:]*\\):.*/from \\1/p' /etc/dovecot/users
            printf '%s\\n' 'factor JBSWY3DPEHPK3PXP 0' 'application {token_hash(made)} telephone'
        }} | runuser -u outpost-accounts -- sh -c 'umask 027; cat > {file}'"""
    try:
        on(lab, "store", chosen)
        assert telephone.ask("PROPFIND", "/", HOME_SET, Depth="0")[0] == 207
        assert dave.ask("PROPFIND", "/", HOME_SET, Depth="0")[0] == 401
        on(lab, "store", f"sed -i /^application/d {file}")
        assert telephone.ask("PROPFIND", "/", HOME_SET, Depth="0")[0] == 401
    finally:
        on(lab, "store", f"rm -f {file}; systemctl restart outpost-logins.service")
        dealt_with(lab, "store")
    assert dave.ask("PROPFIND", "/", HOME_SET, Depth="0")[0] == 207


@pytest.mark.control("AUT-03", "CAL-02")
def test_guesses_at_calendars_lock_mail_as_well_and_the_other_way_round(
    programs: dict[str, Program], lab: Instance, town: Town
) -> None:
    dave, user = programs["dave"], town.user("dave")
    assert dave.ask("PROPFIND", f"/{dave.user.address}/", HOME_SET, Depth="0")[0] == 207
    answers: list[int] = []

    def guess(number: int) -> None:
        wrong = Program(replace(dave.user, password=f"guess {number}"))
        answers.append(wrong.ask("PROPFIND", "/", HOME_SET, Depth="0")[0])

    threads = [
        threading.Thread(target=guess, args=(number,)) for number in range(lab.office.limits.login_failures)
    ]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(answers) == {401}
        assert dave.ask("PROPFIND", "/", HOME_SET, Depth="0")[0] == 401
        with pytest.raises(MailboxLoginError):
            user.log_in()
    finally:
        on(lab, "store", "systemctl restart outpost-logins.service")
        dealt_with(lab, "store")
    with user.mailbox():
        assert dave.ask("PROPFIND", "/", HOME_SET, Depth="0")[0] == 207


@pytest.mark.control("CAL-02")
def test_while_the_store_does_not_answer_nobody_is_asked_for_another_password(
    programs: dict[str, Program], lab: Instance, dav: Host
) -> None:
    on(lab, "store", "systemctl stop outpost-davlogins.service")
    try:
        assert programs["alice"].ask("PROPFIND", "/", HOME_SET, Depth="0")[0] == 503
    finally:
        on(lab, "store", "systemctl start outpost-davlogins.service")
    until(lambda: programs["alice"].ask("PROPFIND", "/", HOME_SET, Depth="0")[0] == 207, "calendars are back")
    dealt_with(lab, "store", dav.name)


@pytest.mark.control("BKP-02")
def test_lost_calendars_come_back_from_the_backup(
    programs: dict[str, Program], lab: Instance, dav: Host, target: Target
) -> None:
    alice, token = programs["alice"], token_hex(8)
    entries = [f"{place}{token}.ics" for place in (f"/{alice.user.address}/calendar/", "/office/calendar/")]
    for entry in entries:
        assert alice.ask("PUT", entry, EVENT.format(token=token))[0] == 201
    backup.run_now(target, lab.office, [dav])
    lose(lab, dav.name)
    outpost(lab, "restore", "lab", dav.name, "--yes")
    trust.certificates(lab)
    for entry in entries:
        assert token in alice.ask("GET", entry)[1]
        assert alice.ask("DELETE", entry)[0] == 200
    settled(lab)
