"""What strangers and users see of the office's keys: the certificate at every service, and its TLSA records."""

from __future__ import annotations

import hashlib
import re
import shlex
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from testinfra.host import Host as TestinfraHost

from outpost.keys import secrets_file
from outpost.keys.model import Secrets, public_keys, tls_digests
from outpost.office import Host, Office, ports
from outpost.office.certificates import challenges, mode, public_names, tsig_name
from outpost.office.dns import office_zone
from outpost.target import Target
from outpost_lab import pace
from tests.live.asking import ask, at, query
from tests.live.conftest import reach
from tests.live.pending import pend, unless_delegated
from tests.live.systemd import Units

pytestmark = [pytest.mark.role("mta", "store", "webmail"), pytest.mark.looks]

STARTTLS = {ports.MANAGESIEVE: "sieve"} | dict.fromkeys((ports.HTTPS, ports.SUBMISSIONS, ports.IMAPS), "")
"""Services that begin with TLS; every other one is SMTP, also the listeners of peers."""


@dataclass(frozen=True)
class Shown:
    """The certificate that one TLS service showed."""

    name: str
    port: int
    chain: tuple[x509.Certificate, ...]
    verdict: str

    @property
    def digest(self) -> str:
        key = self.chain[0].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return hashlib.sha256(key).hexdigest()


@pytest.fixture(scope="session")
def kept(target: Target) -> Secrets:
    """The office's secrets."""
    return secrets_file.read(target.data)


@pytest.mark.control("TLS-10")
def test_the_offices_authority_alone_is_trusted_between_hosts(host: TestinfraHost, kept: Secrets) -> None:
    """Hosts of the office trust certificates of the office's own authority only."""
    trusted = x509.load_pem_x509_certificates(host.check_output("cat /etc/outpost/tls/ca.pem").encode())
    assert set(trusted) == set(x509.load_pem_x509_certificates(kept.trusted.encode()))


@pytest.fixture(scope="session")
def services(office: Office, me: Host, kept: Secrets) -> dict[tuple[str, int], set[str]]:
    """Name and port of each service of the host that has TLSA records, with their data."""
    found: dict[tuple[str, int], set[str]] = {}
    for record in office_zone(office, public_keys(kept)).records:
        port, _, name = record.name.rstrip(".").removeprefix("_").partition("._tcp.")
        if record.type == "TLSA" and name in public_names(office, me):
            found.setdefault((name, int(port)), set()).add(record.data)
    return found


@pytest.fixture(scope="session")
def shown(
    host: TestinfraHost, office: Office, me: Host, services: dict[tuple[str, int], set[str]]
) -> tuple[Shown, ...]:
    """Every service of the host, asked by its public name at the address where outsiders find it."""
    outside = office.addresses_of_kind(me, "internet") if me.role == "mta" else ()
    usual = (*outside, *office.addresses_of_kind(me, "users"), *me.all_addresses)[0]
    peers = {peer.listen: me.in_zone(peer.zone)[0] for peer in office.peers if me.in_zone(peer.zone)}
    commands = []
    for name, port in services:
        protocol = STARTTLS.get(port, "smtp")
        start = f"-starttls {protocol}" if protocol else ""
        address = usual if port == ports.SMTP else peers.get(port, usual)
        commands.append(
            f"timeout {20 * pace.load():.0f} openssl s_client -connect {at(address, port)} {start} -servername {name} -showcerts "
            f"-verify_hostname {name} -CAfile /etc/outpost/tls/ca.pem -CApath /etc/ssl/certs </dev/null 2>&1; echo '=== end'"
        )
    outputs = host.run("sh -c " + shlex.quote("\n".join(commands))).stdout.split("=== end")
    result = []
    for (name, port), text in zip(services, outputs, strict=False):
        pems = re.findall(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", text, flags=re.DOTALL)
        chain = tuple(x509.load_pem_x509_certificate(pem.encode()) for pem in dict.fromkeys(pems))
        assert chain, f"{name}:{port} shows no certificate: {text}"
        verdict = re.findall(r"Verif(?:y return code|ication): .*", text)
        result.append(Shown(name, port, chain, verdict[-1] if verdict else ""))
    return tuple(result)


@pytest.mark.probe
@pytest.mark.control("TLS-05")
def test_every_service_shows_the_hosts_current_key(shown: tuple[Shown, ...], me: Host, kept: Secrets) -> None:
    """Every TLS service uses the host's current key."""
    current, *_ = tls_digests(kept, me.name)
    assert {f"{item.name}:{item.port}": item.digest for item in shown} == {
        f"{item.name}:{item.port}": current for item in shown
    }


@pytest.mark.probe
@pytest.mark.control("TLS-04")
def test_every_certificate_has_the_name_and_a_chain_that_is_trusted(shown: tuple[Shown, ...]) -> None:
    """Every certificate has the right name and a trusted chain."""
    assert {f"{item.name}:{item.port}": item.verdict for item in shown if " 0 (ok)" not in item.verdict} == {}


@pytest.mark.probe
@pytest.mark.control("TLS-04")
def test_every_certificate_is_strong_and_valid_for_three_weeks(shown: tuple[Shown, ...]) -> None:
    """Every certificate is strong and valid for at least three weeks."""
    for item in shown:
        certificate, where = item.chain[0], f"{item.name}:{item.port}"
        left = certificate.not_valid_after_utc - datetime.now(UTC)
        assert left > timedelta(days=21), f"{where} ends in {left.days} days"
        assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey), where
        assert certificate.signature_hash_algorithm is not None
        assert certificate.signature_hash_algorithm.digest_size >= 32, where


