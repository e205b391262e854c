"""The attack runner without a lab: what counts as a breach, which offices it refuses to attack, what its messages contain."""

from __future__ import annotations

import asyncio
import io
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from outpost.cli import attack as command
from outpost.cli import console
from outpost.cli.options import At
from outpost.converge.declaration import declaration
from outpost.errors import OutpostError
from outpost.evidence import reference
from outpost.evidence.controls import catalogue
from outpost.keys import secrets_file
from outpost.office import load
from outpost.target import ROOT, Target
from outpost.transport import answers
from outpost_lab import pace
from outpost_lab.attack import catalogue as catalogue_of
from outpost_lab.attack import content, runner, tricks
from outpost_lab.attack.catalogue import attacks, words
from outpost_lab.attack.evidence import Evidence
from outpost_lab.attack.ground import Ground
from outpost_lab.attack.probe import Window, percentile
from outpost_lab.attack.weakness import RESTORES, SAVED, Weakness, switches
from outpost_lab.attack.wire import CLOSED, SILENT, Reply

LIVE = Target("harbour", Path("inventory/harbour"), Path("inventory/harbour"))
TODAY = datetime.now(tz=UTC).date()


@pytest.mark.parametrize("script", ["cat /dev/zero", "cat /dev/zero >&2"])
def test_what_a_machine_of_the_lab_says_is_bounded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str
) -> None:
    docker = tmp_path / "docker"
    docker.write_text('#!/bin/sh\nshift 2\nexec "$@"\n')
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(answers, "MOST", 1024**2)
    ground = Ground(*cast(Any, [None] * 6))
    ground.info = {"hosts": {"mta": {"container": "mta"}}, "world": {}}
    assert asyncio.run(ground.on("mta", "head -c 1000000 /dev/zero")) == "\0" * 1_000_000
    with pytest.raises(OutpostError, match="mta answered more than 1 MiB"):
        asyncio.run(ground.on("mta", f"exec {script}"))


def test_an_attack_without_findings_is_not_withstood() -> None:
    assert not Evidence().defended


def test_one_broken_expectation_is_a_breach_and_named_first() -> None:
    seen = Evidence()
    seen.expect(Reply(554, "554 5.7.1 Relay access denied"), "554 5.7.1")
    held = seen.defended
    seen.expect(Reply(250, "250 2.1.5 Ok"), "554 5.7.1")
    assert (held, seen.defended) == (True, False)
    assert seen.observed == "250 2.1.5 Ok"


def test_a_refusal_of_another_kind_is_neither_withstood_nor_a_success() -> None:
    seen = Evidence()
    seen.expect(Reply(451, "451 4.7.1 Service unavailable"), "554 5.7.1")
    assert (seen.defended, seen.succeeded) == (False, False)
    seen.expect(Reply(250, "250 2.0.0 Ok"), "554 5.7.1")
    assert seen.succeeded


def test_one_reply_of_many_that_accepts_is_a_success_and_each_other_refusal_is_none() -> None:
    seen = Evidence()
    refused = ("one", Reply(451, "451 4.7.1 Service unavailable"))
    assert not seen.expect_all([refused, ("two", Reply(554, "554 5.7.1 denied"))], "554 5.7.1")
    assert (seen.defended, seen.succeeded, seen.observed) == (
        False,
        False,
        "one: 451 4.7.1 Service unavailable",
    )
    seen.expect_all([refused, ("three", Reply(250, "250 2.1.5 Ok"))], "554 5.7.1")
    assert seen.succeeded


def test_no_reply_is_no_refusal() -> None:
    seen = Evidence()
    assert not seen.expect(Reply(-1, "no answer"), "5", "closed")
    assert seen.expect(Reply(CLOSED, "closed"), "5", "closed")
    assert not seen.expect_all([], "550")


def test_bounds_are_broken_by_slow_greetings_dead_daemons_and_a_queue_that_stays() -> None:
    window = Window(queue_before=1, queue_after=1)
    window.samples["submission"] = [0.1] * 10
    assert window.broken() == []
    window.samples["submission"] = [0.1] * 10 + [3.0] * 2
    window.queue_after = 9
    window.deaths = ["mta: smtpd killed by signal 11"]
    window.restarts = ["mta: rspamd.service"]
    assert len(window.broken()) == 4
    window.refused = ["451 4.3.0 not now"]
    assert len(window.broken()) == 5
    window.outage = True
    assert len(window.broken()) == 4


