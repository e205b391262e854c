"""Every link, with a server at the other end that cannot prove its identity. The mail stays in the queue with the reason, nothing is
sent in clear, and nothing is lost once the right server is back (TLS-06, -09, -10).
"""

from __future__ import annotations

import json
import re
import smtplib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from secrets import token_hex

import pytest
import tomlkit
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from playwright.sync_api import Page, expect

from outpost.keys import secrets_file
from outpost.office import ports
from outpost.target import ROOT, Target
from outpost_lab import pace
from outpost_lab.instance import Instance
from outpost_lab.post import Correspondent, Neighbour, NotArrivedError, OfficeUser, Town, compose
from roles.mta.view import key_fingerprint
from tests.awaiting import listening, until
from tests.journeys.capture import Wire, captured
from tests.journeys.desk import idle, log_in, needs_browser
from tests.journeys.forging import Authority, Shown, certificate, replaced, run, write
from tests.journeys.naming import Names, Record, text
from tests.lab.rehearsal import Rehearsal

UNPROVEN = r"not (verified|trusted)|handshake failure|TLS is required|certificate"
"""Postfix's reasons not to trust a next hop."""
PATIENCE = 60


@pytest.fixture(scope="module")
def wire(lab: Instance) -> Iterator[Wire]:
    """The MTA's traffic on every network: each link has an end there."""
    with captured(lab, "mta") as seen:
        yield seen


@pytest.fixture(scope="module")
def world_authority(lab: Instance) -> Authority:
    """Whom the office trusts for the peers' certificates."""
    return Authority(*lab.world_authority())


