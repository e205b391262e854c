"""Promises of the webmail host: it stores no mail, runs few programs, and shows the Internet only what it must."""

from __future__ import annotations

import json
import plistlib
import re
from ipaddress import IPv4Address, IPv6Address
from secrets import token_hex
from typing import Any
from xml.etree import ElementTree

import pytest
from testinfra.host import Host as TestinfraHost

from outpost.office import Host, Office, ports
from outpost.office.dns import mta_sts_policy
from outpost_lab import pace
from roles.webmail.guide import PROFILE
from roles.webmail.view import WebmailView
from tests.awaiting import until
from tests.live.asking import account, installed, modes
from tests.live.browsing import Answer, RefusedError, browse
from tests.live.kernel import Listening, Mounts
from tests.live.speaking import OLD_OFFERS
from tests.live.systemd import Units

pytestmark = [pytest.mark.role("webmail"), pytest.mark.looks, pytest.mark.daemons("nginx", "php8.4-fpm")]

UNITS = ("nginx.service", "php8.4-fpm.service")
AS_ROUNDCUBE = "setpriv --reuid=roundcube --regid=roundcube --clear-groups"
HIDDEN = (
    "/.git/config",
    "/.htaccess",
    "/SQL/sqlite.initial.sql",
    "/bin/updatedb.sh",
    "/composer.json",
    "/config/config.inc.php",
    "/db/roundcube.sqlite",
    "/index.php/../../config/config.inc.php",
    "/installer/",
    "/installer/index.php",
    "/logs/errors.log",
    "/plugins/managesieve/config.inc.php",
    "/plugins/managesieve/managesieve.php",
    "/plugins/password/helpers/passwd-expect",
    "/program/include/iniset.php",
    "/program/lib/Roundcube/rcube.php",
    "/program/resources/..%2f..%2f..%2f..%2fetc/passwd",
    "/skins/elastic/templates/login.html",
    "/temp/",
    "/vendor/autoload.php",
)


@pytest.fixture(scope="module")
def view(office: Office, me: Host) -> WebmailView:
    """The host as its role derives it."""
    return WebmailView(office, me)


@pytest.fixture(scope="module")
def inside(view: WebmailView) -> IPv4Address | IPv6Address:
    """An address at which users reach it."""
    return view.webmail_addresses[0]


@pytest.fixture(scope="module")
def login_page(host: TestinfraHost, view: WebmailView, inside: IPv4Address | IPv6Address) -> Answer:
    """What a user's browser gets first."""
    return browse(host, inside, view.name)


# The host ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", UNITS)
def test_webmail_runs_and_comes_up_with_the_host(units: Units, unit: str) -> None:
    """The service runs, and starts when the host boots."""
    assert units.runs(unit)
    assert units.comes_up(unit)


@pytest.mark.control("SYS-04")
def test_no_second_web_server_and_no_database_server_is_installed(host: TestinfraHost) -> None:
    """No second web server and no database server is installed."""
    unwanted = ("apache2", "lighttpd", "mariadb-server", "mysql-server", "postgresql", "php8.4-gd")
    assert [package for package in installed(host) if package.startswith(unwanted)] == []


@pytest.mark.control("NET-01")
def test_web_server_listens_on_its_zone_addresses_and_no_wildcard(
    listening: Listening, view: WebmailView
) -> None:
    """The web server listens on its addresses only, not on a wildcard."""
    found = {socket.address for socket in listening.sockets if socket[1:3] == (443, "tcp")}
    assert found == set(map(str, view.addresses))


BY_HTTP = r"""
import http.client, json, sys
address, found = sys.argv[1], []
for method, path, headers in (("GET", "/", {}), ("GET", "/?_task=login", {"Host": "evil.test"}), ("POST", "/index.php", {})):
    connection = http.client.HTTPConnection(address, 80, timeout=60)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    found.append([answer.status, dict((name.lower(), value) for name, value in answer.getheaders())])
print(json.dumps(found))
"""


@pytest.mark.control("WEB-02")
def test_http_answers_with_a_redirect_to_https_and_nothing_else(
    host: TestinfraHost, listening: Listening, view: WebmailView
) -> None:
    """HTTP answers with a redirect to HTTPS only."""
    found = {socket.address for socket in listening.sockets if socket[1:3] == (80, "tcp")}
    assert found == set(map(str, view.webmail_addresses))
    for address in view.webmail_addresses:
        answers = json.loads(host.check_output("python3 -I -c %s %s", BY_HTTP, str(address)))
        assert [(status, headers["location"]) for status, headers in answers] == [
            (301, f"https://{view.name}/")
        ] * 3
        assert all({"set-cookie", "strict-transport-security"}.isdisjoint(headers) for _, headers in answers)


@pytest.mark.control("WEB-04")
def test_php_runs_as_an_account_of_its_own_and_never_as_root(host: TestinfraHost) -> None:
    """PHP runs as an account of its own, never as root."""
    assert set(host.check_output("ps -o user:32= -C php-fpm8.4").split()) == {"roundcube"}
    assert account(host, "roundcube") == ("/usr/sbin/nologin", ["roundcube"])


