"""Promises of the office's name servers; each one is asked at its own address."""

from __future__ import annotations

import re
import time

import dns.dnssec
import dns.dnssectypes
import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.update
import pytest
from testinfra.host import Host as TestinfraHost

from outpost.keys import secrets_file
from outpost.keys.model import public_keys
from outpost.office import Host, Office
from outpost.office.dns import Record, ZoneData, office_zones
from outpost.target import Target
from roles.dns.view import DnsView
from tests.awaiting import until
from tests.live.asking import ask, modes, query
from tests.live.pending import entries, pend, undelegated, unknown_entries, unless_delegated

pytestmark = [pytest.mark.role("dns"), pytest.mark.looks, pytest.mark.daemons("knot", "unbound")]

DAY = 86400
SIGNERS_OWN = {"DNSKEY", "RRSIG", "NSEC", "NSEC3", "NSEC3PARAM", "CDS", "CDNSKEY"}
"""Record types that the signing server adds to the model's."""


@pytest.fixture(scope="session")
def zones(office: Office, target: Target) -> tuple[ZoneData, ...]:
    """The zones as the model says them."""
    return office_zones(office, public_keys(secrets_file.read(target.data)))


@pytest.fixture
def own_address(office: Office, me: Host) -> str:
    """Where outsiders ask this server."""
    return str(office.addresses_of_kind(me, "internet")[0])


def shown(answer: dns.message.Message, name: str, rtype: str) -> list[dns.rdata.Rdata]:
    """The records of one owner and type in an answer."""
    rrset = answer.get_rrset(
        answer.answer, dns.name.from_text(name), dns.rdataclass.IN, dns.rdatatype.from_text(rtype)
    )
    return list(rrset or ())


def served(answer: dns.message.Message, record: Record) -> bool:
    """Whether an answer has a record, with its TTL."""
    owner, rtype = dns.name.from_text(record.name), dns.rdatatype.from_text(record.type)
    rrset = answer.get_rrset(answer.answer, owner, dns.rdataclass.IN, rtype)
    return rrset is not None and rrset.ttl == record.ttl and rdata(record) in rrset


def rdata(record: Record) -> dns.rdata.Rdata:
    """A record's data as dnspython compares it."""
    return dns.rdata.from_text("IN", record.type, record.data)


@pytest.mark.probe
@pytest.mark.control(
    "SPF-01", "DKM-01", "DKM-02", "DMC-01", "TLS-05", "TLS-07", "TLS-08", "TLS-11", "SPO-04", "SPO-05"
)
def test_every_record_of_the_model_is_served(
    host: TestinfraHost, zones: tuple[ZoneData, ...], own_address: str
) -> None:
    """Every declared DNS record is served."""
    wanted = [record for zone in zones for record in zone.records if record.type != "SOA"]
    sets = sorted({(record.name, record.type) for record in wanted})
    found = ask(host, own_address, [query(name, rtype) for name, rtype in sets])
    answers = dict(zip(sets, found, strict=True))
    wrong = [
        f"{record.name} {record.ttl} {record.type} {record.data} ({record.reason}): "
        f"shown instead: {[*map(str, shown(answer, record.name, record.type))]}"
        for record in wanted
        if not served(answer := answers[record.name, record.type], record)
    ]
    assert not wrong, "\n".join(wrong)


def test_nothing_is_served_that_the_model_does_not_know(
    host: TestinfraHost, zones: tuple[ZoneData, ...]
) -> None:
    """No DNS record is served that is not declared."""
    known = {
        (zone.name, record.name, rdata(record))
        for zone in zones
        for record in zone.records
        if record.type != "SOA"
    }
    extra = []
    for line in host.check_output("knotc zone-read --").splitlines():
        zone_name, owner, _ttl, rtype, data = line.split(" ", 4)
        challenge = (
            owner.startswith("_acme-challenge.") and rtype == "TXT"
        )  # they exist while a challenge is answered
        if rtype in SIGNERS_OWN or rtype == "SOA" or challenge:
            continue
        if (zone_name.strip("[]"), owner, dns.rdata.from_text("IN", rtype, data)) not in known:
            extra.append(f"{owner} {rtype} {data}")
    assert not extra, "\n".join(extra)


