"""Calendars: an optional role. What an office with it declares fits together, and the store's answer about logins is well formed."""

from __future__ import annotations

import base64
import http.client
import io
import plistlib
import re
import socket
import subprocess
import threading
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from outpost.converge.files import rendered
from outpost.office import Host, Office, ports
from outpost.office.dns import PublicKeys, office_zone
from outpost.office.flows import inbound, outbound
from outpost.office.load import parse
from outpost.onhost import davlogins
from outpost.onhost.davquota import Quota, whole
from roles.groupware.view import GroupwareView
from roles.webmail.guide import LANGUAGES, apple_profile, page

ROOT = Path(__file__).resolve().parents[2]
ADDRESSES = {
    "core": ["10.40.2.61", "2001:db8:40:2::61"],
    "lan": ["10.40.3.61", "2001:db8:40:3::61"],
    "mgmt": ["10.40.4.61", "2001:db8:40:4::61"],
}
TOOL = "/usr/local/lib/outpost/calendars"


def office_with(addresses: dict[str, list[str]] | None, **more: Any) -> tuple[Office | None, list[str]]:
    data: dict[str, Any] = tomllib.loads((ROOT / "inventory/harbour/office.toml").read_text(encoding="utf-8"))
    if addresses:
        data["hosts"]["dav"] = {"role": "groupware", "addresses": addresses}
    office, problems = parse(data | more)
    return office, [problem.message for problem in problems]


@pytest.fixture(scope="module")
def office() -> Office:
    office, problems = office_with(ADDRESSES)
    assert office is not None
    assert problems == []
    return office


@pytest.fixture(scope="module")
def bare() -> Office:
    office, _ = office_with(None)
    assert office is not None
    return office


@pytest.fixture(scope="module")
def view(office: Office) -> GroupwareView:
    return GroupwareView(office, office.host("dav"))


def records(office: Office) -> set[str]:
    return {f"{one.name} {one.type} {one.data}" for one in office_zone(office, PublicKeys()).records}


def test_a_host_that_sees_passwords_is_not_on_the_internet() -> None:
    wrong = (
        "calendars are reached from the users' zone, and the host sees passwords on their way to the store"
    )
    on_it = ADDRESSES | {"wan": ["192.0.2.61", "2001:db8:40:0::61"]}
    assert wrong in office_with(on_it)[1]
    (unreached,) = office_with({name: ADDRESSES[name] for name in ("core", "mgmt")})[1]
    assert "no address in the users' zone" in unreached


def test_users_reach_it_by_https_alone_and_it_asks_the_store_alone(office: Office) -> None:
    me = office.host("dav")
    came = {(flow.zone, flow.port) for flow in inbound(office, me)}
    assert came == {("lan", ports.HTTPS), ("mgmt", ports.SSH)}
    assert {flow.destination.host for flow in outbound(office, me) if flow.port == ports.CALENDARS} == {
        "store"
    }
    flows = [flow for flow in inbound(office, office.host("store")) if flow.port == ports.CALENDARS]
    assert {flow.source.host for flow in flows} == {"dav"}


def test_programs_find_it_in_the_dns_and_nothing_of_it_where_there_is_none(
    office: Office, bare: Office
) -> None:
    new = records(office) - records(bare)
    for service in ("caldav", "carddav"):
        assert any(
            f"_{service}s._tcp." in line and line.endswith(" SRV 0 1 443 dav.harbour.example.com.")
            for line in new
        )
        assert any(f"_{service}._tcp." in line and line.endswith(" SRV 0 0 0 .") for line in new)
    assert not [line for line in records(bare) if "dav" in line]


def test_guide_and_profile_name_it_where_it_is(office: Office, bare: Office) -> None:
    for language in LANGUAGES:
        assert "https://dav.harbour.example.com/office/directory/" in page(
            office, language
        ).content.decode().replace("…/office/directory", "https://dav.harbour.example.com/office/directory")
        assert "DAVx" not in page(bare, language).content.decode()
    authority = ""
    shown = plistlib.loads(apple_profile(bare, authority=authority).content)
    assert len(shown["PayloadContent"]) == 1
    accounts = plistlib.loads(apple_profile(office, authority=authority).content)["PayloadContent"][1:]
    assert [
        (one["PayloadType"], one.get("CalDAVHostName", one.get("CardDAVHostName"))) for one in accounts
    ] == [
        ("com.apple.caldav.account", "dav.harbour.example.com"),
        ("com.apple.carddav.account", "dav.harbour.example.com"),
    ]
    assert all(one.get("CalDAVUseSSL", one.get("CardDAVUseSSL")) is True for one in accounts)


