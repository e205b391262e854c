"""A shell that stays open answers like a new one each time, and reports its end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from outpost.errors import OutpostError
from outpost.transport.shell import Shell


@pytest.fixture
def shell() -> Iterator[Shell]:
    kept = Shell(["sh", "-s"])
    yield kept
    kept.close()


def test_status_output_and_errors_are_distinguished(shell: Shell) -> None:
    assert shell.run("echo out; echo err >&2; exit 3") == (3, b"out\n", b"err\n")


def test_a_command_leaves_nothing_behind_for_the_next(shell: Shell) -> None:
    shell.run("cd /; export LEFT=here; exit 1")
    assert shell.run('echo "${LEFT-gone}"') == (0, b"gone\n", b"")


def test_output_may_hold_anything(shell: Shell) -> None:
    status, output, _ = shell.run("printf '7 0 3 0\\n\\000\\377no newline'")
    assert (status, output) == (0, b"7 0 3 0\n\x00\xffno newline")


@pytest.mark.parametrize("text", ["it's", 'a "b" $(c) `d` \\ e', "two\nlines", "ünïcode"])
def test_quoting_survives(shell: Shell, text: str) -> None:
    quoted = "'" + text.replace("'", "'\\''") + "'"
    assert shell.run(f"printf %s {quoted}") == (0, text.encode(), b"")


def test_a_command_that_reads_gets_nothing_and_does_not_swallow_the_next(shell: Shell) -> None:
    assert shell.run("cat") == (0, b"", b"")
    assert shell.run("echo still here") == (0, b"still here\n", b"")


def test_large_output_does_not_block(shell: Shell) -> None:
    _, output, errors = shell.run("head -c 200000 /dev/zero; head -c 200000 /dev/zero >&2")
    assert (len(output), len(errors)) == (200_000, 200_000)


def test_an_ended_shell_reports_its_error_and_a_new_one_is_started() -> None:
    shell = Shell(["sh", "-c", "echo 'no such container' >&2; exit 1", "-s"])
    with pytest.raises(OutpostError, match="no such container"):
        shell.run("true")


def test_a_quick_answer_does_not_wait_for_a_slow_one(shell: Shell, tmp_path: Path) -> None:
    go = tmp_path / "go"
    slow = shell.ask(f'timeout 20 sh -c "until [ -e {go} ]; do sleep 0.05; done" && echo late')
    assert shell.run(f"touch {go}; echo here")[1] == b"here\n"
    assert slow.result(30)[1] == b"late\n"


def test_more_commands_than_are_carried_out_at_a_time_are_all_answered(shell: Shell) -> None:
    coming = [shell.ask(f"echo {number}") for number in range(200)]
    shell.close()
    assert [answer.result(60)[1] for answer in coming] == [b"%d\n" % number for number in range(200)]


def test_a_command_whose_reader_has_gone_ends_in_silence(shell: Shell) -> None:
    assert shell.run("yes | head -n 1") == (0, b"y\n", b"")


def test_commands_share_one_process(shell: Shell) -> None:
    parents = {shell.run("echo $PPID")[1] for _ in range(3)}
    assert len(parents) == 1


def test_a_command_that_never_ends_keeps_no_check_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A compromised host no longer answers: its other checks fail at once."""
    kept = Shell(["sh", "-s"])
    assert kept.run("echo here") == (0, b"here\n", b"")
    monkeypatch.setattr("outpost.transport.shell.PATIENCE", 0.3)
    for _ in range(20):
        with pytest.raises(OutpostError, match="ended"):
            kept.run("exec timeout 30 tail -f /dev/null")


def test_a_command_after_the_end_gets_a_new_connection(shell: Shell, tmp_path: Path) -> None:
    """The last command of the old shell still runs, and its answer arrives, too."""
    go = tmp_path / "go"
    slow = shell.ask(f'timeout 20 sh -c "until [ -e {go} ]; do sleep 0.05; done" && echo late')
    shell.close()
    assert shell.run(f"touch {go}; echo here")[1] == b"here\n"
    assert slow.result(60)[1] == b"late\n"


def test_all_answers_together_are_bounded_where_all_are_kept() -> None:
    shell = Shell(["sh", "-s"], most=250_000)
    coming = [shell.ask("head -c 100000 /dev/zero") for _ in range(4)]
    shell.close()
    failed = [each.exception(60) is not None for each in coming]
    assert failed.count(False) == 2
