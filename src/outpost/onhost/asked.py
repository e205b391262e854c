"""Carries out a list of commands on a host and tells each answer as it comes (`outpost.ahead` sends it there).

Nothing but Python's library; one process a command, which costs a fifth of what a shell's bookkeeping would.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

LANES = 4
"""Commands at a time: what one of them waits for keeps no other waiting."""


def answer(commands: Sequence[str]) -> None:
    """A line of JSON for each: its number, exit status, output and errors, a character for each byte."""
    with ThreadPoolExecutor(LANES) as lanes:
        for done in as_completed([lanes.submit(_one, *each) for each in enumerate(commands)]):
            sys.stdout.write(json.dumps(done.result()) + "\n")
            sys.stdout.flush()


def _one(number: int, command: str) -> tuple[int, int, str, str]:
    done = subprocess.run(["sh", "-c", command], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return number, done.returncode, done.stdout.decode("latin-1"), done.stderr.decode("latin-1")
