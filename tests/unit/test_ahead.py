"""Questions of the last verification are asked in advance at the next one: each once, and none that changes something."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from outpost.verification import ahead

pytest_plugins = ["pytester"]

PREAMBLE = """
import os
import pytest
from types import SimpleNamespace
from outpost.verification import ahead
from outpost.transport.shell import Shell

def pytest_addoption(parser):
    parser.addoption("--via", default=None)
    parser.addoption("--host", action="append", default=[])

def pytest_configure(config):
    for mark in ("looks", "live"):
        config.addinivalue_line("markers", mark)

def pytest_generate_tests(metafunc):
    if "me" in metafunc.fixturenames:
        metafunc.parametrize("me", [SimpleNamespace(name="a"), SimpleNamespace(name="b")], ids=["a", "b"])

@pytest.fixture
def ask(me, pytestconfig):
    shell = Shell(["sh", "-s"])
    carry_out = ahead.carried_out_by(pytestconfig, me.name, shell)
    yield lambda command, live=False: carry_out(command, live)[1].decode().strip()
    shell.close()

ahead.chosen_target = lambda _: SimpleNamespace(data=None)
ahead.chosen_office = lambda _: SimpleNamespace(host=lambda name: name)
ahead.shell_command = lambda *_: [os.environ.get("FAR_SHELL", "sh"), "-s"]
"""

Run = Callable[..., pytest.RunResult]


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A session of checks of two hosts, which are this machine's shell."""
    for name in ("chosen_target", "chosen_office", "shell_command"):
        monkeypatch.setattr(ahead, name, getattr(ahead, name))  # what the preamble changes is put back
    pytester.makeconftest(PREAMBLE)

    def of(checks: str, *options: str) -> pytest.RunResult:
        pytester.makepyfile(test_checks=f"import pytest\n{checks}")
        return pytester.runpytest_inprocess(
            "-p", "outpost.verification.ahead", "--ahead=asked", "-p", "no:cacheprovider", *options
        )

    return of


def counted(log: Path) -> list[str]:
    """The commands that were run since the last call."""
    names = log.read_text(encoding="utf-8").split() if log.exists() else []
    log.unlink(missing_ok=True)
    return sorted(names)


def test_a_question_is_carried_out_once_a_run_and_the_answer_is_of_this_run(run: Run, tmp_path: Path) -> None:
    log, now = tmp_path / "log", tmp_path / "now"
    checks = (
        f"@pytest.mark.looks\ndef test_it(ask, me): assert ask('echo look >>{log}; cat {now}') == 'first'"
    )
    now.write_text("first")
    run(checks).assert_outcomes(passed=2)
    assert counted(log) == ["look"] * 2
    run(checks).assert_outcomes(passed=2)
    assert counted(log) == ["look"] * 2
    now.write_text("second")
    run(checks).assert_outcomes(failed=2)


def test_workers_get_the_answers_and_report_what_they_asked(
    pytester: pytest.Pytester, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    pytester.makeconftest(PREAMBLE)
    pytester.makepyfile(
        f"import pytest\n@pytest.mark.looks\n@pytest.mark.parametrize('n', range(4))\n"
        f"def test_it(ask, me, n): ask(f'echo {{n}} >>{log}')"
    )
    for _ in range(2):
        again = pytester.runpytest_subprocess("-p", "outpost.verification.ahead", "--ahead=asked", "-n", "2")
        again.assert_outcomes(passed=8)
        assert counted(log) == sorted("00112233")


def test_what_acts_is_never_asked_ahead(run: Run, tmp_path: Path) -> None:
    log = tmp_path / "log"
    checks = f"""
pytestmark = pytest.mark.looks
def test_a_conversation(ask, me): ask('echo conversation >>{log}', live=True)
@pytest.mark.live
def test_that_acts(ask, me): ask('echo act >>{log}')
def test_that_reads(ask, me): ask('echo look >>{log}')
"""
    run(checks)
    assert counted(log) == ["act"] * 2 + ["conversation"] * 2 + ["look"] * 2
    run(checks, "-k", "test_that_reads")
    assert counted(log) == ["look"] * 2


def test_a_check_that_asks_again_gets_a_new_answer(run: Run, tmp_path: Path) -> None:
    log = tmp_path / "log"
    checks = f"""
@pytest.mark.looks
def test_it(ask, me):
    if me.name == "a":
        ask('echo look >>{log}')
        ask('echo look >>{log}')
"""
    run(checks)
    counted(log)
    run(checks)
    assert counted(log) == ["look"] * 2


def test_what_is_not_asked_any_more_leaves_the_list(run: Run, pytester: pytest.Pytester) -> None:
    run("@pytest.mark.looks\ndef test_it(ask, me): ask('echo old')")
    run("@pytest.mark.looks\ndef test_it(ask, me): ask('echo new')")
    commands = json.loads((pytester.path / "asked").read_text())
    assert commands == {"a": ["echo new"], "b": ["echo new"]}
    assert (pytester.path / "asked").stat().st_mode & 0o77 == 0


def test_an_answer_is_there_before_the_slower_ones(run: Run, tmp_path: Path) -> None:
    go = tmp_path / "go"
    checks = f"""
pytestmark = pytest.mark.looks
def test_quick(ask, me):
    assert ask('echo here') == 'here'
def test_slow(ask, me):
    open('{go}', 'w').close()  # what it waits for
    assert ask('timeout 20 sh -c "until [ -e {go} ]; do sleep 0.05; done" && echo late') == 'late'
"""
    run(checks).assert_outcomes(passed=4)
    go.unlink()
    run(checks).assert_outcomes(passed=4)


def test_a_host_that_does_not_answer_is_asked_again_by_the_checks(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = "@pytest.mark.looks\ndef test_it(ask, me): assert ask('echo here') == 'here'"
    run(checks)
    monkeypatch.setenv("FAR_SHELL", "false")
    run(checks).assert_outcomes(passed=2)


def test_a_host_that_says_nothing_keeps_no_check_waiting(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = "@pytest.mark.looks\n@pytest.mark.parametrize('n', range(3))\ndef test_it(ask, me, n): assert ask(f'echo {n}') == str(n)"
    run(checks)
    silent = tmp_path / "silent"
    silent.write_text("#!/bin/sh\nexec timeout 60 tail -f /dev/null\n")
    silent.chmod(0o755)
    monkeypatch.setenv("FAR_SHELL", str(silent))
    assert ahead.PATIENCE <= 60  # a person waits at most a minute for a command
    monkeypatch.setattr(ahead, "PATIENCE", 0.2)
    run(checks).assert_outcomes(passed=6)
