"""Public certificates: who may request them, prove their names and change their keys, and when."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from outpost.cli.app import run
from outpost.converge.files import rendered
from outpost.errors import OutpostError
from outpost.keys import pairs, secrets_file
from outpost.keys.model import AcmeAccount, Secrets, public_keys
from outpost.keys.rotation import authority, engine, tls
from outpost.keys.rotation.engine import Desk, NotYetError
from outpost.office import Host, Office
from outpost.office.certificates import AcmeView, acme_hosts, caa_issuer, challenges, mode
from outpost.office.dns import key_digest, office_zone, private_key_digest
from outpost.office.flows import outbound
from outpost.office.load import load, parse
from outpost.target import Target
from roles.dns.view import DnsView

ROOT = Path(__file__).resolve().parents[2]
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def office_of(change: Callable[[dict[str, Any]], None] = lambda _: None) -> Office:
    data = tomllib.loads((ROOT / "inventory/lab/office.toml").read_text(encoding="utf-8"))
    del data["tls"]["trusted_authorities"]
    change(data)
    office, problems = parse(data)
    assert not problems
    assert office is not None
    return office


@pytest.fixture(scope="module")
def office() -> Office:
    return office_of()


@pytest.fixture(scope="module")
def made(office: Office) -> Secrets:
    return secrets_file.complete(office, now=NOON).secrets


# Where they come from -------------------------------------------------------------------------------------------


def test_a_host_may_differ_from_its_office() -> None:
    office = office_of(lambda data: data["hosts"]["store"].update(certificates="office"))
    assert [mode(office, host) for host in office.hosts] == [None, None, "acme", "office", "acme"]
    assert {host.name for host in acme_hosts(office)} == {"mta", "webmail"}


def test_a_key_writes_the_challenges_of_its_host_and_nothing_else(office: Office, made: Secrets) -> None:
    view = DnsView(office, office.host("ns1"), (office_zone(office, public_keys(made)),))
    config = rendered("dns", "/etc/knot/knot.conf", view=view).content.decode()
    rule = config.split("- id: acme-webmail")[1].split("- id:")[0]
    assert "action: update" in rule
    assert "update-type: TXT" in rule
    assert "update-owner-match: equal" in rule
    assert f"update-owner-name: [ {', '.join(challenges(office, office.host('webmail')))} ]" in rule
    assert set(challenges(office, office.host("mta"))) == {"_acme-challenge.mta"}
    secondary = DnsView(office, office.host("ns2"), view.zones)
    assert "update" not in rendered("dns", "/etc/knot/knot.conf", view=secondary).content.decode()


def test_only_a_host_without_internet_goes_by_the_proxy(office: Office) -> None:
    proxied = {host.name for host in acme_hosts(office) if AcmeView(office, host).proxy}
    assert proxied == {"store"}
    ways = {flow.port for flow in outbound(office, office.host("store")) if flow.why == "certificates"}
    assert ways == {8888}


def test_caa_names_the_authority_the_account_and_the_proof() -> None:
    url = "https://acme.nic.test/my-account/1"
    office = office_of()
    account = AcmeAccount(directory=office.acme.directory, url=url)
    kept = secrets_file.complete(office).secrets.model_copy(update={"acme_accounts": {"mta": account}})
    zone = office_zone(office, public_keys(kept))
    bound = f'0 issue "acme.nic.test; accounturi={url}; validationmethods=dns-01"'
    assert bound in [record.data for record in zone.find("mta.po.myertor.test.", "CAA")]
    assert '0 issue ";"' in [record.data for record in zone.find("po.myertor.test.", "CAA")]
    assert caa_issuer(office, office.host("ns1")) == ";"


def test_an_account_with_another_authority_is_not_named() -> None:
    account = AcmeAccount(directory="https://elsewhere.test/dir", url="https://elsewhere.test/acct/1")
    office = office_of()
    kept = secrets_file.complete(office).secrets.model_copy(update={"acme_accounts": {"mta": account}})
    zone = office_zone(office, public_keys(kept))
    assert not [record for record in zone.records if "elsewhere" in record.data]


def test_a_provided_certificate_must_be_for_the_hosts_key(tmp_path: Path) -> None:
    text = (ROOT / "inventory/lab/office.toml").read_text().replace('["world-ca.pem", "acme-ca.pem"]', "[]")
    (tmp_path / "office.toml").write_text(text.replace('certificates = "acme"', 'certificates = "provided"'))
    made = secrets_file.complete(office_of()).secrets
    for name in ("mta", "store", "webmail"):
        (tmp_path / f"{name}.pem").write_text(made.public["store" if name == "mta" else name].certificate)
    office = load(tmp_path)
    assert secrets_file.public_pair(office, office.host("store"), made) == made.public["store"]
    with pytest.raises(OutpostError, match="another key") as caught:
        secrets_file.public_pair(office, office.host("mta"), made)
    assert "./outpost secrets csr" in caught.value.remedy


def test_a_certificate_that_is_missing_can_be_requested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`check` refuses the office and says how to request the certificate; that command works on this very office."""
    monkeypatch.setenv("HOME", str(tmp_path))
    text = (ROOT / "inventory/lab/office.toml").read_text().replace('["world-ca.pem", "acme-ca.pem"]', "[]")
    (tmp_path / "office.toml").write_text(text.replace('certificates = "acme"', 'certificates = "provided"'))
    assert run(["secrets", "init", str(tmp_path)]) == 0
    assert run(["check", str(tmp_path)]) == 1
    output = " ".join("".join(capsys.readouterr()).split())
    for host in ("mta", "store", "webmail"):
        assert f"./outpost secrets csr {tmp_path} {host}" in output
        assert run(["secrets", "csr", str(tmp_path), host]) == 0
        assert x509.load_pem_x509_csr(capsys.readouterr().out.encode()).is_signature_valid
    file = tmp_path / "office.toml"
    file.write_text(file.read_text().replace("[hosts.mta]", "[hosts.gate]"))
    for host, remedy in (("gate", f"run ./outpost secrets init {tmp_path}"), ("mta", "gate, store, webmail")):
        assert run(["secrets", "csr", str(tmp_path), host]) == 1
        assert remedy in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    "saved",
    [
        "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",  # the request itself
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ],
)
def test_what_is_no_certificate_is_refused_by_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], saved: str
) -> None:
    text = (
        (ROOT / "inventory/lab/office.toml")
        .read_text()
        .replace('["world-ca.pem", "acme-ca.pem"]', '["own.pem"]')
    )
    (tmp_path / "office.toml").write_text(text.replace('certificates = "acme"', 'certificates = "provided"'))
    (tmp_path / "own.pem").write_text(saved)
    for host in ("mta", "store", "webmail"):
        (tmp_path / f"{host}.pem").write_text(saved)
    assert run(["check", str(tmp_path)]) == 1
    output = "".join(capsys.readouterr())
    assert "no certificate in store.pem" in output
    assert "tls.trusted_authorities[0] = own.pem: holds no certificate" in output


