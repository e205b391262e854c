"""A host's alarms: each probe with values of the test, and what is reported when."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from outpost.office.flows import outbound
from outpost.office.tables.topology import RoleName
from outpost.onhost import accounts, davlogins, watch
from outpost.onhost.watch import DAY, Alarm, news
from roles.base.declare import watch_settings
from tests.unit.test_mta import office_of

NOW = 1_800_000_000.0
RRSIG = "po.test. 5 IN RRSIG SOA 13 2 5 20270116080000 20270101000000 1 po.test. abc=\n"  # ends NOW + 0 days and a bit


def settings(role: RoleName = "mta", **changes: Any) -> dict[str, Any]:
    office = office_of("lab")
    return watch_settings(office, office.with_role(role)[0]) | changes


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Command → its output."""
    outputs: dict[str, str] = {}
    monkeypatch.setattr(watch, "output_of", lambda *command: outputs.get(command[0], ""))
    return outputs


def waiting(age: float, queue: str = "deferred", name: str = "4gVxB25hBLz1") -> str:
    recipients = [{"address": "a@b.test", "delay_reason": "connection refused"}]
    entry = {"queue_id": name, "queue_name": queue, "arrival_time": NOW - age, "recipients": recipients}
    return json.dumps(entry) + "\n"


def abouts(probe: watch.Probe, wanted: dict[str, Any]) -> list[str]:
    return [alarm.about for alarm in probe(wanted, NOW)]


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
    assert "logs" in wanted["probes"]
    assert abouts(watch.logs, wanted) == []  # the journal has nothing behind the last line
    sent = tmp_path / "sent"
    # nothing was sent yet: an old line is late only after the shipper has run for that long
    for age, running, cursor, expected in (
        (60, 3600, "s=1", []),
        (3600, 60, "s=1", ["logs"]),
        (3600, 60, "", []),
        (3600, 3600, "", ["logs"]),
    ):
        sent.write_text(cursor)
        answers["journalctl"] = json.dumps({"__REALTIME_TIMESTAMP": str(int((NOW - age) * 1e6))})
        answers["systemctl"] = f"StateChangeTimestamp=@{NOW - running:.0f}\n"
        assert abouts(watch.logs, wanted) == expected


@pytest.mark.parametrize("kind", ["a FIFO", "a link", "a directory", "much"])
def test_what_the_shipper_puts_in_the_place_of_its_note_is_not_waited_for(
    answers: dict[str, str], tmp_path: Path, kind: str
) -> None:
    sent = tmp_path / "sent"
    match kind:
        case "a FIFO":
            os.mkfifo(sent)
        case "a link":
            sent.symlink_to("/dev/zero")
        case "a directory":
            sent.mkdir()
        case "much":
            with sent.open("wb") as file:
                file.truncate(1 << 40)
    answers["journalctl"] = json.dumps({"__REALTIME_TIMESTAMP": str(int((NOW - 3600) * 1e6))})
    answers["systemctl"] = f"StateChangeTimestamp=@{NOW - 3600:.0f}\n"
    assert abouts(watch.logs, settings(logs=str(sent))) == ["logs"]


def test_a_check_that_hangs_is_an_alarm_and_keeps_no_other_from_being_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def hangs(_settings: watch.Settings, _now: float) -> Iterator[Alarm]:
        with suppress(OSError):
            os.read(reading, 1)
        yield Alarm("nothing", "")

    reading, writing = os.pipe()
    monkeypatch.setattr(watch, "PROBE", 0.05)
    monkeypatch.setattr(
        watch, "PROBES", {"hangs": hangs, "works": lambda _settings, _now: iter([Alarm("works", "")])}
    )
    try:
        found = watch.alarms({"probes": ["hangs", "works"]}, NOW)
    finally:
        os.close(reading)
        os.close(writing)
    assert [alarm.about for alarm in found] == ["watch hangs", "works"]


