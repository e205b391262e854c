"""Offices in a separate repository, and the CI of such a repository (docs/examples)."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from outpost.cli.app import run
from outpost.errors import OutpostError
from outpost.target import INVENTORY, OFFICES_VARIABLE, ROOT, find, offices

EXAMPLES = ROOT / "docs" / "examples"


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with an office `po`, and the working directory beside it."""
    shutil.copytree(INVENTORY / "harbour", tmp_path / "mine" / "po")
    (tmp_path / "beside").mkdir()
    monkeypatch.chdir(tmp_path / "beside")
    monkeypatch.delenv(OFFICES_VARIABLE, raising=False)
    monkeypatch.setenv("OUTPOST_LAB_STATE", str(tmp_path / "labs"))
    return tmp_path / "mine"


def test_an_office_is_found_by_its_name_where_the_variable_says(
    mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OutpostError, match="no office po"):
        find("po")
    monkeypatch.setenv(OFFICES_VARIABLE, str(mine))
    assert (find("po").directory, find("po").typed) == (mine / "po", "po")
    assert offices() == ["lab", "po"]
    assert find("harbour").directory == INVENTORY / "harbour"  # the offices of the checkout are not changed


def test_an_office_is_found_by_the_name_in_its_file_too(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alarms of hosts use this name: a host does not know the controller's directory."""
    (mine / "po").rename(mine / "site-7")
    monkeypatch.setenv(OFFICES_VARIABLE, str(mine))
    assert find("harbour").directory == INVENTORY / "harbour", "a directory of that name comes first"
    file = mine / "site-7" / "office.toml"
    file.write_text(file.read_text().replace('name = "harbour"', 'name = "po7"'))
    (mine / "broken").mkdir()
    (mine / "broken" / "office.toml").write_bytes(b"name = \xff")
    assert (find("po7").directory, find("po7").typed) == (mine / "site-7", "site-7")
    shutil.copytree(mine / "site-7", mine / "copy")
    with pytest.raises(OutpostError, match="no office po7"):
        find("po7")  # which of the two?
    (mine.parent / "labs" / "lab").mkdir(parents=True)
    shutil.copy(INVENTORY / "lab" / "office.toml", mine.parent / "labs" / "lab")
    assert find("po").typed == "lab"


@pytest.mark.usefixtures("mine")
def test_the_option_says_it_for_one_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(OFFICES_VARIABLE, "")  # so that it is put back
    assert run(["--offices", "../mine", "check", "po"]) == 0
    assert "is sound" in capsys.readouterr().out
    assert run(["--offices", "../none", "check", "po"]) == 1
    assert "mkdir" in capsys.readouterr().err


def test_the_working_directory_is_searched_and_none_above_it(
    mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(mine)
    assert find("po").directory == mine / "po"
    (mine / "deep").mkdir()
    monkeypatch.chdir(mine / "deep")
    with pytest.raises(OutpostError, match="no office po"):
        find("po")


def test_the_lab_is_always_outposts_own(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(mine / "po", mine / "lab")
    monkeypatch.setenv(OFFICES_VARIABLE, str(mine))
    monkeypatch.setenv("OUTPOST_LAB_STATE", str(mine / "state"))
    with pytest.raises(OutpostError, match="does not run"):
        find("lab")


def jobs(example: str) -> dict[str, str]:
    """The commands of an example's jobs, without the installation."""
    read: dict[str, Any] = yaml.safe_load((EXAMPLES / example).read_text())
    if "jobs" in read:
        steps = read["jobs"]["offices"]["steps"]
        return {
            step["name"]: step["run"] for step in steps if step.get("name") in ("plan", "apply", "verify")
        }
    return {name: "\n".join(read[name]["script"]) for name in ("plan", "apply", "verify")}


@pytest.mark.parametrize("example", ["offices.gitlab-ci.yml", "offices.github-actions.yml"])
@pytest.mark.parametrize(
    ("job", "codes", "commands", "status"),
    [
        ("plan", {}, ["check po", "plan po"], 0),
        ("plan", {"plan": 2}, ["check po", "plan po"], 0),
        ("plan", {"plan": 1}, ["check po", "plan po"], 1),
        ("plan", {"check": 1}, ["check po"], 1),
        ("apply", {}, ["each apply po --yes"], 0),
        ("apply", {"each": 1}, ["each apply po --yes"], 1),
        ("verify", {}, ["each verify po"], 0),
        ("verify", {"each": 1}, ["each verify po"], 1),
    ],
)
def test_an_example_of_ci_runs_what_it_says(
    example: str, job: str, codes: dict[str, int], commands: list[str], status: int, tmp_path: Path
) -> None:
    """The job's script as the runner executes it (it ends at the first failure), with a command that records its arguments."""
    cases = "".join(f"{word}) exit {code};; " for word, code in codes.items())
    stub = tmp_path / "outpost"
    stub.write_text(
        f'#!/bin/sh\necho "$@" >>{shlex.quote(str(tmp_path / "asked"))}\ncase $1 in {cases}esac\n'
    )
    stub.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "OFFICES": "po"}
    done = subprocess.run(
        ["bash", "-e", "-c", jobs(example)[job]], env=environment, cwd=tmp_path, check=False
    )
    assert (tmp_path / "asked").read_text().splitlines() == commands
    assert done.returncode == status


@pytest.mark.parametrize("example", ["offices.gitlab-ci.yml", "offices.github-actions.yml"])
def test_an_examples_commands_exist(example: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Parsed by the command line itself: an option that is gone is wrong usage (64)."""
    assert run(["each", "apply", "po", "--no-such-option", "--help"]) == 64
    for script in jobs(example).values():
        for line in script.splitlines():
            for command in line.replace('"$office"', "po").replace("$OFFICES", "po").split(";"):
                if "outpost " in command:
                    words = shlex.split(command.split("outpost ", 1)[1].split("||")[0])
                    assert run([*words, "--help"]) == 0, command
    assert "Usage" in capsys.readouterr().out