def test_a_request_is_for_the_next_key_and_all_names(office: Office, made: Secrets) -> None:
    host, key = office.host("webmail"), made.public_next["webmail"].key
    request = x509.load_pem_x509_csr(pairs.signing_request(office, host, key).encode())
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert len(names.get_values_for_type(x509.DNSName)) == 4
    assert private_key_digest(key.get_secret_value()) in {
        r.data.split()[-1] for r in tls_records(office, made, host)
    }


def tls_records(office: Office, made: Secrets, host: Host) -> list[Any]:
    return [
        record
        for record in office_zone(office, public_keys(made)).records
        if record.type == "TLSA" and host.fqdn in record.name
    ]


# How they roll --------------------------------------------------------------------------------------------------


class Rehearsal(Desk):
    """A controller whose hosts obey, and whose clock and name servers the test controls."""

    def __init__(self, office: Office, made: Secrets) -> None:
        self.office, self.secrets, self.via = office, made, None
        self.target = Target("lab", ROOT, ROOT)
        self.printed: list[str] = []
        self.report = self.printed.append
        self.moment, self.shown = NOON, dict(made.public)
        self.now = lambda: self.moment
        self.applied: list[tuple[str, ...]] = []
        self.stuck = False

    def keep(self, changed: Secrets) -> None:
        self.secrets = changed

    def apply(self, hosts: tuple[Host, ...]) -> None:
        self.applied.append(tuple(host.name for host in hosts))
        if not self.stuck:
            self.shown |= {host.name: self.secrets.public[host.name] for host in hosts if host.role != "dns"}


@pytest.fixture
def desk(office: Office, made: Secrets, monkeypatch: pytest.MonkeyPatch) -> Rehearsal:
    desk = Rehearsal(office, made)
    monkeypatch.setattr(engine, "missing", lambda _office, _records: ())
    monkeypatch.setattr(
        tls, "_shown_digest", lambda _desk, host: key_digest(desk.shown[host.name].certificate)
    )
    monkeypatch.setattr(tls, "_fetch", lambda _desk, _host: None)
    return desk


