"""`outpost backup`, `drill`: what is kept of the hosts, and whether it comes back."""

from __future__ import annotations

from typing import Annotated

import typer

from outpost.cli.options import JsonOption, LimitOption, NameOption, OfficeArgument, ViaOption

app = typer.Typer()


@app.command(
    epilog="Examples: `./outpost backup po` lists what is kept, `./outpost backup po --now --limit store`, "
    "`./outpost backup po --other-end | ssh root@vault sh`. Exit code 0: done, 1: failed."
)
def backup(
    office: OfficeArgument,
    name: NameOption = None,
    limit: LimitOption = None,
    via: ViaOption = None,
    now: Annotated[bool, typer.Option("--now", help="Make one first, on every host or those named.")] = False,
    thin_out: Annotated[
        bool, typer.Option("--thin-out", help="Let old archives go, at the other end (for a timer).")
    ] = False,
    other_end: Annotated[
        bool, typer.Option("--other-end", help="Print the set-up of the machine that keeps them.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Show what is kept of each host at head office; make a backup now; let old ones go."""
    from outpost.cli.backup import back_up

    raise typer.Exit(
        back_up(office, name, limit, via, now=now, thin_out=thin_out, other_end=other_end, as_json=json)
    )


@app.command(
    epilog="Example: `./outpost drill po`; from a timer: docs/examples/outpost-drill.service. Exit code 0: everything came back, "
    "1: not so."
)
def drill(
    office: OfficeArgument, name: NameOption = None, via: ViaOption = None, json: JsonOption = False
) -> None:
    """Restore the store into throw-away containers on this machine, and compare: mail, flags, UIDs, filters, logins.

    The live store makes a backup and goes on; how long a loss would take and what it would cost is kept for `report`.
    """
    from outpost.cli.backup import hold_drill

    raise typer.Exit(hold_drill(office, name, via, as_json=json))