@pytest.mark.control("SYS-01")
@pytest.mark.parametrize("unit", UNITS)
def test_web_units_are_sandboxed(units: Units, unit: str) -> None:
    """The service runs in a sandbox (at most 4.0 by systemd-analyze security)."""
    assert units.exposure(unit) <= 4.0


# Run a script that prints PHP's settings in Roundcube's pool (by FastCGI, like nginx), and delete it at once.
IN_THE_POOL = r"""
import os, socket, struct, sys
def record(kind, content):
    return struct.pack("!BBHHBx", 1, kind, 1, len(content), 0) + content
script = f"/var/lib/roundcube/db/outpost-check-{os.getpid()}.php"
try:
    with open(script, "x") as file:
        os.chmod(script, 0o644)
        file.write("<?php echo json_encode(ini_get_all(null, false));")
    words = [word.encode() for word in ("REQUEST_METHOD", "GET", "SCRIPT_FILENAME", script)]
    pairs = zip(words[::2], words[1::2])
    parameters = b"".join(struct.pack("!BB", len(name), len(value)) + name + value for name, value in pairs)
    pool = socket.socket(socket.AF_UNIX)
    pool.connect(sys.argv[1])
    pool.sendall(record(1, struct.pack("!HB5x", 1, 0)) + record(4, parameters) + record(4, b"") + record(5, b""))
    answer, output = pool.makefile("rb"), b""
    while head := answer.read(8):
        _, kind, _, length, padding = struct.unpack("!BBHHBx", head)
        content = answer.read(length + padding)[:length]
        output += content if kind == 6 else b""
        if kind == 3:
            break
    print(output.decode().partition("\r\n\r\n")[2])
finally:
    os.remove(script)
"""


@pytest.mark.probe
@pytest.mark.control("WEB-03", "WEB-04", "WEB-06", "LOG-03")
def test_php_keeps_what_an_intruder_would_want_switched_off(host: TestinfraHost) -> None:
    """PHP runs no programs, opens no URLs, reads only its directories, shows no errors, and names sessions itself."""
    settings = json.loads(host.check_output("python3 -I -c %s /run/roundcube/fpm.sock", IN_THE_POOL))
    assert {"exec", "mail", "popen", "proc_open", "shell_exec", "system"} <= set(
        settings["disable_functions"].split(",")
    )
    off = (
        "expose_php", "allow_url_fopen", "allow_url_include", "display_errors", "display_startup_errors", "enable_dl",
        "session.use_trans_sid",
    )  # fmt: skip
    assert [name for name in off if settings[name] not in ("", "0")] == []
    on = ("cookie_httponly", "cookie_secure", "use_only_cookies", "use_strict_mode")
    assert [name for name in on if settings[f"session.{name}"] != "1"] == []
    assert settings["session.cookie_samesite"] == "Strict"
    assert settings["zend.exception_ignore_args"] == "1", "a stack trace would log passwords"
    assert settings["open_basedir"]
    assert not "/etc/passwd".startswith(tuple(settings["open_basedir"].split(":")))


@pytest.mark.control("WEB-05", "WEB-09")
def test_only_roundcube_reads_its_key_and_its_database(host: TestinfraHost) -> None:
    """Only Roundcube's account can read its key and its database."""
    found = modes(host, "/etc/roundcube/config.inc.php", "/var/lib/roundcube/db")
    assert found == ["root roundcube 640", "roundcube roundcube 700"]
    as_nginx = "setpriv --reuid=www-data --regid=www-data --init-groups"
    assert host.run(f"{as_nginx} cat /etc/roundcube/config.inc.php").rc != 0


def test_database_has_the_schema_of_the_installed_version(host: TestinfraHost) -> None:
    """The database has the schema of the installed version of Roundcube."""
    assert host.run(f"{AS_ROUNDCUBE} /usr/local/lib/outpost/roundcube-database current").rc == 0


@pytest.mark.control("WEB-06")
@pytest.mark.parametrize(
    ("unit", "path"),
    [
        ("php8.4-fpm.service", "/var/lib/roundcube/temp"),
        ("php8.4-fpm.service", "/var/lib/roundcube/sessions"),
        ("nginx.service", "/var/lib/nginx"),
    ],
)
def test_sessions_and_uploads_live_in_the_units_own_memory(
    host: TestinfraHost, units: Units, unit: str, path: str
) -> None:
    """Sessions and uploads are kept in memory that only their unit can see."""
    mount = units.process(unit).mounts.at(path)
    assert mount is not None
    assert mount.filesystem == "tmpfs"
    assert {"nodev", "noexec", "nosuid"} <= mount.options
    seen_by_all = Mounts.read(host.check_output("cat /proc/1/mountinfo"))
    assert seen_by_all.at(path) is None, "the whole host sees it"


