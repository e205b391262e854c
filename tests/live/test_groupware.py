"""Promises of the host with calendars: the store decides logins, users see only their collections, and Radicale is isolated."""

from __future__ import annotations

import json
import shlex
from http import HTTPStatus
from secrets import randbelow, token_hex
from typing import Any

import pytest
from testinfra.host import Host as TestinfraHost

from outpost.office import Host, Office, ports
from outpost.target import Target
from roles.groupware.view import GroupwareView
from roles.webmail.view import WebmailView
from tests.live.asking import modes
from tests.live.browsing import Answer, browse
from tests.live.conftest import reach
from tests.live.kernel import Listening
from tests.live.systemd import Units

pytestmark = [pytest.mark.role("groupware"), pytest.mark.looks, pytest.mark.daemons("nginx", "radicale")]

UNITS = ("nginx.service", "radicale.service")
TO_RADICALE = r"""
import contextlib, http.client, json, socket, sys
class Local(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect("/run/radicale.sock")
found = []
for user, method, path, body in json.loads(sys.argv[1]):
    connection = Local("localhost")
    # what would be allowed after all changes nothing: no entry has that tag
    headers = {"Depth": "1"} if method in ("GET", "PROPFIND") else {"If-Match": '"none"'}
    with contextlib.suppress(BrokenPipeError):  # Radicale may refuse before it has read the body
        connection.request(method, path, body or None, headers | ({"X-Remote-User": user} if user else {}))
    answer = connection.getresponse()
    found.append([answer.status, answer.read().decode()])
print(json.dumps(found))
"""
TO_THE_STORE = r"""
import base64, http.client, json, ssl, sys, threading
name, address, port, remote, logins = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], json.loads(sys.argv[5])
context = ssl.create_default_context(cafile="/etc/outpost/tls/ca.pem")
sys.argv[6:] or context.load_cert_chain("/etc/outpost/tls/host.pem", "/etc/outpost/tls/host.key")
context.check_hostname = False
found = {}
def ask(number, login, password):
    connection = http.client.HTTPSConnection(address, port, context=context, timeout=60)
    given = base64.b64encode(f"{login}:{password}".encode()).decode()
    connection.request("GET", "/login", headers={"Authorization": f"Basic {given}", "X-Real-IP": remote})
    found[number] = connection.getresponse().status
threads = [threading.Thread(target=ask, args=(number, *pair)) for number, pair in enumerate(logins)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(json.dumps([found.get(number) for number in range(len(logins))]))
"""
MAY_IT_BE_TRIED = """
import json, sys, urllib.request
question = json.dumps({"login": sys.argv[2], "remote": sys.argv[3]}).encode()
with urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/?command=allow", question) as answer:
    print(json.load(answer)["status"])
"""


@pytest.fixture(scope="module")
def view(office: Office, me: Host) -> GroupwareView:
    """The host as its role derives it."""
    return GroupwareView(office, me)


@pytest.fixture(scope="module")
def store(view: GroupwareView, target: Target, office: Office, pytestconfig: pytest.Config) -> TestinfraHost:
    return reach(target, office, view.store, pytestconfig)


def ask(host: TestinfraHost, view: GroupwareView, path: str = "/", **request: Any) -> Answer:
    """A request as a program sends it."""
    return browse(host, view.addresses[0], view.name, path, **request)


def radicale(host: TestinfraHost, *requests: tuple[str, str, str, str]) -> list[tuple[int, str]]:
    """Status and body of requests to Radicale itself: user, method, path, body."""
    answers = host.check_output("python3 -I -c %s %s", TO_RADICALE, json.dumps(requests))
    return [(status, body) for status, body in json.loads(answers)]


@pytest.mark.parametrize("unit", UNITS)
def test_calendars_run_and_come_up_with_the_host(units: Units, unit: str) -> None:
    """The service runs, and starts when the host boots."""
    assert units.runs(unit)
    assert units.comes_up(unit)


@pytest.mark.control("NET-01", "REL-03")
def test_calendars_are_served_by_tls_in_their_zone_and_nowhere_else(
    listening: Listening, view: GroupwareView
) -> None:
    """Calendars are served by HTTPS in their zone, and nowhere else."""
    web = {(socket.address, socket.port) for socket in listening.sockets if socket.port in (80, 443, 5232)}
    assert web == {(str(address), ports.HTTPS) for address in view.addresses}


@pytest.mark.control("SYS-01")
@pytest.mark.parametrize("unit", UNITS)
def test_calendar_units_are_sandboxed(units: Units, unit: str) -> None:
    """The service runs in a sandbox (at most 4.0 by systemd-analyze security)."""
    assert units.exposure(unit) <= 4.0


@pytest.mark.control("CAL-02")
def test_radicale_has_no_network(host: TestinfraHost) -> None:
    """Radicale has no network."""
    command = "nsenter --net --target $(systemctl show --property MainPID --value radicale.service) ip -brief address"
    names = [line.split()[0] for line in host.check_output(command).splitlines()]
    assert names == ["lo"]