def test_the_store_knows_of_calendars_only_where_there_are_some(office: Office, bare: Office) -> None:
    from roles.store.view import StoreView

    for made, expected in ((office, True), (bare, False)):
        script = rendered(
            "store", "/etc/dovecot/accounts.lua", own="/x", used="/u", decoy="x",
            calendars=bool(StoreView(made, made.host("store")).calendars),
        ).content.decode()  # fmt: skip
        assert ('protocol == "dav"' in script) == expected


def quota(root: Path, **limits: int) -> Quota:
    return Quota(
        lambda *_: [b"inner"], str(root), limits.get("size", 10**6), limits.get("entries", 100), "office"
    )


def asked(wrapped: Quota, method: str, path: str, user: str = "a@example.net") -> list[str]:
    """The status, if it comes from the quota, and the first word of the answer."""
    found: list[str] = []
    environ = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path.encode("utf-8", "surrogateescape").decode("latin-1"),
        "HTTP_X_REMOTE_USER": user.encode().decode("latin-1"),
        "wsgi.input": io.BytesIO(),
    }
    (body,) = wrapped(environ, lambda status, _headers: found.append(status.split()[0]))
    return [*found, body.decode().split()[0]]


def test_a_refused_request_is_read_to_its_end(tmp_path: Path) -> None:
    """Otherwise nginx, which is still sending, answers 502."""
    (tmp_path / "a@example.net").mkdir()
    (tmp_path / "a@example.net/1.ics").write_text("x")
    body = io.BytesIO(b"x" * 200_000)
    request = {
        "REQUEST_METHOD": "PUT",
        "PATH_INFO": "/a@example.net/c/2.ics",
        "HTTP_X_REMOTE_USER": "a@example.net",
    }
    statuses: list[str] = []
    quota(tmp_path, entries=1)(request | {"wsgi.input": body}, lambda status, _: statuses.append(status))
    assert (statuses, body.read()) == (["507 Insufficient Storage"], b"")


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("Hall 3, gate B", True),
        ("a\nEND:VCARD, b", False),
        ("a, b\n", False),
        ("a\r, b", False),
        ("a", False),
    ],
)
def test_only_a_value_of_one_line_is_kept_as_sent(sent: str, *, kept: bool) -> None:
    """CAL-03: otherwise a line of a quoted-printable text ends an entry, or adds to it."""

    def cut(line: SimpleNamespace) -> None:
        line.value = line.value.partition(",")[0]

    line = SimpleNamespace(value=sent, encoded=False)
    whole(cut, str)(line)
    assert (line.value, line.encoded) == ((sent, True) if kept else (sent.partition(",")[0], False))


def test_radicale_reads_a_path_as_sent(tmp_path: Path) -> None:
    seen: list[str] = []

    def radicale(environ: dict[str, Any], _start: Callable[..., Any]) -> list[bytes]:
        seen.append(environ["PATH_INFO"])
        return [b"inner"]

    wrapped = Quota(radicale, str(tmp_path), 10**6, 100, "office")
    for octets in ("/a@example.net/c/Kräne.ics".encode(), b"/a@example.net/c/\xff.ics"):
        asked(wrapped, "GET", octets.decode("utf-8", "surrogateescape"))
    assert seen == ["/a@example.net/c/Kräne.ics", "/a@example.net/c/\ufffd.ics"]


