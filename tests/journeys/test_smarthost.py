"""Mail to the Internet goes through a relay with a login (`[smarthost]`), which gets the password only after its certificate is verified."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import tomlkit
from pydantic import SecretStr

from outpost.keys import secrets_file
from outpost_lab.instance import Instance
from outpost_lab.post import Neighbour, OfficeUser, compose
from tests.awaiting import until
from tests.journeys.forging import Authority, certificate, replaced, run
from tests.journeys.test_tls_links import arrives, waiting
from tests.lab.rehearsal import Rehearsal

RELAY, USER, PASSWORD = "mx.internet.test", "site@provider.example", "the relay's own, 1 of 1"
PORT = 12399
# Replaces Dovecot for Postfix (its authentication protocol, version 1.2), and prints the logins that it gets.
LOGINS = """
import socketserver, sys
class Logins(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(b"VERSION\\t1\\t2\\nCUID\\t1\\nCOOKIE\\t00\\nMECH\\tPLAIN\\tplaintext\\nDONE\\n")
        for line in self.rfile:
            words = line.decode().rstrip().split("\\t")
            if words[0] == "AUTH":
                given = words[-1].removeprefix("resp=")
                print(given, flush=True)
                right = given == sys.argv[2]
                self.wfile.write(f"{'OK' if right else 'FAIL'}\\t{words[1]}\\tuser=office\\n".encode())
socketserver.ThreadingTCPServer.allow_reuse_address = True
socketserver.ThreadingTCPServer(("127.0.0.1", int(sys.argv[1])), Logins).serve_forever()
"""
WANTS_A_LOGIN = f"""
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = inet:127.0.0.1:{PORT}
smtpd_tls_auth_only = yes
smtpd_relay_restrictions = permit_mynetworks, permit_sasl_authenticated, defer
"""


def plain(user: str, password: str) -> str:
    """A client's login (RFC 4616, section 2)."""
    return base64.b64encode(f"\0{user}\0{password}".encode()).decode()


@pytest.fixture
def relay(lab: Instance) -> Iterator[str]:
    """The Internet's mail server as the office's smarthost: it takes mail for a login only."""
    internet = lab.container_name("internet")
    settings = run(internet, ["cat", "/etc/postfix/main.cf"])
    kept = "\n".join(
        line for line in settings.splitlines() if not line.startswith("smtpd_relay_restrictions")
    )
    expected = plain(USER, PASSWORD)
    start = ["docker", "exec", "--detach", internet, "sh", "-c"]
    subprocess.run(
        [
            *start,
            'echo $$ >/root/logins.pid; exec python3 -c "$1" "$2" "$3" >/root/logins',
            "sh",
            LOGINS,
            str(PORT),
            expected,
        ],
        check=True,
    )
    try:
        with replaced(
            internet, {"/etc/postfix/main.cf": kept + WANTS_A_LOGIN}, "systemctl reload postfix.service"
        ):
            yield internet
    finally:
        run(internet, ["sh", "-c", "kill $(cat /root/logins.pid); rm /root/logins /root/logins.pid"])


@contextmanager
def by_the_relay(lab: Instance, password: str) -> Iterator[Callable[[str], None]]:
    """The office's Internet mail goes through the relay, with this password; the yielded function sets another one."""

    def declare(office: tomlkit.TOMLDocument) -> None:
        office["smarthost"] = {"host": RELAY, "user": USER}

    rehearsal, kept = Rehearsal(lab), secrets_file.read(lab.directory)
    recipients = lab.office.secrets.recipients

    def keep(given: str) -> None:
        changed = kept.model_copy(update={"smarthost": SecretStr(given)})
        secrets_file.write(lab.directory, changed, recipients)

    def give(given: str) -> None:
        keep(given)
        rehearsal.apply("mta")

    keep(password)
    try:
        with rehearsal.declared(declare, "mta"):
            yield give
    finally:
        secrets_file.write(lab.directory, kept, recipients)


@pytest.mark.control("TLS-09")
def test_a_relay_gets_the_password_only_after_its_name_is_proven_and_mail_waits_for_the_right_one(
    lab: Instance, relay: str, alice: OfficeUser, stranger: Neighbour
) -> None:
    """The relay refuses an old password, an impostor gets no password, and then both messages arrive once."""
    mta = lab.container_name("mta")
    impostor = certificate([f"other.{RELAY}"], Authority(*lab.world_authority()))
    files = {"/etc/outpost/host.pem": impostor.certificate, "/etc/outpost/host.key": impostor.key}
    refused, refused_token = compose(alice.address, [stranger.address])
    message, token = compose(alice.address, [stranger.address])
    with by_the_relay(lab, "last year's") as give:
        alice.send(refused, [stranger.address])
        waiting(mta, stranger.address, "authentication failed")
        with replaced(relay, files, "systemctl reload postfix.service"):
            give(PASSWORD)
            logins = run(relay, ["cat", "/root/logins"])
            assert plain(USER, PASSWORD) not in logins.split()
            alice.send(message, [stranger.address])
            waiting(mta, stranger.address)
            assert run(relay, ["cat", "/root/logins"]) == logins
        arrives(mta, stranger, token)
        arrives(mta, stranger, refused_token)
        assert set(run(relay, ["cat", "/root/logins"]).split()) == {
            plain(USER, PASSWORD),
            plain(USER, "last year's"),
        }
        assert run(mta, ["stat", "--format=%U %a", "/etc/postfix/smarthost_login"]).split() == ["root", "600"]
    assert [stranger.count(each) for each in (token, refused_token)] == [1, 1]
    until(
        lambda: run(mta, ["sh", "-c", "ls /etc/postfix/smarthost_login 2>/dev/null; true"]) == "",
        "it is gone",
        seconds=5,
    )
