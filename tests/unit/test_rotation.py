"""Keys roll in stages: none is skipped, each may be repeated, and an interrupted run is continued."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dns.rdata
import pytest
import tomlkit
from cryptography import x509
from pydantic import SecretStr

from outpost.engine import run
from outpost.errors import OutpostError
from outpost.keys import secrets_file
from outpost.keys.model import SigningKey, public_keys
from outpost.keys.rotation import aftermath, authority, dkim, dnssec, engine, tsig
from outpost.keys.rotation.engine import Desk, NotYetError
from outpost.office import load
from outpost.office.certificates import acme_hosts
from outpost.office.dns import office_zone
from outpost.target import Target
from tests.live.pending import unknown_entries

ROOT = Path(__file__).resolve().parents[2]
START = datetime(2026, 11, 2, 12, tzinfo=UTC)


class Site:
    """An office without hosts: what is applied and what the name servers show is under the test's control."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.time = START
        self.applied: list[tuple[str, ...]] = []
        self.broken = False
        self.absent: tuple[str, ...] = ()
        self.printed: list[str] = []

    def later(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)

    @property
    def stages(self) -> dict[str, str]:
        return {selector: keys.stage for selector, keys in self.desk.secrets.dkim.items()}

    @property
    def two_ttls(self) -> int:
        return 2 * self.desk.office.dns.ttl


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    identity = tmp_path / "identity.txt"
    recipient = secrets_file.create_identity(identity)
    monkeypatch.setenv(secrets_file.IDENTITY_VARIABLE, str(identity))
    shutil.copy(ROOT / "inventory/harbour/office.toml", tmp_path)
    file = tmp_path / "office.toml"
    document = tomlkit.parse(file.read_text(encoding="utf-8"))
    document["secrets"] = {"recipients": [recipient]}
    file.write_text(tomlkit.dumps(document), encoding="utf-8")
    target = Target("harbour", tmp_path, tmp_path)
    secrets_file.write(tmp_path, secrets_file.complete(load(tmp_path), now=START).secrets, (recipient,))
    printed: list[str] = []
    with engine.desk(target, printed.append) as desk:
        site = Site(desk)
        site.printed = printed
        desk.now = lambda: site.time

        def apply(_target: Target, *, limit: tuple[str, ...], **_more: object) -> run.Outcome:
            site.applied.append(limit)
            failed = dict.fromkeys(limit, "no route to host") if site.broken else {}
            return run.Outcome(limit, (), failed, (), 0.0)

        monkeypatch.setattr(run, "apply", apply)
        monkeypatch.setattr(engine, "missing", lambda _office, _records: site.absent)
        yield site


def test_dkim_goes_through_every_stage_and_leaves_only_the_new_pair(site: Site) -> None:
    (old,) = site.stages
    new = dkim.begin(site.desk)
    assert site.stages == {old: "active", new: "published"}
    assert list(site.desk.secrets.signing) == [old]
    site.later(site.two_ttls)
    assert dkim.go_on(site.desk)
    assert site.stages == {old: "retired", new: "active"}
    assert site.applied == [("ns1", "ns2"), ("mta",)]
    site.later(site.desk.office.dns.dkim_retention)
    assert dkim.go_on(site.desk)
    assert site.stages == {old: "revoked", new: "active"}
    assert site.desk.secrets.dkim[old].rsa.get_secret_value() == ""
    zone = office_zone(site.desk.office, public_keys(site.desk.secrets))
    revoked = [record.data for record in zone.records if record.name.startswith(f"{old}-")]
    assert len(revoked) == 2
    assert all(data.rstrip('"').endswith("p=") for data in revoked)
    site.later(site.desk.office.dns.dkim_retention)
    assert dkim.go_on(site.desk)
    assert site.stages == {new: "active"}
    assert not dkim.go_on(site.desk)


def test_a_key_does_not_sign_before_two_ttls_have_passed(site: Site) -> None:
    dkim.begin(site.desk)
    site.later(site.two_ttls - 1)
    with pytest.raises(NotYetError, match="twice that") as early:
        dkim.go_on(site.desk)
    assert engine.spoken(START + timedelta(seconds=site.two_ttls)) in early.value.remedy
    with pytest.raises(NotYetError, match="not in use yet"):
        dkim.begin(site.desk)
    assert "published" in site.stages.values()


