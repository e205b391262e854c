"""`outpost upgrade` prints each host's version and what a person must do, and never goes back to an older version by itself."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from outpost import __version__
from outpost.cli import app as cli
from outpost.cli import apply as upgrade
from outpost.cli.apply import change_hosts
from outpost.cli.options import At
from outpost.engine import claim, run
from outpost.keys.rotation import aftermath
from outpost.office import Office
from outpost.office.tables.topology import Host
from outpost.target import INVENTORY, Target
from outpost.verification import history
from tests.unit.test_claim import at

CHANGELOG = """# Changelog
## [Unreleased]
- New. **Run `secrets
  init` once.** More.
## [1.1.0] - 2027-01-02
- **Change timers.**
## [1.0.0] - 2026-12-01
- **Write a file.**
"""


def test_steps_are_the_sentences_in_bold_oldest_first() -> None:
    assert list(upgrade.steps(CHANGELOG).items()) == [
        ("Write a file.", "1.0.0"),
        ("Change timers.", "1.1.0"),
        ("Run `secrets init` once.", "Unreleased"),
    ]


def test_a_step_may_name_a_command_with_a_star() -> None:
    changelog = "## [1.1]\n- New. **Run `doveadm index -A '*'`\n  once.** *Not* this, **and that**.\n"
    assert upgrade.steps(changelog) == {"Run `doveadm index -A '*'` once.": "1.1", "and that": "1.1"}


def test_steps_between_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    monkeypatch.setattr(upgrade, "ROOT", tmp_path)
    assert set(upgrade.steps_since("1.0.0", "")) == {"Change timers.", "Run `secrets init` once."}
    assert set(upgrade.steps_since("1.0.0rc1", "")) == set(upgrade.steps(CHANGELOG))
    assert upgrade.steps_since("what a host says", "") == upgrade.steps(CHANGELOG)
    assert set(upgrade.steps_since("1.1.0", "0123456789ab")) == {"Run `secrets init` once."}  # no git here


def test_steps_since_a_commit_are_those_that_its_changelog_had_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*words: str) -> None:
        who = ("-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True)

    monkeypatch.setattr(upgrade, "ROOT", tmp_path)
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG.replace("**Run `secrets\n  init` once.**", ""))
    git("init")
    git("add", ".")
    git("commit", "-m", "Before")
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    assert upgrade.steps_since("1.1.0", "HEAD") == {"Run `secrets init` once.": "Unreleased"}


@pytest.fixture
def applied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Hosts, all but one applied by a wheel of an older version; and the arguments that `apply` gets."""
    shutil.copytree(INVENTORY / "harbour", tmp_path / "harbour")
    runs: list[dict[str, Any]] = []
    record = {
        "by": "[red]maria",
        "when": "2026-11-29T12:00:00+00:00",
        "version": "0.9",
        "commit": "",
        "office_file": "0" * 64,
    }

    def answer(_target: Target, _office: Office, host: Host, _script: str, *_: object, **__: object) -> str:
        return "" if host.name == "store" else json.dumps(record)

    def apply(*_: object, **options: Any) -> int:
        runs.append(options)
        return 0

    monkeypatch.setattr(claim, "run_script", answer)
    monkeypatch.setattr(upgrade, "change_hosts", apply)
    monkeypatch.setattr(history, "commit", lambda: "")
    monkeypatch.chdir(tmp_path)
    return runs


def test_versions_and_steps_come_before_the_apply(
    applied: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["upgrade", "harbour"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^mta +0\.9 +- +2026-11-29T12:00:00\+00:00 +\[red\]maria *$", shown, re.MULTILINE)
    assert re.search(r"^store +none yet", shown, re.MULTILINE)
    assert f"This is Outpost {__version__}" in shown
    assert "To do (1.0.0rc1): Have head office search its logs by that data" in shown
    assert applied == [{"yes": False, "as_json": False, "force": False, "note_version": True}]


def test_an_older_version_does_not_go_back_by_itself(
    applied: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(claim, "__version__", "0.8")
    assert cli.run(["upgrade", "harbour"]) == 1
    stderr = capsys.readouterr().err
    assert "changed by [red]maria" in stderr
    assert "Remedy: install Outpost 0.9 or newer" in stderr
    assert applied == []
    assert cli.run(["upgrade", "harbour", "--force", "-y"]) == 0
    assert applied == [{"yes": True, "as_json": False, "force": True, "note_version": True}]


@pytest.mark.parametrize(("note", "noted"), [(True, True), (False, False)])
def test_hosts_without_a_change_note_the_new_version(
    note: bool, noted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(INVENTORY / "harbour", tmp_path / "harbour")
    monkeypatch.setattr(claim, "SCRIPT", at(claim.SCRIPT, tmp_path))
    monkeypatch.setattr(claim, "shell_command", lambda *_: ["sh", "-s"])
    monkeypatch.setattr(aftermath, "keep", lambda *_: None)
    monkeypatch.setattr(run, "plan", lambda *_, **__: run.Outcome(("mta",), (), {}, (), 1.0))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    office = str(tmp_path / "harbour")
    options = {"yes": False, "as_json": False, "force": False, "note_version": note}
    assert change_hosts(At(office), ["mta"], **options) == 0
    record = tmp_path / "lib" / "converged.json"
    assert record.exists() == noted
    assert not noted or json.loads(record.read_text())["version"] == __version__