@pytest.mark.probe
@pytest.mark.control("DNS-01")
def test_the_parent_gets_the_key_to_trust(
    host: TestinfraHost, zones: tuple[ZoneData, ...], own_address: str
) -> None:
    """Each zone publishes CDS and CDNSKEY records, from which its parent makes the DS."""
    for zone in zones:
        queries = [query(zone.name, rtype) for rtype in ("DNSKEY", "CDS", "CDNSKEY")]
        keys, cds, cdnskey = (
            set(shown(answer, zone.name, rtype))
            for answer, rtype in zip(
                ask(host, own_address, queries), ("DNSKEY", "CDS", "CDNSKEY"), strict=True
            )
        )
        entry = {key.to_text() for key in keys if key.flags & 1}  # type: ignore[attr-defined]  # SEP, RFC 4034
        made = {
            dns.dnssec.make_ds(zone.name, key, "SHA256").to_text()
            for key in keys
            if key.to_text() in {record.to_text() for record in cdnskey}
        }
        assert {record.to_text() for record in cdnskey} <= entry
        assert {record.to_text() for record in cds} == made != set()


@pytest.mark.probe
@pytest.mark.control("DNS-01", "DNS-07")
def test_each_zone_is_proven_from_the_trust_anchor(host: TestinfraHost, zones: tuple[ZoneData, ...]) -> None:
    """Each record validates by DNSSEC from the root's trust anchor.

    The host's own resolver is asked, which validates from the root.
    """
    sets = sorted({(record.name, record.type) for zone in zones for record in zone.records})
    answers = ask(host, "127.0.0.1", [query(name, rtype, recurse=True) for name, rtype in sets])
    unproven = [
        f"{name} {rtype}: {dns.rcode.to_text(answer.rcode())}"
        for (name, rtype), answer in zip(sets, answers, strict=True)
        if not answer.flags & dns.flags.AD or answer.rcode() != dns.rcode.NOERROR
    ]
    if unproven:
        unless_delegated(host, *(zone.name for zone in zones))
    assert not unproven, "\n".join(unproven)


@pytest.mark.probe
@pytest.mark.control("DNS-01", "DNS-07")
def test_each_parent_names_the_offices_servers_and_their_key(
    host: TestinfraHost,
    office: Office,
    me: Host,
    zones: tuple[ZoneData, ...],
    own_address: str,
    target: Target,
) -> None:
    """Each parent zone names the office's name servers and their key.

    If it does not, the records to enter there are printed.
    """
    if me != office.with_role("dns")[0]:
        pytest.skip("asked on the primary, once for the office")
    waiting = undelegated(host, (zone.name for zone in zones))
    if not waiting:
        return
    records = []
    for zone, (present, seconds) in waiting.items():
        offered, signing = ask(host, own_address, [query(zone, rtype) for rtype in ("CDS", "DNSKEY")])
        keys = [record.to_text() for record in shown(offered, zone, "CDS")]
        assert keys, f"{zone}: {me.fqdn} offers no CDS, so its parent cannot be told which key to trust"
        if kept := secrets_file.read(target.data).dnssec.get(f"{zone}."):
            unknown = unknown_entries(keys, shown(signing, zone, "DNSKEY"), zone, kept)
            assert not unknown, (
                f"do not enter {unknown}: the office does not know that key; run `./outpost rotate due`"
            )
        parent = zone.partition(".")[2]
        named = f" (it names {', '.join(present)} now)" if present else ""
        records.append(
            f"in the parent zone of {zone} ({parent or 'the root'}), at the registrar{named}:\n{entries(office, zone, keys)}\n"
            f"resolvers may remember the old answer for {seconds} s"
        )
    pend("\n".join(records))


@pytest.mark.probe
@pytest.mark.control("DNS-08")
def test_server_answers_on_each_of_its_addresses(host: TestinfraHost, me: Host, office: Office) -> None:
    """The name server answers on each of its addresses."""
    for address in me.all_addresses:
        (answer,) = ask(host, str(address), [query(office.domain, "SOA")])
        assert answer.flags & dns.flags.AA


