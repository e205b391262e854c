"""Commands on the lab's machines, past the engine's own slips."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from outpost.transport.connector import ATTEMPTS, NOT_BEGUN
from outpost_lab import pace


def executed(command: Sequence[str], *, seconds: float | None = None) -> str:
    """What a ``docker exec`` prints; one that ended before it had begun (`ContainerConnector`) is tried again.

    Raises:
        subprocess.CalledProcessError: It failed.
    """
    for _ in range(ATTEMPTS):
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds and seconds * pace.load(), check=False
        )
        if NOT_BEGUN not in done.stderr:
            break
    done.check_returncode()
    return done.stdout
