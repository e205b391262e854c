"""`outpost decommission`."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from outpost.cli.console import Table, out
from outpost.cli.options import App, At
from outpost.cli.progress import watcher
from outpost.recovery.decommission import STEPS, WORDS, Closing

app = App()


@app.of_office(
    "decommission",
    epilog="Examples: `./outpost decommission po` shows the steps, `./outpost decommission po --next` takes the next one. "
    "Exit code 0: done, 1: too early, or failed.",
)
def close_office(
    at: At,
    following: Annotated[bool, typer.Option("--next", help="Take the next step.")] = False,
    forward: Annotated[
        str,
        typer.Option(
            "--forward-to", metavar="ADDRESS", help="Where the office's mail goes from `forward` on."
        ),
    ] = "",
    into: Annotated[
        Path | None, typer.Option("--into", metavar="DIR", help="Where `handover` puts the mailboxes.")
    ] = None,
    erase: Annotated[
        str,
        typer.Option("--erase", metavar="DOMAIN", help="The office's domain: `erase` may delete its data."),
    ] = "",
) -> int:
    """Close an office, step by step.

    The steps: freeze, forward, hand over, drain, withdraw, erase, certify. Each leaves a checkpoint.
    """
    closing = Closing(at.target, at.via, watcher(), forward, into, erase)
    if following:
        step, found = closing.advance()
        out.print(f"[green]{step}[/]: {WORDS[step]}")
        out.print(json.dumps(found, indent=1), markup=False)
    _show(closing)
    return 0


def _show(closing: Closing) -> None:
    table = Table("step", "", "afterwards")
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