@pytest.mark.probe
@pytest.mark.control("DOS-13")
def test_attachments_take_no_room_of_sessions(host: TestinfraHost, login_page: Answer) -> None:
    """Attachments cannot take the space of sessions.

    Sessions are in a file system of their own (the test above).
    """
    cookies = " ".join(login_page.headers.get_all("Set-Cookie") or [])
    session = re.search(r"roundcube_sessid=(\w+)", cookies)
    assert session
    inside = "nsenter --mount --target $(systemctl show --property MainPID --value php8.4-fpm)"
    found = host.check_output(f"{inside} find /var/lib/roundcube -name sess_{session[1]}")
    assert found == f"/var/lib/roundcube/sessions/sess_{session[1]}"


@pytest.mark.control("WEB-06")
def test_no_message_and_no_session_is_in_the_database(host: TestinfraHost) -> None:
    """No message and no session is in the database."""
    dump = host.check_output(f"{AS_ROUNDCUBE} sqlite3 -readonly /var/lib/roundcube/db/roundcube.sqlite .dump")
    assert "INSERT INTO system" in dump
    assert re.findall(r"INSERT INTO (?:session|cache\w*) ", dump) == []


@pytest.fixture(scope="module")
def roundcube(host: TestinfraHost) -> dict[str, Any]:
    """Roundcube's settings as PHP reads them, without its key."""
    script = "include '/etc/roundcube/config.inc.php'; echo json_encode(array_diff_key($config, ['des_key' => 0]));"
    config: dict[str, Any] = json.loads(host.check_output(f"{AS_ROUNDCUBE} php -n -r %s", script))
    return config


@pytest.mark.control("TLS-10", "REL-07")
def test_roundcube_speaks_with_the_store_alone_and_checks_that_it_is(
    roundcube: dict[str, Any], view: WebmailView
) -> None:
    """Roundcube connects to the store only, and verifies its certificate."""
    store = view.store.fqdn
    assert roundcube["imap_host"] == f"ssl://{store}:{ports.IMAPS}"
    assert (roundcube["smtp_host"], roundcube["smtp_user"], roundcube["smtp_pass"]) == (
        f"ssl://{store}:{ports.SUBMISSIONS}",
        "%u",
        "%p",
    )
    for name in ("imap_conn_options", "smtp_conn_options"):
        tls = roundcube[name]["ssl"]
        assert tls["verify_peer"] is tls["verify_peer_name"] is True
        assert tls["peer_name"] == store
        assert tls["cafile"] == "/etc/outpost/tls/ca.pem"


@pytest.mark.control("WEB-07")
def test_no_picture_is_fetched_unasked(roundcube: dict[str, Any]) -> None:
    """Remote pictures are not loaded unless the user asks for them."""
    assert roundcube["show_images"] == 0


@pytest.mark.control("WEB-08", "DOS-13")
def test_guesses_at_webmail_are_counted_by_the_browsers_address(
    roundcube: dict[str, Any], host: TestinfraHost
) -> None:
    """Wrong passwords in webmail are counted by the address of the browser."""
    assert "office" in roundcube["plugins"], "the plug-in that tells the store who knocks"
    assert host.run("php -n -l /var/lib/roundcube/plugins/office/office.php").rc == 0


@pytest.mark.control("LOG-03")
def test_neither_protocol_nor_session_is_logged(roundcube: dict[str, Any]) -> None:
    """Neither protocols nor session ids are logged."""
    debugging = {name: on for name, on in roundcube.items() if name.endswith("_debug") and on}
    assert debugging == {}
    assert roundcube["log_session_id"] is False


@pytest.mark.control("STO-03")
def test_deleted_contacts_go_for_good(units: Units) -> None:
    """Deleted contacts are erased by a timer."""
    assert units.runs("roundcube-cleandb.timer")
    assert units.comes_up("roundcube-cleandb.timer")


# What a browser gets -------------------------------------------------------------------------------------------


@pytest.mark.probe
@pytest.mark.control("WEB-01", "WEB-02")
def test_pages_carry_the_security_headers_once(login_page: Answer) -> None:
    """Pages have each security header exactly once, and do not name the software's version."""
    assert login_page.status == 200
    assert "Roundcube" not in login_page.body.partition("<title>")[2].partition("</title>")[0]
    for name in (
        "Content-Security-Policy",
        "Referrer-Policy",
        "Strict-Transport-Security",
        "X-Frame-Options",
    ):
        assert len(login_page.headers.get_all(name) or []) == 1, name
    policy = dict(
        part.strip().partition(" ")[::2] for part in login_page.headers["Content-Security-Policy"].split(";")
    )
    assert policy["default-src"] == policy["object-src"] == policy["base-uri"] == "'none'"
    assert policy["connect-src"] == policy["form-action"] == policy["frame-ancestors"] == "'self'"
    assert policy["img-src"] == "'self' data: blob:", "remote pictures are let through"
    assert login_page.headers["X-Content-Type-Options"] == "nosniff"
    assert int(login_page.headers["Strict-Transport-Security"].partition("max-age=")[2]) >= 31536000
    assert login_page.headers["Server"] == "nginx"
    assert login_page.headers["X-Powered-By"] is None