def test_a_name_server_that_does_not_show_the_key_holds_the_roll(site: Site) -> None:
    site.absent = ("ns2: x._domainkey.harbour.example.com. TXT",)
    with pytest.raises(NotYetError, match="ns2"):
        dkim.begin(site.desk)
    site.later(site.two_ttls)
    with pytest.raises(NotYetError, match="ns2"):
        dkim.go_on(site.desk)
    site.absent = ()
    assert dkim.go_on(site.desk)  # the waiting time starts only now
    with pytest.raises(NotYetError, match="twice that"):
        dkim.go_on(site.desk)


def test_a_key_that_vanishes_from_a_name_server_waits_again(site: Site) -> None:
    dkim.begin(site.desk)
    site.later(site.two_ttls)
    site.absent = ("ns1: x TXT",)
    with pytest.raises(NotYetError, match="no longer shown"):
        dkim.go_on(site.desk)
    site.absent = ()
    assert dkim.go_on(site.desk)
    with pytest.raises(NotYetError, match="twice that"):
        dkim.go_on(site.desk)


def test_a_switch_that_broke_off_is_finished_before_anything_is_withdrawn(site: Site) -> None:
    (old,) = site.stages
    dkim.begin(site.desk)
    site.later(site.two_ttls)
    site.broken = True
    with pytest.raises(OutpostError, match="no route"):
        dkim.go_on(site.desk)
    site.later(10 * site.desk.office.dns.dkim_retention)
    with pytest.raises(OutpostError, match="no route"):
        dkim.go_on(site.desk)
    assert site.stages[old] == "retired", "the MTA may still sign with it"
    site.broken = False
    assert dkim.go_on(site.desk)
    assert not dkim.go_on(site.desk)
    assert site.stages[old] == "retired", "its last messages are on their way"


def test_due_begins_a_roll_when_the_key_is_old_and_not_before(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dnssec, "keep", lambda _desk: False)
    for other in ("_accounts", "_tls", "_hosts"):
        monkeypatch.setattr(aftermath, other, lambda _desk: None)
    aftermath.take(site.desk)
    assert list(site.stages.values()) == ["active"]
    site.later(site.desk.office.dns.dkim_lifetime)
    aftermath.take(site.desk)
    assert list(site.stages.values()) == ["active", "published"]
    site.later(site.two_ttls)
    aftermath.take(site.desk)
    assert list(site.stages.values()) == ["retired", "active"]


def test_state_outlives_the_command(site: Site) -> None:
    dkim.begin(site.desk)
    assert secrets_file.read(site.desk.target.data) == site.desk.secrets


def test_one_rotation_at_a_time(site: Site) -> None:
    with pytest.raises(OutpostError, match="another rotation"), engine.desk(site.desk.target, print):
        pass


def test_name_servers_accept_both_transfer_keys_before_the_new_one_is_used(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[list[str], str]] = []

    def apply(_target: Target, *, limit: tuple[str, ...], **_more: object) -> run.Outcome:
        now = secrets_file.read(site.desk.target.data)
        seen.append((sorted(now.transfer_keys), now.transfer_key))
        return run.Outcome(limit, (), {}, (), 0.0)

    monkeypatch.setattr(run, "apply", apply)
    monkeypatch.setattr(tsig, "prove", lambda _desk: None)
    tsig.roll(site.desk)
    both = ["transfer", "transfer-2"]
    assert seen == [(both, "transfer"), (both, "transfer-2"), (["transfer-2"], "transfer-2")]
    assert list(site.desk.secrets.transfer_keys) == ["transfer-2"]


def test_a_failed_transfer_keeps_both_keys(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_desk: Desk) -> None:
        raise OutpostError("ns2 cannot fetch it")

    monkeypatch.setattr(tsig, "prove", refuse)
    for _ in range(2):
        with pytest.raises(OutpostError, match="cannot fetch"):
            tsig.roll(site.desk)
    assert sorted(site.desk.secrets.transfer_keys) == ["transfer", "transfer-2"]


ID = "ab12" * 10
PEM = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n"