def test_a_switch_waits_for_two_ttls_from_when_every_server_was_seen(desk: Rehearsal) -> None:
    mta = desk.office.host("mta")
    with pytest.raises(NotYetError, match="twice that"):
        tls.roll(desk, mta)
    desk.moment += timedelta(seconds=2 * desk.office.dns.ttl - 1)
    with pytest.raises(NotYetError) as caught:
        tls.roll(desk, mta)
    assert "run this command again in 1 s" in caught.value.remedy
    assert desk.applied == []


def test_a_name_server_without_the_record_starts_the_wait_again(
    desk: Rehearsal, monkeypatch: pytest.MonkeyPatch
) -> None:
    mta = desk.office.host("mta")
    tls.note_published(desk, mta)
    desk.moment += timedelta(days=1)
    monkeypatch.setattr(engine, "missing", lambda _office, _records: ("ns2: _25._tcp.mta TLSA",))
    with pytest.raises(NotYetError, match="ns2: _25"):
        tls.roll(desk, mta)
    assert desk.secrets.public_next["mta"].seen is None
    assert desk.secrets.public == desk.shown


def test_no_moment_of_a_switch_has_a_shown_key_without_its_record(
    desk: Rehearsal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The zone of the name servers at each apply, and what the host shows before and after it."""
    mta, apply = desk.office.host("mta"), desk.apply
    published = set(public_keys(desk.secrets).tls["mta"])

    def watched(hosts: tuple[Host, ...]) -> None:
        assert key_digest(desk.shown["mta"].certificate) in published
        apply(hosts)
        if any(host.role == "dns" for host in hosts):
            published.clear()
            published.update(public_keys(desk.secrets).tls["mta"])
        assert key_digest(desk.shown["mta"].certificate) in published

    monkeypatch.setattr(desk, "apply", watched)
    tls.note_published(desk, mta)
    desk.moment += timedelta(seconds=2 * desk.office.dns.ttl)
    upcoming = private_key_digest(desk.secrets.public_next["mta"].key.get_secret_value())
    tls.roll(desk, mta)
    assert desk.applied == [("mta",), ("ns1", "ns2")]
    assert key_digest(desk.secrets.public["mta"].certificate) == upcoming
    assert upcoming in published
    assert len(published) == 2


def test_a_host_that_keeps_its_old_pair_keeps_the_old_record(desk: Rehearsal) -> None:
    mta = desk.office.host("mta")
    tls.note_published(desk, mta)
    desk.moment += timedelta(seconds=2 * desk.office.dns.ttl)
    desk.stuck = True
    with pytest.raises(NotYetError, match="still shows its old key"):
        tls.roll(desk, mta)
    assert len(public_keys(desk.secrets).tls["mta"]) == 3
    assert tls.due(desk, mta)
    desk.stuck = False
    tls.roll(desk, mta)  # continues where it stopped, without a second switch
    assert len(public_keys(desk.secrets).tls["mta"]) == 2
    assert not tls.due(desk, mta)


def test_a_key_is_due_at_its_lifetime(desk: Rehearsal) -> None:
    mta = desk.office.host("mta")
    assert not tls.due(desk, mta)
    desk.moment += timedelta(seconds=desk.office.tls.key_lifetime)
    assert tls.due(desk, mta)


def test_the_mta_accepts_the_stores_new_key_before_the_store_has_it(desk: Rehearsal) -> None:
    before = desk.secrets.hosts
    authority.renew_links(desk, keys=True)
    assert desk.applied == [("mta",), tuple(host.name for host in desk.office.hosts), ("mta",)]
    assert {name for name, pair in desk.secrets.hosts.items() if pair.key == before[name].key} == set()
    assert desk.secrets.hosts_past == {}


def test_certificates_between_hosts_are_renewed_with_their_keys(desk: Rehearsal) -> None:
    before = desk.secrets.hosts
    assert not authority.links_due(desk)
    desk.moment += timedelta(days=pairs.HOST_DAYS - pairs.RENEW_DAYS + 1)
    assert authority.links_due(desk)
    authority.renew_links(desk, keys=False)
    assert [pair.key for pair in desk.secrets.hosts.values()] == [pair.key for pair in before.values()]
    assert not authority.links_due(desk)
