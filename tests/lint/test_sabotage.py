"""Every live check has a sabotage that must turn it red, or a reason why there cannot be one."""

from __future__ import annotations

from tests.sabotage.table import SABOTAGES, SPARED, checks, function, variant

aims = {function(check) for sabotage in SABOTAGES for check in sabotage.red}


def test_every_live_check_is_sabotaged() -> None:
    assert sorted(checks() - aims - set(SPARED)) == [], "add a sabotage to tests/sabotage/ that turns it red"


def test_every_sabotage_aims_at_checks_that_exist() -> None:
    assert sorted((aims | set(SPARED)) - checks()) == []
    assert [sabotage.what for sabotage in SABOTAGES if not sabotage.red] == []


def test_what_is_spared_is_not_sabotaged_and_says_why() -> None:
    assert sorted(set(SPARED) & aims) == []
    assert [check for check, reason in SPARED.items() if len(reason) < 20] == []


def test_a_check_is_known_by_its_name_without_the_host() -> None:
    file = "tests/live/test_mta.py"
    assert variant(f"{file}::test_it_holds[mta]", "mta") == "mta::it_holds"
    assert variant(f"{file}::test_it_holds[mta-TLS 1.1]", "mta") == "mta::it_holds[TLS 1.1]"
    assert variant(f"{file}::test_it_holds[TLS-1.1-mta]", "mta") == "mta::it_holds[TLS-1.1]"
