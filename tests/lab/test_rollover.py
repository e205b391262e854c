"""Keys roll under load and nobody notices: DKIM, TLSA, ZSK and KSK in one rehearsal, with mail in every direction.

The short form rolls each once. The long one (`pytest -m slow tests/lab/test_rollover.py`) goes round ten times.
"""

from __future__ import annotations

import logging
import subprocess
import time

import pytest

from outpost.keys import secrets_file
from outpost.keys.model import tls_digests
from outpost.keys.rotation import engine
from outpost.target import ROOT
from outpost_lab.instance import Instance
from roles.base.declare import TLS
from tests.lab.rehearsal import Rehearsal

ZSK, KSK = 256, 257
ROUNDS = 10
USERS = ("alice", "bob", "carol")
"""They take turns: each round is about fifty messages, and a user may name 300 recipients in an hour (REL-05)."""
WALK = 3.0
"""Seconds between two attempts, of which each is a command."""
PEERS = ("headoffice", "internet", "clientsite")
COMPRESSED = {"zsk_lifetime": "30s", "ksk_lifetime": "45s", "dkim_retention": "1m"}

log = logging.getLogger(__name__)


@pytest.fixture
def rehearsal(lab: Instance) -> Rehearsal:
    return Rehearsal(lab)


def roll(rehearsal: Rehearsal) -> None:
    """DKIM, TLSA, ZSK and KSK once, under the compressed policy."""
    lab, canaries = rehearsal.lab, rehearsal.secrets_now()
    rehearsal.until("the end of an earlier roll", lambda: _nothing_pending(rehearsal), WALK)
    selectors = set(secrets_file.read(lab.directory).signing)
    zone_keys, entry_keys, parent = rehearsal.keys(ZSK), rehearsal.keys(KSK), rehearsal.ds()
    assert zone_keys
    assert entry_keys
    with rehearsal.life():
        rehearsal.step("dkim")
        canaries |= rehearsal.secrets_now()
        early = rehearsal.outpost("rotate", "dkim", "lab", check=False)
        assert "twice that" in early or "is signed with" in early
        _switch_public_key(rehearsal)
        rehearsal.until("the new selector's turn", lambda: _signs_again(rehearsal, selectors), WALK)
        rehearsal.until("the old selector's end", lambda: _revoked(rehearsal, selectors), WALK)
        rehearsal.until("a roll of the ZSK", lambda: not rehearsal.keys(ZSK) & zone_keys)
        rehearsal.until("a new DS at the parent", lambda: not rehearsal.ds() & parent)
        rehearsal.until("a roll of the KSK", lambda: not rehearsal.keys(KSK) & entry_keys)
        rehearsal.step("dnssec")
        canaries |= rehearsal.secrets_now()
    _nobody_noticed(rehearsal)
    assert len(rehearsal.log.selectors) >= 2, f"mail was signed with {rehearsal.log.selectors} only"
    assert all(rehearsal.log.verified[peer] for peer in PEERS), rehearsal.log.verified
    _no_secret_was_printed(rehearsal, canaries)


def _switch_public_key(rehearsal: Rehearsal) -> None:
    """Switch the MTA's key, which peers verify by TLSA, to the published key, and not too early."""
    lab = rehearsal.lab
    upcoming = tls_digests(secrets_file.read(lab.directory), "mta")[1]

    def rotate() -> str:
        return rehearsal.outpost("rotate", "tls", "lab", "mta", check=False)

    rehearsal.until("the next public key's turn", lambda: "shows its new key" in rotate(), WALK)
    assert tls_digests(secrets_file.read(lab.directory), "mta")[0] == upcoming
    early = rotate()
    assert "twice that" in early or "shows its new key" in early
    for peer in PEERS[:2]:
        assert rehearsal.believes(peer), f"{peer} does not trust the MTA's new key"


def _nobody_noticed(rehearsal: Rehearsal) -> None:
    seen = rehearsal.log
    assert not seen.failures, seen.failures
    assert len(seen.carried) == 6, f"directions that mail went: {seen.carried}"


def _nothing_pending(rehearsal: Rehearsal) -> bool:
    if all(keys.stage != "published" for keys in secrets_file.read(rehearsal.lab.directory).dkim.values()):
        return True
    rehearsal.outpost("rotate", "due", "lab", check=False)
    return False


def _signs_again(rehearsal: Rehearsal, before: set[str]) -> bool:
    rehearsal.outpost("rotate", "dkim", "lab", check=False)
    kept = secrets_file.read(rehearsal.lab.directory)
    return bool(kept.signing) and not set(kept.signing) & before


def _revoked(rehearsal: Rehearsal, before: set[str]) -> bool:
    rehearsal.outpost("rotate", "due", "lab", check=False)
    office, domain = rehearsal.lab.office, rehearsal.lab.office.domain
    shown = [
        engine.ask(office, server, f"{selector}-{algorithm}._domainkey.{domain}.", "TXT")
        for server in office.with_role("dns")
        for selector in before
        for algorithm in ("rsa", "ed25519")
    ]
    return all(not texts or any(str(text).rstrip('"').endswith("p=") for text in texts) for texts in shown)