@pytest.mark.control("CAL-02")
def test_only_the_web_server_speaks_with_radicale(host: TestinfraHost) -> None:
    """Only the web server can connect to Radicale."""
    assert modes(host, "/run/radicale.sock") == ["www-data root 600"]
    as_nobody = "setpriv --reuid=nobody --regid=nogroup --clear-groups"
    requests = shlex.quote(json.dumps([("", "GET", "/", "")]))
    result = host.run(f"{as_nobody} python3 -I -c {shlex.quote(TO_RADICALE)} {requests}")
    assert "PermissionError" in result.stderr


@pytest.mark.control("CAL-03")
def test_each_request_for_calendars_has_a_process_that_can_be_ended(
    host: TestinfraHost, view: GroupwareView
) -> None:
    """Requests for calendars are served by several processes, and a stuck one is ended.

    gunicorn ends a process that does not answer; it could not end a thread.
    """
    workers = "pgrep --count --parent $(systemctl show --property MainPID --value radicale.service)"
    assert int(host.check_output(workers)) >= view.workers


FULL = """
import io, os, sys, tempfile
sys.path.insert(0, "/usr/local/lib/outpost/dav")
from davquota import Quota
with tempfile.TemporaryDirectory() as root:
    os.mkdir(f"{root}/a@example.net")
    open(f"{root}/a@example.net/1.ics", "w").write("x" * 5000)
    for size, entries in ((4096, 9), (1 << 20, 1), (1 << 20, 9)):
        quota = Quota(lambda *_: [b"inner"], root, size, entries, "office")
        asked = {"REQUEST_METHOD": "PUT", "PATH_INFO": "/a@example.net/c/2.ics", "HTTP_X_REMOTE_USER": "a@example.net", "wsgi.input": io.BytesIO()}
        print(*quota(asked, lambda status, _: print(status.split()[0], end=" "))[0].split()[:1])
"""


@pytest.mark.control("CAL-04")
def test_calendars_have_a_quota(host: TestinfraHost, view: GroupwareView) -> None:
    """A user whose calendars and address books are full adds nothing more."""
    command = host.check_output(
        "tr '\\0' '\\n' < /proc/$(systemctl show --property MainPID --value radicale.service)/cmdline"
    )
    wanted = f"davquota:application('{view.storage}/collection-root', {view.quota}, {view.entries}, '{view.shared}')"
    assert command.splitlines()[-1] == wanted
    as_radicale = "setpriv --reuid=radicale --regid=radicale --clear-groups"
    found = host.check_output(f"{as_radicale} python3 -I -B -c %s", FULL).splitlines()
    assert found == ["507 b'Your'", "507 b'Your'", "b'inner'"]


@pytest.mark.control("VIR-05")
def test_radicale_takes_no_program_from_among_the_calendars(host: TestinfraHost) -> None:
    """Radicale loads no code from the directory of the calendars."""
    main = "/proc/$(systemctl show --property MainPID --value radicale.service)"
    assert host.check_output(f"readlink {main}/cwd") == "/"
    assert "PYTHONNOUSERSITE=1" in host.check_output(f"tr '\\0' '\\n' < {main}/environ").splitlines()


@pytest.mark.control("CAL-01")
def test_nobody_but_radicale_reads_calendars(host: TestinfraHost, view: GroupwareView) -> None:
    """Only Radicale can read the files of the calendars."""
    assert modes(host, view.storage) == ["radicale radicale 700"]


# What a program gets -------------------------------------------------------------------------------------------------


@pytest.mark.probe
@pytest.mark.control("CAL-02", "AUT-04")
def test_without_the_right_password_there_is_nothing(host: TestinfraHost, view: GroupwareView) -> None:
    """Without the right password there is no access to calendars."""
    user = view.office.users[0].address
    for headers in (
        "",
        f"X-Remote-User: {user}\r\n",
        "Authorization: Basic Og==\r\n",
        "Authorization: Bearer x\r\n",
    ):
        answer = ask(host, view, f"/{user}/", method="PROPFIND", headers=f"Depth: 1\r\n{headers}")
        assert answer.status == HTTPStatus.UNAUTHORIZED, headers
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")
        assert user not in answer.body


@pytest.mark.probe
@pytest.mark.control("CAL-03")
def test_too_large_an_entry_is_refused(host: TestinfraHost, view: GroupwareView) -> None:
    """A calendar entry that is too large is refused."""
    answer = ask(
        host, view, "/office/calendar/x.ics", method="PUT", headers=f"Content-Length: {view.entry + 1}\r\n"
    )
    assert answer.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE


@pytest.mark.probe
@pytest.mark.control("WEB-02")
def test_answers_carry_the_security_headers_once(host: TestinfraHost, view: GroupwareView) -> None:
    """Answers have each security header exactly once."""
    headers = ask(host, view).headers
    wanted = (
        "Strict-Transport-Security",
        "X-Content-Type-Options",
        "Content-Security-Policy",
        "Referrer-Policy",
    )
    assert {name: len(headers.get_all(name, [])) for name in wanted} == dict.fromkeys(wanted, 1)
    assert headers["Server"] == "nginx"