@pytest.mark.probe
@pytest.mark.control("WEB-02", "TLS-03")
@pytest.mark.parametrize("path", ["/skins/elastic/watermark.html", "/program/js/app.min.js", "/guide.html"])
def test_files_carry_the_security_headers_as_well(
    host: TestinfraHost, view: WebmailView, inside: IPv4Address | IPv6Address, path: str
) -> None:
    """Files have the same security headers as pages."""
    answer = browse(host, inside, view.name, path)
    assert answer.status == 200
    for name in (
        "Content-Security-Policy",
        "Referrer-Policy",
        "Strict-Transport-Security",
        "X-Content-Type-Options",
    ):
        assert len(answer.headers.get_all(name) or []) == 1, name


@pytest.mark.probe
@pytest.mark.control("TLS-03")
def test_pages_are_not_compressed(
    host: TestinfraHost, view: WebmailView, inside: IPv4Address | IPv6Address
) -> None:
    """Pages are not compressed, so that their length reveals no secret."""
    answer = browse(host, inside, view.name, headers="Accept-Encoding: gzip\r\n")
    assert answer.headers["Content-Encoding"] is None


@pytest.mark.live
@pytest.mark.control("LOG-03", "WEB-08")
def test_the_log_names_the_browsers_own_address_and_no_secret(
    host: TestinfraHost, view: WebmailView, inside: IPv4Address | IPv6Address
) -> None:
    """The web server logs the address that a request comes from, whatever the request says, and no query."""
    mark, secret, elsewhere = f"check-{token_hex(8)}", token_hex(8), "192.0.2.77"
    named = f"X-Forwarded-For: {elsewhere}\r\nX-Real-IP: {elsewhere}\r\nForwarded: for={elsewhere}\r\n"
    browse(host, inside, view.name, f"/{mark}?_token={secret}", headers=named)
    shown = f"journalctl --identifier nginx --since=-5min --grep {mark} --output cat"
    line = until(lambda: host.run(shown, live=True).stdout.strip(), "nginx logs the request")
    assert secret not in line
    assert elsewhere not in line


@pytest.mark.control("WEB-03", "WEB-08", "WEB-09", "BKP-02", "DSN-13")
def test_roundcube_has_keys_and_limits_of_its_own(
    host: TestinfraHost, roundcube: dict[str, Any], view: WebmailView
) -> None:
    """Sessions end and are encrypted with the office's own key, and no preference of a user changes a server."""
    script = "include '/etc/roundcube/config.inc.php'; echo strlen($config['des_key']), substr_count($config['des_key'], 'rcmail');"
    assert host.check_output(f"{AS_ROUNDCUBE} php -n -r %s", script) == "240"
    assert roundcube["cipher_method"] == "AES-192-GCM"
    assert roundcube["session_lifetime"] == view.idle_minutes
    assert roundcube["session_samesite"] == "Strict"
    assert roundcube["proxy_whitelist"] == []
    assert roundcube["identities_level"] == 1
    assert roundcube["enable_installer"] is roundcube["http_received_header"] is False
    assert {"access_store", "imap_host", "smtp_host", "im_convert_path"} <= set(roundcube["dont_override"])


@pytest.mark.probe
@pytest.mark.control("WEB-01")
@pytest.mark.parametrize(
    "action",
    [
        "_action=get",
        "_action=x&_action=get",
        "%5Faction=get",
        ".action=get",
        "_action=g%65t",
        "_frame=&_action=get",
    ],
)
def test_attachments_shown_in_the_browser_run_no_script(
    host: TestinfraHost, view: WebmailView, inside: IPv4Address | IPv6Address, action: str
) -> None:
    """Attachments that are shown in the browser cannot run scripts.

    This holds for each way to write the request that PHP understands.
    """
    answer = browse(host, inside, view.name, f"/?_task=mail&{action}&_mbox=INBOX&_uid=1&_part=2")
    policies = answer.headers.get_all("Content-Security-Policy") or []
    assert any("script-src 'none'" in policy for policy in policies), policies


@pytest.mark.probe
@pytest.mark.control("WEB-04")
@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "PROPFIND", "FOO"])
@pytest.mark.parametrize("path", ["/", "/index.php", "/robots.txt"])
def test_webmail_knows_no_other_method_than_browsers_use(
    host: TestinfraHost, view: WebmailView, inside: IPv4Address | IPv6Address, method: str, path: str
) -> None:
    """HTTP methods that browsers do not use are refused."""
    assert browse(host, inside, view.name, path, method=method).status == 405


