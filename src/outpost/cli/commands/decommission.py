"""`outpost decommission`: the end of an office."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from outpost.cli.options import NameOption, OfficeArgument, ViaOption

app = typer.Typer()


@app.command(
    epilog="Example: `./outpost decommission po` shows where it stands; `./outpost decommission po --next`, again for each step. "
    "Exit code 0: the step is taken, 1: not yet, or not so."
)
def decommission(
    office: OfficeArgument,
    name: NameOption = None,
    via: ViaOption = None,
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
) -> None:
    """Close an office, step by step: freeze, forward, hand over, drain, withdraw, erase, certify. Each leaves a checkpoint."""
    from outpost.cli.decommission import close_office

    raise typer.Exit(
        close_office(office, name, via, following=following, forward=forward, into=into, erase=erase)
    )