@pytest.mark.probe
@pytest.mark.control("TLS-04")
def test_certificates_come_from_where_the_office_says(
    host: TestinfraHost, shown: tuple[Shown, ...], office: Office, me: Host, kept: Secrets
) -> None:
    """Certificates come from the authority that the office file names."""
    own = x509.load_pem_x509_certificate(kept.authority.certificate.encode()).subject
    by_the_office = {item.chain[0].issuer == own for item in shown}
    if by_the_office == {True} and mode(office, me) == "acme":
        unless_certified(host, office)
    why = "the authority has not certified its names: journalctl -u outpost-certificate on the host says why"
    assert by_the_office == {mode(office, me) == "office"}, why


@pytest.mark.probe
@pytest.mark.control("TLS-05")
def test_every_name_server_shows_the_current_key_and_the_next(
    target: Target,
    office: Office,
    me: Host,
    kept: Secrets,
    services: dict[tuple[str, int], set[str]],
    pytestconfig: pytest.Config,
) -> None:
    """Every name server publishes TLSA records for the current key and the next one.

    The name servers are queried on themselves: a host without ACME may not connect to them.
    """
    questions = [query(f"_{port}._tcp.{name}", "TLSA") for name, port in services]
    rolling = me.name in kept.public_past
    for server in office.with_role("dns"):
        there = reach(target, office, server, pytestconfig)
        answers = ask(there, str(office.addresses_of_kind(server, "internet")[0]), questions)
        for (name, port), answer in zip(services, answers, strict=True):
            data = {
                record.to_text()
                for rrset in answer.answer
                for record in rrset
                if record.rdtype.name == "TLSA"
            }
            assert data == services[name, port], f"{server.name}: _{port}._tcp.{name}"
            assert len(data) == (3 if rolling else 2), f"{server.name}: _{port}._tcp.{name}"


# How a host comes by its certificate --------------------------------------------------------------------------


def unless_certified(host: TestinfraHost, office: Office) -> None:
    """End a check as pending where the authority cannot have answered yet."""
    unless_delegated(host, office.domain)
    done = host.check_output(
        "systemctl show --value --property=ExecMainExitTimestampMonotonic outpost-certificate"
    )
    if done.strip() in ("", "0"):
        pend(
            "waits for the first certificates: hosts ask three to eight minutes after their first apply, then every twenty "
            "(`systemctl start outpost-certificate` on a host asks at once)"
        )


@pytest.fixture
def by_acme(office: Office, me: Host) -> None:
    """Only for hosts that fetch their certificate."""
    if mode(office, me) != "acme":
        pytest.skip("this host does not fetch its certificate")


