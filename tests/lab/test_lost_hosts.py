"""Lost hosts are rebuilt with the names and keys that others trust."""

from __future__ import annotations

import pytest

from outpost.keys import secrets_file
from outpost_lab.instance import Instance
from tests.lab.rehearsal import Rehearsal
from tests.lab.test_certificates import KEY, on, shown
from tests.lab.test_rollover import KSK, ZSK


@pytest.mark.slow
@pytest.mark.control("DNS-01", "DNS-08")
def test_a_lost_primary_comes_back_with_its_keys_and_nobody_notices(lab: Instance) -> None:
    rehearsal = Rehearsal(lab)
    rehearsal.until(
        "the end of an earlier roll", lambda: {len(rehearsal.keys(kind)) for kind in (ZSK, KSK)} == {1}
    )
    rehearsal.outpost("rotate", "dnssec", "lab")
    kept = secrets_file.read(lab.directory).dnssec
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
    assert secrets_file.read(lab.directory).dnssec == kept, "its plans for them are what they were"


@pytest.mark.slow
@pytest.mark.control("TLS-04", "TLS-05", "DKM-01")
def test_wiped_hosts_come_back_with_their_names_and_keys(lab: Instance) -> None:
    rehearsal, webmail = Rehearsal(lab), lab.office.host("webmail")
    kept = secrets_file.read(lab.directory)
    names, key = on(lab, "mta", "hostname --fqdn"), shown(lab, webmail, KEY)
    for host in ("mta", "webmail"):
        lab.container(host).remove(force=True, v=True)
    rehearsal.outpost("lab", "up", "--no-verify")
    assert secrets_file.read(lab.directory) == kept, "nothing was made again"
    assert on(lab, "mta", "hostname --fqdn") == names
    assert shown(lab, webmail, KEY) == key
    for peer in ("headoffice", "internet"):
        assert rehearsal.believes(peer)
    with rehearsal.life():  # every message is signed with the keys in the DNS
        rehearsal.until("mail in every direction", lambda: len(rehearsal.log.carried) == 6)
    assert not rehearsal.log.failures, rehearsal.log.failures
    assert "nothing to change" in rehearsal.outpost("plan", "lab")
