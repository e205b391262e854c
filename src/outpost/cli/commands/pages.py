"""`outpost hosts`, `dns`, `guide`, `reference`: what is printed or written from the office model."""

from __future__ import annotations

from typing import Annotated

import typer

from outpost.cli.options import JsonOption, NameOption, OfficeArgument

app = typer.Typer()


@app.command(
    epilog="Example: `./outpost hosts harbour --json`. Exit code 0: listed, 1: the office file has problems."
)
def hosts(office: OfficeArgument, name: NameOption = None, json: JsonOption = False) -> None:
    """List an office's hosts: role, name, addresses in each zone. What scripts and the Vagrantfile read."""
    from outpost.cli.office import list_hosts

    raise typer.Exit(list_hosts(office, name, as_json=json))


@app.command(
    "dns",
    epilog="Example: `./outpost dns po > po.zone`. The output is a zone file that any name server loads.",
)
def zone(
    office: OfficeArgument,
    name: NameOption = None,
    zone: Annotated[
        str,
        typer.Option("--zone", metavar="ZONE", help="A reverse zone of the office instead of its domain."),
    ] = "",
    json: JsonOption = False,
) -> None:
    """Print the office's zone: every record with its reason, nothing secret. For offices whose DNS lives elsewhere."""
    from outpost.cli.office import print_zone

    raise typer.Exit(print_zone(office, name, zone, as_json=json))


@app.command(
    epilog="Example: `./outpost guide po > guide.html`: to print, or to send to somebody new. Webmail shows it, too."
)
def guide(office: OfficeArgument, name: NameOption = None) -> None:
    """Print the office's guide for its users, a page of HTML: first login, mail programs, limits, whom to ask."""
    from outpost.cli.office import print_guide

    raise typer.Exit(print_guide(office, name))


@app.command(
    epilog="Example: `./outpost reference --check` (in a commit hook: exit code 1 when a page is out of date)."
)
def reference(
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail when something is out of date.")
    ] = False,
) -> None:
    """Write the pages of docs/ and the README's diagram from the model."""
    from outpost.cli.office import write_reference
    from outpost.target import expect_checkout

    expect_checkout()
    raise typer.Exit(write_reference(check_only=check))