@pytest.mark.control("TLS-04")
@pytest.mark.usefixtures("by_acme")
def test_renewal_runs_by_a_timer_and_did_not_fail(host: TestinfraHost, office: Office, units: Units) -> None:
    """Certificates are renewed by a timer, and the last run did not fail."""
    assert units.runs("outpost-certificate.timer")
    assert units.comes_up("outpost-certificate.timer")
    state = units.states.get("outpost-certificate.service")
    if state == "failed":
        unless_delegated(host, office.domain)
    assert state != "failed", host.run("journalctl -u outpost-certificate -n 8 --no-pager").stdout


@pytest.mark.probe
@pytest.mark.control("TLS-11")
@pytest.mark.usefixtures("by_acme")
def test_only_the_hosts_own_account_may_have_its_names_certified(
    host: TestinfraHost, office: Office, me: Host, kept: Secrets
) -> None:
    """CAA records allow only this host's ACME account to get certificates for its names."""
    account = public_keys(kept).account(office, me)
    if not account:
        unless_certified(host, office)
        pend(
            "on the controller: `./outpost rotate due OFFICE` reads each host's account at the authority; CAA records then name it"
        )
    names = public_names(office, me)
    server = str(office.link_addresses(office.with_role("dns")[0], me)[0])
    for name, answer in zip(names, ask(host, server, [query(name, "CAA") for name in names]), strict=True):
        issuers = [
            record.to_text()
            for rrset in answer.answer
            for record in rrset
            if record.rdtype.name == "CAA" and " issue " in record.to_text()
        ]
        bound = f"{office.tls.issuer}; accounturi={account}; validationmethods=dns-01"
        assert issuers == [f'0 issue "{bound}"'], name


@pytest.mark.control("TLS-04", "SEC-01")
@pytest.mark.usefixtures("by_acme")
@pytest.mark.parametrize("path", ["/etc/outpost/tls/public.key", "/etc/outpost/acme/public.key"])
def test_the_client_that_talks_to_the_authority_cannot_read_the_key(host: TestinfraHost, path: str) -> None:
    """The ACME client cannot read the private key of the certificate."""
    assert host.run("cat %s >/dev/null", path).rc == 0
    assert host.run("setpriv --reuid=outpost-acme --regid=outpost-acme --clear-groups cat %s", path).rc != 0


@pytest.mark.probe
@pytest.mark.control("DNS-04", "TLS-04")
@pytest.mark.usefixtures("by_acme")
def test_the_hosts_key_writes_its_own_challenges_and_nothing_else(
    host: TestinfraHost, office: Office, me: Host
) -> None:
    """The host's TSIG key can write the host's ACME challenges, and nothing else.

    Each update depends on a record that does not exist: the server answers NXRRSET to what it would allow, and changes nothing.
    """
    own = f"{challenges(office, me)[0]}.{office.domain}."
    others = (item for item in office.hosts if item != me and mode(office, item) == "acme")
    other = next((item for item in others if public_names(office, item)), None)
    answers = {
        f"add {own} 60 TXT probe": "NXRRSET",
        **({f"add {challenges(office, other)[0]}.{office.domain}. 60 TXT probe": "NOTAUTH"} if other else {}),
        f"add {own} 60 A 192.0.2.1": "NOTAUTH",
        f"add {me.fqdn}. 60 TXT probe": "NOTAUTH",
        f"delete {office.domain}. MX": "NOTAUTH",
    }
    server = office.link_addresses(office.with_role("dns")[0], me)[0]
    for update, wanted in answers.items():
        lines = [
            f"server {server}",
            f"zone {office.domain}.",
            f"prereq yxrrset {own} LOC",
            f"update {update}",
            "send",
        ]
        typed = " ".join(map(shlex.quote, lines))
        result = host.run(f"printf '%s\\n' {typed} | knsupdate -v -k /etc/outpost/acme/tsig.key 2>&1")
        assert wanted in result.stdout, f"{tsig_name(me)}: {update}: {result.stdout}"