@pytest.mark.probe
@pytest.mark.control("DNS-01")
def test_zone_is_signed_by_its_own_keys_for_days_to_come(
    host: TestinfraHost, office: Office, own_address: str
) -> None:
    """The zone is signed by its own keys, and its signatures are valid for three days or more."""
    keys, soa = ask(host, own_address, [query(office.domain, "DNSKEY"), query(office.domain, "SOA")])
    apex = dns.name.from_text(office.domain)
    rrset = keys.find_rrset(keys.answer, apex, dns.rdataclass.IN, dns.rdatatype.DNSKEY)
    assert {key.algorithm for key in rrset} == {dns.dnssectypes.Algorithm.ECDSAP256SHA256}
    for answer, rtype in ((keys, dns.rdatatype.DNSKEY), (soa, dns.rdatatype.SOA)):
        signed = answer.find_rrset(answer.answer, apex, dns.rdataclass.IN, rtype)
        signatures = answer.find_rrset(answer.answer, apex, dns.rdataclass.IN, dns.rdatatype.RRSIG, rtype)
        dns.dnssec.validate(signed, signatures, {apex: rrset})
        assert min(signature.expiration for signature in signatures) - time.time() > 3 * DAY


@pytest.mark.probe
@pytest.mark.control("DNS-02")
def test_missing_names_are_denied_without_salt_or_extra_rounds(
    host: TestinfraHost, office: Office, own_address: str
) -> None:
    """Missing names are denied by NSEC3 without salt or extra iterations, and every name has a proof.

    With opt-out (RFC 5155, section 6) somebody on the way may add names that have none.
    """
    parameters, missing = ask(
        host, own_address, [query(office.domain, "NSEC3PARAM"), query(f"no-such-name.{office.domain}", "A")]
    )
    assert [str(record) for record in shown(parameters, office.domain, "NSEC3PARAM")] == ["1 0 0 -"]
    assert missing.rcode() == dns.rcode.NXDOMAIN
    proofs = [proof for rrset in missing.authority if rrset.rdtype == dns.rdatatype.NSEC3 for proof in rrset]
    assert proofs
    assert {proof.flags for proof in proofs} == {0}


@pytest.mark.probe
@pytest.mark.control("DNS-03")
def test_foreign_names_are_refused(host: TestinfraHost, own_address: str) -> None:
    """Queries for foreign names are refused."""
    (answer,) = ask(host, own_address, [query("example.com", "A", recurse=True)])
    assert answer.rcode() == dns.rcode.REFUSED
    assert not answer.flags & dns.flags.RA


@pytest.mark.probe
@pytest.mark.control("DNS-04")
def test_zone_transfer_needs_the_key(host: TestinfraHost, office: Office, me: Host) -> None:
    """A zone transfer without the TSIG key is refused."""
    for address in me.all_addresses:
        (answer,) = ask(host, str(address), [query(office.domain, "AXFR")])
        assert answer.rcode() in (dns.rcode.NOTAUTH, dns.rcode.REFUSED)
        assert not answer.answer


@pytest.mark.probe
@pytest.mark.control("DNS-04")
def test_a_change_of_the_zone_needs_a_key(host: TestinfraHost, office: Office, me: Host) -> None:
    """A dynamic update without a key is refused.

    It demands a name that does not exist, so nothing would change if it were taken.
    """
    update = dns.update.UpdateMessage(office.domain)
    update.present(f"no-such-name.{office.domain}.")
    update.add("_acme-challenge.no-such-name", 60, "TXT", "check")
    for address in me.all_addresses:
        (answer,) = ask(host, str(address), [update])
        assert answer.rcode() in (dns.rcode.NOTAUTH, dns.rcode.REFUSED)


@pytest.mark.control("DNS-01")
def test_keys_roll_by_themselves(host: TestinfraHost, office: Office, me: Host) -> None:
    """The keys that sign the zone are replaced after the time that the office file sets."""
    if not DnsView(office, me, ()).is_primary:
        return
    for key, lifetime in (("zsk", office.dns.zsk_lifetime), ("ksk", office.dns.ksk_lifetime)):
        shown = host.check_output(f"knotc conf-read 'policy[office].{key}-lifetime'")
        assert shown.rpartition(" ")[2] == str(int(lifetime))