@pytest.mark.probe
@pytest.mark.control("DOS-13")
def test_a_login_has_processes_of_its_own(
    host: TestinfraHost, view: WebmailView, inside: IPv4Address | IPv6Address
) -> None:
    """Logins have PHP processes of their own.

    Guesses of passwords do not delay pages: a login with a session cookie, which goes to the pages' processes, is not tried.
    """
    page = browse(host, inside, view.name)
    (session,) = [
        cookie.partition(";")[0]
        for cookie in page.headers.get_all("Set-Cookie") or []
        if cookie.startswith("roundcube_sessid=")
    ]
    token = re.search(r'name="_token" value="([^"]+)"', page.body)
    assert token
    answer = browse(
        host,
        inside,
        view.name,
        "/?_task=login",
        method="POST",
        headers=f"Cookie: {session}; roundcube_sessauth=none\r\nContent-Type: application/x-www-form-urlencoded\r\n",
        body=f"_token={token[1]}&_task=login&_action=login&_user=nobody&_pass=nothing",
    )
    assert "Your last session had ended" in answer.body


@pytest.mark.probe
@pytest.mark.control("DOS-13")
def test_a_made_up_session_takes_no_memory(
    host: TestinfraHost, view: WebmailView, inside: IPv4Address | IPv6Address
) -> None:
    """A request with a session that does not exist gets no new one, and requests without one are limited."""
    answer = browse(
        host, inside, view.name, headers="Cookie: roundcube_sessid=none; roundcube_sessauth=none\r\n"
    )
    assert answer.status == 302
    assert answer.headers["Location"] == "./?_task=login&_err=session"
    given = [cookie.partition(";")[0] for cookie in answer.headers.get_all("Set-Cookie") or []]
    assert sorted(given) == ["roundcube_sessauth=-del-", "roundcube_sessid=-del-"]
    limits = host.check_output("nginx -T 2>/dev/null | grep -E '^ *limit_req(_zone)? '").split(";")
    assert [" ".join(each.split()) for each in limits if each.strip()] == [
        "limit_req_zone $beginning zone=beginning:1m rate=1r/s",
        *["limit_req zone=beginning burst=500 nodelay"] * 2,
    ]


@pytest.mark.control("DOS-13")
def test_a_client_that_sends_or_reads_nothing_holds_no_connection(host: TestinfraHost) -> None:
    """nginx closes a connection on which nothing comes, or is taken, for half a minute."""
    waits = host.check_output("nginx -T 2>/dev/null | grep -E '^ *(client_(header|body)|send)_timeout '")
    found = dict(line.strip(" ;").split() for line in waits.split("\n"))
    assert found.keys() == {"client_header_timeout", "client_body_timeout", "send_timeout"}
    assert all(re.fullmatch(r"(?!0)[12]?\d|30", each.removesuffix("s")) for each in found.values()), found


LOGINS = 40
UPLOAD = """
import select, socket, ssl, sys
address, name, begin, count, length, *more = *sys.argv[1:4], int(sys.argv[4]), *sys.argv[5:]
fields = "".join(f"{field}\\r\\n" for field in more)
context = ssl.create_default_context()
context.check_hostname, context.verify_mode, context.maximum_version = False, ssl.CERT_NONE, ssl.TLSVersion.TLSv1_2
begun = []
for _ in range(count):
    begun.append(context.wrap_socket(socket.create_connection((address, 443), 30), server_hostname=name))
    begun[-1].sendall(f"{begin} /index.php HTTP/1.1\\r\\nHost: {name}\\r\\nContent-Length: {length}\\r\\n{fields}\\r\\n".encode())
answered = select.select(begun, [], [], 10)[0]
print(*(each.recv(12).decode() for each in answered))
"""


def refuses_what_is_more(status_lines: str, allowed: int) -> None:
    """The surplus is refused, and at least half of what is allowed is not.

    Requests of other checks may be open at that moment, longer on a slow host: they have the same address.
    """
    statuses = status_lines.split()[1::2]
    assert set(statuses) == {"429"}
    assert len(statuses) <= 1 + allowed // 2


@pytest.mark.probe
@pytest.mark.control("DOS-13")
def test_one_client_does_not_take_the_room_for_uploads(
    host: TestinfraHost, view: WebmailView, inside: IPv4Address | IPv6Address
) -> None:
    """The uploads that one client has open at a time are limited.

    The client begins one upload more than it may, and completes none.
    """
    begun = str(view.uploads + 1)
    status_lines = host.check_output(
        "python3 -c %s %s %s POST %s 1000000", UPLOAD, str(inside), view.name, begun
    )
    refuses_what_is_more(status_lines, view.uploads)


@pytest.mark.probe
@pytest.mark.control("DOS-13")
@pytest.mark.parametrize(("method", "length"), [("POST", "99999"), ("GET", "1000")])
def test_requests_of_one_client_do_not_take_that_room_either(
    host: TestinfraHost, view: WebmailView, inside: IPv4Address | IPv6Address, method: str, length: str
) -> None:
    """The requests that one client has open at a time are limited, small ones included.

    The client names a session that does not exist: otherwise they would be logins.
    """
    session = "Cookie: roundcube_sessid=x; roundcube_sessauth=x"
    status_lines = host.check_output(
        "python3 -c %s %s %s %s %s %s %s",
        UPLOAD,
        str(inside),
        view.name,
        method,
        str(view.size.pages + 1),
        length,
        session,
    )
    refuses_what_is_more(status_lines, view.size.pages)


