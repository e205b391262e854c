"""The zone has all records of the office, correct, and none of its inner networks."""

from __future__ import annotations

import base64
import hashlib
import hmac
import shutil
import tomllib
from ipaddress import ip_address, ip_network
from pathlib import Path

import dns.rdatatype
import dns.zone
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from outpost.keys import secrets_file
from outpost.keys.model import Secrets, public_keys
from outpost.office import Office
from outpost.office.dns import (
    PublicKeys,
    ZoneData,
    mta_sts_policy,
    office_zone,
    private_key_digest,
    published_addresses,
    reverse_zone,
    zone_text,
)
from outpost.office.load import load, parse

ROOT = Path(__file__).resolve().parents[2]


def office_of(name: str, **changes: object) -> Office:
    data = tomllib.loads((ROOT / f"inventory/{name}/office.toml").read_text(encoding="utf-8"))
    data["tls"].pop("trusted_authorities", None)
    office, problems = parse(data | changes)
    assert office is not None
    assert problems == []
    return office


@pytest.fixture(scope="module", params=["lab", "harbour"])
def office(request: pytest.FixtureRequest) -> Office:
    return office_of(request.param)


@pytest.fixture(scope="module")
def made(office: Office) -> Secrets:
    return secrets_file.complete(office).secrets


@pytest.fixture(scope="module")
def zone(office: Office, made: Secrets) -> ZoneData:
    return office_zone(office, public_keys(made))


def test_zone_file_loads_in_another_implementation(zone: ZoneData) -> None:
    loaded = dns.zone.from_text(zone_text(zone), origin=zone.name, relativize=False)
    assert sum(len(rdataset) for _, rdataset in loaded.iterate_rdatasets()) == len(zone.records)


def test_every_record_says_why_it_is_there(zone: ZoneData) -> None:
    assert all(record.reason and record.name.endswith(zone.name) for record in zone.records)


def test_the_servers_and_management_networks_are_not_published(office: Office, zone: ZoneData) -> None:
    inner = [n for kind in ("servers", "management") for z in office.zones_of_kind(kind) for n in z.networks]
    addresses = [ip_address(record.data) for record in zone.records if record.type in ("A", "AAAA")]
    assert addresses
    assert not [address for address in addresses if any(address in network for network in inner)]


def test_every_target_of_the_zone_has_an_address(zone: ZoneData) -> None:
    targets = {r.data.split()[-1] for r in zone.records if r.type in ("MX", "NS", "SRV")} - {"."}
    own = {target for target in targets if target.endswith(zone.name)}
    assert own
    assert not [name for name in own if not zone.find(name, "A") and not zone.find(name, "AAAA")]


def test_spf_names_every_address_the_mta_sends_from_and_needs_no_further_query(
    office: Office, zone: ZoneData
) -> None:
    (spf,) = [r.data.strip('"').split() for r in zone.find(zone.name, "TXT") if "v=spf1" in r.data]
    sends = {
        f"ip{address.version}:{address}"
        for mta in office.with_role("mta")
        for name, addresses in mta.addresses.items()
        if office.zones[name].kind in ("internet", "partner")
        for address in addresses
    }
    assert spf[0] == "v=spf1"
    assert spf[-1] == "-all"
    assert set(spf[1:-1]) == sends


def test_hosts_never_take_mail_under_their_own_names(office: Office, zone: ZoneData) -> None:
    for host in office.hosts:
        assert [record.data for record in zone.find(f"{host.fqdn}.", "MX")] == ["0 ."]


def test_tlsa_pins_the_key_that_outsiders_see_and_the_next_one(
    office: Office, made: Secrets, zone: ZoneData
) -> None:
    mta = office.with_role("mta")[0]
    certificate = x509.load_pem_x509_certificate(made.public[mta.name].certificate.encode())
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    current, upcoming = zone.find(f"_25._tcp.{mta.fqdn}.", "TLSA")
    assert current.data == f"3 1 1 {hashlib.sha256(key).hexdigest()}"
    assert upcoming.data == f"3 1 1 {private_key_digest(made.public_next[mta.name].key.get_secret_value())}"
    listeners = {r.name.split(".")[0] for r in zone.records if r.type == "TLSA" and mta.fqdn in r.name}
    assert listeners == {"_25", "_2525"}


def test_both_dkim_keys_are_published_and_nothing_private_is(made: Secrets, zone: ZoneData) -> None:
    published = [record for record in zone.records if "._domainkey." in record.name]
    assert [("k=rsa" in r.data, "k=ed25519" in r.data) for r in published] == [(True, False), (False, True)]
    text = zone_text(zone)
    for pair in made.dkim.values():
        for key in (pair.rsa, pair.ed25519):
            assert key.get_secret_value().splitlines()[1] not in text


