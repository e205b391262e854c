"""A user's calendars and contacts, by the requests that clients send; in a lab whose office has them."""

from __future__ import annotations

import base64
import http.client
import re
import shlex
import shutil
import subprocess
import threading
from dataclasses import dataclass, replace
from pathlib import Path
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
from outpost_lab.instance import Instance, info
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


BEGINS = """
import select, socket, ssl, sys
server, name, login, *sources = sys.argv[1:]
context = ssl.create_default_context()
context.check_hostname, context.verify_mode, context.maximum_version = False, ssl.CERT_NONE, ssl.TLSVersion.TLSv1_2
begun = []
for source in sources:
    line = socket.create_connection((server, 443), 60, source_address=(source, 0))
    begun.append(context.wrap_socket(line, server_hostname=name))
    begun[-1].sendall(f"PUT /x HTTP/1.1\\r\\nHost: {name}\\r\\nAuthorization: Basic {login}\\r\\nContent-Length: 9\\r\\n\\r\\n".encode())
print(*(each.recv(12).decode() for each in select.select(begun, [], [], 60)[0]), sep="\\n")
"""
"""Begins a request from each address, completes none, and prints what the first answers say."""


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


@pytest.mark.control("BKP-02")
def test_lost_calendars_come_back_from_the_backup(
    programs: dict[str, Program], lab: Instance, dav: Host, target: Target
) -> None:
    """The first here: after guesses at passwords a store sends alarms, which nobody takes, and `verify` reports that."""
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
@pytest.mark.control("CAL-03")
def test_the_addresses_of_one_network_share_its_room(
    lab: Instance, dav: Host, programs: dict[str, Program]
) -> None:
    """A machine with IPv6 has as many addresses as it wants, all of its /64 (RFC 4291, section 2.5.1)."""
    alice = programs["alice"].user
    login = base64.b64encode(f"{alice.address}:{alice.password}".encode()).decode()
    (server,) = (str(each) for each in lab.office.addresses_of_kind(dav, "users") if each.version == 6)
    ((_, own),) = info(lab)["world"]["workstation"]["addresses"].values()
    second = f"{own}:2"
    on(lab, "workstation", f"ip -6 address add {second}/64 dev eth0 nodad")
    try:
        sources = " ".join([own, second] * 11)
        asked = f"python3 -c {shlex.quote(BEGINS)} {server} {dav.fqdn} {login} {sources}"
        answers = on(lab, "workstation", asked).splitlines()
    finally:
        on(lab, "workstation", f"ip -6 address delete {second}/64 dev eth0")
    assert answers
    assert set(answers) == {"HTTP/1.1 429"}


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


APPLE_FINDS = """<A:propfind xmlns:A="DAV:"><A:prop><A:current-user-principal/><A:principal-URL/>
<B:calendar-home-set xmlns:B="urn:ietf:params:xml:ns:caldav"/></A:prop></A:propfind>"""
APPLE_MAKES = """<B:mkcalendar xmlns:B="urn:ietf:params:xml:ns:caldav"><A:set xmlns:A="DAV:"><A:prop>
<D:calendar-color xmlns:D="http://apple.com/ns/ical/" symbolic-color="red">#FF2968FF</D:calendar-color>
<B:supported-calendar-component-set><B:comp name="VEVENT"/></B:supported-calendar-component-set>
<A:displayname>Kräne &amp; Gerüste</A:displayname></A:prop></A:set></B:mkcalendar>"""
APPLE_LISTS = """<A:propfind xmlns:A="DAV:"><A:prop><A:displayname/><A:resourcetype/><D:calendar-color xmlns:D="http://apple.com/ns/ical/"/>
</A:prop></A:propfind>"""
APPLE_READS = """<B:calendar-multiget xmlns:B="urn:ietf:params:xml:ns:caldav" xmlns:A="DAV:"><A:prop><A:getetag/><B:calendar-data/></A:prop>
<A:href>{0}</A:href><A:href>{0}.gone</A:href></B:calendar-multiget>"""
SERIES = EVENT.replace(
    "END:VEVENT",
    """RRULE:FREQ=WEEKLY;COUNT=10
EXDATE:20261215T090000Z
BEGIN:VALARM
UID:{token}-1
TRIGGER:-PT15M
ACTION:AUDIO
END:VALARM
END:VEVENT
BEGIN:VEVENT
UID:{token}
RECURRENCE-ID:20261208T090000Z
DTSTAMP:20261130T120000Z
DTSTART:20261209T140000Z
SUMMARY:Moved {token}
END:VEVENT""".replace("\n", "\r\n"),
)


