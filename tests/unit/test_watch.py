"""What a host says when it needs a human: each look with figures of the test's own, and what of it is told when."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from outpost.office.flows import outbound
from outpost.office.tables.topology import Role
from outpost.office.watch import watch_settings
from outpost.onhost import watch
from outpost.onhost.watch import DAY, Alarm, Memory
from tests.unit.test_mta import office_of

NOW = 1_800_000_000.0
RRSIG = "po.test. 5 IN RRSIG SOA 13 2 5 20270116080000 20270101000000 1 po.test. abc=\n"  # ends NOW + 0 days and a bit


def settings(role: Role = "mta", **changes: Any) -> dict[str, Any]:
    office = office_of("lab")
    return watch_settings(office, office.with_role(role)[0]) | changes


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Command to what it says."""
    said: dict[str, str] = {}
    monkeypatch.setattr(watch, "said", lambda *command: said.get(command[0], ""))
    return said


def waiting(age: float, queue: str = "deferred", name: str = "4gVxB25hBLz1") -> str:
    recipients = [{"address": "a@b.test", "delay_reason": "connection refused"}]
    entry = {"queue_id": name, "queue_name": queue, "arrival_time": NOW - age, "recipients": recipients}
    return json.dumps(entry) + "\n"


def abouts(look: watch.Look, wanted: dict[str, Any]) -> list[str]:
    return [alarm.about for alarm in look(wanted, NOW)]


def test_old_mail_is_an_alarm_with_its_reason(answers: dict[str, str]) -> None:
    answers["postqueue"] = waiting(60) + waiting(3 * 3600)
    (alarm,) = watch.queue(settings(), NOW)
    assert (alarm.about, "1 of 2" in alarm.text, "connection refused" in alarm.text) == ("queue", True, True)
    answers["postqueue"] = waiting(60)
    assert abouts(watch.queue, settings()) == []


def test_lines_that_the_collector_has_not_had_for_a_while_are_an_alarm(
    answers: dict[str, str], tmp_path: Path
) -> None:
    wanted = settings(logs=str(tmp_path / "sent"))
    assert "logs" in wanted["looks"]
    assert abouts(watch.logs, wanted) == []  # the journal has nothing behind the last line
    for age, expected in ((60, []), (3600, ["logs"])):
        answers["journalctl"] = json.dumps({"__REALTIME_TIMESTAMP": str(int((NOW - age) * 1e6))})
        assert abouts(watch.logs, wanted) == expected


def test_mail_on_hold_is_an_alarm_unless_it_waits_for_its_hours(answers: dict[str, str]) -> None:
    answers["postqueue"] = waiting(60, "hold")
    assert abouts(watch.queue, settings()) == ["hold"]


@pytest.mark.parametrize(
    ("end", "alarmed"), [("Jan 25 00:00:00 2027 GMT", True), ("Jan 25 00:00:00 2028 GMT", False)]
)
def test_certificates_that_end_soon_are_an_alarm(
    answers: dict[str, str], tmp_path: Path, end: str, alarmed: bool
) -> None:
    (tmp_path / "host.pem").touch()
    answers["openssl"] = f"notAfter={end}\n"
    assert abouts(watch.certificates, settings(tls=str(tmp_path))) == ["certificate host.pem"] * alarmed


def test_signatures_that_end_or_are_not_there_are_an_alarm(answers: dict[str, str]) -> None:
    wanted = settings("dns", zones=["po.test"])
    assert abouts(watch.zone_signatures, wanted) == ["signatures po.test"], "no answer"
    answers["kdig"] = RRSIG
    assert abouts(watch.zone_signatures, wanted) == ["signatures po.test"]
    answers["kdig"] = RRSIG.replace("20270116", "20280116")
    assert abouts(watch.zone_signatures, wanted) == []


def test_old_virus_signatures_are_an_alarm(tmp_path: Path) -> None:
    file = tmp_path / "daily.cld"
    wanted = settings(virus_signatures=[str(file)])
    assert abouts(watch.virus_signatures, wanted) == ["virus signatures"]
    file.touch()
    os.utime(file, (NOW - 3600, NOW - 3600))
    assert abouts(watch.virus_signatures, wanted) == []
    os.utime(file, (NOW - 3 * DAY, NOW - 3 * DAY))
    assert abouts(watch.virus_signatures, wanted) == ["virus signatures"]
    assert abouts(watch.virus_signatures, settings(virus_signatures=[])) == []