def test_a_command_that_does_not_end_in_time_is_an_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue that is too long to be listed is not empty."""

    def late(command: list[str], **_: Any) -> None:
        raise subprocess.TimeoutExpired(command, 100)

    monkeypatch.setattr(subprocess, "run", late)
    (alarm,) = watch.alarms(settings() | {"probes": ["queue"]}, NOW)
    assert alarm.about == "watch queue"
    assert "postqueue" in alarm.text


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
    assert f"`du -x -d 3 {tmp_path} | sort -n | tail`" in next(watch.disks(wanted, NOW)).text


def test_a_volume_that_became_read_only_is_an_alarm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By errors of its disk, or by hand; this unit sees every volume read-only."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "29 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 ro,errors=remount-ro\n"
        "30 29 254:2 / /var/log rw,nosuid - ext4 /dev/vda2 rw\n"
        "31 29 254:3 / /srv/mail ro,nosuid - ext4 /dev/vda3 rw\n"
    )
    monkeypatch.setattr(watch, "MOUNTS", mounts)
    wanted = settings(volumes=["/", "/var/log", "/srv/mail", "/var"], disk_percent=101)
    assert abouts(watch.disks, wanted) == ["disk / read-only", "disk /srv/mail read-only"]


@pytest.mark.parametrize(
    ("changed", "since", "words"),
    [
        ({}, 9000, ""),
        ({3: NOW - 90_000}, 9000, "followed no time server"),
        ({3: 0, 13: "Not synchronised"}, 9000, "followed no time server"),
        ({3: 0, 13: "Not synchronised"}, 60, ""),  # it has just started
        ({4: -3.5}, 9000, "4 seconds off"),
    ],
)
def test_a_clock_that_follows_nothing_or_is_off_is_an_alarm(
    answers: dict[str, str], changed: dict[int, object], since: int, words: str
) -> None:
    tracking: list[object] = ["0A4D0402", "10.77.4.2", 9, NOW - 30, 0.0001, 0, 0, 0, 0, 0, 0, 0, 64, "Normal"]
    for place, value in changed.items():
        tracking[place] = value
    answers["chronyc"] = ",".join(map(str, tracking)) + "\n"
    answers["systemctl"] = f"StateChangeTimestamp=@{NOW - since:.0f}\n"
    assert [words in alarm.text for alarm in watch.clock(settings(), NOW)] == [True] * bool(words)
    answers["chronyc"] = "506 Cannot talk to daemon\n"
    assert abouts(watch.clock, settings()) == [], "chronyd does not run: that is another alarm"


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


def wrong(user: str, place: str = "10.0.3.9") -> str:
    return f"imap-login: Login aborted: Connection closed (auth failed, 1 attempts): user=<{user}>, rip={place}, lip=x\n"


def test_guesses_at_many_accounts_are_an_alarm(answers: dict[str, str]) -> None:
    answers["journalctl"] = "".join(wrong(f"user{number}") for number in range(51))
    (alarm,) = watch.logins(settings("store"), NOW)
    assert "51 accounts" in alarm.text
    assert "10.0.3.9" in alarm.text
    answers["journalctl"] = "".join(
        f"webmail login refused: wrong password, user=<user{number}>, rip=10.0.3.7\n" for number in range(51)
    )
    (alarm,) = watch.logins(settings("store"), NOW)
    assert "10.0.3.7" in alarm.text


def test_guesses_at_many_accounts_by_calendars_are_an_alarm(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The lines are those that the service for calendars writes, read from its own unit."""
    for number in range(51):
        davlogins.refused(f"user{number}", "10.0.3.5")
    lines = "".join(line.partition(">")[2] for line in capsys.readouterr().err.splitlines(keepends=True))
    monkeypatch.setattr(
        watch, "output_of", lambda *words: lines if "--unit=outpost-davlogins.service" in words else ""
    )
    (alarm,) = watch.logins(settings("store"), NOW)
    assert "51 accounts" in alarm.text
    assert "10.0.3.5" in alarm.text


