"""Keys roll under load and nobody notices: DKIM, ZSK and KSK, with mail in every direction.

The short form rolls each once. The long one (`pytest -m slow tests/lab/test_rollover.py`) goes round several times.
"""

from __future__ import annotations

import pytest

from outpost import secrets
from outpost.lab.instance import Instance
from outpost.rotation import watch
from tests.lab.rehearsal import Rehearsal

ZSK, KSK = 256, 257
ROUNDS = 5
COMPRESSED = {"zsk_lifetime": "30s", "ksk_lifetime": "45s", "dkim_retention": "5s"}


@pytest.fixture
def rehearsal(lab: Instance) -> Rehearsal:
    return Rehearsal(lab)


def roll(rehearsal: Rehearsal) -> None:
    """Every kind of key once."""
    lab, canaries = rehearsal.lab, rehearsal.secrets_now()
    rehearsal.until("the end of an earlier roll", lambda: _nothing_pending(rehearsal))
    before = {
        selector for selector, keys in secrets.read(lab.directory).dkim.items() if keys.stage == "active"
    }
    zone_keys, entry_keys, parent = rehearsal.keys(ZSK), rehearsal.keys(KSK), rehearsal.ds()
    assert zone_keys
    assert entry_keys
    with rehearsal.life(), rehearsal.policy(**COMPRESSED):
        rehearsal.step("dkim")
        canaries |= rehearsal.secrets_now()
        early = rehearsal.outpost("rotate", "dkim", "lab", check=False)
        assert "twice that to be safe" in early or "is signed with" in early
        rehearsal.until("the new selector's turn", lambda: _signs_anew(rehearsal, before))
        rehearsal.until("the old selector's end", lambda: _revoked(rehearsal, before))
        rehearsal.until("a roll of the ZSK", lambda: not rehearsal.keys(ZSK) & zone_keys)
        rehearsal.until("a new DS at the parent", lambda: not rehearsal.ds() & parent)
        rehearsal.until("a roll of the KSK", lambda: not rehearsal.keys(KSK) & entry_keys)
        rehearsal.step("dnssec")
        canaries |= rehearsal.secrets_now()
    log = rehearsal.log
    assert not log.failures, log.failures
    assert len(log.carried) == 6, f"directions that mail went: {log.carried}"
    assert len(log.selectors) >= 2, f"mail was signed with {log.selectors} only"
    _nothing_was_told(rehearsal, canaries)


def _nothing_pending(rehearsal: Rehearsal) -> bool:
    if all(keys.stage != "published" for keys in secrets.read(rehearsal.lab.directory).dkim.values()):
        return True
    rehearsal.outpost("rotate", "due", "lab", check=False)
    return False


def _signs_anew(rehearsal: Rehearsal, before: set[str]) -> bool:
    rehearsal.outpost("rotate", "dkim", "lab", check=False)
    kept = secrets.read(rehearsal.lab.directory)
    return bool(kept.signing) and not set(kept.signing) & before


def _revoked(rehearsal: Rehearsal, before: set[str]) -> bool:
    rehearsal.outpost("rotate", "due", "lab", check=False)
    office, domain = rehearsal.lab.office, rehearsal.lab.office.domain
    shown = [
        watch.ask(office, server, f"{selector}-{algorithm}._domainkey.{domain}.", "TXT")
        for server in office.with_role("dns")
        for selector in before
        for algorithm in ("rsa", "ed25519")
    ]
    return all(not texts or any(str(text).rstrip('"').endswith("p=") for text in texts) for texts in shown)


def _nothing_was_told(rehearsal: Rehearsal, canaries: set[str]) -> None:
    """SEC-01: what was printed, logged, or passed as an argument, against every secret there was."""
    assert len(canaries) > 20
    printed = "\n".join(rehearsal.said)
    assert "secret: content not shown" in printed or "known state" in printed
    assert not [canary for canary in canaries if canary in printed], "a secret was printed"
    assert any("pyinfra" in arguments for arguments in rehearsal.typed), "the sampler saw nothing"
    assert not [canary for canary in canaries if any(canary in arguments for arguments in rehearsal.typed)]


@pytest.mark.control("DKM-04", "DNS-01", "SEC-01")
def test_keys_roll_while_mail_flows_and_every_message_is_believed(rehearsal: Rehearsal) -> None:
    roll(rehearsal)


@pytest.mark.slow
@pytest.mark.control("DKM-04", "DNS-01")
def test_keys_roll_again_and_again(lab: Instance) -> None:
    for _ in range(ROUNDS):
        roll(Rehearsal(lab))