def test_a_slow_greeting_is_judged_by_its_idle_value_and_the_load() -> None:
    """A greeting of 2.1 s where 2.0 are promised, at a load of 3.5 processes on each of two processors."""
    window = Window(idle={"peer": 0.1})
    window.samples["peer"] = [2.1] * 10
    window.loads = [1.0] * 10
    assert "load 1.0" in window.broken()[0]
    window.loads = [2.0] * 10
    assert window.broken() == []
    window.loads, window.samples["peer"] = [pace.BUSY + 0.5] * 10, [60.0] * 10
    assert window.broken() == []  # noted
    assert window.slow()
    window.unanswered = ["peer's greeting: 421 4.3.2 too busy"]  # no matter of time
    assert len(window.broken()) == 1


@pytest.mark.parametrize(("running", "verdict"), [("1/99", "BREACHED"), ("40/99", "not judged")])
def test_time_alone_breaches_nothing_on_a_busy_machine(
    running: str, verdict: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "loadavg").write_text(f"0.10 0.10 0.10 {running} 1\n")
    monkeypatch.setattr(pace, "LOADAVG", tmp_path / "loadavg")
    monkeypatch.setattr(os, "cpu_count", lambda: 2)

    async def slow(_ground: object, seen: Evidence) -> None:
        seen.in_time(600.0, 10, 0.1, "greeted after")
        seen.expect(Reply(SILENT, "no answer"), "220")

    async def wrong(_ground: object, seen: Evidence) -> None:
        await slow(_ground, seen)
        seen.expect(Reply(250, "250 2.1.5 Ok"), "554 5.7.1")

    plan = next(iter(catalogue().attacks.values()))
    for work, wanted in ((slow, verdict), (wrong, "BREACHED")):
        done = asyncio.run(runner._one(cast(Ground, None), plan, work))
        assert done.verdict == wanted, done


def test_patience_grows_with_the_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "loadavg").write_text("9.00 1.00 1.00 1/99 1\n")
    monkeypatch.setattr(pace, "LOADAVG", tmp_path / "loadavg")
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    wait = pace.Patience(100)
    assert 299 < wait.left <= 300
    (tmp_path / "loadavg").write_text("0.10 1.00 1.00 1/99 1\n")
    assert 199 < wait.left <= 200  # the mean of the loads during the wait
    monkeypatch.setattr(pace, "LOADAVG", tmp_path / "none")
    assert pace.load() == 1.0


def test_what_a_weakness_kept_stays_until_it_is_back(tmp_path: Path) -> None:
    kept, saved = tmp_path / "main.cf", tmp_path / "saved"
    kept.write_text("strict\n")
    switch = Weakness(role="mta", what="it", keeps=(str(kept),), steps="true", activate="true")

    def run(script: str) -> int:
        return subprocess.run(["sh", "-c", script.replace(SAVED, str(saved))], check=False).returncode

    assert run(switch.saves) == 0
    kept.write_text("lax\n")
    archive = (saved / "kept.tar").read_bytes()
    (saved / "kept.tar").write_bytes(b"")
    assert run(RESTORES) != 0
    (saved / "kept.tar").write_bytes(archive)
    assert run(RESTORES) == 0
    assert (kept.read_text(), saved.exists()) == ("strict\n", False)


def test_every_switch_is_an_attacks() -> None:
    assert sorted(set(switches()) - set(attacks())) == []


def test_every_switch_of_a_file_changes_what_the_office_declares(tmp_path: Path) -> None:
    """Otherwise the attack is tried against a defence that is still on."""
    shutil.copy(ROOT / "inventory" / "harbour" / "office.toml", tmp_path)
    office = load(tmp_path)
    secrets = secrets_file.complete(office, None).secrets
    hosts = {host.role: declaration(office, secrets, host.name) for host in office.hosts}
    tables = tomllib.loads((ROOT / "src" / "outpost_lab" / "attack" / "switches.toml").read_text())
    edits = {attack: entry for attack, entry in tables.items() if "file" in entry}
    assert len(edits) > 10
    for attack, entry in edits.items():
        before = hosts[entry.get("role", "mta")].content[entry["file"]].content
        done = subprocess.run(["sed", "-E", entry["by"]], input=before, capture_output=True, check=True)
        assert done.stdout != before, attack


def test_words_of_attacks_name_only_what_the_office_has() -> None:
    ground = Ground(reference.case_study(), *cast(Any, [None] * 5))
    known = ground.words | dict.fromkeys(("reader", "victim", "webmail", "n", "someone"), "x")

    def texts(value: object) -> Iterator[str]:
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict | list):
            for each in value.values() if isinstance(value, dict) else value:
                yield from texts(each)

    dialogues = tomllib.loads((Path(catalogue_of.__path__[0]) / "dialogues.toml").read_text())
    lines = [*texts(words()), *texts(dialogues)]
    assert len([text for text in lines if text.format(**known) != text]) > 100