SHORT = (  # one key of 256 has this form in GnuTLS: the private value without its leading zeros
    "-----BEGIN PRIVATE KEY-----\n"
    "MIGGAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBGwwagIBAQQfAQAAAAAAAAAAAAAA\n"
    "AAAAAAAAAAAAAAAAAAAAAAAwOaFEA0IABBuh0E3axeJsLEn2Ygbi7UWvUDAlWbjr\n"
    "KwDsDbHGAxJvGhhZtpbC6TAOBpbUFBBFpanonS6dTvKon7V9nf/hCXw=\n"
    "-----END PRIVATE KEY-----\n"
)


def test_signing_keys_are_kept_with_what_the_server_plans_for_them(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = (
        f'[{{"zone":"harbour.example.com.","id":"{ID}","ksk":true,"zsk":false,"tag":1,"algorithm":13,"size":256,'
        '"public-only":false,"missing":false,"created":100,"pre-active":0,"publish":100,"ready":100,"active":200,'
        '"retire-active":0,"retire":0,"post-active":0,"revoke":0,"remove":0}]'
    )
    zones = 1 + len(site.desk.office.dns.reverse)
    encoded = base64.b64encode(PEM.encode()).decode()

    def answers(pem: str) -> None:
        output = "\n".join([*[listed] * zones, ID, pem, ""])
        monkeypatch.setattr(dnssec, "run_script", lambda *_, **__: output)

    answers(base64.b64encode(SHORT.encode()).decode())
    assert dnssec.keep(site.desk)
    for hostile in ("UEVN", "?", ""):  # a host may answer anything: nothing of it is stored
        answers(hostile)
        with pytest.raises(OutpostError, match="gave an answer that cannot be read"):
            dnssec.keep(site.desk)
    answers(encoded)
    with pytest.raises(OutpostError, match="another private key"):
        dnssec.keep(site.desk)
    assert dnssec.keep(site.desk, seen=True)
    (key,) = secrets_file.read(site.desk.target.data).dnssec["harbour.example.com."]
    assert (key.roles, key.algorithm) == (("ksk",), 13)
    assert key.timers == {"created": 100, "publish": 100, "ready": 100, "active": 200}
    assert key.key.get_secret_value() == PEM
    assert not dnssec.keep(site.desk)
    assert PEM.split()[3] not in repr(site.desk.secrets)


SPARE = "cd34" * 10


@pytest.mark.control("DNS-01")
@pytest.mark.parametrize(
    ("days", "times", "refused"),
    [
        (300, {}, "a new key-signing key, cd34cd34"),
        (300, {"active": 1}, "now dated earlier"),
        (366, {}, None),
    ],
    ids=["before its time", "by a key that claims to be old", "when it is due"],
)
def test_a_key_that_no_rollover_explains_is_kept_only_when_a_person_has_seen_it(
    site: Site, monkeypatch: pytest.MonkeyPatch, days: int, times: dict[str, int], refused: str | None
) -> None:
    """The key of a compromised primary would become the DS that people enter, and the key of the next primary."""
    began = {"publish": 10_000, "ready": 10_000, "active": 10_000}
    old = SigningKey(id=ID, roles=("ksk",), algorithm=13, timers=began, key=SecretStr(PEM))
    new = old.model_copy(update={"id": SPARE, "timers": dict.fromkeys(began, 10_000 + 86400 * days)})
    zone = "harbour.example.com."
    site.desk.change(dnssec={zone: (old,)})
    site.desk.now = lambda: datetime.fromtimestamp(10_000 + 86400 * days, UTC)
    found = {
        zone: (old.model_copy(update={"timers": {**began, **dict.fromkeys(began if times else (), 1)}}), new)
    }
    monkeypatch.setattr(dnssec, "fetch", lambda _desk: found)
    if refused:
        with pytest.raises(OutpostError, match=refused):
            dnssec.keep(site.desk)
        assert site.desk.secrets.dnssec == {zone: (old,)}
    assert dnssec.keep(site.desk, seen=True)
    assert site.desk.secrets.dnssec == found


def test_an_apply_that_meets_such_a_key_says_so_and_keeps_what_it_had(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hosts must be as declared: until an apply the name server rolls its keys by the old lifetime."""

    def refuse(_desk: Desk) -> bool:
        raise dnssec.UnexplainedError("no rollover explains the keys of ns1", "examine ns1")

    monkeypatch.setattr(dnssec, "keep", refuse)
    monkeypatch.setattr(engine, "desk", lambda *_, **__: nullcontext(site.desk))
    monkeypatch.setattr(aftermath, "learn", lambda *_: False)
    notes: list[str] = []
    aftermath.keep(site.desk.target, ["ns1"], notes.append)
    assert notes == ["DNSSEC keys were not kept: no rollover explains the keys of ns1. Remedy: examine ns1"]


@pytest.mark.control("DNS-01")
def test_a_ds_is_known_by_the_keys_name_in_the_copy() -> None:
    """Name, key and DS as keymgr printed them."""
    served = dns.rdata.from_text(
        "IN",
        "DNSKEY",
        "257 3 13 BaWR4DYDKmSzwZGKlrGDOj/Dl+j7C9zHYi30tm+ojRAxcZ8jl+Vyjq+vMTjJEn5nPfu7abD3V7BuT2w+DZLVtQ==",
    )
    offered = "8606 13 2 22c6d5b8411ff379588e89772b98ee5548f72025372250c9ad7919e96731f1f0"
    kept = SigningKey(
        id="e32e4aca9b29075bcbb382071e397dc652ddae60",
        roles=("ksk",),
        algorithm=13,
        timers={},
        key=SecretStr(PEM),
    )
    assert unknown_entries([offered], [served], "po.test", [kept]) == []
    for other in (kept.model_copy(update={"id": ID}), kept.model_copy(update={"roles": ("zsk",)})):
        assert unknown_entries([offered], [served], "po.test", [other]) == [offered]


def test_an_acme_account_is_asked_for_until_the_authority_has_one(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{site.desk.office.acme.directory.rpartition('/')[0]}/acct/7"
    evil = "https://evil.test/acct/7"
    answers = iter(["", f"{url}\nharbour.example.com. 60 IN MX 0 evil.test.\n", evil, f"{url}\n"])
    monkeypatch.setattr(aftermath, "run_script", lambda *_, **__: next(answers))
    host, *_ = acme_hosts(site.desk.office)
    for _ in range(3):  # none yet; one with a second record; another authority's
        assert not aftermath.learn(site.desk, [host.name])
    assert aftermath.learn(site.desk, [host.name])
    assert not aftermath.learn(site.desk, [host.name]), "asked for again"
    kept = public_keys(secrets_file.read(site.desk.target.data))
    assert kept.account(site.desk.office, host) == url


def test_a_new_authority_is_trusted_before_it_issues_and_the_old_one_until_nobody_shows_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, str]] = []
    issuers = {site.desk.secrets.authority.certificate: "old"}

    def apply(_target: Target, *, limit: tuple[str, ...], **_more: object) -> run.Outcome:
        now = secrets_file.read(site.desk.target.data)
        seen.append((now.trusted.count("BEGIN"), issuers.get(now.authority.certificate, "new")))
        return run.Outcome(limit, (), {}, (), 0.0)

    monkeypatch.setattr(run, "apply", apply)
    before = site.desk.secrets
    authority.advance(site.desk)
    assert seen == [(2, "old")]
    assert site.desk.secrets.hosts == before.hosts
    authority.advance(site.desk)
    assert seen == [(2, "old"), (2, "new"), (1, "new")]
    after = site.desk.secrets
    for issued in (*after.hosts.values(), *after.public.values()):
        x509.load_pem_x509_certificate(issued.certificate.encode()).verify_directly_issued_by(
            x509.load_pem_x509_certificate(after.authority.certificate.encode())
        )
    assert {name: pair.key for name, pair in after.public.items()} == {
        name: pair.key for name, pair in before.public.items()
    }


def test_an_authority_that_a_host_does_not_trust_issues_nothing(site: Site) -> None:
    site.broken = True
    for _ in range(2):
        with pytest.raises(OutpostError, match="no route to host"):
            authority.advance(site.desk)
    assert site.desk.secrets.authority_next
    assert site.desk.secrets.authority_next.trusted is None