@pytest.mark.probe
@pytest.mark.control("DOS-13")
def test_one_client_does_not_take_the_room_for_logins(
    host: TestinfraHost, view: WebmailView, inside: IPv4Address | IPv6Address
) -> None:
    """The logins that one client has open at a time are limited."""
    begun = str(LOGINS + 1)
    status_lines = host.check_output("python3 -c %s %s %s POST %s 100", UPLOAD, str(inside), view.name, begun)
    refuses_what_is_more(status_lines, LOGINS)


@pytest.mark.probe
@pytest.mark.control("DOS-13")
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_only_a_form_brings_a_file(
    host: TestinfraHost, view: WebmailView, inside: IPv4Address | IPv6Address, method: str
) -> None:
    """Only POST requests can have a large body."""
    status_line = host.check_output(
        "python3 -c %s %s %s %s 1 1000000", UPLOAD, str(inside), view.name, method
    )
    assert status_line == "HTTP/1.1 413"


@pytest.mark.probe
@pytest.mark.control("WEB-03")
def test_session_cookies_stay_with_this_host_and_out_of_scripts(login_page: Answer) -> None:
    """Session cookies go to this host only, over HTTPS, and are hidden from scripts."""
    cookies = login_page.headers.get_all("Set-Cookie") or []
    assert cookies
    for cookie in cookies:
        flags = {flag.strip().lower() for flag in cookie.split(";")[1:]}
        assert {"secure", "httponly", "samesite=strict"} <= flags
        assert not any(flag.startswith("domain=") for flag in flags)


@pytest.mark.probe
@pytest.mark.control("REL-07")
def test_login_form_offers_no_choice_of_server(login_page: Answer) -> None:
    """The login form offers no choice of server."""
    assert 'name="_user"' in login_page.body
    assert 'name="_host"' not in login_page.body


@pytest.mark.probe
@pytest.mark.control("WEB-04")
@pytest.mark.parametrize("path", HIDDEN)
def test_nothing_but_the_entry_script_and_its_pictures_is_served(
    host: TestinfraHost, view: WebmailView, inside: IPv4Address | IPv6Address, path: str
) -> None:
    """Roundcube's other files are not served."""
    answer = browse(host, inside, view.name, path)
    assert answer.status in (400, 404), answer.body[:200]
    assert "nginx/" not in answer.body


@pytest.mark.probe
@pytest.mark.control("INP-04")
def test_too_large_a_file_is_refused_in_plain_words(
    host: TestinfraHost, view: WebmailView, inside: IPv4Address | IPv6Address
) -> None:
    """An upload that is too large is refused, and the page names the limit."""
    answer = browse(
        host, inside, view.name, method="POST", headers=f"Content-Length: {view.request_size + 1}\r\n"
    )
    assert answer.status == 413
    assert f"{view.file_size // 1024**2} MiB" in answer.body


# What the Internet gets -----------------------------------------------------------------------------------------


@pytest.mark.probe
def test_webmail_is_not_there_for_the_internet_unless_the_office_opens_it(
    host: TestinfraHost, view: WebmailView, office: Office, me: Host
) -> None:
    """Webmail does not answer the Internet unless the office file opens it."""
    outer = office.addresses_of_kind(me, "internet")
    if not outer or office.webmail.open_to_internet:
        pytest.skip("the office opens its webmail to the Internet, or the host has no address there")
    for address in outer:
        with pytest.raises(RefusedError, match="unrecognized name"):
            browse(host, address, view.name)
        with pytest.raises(
            RefusedError
        ):  # the name is in the request only, after a handshake for another name
            browse(host, address, view.policy_name, requested=view.name)