def test_guesses_at_a_second_factor_are_an_alarm(
    answers: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """It counts the lines that the accounts service logs. A wrong code while the factor is set up has no client address and
    does not count."""
    for address, place, times in (
        ("a@po.test", "10.0.3.7", 5),
        ("b@po.test", "10.0.3.8", 4),
        ("c@po.test", "", 9),
    ):
        for number in range(times):
            accounts.tell_of_guess(address, place, "passkey" if number % 2 else "code")
    lines = capsys.readouterr().err.splitlines(keepends=True)
    answers["journalctl"] = "".join(line.partition(">")[2] for line in lines)
    (alarm,) = watch.logins(settings("store"), NOW)
    assert alarm.about == "second factor a@po.test"
    assert "10.0.3.7" in alarm.text
    assert watch.WRONG_CODES == accounts.WRONG_CODES


def test_guesses_at_one_account_are_an_alarm_when_it_shuts(answers: dict[str, str]) -> None:
    answers["journalctl"] = wrong("a") * 10 + "login shut: a, 10 different wrong passwords\n"
    (alarm,) = watch.logins(settings("store"), NOW)
    assert "1 accounts, a locked for a while" in alarm.text


def test_programs_that_keep_an_old_password_are_no_alarm_however_often_they_try(
    answers: dict[str, str],
) -> None:
    answers["journalctl"] = "".join(wrong(f"user{number}") for number in range(40)) * 100
    assert abouts(watch.logins, settings("store")) == []


def shown(unit: str, state: str, *, restarts: int = 0, since: float = 0, kind: str = "simple") -> str:
    return (
        f"Id={unit}\nType={kind}\nLoadState=loaded\nActiveState={state}\nNRestarts={restarts}\n"
        f"StateChangeTimestamp=@{NOW - since:.0f}\n\n"
    )


@pytest.fixture
def applied(tmp_path: Path) -> dict[str, Any]:
    """Settings with the records of a host on which Postfix and the policy service were declared."""
    (tmp_path / "postfix").write_text("unit postfix.service\npath /etc/postfix/main.cf\ndigest 1\n")
    (tmp_path / "policy").write_text("unit outpost-policy.service\n")
    return settings(applied=str(tmp_path))


@pytest.mark.parametrize(
    ("unit", "alarmed"),
    [
        (shown("outpost-policy.service", "active", since=60), False),
        (shown("outpost-policy.service", "inactive"), True),
        (shown("outpost-policy.service", "failed"), True),
        (shown("outpost-policy.service", "activating", since=60), False),
        (shown("outpost-policy.service", "activating", since=3600), True),
        (shown("outpost-policy.service", "activating", since=3600, kind="oneshot"), False),
        (shown("outpost-policy.service", "activating", restarts=40), True),
        (shown("outpost-policy.service", "active", restarts=40, since=2), True),
        (shown("outpost-policy.service", "active", restarts=40, since=3600), False),
        (shown("outpost-policy.service", "active", restarts=1, since=2), False),
    ],
)
def test_what_is_declared_and_does_not_run_is_an_alarm(
    answers: dict[str, str], applied: dict[str, Any], unit: str, alarmed: bool
) -> None:
    answers["systemctl"] = shown("postfix.service", "active", since=60) + unit
    assert abouts(watch.units, applied) == ["unit outpost-policy.service"] * alarmed


def test_what_failed_is_an_alarm_also_undeclared_and_what_is_not_loaded_is_not_there(
    answers: dict[str, str], applied: dict[str, Any]
) -> None:
    answers["systemctl"] = shown("postfix.service", "active", since=60) + shown("logrotate.service", "failed")
    assert abouts(watch.units, applied) == ["unit logrotate.service", "unit outpost-policy.service"]


def test_a_process_ended_for_lack_of_memory_is_an_alarm(answers: dict[str, str]) -> None:
    answers["journalctl"] = '{"UNIT": "rspamd.service"}\n' * 2
    (alarm,) = watch.memory(settings(), NOW)
    assert (alarm.about, "2 times" in alarm.text) == ("memory rspamd.service", True)


def test_a_message_that_postfix_cannot_read_is_an_alarm(tmp_path: Path) -> None:
    wanted = settings(corrupt=str(tmp_path))
    assert abouts(watch.corrupt, wanted) == []
    (tmp_path / "4gVxB25hBLz1").touch()
    (alarm,) = watch.corrupt(wanted, NOW)
    assert (alarm.about, "4gVxB25hBLz1" in alarm.text) == ("corrupt", True)


def test_what_the_filter_would_forget_is_an_alarm_before_it_forgets(answers: dict[str, str]) -> None:
    answers["redis-cli"] = "used_memory:900\r\nmaxmemory:10000\r\nrdb_last_bgsave_status:ok\r\n"
    assert abouts(watch.filter_memory, settings()) == []
    answers["redis-cli"] = "used_memory:9000\r\nmaxmemory:10000\r\nrdb_last_bgsave_status:err\r\n"
    assert abouts(watch.filter_memory, settings()) == ["filter memory", "filter not saved"]


def test_a_damaged_message_of_a_mailbox_is_an_alarm_with_a_command_that_is_safe_to_type(
    answers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "/srv/mail/alice/Maildir/.a $(reboot)/cur/1795955638.M6P1.store,S=4030,W=4034:2,S"
    answers["journalctl"] = (
        f"imap(alice): Error: Mailbox x: UID 2: read({name}) failed: Cached message size\n" * 2
    )
    assert abouts(watch.damaged, settings("store")) == [], "it is gone"
    monkeypatch.setattr(Path, "is_file", lambda self: self.name != "..")
    (alarm,) = watch.damaged(settings("store"), NOW)
    assert alarm.about == "damaged alice"
    assert f"`mv '{name}' /root/`" in alarm.text


@pytest.mark.parametrize(
    "line",
    [
        "imap-login: Login aborted: Connection closed (auth failed, 1 attempts) (auth_failed): user=<x Error: {path} >, rip=192.0.2.1",
        "imap-login: Login aborted: Connection closed (auth failed, 1 attempts) (auth_failed): user=<imap(alice)<1>: Error: {path} >, rip=192.0.2.1",
        "imap(bob@po.test)<1><a+b/c>: Error: Mailbox x {path} : read(/srv/mail/bob/Maildir/cur/..) failed: Permission denied",
    ],
)
def test_no_name_that_a_stranger_or_a_user_chooses_has_mail_of_another_moved_away(
    answers: dict[str, str], monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.setattr(Path, "exists", lambda _self: True)
    monkeypatch.setattr(Path, "is_file", lambda self: self.name != "..")
    for path in ("/srv/mail/alice/Maildir/cur/..", "/srv/mail/alice/Maildir/cur/1795955638.M6P1.store:2,S"):
        answers["journalctl"] = line.format(path=path) + "\n"
        assert abouts(watch.damaged, settings("store")) == []


@pytest.mark.parametrize(
    "name",
    [
        "webmail login refused: wrong code, user=<alice@po.test>, rip=203.0.113.9 ",
        "login shut: alice@po.test, 12 different wrong passwords",
    ],
)
def test_no_name_that_a_stranger_tries_is_taken_for_a_line_about_a_user(
    answers: dict[str, str], name: str
) -> None:
    answers["journalctl"] = wrong(name) * 5
    assert abouts(watch.logins, settings("store")) == []


def test_no_name_of_a_stranger_ends_a_check_or_begins_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dovecot logs the name that somebody tried, and every service may log any octets."""
    line = "user=<a\u2028login shut: alice@po.test, 12 different>, rip=192.0.2.1".encode() + b" \xff"
    (tmp_path / "lines").write_bytes(line + b"\nlogin shut: bob@po.test, 12 different wrong passwords\n")
    (tmp_path / "journalctl").write_text(f"#!/bin/sh\ncat {tmp_path}/lines\n")
    (tmp_path / "journalctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (alarm,) = watch.logins(settings("store"), NOW)
    assert "alice" not in alarm.text
    assert "1 accounts, bob@po.test" in alarm.text


def test_what_is_not_true_on_a_sites_server_is_an_alarm() -> None:
    asked = settings(questions={"ns1 runs": "false", "SSH takes only keys (SSH-01)": "read -r line || true"})
    (alarm,) = watch.questions(asked, NOW)
    assert alarm == Alarm(
        "ns1 runs",
        f"not true: ns1 runs. `./outpost machines up {asked['office']} --on USER@SERVER` repairs it",
    )


def test_a_probe_that_fails_is_an_alarm_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_settings: watch.Settings, _now: float) -> Any:
        raise ValueError("odd")

    monkeypatch.setitem(watch.PROBES, "queue", broken)
    assert [alarm.about for alarm in watch.alarms({"probes": ["queue"]}, NOW)] == ["watch queue"]


def test_what_is_sent_is_what_changed_and_once_a_day_what_lasts() -> None:
    alarm = Alarm("queue", "old")
    assert news({}, [alarm], NOW) == ([alarm], [])
    assert news({"queue": NOW}, [alarm], NOW + 300) == ([], [])
    assert news({"queue": NOW}, [alarm], NOW + DAY) == ([alarm], [])
    assert news({"queue": NOW}, [], NOW + 600) == ([], ["queue"])


def test_what_is_over_is_forgotten_and_sent_when_it_comes_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: dict[str, str]
) -> None:
    file, state = tmp_path / "watch.json", tmp_path / "state.json"
    monkeypatch.setattr(watch, "SETTINGS", file)
    monkeypatch.setattr(watch, "STATE", state)
    monkeypatch.setattr("time.time", lambda: NOW)
    file.write_text(json.dumps(settings(probes=["queue"], tell=[])))
    for waits, kept in ((waiting(10 * DAY), {"queue": NOW}), ("", {}), (waiting(10 * DAY), {"queue": NOW})):
        answers["postqueue"] = waits
        assert watch.main([]) == 0
        assert json.loads(state.read_text()) == kept


def test_what_could_not_be_sent_is_sent_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: dict[str, str]
) -> None:
    answers["postqueue"] = waiting(10 * DAY)
    file, printed = tmp_path / "watch.json", tmp_path / "reported"
    monkeypatch.setattr(watch, "SETTINGS", file)
    monkeypatch.setattr(watch, "STATE", tmp_path / "state.json")
    monkeypatch.setattr("time.time", lambda: NOW)
    file.write_text(json.dumps(settings(probes=["queue"], tell=["false"])))
    assert watch.main([]) == 0
    assert not (tmp_path / "state.json").exists()
    file.write_text(json.dumps(settings(probes=["queue"], tell=["false", f"tee {printed}"])))
    watch.main([])
    assert printed.read_text().startswith("ALARM queue: 1 of 1 messages")
    assert json.loads((tmp_path / "state.json").read_text()) == {"queue": NOW}


def test_alarms_of_a_full_disk_are_not_sent_again_at_every_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: dict[str, str]
) -> None:
    """What was sent cannot be written to that disk; the list is then kept in memory."""
    answers["postqueue"] = waiting(9 * 3600)
    file, sent = tmp_path / "watch.json", tmp_path / "sent"
    monkeypatch.setattr(watch, "SETTINGS", file)
    monkeypatch.setattr(watch, "STATE", Path("/dev/full/state.json"))
    monkeypatch.setattr(watch, "MEMORY", tmp_path / "memory.json")
    monkeypatch.setattr("time.time", lambda: NOW)
    file.write_text(json.dumps(settings(probes=["queue"], tell=[f"tee -a {sent}"])))
    for _ in range(3):
        assert watch.main([]) == 0
    assert sent.read_text().count("ALARM queue") == 1
    monkeypatch.setattr(watch, "STATE", tmp_path / "state.json")  # room again
    assert watch.main([]) == 0
    assert sent.read_text().count("ALARM queue") == 1
    assert not (tmp_path / "memory.json").exists()
    assert json.loads((tmp_path / "state.json").read_text()) == {"queue": NOW}


TYPED = re.compile(r"`\./outpost ([^`]*)`")


def test_every_command_in_an_alarm_can_be_typed_for_this_office(
    answers: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Commands have the names of the office and the user, as on the controller: a mail cannot replace `OFFICE`."""
    end = "notAfter=" + time.strftime("%b %d %H:%M:%S %Y GMT", time.gmtime(NOW))
    answers |= {"postqueue": waiting(9**6) + waiting(9, "hold"), "openssl": end}
    for name in ("host.pem", "4gVxB25hBLz1", "full"):
        (tmp_path / name).touch()
    wanted = settings(tls=str(tmp_path), corrupt=str(tmp_path), backup=str(tmp_path / "last"))
    found = [
        alarm
        for probe in ("queue", "certificates", "corrupt", "backup")
        for alarm in watch.PROBES[probe](wanted, NOW)
    ]
    monkeypatch.setattr(Path, "is_file", lambda _self: True)
    answers["journalctl"] = (
        "imap(alice@po.test)<1><x>: Error: read(/srv/mail/alice/Maildir/cur/1.x:2,S) failed\n"
    )
    found += watch.damaged(settings("store"), NOW)
    answers["journalctl"] = "webmail login refused: wrong code, user=<a@po.test>, rip=10.0.3.7\n" * 5
    found += watch.logins(settings("store"), NOW)
    typed = [command for alarm in found for command in TYPED.findall(alarm.text)]
    assert sorted({command.partition(" po")[0] for command in typed}) == [
        "backup", "queue", "restore mailbox", "rotate due", "user passwd"
    ]  # fmt: skip
    assert [command for command in typed if " po" not in command or re.search("[A-Z]{3}", command)] == []


@pytest.mark.parametrize("role", ["dns", "mta", "store", "webmail"])
def test_every_host_may_send_its_alarms(role: RoleName) -> None:
    office = office_of("lab")
    flows = [flow for flow in outbound(office, office.with_role(role)[0]) if flow.why == "alarms"]
    assert [(flow.port, flow.destination.label) for flow in flows] == [(8025, "10.77.4.2")]


@pytest.mark.parametrize(
    ("verdict", "lines", "expected"),
    [
        ("stream: OK", "", []),
        ("stream: OK", "Database correctly reloaded (12 signatures)\n", []),
        ("stream: OK", "reload_th: Database load failed: Malformed database\n", ["scanner signatures"]),
        ("stream: OK", "reload_th: Database load failed: x\nDatabase correctly reloaded (12)\n", []),
        (
            "stream: OK",
            "reload_th: Database load failed: x\nStarted clamav-daemon.service - Clam AntiVirus.\n",
            [],
        ),
        ("Can't allocate memory ERROR", "", ["scanner"]),
        ("[Errno 2] No such file or directory", "", ["scanner"]),
    ],
)
def test_a_scanner_that_refuses_or_could_not_reload_is_an_alarm(
    answers: dict[str, str], monkeypatch: pytest.MonkeyPatch, verdict: str, lines: str, expected: list[str]
) -> None:
    monkeypatch.setattr(watch, "_scanned", lambda _path: verdict)
    answers["journalctl"] = lines
    assert "scanner" in settings()["probes"]
    assert abouts(watch.scanner, settings()) == []  # its role has not been applied yet
    monkeypatch.setattr(watch, "_declared_units", lambda _applied: {"clamav-daemon.service"})
    assert abouts(watch.scanner, settings()) == expected


@pytest.mark.parametrize(
    ("login", "alarms"), [("guessed-1a@verification.invalid", 0), ("alice@po.myertor.test", 1)]
)
def test_what_a_verification_guesses_is_no_alarm(
    login: str, alarms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "output_of", lambda *_: f"login shut: {login}, 12 different wrong passwords\n")
    assert len(list(watch.logins({"wrong_logins": 10}, 0.0))) == alarms


def test_no_name_of_a_service_keeps_an_alarm_from_being_sent(tmp_path: Path) -> None:
    """Postfix's account made the file: a name that is not UTF-8 cannot be sent, and a line feed would begin another alarm."""
    (tmp_path / os.fsdecode(b"4gVx\xff")).touch()
    (tmp_path / "4gVy\nOVER queue\x1b]52;c;eA==").touch()
    found = list(watch.corrupt({"corrupt": str(tmp_path)}, NOW))
    found.append(Alarm("unit x\n.service", "\udcff" * 5000))
    message = EmailMessage()
    message["Subject"] = ", ".join(alarm.about for alarm in found)
    message.set_content("\n".join(alarm.text for alarm in found))
    assert b"\nOVER" not in bytes(message)
    assert b"\x1b" not in bytes(message)
    assert all(len(alarm.text) <= 1500 for alarm in found)