@pytest.mark.control("CAL-01")
def test_apple_makes_a_calendar_with_a_series_and_learns_of_another_change(
    programs: dict[str, Program],
) -> None:
    alice, token = programs["alice"], token_hex(8)
    status, found = alice.ask("PROPFIND", "/", APPLE_FINDS, Depth="0", Brief="t")
    assert status == 207
    principal = fromstring(found).find(".//{*}current-user-principal/{*}href")
    assert principal is not None
    home = fromstring(alice.ask("PROPFIND", str(principal.text), APPLE_FINDS, Depth="0")[1]).find(
        ".//{*}calendar-home-set/{*}href"
    )
    assert home is not None
    calendar = f"{home.text}{token.upper()}/"
    entry = f"{calendar}{token}.ics"
    assert alice.ask("MKCALENDAR", calendar, APPLE_MAKES)[0] == 201
    try:
        listed = alice.ask("PROPFIND", str(home.text), APPLE_LISTS, Depth="1")[1]
        assert "Kräne &amp; Gerüste" in listed
        assert "#FF2968FF" in listed
        series = SERIES.format(token=token)
        status, first, _ = alice.exchange("PUT", entry, series, If_None_Match="*")
        assert (status, bool(first)) == (201, True)
        assert alice.ask("PUT", entry, series, If_None_Match="*")[0] == 412
        read = alice.ask("REPORT", calendar, APPLE_READS.format(entry), Depth="1")[1]
        assert {"EXDATE:20261215T090000Z", "RECURRENCE-ID:20261208T090000Z", "TRIGGER:-PT15M"} <= set(
            read.replace("\r", "").split("\n")
        )
        assert read.count("404 Not Found") == 1
        status, second, _ = alice.exchange(
            "PUT", entry, series.replace("Site meeting", "Meeting"), If_Match=first
        )
        assert (status, second != first) == (204, True)
        assert alice.ask("PUT", entry, series, If_Match=first)[0] == 412
        assert alice.ask("DELETE", entry, If_Match=first)[0] == 412
        assert "SUMMARY:Meeting" in alice.ask("GET", entry)[1]
        assert alice.ask("DELETE", entry, If_Match=second)[0] == 200
    finally:
        assert alice.ask("DELETE", calendar)[0] == 200


@pytest.mark.skipif(
    not (shutil.which("vdirsyncer") and shutil.which("khal")),
    reason="needs two clients: apt-get install vdirsyncer khal",
)
def test_vdirsyncer_and_khal_read_write_and_delete(programs: dict[str, Program], tmp_path: Path) -> None:
    alice, token = programs["alice"], token_hex(8)
    user, remote = alice.user, f"/{alice.user.address}/calendar/{token}.ics"
    # the workstation's resolver does not know the lab's names
    (tmp_path / "sitecustomize.py").write_text(
        f"import socket\nreal = socket.getaddrinfo\n"
        f"socket.getaddrinfo = lambda host, *more, **names: real({user.at!r} if host == {user.server!r} else host, *more, **names)\n"
    )
    (tmp_path / "config").write_text(f"""[general]
status_path = "{tmp_path}/status/"
[pair calendar]
a = "here"
b = "there"
collections = ["calendar"]
[storage here]
type = "filesystem"
path = "{tmp_path}/here/"
fileext = ".ics"
[storage there]
type = "caldav"
url = "https://{user.server}/"
username = "{user.address}"
password = "{user.password}"
verify = "{user.authority}"
""")
    (tmp_path / "khal").write_text(f"""[calendars]
[[calendar]]
path = {tmp_path}/here/calendar
[locale]
timeformat = %H:%M
dateformat = %d.%m.%Y
longdateformat = %d.%m.%Y
datetimeformat = %d.%m.%Y %H:%M
longdatetimeformat = %d.%m.%Y %H:%M
[sqlite]
path = {tmp_path}/khal.db
""")

    def run(*command: str) -> str:
        done = subprocess.run(
            command,
            env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "LANG": "C.UTF-8"}
            | {"PYTHONPATH": str(tmp_path), "VDIRSYNCER_CONFIG": str(tmp_path / "config")},
            input="y\n" * 5,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    khal = ("khal", "-c", str(tmp_path / "khal"))
    assert alice.ask("PUT", remote, EVENT.format(token=token))[0] == 201
    run("vdirsyncer", "discover")
    run("vdirsyncer", "sync")
    assert token in run(*khal, "list", "01.12.2026", "2d")
    run(
        *khal,
        "new",
        "-a",
        "calendar",
        "07.12.2026",
        "09:00",
        "10:00",
        f"Crane {token}",
        "-r",
        "weekly",
        "-m",
        "15m",
    )
    run("vdirsyncer", "sync")
    made = alice.ask("GET", f"/{user.address}/calendar/")[1]
    assert f"SUMMARY:Crane {token}" in made
    assert "RRULE:FREQ=WEEKLY" in made
    assert alice.ask("DELETE", remote)[0] == 200
    for file in (tmp_path / "here/calendar").glob("*.ics"):
        if f"Crane {token}" in file.read_text():
            file.unlink()
    run("vdirsyncer", "sync")
    assert f"Site meeting {token}" not in run(*khal, "list", "01.12.2026", "2d")
    assert token not in alice.ask("GET", f"/{user.address}/calendar/")[1]


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
    aside = f"/run/{token_hex(8)}"  # what the user chose in another test
    chosen = f"""cd /; [ ! -e {file} ] || mv {file} {aside}
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
        on(
            lab,
            "store",
            f"rm -f {file}; [ ! -e {aside} ] || mv {aside} {file}; systemctl restart outpost-logins.service",
        )
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
            user.mailbox()
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