INVITATIONS = r"""
require "/var/lib/roundcube/plugins/invitations/invitation.php";
function event($uid, $organiser, $summary, $before = "") {
    return invitation::read("BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\n{$before}BEGIN:VEVENT\r\nUID:$uid\r\nDTSTART:20261203T090000Z\r\n"
        . "ORGANIZER:mailto:$organiser\r\nSUMMARY:$summary\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n");
}
$plain = event("one", "peter@example.net", "Meeting");
$signs = event("one\u{202e}\x07", "peter@example.net", "Meeting\u{202e}\x1b[2J");
function ends($lines) {
    return invitation::read("BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nUID:one\r\n{$lines}\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n")->ends();
}
echo json_encode([
    "hours" => ends("DTSTART:20261203T090000Z\r\nDURATION:PT1H30M"),
    "days" => ends("DTSTART;VALUE=DATE:20261203\r\nDURATION:P3D"),
    "anywhere" => ends("DTSTART:20261203T090000\r\nDTEND:20261203T103000"),
    "endless" => [ends("DTSTART:20261203T090000Z"), ends("DTSTART:20261203T090000Z\r\nDURATION:PTTTTT"), ends("DTSTART:20261203T090000Z\r\nDURATION:-P1D")],
    "plain" => [$plain->text("SUMMARY"), $plain->when("DTSTART")[0], $plain->address("ORGANIZER")],
    "signs" => [$signs->text("SUMMARY"), preg_match('/[^\P{C}\r\n]/u', $signs->reply("a@example.net", "A\r\nB", "ACCEPTED", 0))],
    "header" => event("one", "peter@example.net%0d%0aBcc:all@example.net", "Meeting")->address("ORGANIZER"),
    "far" => event("one", "peter@example.net", "Meeting", str_repeat("X-A:1\r\n", 60000)) === null,
    "deep" => event("one", "peter@example.net", "Meeting", str_repeat("BEGIN:X\r\n", 1000)) === null,
    "quotes" => invitation::read(str_repeat('"', 250000)) === null,
]);
"""


@pytest.mark.probe
@pytest.mark.control("WEB-10")
def test_a_strangers_invitation_is_read_within_bounds_and_is_nothing_but_text(host: TestinfraHost) -> None:
    """An invitation by mail is read within bounds, and nothing of it is more than text."""
    found = json.loads(host.check_output(f"{AS_ROUNDCUBE} php -r %s", INVITATIONS))
    assert found == {
        "hours": [1796293800, False, ""],
        "days": [1796515200, True, ""],
        "anywhere": [1796293800, False, None],
        "endless": [None, None, None],
        "plain": ["Meeting", 1796288400, "peter@example.net"],
        "signs": ["Meeting [2J", 0],
        "header": "",
        "far": True,
        "deep": True,
        "quotes": True,
    }


@pytest.mark.probe
@pytest.mark.control("WEB-02")
def test_unknown_names_get_no_handshake_and_see_no_certificate(
    host: TestinfraHost, view: WebmailView
) -> None:
    """A client that asks for an unknown name gets no certificate."""
    for address in view.addresses:
        with pytest.raises(RefusedError, match="unrecognized name"):
            browse(host, address, "unknown.example")


@pytest.mark.probe
@pytest.mark.control("TLS-07")
def test_mta_sts_policy_is_the_mx_set(host: TestinfraHost, view: WebmailView, office: Office) -> None:
    """The MTA-STS policy is served and names exactly the MX hosts."""
    for address in view.addresses:
        answer = browse(host, address, view.policy_name, "/.well-known/mta-sts.txt")
        assert answer.status == 200
        assert answer.headers.get_content_type() == "text/plain"
        assert answer.body == mta_sts_policy(office)
        assert browse(host, address, view.policy_name).status == 404


@pytest.mark.probe
def test_mail_programs_find_their_settings(host: TestinfraHost, view: WebmailView, office: Office) -> None:
    """Mail clients find their settings (autoconfig)."""
    name = view.discovery_names[0]
    for path in ("/mail/config-v1.1.xml", "/.well-known/autoconfig/mail/config-v1.1.xml"):
        answer = browse(host, view.addresses[0], name, f"{path}?emailaddress=someone%40{office.domain}")
        assert answer.headers.get_content_type() == "text/xml"
        provider = ElementTree.fromstring(answer.body).find("emailProvider")
        assert provider is not None
        assert provider.findtext("domain") == office.domain
        found = [
            tuple(server.findtext(key) for key in ("hostname", "port", "socketType"))
            for server in (*provider.findall("incomingServer"), *provider.findall("outgoingServer"))
        ]
        assert found == [(view.store.fqdn, str(port), "SSL") for port in (ports.IMAPS, ports.SUBMISSIONS)]


@pytest.mark.probe
def test_outlook_finds_its_settings_by_asking_with_a_post(host: TestinfraHost, view: WebmailView) -> None:
    """Outlook finds its settings (autodiscover)."""
    answer = browse(
        host,
        view.addresses[0],
        view.discovery_names[1],
        "/Autodiscover/Autodiscover.xml",
        method="POST",
        body="<Autodiscover/>",
    )
    assert answer.status == 200
    elements = ElementTree.fromstring(answer.body).iter()
    found = [element.text for element in elements if element.tag.endswith("Port")]
    assert found == [str(ports.IMAPS), str(ports.SUBMISSIONS)]
    for path in (
        "/autodiscover/autodiscover.json?Email=alice%40example.com&Protocol=Autodiscoverv1&RedirectCount=1",
        "/autodiscover/autodiscover.json/v1.0/alice@example.com?Protocol=AutodiscoverV1",
    ):
        answer = browse(host, view.addresses[0], view.discovery_names[1], path)
        assert answer.headers.get_content_type() == "application/json"
        assert json.loads(answer.body) == {
            "Protocol": "AutodiscoverV1",
            "Url": f"https://{view.discovery_names[1]}/autodiscover/autodiscover.xml",
        }
    other = path.replace("AutodiscoverV1", "ActiveSync")
    answer = browse(host, view.addresses[0], view.discovery_names[1], other)
    assert answer.status == 404
    assert json.loads(answer.body)["ErrorCode"] == "InvalidProtocol"