@pytest.mark.probe
@pytest.mark.control("DNS-05")
def test_question_for_everything_gets_one_record_set(
    host: TestinfraHost, office: Office, own_address: str
) -> None:
    """A query of type ANY gets one record set."""
    (answer,) = ask(host, own_address, [query(office.domain, "ANY")])
    assert len([rrset for rrset in answer.answer if rrset.rdtype != dns.rdatatype.RRSIG]) == 1


@pytest.mark.probe
@pytest.mark.control("DNS-05")
def test_server_offers_cookies(host: TestinfraHost, office: Office, own_address: str) -> None:
    """The name server offers DNS cookies."""
    question = query(office.domain, "SOA")
    question.use_edns(0, options=[dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"12345678")])
    (answer,) = ask(host, own_address, [question])
    assert dns.edns.OptionType.COOKIE in {option.otype for option in answer.options}


@pytest.mark.control("DNS-05")
def test_floods_of_questions_are_limited(host: TestinfraHost, office: Office, me: Host) -> None:
    """Floods of queries are rate-limited; only the office's own hosts are exempt."""
    settings = host.check_output("knotc conf-read")
    for limit in ("rate-limit = 50", "instant-limit = 125", "slip = 2"):
        assert f"mod-rrl[default].{limit}" in settings.splitlines()
    spared = re.search(r"^mod-rrl\[default\]\.whitelist = (.+)$", settings, re.MULTILINE)
    assert spared is not None
    assert set(spared[1].split()) == set(map(str, DnsView(office, me, ()).known)), (
        "and not only strangers are"
    )
    modules = re.search(r"^template\[default\]\.global-module = (.+)$", settings, re.MULTILINE)
    assert modules is not None
    assert "mod-rrl/default" in modules[1].split()


@pytest.mark.control("DNS-01", "DNS-04")
def test_every_zone_has_the_settings_that_the_office_gives_to_all(host: TestinfraHost) -> None:
    """Zones are checked when they are loaded, and have no settings of their own but file and access."""
    settings = host.check_output("knotc conf-read").splitlines()
    assert "template[default].semantic-checks = on" in settings
    own = {line.partition("].")[2].partition(" ")[0] for line in settings if line.startswith("zone[")}
    assert own <= {"domain", "file", "acl"}


@pytest.mark.probe
@pytest.mark.control("DNS-06")
@pytest.mark.parametrize("name", ["version.bind", "version.server", "hostname.bind", "id.server"])
def test_server_answers_neither_version_nor_name(host: TestinfraHost, own_address: str, name: str) -> None:
    """The name server reveals neither its version nor its host name."""
    (answer,) = ask(host, own_address, [query(name, "TXT", rdclass="CH")])
    assert answer.rcode() == dns.rcode.REFUSED
    assert not answer.answer


@pytest.mark.live
@pytest.mark.control("DNS-08")
def test_servers_hold_the_same_version(host: TestinfraHost, office: Office, me: Host) -> None:
    """The name servers serve the same version of the zone."""
    question = query(office.domain, "SOA")
    servers = [server for server in office.with_role("dns") if server in (me, office.with_role("dns")[0])]

    def serials() -> set[int]:
        answers = [ask(host, str(office.link_addresses(server, me)[0]), [question])[0] for server in servers]
        return {shown(answer, office.domain, "SOA")[0].serial for answer in answers}  # type: ignore[attr-defined]

    until(lambda: len(serials()) == 1, "both serve the same version", seconds=15, pace=1)


@pytest.mark.control("SEC-01")
def test_keys_are_readable_by_the_server_only(host: TestinfraHost) -> None:
    """Only the name server can read its keys."""
    assert modes(host, "/etc/knot/tsig.conf") == ["root knot 640"]
    exposed = host.check_output("find /etc/knot /var/lib/knot -perm /o+rwx ! -type l -path '*key*'")
    assert exposed == ""