@pytest.mark.probe
def test_programs_find_calendars_by_webmails_name_and_by_this_one(
    host: TestinfraHost, view: GroupwareView, office: Office, target: Target, pytestconfig: pytest.Config
) -> None:
    """Clients find calendars by webmail's name and by this host's name (RFC 6764)."""
    place = f"https://{view.name}/"
    for kind in ("caldav", "carddav"):
        for method in ("GET", "PROPFIND"):
            answer = ask(host, view, f"/.well-known/{kind}", method=method)
            assert (answer.status, answer.headers["Location"]) == (HTTPStatus.MOVED_PERMANENTLY, place)
            for webmail in office.with_role("webmail"):
                there = WebmailView(office, webmail)
                browser = reach(target, office, webmail, pytestconfig)
                answer = browse(
                    browser, there.webmail_addresses[0], there.name, f"/.well-known/{kind}", method=method
                )
                assert (answer.status, answer.headers["Location"]) == (HTTPStatus.MOVED_PERMANENTLY, place)


# Who may what -----------------------------------------------------------------------------------------------------------


@pytest.mark.probe
@pytest.mark.control("CAL-01")
def test_a_user_reads_neither_calendars_of_others_nor_without_a_name(
    host: TestinfraHost, view: GroupwareView
) -> None:
    """Users cannot read each other's calendars, and a request without a user reads none."""
    me, other = (view.office.users[number].address for number in (0, -1))
    stranger = "stranger@verification.invalid"
    requests = [
        (me, "PROPFIND", f"/{me}/", ""),
        ("", "PROPFIND", f"/{me}/", ""),
        (stranger, "PROPFIND", f"/{me}/", ""),
        (stranger, "PROPFIND", f"/{view.shared}/calendar/", ""),
        (me, "PROPFIND", f"/{view.shared}/calendar/", ""),
    ]
    if me != other:
        requests += [(me, method, f"/{other}/calendar/", "") for method in ("PROPFIND", "GET", "DELETE")]
    answers = [status for status, _ in radicale(host, *requests)]
    assert answers[:5] == [207, 403, 403, 403, 207]
    assert set(answers[5:]) <= {403}


@pytest.mark.probe
@pytest.mark.control("CAL-01")
def test_everybody_reads_the_directory_and_nobody_writes_it(host: TestinfraHost, view: GroupwareView) -> None:
    """All users can read the office's directory, and nobody can change it."""
    me, place = view.office.users[0].address, f"/{view.shared}/directory/"
    card = "BEGIN:VCARD\r\nVERSION:3.0\r\nUID:x\r\nFN:x\r\nN:;x;;;\r\nEND:VCARD\r\n"
    read, put, gone, new = radicale(
        host,
        (me, "GET", place, ""),
        (me, "PUT", f"{place}x.vcf", card),
        (me, "DELETE", place, ""),
        (me, "PUT", f"/{view.shared}/other/x.vcf", card),
    )
    assert read[0] == HTTPStatus.OK
    assert read[1].count("BEGIN:VCARD") == len(view.cards)
    assert {put[0], gone[0], new[0]} == {HTTPStatus.FORBIDDEN}


# The store's word ---------------------------------------------------------------------------------------------------


@pytest.mark.probe
@pytest.mark.control("TLS-10", "CAL-02")
def test_only_this_host_asks_the_store_about_logins(
    host: TestinfraHost, store: TestinfraHost, view: GroupwareView
) -> None:
    """Only this host can ask the store to check logins for calendars."""
    address = str(view.store_addresses[0])
    arguments = (
        view.store.fqdn,
        address,
        str(ports.CALENDARS),
        "198.18.0.1",
        json.dumps([("x@verification.invalid", "x")]),
    )
    assert json.loads(host.check_output("python3 -I -c %s %s %s %s %s %s", TO_THE_STORE, *arguments)) == [401]
    for without_certificate in ("", " bare"):
        result = store.run(f"python3 -I -c %s %s %s %s %s %s{without_certificate}", TO_THE_STORE, *arguments)
        assert result.stdout.strip() == "[null]", "it answers others"
        assert "Error" in result.stderr


@pytest.mark.live
@pytest.mark.control("AUT-03")
def test_guesses_at_calendars_are_counted_with_those_at_mail(
    host: TestinfraHost, store: TestinfraHost, view: GroupwareView
) -> None:
    """Wrong passwords for calendars count together with those for mail.

    The account cannot exist, so that no alarm follows (`outpost.onhost.watch.logins`).
    """
    guessed, place = f"guessed-{token_hex(4)}@verification.invalid", f"198.18.{randbelow(256)}.66"
    wrong = [(guessed, f"guess {number}") for number in range(view.office.limits.login_failures)]
    answers = host.check_output(
        "python3 -I -c %s %s %s %s %s %s",
        TO_THE_STORE, view.store.fqdn, str(view.store_addresses[0]), str(ports.CALENDARS), place, json.dumps(wrong),
    )  # fmt: skip
    assert set(json.loads(answers)) == {401}
    status = store.check_output(
        "python3 -I -c %s %s %s %s", MAY_IT_BE_TRIED, str(ports.LOGINS), guessed, place
    )
    assert status == "-1"