def test_percentiles() -> None:
    assert percentile([3, 1, 2], 0.5) == 2
    assert percentile([1] * 99 + [50], 0.95) == 1
    assert math.isnan(percentile([], 0.5))


def test_an_office_is_attacked_only_with_its_dated_consent(monkeypatch: pytest.MonkeyPatch) -> None:
    office = reference.case_study()

    def consenting(until: date | None) -> None:
        agreeing = office.model_copy(
            update={"attack": office.attack.model_copy(update={"consent_until": until})}
        )
        command._agreed(LIVE, agreeing, positive=False)

    with pytest.raises(OutpostError, match="has not consented"):
        consenting(None)
    with pytest.raises(OutpostError, match="its consent ended"):
        consenting(TODAY - timedelta(days=1))
    with pytest.raises(OutpostError, match="not a terminal"):
        consenting(TODAY)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(console.err, "input", lambda _prompt: "another")
    with pytest.raises(OutpostError, match="the name does not match"):
        consenting(TODAY)
    monkeypatch.setattr(console.err, "input", lambda _prompt: office.name)
    consenting(TODAY)


def test_defences_are_turned_off_in_the_lab_only() -> None:
    with pytest.raises(OutpostError, match="against a lab only"):
        command._agreed(LIVE, reference.case_study(), positive=True)


def test_attacks_are_chosen_by_id_family_control_and_fault() -> None:
    data = catalogue()
    assert [plan.id for plan in data.chosen(("2g",))] == ["2g"]
    assert {plan.family for plan in data.chosen(("A-VIR",))} == {"VIR"}
    assert "5a" in {plan.id for plan in data.chosen(("REL-01",))}
    assert "2g" in {plan.id for plan in data.chosen(("F10",))}
    with pytest.raises(KeyError):
        data.chosen(("99z",))


def test_the_list_needs_no_office_that_runs(capsys: pytest.CaptureFixture[str]) -> None:
    code = command.attack_office(
        At("lab"), [], listed=True, slow=True, positive=False, record=False, transcripts=False, as_json=True
    )
    listed = json.loads(capsys.readouterr().out)
    assert code == 0
    assert len(listed) == len(catalogue().attacks)


def test_archives_are_what_they_claim(tmp_path: Path) -> None:
    assert zipfile.ZipFile(io.BytesIO(content.zipped({"a": b"x"}))).read("a") == b"x"
    with tarfile.open(fileobj=io.BytesIO(content.tar_gz({"a": b"x"}))) as archive:
        assert archive.getnames() == ["a"]
    locked = zipfile.ZipFile(io.BytesIO(content.encrypted_zip("a", b"x")))
    assert locked.getinfo("a").flag_bits & 1
    deep = content.nested(25, b"core")
    for _ in range(25):
        level = zipfile.ZipFile(io.BytesIO(deep))
        deep = level.read(level.namelist()[0])
    assert deep == b"core"
    rar = tmp_path / "a.rar"
    rar.write_bytes(content.rar("readme.txt", b"a drawing"))
    kind = subprocess.run(["file", "--brief", str(rar)], capture_output=True, text=True, check=False).stdout
    assert not kind or "RAR archive" in kind


def test_a_bomb_is_small_until_it_is_opened() -> None:
    bomb = content.bomb(2, 2**20)
    assert len(bomb) < 10_000
    assert sum(entry.file_size for entry in zipfile.ZipFile(io.BytesIO(bomb)).infolist()) == 2 * 2**20


def test_no_scanner_finds_its_test_pattern_in_the_checkout() -> None:
    source = Path(content.__file__).read_bytes()
    assert content.eicar() not in source
    assert len(content.eicar()) == 68
    assert content.gtube() not in source


def test_a_message_of_the_catalogue_has_whole_line_ends() -> None:
    """The MTA refuses a message with a bare LF, whatever it contains: the attack would prove nothing."""
    rows = tomllib.loads(Path(tricks.__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    written = [
        text
        for table in rows.values()
        for row in table.values()
        if isinstance(row, dict)
        for key, text in row.items()
        if key in ("whole", "part")
    ]
    assert len(written) > 10
    assert [text for text in written if re.search(r"(?<!\r)\n", text)] == []
