"""Programs of this machine that a command needs."""

import subprocess
from typing import Any

from outpost.errors import OutpostError


def run(*command: str, remedy: str = "", lines: int = 1, **options: Any) -> None:
    """Run a program.

    Raises:
        OutpostError: It is not installed, or it failed; with the last lines of its output.
    """
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False, **options
        )  # fmt: skip
    except FileNotFoundError:
        raise OutpostError(f"{command[0]} is not installed", f"apt-get install {command[0]}") from None
    if done.returncode:
        last = (done.stdout + done.stderr).strip().splitlines()[-lines:] or ["no message"]
        message = "\n".join(" ".join(line.split()) for line in last)
        raise OutpostError(f"{command[0]}: {message}", remedy or f"run it by hand: {' '.join(command)}")
