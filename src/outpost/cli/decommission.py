"""`outpost decommission`."""

from __future__ import annotations

import json
from pathlib import Path

from rich.markup import escape

from outpost.cli.console import Table, out
from outpost.cli.progress import watcher
from outpost.decommission import STEPS, WORDS, Closing
from outpost.target import find


def close_office(
    office: str,
    name: str | None,
    via: str | None,
    *,
    following: bool,
    forward: str,
    into: Path | None,
    erase: str,
) -> int:
    """Show where the closing stands, or take its next step."""
    closing = Closing(find(office, name), via, watcher(), forward, into, erase)
    if following:
        step, found = closing.advance()
        out.print(f"[green]{step}[/]: {WORDS[step]}")
        out.print(json.dumps(found, indent=1), markup=False)
    _show(closing)
    return 0


def _show(closing: Closing) -> None:
    table = Table("step", "", "what is so afterwards", box=None, padding=(0, 2, 0, 0))
    for step in STEPS:
        taken = closing.done.get(step)
        state = (
            f"[green]{escape(taken['when'])}[/]"
            if taken
            else "[yellow]next[/]"
            if step == closing.next
            else ""
        )
        table.add_row(step, state, WORDS[step])
    out.print(table)
