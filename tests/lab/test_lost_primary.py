"""A primary name server that is lost comes back as the one that others trust."""

from __future__ import annotations

import pytest

from outpost import secrets
from outpost.lab.instance import Instance
from tests.lab.rehearsal import Rehearsal
from tests.lab.test_rollover import KSK, ZSK


@pytest.mark.slow
@pytest.mark.control("DNS-01", "DNS-08")
def test_a_lost_primary_comes_back_with_its_keys_and_nobody_notices(lab: Instance) -> None:
    rehearsal = Rehearsal(lab)
    rehearsal.until(
        "the end of an earlier roll", lambda: {len(rehearsal.keys(kind)) for kind in (ZSK, KSK)} == {1}
    )
    rehearsal.outpost("rotate", "dnssec", "lab")
    kept = secrets.read(lab.directory).dnssec
    keys, parent = (rehearsal.keys(ZSK), rehearsal.keys(KSK)), rehearsal.ds()
    assert parent
    primary = lab.office.with_role("dns")[0].name
    with rehearsal.life(mail=False):
        lab.container(primary).remove(force=True, v=True)
        looks = rehearsal.log.looks
        rehearsal.until("a look-up while it is gone", lambda: rehearsal.log.looks > looks + 4)
        rehearsal.outpost("lab", "up", "--no-verify")
        rehearsal.until("signing as before", lambda: (rehearsal.keys(ZSK), rehearsal.keys(KSK)) == keys)
    assert not rehearsal.log.failures, rehearsal.log.failures
    assert rehearsal.ds() == parent
    assert secrets.read(lab.directory).dnssec == kept, "its plans for them are what they were"