@pytest.mark.parametrize("owner", ["a@example.net", "ä@example.net"])
def test_who_has_used_up_the_room_reads_and_deletes_only(tmp_path: Path, owner: str) -> None:
    calendar = tmp_path / owner / "calendar"
    calendar.mkdir(parents=True)
    for number in range(3):
        (calendar / f"{number}.ics").write_text("x")
    for wrapped in (quota(tmp_path, entries=3), quota(tmp_path, size=3 * 4096)):
        for method in ("PUT", "MKCOL", "MKCALENDAR", "PROPPATCH", "POST", "MOVE"):
            assert asked(wrapped, method, f"/{owner}/calendar/4.ics", owner) == ["507", "Your"]
        for method in ("GET", "DELETE", "PROPFIND", "REPORT", "OPTIONS"):
            assert asked(wrapped, method, f"/{owner}/calendar/1.ics", owner) == ["inner"]
    assert asked(quota(tmp_path, entries=4), "PUT", f"/{owner}/calendar/4.ics", owner) == ["inner"]


def test_nobody_learns_how_full_others_are_and_the_office_has_more_room(tmp_path: Path) -> None:
    for owner in ("b@example.net", "office"):
        (tmp_path / owner).mkdir()
        (tmp_path / owner / "1.ics").write_text("x")
    full = quota(tmp_path, entries=1)
    assert asked(full, "PUT", "/b@example.net/2.ics") == ["inner"]
    assert asked(full, "PUT", "/office/2.ics") == ["inner"]
    for number in range(5):
        (tmp_path / "office" / f"{number}.ics").write_text("x")
    for path in ("/office/9.ics", "//office/9.ics", "/./office/9.ics", "/x/../office/9.ics", "/office"):
        assert asked(full, "PUT", path) == ["507", "Your"], path
    assert asked(full, "MOVE", "/a@example.net/2.ics") == ["507", "Your"]  # it may go there
    assert asked(full, "PUT", "/a@example.net/2.ics") == ["inner"], "one user stops all others"


def test_who_is_full_puts_nothing_elsewhere_either(tmp_path: Path) -> None:
    (tmp_path / "a@example.net").mkdir()
    (tmp_path / "a@example.net" / "1.ics").write_text("x")
    for path in ("/office/9.ics", "//a@example.net/2.ics", "/x/../a@example.net/2.ics"):
        assert asked(quota(tmp_path, entries=1), "PUT", path) == ["507", "Your"]


@pytest.mark.parametrize("user", ["", "/", ".", "..", "../secret", "\0", "a/../.."])
def test_no_name_leads_out_of_the_calendars(tmp_path: Path, user: str) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "secret").write_text("x")
    assert asked(quota(tmp_path / "root", entries=1), "PUT", "/x", user) == ["inner"]


def test_the_directory_has_everybody_who_may_log_in(view: GroupwareView) -> None:
    names = {re.search(r"FN:(.*)\r\n", card)[1] for card in view.cards.values()}  # type: ignore[index]
    assert names == {user.full_name or user.name for user in view.office.users}
    assert all(card.endswith("END:VCARD\r\n") for card in view.cards.values())


def test_the_office_says_how_much_room_a_user_has(office: Office) -> None:
    unit = "/etc/systemd/system/radicale.service.d/outpost.conf"
    larger, _ = office_with(ADDRESSES, limits={"calendar_quota": "1GiB"})
    assert larger is not None
    for made, size in ((office, 100 * 1024**2), (larger, 1024**3)):
        shown = rendered("groupware", unit, view=GroupwareView(made, made.host("dav"))).content.decode()
        assert f"collection-root', {size}, 20000, 'office')" in shown


def test_a_name_in_the_directory_adds_no_line_of_its_own() -> None:
    users = [{"address": "tom@harbour.example.com", "full_name": "T;o,m\\ X"}]
    odd, _ = office_with(ADDRESSES, users=users, postmaster="tom@harbour.example.com")
    assert odd is not None
    (card,) = GroupwareView(odd, odd.host("dav")).cards.values()
    assert "FN:T\\;o\\,m\\\\ X\r\n" in card
    assert card.count("\r\n") == 8


# Former users ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def tool(view: GroupwareView, tmp_path: Path) -> Path:
    """The host's program, with a directory of the test."""
    path = tmp_path / "calendars"
    text = rendered("groupware", TOOL, view=view).content.decode()
    path.write_text(
        text.replace(view.storage, str(tmp_path)).replace(view.cache, str(tmp_path / "cache")),
        encoding="utf-8",
    )
    return path


