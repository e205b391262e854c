"""How busy this machine is. A lab shares its processors with other programs, so seconds alone prove nothing. Waits are in proportion to the load,
and a time is judged by its ratio to the idle value of the same run.
"""

import os
import time
from pathlib import Path
from statistics import fmean

LOADAVG = Path("/proc/loadavg")
BUSY = 3.0
"""From this number of processes for each processor on, a time is recorded and not judged."""
MOST = 12.0
"""The highest load that counts, so that no wait lasts all day."""
SLACK = 3.0
"""Factor by which something may be slower under attack than idle."""


def load() -> float:
    """Running processes for each processor; at least 1. The last minute's value, or the present one if it is higher."""
    try:
        fields = LOADAVG.read_text(encoding="ascii").split()
        wanted = max(float(fields[0]), float(fields[3].partition("/")[0]))
    except (OSError, ValueError, IndexError):
        return 1.0
    return min(max(1.0, wanted / (os.cpu_count() or 1)), MOST)


def allowed(promised: float, idle: float, busy: float | None = None) -> float:
    """Seconds that something may take: what is promised, or a multiple of its idle value; more on a busy machine."""
    return max(promised, SLACK * idle) * (load() if busy is None else busy)


def described(busy: float) -> str:
    """The load, as it is printed beside a time."""
    return f"load {busy:.1f} on each processor"


class Patience:
    """A bounded wait: a number of seconds on an idle machine, more in proportion to the mean load during the wait."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._began = seconds, time.monotonic()
        self._loads: list[float] = []

    @property
    def left(self) -> float:
        """Seconds, never below zero."""
        self._loads.append(load())
        return max(0.0, self._began + self._seconds * fmean(self._loads) - time.monotonic())
