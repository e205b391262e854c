"""Runs commands on a host as they arrive, and prints each answer when it is complete (`outpost.transport.shell` uploads it).

It uses only modules that Python has loaded anyway when it starts without `site`: on a small host each further module costs as much as a
command. Output goes into files in memory: pipes would have to be read meanwhile.
"""

import os
import select
import sys

LANES = 4
"""Commands that run at the same time: one that waits delays no other."""
SIGPIPE = 13
"""Python ignores this signal, and its children would, too: it must end a command whose reader has gone (signal(7))."""


def serve() -> None:
    """A request is a line with its number and the command's length in octets, then the command.

    An answer is a line with its number, exit status, and lengths of output and errors in octets, then these.
    """
    events, running = select.poll(), dict[int, tuple[int, int, tuple[int, int]]]()
    events.register(0, select.POLLIN)
    pending, open_ = b"", True
    while open_ or running:
        for ready, _ in events.poll():
            if ready in running:
                events.unregister(ready)
                os.close(ready)
                _answer(*running.pop(ready))
            elif part := os.read(0, 65536):
                pending += part
            else:
                events.unregister(0)
                open_ = False
        while len(running) < LANES and b"\n" in pending:
            head, _, rest = pending.partition(b"\n")
            number, length = map(int, head.split())
            if len(rest) < length:
                break
            files = os.memfd_create("output"), os.memfd_create("errors")
            process = _started(rest[:length], *files)
            pending = rest[length:]
            awaited = os.pidfd_open(process)
            running[awaited] = number, process, files
            events.register(awaited, select.POLLIN)


def _started(command: bytes, output: int, errors: int) -> int:
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, output, 1),
        (os.POSIX_SPAWN_DUP2, errors, 2),
    ]
    words = ("sh", "-c", command)
    return os.posix_spawn("/bin/sh", words, os.environ, file_actions=actions, setsigdef=[SIGPIPE])


def _answer(number: int, process: int, files: tuple[int, int]) -> None:
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    output, errors = map(_content, files)
    sys.stdout.buffer.write(b"%d %d %d %d\n" % (number, status, len(output), len(errors)))
    sys.stdout.buffer.write(output + errors)
    sys.stdout.buffer.flush()


def _content(file: int) -> bytes:
    try:
        return os.pread(file, os.fstat(file).st_size, 0)
    finally:
        os.close(file)