def run(tool: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", str(tool), *arguments], capture_output=True, text=True, check=False)


def test_what_the_office_shares_is_made_once(tool: Path) -> None:
    assert run(tool, "made").returncode != 0
    assert run(tool, "make").returncode == 0
    assert run(tool, "made").returncode == 0
    props = tool.parent / "collection-root/office/calendar/.Radicale.props"
    props.write_text('{"tag": "VCALENDAR", "D:displayname": "renamed"}', encoding="utf-8")
    assert run(tool, "make").returncode == 0
    assert "renamed" in props.read_text(encoding="utf-8")


def test_calendars_of_who_left_are_archived_and_nobody_elses(tool: Path) -> None:
    run(tool, "make")
    root = tool.parent / "collection-root"
    for name in ("anna@x.test", "bert@x.test", ".Radicale.tmp-1"):
        (root / name / "calendar").mkdir(parents=True)
        (root / name / "calendar/one.ics").write_text(name, encoding="utf-8")
    assert run(tool, "former", "anna@x.test").stdout == "bert@x.test\n"
    for _ in range(2):  # the same name, twice on one day
        assert run(tool, "archive", "anna@x.test").returncode == 0
        (root / "bert@x.test").mkdir(exist_ok=True)
    assert sorted(path.name for path in root.iterdir()) == [
        ".Radicale.tmp-1",
        "anna@x.test",
        "bert@x.test",
        "office",
    ]
    kept = list((tool.parent / "former").glob("bert@x.test-*/calendar/one.ics"))
    assert [path.read_text(encoding="utf-8") for path in kept] == ["bert@x.test"]


def test_an_office_without_people_archives_nothing(tool: Path) -> None:
    (tool.parent / "collection-root/anna@x.test").mkdir(parents=True)
    assert run(tool, "archive").returncode != 0
    assert (tool.parent / "collection-root/anna@x.test").is_dir()


# The store's word ---------------------------------------------------------------------------------------------------------


def basic(text: str) -> str:
    return f"Basic {base64.b64encode(text.encode()).decode()}"


@pytest.mark.parametrize(
    "header",
    ["", "Basic", "Basic !!!", "Bearer x", basic("nobody"), basic(":x"), basic("x:"), basic("a\0b:c"), basic("a:b\0"),
     basic("x" * 3000 + ":y"), "Basic /w=="],
)  # fmt: skip
def test_what_cannot_be_right_is_not_tried(header: str) -> None:
    assert davlogins.credentials(header) is None


def test_a_password_may_have_colons_and_umlauts() -> None:
    assert davlogins.credentials(basic("anna:a:ü")) == ("anna", "a:ü")
    assert davlogins.credentials(basic("a:b").replace("Basic", "basic")) == ("a", "b")


@pytest.fixture
def answering(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Path, list[tuple[str, ...]], list[str]]]:
    """The service on a socket, the requests that Dovecot gets, and its answer."""
    requests: list[tuple[str, ...]] = []
    answer = ["anna@x.test"]

    def verify(login: str, password: str, remote: str) -> str:
        requests.append((login, password, remote))
        if answer[0] == "down":
            raise davlogins.UnavailableError("down")
        return answer[0]

    monkeypatch.setattr(davlogins.Handler, "verify", staticmethod(verify), raising=False)
    monkeypatch.setattr(davlogins.Handler, "realm", "x.test", raising=False)
    path = tmp_path / "socket"
    with davlogins.Server(str(path), davlogins.Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield path, requests, answer
        server.shutdown()
        thread.join()


class Local(http.client.HTTPConnection):
    """HTTP over a local socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self.path))


def ask(path: Path, **headers: str) -> http.client.HTTPResponse:
    connection = Local(path)
    connection.request(
        "GET", "/login", headers={name.replace("_", "-"): value for name, value in headers.items()}
    )
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer


def test_the_right_password_gives_the_address_and_the_client_is_named(answering: Any) -> None:
    path, requests, _ = answering
    answer = ask(path, Authorization=basic("Anna:secret"), X_Real_IP="192.0.2.7")
    assert (answer.status, answer.getheader("X-Login")) == (204, "anna@x.test")
    assert requests == [("Anna", "secret", "192.0.2.7")]


def test_no_password_is_refused_without_asking(answering: Any) -> None:
    path, requests, _ = answering
    answer = ask(path, X_Real_IP="192.0.2.7")
    assert (answer.status, answer.getheader("X-Login")) == (401, None)
    assert answer.getheader("WWW-Authenticate") == 'Basic realm="x.test", charset="UTF-8"'
    assert requests == []


@pytest.mark.parametrize("name", ["", "anna", "a@b@c", "../x@x.test", "a b@x.test", "a\r\nX-Evil: 1@x.test"])
def test_nobody_is_let_in_under_a_name_that_is_no_address(answering: Any, name: str) -> None:
    path, _, answer = answering
    answer[0] = name
    assert ask(path, Authorization=basic("anna:x"), X_Real_IP="192.0.2.7").status == 401


@pytest.mark.parametrize("place", ["", "nowhere", "1.2.3.4\tservice=x"])
def test_a_question_without_a_clients_address_is_answered_to_nobody(answering: Any, place: str) -> None:
    path, requests, _ = answering
    assert ask(path, Authorization=basic("anna:x"), X_Real_IP=place).status == 503
    assert requests == []


def test_the_zone_of_an_address_is_no_text_for_dovecot(answering: Any) -> None:
    path, requests, _ = answering
    ask(path, Authorization=basic("anna:x"), X_Real_IP="fe80::1%x\tprotocol=accounts\tvalid-client-cert")
    assert requests == [("anna", "x", "fe80::1")]


def test_while_dovecot_is_down_nobody_is_asked_for_another_password(answering: Any) -> None:
    path, _, answer = answering
    answer[0] = "down"
    assert ask(path, Authorization=basic("anna:x"), X_Real_IP="192.0.2.7").status == 503


@pytest.mark.parametrize(
    ("reply", "expected"),
    [("OK\t1\tuser=anna@x.test\n", "anna@x.test"), ("FAIL\t1\tuser=anna@x.test\n", ""), ("FAIL\t1\tcode=temp_fail\n", None),
     ("FAIL\t1\ttemp\n", None), ("OK\t2\tuser=x@x.test\n", None), ("", None)],
)  # fmt: skip
def test_dovecots_answer_is_taken_at_its_word(reply: str, expected: str | None, tmp_path: Path) -> None:
    path = str(tmp_path / "auth")
    with socket.socket(socket.AF_UNIX) as waiting:
        waiting.bind(path)
        waiting.listen()
        received: list[str] = []

        def serve() -> None:
            connection, _ = waiting.accept()
            with connection, connection.makefile("rw", encoding="utf-8") as file:
                file.write("VERSION\t1\t2\nMECH\tPLAIN\nDONE\n")
                file.flush()
                received.extend(file.readline() for _ in range(3))
                file.write(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        if expected is None:
            with pytest.raises(davlogins.UnavailableError):
                davlogins.ask_dovecot(path, "anna", "secret", "192.0.2.7")
        else:
            assert davlogins.ask_dovecot(path, "anna", "secret", "192.0.2.7") == expected
        thread.join()
    assert received[2].startswith("AUTH\t1\tPLAIN\tprotocol=dav\t")
    assert "\trip=192.0.2.7\t" in received[2]


def test_only_its_own_account_is_named_in_the_rights(office: Office) -> None:
    me: Host = office.host("dav")
    text = rendered("groupware", "/etc/radicale/rights", view=GroupwareView(office, me)).content.decode()
    patterns = set(re.findall(r"^user = (.*)$", text, re.MULTILINE))
    assert len(patterns) == 1
    (pattern,) = patterns
    assert re.fullmatch(pattern.format(), "anna@harbour.example.com")
    for stranger in ("", "office", "anna@harbourXexample.com", "a@b@harbour.example.com", "anna@other.test"):
        assert not re.fullmatch(pattern.format(), stranger)