def test_a_full_disk_is_an_alarm(tmp_path: Path) -> None:
    wanted = settings(volumes=[str(tmp_path), "/no/such/place"], disk_percent=-1)
    assert f"disk {tmp_path} space" in abouts(watch.disks, wanted)
    assert abouts(watch.disks, wanted | {"disk_percent": 101}) == []


def test_a_backup_that_is_old_or_was_never_made_is_an_alarm(tmp_path: Path) -> None:
    stamp = tmp_path / "last.json"
    wanted = settings(backup=str(stamp), backup_age=3600)
    os.utime(tmp_path, (NOW - 60, NOW - 60))
    assert abouts(watch.backup, wanted) == [], "it was set up a minute ago"
    os.utime(tmp_path, (NOW - 3700, NOW - 3700))
    assert abouts(watch.backup, wanted) == ["backup"]
    stamp.touch()
    os.utime(stamp, (NOW - 60, NOW - 60))
    assert abouts(watch.backup, wanted) == []
    assert abouts(watch.backup, settings(backup="")) == []


def test_guessed_passwords_are_an_alarm_and_a_forgotten_one_is_none(answers: dict[str, str]) -> None:
    line = "imap-login: Login aborted: Connection closed (auth failed, 1 attempts): user=<a>, rip=10.0.3.9, lip=x\n"
    answers["journalctl"] = line * 51
    (alarm,) = watch.logins(settings("store"), NOW)
    assert "51 wrong passwords" in alarm.text
    assert "10.0.3.9" in alarm.text
    answers["journalctl"] = "webmail login refused: wrong password, user=<a>, rip=10.0.3.7\n" * 51
    (alarm,) = watch.logins(settings("store"), NOW)
    assert "10.0.3.7" in alarm.text
    answers["journalctl"] = line * 3
    assert abouts(watch.logins, settings("store")) == []


def test_a_unit_that_does_not_run_is_an_alarm(answers: dict[str, str]) -> None:
    answers["systemctl"] = "active\n"
    wanted = settings(daemons=["postfix.service"])
    assert abouts(watch.units, wanted)[1:] == [], "the same word is no failed unit of this test's"
    answers["systemctl"] = "inactive\n"
    assert "unit postfix.service" in abouts(watch.units, wanted)


def test_a_look_that_breaks_is_an_alarm_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_settings: watch.Settings, _now: float) -> Any:
        raise ValueError("odd")

    monkeypatch.setitem(watch.LOOKS, "queue", broken)
    assert [alarm.about for alarm in watch.alarms({"looks": ["queue"]}, NOW)] == ["watch queue"]


def test_what_is_told_is_what_changed_and_once_a_day_what_lasts() -> None:
    memory, alarm = Memory({}), Alarm("queue", "old")
    assert memory.news([alarm], NOW) == ([alarm], [])
    memory.keep([alarm], [], NOW)
    assert memory.news([alarm], NOW + 300) == ([], [])
    assert memory.news([alarm], NOW + DAY) == ([alarm], [])
    assert memory.news([], NOW + 600) == ([], ["queue"])
    memory.keep([], ["queue"], NOW + 600)
    assert memory.news([alarm], NOW + 900) == ([alarm], [])


def test_what_could_not_be_told_is_told_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: dict[str, str]
) -> None:
    answers["postqueue"] = waiting(10 * DAY)
    file, told = tmp_path / "watch.json", tmp_path / "told"
    monkeypatch.setattr(watch, "SETTINGS", file)
    monkeypatch.setattr(watch, "STATE", tmp_path / "state.json")
    monkeypatch.setattr("time.time", lambda: NOW)
    file.write_text(json.dumps(settings(looks=["queue"], tell=["false"])))
    assert watch.main([]) == 0
    assert not (tmp_path / "state.json").exists()
    file.write_text(json.dumps(settings(looks=["queue"], tell=["false", f"tee {told}"])))
    watch.main([])
    assert told.read_text().startswith("ALARM queue: 1 of 1 messages")
    assert json.loads((tmp_path / "state.json").read_text()) == {"queue": NOW}


@pytest.mark.parametrize("role", ["dns", "mta", "store", "webmail"])
def test_every_host_may_tell_its_alarms(role: Role) -> None:
    office = office_of("lab")
    flows = [flow for flow in outbound(office, office.with_role(role)[0]) if flow.why == "alarms"]
    assert [(flow.port, flow.destination.label) for flow in flows] == [(8025, "10.77.4.2")]
