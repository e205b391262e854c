"""Waiting for events. Nothing here or elsewhere in the tests waits a fixed time: what is waited for is looked for (rule 15).

How long at most is in seconds of an idle machine; a busy one gets more in proportion to its load (`outpost_lab.pace`).
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from typing import TypeVar

from outpost_lab.pace import Patience, described, load

T = TypeVar("T")


class TimeUpError(AssertionError):
    """What was waited for has not come."""


def until(look: Callable[[], T], what: str, *, seconds: float = 30.0, pace: float = 0.2) -> T:
    """What a look gives, as soon as it gives anything.

    Args:
        what: What has not happened when time is up, as a sentence.
        seconds: How long at most, on an idle machine.
        pace: Seconds between two looks.

    Raises:
        TimeUpError: It gave nothing (false, empty, none) all the time.
    """
    wait = Patience(seconds)
    while not (found := look()):
        if not wait.left:
            raise TimeUpError(f"{what} within {seconds:.0f} s ({described(load())})")
        time.sleep(pace)
    return found


def on_host(condition: str, seconds: int = 20) -> str:
    """The same as a shell command on a machine: ends when the condition holds, fails (124) when time is up."""
    return f"timeout {seconds * load():.0f} sh -c {shlex.quote(f'until {condition}; do sleep 0.1; done')}"


def listening(socket: str) -> str:
    """Shell command that waits until somebody listens, by TCP; ``:24`` or ``127.0.0.9:443``."""
    return on_host(f"ss --no-header --listening --numeric --tcp src {socket} | grep -q .")


def replaced(processes: str, command: str) -> str:
    """Shell commands: one that makes a daemon's processes again, then the end of the old ones as such.

    Args:
        processes: Their command line as ``ps -o args`` has it, an extended regular expression; one that only finishes
            what it has begun has another (``nginx: worker process is shutting down``).
    """
    gone = f'! ps -o args= -p "$old" | grep -Exq {shlex.quote(processes)}'
    return (
        f"export old=$(pgrep -f -d, -- {shlex.quote(f'^({processes})$')}); {command}; "
        f'[ -z "$old" ] || {on_host(gone)}'
    )
