"""`outpost plan`, `apply`: the hosts as the office file declares them."""

from __future__ import annotations

from typing import Annotated

import typer

from outpost.cli.options import (
    JsonOption,
    LimitOption,
    NameOption,
    OfficeArgument,
    RefreshOption,
    ViaOption,
    YesOption,
)

app = typer.Typer()


@app.command(
    epilog="Example: `./outpost plan lab --limit mta`. Exit code 0: nothing to change, 2: hosts differ, 1: failed."
)
def plan(
    office: OfficeArgument,
    name: NameOption = None,
    limit: LimitOption = None,
    via: ViaOption = None,
    json: JsonOption = False,
    refresh: RefreshOption = False,
    everything: Annotated[
        bool,
        typer.Option("--all", help="Every difference, also of hosts that are new: else a summary of those."),
    ] = False,
) -> None:
    """Show what an apply would change. Changes nothing."""
    _unless_as_declared(office, name, limit, via, as_json=json, refresh=refresh)
    from outpost.cli.office import plan_office

    raise typer.Exit(plan_office(office, name, limit, via, as_json=json, everything=everything))


def _unless_as_declared(
    office: str, name: str | None, limit: list[str] | None, via: str | None, *, as_json: bool, refresh: bool
) -> None:
    from outpost.cli.quick import as_declared

    if not refresh and as_declared(office, name, limit, via, as_json=as_json):
        raise typer.Exit


@app.command(
    epilog="Example: `./outpost apply lab -y`. Exit code 0: done, 1: a host failed or the plan was declined."
)
def apply(
    office: OfficeArgument,
    name: NameOption = None,
    limit: LimitOption = None,
    via: ViaOption = None,
    yes: YesOption = False,
    json: JsonOption = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Also on a read-only day of the office file, and on hosts that a later version converged.",
        ),
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Check what was touched afterwards.")
    ] = True,
    rollback: Annotated[
        bool, typer.Option("--rollback/--no-rollback", help="Put previous files back when a check fails.")
    ] = True,
    refresh: RefreshOption = False,
) -> None:
    """Change the hosts to what the office file declares.

    One host of a role at a time; each is verified, and rolled back if a check newly fails.

    Without -y the plan is shown and confirmed first.
    """
    _unless_as_declared(office, name, limit, via, as_json=json, refresh=refresh)
    from outpost.cli.office import apply_office

    raise typer.Exit(
        apply_office(
            office, name, limit, via, yes=yes, as_json=json, anyway=force, checked=verify, back=rollback
        )
    )
