"""Answers to a list of commands, asked of a host in one round trip: its program is `outpost.onhost.asked`."""

from __future__ import annotations

import contextlib
import json
import shlex
import subprocess
import threading
from collections.abc import Iterable
from concurrent.futures import Future
from pathlib import Path

from outpost.onhost import asked

Answer = tuple[int, bytes, bytes]
"""Exit status, standard output, standard error."""
Answers = dict[str, Future[Answer | None]]
"""Command → its answer, which may still be on its way; None where none came."""
LONGEST = 64 * 1024
"""Characters of a program that goes as an argument; Linux takes 128 KiB in one (execve(2)), and quoting adds some."""


def lists(file: Path) -> dict[str, list[str]]:
    """Host → the commands of its list; none where there is no such file yet."""
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def fetch(start: list[str], commands: Iterable[str]) -> Answers:
    """Send a host its list.

    Args:
        start: What starts a root shell there (`outpost.remote.shell_command`).
    """
    answers: Answers = {command: Future() for command in commands}
    if answers:
        threading.Thread(target=_carry, args=(start, answers)).start()
    return answers


def _carry(start: list[str], answers: Answers) -> None:
    commands = list(answers)
    program = f"{Path(asked.__file__).read_text(encoding='utf-8')}\nanswer({commands!r})\n"
    script = f"python3 -IS - <<'END-OF-PROGRAM'\n{program}END-OF-PROGRAM\n"
    if start[0] == "ssh" and start[-1] == "sh -s" and len(program) < LONGEST:
        # sshd takes standard input a round trip after the command; what is asked stands in arguments there anyway
        start, script = [*start[:-1], f"exec python3 -IS -c {shlex.quote(program)}"], ""
    with subprocess.Popen(
        start, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(script.encode())
            process.stdin.close()
        while head := process.stdout.readline():
            try:
                number, status, *lengths = map(int, head.split())
                output, errors = map(process.stdout.read, lengths)
            except ValueError:  # something else speaks
                break
            if len(output) + len(errors) < sum(lengths):  # it broke off
                break
            answers[commands[number]].set_result((status, output, errors))
    for answer in answers.values():
        if not answer.done():
            answer.set_result(None)