@pytest.fixture(scope="module")
def office_authority(target: Target) -> Authority:
    """Whom the office's hosts trust for each other."""
    pair = secrets_file.read(target.data).authority
    key = load_pem_private_key(pair.key.get_secret_value().encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return Authority(x509.load_pem_x509_certificate(pair.certificate.encode()), key)


@pytest.fixture(scope="module")
def mta(lab: Instance) -> str:
    return lab.container_name("mta")


def faulty(fault: str, name: str, authority: Authority) -> Shown:
    """A certificate with one thing wrong."""
    match fault:
        case "other name":
            return certificate([f"other.{name}"], authority)
        case "expired":
            return certificate([name], authority, expired=True)
        case "self-signed":
            return certificate([name])
    raise ValueError(fault)


def waiting(container: str, recipient: str, reason: str = UNPROVEN, *, sender: str = "") -> str:
    """Why a message for the recipient is still in the machine's queue, once its first delivery has failed for that reason."""

    def printed() -> str:
        listing = subprocess.run(
            ["docker", "exec", container, "postqueue", "-j"], capture_output=True, text=True, check=False
        )
        if listing.returncode:  # it met a message that was just sent; the next one decides
            return ""
        for entry in map(json.loads, listing.stdout.splitlines()):
            for found in entry["recipients"]:
                why = str(found.get("delay_reason", ""))
                ours = found["address"] == recipient and entry["sender"].endswith(sender)
                if ours and re.search(reason, why):
                    return why
        return ""

    return until(printed, f"a message to {recipient} waits in {container} for that reason", seconds=PATIENCE)


def tried_again(container: str) -> None:
    """Try the whole queue now."""
    run(container, ["postqueue", "-f"])


def arrives(container: str, reader: Correspondent, token: str) -> None:
    """Mail in the machine's queue reaches its reader. It is tried repeatedly, because a daemon that starts may miss the first try."""
    for _ in range(PATIENCE // 5):
        tried_again(container)
        try:
            reader.receive(token, patience=5)
        except NotArrivedError:
            continue
        return
    raise NotArrivedError(f"{token} did not reach {reader.address}")


def test_the_capture_sees_what_travels_in_clear(wire: Wire, town: Town) -> None:
    """Positive control: the capture must find text that is sent in clear."""
    token = f"outpost-{token_hex(8)}"
    with smtplib.SMTP(
        town.info["hosts"]["mta"]["addresses"]["wan"][0], 25, timeout=30 * pace.load()
    ) as session:
        session.docmd("EHLO", f"{token}.internet.test")
    assert wire.shows(token)


# Office to peers ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PeerServer:
    """A peer's mail server, and how its TLS is broken."""

    machine: str
    name: str
    activate: str
    stripped: tuple[str, str, str]


PEERS = {
    "head_office": PeerServer(
        "headoffice",
        "mx.myertor.test",
        "systemctl reload postfix.service",
        ("/etc/postfix/main.cf", "smtpd_tls_security_level = may", "smtpd_tls_security_level = none"),
    ),
    "client_site": PeerServer(
        "clientsite",
        "mx.steeltec.test",
        "systemctl reset-failed exim4; systemctl restart exim4",
        ("/etc/exim4/exim4.conf", "tls_advertise_hosts = *", "tls_advertise_hosts ="),
    ),
}


@pytest.mark.control("TLS-09")
@pytest.mark.parametrize("fault", ["other name", "expired", "self-signed", "STARTTLS stripped"])
@pytest.mark.parametrize("peer", PEERS)
def test_mail_to_a_peer_waits_until_it_proves_itself(
    lab: Instance,
    town: Town,
    mta: str,
    wire: Wire,
    alice: OfficeUser,
    world_authority: Authority,
    peer: str,
    fault: str,
) -> None:
    server, reader = PEERS[peer], getattr(town, peer)
    container = lab.container_name(server.machine)
    if fault == "STARTTLS stripped":
        path, old, new = server.stripped
        content = run(container, ["cat", path])
        assert old in content
        files = {path: content.replace(old, new)}
    else:
        shown = faulty(fault, server.name, world_authority)
        files = {"/etc/outpost/host.pem": shown.certificate, "/etc/outpost/host.key": shown.key}
    message, token = compose(alice.address, [reader.address])
    with replaced(container, files, server.activate):
        alice.send(message, [reader.address])
        waiting(mta, reader.address)
        printed = verification(lab) if (peer, fault) == ("head_office", "expired") else ""
        assert reader.count(token) == 0
    if printed:
        assert "1 failed" in printed
        assert reader.address in printed
        assert re.search(UNPROVEN, printed)
    arrives(mta, reader, token)
    assert reader.count(token) == 1
    assert not wire.shows(token)


@pytest.mark.control("TLS-09")
def test_a_peer_whose_key_was_agreed_on_gets_mail_for_that_key_only(
    lab: Instance, mta: str, wire: Wire, alice: OfficeUser, head: Neighbour
) -> None:
    """With ``tls = "fingerprint"`` only the key counts: a self-signed certificate is enough, a good one for another key is not."""
    server = PEERS["head_office"]
    agreed = certificate([f"other.{server.name}"])

    def pin(office: tomlkit.TOMLDocument) -> None:
        for peer in office["peers"]:
            if peer["next_hop"] == server.name:
                peer.update(tls="fingerprint", fingerprints=[key_fingerprint(agreed.certificate)])

    files = {"/etc/outpost/host.pem": agreed.certificate, "/etc/outpost/host.key": agreed.key}
    sent = [compose(alice.address, [head.address]) for _ in range(2)]
    (first, expected), (second, early) = sent
    with Rehearsal(lab).declared(pin, "mta"):
        with replaced(lab.container_name(server.machine), files, server.activate):
            alice.send(first, [head.address])
            head.receive(expected)
        alice.send(second, [head.address])
        waiting(mta, head.address)
        assert head.count(early) == 0
    arrives(mta, head, early)
    assert not [token for token in (expected, early) if wire.shows(token)]


def verification(lab: Instance) -> str:
    """What `outpost verify` reports about the queue."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "tests/live/test_mta.py",
        "-q",
        "--name",
        lab.name,
        "-k",
        "prove_itself",
    ]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout


# Office to the Internet -----------------------------------------------------------------------------------------


@dataclass
class Stranger:
    """A domain on the Internet: the promises of its DNS, and the certificate of its mail server.

    Attributes:
        promised: The certificate that the DNS (DANE) or a trusted authority (MTA-STS) confirms.
        shown: The one that its server shows instead.
        dane: Whether it has TLSA records.
        sts: Whether it has an MTA-STS policy, in mode enforce.
        stripped: Whether its server offers no STARTTLS.
    """

    kind: str
    promised: Shown
    shown: Shown
    dane: bool = False
    sts: bool = False
    stripped: bool = False
    label: str = field(default_factory=lambda: f"t{token_hex(5)}")

    @property
    def domain(self) -> str:
        return f"{self.label}.internet.test"

    @property
    def server(self) -> str:
        return f"mx-{self.label}.internet.test"

    def records(self, addresses: Sequence[str]) -> list[Record]:
        """Its DNS. A server that offers no STARTTLS has IPv6 only: it refuses STARTTLS by the client's address."""
        ipv4, ipv6 = addresses
        records: list[Record] = [
            (f"{self.domain}.", "MX", f"10 {self.server}."),
            (f"{self.server}.", "AAAA" if self.stripped else "A", ipv6 if self.stripped else ipv4),
        ]
        if self.dane:
            records.append((f"_25._tcp.{self.server}.", "TLSA", self.promised.tlsa))
        if self.sts:
            records.append((f"_mta-sts.{self.domain}.", "TXT", text("v=STSv1; id=1;")))
            records.append((f"mta-sts.{self.domain}.", "A", ipv4))
        return records


def strangers(authority: Authority) -> dict[str, Stranger]:
    """Domains of every kind, with at most one fault."""

    def of(
        kind: str, shown: str, *, dane: bool = False, sts: bool = False, stripped: bool = False
    ) -> Stranger:
        unset = certificate(["unset"])
        made = Stranger(kind, unset, unset, dane, sts, stripped)
        made.promised = certificate([made.server], authority)
        match shown:
            case "promised":
                made.shown = made.promised
            case "another key":
                made.shown = certificate([made.server], authority)
            case "self-signed and expired":
                made.shown = made.promised = certificate([made.server], expired=True)
            case fault:
                made.shown = faulty(fault, made.server, authority)
        return made

    found = (
        of("DANE, another key", "another key", dane=True),
        of("DANE, STARTTLS stripped", "promised", dane=True, stripped=True),
        of("DANE, its key in an expired certificate of its own", "self-signed and expired", dane=True),
        of("MTA-STS", "promised", sts=True),
        of("MTA-STS, other name", "other name", sts=True),
        of("MTA-STS, expired", "expired", sts=True),
        of("MTA-STS, self-signed", "self-signed", sts=True),
        of("MTA-STS, STARTTLS stripped", "promised", sts=True, stripped=True),
        of("DANE and MTA-STS, another key", "another key", dane=True, sts=True),
        of("neither, self-signed", "self-signed"),
    )
    return {stranger.kind: stranger for stranger in found}


DELIVERED = {"DANE, its key in an expired certificate of its own", "MTA-STS", "neither, self-signed"}
"""RFC 7672, section 3.1.1: with DANE-EE neither name nor date count. RFC 7435: without a promise, some protection is better."""


@contextmanager
def open_for(lab: Instance, domains: Sequence[Stranger], authority: Authority) -> Iterator[str]:
    """The Internet's mail server as the server of all these domains, and their policies on its port 443."""
    internet = lab.container_name("internet")
    names = [f"mta-sts.{stranger.domain}" for stranger in domains]
    web = certificate(names, authority)
    policy = "version: STSv1\nmode: enforce\nmax_age: 86400\n" + "".join(
        f"mx: {stranger.server}\n" for stranger in domains
    )
    run(internet, ["mkdir", "-p", "/root/sts/.well-known", "/etc/postfix/shown"])
    write(internet, "/root/sts/.well-known/mta-sts.txt", policy)
    write(internet, "/root/sts/web.pem", web.certificate + web.key)
    serve = "cd /root/sts && exec openssl s_server -accept 443 -WWW -cert web.pem -key web.pem -quiet"
    subprocess.run(
        ["docker", "exec", "--detach", internet, "sh", "-c", f"echo $$ >/root/sts/pid; {serve}"], check=True
    )
    settings = run(internet, ["cat", "/etc/postfix/main.cf"]) + (
        "\ntransport_maps = inline:{ { internet.test = capture: } { .internet.test = capture: } }"
        "\ntls_server_sni_maps = hash:/etc/postfix/shown/names"
        "\nsmtpd_discard_ehlo_keyword_address_maps = cidr:{{fd00::/8 starttls}}\n"
    )
    try:
        show(internet, {stranger.server: stranger.shown for stranger in domains})
        with replaced(internet, {"/etc/postfix/main.cf": settings}, "systemctl reload postfix.service"):
            yield internet
    finally:
        run(internet, ["sh", "-c", "kill $(cat /root/sts/pid); rm -r /root/sts /etc/postfix/shown"])


def show(internet: str, certificates: dict[str, Shown]) -> None:
    """Each server's certificate by the name that the client asks for (SNI)."""
    for name, shown in certificates.items():
        write(internet, f"/etc/postfix/shown/{name}.pem", shown.key + shown.certificate)
    table = "".join(f"{name} /etc/postfix/shown/{name}.pem\n" for name in certificates)
    write(internet, "/etc/postfix/shown/names", table)
    run(internet, ["postmap", "-F", "hash:/etc/postfix/shown/names"])


@pytest.mark.control("TLS-06")
def test_mail_to_the_internet_waits_where_the_destination_promises_more_than_it_shows(
    lab: Instance,
    town: Town,
    mta: str,
    wire: Wire,
    alice: OfficeUser,
    world_authority: Authority,
) -> None:
    domains = strangers(world_authority)
    addresses = town.info["world"]["internet"]["addresses"]["wan"]
    names = Names(lab.container_name("root"), mta)
    readers = {kind: town.neighbour("internet", f"reader@{found.domain}") for kind, found in domains.items()}
    everybody = [reader.address for reader in readers.values()]
    message, token = compose(alice.address, everybody)
    records = [record for stranger in domains.values() for record in stranger.records(addresses)]
    with names.published(records), open_for(lab, list(domains.values()), world_authority) as internet:
        alice.send(message, everybody)
        for kind in DELIVERED:
            readers[kind].receive(token)
        for kind, reader in readers.items():
            if kind not in DELIVERED:
                waiting(mta, reader.address)
        assert {kind for kind, reader in readers.items() if reader.count(token)} == DELIVERED
        # from here on they show the promised certificate
        show(internet, {found.server: found.promised for found in domains.values()})
        run(internet, ["postconf", "-X", "smtpd_discard_ehlo_keyword_address_maps"])
        run(internet, ["postfix", "reload"])
        tried_again(mta)
        for reader in readers.values():
            reader.receive(token)
            assert reader.count(token) == 1
    assert not wire.shows(token)


# Others to the office -------------------------------------------------------------------------------------------


@pytest.mark.control("TLS-05", "TLS-09")
def test_mail_to_the_office_waits_while_its_mta_cannot_prove_itself(
    town: Town, mta: str, wire: Wire, alice: OfficeUser, head: Neighbour, stranger: Neighbour
) -> None:
    """An impostor in the MTA's place gets no mail: head office verifies the name, the Internet the published key.

    Mail from the Internet then goes to the backup MX, where it waits with head office's mail.
    """
    shown = certificate([f"mta.{town.info['domain']}"])
    files = {"/etc/outpost/tls/public.pem": shown.certificate, "/etc/outpost/tls/public.key": shown.key}
    sent: dict[str, str] = {}
    with replaced(mta, files, "systemctl reload postfix.service"):
        for sender in (head, stranger):
            message, token = compose(sender.address, [alice.address])
            sender.send(message, [alice.address])
            sent[sender.address] = token
        for sender in (head, stranger):
            waiting(head.container, alice.address, sender=sender.address)
    for token in sent.values():
        arrives(head.container, alice, token)
        assert not wire.shows(token)


# Between the office's hosts -------------------------------------------------------------------------------------


@pytest.mark.control("TLS-10")
@pytest.mark.parametrize("fault", ["other name", "expired", "self-signed"])
def test_mail_for_users_waits_until_the_store_proves_itself(
    lab: Instance,
    town: Town,
    mta: str,
    wire: Wire,
    alice: OfficeUser,
    stranger: Neighbour,
    office_authority: Authority,
    fault: str,
) -> None:
    """This link uses TLS from the first byte, so there is no STARTTLS to strip."""
    shown = faulty(fault, f"store.{town.info['domain']}", office_authority)
    files = {"/etc/outpost/tls/host.pem": shown.certificate, "/etc/outpost/tls/host.key": shown.key}
    message, token = compose(stranger.address, [alice.address])
    with replaced(lab.container_name("store"), files, "systemctl restart stunnel@lmtp"):
        stranger.send(message, [alice.address])
        waiting(mta, alice.address)
    arrives(mta, alice, token)
    assert alice.count(token) == 1
    # on its way from the Internet and into the store
    assert not wire.shows(token)


@pytest.mark.control("TLS-10")
@pytest.mark.parametrize("fault", ["other name", "expired", "self-signed"])
def test_users_keep_their_mail_until_the_mta_proves_itself(
    town: Town,
    mta: str,
    wire: Wire,
    alice: OfficeUser,
    bob: OfficeUser,
    office_authority: Authority,
    fault: str,
) -> None:
    """The store relays nothing; the user's program gets a temporary refusal, and keeps the message."""
    shown = faulty(fault, f"mta.{town.info['domain']}", office_authority)
    files = {"/etc/outpost/tls/host.pem": shown.certificate, "/etc/outpost/tls/host.key": shown.key}
    message, token = compose(alice.address, [bob.address])
    with replaced(mta, files, "systemctl reload postfix.service"):
        with pytest.raises((smtplib.SMTPException, OSError)) as refusal:
            alice.send(message, [bob.address])
        assert not re.search(r"\b5\d\d\b", str(refusal.value)), refusal.value
    alice.send(message, [bob.address])
    bob.receive(token)
    assert bob.count(token) == 1
    assert not wire.shows(token)


@needs_browser
@pytest.mark.control("TLS-10")
def test_webmail_sends_no_password_to_a_store_that_cannot_prove_itself(
    lab: Instance, town: Town, page: Page, site: str, alice: OfficeUser
) -> None:
    """A password goes first to the service behind the tunnel: with the fault it does not get there. There is one fault and one user
    for each link, because Roundcube allows three failed logins a minute.
    """
    store = lab.container_name("store")
    shown = certificate([f"store.{town.info['domain']}"])
    files = {"/etc/outpost/tls/host.pem": shown.certificate, "/etc/outpost/tls/host.key": shown.key}
    mark = run(store, ["date", "+%s.%6N"]).strip()

    def came_through() -> bool:
        log = run(store, ["journalctl", "--unit=stunnel@accounts", f"--since=@{mark}", "--output=cat"])
        assert "accepted connection" in log
        return "connected remote server" in log

    restart = f"systemctl restart stunnel@accounts; {listening(f':{ports.ACCOUNTS}')}"  # the unit is started before it listens
    with replaced(store, files, restart):
        log_in(page, site, alice)
        expect(page.get_by_text("The mail server does not answer")).to_be_visible()
        assert not came_through()
    log_in(page, site, alice)
    idle(page)
    assert came_through()


@needs_browser
@pytest.mark.control("TLS-10")
def test_webmail_opens_no_mailbox_at_a_store_that_cannot_prove_itself(
    lab: Instance, town: Town, page: Page, site: str, bob: OfficeUser, office_authority: Authority
) -> None:
    store = lab.container_name("store")
    shown = certificate([f"mta.{town.info['domain']}"], office_authority)
    files = {"/etc/outpost/tls/host.pem": shown.certificate, "/etc/outpost/tls/host.key": shown.key}
    with replaced(store, files, "systemctl restart dovecot"):
        log_in(page, site, bob)
        expect(page.get_by_text("Connection to IMAP server failed")).to_be_visible()
    log_in(page, site, bob)
    idle(page)
