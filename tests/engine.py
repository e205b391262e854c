"""Commands on the lab's machines; an accidental failure of Docker is repeated."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from outpost.transport.connector import ATTEMPTS, NOT_BEGUN
from outpost_lab import pace


def executed(command: Sequence[str], *, seconds: float | None = None) -> str:
    """The output of a ``docker exec``; a command that ended before it began is repeated (`ContainerConnector`).

    Raises:
        subprocess.CalledProcessError: It failed.
    """
    for _ in range(ATTEMPTS):
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds and seconds * pace.load(), check=False
        )
        if not done.returncode or NOT_BEGUN not in done.stdout[:200] + done.stderr:
            break
    done.check_returncode()
    return done.stdout
