"""Waiting for events. No test waits a fixed time: it checks for the event (rule 15). The longest wait is in seconds of an idle machine;
a busy one gets more in proportion to its load (`outpost_lab.pace`).
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from typing import TypeVar

from outpost_lab.pace import Patience, described, load

T = TypeVar("T")


class TimeUpError(AssertionError):
    """The awaited event has not come in time."""


def until(look: Callable[[], T], what: str, *, seconds: float = 30.0, pace: float = 0.2) -> T:
    """The result of a check, as soon as it has one.

    Args:
        what: A sentence for the error: what has not happened in time.
        seconds: How long at most, on an idle machine.
        pace: Seconds between two checks.

    Raises:
        TimeUpError: The check had no result (false, empty, none) all the time.
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
    """Shell: a command that replaces a daemon's processes; it waits until the old ones have ended their work.

    Args:
        processes: Their command line in ``ps -o args``, as an extended regular expression. A process that only finishes its
            work has another one (``nginx: worker process is shutting down``).
    """
    gone = f'! ps -o args= -p "$old" | grep -Exq {shlex.quote(processes)}'
    return (
        f"export old=$(pgrep -f -d, -- {shlex.quote(f'^({processes})$')}); {command}; "
        f'[ -z "$old" ] || {on_host(gone)}'
    )