@pytest.mark.probe
def test_apple_devices_are_given_a_profile_to_install(host: TestinfraHost, view: WebmailView) -> None:
    """Apple devices can download a configuration profile."""
    answer = browse(host, view.addresses[0], view.discovery_names[0], PROFILE)
    assert answer.status == 200
    assert answer.headers.get_content_type() == "application/x-apple-aspen-config"
    mail = plistlib.loads(answer.body.encode())["PayloadContent"][0]
    assert mail["PayloadType"] == "com.apple.mail.managed"
    assert (mail["IncomingMailServerHostName"], mail["IncomingMailServerPortNumber"]) == (
        view.store.fqdn,
        ports.IMAPS,
    )
    assert mail["OutgoingMailServerPortNumber"] == ports.SUBMISSIONS
    assert mail["IncomingMailServerUseSSL"] is mail["OutgoingMailServerUseSSL"] is True


@pytest.mark.probe
def test_users_find_the_offices_guide(host: TestinfraHost, view: WebmailView, office: Office) -> None:
    """Webmail serves the users' guide in English and German, and links to it."""
    answer = browse(host, view.webmail_addresses[0], view.name, "/guide.html")
    assert answer.status == 200
    for fact in (office.domain, office.postmaster, view.store.fqdn, f"port {ports.IMAPS}", PROFILE):
        assert fact in answer.body
    german = browse(
        host,
        view.webmail_addresses[0],
        view.name,
        "/guide.html",
        headers="Accept-Language: de-DE,de;q=0.9\r\n",
    )
    assert '<html lang="de">' in german.body
    assert '<html lang="en">' in answer.body
    assert 'href="./guide.html"' in browse(host, view.webmail_addresses[0], view.name).body


# TLS -------------------------------------------------------------------------------------------------------------


def handshake(host: TestinfraHost, view: WebmailView, options: str) -> str:
    """The output of openssl about a handshake, with everything allowed on its side."""
    socket = view.socket(view.webmail_addresses[0], ports.HTTPS)
    command = f"timeout {10 * pace.load():.0f} openssl s_client -connect {socket} -servername {view.name} {options} </dev/null 2>&1"
    return str(host.run(command).stdout)


@pytest.mark.probe
@pytest.mark.control("TLS-01", "TLS-02")
@pytest.mark.parametrize("offer", OLD_OFFERS.values(), ids=OLD_OFFERS)
def test_old_offers_are_taken_only_where_the_office_says_so(
    host: TestinfraHost, view: WebmailView, office: Office, offer: str
) -> None:
    """Old TLS offers are accepted only if [tls] profile is "old"."""
    output = handshake(host, view, offer)
    assert ("Cipher is ECDHE" in output) == (office.tls.profile == "old")
    assert "Cipher is ECDHE" in output or re.search("alert (protocol version|handshake failure)", output), (
        output
    )


@pytest.mark.probe
@pytest.mark.control("TLS-02")
def test_only_forward_secret_authenticated_ciphers_are_taken(host: TestinfraHost, view: WebmailView) -> None:
    """Only ciphers with forward secrecy and authenticated encryption are accepted."""
    weak = "ALL:!AESGCM:!CHACHA20:!ECDHE+SHA1:@SECLEVEL=0"
    assert "alert handshake failure" in handshake(host, view, f"-tls1_2 -cipher '{weak}'")
    assert re.search(r"Cipher is ECDHE-\S+(GCM|POLY1305)", handshake(host, view, "-tls1_2"))


@pytest.mark.probe
@pytest.mark.control("TLS-03")
def test_no_weak_signature_no_renegotiation_no_compression(host: TestinfraHost, view: WebmailView) -> None:
    """TLS refuses weak signatures, renegotiation and compression."""
    sha1 = handshake(host, view, "-tls1_2 -sigalgs ECDSA+SHA1:RSA+SHA1 -cipher ALL:@SECLEVEL=0")
    assert "alert handshake failure" in sha1
    assert "Compression: NONE" in handshake(host, view, "-tls1_2")
    socket = view.socket(view.webmail_addresses[0], ports.HTTPS)
    # after the handshake R is a command of openssl
    renegotiation = host.run(
        "bash -c %s",
        f"coproc S {{ timeout {10 * pace.load():.0f} openssl s_client -tls1_2 -connect {socket} -servername {view.name} 2>&1; }}; "
        'while IFS= read -r line; do printf "%s\\n" "$line"; [[ $line != *"Extended master secret"* ]] || echo R >&"${S[1]}"; '
        'done <&"${S[0]}"',
    ).stdout
    assert "RENEGOTIATING" in renegotiation
    assert "error" in renegotiation.partition("RENEGOTIATING")[2]
