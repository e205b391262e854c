"""How results of other scanners are stored and shown, without a tool or a host."""

from __future__ import annotations

from pathlib import Path

import pytest

from outpost.errors import OutpostError
from outpost.evidence.opinions import Opinion, left, reasons, record, recorded, table, unexplained
from outpost.evidence.reference import case_study
from outpost_lab import judges
from outpost_lab.judges import listeners

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
    text = table(
        (PASSED, LEFT, Opinion("lynis", "3.1.4", "2026-11-25", "mta", "mta2", "audit system", "index 70"))
    )
    assert text.count("\n| lynis") == 1
    assert "index 71, index 70 | 1 |" in text
    assert "BOOT-5180**: because" in left((LEFT,), {"lynis": {"BOOT-5180": "because"}})


def test_every_tls_port_that_outsiders_see_is_judged() -> None:
    seen = {(listener.host.role, listener.port, listener.starttls) for listener in listeners(case_study())}
    assert {("mta", 25, "smtp"), ("store", 993, ""), ("store", 4190, "sieve"), ("webmail", 443, "")} <= seen


def test_what_a_judged_host_makes_a_tool_say_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judges, "MOST", 100_000)
    with pytest.raises(OutpostError, match="cat says too much"):
        judges._run(["cat", "/dev/zero"])
    monkeypatch.setattr(judges, "PATIENCE", 0.2)
    with pytest.raises(OutpostError, match="sleep takes too long"):
        judges._run(["sleep", "600"])


def test_a_tool_has_an_open_input_and_writes_no_endless_file(tmp_path: Path) -> None:
    script = f"timeout 0.2 cat; echo $?; head -c 20000000 /dev/zero > {tmp_path}/output; echo done"
    done = judges._run(["sh", "-c", judges.OPEN_INPUT, str(tmp_path / "input"), "sh", "-c", script])
    assert done.stdout.split()[0] == "124", "the input has not ended"
    assert (tmp_path / "output").stat().st_size == 16 * 1024**2
