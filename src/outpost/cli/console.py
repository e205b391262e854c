"""The two streams of the command line: results on one, progress and errors on the other.

What is printed may have been said by a host: none of its characters is obeyed by the terminal (`outpost.transport.answers`).
"""

import sys
from collections.abc import Iterable
from typing import Any

import rich.console
import rich.table
from rich.console import ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment
from typing_extensions import override

from outpost.target import INSTALLED
from outpost.transport.answers import json_text, printable

PIPED = 10_000
"""Columns of an output that is no terminal: nothing is cut for a reader that is a program or a file."""


class Console(rich.console.Console):
    """A console for text that others have written: only rich's own styles and cursor movements reach the terminal, and no link.

    It leaves it to `outpost.__main__` to end where nobody reads any more.
    """

    @override
    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            style = segment.style.update_link(None) if segment.style and segment.style.link else segment.style
            text = segment.text.replace("./outpost ", "outpost ") if INSTALLED else segment.text
            yield segment if segment.control else Segment(printable(text), style)

    @override
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


out = Console(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else PIPED)
err = Console(soft_wrap=True, highlight=False, stderr=True)


class Table(rich.table.Table):
    """Columns without lines between them; a long word is broken instead of cut: half an address is none."""

    def __init__(self, *headers: str, **options: Any) -> None:
        super().__init__(*headers, **{"box": None, "padding": (0, 2, 0, 0)} | options)

    @override
    def add_column(self, *arguments: Any, **options: Any) -> None:
        super().add_column(*arguments, **{"overflow": "fold"} | options)


def say_error(message: str, remedy: str = "") -> None:
    """One line that says what is wrong and what to do."""
    err.print(
        f"[bold red]outpost:[/] {_plain(message)}" + (f" [bold]Remedy:[/] {_plain(remedy)}" if remedy else "")
    )


def say_json(data: Any) -> None:
    """A result for scripts, on standard output and nothing else there."""
    sys.stdout.write(json_text(data) + "\n")


def count(number: int, noun: str) -> str:
    """So many of them: `1 host`, `2 entries`."""
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"


def size(octets: int) -> str:
    """Bytes for people."""
    from pydantic import ByteSize  # slow to load, and few commands count bytes

    return ByteSize(octets).human_readable(separator=" ")


def duration(seconds: float) -> str:
    """Seconds for people."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"


def _plain(text: str) -> str:
    text = escape(text.rstrip())
    return text if text.endswith((".", "?", "!")) else f"{text}."
