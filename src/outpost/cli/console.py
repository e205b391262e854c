"""The two streams of the command line: results on one, progress and errors on the other.

A host may have written what is printed: the terminal must obey none of its characters (`outpost.transport.answers`).
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

from outpost.errors import OutpostError
from outpost.target import typeable
from outpost.transport.answers import json_text, printable

PIPED = 10_000
"""Columns for output that is not a terminal: programs and files get whole lines."""


class Console(rich.console.Console):
    """A console for text that others wrote: only rich's own styles and cursor movements reach the terminal, and no links.

    If nobody reads the output any more, `outpost.__main__` ends the program.
    """

    @override
    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            style = segment.style.update_link(None) if segment.style and segment.style.link else segment.style
            yield segment if segment.control else Segment(printable(typeable(segment.text)), style)

    @override
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


out = Console(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else PIPED)
err = Console(soft_wrap=True, highlight=False, stderr=True)


class Table(rich.table.Table):
    """Columns without lines between them. A long word is wrapped instead of cut: half an address is useless."""

    def __init__(self, *headers: str, **options: Any) -> None:
        super().__init__(*headers, **{"box": None, "padding": (0, 2, 0, 0)} | options)

    @override
    def add_column(self, *arguments: Any, **options: Any) -> None:
        super().add_column(*arguments, **{"overflow": "fold"} | options)


def say_error(message: str, remedy: str = "") -> None:
    """One line that says what is wrong and what to do."""
    todo = f" [bold]Remedy:[/] {_plain(remedy)}" if remedy else ""
    err.print(f"[bold red]outpost:[/] {_plain(message)}{todo}")


unchanged = False
"""Whether a command that changes things has changed nothing yet. `outpost.__main__` reports this after an interrupt."""
UNCHANGED = "nothing was changed"


def agreed(question: str, otherwise: str = UNCHANGED) -> bool:
    """Ask at the terminal before a command changes something; every answer but yes means no.

    Args:
        otherwise: What to print then.
    """
    global unchanged
    unchanged = otherwise == UNCHANGED
    try:
        answer = err.input(f"{question} [y/N] ", markup=False).strip().lower()
    except (EOFError, OSError):
        err.print()
        unchanged = False
        raise OutpostError(f"nobody answered the question; {otherwise}", "agree with --yes") from None
    unchanged = False
    if answer in ("y", "yes"):
        return True
    err.print(otherwise, markup=False)
    return False


def say_line(line: str, indent: int = 0) -> None:
    """One line of a difference, in the colour of its sign."""
    style = {"+": "green", "-": "red"}.get(line[:1], "dim")
    out.print(f"{' ' * indent}{line}", style=style, markup=False, highlight=False)


def say_json(data: Any) -> None:
    """A result for scripts: nothing else goes to standard output."""
    sys.stdout.write(json_text(data) + "\n")


def count(number: int, noun: str) -> str:
    """A number with its noun: `1 host`, `2 entries`."""
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"


def size(octets: int) -> str:
    """A number of bytes for people."""
    from pydantic import ByteSize  # slow to load, and few commands count bytes

    return ByteSize(octets).human_readable(separator=" ")


def duration(seconds: float) -> str:
    """A number of seconds for people."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"


def _plain(text: str) -> str:
    text = escape(text.rstrip())
    return text if text.endswith((".", "?", "!")) else f"{text}."
