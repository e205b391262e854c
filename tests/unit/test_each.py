"""Many offices, a limited number at a time: the line for each, and the overall result."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from outpost import __main__ as entry
from outpost.cli import app as cli

CLEAN = {"clean": True, "hosts": {"mta": {"changes": [], "failed": None}}}
DIFFERENT = {"clean": False, "hosts": {"mta": {"changes": [{"operation": "main.cf"}], "failed": None}}}
UNREACHED = {"clean": False, "hosts": {"mta": {"changes": [], "failed": "no route to host"}}}
PROVEN = {"proven": True, "passed": 7, "failed": 0}

Results = dict[str, tuple[int, object]]


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Results:
    """Office → exit status and output of our command. It records how many run at the same time."""
    (tmp_path / "running").mkdir()
    (tmp_path / "begun").mkdir()
    program = tmp_path / "python"
    program.write_text(
        f"""#!/bin/sh
        cd {tmp_path}
        echo "$*" >>asked
        touch "running/$4" "begun/$4"
        ls running | wc -l >>counts
        until [ "$(ls begun | wc -l)" -ge "$(cat together)" ]; do sleep 0.05; done
        rm "running/$4"
        cat "answer-$4"
        echo "the last line of $4" >&2
        exit "$(cat "code-$4")"
        """
    )
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "together").write_text("1")

    class Answers(Results):
        def __setitem__(self, office: str, answer: tuple[int, object]) -> None:
            (tmp_path / f"code-{office}").write_text(str(answer[0]))
            (tmp_path / f"answer-{office}").write_text(json.dumps(answer[1]) if answer[1] else "")

    return Answers()


def test_each_office_is_reported_in_a_line(results: Results, capsys: pytest.CaptureFixture[str]) -> None:
    results["po"], results["ro"], results["so"], results["to"] = (
        (0, CLEAN),
        (2, DIFFERENT),
        (1, UNREACHED),
        (1, None),
    )
    assert cli.run(["each", "plan", "po", "ro", "so", "to"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.rpartition(" (")[0] for line in lines[:4]) == [
        "po: as declared",
        "ro: 1 change on mta",
        "so: mta: no route to host",
        "to: the last line of to",
    ]
    assert lines[4].startswith("4 offices, 2 failed, 1 with changes to make (")


@pytest.mark.parametrize(
    ("codes", "worst"), [((0, 0), 0), ((0, 2), 2), ((1, 2), 1), ((2, 64, 0), 64), ((1, 130, 2), 130)]
)
def test_the_exit_code_is_the_worst(results: Results, codes: tuple[int, ...], worst: int) -> None:
    for number, code in enumerate(codes):
        results[f"o{number}"] = (code, CLEAN)
    assert entry.main(["each", "plan", *(f"o{number}" for number in range(len(codes)))]) == worst


def test_so_many_run_at_a_time_and_no_more(results: Results, tmp_path: Path) -> None:
    offices = [f"o{number}" for number in range(9)]
    for office in offices:
        results[office] = (0, CLEAN)
    (tmp_path / "together").write_text("3")  # nobody ends before three have begun
    assert cli.run(["each", "apply", *offices, "-y", "--jobs", "3"]) == 0
    assert max(int(count) for count in (tmp_path / "counts").read_text().split()) == 3
    commands = sorted((tmp_path / "asked").read_text().splitlines())
    assert commands == [f"-m outpost apply {office} --json -y" for office in offices]


def test_json_holds_the_result_of_each_office(results: Results, capsys: pytest.CaptureFixture[str]) -> None:
    results["po"], results["ro"] = (0, PROVEN), (1, None)
    assert cli.run(["each", "verify", "po", "ro", "--json"]) == 1
    captured = capsys.readouterr()
    printed = json.loads(captured.out)
    assert (printed["po"]["exit"], printed["po"]["result"]) == (0, PROVEN)
    assert (printed["ro"]["exit"], printed["ro"]["result"], printed["ro"]["said"]) == (
        1,
        None,
        "the last line of ro",
    )
    assert "po: 7 passed, 0 failed" in captured.err


def test_other_commands_are_one_office_at_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["each", "decommission", "po"]) == 1
    assert "plan, apply, verify" in capsys.readouterr().err
