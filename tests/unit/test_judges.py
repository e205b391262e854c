"""What is kept of outside opinions, and told: without a tool or a host."""

from __future__ import annotations

from pathlib import Path

from outpost.judges import (
    Opinion,
    doors,
    left,
    reasons,
    record,
    recorded,
    table,
    unexplained,
)
from outpost.reference import case_study

PASSED = Opinion("ssh-audit", "3.9.0", "2026-11-25", "dns", "ns1", "a policy", "passed")
LEFT = Opinion("lynis", "3.1.4", "2026-11-25", "mta", "mta", "audit system", "index 71", ("BOOT-5180",))


def test_a_new_opinion_takes_the_place_of_the_same_tools_old_one(tmp_path: Path) -> None:
    file = tmp_path / "judged.json"
    record([PASSED, LEFT], file)
    again = Opinion("ssh-audit", "4", "2027-01-01", "dns", "ns1", "a policy", "failed", ("x",))
    record([again], file)
    assert recorded(file) == (again, LEFT)
    assert recorded(tmp_path / "none") == ()


def test_a_finding_without_a_reason_is_named() -> None:
    assert unexplained((PASSED, LEFT), {"lynis": {}}) == ["lynis: BOOT-5180"]
    assert unexplained((PASSED, LEFT), {"lynis": {"BOOT-5180": "because"}}) == []


def test_everything_that_is_kept_has_a_reason() -> None:
    assert unexplained(recorded(), reasons()) == []


def test_the_table_has_a_line_for_each_tool_and_role() -> None:
    said = table(
        (PASSED, LEFT, Opinion("lynis", "3.1.4", "2026-11-25", "mta", "mta2", "audit system", "index 70"))
    )
    assert said.count("\n| lynis") == 1
    assert "index 71, index 70 | 1 |" in said
    assert "BOOT-5180**: because" in left((LEFT,), {"lynis": {"BOOT-5180": "because"}})


def test_every_tls_port_that_outsiders_see_is_judged() -> None:
    seen = {(door.host.role, door.port, door.starttls) for door in doors(case_study())}
    assert {("mta", 25, "smtp"), ("store", 993, ""), ("store", 4190, "sieve"), ("webmail", 443, "")} <= seen
