"""A primary name server that is lost comes back as the one that others trust."""

from __future__ import annotations

import pytest

from outpost.lab.instance import Instance
from tests.lab.rehearsal import Rehearsal
from tests.lab.test_rollover import KSK, ZSK


@pytest.mark.slow
@pytest.mark.control("DNS-01", "DNS-08")
def test_a_lost_primary_comes_back_with_its_keys_and_nobody_notices(lab: Instance) -> None:
    rehearsal = Rehearsal(lab)
    keys, parent = (rehearsal.keys(ZSK), rehearsal.keys(KSK)), rehearsal.ds()
    assert all(keys)
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
