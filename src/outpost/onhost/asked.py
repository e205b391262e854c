"""Carries out a list of commands on a host and prints each answer as it comes (`outpost.verification.ahead` sends it there).

Nothing but what Python has at once when it starts without `site`: on a small host each further module costs as much as a
command. What commands say goes into files in memory; pipes would want somebody who empties them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence

LANES = 4
"""Commands at a time: what one of them waits for keeps no other waiting."""


def answer(commands: Sequence[str]) -> None:
    """For each a line with its number, exit status, and lengths of output and errors in octets; then these."""
    for number, status, said in _carried_out(commands):
        output, errors = map(_content, said)
        sys.stdout.buffer.write(b"%d %d %d %d\n" % (number, status, len(output), len(errors)))
        sys.stdout.buffer.write(output + errors)
        sys.stdout.buffer.flush()


def _carried_out(commands: Sequence[str]) -> Iterator[tuple[int, int, tuple[int, int]]]:
    """Number, exit status and files of each command that has ended."""
    running: dict[int, tuple[int, tuple[int, int]]] = {}
    for number, command in enumerate(commands):
        if len(running) == LANES:
            yield _ended(running)
        said = os.memfd_create("output"), os.memfd_create("errors")
        running[_started(command, *said)] = number, said
    while running:
        yield _ended(running)


def _started(command: str, output: int, errors: int) -> int:
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, output, 1),
        (os.POSIX_SPAWN_DUP2, errors, 2),
    ]
    return os.posix_spawn("/bin/sh", ["sh", "-c", command], os.environ, file_actions=actions)


def _ended(running: dict[int, tuple[int, tuple[int, int]]]) -> tuple[int, int, tuple[int, int]]:
    process, status = os.wait()
    number, said = running.pop(process)
    return number, os.waitstatus_to_exitcode(status), said


def _content(file: int) -> bytes:
    try:
        return os.pread(file, os.fstat(file).st_size, 0)
    finally:
        os.close(file)