def _no_secret_was_printed(rehearsal: Rehearsal, canaries: set[str]) -> None:
    """SEC-01: no secret was printed, logged, passed as an argument or left for git."""
    assert len(canaries) > 20
    printed = "\n".join(rehearsal.output)
    assert "secret: content not shown" in printed or "known state" in printed
    assert not [canary for canary in canaries if canary in printed], "a secret was printed"
    assert any("pyinfra" in arguments for arguments in rehearsal.typed), "the sampler saw nothing"
    assert not [canary for canary in canaries if any(canary in arguments for arguments in rehearsal.typed)]
    for host in rehearsal.lab.office.hosts:
        journal = rehearsal.journal(host.name)
        assert len(journal) > 1000, f"{host.name} wrote nothing"
        assert not [canary for canary in canaries if canary in journal], (
            f"a secret is in {host.name}'s journal"
        )
    for_git = subprocess.check_output(
        ["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=ROOT
    ).decode()
    kept = "".join(
        (ROOT / name).read_text(errors="replace") for name in for_git.split("\0") if (ROOT / name).is_file()
    )
    assert "Outpost" in kept
    assert not [canary for canary in canaries if canary in kept], "a secret stands in the checkout"


@pytest.mark.control("DKM-04", "DNS-01", "SEC-01", "TLS-04", "TLS-05")
def test_keys_roll_while_mail_flows_and_every_signature_verifies(rehearsal: Rehearsal) -> None:
    with rehearsal.policy(**COMPRESSED):
        roll(rehearsal)


@pytest.mark.control("TLS-10", "SEC-01")
def test_keys_between_the_hosts_roll_and_mail_flows_on(rehearsal: Rehearsal) -> None:
    canaries, before = rehearsal.secrets_now(), secrets_file.read(rehearsal.lab.directory)
    with rehearsal.life():
        rehearsal.outpost("rotate", "hosts", "lab", "--keys")
    canaries |= rehearsal.secrets_now()
    assert secrets_file.read(rehearsal.lab.directory).hosts["store"].key != before.hosts["store"].key
    _nobody_noticed(rehearsal)
    _no_secret_was_printed(rehearsal, canaries)


@pytest.mark.control("DNS-04", "SEC-01")
def test_the_transfer_key_rolls_and_the_zone_stays_available(rehearsal: Rehearsal) -> None:
    lab, canaries = rehearsal.lab, rehearsal.secrets_now()
    before = secrets_file.read(lab.directory)
    with rehearsal.life(mail=False):
        assert "is gone" in rehearsal.step("tsig")
    canaries |= rehearsal.secrets_now()
    after = secrets_file.read(lab.directory)
    assert after.transfer_key != before.transfer_key
    assert before.transfer_key not in after.tsig
    assert not rehearsal.log.failures, rehearsal.log.failures
    assert rehearsal.keys(KSK), "both name servers serve the zone"
    _no_secret_was_printed(rehearsal, canaries)


@pytest.mark.slow
@pytest.mark.control("TLS-10", "SEC-01")
def test_the_offices_authority_rolls_and_no_link_between_its_hosts_breaks(rehearsal: Rehearsal) -> None:
    lab, canaries = rehearsal.lab, rehearsal.secrets_now()
    before = secrets_file.read(lab.directory)
    with rehearsal.life():
        for _ in range(1 + (before.authority_next is None)):
            assert "every host" in rehearsal.step("authority")
            canaries |= rehearsal.secrets_now()
    after = secrets_file.read(lab.directory)
    assert after.authority.key != before.authority.key
    assert after.trusted == after.authority.certificate
    assert {name: pair.key for name, pair in after.hosts.items()} == {
        name: pair.key for name, pair in before.hosts.items()
    }
    for host in lab.office.hosts:
        command = ["docker", "exec", lab.container_name(host.name), "cat", f"{TLS}/ca.pem", f"{TLS}/host.pem"]
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert shown == after.trusted + after.hosts[host.name].certificate, host.name
    _nobody_noticed(rehearsal)
    _no_secret_was_printed(rehearsal, canaries)


@pytest.mark.slow
@pytest.mark.control("DKM-04", "DNS-01", "TLS-05")
def test_keys_roll_again_and_again(lab: Instance) -> None:
    with Rehearsal(lab).policy(**COMPRESSED):
        for number in range(1, ROUNDS + 1):
            began, rehearsal = time.monotonic(), Rehearsal(lab, user=USERS[number % len(USERS)])
            roll(rehearsal)
            seen = rehearsal.log
            log.info(
                "round %d: %.0f s, %d messages, %d validated answers, signed with %s, verified %s, sent again %s",
                number,
                time.monotonic() - began,
                seen.carried.total(),
                seen.looks,
                dict(seen.selectors),
                dict(seen.verified),
                seen.again,
            )
