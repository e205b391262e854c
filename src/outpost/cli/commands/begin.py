"""`outpost check`, `new`, `preflight`: from nothing to a sound office file, and machines that are ready for it."""

from __future__ import annotations

from typing import Annotated

import typer

from outpost.cli.options import JsonOption, NameOption, OfficeArgument, ViaOption

app = typer.Typer()


@app.command(epilog="Example: `./outpost check inventory/lab --json`. Exit code 0: sound, 1: problems found.")
def check(office: OfficeArgument, name: NameOption = None, json: JsonOption = False) -> None:
    """Find every problem of an office file: field, value and remedy of each. No host is contacted."""
    from outpost.cli.office import check_office

    raise typer.Exit(check_office(office, name, as_json=json))


@app.command(
    epilog="Examples: `./outpost new po` asks; `./outpost new po --domain po.example.com --organisation 'Site office' "
    "--postmaster maria --wan 192.0.2.0/28` does not, and takes the defaults for the rest."
)
def new(
    office: Annotated[
        str, typer.Argument(metavar="OFFICE", help="Its name in the directory of offices, or a path.")
    ],
    domain: Annotated[str | None, typer.Option(help="Mail domain.")] = None,
    organisation: Annotated[str | None, typer.Option(help="Name that users see.")] = None,
    postmaster: Annotated[str | None, typer.Option(help="The user who gets postmaster's mail.")] = None,
    users: Annotated[str | None, typer.Option(help="Further users, with commas.")] = None,
    wan: Annotated[str | None, typer.Option(help="Networks on the Internet's side, with a comma.")] = None,
    core: Annotated[str | None, typer.Option(help="Networks between the servers.")] = None,
    lan: Annotated[str | None, typer.Option(help="Networks of the users.")] = None,
    mgmt: Annotated[str | None, typer.Option(help="Networks of the administrators.")] = None,
    proxy: Annotated[str | None, typer.Option(help="HTTP proxy for packages, for the store.")] = None,
    acme_proxy: Annotated[
        str | None, typer.Option(help="HTTP proxy to the authority, for the store.")
    ] = None,
    certificates: Annotated[str | None, typer.Option(help="acme or office.")] = None,
    rate: Annotated[str | None, typer.Option(help="Rate of the line outwards, in kbit/s.")] = None,
    smarthost: Annotated[str | None, typer.Option(help="Relay for mail to the Internet.")] = None,
    forwarders: Annotated[str | None, typer.Option(help="Resolvers to ask, with a comma.")] = None,
    ssh_user: Annotated[
        str | None, typer.Option(help="Account on the machines: root, or one with sudo.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="Your SSH public key, or its file.")] = None,
    secrets: Annotated[bool, typer.Option("--secrets/--no-secrets", help="Make its secrets, too.")] = True,
) -> None:
    """From nothing to a checked office file with its secrets made; asks for what no option says."""
    given = dict(locals())
    from outpost.cli.new import QUESTIONS, new_office

    raise typer.Exit(new_office(office, {key: given[key] for key in QUESTIONS}, secrets=secrets))


@app.command(
    epilog="Example: `./outpost preflight po`. Exit code 0: ready for the first apply, 1: something is in the way."
)
def preflight(
    office: OfficeArgument,
    name: NameOption = None,
    host: Annotated[
        list[str] | None, typer.Option("--host", metavar="HOST", help="Only this host; may be repeated.")
    ] = None,
    via: ViaOption = None,
    json: JsonOption = False,
) -> None:
    """Look at the machines before the first apply: reached, release, addresses, ports, clock, port 25, delegation."""
    from outpost.cli.new import look_ahead

    raise typer.Exit(look_ahead(office, name, via, host, as_json=json))
