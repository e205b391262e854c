"""Answers to a list of commands, asked of a host in one round trip: its program is `outpost.onhost.asked`."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import subprocess
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import IO

from outpost.onhost import asked

Answer = tuple[int, bytes, bytes]
"""Exit status, standard output, standard error."""
Answers = dict[str, Future[Answer | None]]
"""Command → its answer, which may still be on its way; None where none came."""
ANSWER = re.compile(rb"(\d{1,6}) (-?\d{1,6}) (\d{1,12}) (\d{1,12})\n")
"""The line before an answer: which command, exit status, lengths of output and errors."""
HEAD = 200
"""Bytes of the line before an answer, more than its four numbers take."""
MOST = 64 * 1024 * 1024
"""Bytes of all answers of a host."""
PATIENCE = 60.0
"""Seconds that all answers of a host may take; no check begins before, and what has not come is asked when a check needs it."""
LONGEST = 64 * 1024
"""Characters of a program that goes as an argument; Linux takes 128 KiB in one (execve(2)), and quoting adds some."""


def lists(file: Path) -> dict[str, list[str]]:
    """Host → the commands of its list; none where there is no such file yet."""
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def keep(file: Path, listed: Mapping[str, Sequence[str]]) -> None:
    """Write them, whole or not at all; nobody else's to write or read, for they are carried out."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = file.with_name(f"{file.name}.{os.getpid()}")
    new.touch(mode=0o600)
    new.write_text(json.dumps(listed, indent=1), encoding="utf-8")
    new.replace(file)


def fetch(start: list[str], commands: Iterable[str]) -> Answers:
    """Send a host its list."""
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
        timer = threading.Timer(PATIENCE, process.kill)
        timer.start()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(script.encode())
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        if not _taken(process.stdout, [answers[command] for command in commands]):
            process.kill()
        process.wait()
        timer.cancel()
    for answer in answers.values():
        if not answer.done():
            answer.set_result(None)


def _taken(pipe: IO[bytes], answers: Sequence[Future[Answer | None]]) -> bool:
    """Whether everything until the end was an answer that was asked for, and not too much."""
    left = MOST
    while head := pipe.readline(HEAD):
        if not (match := ANSWER.fullmatch(head)):
            return False  # something else speaks
        number, status, *lengths = map(int, match.groups())
        left -= sum(lengths)
        if left < 0 or number >= len(answers) or answers[number].done():
            return False
        output, errors = map(pipe.read, lengths)
        if len(output) + len(errors) < sum(lengths):
            return False  # it broke off
        answers[number].set_result((status, output, errors))
    return True
