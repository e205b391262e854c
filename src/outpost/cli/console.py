"""The two streams of the command line: results on one, progress and errors on the other."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console

out = Console(soft_wrap=True, highlight=False)
err = Console(soft_wrap=True, highlight=False, stderr=True)


def say_error(message: str, remedy: str = "") -> None:
    """One line that says what is wrong and what to do."""
    err.print(
        f"[bold red]outpost:[/] {_plain(message)}" + (f" [bold]Remedy:[/] {_plain(remedy)}" if remedy else "")
    )


def say_json(data: Any) -> None:
    """A result for scripts, on standard output and nothing else there."""
    sys.stdout.write(json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def size(count: int) -> str:
    """Bytes for people."""
    from pydantic import ByteSize  # slow to load, and few commands count bytes

    return ByteSize(count).human_readable(separator=" ")


def duration(seconds: float) -> str:
    """Seconds for people."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"


def _plain(text: str) -> str:
    text = text.replace("[", r"\[").rstrip()
    return text if text.endswith((".", "?", "!")) else f"{text}."