def test_policy_id_follows_the_policys_content() -> None:
    ids = {}
    for mode in ("testing", "enforce"):
        office = office_of("harbour", tls={"mta_sts": mode})
        zone = office_zone(office, PublicKeys())
        (record,) = zone.find(f"_mta-sts.{office.domain}.", "TXT")
        again = office_zone(office, PublicKeys()).find(f"_mta-sts.{office.domain}.", "TXT")
        assert again == (record,)
        ids[mode] = record.data
        assert f"mode: {mode}\r\n" in mta_sts_policy(office)
    assert ids["testing"] != ids["enforce"]


def test_webmail_has_an_internet_address_only_once_the_office_opens_it() -> None:
    for opened in (False, True):
        office = office_of("harbour", webmail={"open_to_internet": opened})
        host = office.with_role("webmail")[0]
        outer = office.addresses_of_kind(host, "internet")
        assert (set(outer) <= set(published_addresses(office, host))) == opened


def test_reverse_zone_points_back_at_each_host() -> None:
    office = office_of("lab")
    zone = reverse_zone(office, ip_network("10.77.0.0/24"))
    assert zone.name == "0.77.10.in-addr.arpa."
    mta = office.host("mta")
    assert [r.data for r in zone.find("21.0.77.10.in-addr.arpa.", "PTR")] == [f"{mta.fqdn}."]
    six = reverse_zone(office, ip_network("fd00:77::/64"))
    assert {r.data for r in six.records if r.type == "PTR"} >= {f"{mta.fqdn}."}
    dns.zone.from_text(zone_text(six), origin=six.name, relativize=False)


def test_names_without_mail_neither_send_nor_receive(office: Office, zone: ZoneData) -> None:
    named = {r.name for r in zone.records if r.type in ("A", "AAAA")}
    assert len(named) >= len(office.hosts)
    for name in named:
        assert [r.data for r in zone.find(name, "MX")] == ["0 ."]
        (spf,) = [r.data for r in zone.find(name, "TXT")]
        assert spf.endswith('-all"')
        (dmarc,) = [r.data for r in zone.find(f"_dmarc.{name}", "TXT")]
        assert "p=reject" in dmarc


def test_a_revoked_key_stays_published_empty(made: Secrets, office: Office) -> None:
    ((selector, pair),) = made.dkim.items()
    revoked = pair.model_copy(update={"stage": "revoked"})
    zone = office_zone(office, public_keys(made.model_copy(update={"dkim": {selector: revoked}})))
    published = [r.data for r in zone.records if "._domainkey." in r.name]
    assert [data.rstrip('"').endswith("p=") for data in published] == [True, True]


def test_ttl_and_host_keys_come_from_the_office() -> None:
    key = "AAAAC3NzaC1lZDI1NTE5AAAAIGPvl2VGKbSb6DB9Jbjn8cDsxhYg3Q6hVZCAT1Z0tOAa"
    office = office_of("harbour", dns={"ttl": "2h"}, ssh={"host_keys": {"mta": [f"ssh-ed25519 {key}"]}})
    zone = office_zone(office, PublicKeys())
    assert {record.ttl for record in zone.records} == {7200}
    (record,) = [r for r in zone.records if r.type == "SSHFP"]
    digest = hashlib.sha256(base64.b64decode(key)).hexdigest()
    assert (record.name, record.data) == (f"{office.host('mta').fqdn}.", f"4 2 {digest}")


def test_known_hosts_are_read_plain_bracketed_and_hashed(tmp_path: Path) -> None:
    shutil.copy(ROOT / "inventory/harbour/office.toml", tmp_path)
    salt = b"salted"
    digest = hmac.digest(salt, b"store.harbour.example.com", "sha1")
    hashed = f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"
    lines = [
        "# consoles, 2 November",
        "10.40.4.21 ssh-ed25519 AAAA",
        "[ns1.harbour.example.com]:2222 ssh-rsa BBBB",
    ]
    lines += [f"{hashed} ssh-ed25519 CCCC", "elsewhere.example ssh-ed25519 DDDD", "@revoked * ssh-rsa EEEE"]
    lines += [
        "|1|abcd ssh-ed25519 AAAA",
        "|1|a|b ssh-ed25519 AAAA",
        "|1|!|? ssh-ed25519 AAAA",
        "|1|x",
    ]  # cut off, or no base64
    (tmp_path / "known_hosts").write_text("\n".join(lines))
    keys = load(tmp_path).ssh.host_keys
    assert keys == {"mta": ("ssh-ed25519 AAAA",), "ns1": ("ssh-rsa BBBB",), "store": ("ssh-ed25519 CCCC",)}


def test_part_of_a_reverse_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="boundary"):
        reverse_zone(office_of("harbour"), ip_network("192.0.2.0/28"))
